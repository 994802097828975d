"""How one message becomes bytes: a line, or a WebSocket text frame. Stateless, so one result serves many."""

from __future__ import annotations

from struct import Struct

__all__ = ["LINE_FRAMING", "TEXT_FRAMING", "LineFraming", "TextFraming"]

_FIN_TEXT = 0x81
"""RFC 6455, 5.2: the last (here: only) fragment of a message, opcode "text"."""

_SMALL_HEADERS = tuple(bytes((_FIN_TEXT, length)) for length in range(126))
_MEDIUM_HEADER = Struct("!BBH").pack
_LARGE_HEADER = Struct("!BBQ").pack


class LineFraming:
    """One JSON text a line. A JSON text as we encode it never contains a newline."""

    trailer = b"\n"

    def header(self, size: int) -> bytes:
        """Return nothing."""
        return b""

    def frame(self, payload: bytes) -> bytes:
        """Return `payload` with a newline behind it. Any thread may call this."""
        return payload + b"\n"


class TextFraming:
    """One text frame a message. A server's frames are not masked (RFC 6455, 5.1), so they can be shared."""

    trailer = b""

    def header(self, size: int) -> bytes:
        """Return the header of an unfragmented text frame. Any thread may call this."""
        if size < 126:
            return _SMALL_HEADERS[size]
        if size < 65_536:
            return _MEDIUM_HEADER(_FIN_TEXT, 126, size)
        return _LARGE_HEADER(_FIN_TEXT, 127, size)

    def frame(self, payload: bytes) -> bytes:
        """Return `payload` with its header. Any thread may call this."""
        return self.header(len(payload)) + payload


LINE_FRAMING = LineFraming()
TEXT_FRAMING = TextFraming()
