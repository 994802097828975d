"""The short cut from bytes to a text, for what nearly every read is: one whole text frame.

The parser of `websockets` checks everything and takes its time for it. A read that is exactly one masked
text frame, and comes where a message may begin, has nothing to check but its UTF-8. All else is left to
the parser, which never sees what took the short cut; `Boundary` tells where a message may begin.
"""

from __future__ import annotations

from collections.abc import Iterable

from websockets.frames import Frame, Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build of it without its C extension
    from websockets.utils import apply_mask

__all__ = ["Boundary", "whole_text"]

_FIN_TEXT = 0x81
_MASKED = 0x80
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


def whole_text(data: bytes, max_bytes: int) -> str | None:
    """Return the text of the one frame that `data` is; None if it is anything else, or what is wrong."""
    if len(data) < 6 or data[0] != _FIN_TEXT:
        return None
    length, start = data[1] - _MASKED, 6
    if length == 126 and len(data) >= 8:
        length, start = data[2] << 8 | data[3], 8
    elif not 0 <= length < 126:
        return None
    if len(data) != start + length or length > max_bytes:
        return None
    try:
        return str(apply_mask(data[start:], data[start - 4 : start]), "utf-8")
    except UnicodeDecodeError:
        return None


class Boundary:
    """Whether the next byte that comes from a client begins a message."""

    __slots__ = ("_is_fragmented", "_unparsed", "is_here")

    def __init__(self) -> None:
        self.is_here = True
        """Nothing of a message has come whose rest has not."""
        self._unparsed = 0
        self._is_fragmented = False

    def note(self, size: int, frames: Iterable[Frame]) -> None:
        """Take note that the parser was given `size` bytes, and made these frames of what it had then."""
        self._unparsed += size
        for frame in frames:
            self._unparsed -= _wire_size(len(frame.data))
            if frame.opcode in _DATA:
                self._is_fragmented = not frame.fin
        self.is_here = self._unparsed == 0 and not self._is_fragmented


def _wire_size(length: int) -> int:
    """Return the size of a masked frame.

    One whose length is written with more bytes than need be seems never to end: then the parser reads
    everything, which is safe.
    """
    if length < 126:
        return 6 + length
    return (8 if length < 65_536 else 14) + length
