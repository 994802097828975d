"""A server on a free port, with the clients that a test let in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

import pykka

from trunkline.agents.base import AgentLike
from trunkline.clock import Clock
from trunkline.config import SettingsButAgent
from trunkline.server import AppServer
from trunkline.stopping import StopReport
from trunkline.testing.client import Client
from trunkline.testing.settling import settle
from trunkline.testing.wires import PATIENCE_S, InProcessWire, WebSocketWire, Wire

__all__ = ["Clients", "RunningServer", "Transport", "running_server"]

Transport: TypeAlias = Literal["websocket", "in-process"]
"""How clients of a server in this process come in."""


class Clients(ABC):
    """The clients that a test lets in to one server, wherever that runs.

    Examples:
        >>> class Elsewhere(Clients):
        ...     def __init__(self, url: str) -> None:
        ...         super().__init__()
        ...         self.url = url
        ...
        ...     def new_wire(self) -> Wire:
        ...         return WebSocketWire(self.url)
        >>> with running_server() as server:
        ...     elsewhere = Elsewhere(server.url)
        ...     elsewhere.connect("alice").start_thread() != ""
        ...     elsewhere.cut_clients()
        True

    """

    def __init__(self) -> None:
        self.clients: list[Client] = []
        """All that were ever let in."""

    @abstractmethod
    def new_wire(self) -> Wire:
        """Return a new connection to the server."""

    def open(self, name: str) -> Client:
        """Return a client that is connected and has not sent anything.

        Args:
            name: what failures call it.

        """
        return self.add(self.new_wire(), name)

    def add(self, wire: Wire, name: str) -> Client:
        """Return a client on a connection of the test's own making, such as one with a token.

        Args:
            wire: an open connection.
            name: what failures call it.

        """
        client = Client(wire, name)
        self.clients.append(client)
        return client

    def connect(self, name: str = "alice", **capabilities: object) -> Client:
        """Return a client that has done the handshake.

        Args:
            name: what failures call it, and what it calls itself.
            **capabilities: as in `initialize`, named as on the wire.

        """
        client = self.open(name)
        client.initialize(**capabilities)
        return client

    def cut_clients(self) -> None:
        """Cut off all clients, without a word."""
        for client in self.clients:
            client.wire.cut()


class RunningServer(Clients):
    """A server that runs in this process for a `with` block; its clients are cut off at the end.

    Args:
        server: one that has not been started.
        transport: how clients come in. For `websocket` the server needs a listener.
        grace_s: seconds that turns have at the end before they are interrupted.

    Examples:
        >>> server = AppServer(Config(listen=("ws://127.0.0.1:0",), agent="script"))
        >>> with RunningServer(server) as running:
        ...     alice = running.connect("alice")
        ...     alice.run_turn(alice.start_thread(), "text hello")["status"]
        'completed'

    """

    def __init__(
        self, server: AppServer, transport: Transport = "websocket", *, grace_s: float = 0.0
    ) -> None:
        super().__init__()
        self.server = server
        self.report: StopReport | None = None
        """What the end had to cut off; None before it."""
        self._transport = transport
        self._grace_s = grace_s

    @property
    def url(self) -> str:
        """Where it listens, such as `ws://127.0.0.1:40123`."""
        return self.server.listeners[0].url

    def new_wire(self) -> Wire:
        """Return a new connection to the server."""
        return InProcessWire(self.server) if self._transport == "in-process" else WebSocketWire(self.url)

    def settle(self, *actors: pykka.ActorRef[Any], timeout_s: float = PATIENCE_S) -> None:
        """Wait until the server's actors, and these, have nothing left to do: see `settle`."""
        settle(self.server, *actors, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut_clients()
        self.report = self.server.stop(grace_s=self._grace_s)


def running_server(
    *,
    agent: AgentLike = "script",
    clock: Clock | None = None,
    transport: Transport = "websocket",
    grace_s: float = 0.0,
    **settings: Unpack[SettingsButAgent],
) -> RunningServer:
    """Return a server on a free port of this machine, which runs for a `with` block.

    Args:
        agent: as in `Config`.
        clock: by which the server waits, such as a `ManualClock`; None is the machine's.
        transport: how clients come in: over a WebSocket, or in this process.
        grace_s: seconds that turns have at the end before they are interrupted.
        **settings: further fields of `Config`.

    Raises:
        ConfigError: A setting does not fit.

    Examples:
        >>> with running_server(transport="in-process", unload_after_s=None) as server:
        ...     alice, bob = server.connect("alice"), server.connect("bob")
        ...     bob.resume(alice.start_thread())["status"]
        {'type': 'idle'}

    """
    settings.setdefault("listen", ("ws://127.0.0.1:0",))
    return RunningServer(AppServer(clock=clock, agent=agent, **settings), transport, grace_s=grace_s)
