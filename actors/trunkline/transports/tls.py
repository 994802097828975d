"""TLS on the I/O loop: OpenSSL works on buffers in memory, and never sees or waits for a socket.

An OpenSSL connection must not be used by two threads at once, so for these links all of it happens
on the loop's thread: what other threads send is handed over first.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from trunkline.errors import ConfigError
from trunkline.transports.loop import WRITE, IoLoop
from trunkline.transports.serial import Tally
from trunkline.transports.websocket_link import WebSocketLink
from trunkline.types import Buffer

__all__ = ["TlsLink", "TlsSocket", "make_tls_context"]

logger = logging.getLogger(__name__)

_ENCRYPT_BYTES = 64 * 1024
"""Bytes that are encrypted at a time: four records, about what a socket takes at once."""


def make_tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return the settings of a server with this certificate (chain) and private key, both PEM.

    Raises:
        ConfigError: they cannot be read, or do not belong together.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could have us do the costly half of a handshake over and over again (TLS 1.2 only).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    for path in (cert, key):
        try:
            path.read_bytes()  # for a text that names the file: OpenSSL's does not
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(
            f"the TLS certificate {cert} and key {key} cannot be used: {error.reason or error}"
        ) from error
    return context


def _no_password() -> str:
    raise ConfigError("the TLS key is encrypted; give one that is not, readable by this user alone")


class TlsSocket:
    """What a link and its outbox need of a socket, with TLS in between. For the loop's thread only.

    Args:
        sock: connected and non-blocking.
        context: from `make_tls_context`.

    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_shaken = False
        self._has_ended = False
        self._is_shut = False
        # Encrypted, and not taken by the socket yet.
        self._leftover = memoryview(b"")
        # Whether the first byte of the next `sendmsg` is encrypted already. It was not counted as sent
        # the last time, so that what is sent to the last byte has really left.
        self._is_owing = False

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """Return what the socket says of itself."""
        return self._sock.getsockopt(level, option, size)

    @property
    def has_leftover(self) -> bool:
        """Whether something waits for the socket to become writable, and `flush` is to be called then."""
        return bool(self._leftover)

    def recv(self, size: int) -> bytes:
        """Return what has come, decrypted; empty at the end, whether orderly or not.

        Raises:
            BlockingIOError: nothing has come that means anything yet.

        """
        data = self._sock.recv(size)
        if not data or self._is_shut:
            return data
        self._incoming.write(data)
        plain: list[bytes] = []
        try:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._read_into(plain)
        except ssl.SSLError as error:
            logger.info("- tls: %s", error.reason or "it failed")
            self._has_ended = True
        self._flush_quietly()
        if not plain and not self._has_ended:
            raise BlockingIOError
        return b"".join(plain)

    def _read_into(self, plain: list[bytes]) -> None:
        if not self._is_shaken:
            self._tls.do_handshake()
            self._is_shaken = True
        while data := self._tls.read(_ENCRYPT_BYTES):
            plain.append(data)
        self._has_ended = True

    def send(self, data: Buffer) -> int:
        """Do what `sendmsg` does."""
        return self.sendmsg((data,))

    def sendmsg(self, buffers: Sequence[Buffer | memoryview]) -> int:
        """Send the beginning of `buffers`, and return how much of it counts as sent.

        The rest has to be sent next, as with a socket.

        Raises:
            BlockingIOError: none of it.
            OSError: the connection is lost, or TLS has failed.

        """
        if not self.flush():
            raise BlockingIOError
        data = _first_bytes(buffers)
        fresh = data[1:] if self._is_owing else data
        if fresh:
            self._tls.write(fresh)
        self._is_owing = not self.flush()
        return len(data) - 1 if self._is_owing else len(data)

    def flush(self) -> bool:
        """Hand the socket what is encrypted; tell whether it has taken all of it."""
        if self._outgoing.pending:
            self._leftover = memoryview(bytes(self._leftover) + self._outgoing.read())
        while self._leftover:
            try:
                sent = self._sock.send(self._leftover)
            except (BlockingIOError, InterruptedError):
                return False
            self._leftover = self._leftover[sent:]
        return True

    def _flush_quietly(self) -> None:
        try:
            self.flush()
        except OSError:  # the next read says how the connection ended
            self._leftover = memoryview(b"")

    def shutdown(self, how: int) -> None:
        """End our direction: TLS first, so that the peer can tell it from a connection that was cut."""
        self._is_shut = True
        with contextlib.suppress(ssl.SSLError):  # the peer's own end is still to come; ours is made
            self._tls.unwrap()
        self._flush_quietly()
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _first_bytes(buffers: Sequence[Buffer | memoryview]) -> bytes:
    """Join what is encrypted at a time. It may be very long, and this is done until all has left."""
    first: list[Buffer | memoryview] = []
    room = _ENCRYPT_BYTES
    for buffer in buffers:
        first.append(memoryview(buffer)[:room])
        room -= len(buffer)
        if room <= 0:
            break
    return b"".join(first)


class TlsLink(WebSocketLink):
    """A WebSocket link over TLS.

    Args:
        sock: connected and non-blocking; the link closes it.
        context: from `make_tls_context`.
        name: what a log calls it.
        loop: whose thread reads, encrypts and decrypts.
        settings: the others of `WebSocketLink`.

    """

    __slots__ = ("_handed", "_taken", "_tls")

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, name: str, loop: IoLoop, **settings: Any
    ) -> None:
        self._tls = TlsSocket(sock, context)
        # Bytes given to `send` by threads that are not the loop's, and those that have arrived there.
        self._handed = Tally()
        self._taken = 0
        super().__init__(cast("socket.socket", self._tls), name, loop, **settings)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that are not encrypted and taken yet. If not 0, `on_drained` or `on_closed` follows."""
        return self._handed.value - self._taken + self._outbox.unsent

    def send(self, data: Buffer) -> None:
        """Send framed bytes. Any thread; never blocks. After the link has closed this does nothing."""
        if not self.is_open:
            return
        if threading.get_ident() == self._loop.thread.ident and self._handed.value == self._taken:
            self._put(data)
        else:
            self._handed.add(len(data))
            self._loop.call_soon(self._send_handed, data)

    def _send_handed(self, data: Buffer) -> None:
        self._put(data)
        self._taken += len(data)
        if not self.unsent_bytes:
            self._tell_drained()

    def on_ready(self, mask: int) -> None:
        """Read or write, as the loop says."""
        if mask & WRITE:
            self._guarded(self._tls.flush)
        super().on_ready(mask)
        if self._tls.has_leftover and self._tls.fileno() != -1:
            self._watch_writable()

    def _guarded(self, flush: Callable[[], object]) -> None:
        try:
            flush()
        except OSError:
            self.cut()
