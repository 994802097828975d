"""One WebSocket of the load: the socket, the opening and the closing handshake, what is sent.

What is received after the opening handshake is handed to the owner as it came from the socket; it
takes the frames apart itself (`session`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import ssl
import struct
from typing import Protocol

from trunkline_cli.load import wire
from trunkline_cli.load.loop import READ, WRITE, Loop
from trunkline_cli.load.read import Buffer
from trunkline_cli.load.stats import Interval
from trunkline_cli.load.tls import TlsSocket

__all__ = ["Owner", "Peer", "Surroundings"]

_READ_BYTES = 262_144
_KEPT_BYTES = 4096 + 112
"""Room for what is left of the read before. If that is more, there is more.

A large `bytearray` begins 16 bytes behind the beginning of a page, and the kernel's bytes mostly at the
beginning of one. To copy a little upwards within a page is what processors are worst at: six times as
slow, measured."""
_PAGE_BYTES = 4096
_MAX_HEAD_BYTES = 16384


class Surroundings(Protocol):
    """What a peer uses of its worker."""

    loop: Loop
    interval: Interval
    target: wire.Target
    address: tuple[int, tuple[str, int] | str]
    """Address family, and what `connect` takes."""
    tls: ssl.SSLContext | None
    """Whom to trust, for a target that is secure."""
    headers: tuple[tuple[str, str], ...]
    room: list[bytearray]
    """Where to read into. A read takes one out while it lasts, so that one within it gets another."""


class Owner(Protocol):
    """Whoever a peer tells what happened."""

    def on_open(self) -> None:
        """The opening handshake is done."""

    def on_data(self, data: Buffer, begin: int, end: int) -> int:
        """Frames were read: the bytes from `begin` to `end`, which the next read may overwrite.

        Returns:
            Where those begin that are not dealt with; they come again, with what is read next.

        """

    def on_lost(self, why: str) -> None:
        """The connection is gone, or was never made. Called once, and last."""


class Peer:
    """A non-blocking client socket."""

    __slots__ = (
        "_cut",
        "_head",
        "_key",
        "_mask",
        "_owner",
        "_paused",
        "_rest",
        "_socket",
        "_unsent",
        "_where",
        "closing",
        "fd",
        "is_open",
    )

    def __init__(self, where: Surroundings, owner: Owner, rng: random.Random) -> None:
        self._where = where
        self._owner = owner
        self._key = wire.handshake_key(rng)
        self._socket: socket.socket | TlsSocket | None = None
        self._unsent = bytearray()
        # What was read of the response to the handshake; None once it is complete.
        self._head: bytes | None = b""
        # What was read and is no whole frame yet.
        self._rest: Buffer = b""
        self._paused = False
        self._cut: int | None = None
        self._mask = 0
        self.fd = -1
        self.is_open = False
        """The opening handshake is done and the connection is not lost."""
        self.closing = False
        """Our close frame is sent."""

    def connect(self, receive_buffer: int | None = None, cut: int | None = None) -> None:
        """Begin to connect. `on_open` or `on_lost` follows, perhaps at once.

        Args:
            receive_buffer: SO_RCVBUF, if it is not to be the system's choice.
            cut: send only so many bytes of the opening handshake.

        """
        self._cut = cut
        family, address = self._where.address
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._owner.on_lost(f"no socket: {_reason(error)}")
            return
        self._socket = sock
        self.fd = sock.fileno()
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.lose(f"connect: {os.strerror(code).lower()}")
            return
        self._mask = READ | WRITE
        self._where.loop.watch(self.fd, self._mask, self._on_connecting)

    def send(self, data: bytes) -> None:
        """Send bytes, now or as the operating system takes them. Does nothing on a lost connection."""
        sock = self._socket
        if sock is None:
            return
        self._where.interval.bytes_out += len(data)
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lose(_reason(error))
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self._watch()

    def send_close(self, code: int) -> None:
        """Send a close frame, once."""
        if not self.closing:
            self.closing = True
            self.send(wire.client_frame(wire.CLOSE, struct.pack("!H", code)))

    def pause(self, paused: bool) -> None:
        """Stop reading, or go on."""
        self._paused = paused
        if self._socket is not None:
            self._watch()
            if not paused and _has_more(self._socket):
                self._where.loop.call_at(0.0, self._read_more)

    def read(self, limit: int) -> None:
        """Read at most `limit` bytes, although paused."""
        if self._socket is not None:
            self._read(limit)

    def lose(self, why: str) -> None:
        """Give the socket up and tell the owner."""
        if self._socket is not None:
            self.drop()
            self._owner.on_lost(why)

    def drop(self, *, reset: bool = False) -> None:
        """Close the socket as it is, without a word to the server and to the owner."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self.is_open = False
        self._where.loop.forget(self.fd)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _watch(self) -> None:
        """Watch for what is needed now. A peer that reads nothing must still hear of a hang-up."""
        mask = (0 if self._paused else READ) | (WRITE if self._unsent else 0)
        if mask != self._mask:
            self._mask = mask
            self._where.loop.change(self.fd, mask)

    def _on_connecting(self, _events: int) -> None:
        sock = self._socket
        assert isinstance(sock, socket.socket)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.lose(f"connect: {os.strerror(code).lower()}")
            return
        if self._where.tls is None:
            self._on_connected()
            return
        try:
            self._socket = TlsSocket(sock, self._where.tls, self._where.target.host)
        except OSError as error:
            self.lose(f"tls: {_reason(error)}")
            return
        loop = self._where.loop
        loop.forget(self.fd)
        self._mask = READ | WRITE
        loop.watch(self.fd, self._mask, self._on_shaking)

    def _on_shaking(self, _events: int) -> None:
        assert isinstance(self._socket, TlsSocket)
        try:
            mask = self._socket.shake_hands()
        except OSError as error:
            self.lose(f"tls: {_reason(error)}")
            return
        if not mask:
            self._on_connected()
        elif mask != self._mask:
            self._mask = mask
            self._where.loop.change(self.fd, mask)

    def _on_connected(self) -> None:
        loop = self._where.loop
        loop.forget(self.fd)
        self._mask = READ
        loop.watch(self.fd, READ, self._on_ready)
        request = wire.handshake_request(self._where.target, self._key, self._where.headers)
        self.send(request[: self._cut])

    def _on_ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & READ and not self._paused:
            self._read(_READ_BYTES)
            self._read_more()
        elif events & ~(WRITE | READ):
            # An error or a hang-up, which epoll reports whether or not it was asked to.
            self.lose("reset")

    def _read_more(self) -> None:
        """Read what is there and epoll does not tell of."""
        while self._socket is not None and not self._paused and _has_more(self._socket):
            self._read(_READ_BYTES)

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(_reason(error))
            return
        if not self._unsent:
            self._watch()

    def _read(self, limit: int) -> None:
        if self._socket is None:
            return
        # It is written and read again and again, so that it stays in the processor's caches.
        room = self._where.room.pop() if self._where.room else bytearray()
        kept = len(self._rest)
        more = max(0, kept - _KEPT_BYTES)
        place = _KEPT_BYTES - (-more // _PAGE_BYTES) * _PAGE_BYTES
        if len(room) < place + limit:
            room += bytes(place + limit - len(room))
        room[place - kept : place] = self._rest
        try:
            size = self._socket.recv_into(memoryview(room)[place : place + limit])
        except BlockingIOError:
            pass
        except OSError as error:
            self.lose(_reason(error))
        else:
            self._on_read(room, place, size)
        self._where.room.append(room)

    def _on_read(self, room: bytearray, place: int, size: int) -> None:
        if not size:
            self.lose("end of stream" if self._head is None else "handshake: end of stream")
            return
        self._where.interval.bytes_in += size
        if self._head is None:
            self._hand_on(room, place - len(self._rest), place + size)
        else:
            self._on_head(bytes(memoryview(room)[place : place + size]))

    def _hand_on(self, data: Buffer, begin: int, end: int) -> None:
        begin = self._owner.on_data(data, begin, end)
        self._rest = data[begin:end]

    def _on_head(self, data: bytes) -> None:
        """Read the server's response to the opening handshake."""
        self._head = (self._head or b"") + data
        head, separator, rest = self._head.partition(b"\r\n\r\n")
        if not separator:
            if len(self._head) > _MAX_HEAD_BYTES:
                self.lose("handshake: endless response")
            return
        status, *lines = head.split(b"\r\n")
        if not status.startswith(b"HTTP/1.1 101"):
            self.lose(f"handshake: {status.decode('latin-1', 'replace')}")
            return
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if headers.get(b"sec-websocket-accept") != wire.accept_value(self._key):
            self.lose("handshake: wrong Sec-WebSocket-Accept")
            return
        self._head = None
        self.is_open = True
        self._owner.on_open()
        if rest and self._socket is not None:
            self._hand_on(rest, 0, len(rest))


def _has_more(sock: socket.socket | TlsSocket) -> bool:
    return isinstance(sock, TlsSocket) and sock.has_more


def _reason(error: OSError) -> str:
    """Say in two words what went wrong."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    with contextlib.suppress(TypeError):
        return os.strerror(error.errno or 0).lower()
    return str(error)
