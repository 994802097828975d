"""TLS on a client's non-blocking socket."""

from __future__ import annotations

import socket
import ssl

from trunkline_cli.load.loop import READ, WRITE

__all__ = ["TlsSocket"]


class TlsSocket:
    """What a peer uses of a socket; it raises `BlockingIOError` where a socket does.

    Args:
        sock: connected and non-blocking; it is taken over.
        context: whom to trust.
        host: the server's name, as the certificate has it.

    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._tls = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)

    def shake_hands(self) -> int:
        """Go on with the handshake; return what has to be ready for the next call, 0 once it is done.

        Raises:
            OSError: it has failed.

        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        return 0

    @property
    def has_more(self) -> bool:
        """Whether something is left to receive that epoll does not know of."""
        return self._tls.pending() > 0

    def send(self, data: bytes | bytearray) -> int:
        """Send the beginning of `data`; return how much."""
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv_into(self, room: memoryview) -> int:
        """Put what has come into `room`; return how many bytes, 0 at the end."""
        try:
            return self._tls.recv_into(room)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Do what a socket does."""
        self._tls.setsockopt(level, option, value)

    def close(self) -> None:
        """Close the socket."""
        self._tls.close()
