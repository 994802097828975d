"""WebSocket frames to texts: joins fragments and checks that they are UTF-8."""

from __future__ import annotations

import codecs
import logging

from websockets.frames import Frame, Opcode

__all__ = ["TextCollector"]

logger = logging.getLogger(__name__)

_TEXT = Opcode.TEXT
_CONT = Opcode.CONT
_BINARY = Opcode.BINARY

_make_decoder = codecs.getincrementaldecoder("utf-8")


class TextCollector:
    """Keeps a message whose last fragment has not come. Binary messages and control frames are left out.

    The frames are expected in an order that RFC 6455 allows; the parser sees to that.

    Args:
        name: what a log calls the link.

    """

    __slots__ = ("_decoder", "_fragments", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._fragments = bytearray()
        # Checks the fragments so far; None within a binary message, and between messages.
        self._decoder: codecs.IncrementalDecoder | None = None

    def collect(self, frames: list[Frame]) -> tuple[list[str], str | None]:
        """Return the texts that these frames complete, and what is wrong with the first that is not UTF-8."""
        texts: list[str] = []
        try:
            for frame in frames:
                if frame.opcode is _TEXT and frame.fin:
                    texts.append(str(frame.data, "utf-8"))
                elif frame.opcode is _TEXT:
                    self._decoder = _make_decoder()
                    self._add(frame, texts)
                elif frame.opcode is _CONT and self._decoder is not None:
                    self._add(frame, texts)
                elif frame.opcode is _BINARY:
                    logger.debug("< %s: a binary message is ignored", self._name)
        except UnicodeDecodeError as error:
            return texts, f"{error.reason} at position {error.start}"
        return texts, None

    def _add(self, frame: Frame, texts: list[str]) -> None:
        # Decoded twice: now, so that the first bad byte is noticed in its own fragment; and as a
        # whole at the end, as bytes are kept in the least space, however small the fragments are.
        assert self._decoder is not None
        self._decoder.decode(bytes(frame.data))
        self._fragments += frame.data
        if frame.fin:
            texts.append(str(self._fragments, "utf-8"))
            self._decoder = None
            self._fragments = bytearray()
