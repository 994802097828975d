"""A WebSocket client that does exactly what a test says, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import NamedTuple, Self

from transports.links import PATIENCE_S, Recorders
from trunkline.transports.websocket import WebSocketListener

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x12\x34\x56\x78"


class Frame(NamedTuple):
    """A frame as it came."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return the bytes of one frame."""
    length = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    mask_bit = masked << 7
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 65_536:
        head += struct.pack("!BH", mask_bit | 126, length)
    else:
        head += struct.pack("!BQ", mask_bit | 127, length)
    if not masked:
        return head + payload
    repeated = (MASK * (length // 4 + 1))[:length]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + MASK + body.to_bytes(length, "big")


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


def request(
    path: str = "/",
    *,
    verb: str = "GET",
    version: str = "HTTP/1.1",
    upgrade: bool = True,
    extra: str = "",
) -> bytes:
    """Return an HTTP request: one to upgrade, or a plain one."""
    head = f"{verb} {path} {version}\r\nHost: localhost\r\n"
    if upgrade:
        head += (
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        )
    return f"{head}{extra}\r\n".encode()


class RawClient:
    """A connected socket. Reading waits, at most for `PATIENCE_S`."""

    def __init__(self, listener: WebSocketListener, *, receive_buffer: int = 0) -> None:
        host, port = listener.address
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE_S)
        try:
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def upgrade(self, path: str = "/") -> Self:
        """Do the handshake, and wait until it is done."""
        self.send(request(path))
        assert self.read_head().startswith("HTTP/1.1 101 ")
        return self

    def read_head(self) -> str:
        """Read the head of a response."""
        while b"\r\n\r\n" not in self._unread:
            self._read_more()
        return self.read(self._unread.index(b"\r\n\r\n") + 4).decode()

    def read_status(self) -> int:
        """Read the head of a response and return its status."""
        return int(self.read_head().split(" ")[1])

    def read_frame(self) -> Frame:
        """Read one frame from the server."""
        first, second = self.read(2)
        assert not second & 0x80, "a server's frames are not masked"
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self.read(2), "big")
        elif length == 127:
            length = int.from_bytes(self.read(8), "big")
        return Frame(first & 0x0F, self.read(length), bool(first & 0x80))

    def read_text(self) -> str:
        """Read one frame, which is to be a whole text."""
        opcode, payload, fin = self.read_frame()
        assert (opcode, fin) == (TEXT, True)
        return payload.decode()

    def read_to_eof(self) -> bytes:
        """Read until the server ends the connection; a reset fails the test."""
        while more := self.sock.recv(65_536):
            self._unread += more
        return self.read(len(self._unread))

    def wait_for_cut(self) -> None:
        """Read until the connection ends, whichever way."""
        with contextlib.suppress(ConnectionResetError):  # it does if something of ours was unread
            self.read_to_eof()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def read(self, count: int) -> bytes:
        """Read so many bytes."""
        while len(self._unread) < count:
            self._read_more()
        data = bytes(self._unread[:count])
        del self._unread[:count]
        return data

    def _read_more(self) -> None:
        more = self.sock.recv(1 << 20)
        assert more, f"the server ended the connection after {self._unread!r}"
        self._unread += more


def fence(listener: WebSocketListener, echoes: Recorders) -> None:
    """Return once the loop has gone round twice since the call."""
    with RawClient(listener).upgrade() as client:
        for _ in range(2):
            client.send(frame(TEXT, b"fence"))
            assert client.read_text() == "fence"
    echoes.next()
