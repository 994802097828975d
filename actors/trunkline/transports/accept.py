"""The accept loop: `websocket-server`'s, with the accepted sockets handed on instead of served.

The one place that imports `websocket_server`. Importing it calls `logging.basicConfig()`, and making
a server sets its logger's level: neither is to reach the host of this library.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["Acceptor"]

logger = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel's own limit (somaxconn) may be lower."""

RESOURCE_PAUSE_S = 0.1
"""Seconds without accepting when the process or the system has no descriptor or memory to spare."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _import_quietly(name: str) -> Any:
    """Import a module whose import calls `logging.basicConfig()`, without that call.

    Only this thread's calls are held back, so another thread that configures logging at this very
    moment does so as ever.
    """
    configure = logging.basicConfig
    importer = threading.get_ident()

    def held_back(*args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != importer:
            configure(*args, **kwargs)

    logging.basicConfig = held_back
    try:
        return importlib.import_module(name)
    finally:
        logging.basicConfig = configure


_websocket_server = _import_quietly("websocket_server.websocket_server")

if TYPE_CHECKING:
    _Base: Any = object
else:
    _Base = _websocket_server.WebsocketServer


class Acceptor(_Base):  # type: ignore[misc]  # the base is untyped
    """Binds, listens and accepts on a thread of its own; each connection goes to `accepted`.

    Args:
        host: an IPv4 or IPv6 address.
        port: 0 takes a free one.
        accepted: called with each connected, non-blocking socket and its peer's address, on the
            accepting thread. It owns the socket from then on.

    Raises:
        OSError: the address cannot be bound.

    """

    request_queue_size = BACKLOG

    def __init__(self, host: str, port: int, accepted: Callable[[socket.socket, Any], None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._accepted = accepted
        self._stop_requested = threading.Event()
        self._is_short_of_resources = False
        super().__init__(host, port, loglevel=_websocket_server.logger.level or logging.WARNING)
        # Non-blocking: a client may be gone between the loop's look and the accept.
        self.socket.setblocking(False)
        self._accept_thread = threading.Thread(target=self.run_forever, name="trunkline-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept. Call it once."""
        self._accept_thread.start()

    def stop(self) -> None:
        """Stop accepting and give the port back. Waits for the accepting thread; twice is harmless."""
        if self._stop_requested.is_set():
            return
        self._stop_requested.set()
        # Wakes the accept loop, which would otherwise look only every half second.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if self._accept_thread.ident is not None:
            self.shutdown()
            self._accept_thread.join()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection; called by the accept loop, which takes an `OSError` as "none"."""
        try:
            sock, address = self.socket.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                self._wait_for_resources(error)
            raise
        self._is_short_of_resources = False
        return sock, address

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Hand a connection on; the handler threads of the base are never used."""
        request.setblocking(False)
        # Small messages are to leave at once: they are put together before they are sent.
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted(request, client_address)

    def handle_error(self, request: socket.socket, client_address: Any) -> None:
        """Log what went wrong in `process_request`; the base prints it."""
        logger.debug("x ws %s: gone before it was handed on", client_address)

    def _wait_for_resources(self, error: OSError) -> None:
        # The connection stays in the backlog, so the loop would find it again at once, and again.
        if not self._is_short_of_resources:
            self._is_short_of_resources = True
            logger.warning("x cannot accept connections for now: %s", error.strerror)
        self._stop_requested.wait(RESOURCE_PAUSE_S)
