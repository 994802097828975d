"""The WebSocket transport: a listening address whose clients are links.

Puts together the accept loop (`accept`), the I/O loop (`loop`) and the links (`websocket_link`).
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from trunkline.errors import StartError
from trunkline.transports.accept import Acceptor
from trunkline.transports.base import CloseCode, Opened
from trunkline.transports.listen import format_address
from trunkline.transports.loop import IoLoop
from trunkline.transports.websocket_link import WebSocketLimits, WebSocketLink

__all__ = ["WebSocketLimits", "WebSocketListener"]

logger = logging.getLogger(__name__)


class WebSocketListener:
    """Listens on one address. Its methods are for any thread but the loop's.

    Args:
        host: an IPv4 or IPv6 address.
        port: 0 takes a free one.
        opened: called for each client once its handshake is done, on the loop's thread.
        loop: a started loop; several listeners may share it.
        ready: what `/readyz` reports. Called on the loop's thread; must not block.
        limits: what one client may cost.

    """

    def __init__(
        self,
        host: str,
        port: int,
        opened: Opened,
        loop: IoLoop,
        ready: Callable[[], bool] = lambda: True,
        limits: WebSocketLimits | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._opened = opened
        self._loop = loop
        self._ready = ready
        self._limits = limits or WebSocketLimits()
        self._acceptor: Acceptor | None = None
        self._address: tuple[str, int] | None = None
        # Every link whose socket is open. Touched on the loop's thread only.
        self._links: set[WebSocketLink] = set()
        self._is_closing = False
        self._all_gone = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        """The address and port that are listened on. Known once started."""
        if self._address is None:
            raise RuntimeError("the listener has not been started")
        return self._address

    @property
    def url(self) -> str:
        """Such as `ws://127.0.0.1:4500` or `ws://[::1]:4500`. Known once started."""
        return f"ws://{format_address(*self.address)}"

    def start(self) -> None:
        """Bind, listen, and begin to accept. Call it once.

        Raises:
            StartError: The address cannot be listened on.

        """
        try:
            self._acceptor = Acceptor(self._host, self._port, self._accepted)
        except OSError as error:
            where = format_address(self._host, self._port)
            raise StartError(
                f"cannot listen on ws://{where}: {error.strerror} (os error {error.errno})"
            ) from error
        host, port = self._acceptor.server_address[:2]
        self._address = (host, port)
        self._acceptor.start()

    def stop_accepting(self) -> None:
        """Take no more connections, and give the port back. Those that are open stay. Twice is harmless."""
        if self._acceptor is not None:
            self._acceptor.stop()

    def close(
        self,
        code: CloseCode = CloseCode.GOING_AWAY,
        reason: str = "",
        timeout_s: float = 5.0,
    ) -> bool:
        """Stop accepting, close every link with `code`, and wait until their sockets are closed.

        Twice is harmless.

        Args:
            code: for the links that are still open.
            reason: at most 123 bytes of UTF-8.
            timeout_s: seconds to wait; what is left then is cut.

        Returns:
            True if every client closed in time.

        """
        self.stop_accepting()
        if not self._loop.is_running:  # it has cut them
            return True
        self._loop.call_soon(self._close_links, code, reason)
        if self._all_gone.wait(timeout_s):
            return True
        self._loop.call_soon(self._cut_links)
        self._all_gone.wait(1.0)
        return False

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        # On the accepting thread; the rest is on the loop's.
        self._loop.call_soon(self._add, sock, f"ws {format_address(address[0], address[1])}")

    def _add(self, sock: socket.socket, name: str) -> None:
        if self._is_closing:
            sock.close()
            return
        link = WebSocketLink(
            sock,
            name,
            self._loop,
            limits=self._limits,
            is_ready=self._ready,
            opened=self._opened,
            gone=self._remove,
        )
        self._links.add(link)
        link.start()

    def _remove(self, link: WebSocketLink) -> None:
        self._links.discard(link)
        if self._is_closing and not self._links:
            self._all_gone.set()

    def _close_links(self, code: CloseCode, reason: str) -> None:
        self._is_closing = True
        for link in list(self._links):
            link.end(code, reason)
        if not self._links:
            self._all_gone.set()

    def _cut_links(self) -> None:
        for link in list(self._links):
            link.cut()
