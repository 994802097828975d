"""Servers for tests, each with the clients that were let in, and agents that a test leads by the hand."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import pykka

from children import environment
from trunkline import Agent, AppServer, Config, Limits
from trunkline.clock import Clock
from trunkline.connection import Connection
from trunkline.router import Router
from trunkline.testing import (
    PATIENCE_S,
    Client,
    Clients,
    RunningServer,
    ScriptedAgent,
    StdioWire,
    Transport,
    WebSocketWire,
    Wire,
)
from trunkline.testing import ScriptedTurn as Play
from trunkline.thread import Thread
from wires import SkippingWire

__all__ = [
    "ChildHouse",
    "House",
    "Known",
    "LocalHouse",
    "Play",
    "Puppets",
    "actors",
    "in_parallel",
    "look_into",
    "running_child",
    "running_server",
]

A = TypeVar("A", bound=pykka.Actor)


def look_into(ref: pykka.ActorRef[A]) -> A:
    """Return the actor itself. Look only, and only behind a fence."""
    actor = ref._actor_weakref()
    assert actor is not None, f"{ref} is gone"
    return actor


def actors(actor_class: type[A]) -> list[A]:
    """Return the running actors of a class, of all servers in this process."""
    found = (ref._actor_weakref() for ref in pykka.ActorRegistry.get_by_class(actor_class))
    return [actor for actor in found if actor is not None]


House: TypeAlias = Clients
"""A running server and its clients."""


class Known(NamedTuple):
    """A connection's actor, known without holding it."""

    stopped: threading.Event
    actor: weakref.ref[Connection]


class LocalHouse(RunningServer):
    """A server in this process, whose actors a test may look into."""

    def __init__(self, server: AppServer, transport: Transport, *, grace_s: float = 0.0) -> None:
        super().__init__(server, transport, grace_s=grace_s)
        self.known: list[Known] = []
        """Every client that ever came in."""
        connect = server._connect

        def connect_and_note(*args: Any) -> Any:
            ref = connect(*args)
            self.known.append(Known(ref.actor_stopped, ref._actor_weakref))
            return ref

        server._connect = connect_and_note  # type: ignore[assignment]

    def new_wire(self) -> Wire:
        return SkippingWire(self.server) if self._transport == "in-process" else super().new_wire()

    @property
    def router(self) -> Router:
        """The server's router."""
        ref = self.server._router
        assert ref is not None
        router: Router = look_into(ref)
        return router

    def thread(self, thread_id: str) -> Thread:
        """Return a loaded thread's actor."""
        loaded = {str(key): value for key, value in self.router._threads.items()}
        thread: Thread = look_into(loaded[thread_id].thread)
        return thread

    def connection(self, client: Client) -> pykka.ActorRef[Connection]:
        """Return the reference to the actor of a client on a WebSocket."""
        assert isinstance(client.wire, WebSocketWire)
        name = f"ws {client.wire.address}"
        for peer in list(self.router._peers.values()):
            if look_into(peer.connection)._link.name == name:
                return peer.connection
        raise AssertionError(f"{client.name} is not known to the router")

    def wait_gone(self, *living: Client) -> list[Known]:
        """Return once the actors of all connections but these have stopped, and everybody knows it.

        Returns:
            Those that have stopped.

        """
        # Its handshake is read after that of every socket that was connected before it.
        last = self.connect("last")
        kept = [self.connection(client).actor_stopped for client in (*living, last)]
        gone = [known for known in self.known if known.stopped not in kept]
        for known in gone:
            assert known.stopped.wait(PATIENCE_S), f"{known.actor()} lives on"
        last.fence(*self.router._threads)
        self.lose(last)
        self.known = [known for known in self.known if known not in gone and not known.stopped.is_set()]
        return gone

    def lose(self, client: Client, *, politely: bool = False) -> None:
        """End a client's connection, and return once its actor has stopped."""
        connection = self.connection(client)
        if politely:
            client.close()
        else:
            client.wire.cut()
        assert connection.actor_stopped.wait(PATIENCE_S), f"the connection of {client.name} lives on"


@contextlib.contextmanager
def running_server(
    *,
    agent: str | Callable[[], Agent] = "script",
    transport: Transport = "websocket",
    clock: Clock | None = None,
    grace_s: float = 0.0,
    limits: Limits | None = None,
    **settings: Any,
) -> Iterator[LocalHouse]:
    """Run a server on a free port; its clients are cut off at the end."""
    settings.setdefault("workers", 2)  # wherever it runs: actors are to meet each other
    config = Config(listen=("ws://127.0.0.1:0",), agent=agent, limits=limits or Limits(), **settings)
    server = AppServer(config, clock=clock)
    with LocalHouse(server, transport, grace_s=grace_s) as house:
        yield house


class ChildHouse(Clients):
    """A server in a child process: the first client speaks over its pipes, the others over a WebSocket."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self.child = child
        self.url = self._read_url()
        self._places = itertools.count()

    def new_wire(self) -> Wire:
        return WebSocketWire(self.url) if next(self._places) else StdioWire(self.child)

    def _read_url(self) -> str:
        said = []
        assert self.child.stderr is not None
        for line in self.child.stderr:
            said.append(line.decode())
            if said[-1].startswith("listening on: "):
                return said[-1].split()[-1]
        raise AssertionError(f"the child does not say where it listens: {said}")


@contextlib.contextmanager
def running_child(*arguments: str) -> Iterator[ChildHouse]:
    """Run `trunkline serve` on pipes and on a free port, with the script agent."""
    command = [sys.executable, "-m", "trunkline_cli", "serve", "--agent", "script", "--log-level", "error"]
    listen = ["--listen", "stdio://", "--listen", "ws://127.0.0.1:0"]
    child = subprocess.Popen(
        [*command, *listen, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdin, child.stdout, child.stderr:
        try:
            house = ChildHouse(child)
            yield house
            house.cut_clients()
            child.stdin.close()
            said = child.stderr.read().decode()
            code = child.wait(PATIENCE_S)
            assert code == 0, f"the child ended with {code}: {said}"
        finally:
            child.kill()
            child.wait()


class Puppets(ScriptedAgent):
    """Makes agents that hand each of their turns to the test."""

    def next(self) -> Play:
        """Wait for a turn to begin."""
        return self.next_turn()


def in_parallel(*jobs: Callable[[], object]) -> None:
    """Run jobs on a thread each, from one moment on; fail if one fails or does not end."""
    barrier = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            barrier.wait(PATIENCE_S)
            job()
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=run, args=(job,), name=f"test-{index}", daemon=True)
        for index, job in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads), "a job does not end"
