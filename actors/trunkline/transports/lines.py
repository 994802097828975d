"""Bytes in any portions to lines of text."""

from __future__ import annotations

__all__ = ["UNREADABLE", "LineSplitter"]

UNREADABLE = "\ufffd"
"""Stands for a line that cannot be handed on: no JSON text, so whoever parses it answers with an error."""


class LineSplitter:
    r"""Collects lines that end in `\n` or `\r\n`; blank ones are left out.

    A line that is not UTF-8 or that is too long comes out as `UNREADABLE`, and the next is read as ever.

    Args:
        max_bytes: the longest line that is handed on, without what ends it.

    """

    __slots__ = ("_is_skipping", "_max_bytes", "_parts", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The beginning of a line whose end has not come. Parts, as joining at each read would cost
        # the square of the length.
        self._parts: list[bytes] = []
        self._size = 0
        # A line that was too long is reported already; what is left of it is dropped.
        self._is_skipping = False

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes."""
        first, *others = data.split(b"\n")
        texts: list[str] = []
        self._add_part(first, texts)
        for other in others:
            self._end_line(texts)
            self._add_part(other, texts)
        return texts

    def finish(self) -> list[str]:
        """Return the last line if nothing ended it."""
        texts: list[str] = []
        self._end_line(texts)
        return texts

    def _add_part(self, part: bytes, texts: list[str]) -> None:
        if self._is_skipping or not part:
            return
        self._parts.append(part)
        self._size += len(part)
        # One more, as it may be the \r that belongs to the end.
        if self._size > self._max_bytes + 1:
            self._is_skipping = True
            self._parts = []
            texts.append(UNREADABLE)

    def _end_line(self, texts: list[str]) -> None:
        line = b"".join(self._parts).strip(b" \t\r")
        self._parts = []
        self._size = 0
        self._is_skipping = False
        if line:
            texts.append(self._decode(line))

    def _decode(self, line: bytes) -> str:
        if len(line) > self._max_bytes:
            return UNREADABLE
        try:
            return str(line, "utf-8")
        except UnicodeDecodeError:
            return UNREADABLE
