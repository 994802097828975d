"""The WebSocket transport: a listening address whose clients are links.

Puts together the accept loop (`accept`), the I/O loop (`loop`) and the links (`websocket_link`).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from typing import Any

from trunkline.errors import StartError
from trunkline.transports.accept import Acceptor
from trunkline.transports.base import CloseCode, Opened
from trunkline.transports.crowd import Crowd, Welcome
from trunkline.transports.handshake import Site
from trunkline.transports.keepalive import Keepalive
from trunkline.transports.listen import format_address
from trunkline.transports.loop import IoLoop
from trunkline.transports.tls import TlsLink
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
        site: what is offered to whom.
        limits: what one client may cost.
        crowd: how many there may be; listeners may share one.
        tls: from `make_tls_context`; None speaks in the clear.

    """

    def __init__(
        self,
        host: str,
        port: int,
        opened: Opened,
        loop: IoLoop,
        site: Site | None = None,
        limits: WebSocketLimits | None = None,
        crowd: Crowd | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._opened = opened
        self._loop = loop
        self._site = site or Site()
        self._limits = limits or WebSocketLimits()
        self._crowd = crowd or Crowd()
        self._tls = tls
        self._acceptor: Acceptor | None = None
        self._address: tuple[str, int] | None = None
        # Every link whose socket is open, and the address it came from. Touched on the loop's thread only.
        self._links: dict[WebSocketLink, str] = {}
        self._keepalive = Keepalive(
            loop,
            self._links,
            interval_s=self._limits.ping_interval_s,
            timeout_s=self._limits.ping_timeout_s,
        )
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
        """Such as `ws://127.0.0.1:4500` or `wss://[::1]:4500`. Known once started."""
        return f"{self._scheme}://{format_address(*self.address)}"

    @property
    def _scheme(self) -> str:
        return "ws" if self._tls is None else "wss"

    def start(self) -> None:
        """Bind, listen, and begin to accept. Call it once.

        Raises:
            StartError: The address cannot be listened on.

        """
        self._acceptor = self._bind()
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

    def _bind(self) -> Acceptor:
        try:
            acceptor = Acceptor(self._host, self._port, self._accepted)
        except OSError as error:
            where = format_address(self._host, self._port)
            raise StartError(
                f"cannot listen on {self._scheme}://{where}: {error.strerror} (os error {error.errno})"
            ) from error
        host, port = acceptor.server_address[:2]
        self._address = (host, port)
        return acceptor

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        # On the accepting thread; the rest is on the loop's.
        name = f"{self._scheme} {format_address(address[0], address[1])}"
        self._loop.call_soon(self._add, sock, name, address[0])

    def _add(self, sock: socket.socket, name: str, address: str) -> None:
        welcome = Welcome.CLOSED if self._is_closing else self._crowd.enter(address)
        if welcome is Welcome.CLOSED:
            self._site.refused("crowd")
            sock.close()
            return
        if welcome is Welcome.TURNED_AWAY:
            logger.warning("- %s: too many connections; it is turned away", name)
        link = self._make_link(sock, name, is_full=welcome is Welcome.TURNED_AWAY)
        self._links[link] = address
        self._keepalive.watch()
        link.start()

    def _make_link(self, sock: socket.socket, name: str, *, is_full: bool) -> WebSocketLink:
        settings: Any = {
            "limits": self._limits,
            "site": self._site,
            "is_full": is_full,
            "opened": self._opened,
            "gone": self._remove,
        }
        if self._tls is None:
            return WebSocketLink(sock, name, self._loop, **settings)
        return TlsLink(sock, self._tls, name, self._loop, **settings)

    def _remove(self, link: WebSocketLink) -> None:
        address = self._links.pop(link, None)
        if address is not None:
            self._crowd.leave(address)
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
