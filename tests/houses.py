"""Servers for tests, each with the clients that were let in, and agents that a test leads by the hand."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import pykka

from helpers import Client
from trunkline import Agent, AppServer, Config, Decision, Limits, Turn, TurnInterrupted
from trunkline.connection import Connection
from trunkline.router import Router
from trunkline.thread import Thread
from trunkline.timers import Timers
from wires import PATIENCE_S, InProcessWire, StdioWire, WebSocketWire, Wire

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

ROOT = Path(__file__).parent.parent

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


class House(Protocol):
    """A running server and its clients."""

    def open(self, name: str) -> Client:
        """Return a client that has not sent anything."""
        ...

    def connect(self, name: str = "alice", **capabilities: object) -> Client:
        """Return a client that has done the handshake."""
        ...


class _House:
    """What the houses have in common."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def _wire(self) -> Wire:
        raise NotImplementedError

    def open(self, name: str) -> Client:
        """Return a client that has not sent anything."""
        client = Client(self._wire(), name)
        self.clients.append(client)
        return client

    def connect(self, name: str = "alice", **capabilities: object) -> Client:
        """Return a client that has done the handshake."""
        client = self.open(name)
        client.initialize(**capabilities)
        return client

    def close_clients(self) -> None:
        for client in self.clients:
            client.wire.cut()


class Known(NamedTuple):
    """A connection's actor, known without holding it."""

    stopped: threading.Event
    actor: weakref.ref[Connection]


class LocalHouse(_House):
    """A server in this process.

    Args:
        server: running.
        transport: how clients come in: `websocket`, or `in-process`.

    """

    def __init__(self, server: AppServer, transport: str) -> None:
        super().__init__()
        self.server = server
        self._transport = transport
        self.known: list[Known] = []
        """Every client that ever came in."""
        connect = server._connect

        def connect_and_note(*args: Any) -> Any:
            ref = connect(*args)
            self.known.append(Known(ref.actor_stopped, ref._actor_weakref))
            return ref

        server._connect = connect_and_note  # type: ignore[assignment]

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.server.listeners[0].url

    def _wire(self) -> Wire:
        return InProcessWire(self.server) if self._transport == "in-process" else WebSocketWire(self.url)

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

    def settle(self, *living: Client) -> list[Known]:
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
    transport: str = "websocket",
    grace_s: float = 0.0,
    limits: Limits | None = None,
    timers: Timers | None = None,
    **settings: Any,
) -> Iterator[LocalHouse]:
    """Run a server on a free port; its clients are cut off at the end."""
    config = Config(listen=("ws://127.0.0.1:0",), agent=agent, limits=limits or Limits(), **settings)
    server = AppServer(config)
    if timers is not None:
        server._timers = timers
    house = LocalHouse(server, transport)
    server.start()
    try:
        yield house
    finally:
        house.close_clients()
        server.stop(grace_s=grace_s)


class ChildHouse(_House):
    """A server in a child process: the first client speaks over its pipes, the others over a WebSocket."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self.child = child
        self.url = self._read_url()
        self._places = itertools.count()

    def _wire(self) -> Wire:
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
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "actors"), str(ROOT / "cli")))},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdin, child.stdout, child.stderr:
        try:
            house = ChildHouse(child)
            yield house
            house.close_clients()
            child.stdin.close()
            said = child.stderr.read().decode()
            code = child.wait(PATIENCE_S)
            assert code == 0, f"the child ended with {code}: {said}"
        finally:
            child.kill()
            child.wait()


Job: TypeAlias = Callable[[Turn], object]


class Play:
    """A turn that does what the test says."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.message_id = ""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def do(self, job: Job) -> None:
        """Have the agent's thread call `job`."""
        self._jobs.put(job)

    def speak(self, *texts: str) -> None:
        """Add to the turn's one message, which is started with the first text."""
        if not self.message_id:
            self.message_id = self.turn.start_item("agentMessage", text="", phase=None)
        for text in texts:
            self.turn.add_delta(self.message_id, text)

    def ask(self, command: str) -> Future[Decision]:
        """Ask for an approval of a command, on a thread of its own; several may be open at once."""
        decision: Future[Decision] = Future()

        def ask() -> None:
            try:
                decision.set_result(self.turn.command(command).ask_approval())
            except TurnInterrupted as error:
                decision.set_exception(error)

        threading.Thread(target=ask, name="trunkline-turn-asking", daemon=True).start()
        return decision

    def end(self) -> None:
        """Have the agent return."""
        self._jobs.put(None)

    def run(self) -> None:
        """On the agent's thread: work until the end, or an interrupt."""
        with self.turn.on_interrupt(self.end):
            while (job := self._jobs.get()) is not None:
                job(self.turn)


class Puppets:
    """Makes agents that hand each of their turns to the test as a `Play`."""

    def __init__(self) -> None:
        self._plays: queue.SimpleQueue[Play] = queue.SimpleQueue()

    def __call__(self) -> Agent:
        return _Puppet(self._plays)

    def next(self) -> Play:
        """Wait for a turn to begin."""
        try:
            return self._plays.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError("no turn has begun") from None


class _Puppet(Agent):
    def __init__(self, plays: queue.SimpleQueue[Play]) -> None:
        self._plays = plays

    def run_turn(self, turn: Turn) -> None:
        play = Play(turn)
        self._plays.put(play)
        play.run()


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
