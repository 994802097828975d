"""The entrances of a server: every listener that its settings ask for, and what holds for all of them.

What can be refused before anything is opened is refused when this is made.
"""

from __future__ import annotations

import dataclasses
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.errors import ConfigError, ListenUrlError
from trunkline.transports.auth import AuthOptions, make_authenticator
from trunkline.transports.base import CloseCode, Opened
from trunkline.transports.crowd import Crowd
from trunkline.transports.door import Door, parse_origin
from trunkline.transports.handshake import Site
from trunkline.transports.listen import (
    ListenUrl,
    UnixListen,
    WebSocketListen,
    is_loopback,
    parse_listen_url,
    require_auth,
)
from trunkline.transports.loop import IoLoop
from trunkline.transports.tls import make_tls_context
from trunkline.transports.unix import UnixListener
from trunkline.transports.websocket import WebSocketLimits, WebSocketListener

__all__ = ["EntranceOptions", "Entrances", "parse_metrics_listen"]

_METRICS_CONNECTIONS = 64
"""Connections that the port of the metrics has at a time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntranceOptions:
    """Who may come in over a socket, and how.

    Examples:
        >>> options = EntranceOptions(allow_origins=("https://example.com",))
        >>> with running_server(entrances=options) as server:
        ...     wire = WebSocketWire(server.url, headers={"Origin": "https://example.com"})
        ...     server.add(wire, "a page").initialize()["platformFamily"]
        'unix'

    """

    auth: AuthOptions = field(default_factory=AuthOptions)
    """By which credentials."""
    allow_origins: tuple[str, ...] = ()
    """Web origins whose pages may connect, such as `https://example.com`. Others are refused with 403."""
    tls_cert: Path | None = None
    """The certificate (chain) of `wss://` listeners, PEM."""
    tls_key: Path | None = None
    """Its private key, PEM."""
    metrics_listen: str | None = None
    """`IP:PORT` of a port that shows `/metrics` and nothing else; None for none. Other ports show it, too."""


class Entrances:
    """The listeners of one server.

    Args:
        listens: where; what is no socket is left to others.
        options: who may come in.
        limits: what one client may cost.
        crowd: how many there may be.

    Raises:
        ConfigError: the options do not fit together, or a file of theirs cannot be used.

    """

    def __init__(
        self,
        listens: Sequence[ListenUrl],
        options: EntranceOptions,
        limits: WebSocketLimits,
        crowd: Crowd,
    ) -> None:
        metrics_listen = options.metrics_listen
        self._metrics_listen = None if metrics_listen is None else parse_metrics_listen(metrics_listen)
        self._sockets = [listen for listen in listens if isinstance(listen, (WebSocketListen, UnixListen))]
        self._limits = limits
        self._crowd = crowd
        self._authenticator = make_authenticator(options.auth)
        self._origins = frozenset(parse_origin(origin) for origin in options.allow_origins)
        self._tls = self._make_tls(options)
        for listen in (*self._sockets, self._metrics_listen):
            if isinstance(listen, WebSocketListen):
                require_auth(listen, has_auth=self._authenticator is not None)
        self.listeners: list[WebSocketListener] = []
        """Those that are open, in the order given; a `UnixListener` is one too."""
        self.metrics_listener: WebSocketListener | None = None
        """The one that shows the metrics and nothing else, once it is open."""

    @property
    def are_wanted(self) -> bool:
        """Whether there is anything to open."""
        return bool(self._sockets) or self._metrics_listen is not None

    def open(self, opened: Opened, loop: IoLoop, site: Site) -> None:
        """Begin to listen. See `WebSocketListener` for the arguments; the doors are added to the site.

        Raises:
            StartError: an address or a path cannot be listened on. Those that are open stay open.

        """
        for listen in self._sockets:
            listener = self._make(listen, opened, loop, site)
            listener.start()
            self.listeners.append(listener)
            if isinstance(listen, WebSocketListen) and not listen.is_secure and not is_loopback(listen.host):
                logger.warning(
                    "x %s speaks in the clear: tokens and all else can be read on the way", listener.url
                )
        if self._metrics_listen is not None:
            self.metrics_listener = self._make_metrics(self._metrics_listen, opened, loop, site)
            self.metrics_listener.start()

    def stop_accepting(self) -> None:
        """Take no more connections."""
        for listener in self._all:
            listener.stop_accepting()

    def close(self, timeout_s: float) -> None:
        """Close what is open, within about this time for each."""
        for listener in self._all:
            listener.close(CloseCode.GOING_AWAY, timeout_s=timeout_s)

    @property
    def _all(self) -> list[WebSocketListener]:
        return self.listeners if self.metrics_listener is None else [*self.listeners, self.metrics_listener]

    def _make(self, listen: ListenUrl, opened: Opened, loop: IoLoop, site: Site) -> WebSocketListener:
        if isinstance(listen, UnixListen):
            # Only this user reaches it. An Origin is refused all the same: no browser comes this way.
            return UnixListener(listen.path, opened, loop, site, self._limits, self._crowd)
        assert isinstance(listen, WebSocketListen)
        site = dataclasses.replace(site, door=self._door(listen))
        tls = self._tls if listen.is_secure else None
        return WebSocketListener(listen.host, listen.port, opened, loop, site, self._limits, self._crowd, tls)

    def _make_metrics(
        self, listen: WebSocketListen, opened: Opened, loop: IoLoop, site: Site
    ) -> WebSocketListener:
        # A crowd of its own: who watches wants to see just then when there are too many.
        site = dataclasses.replace(site, door=self._door(listen), upgrades=False)
        crowd = Crowd(_METRICS_CONNECTIONS, _METRICS_CONNECTIONS)
        return WebSocketListener(listen.host, listen.port, opened, loop, site, self._limits, crowd)

    def _door(self, listen: WebSocketListen) -> Door:
        return Door(
            authenticator=self._authenticator,
            origins=self._origins,
            needs_loopback_host=is_loopback(listen.host),
        )

    def _make_tls(self, options: EntranceOptions) -> ssl.SSLContext | None:
        is_wanted = any(isinstance(each, WebSocketListen) and each.is_secure for each in self._sockets)
        given = (options.tls_cert, options.tls_key)
        if given == (None, None):
            if is_wanted:
                raise ConfigError("`--tls-cert` and `--tls-key` are required for a `wss://` listener")
            return None
        if options.tls_cert is None or options.tls_key is None:
            raise ConfigError("`--tls-cert` and `--tls-key` are given together or not at all")
        if not is_wanted:
            raise ConfigError("`--tls-cert` and `--tls-key` are for a `wss://` listener, and there is none")
        return make_tls_context(options.tls_cert, options.tls_key)


def parse_metrics_listen(address: str) -> WebSocketListen:
    """Read where the metrics are to be had: `IP:PORT`, IPv6 in brackets.

    Raises:
        ConfigError: it is no such address.

    """
    try:
        listen = parse_listen_url(f"ws://{address}")
    except ListenUrlError:
        listen = None
    if not isinstance(listen, WebSocketListen):
        raise ConfigError(f"invalid `--metrics-listen` address `{address}`; expected `IP:PORT`")
    return listen
