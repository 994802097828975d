"""Settling: waiting until the actors of a server have nothing left to do, without sleeping.

The server's workers and its I/O loop are held for a moment, all at once, and looked at: if nothing is
queued then, nothing is going on. Otherwise they are let go, and held again. Nothing of this costs a
server anything that is not being tested.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, Self

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyGetAttr

from trunkline.actor import Dispatcher, PooledActor
from trunkline.server import AppServer
from trunkline.store.base import LoadThread
from trunkline.testing.wires import PATIENCE_S
from trunkline.types import ThreadId

__all__ = ["fence", "settle"]

# Two that hold the workers of one server at once would each wait for those that the other has.
_ONE_AT_A_TIME = threading.Lock()


def fence(ref: pykka.ActorRef[Any], timeout_s: float = PATIENCE_S) -> None:
    """Return once an actor has handled everything that this thread told it before: inboxes are FIFO.

    Raises:
        AssertionError: it has not, after `timeout_s` seconds. An actor that has stopped is no failure.

    Examples:
        >>> import pykka
        >>> class Adder(pykka.ThreadingActor):
        ...     total = 0
        ...
        ...     def on_receive(self, message: int) -> None:
        ...         Adder.total += message
        >>> adder = Adder.start()
        >>> for number in (1, 2, 3):
        ...     adder.tell(number)
        >>> fence(adder)
        >>> Adder.total
        6
        >>> adder.stop()
        True

    """
    try:
        ref.ask(ProxyGetAttr(attr_path=("actor_urn",)), timeout=timeout_s)
    except pykka.ActorDeadError:
        return
    except pykka.Timeout:
        raise AssertionError(f"{ref} does not get through its inbox within {timeout_s:g} s") from None


def settle(server: AppServer, *actors: pykka.ActorRef[Any], timeout_s: float = PATIENCE_S) -> None:
    """Return once a running server's actors have handled all that was told them, and all that came of it.

    What clients of this machine sent before the call has been read by then, and what there is to send
    has been handed to the operating system. Agents, and handlers of the host's own
    methods, are no actors: what they have not said yet is not waited for, nor is what an upstream
    app-server has not answered yet.

    Args:
        server: started, and not being stopped meanwhile.
        actors: further actors, such as the host's own that connections deliver to; any kind of Pykka's.
            They must not wait for the server.
        timeout_s: seconds of real time, for each handler and for all of them.

    Raises:
        AssertionError: something is still going on after `timeout_s` seconds; the text says what. Or the
            server does not run, or the caller is one of its threads.

    Examples:
        >>> with running_server() as server:
        ...     client = server.connect("alice")
        ...     thread_id = client.start_thread()
        ...     client.begin("thread/name/set", threadId=thread_id, name="work")
        ...     settle(server.server)
        ...     client.wait("thread/name/updated")["params"]["threadName"]  # it is here already
        3
        'work'

    """
    threads = server._dispatcher.threads
    if not all(thread.is_alive() for thread in threads):
        raise AssertionError("the server is not running: nothing settles")
    if threading.current_thread() in (*threads, server._loop.thread):
        raise AssertionError("a thread of the server's own cannot wait for the server to settle")
    deadline = time.monotonic() + timeout_s
    with _ONE_AT_A_TIME:
        for attempt in itertools.count():
            # Nothing at first; then they have a moment to get on with it, and not only to be held.
            time.sleep(min(attempt * 0.000_2, 0.01))
            for ref in actors * max(len(actors), 1):  # as often as it takes a message to go through all
                fence(ref, timeout_s)
            with _Hold(server, timeout_s) as hold:
                if hold.is_quiet() and all(ref.actor_inbox.empty() for ref in actors):
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"the actors do not settle within {timeout_s:g} s: {_busiest(server)}")


class _Hold:
    """All threads of a server that run actors, held from entering to leaving."""

    def __init__(self, server: AppServer, timeout_s: float) -> None:
        self._dispatcher: Dispatcher = server._dispatcher
        self._loop = server._loop
        self._store = server._backend.store
        self._timeout_s = timeout_s
        self._names = [thread.name for thread in self._dispatcher.threads]
        self._held: list[str] = []
        self._has_own_work = False
        self._all_held = threading.Event()
        self._let_go = threading.Event()

    def __enter__(self) -> Self:
        for _ in self._dispatcher.threads:
            self._dispatcher.schedule(self._hold)
        if self._loop.is_running:
            self._names.append(self._loop.thread.name)
            # In the round after the next: what its sockets have now is read in between.
            self._loop.call_soon(self._loop.call_soon, self._hold)
        if not self._all_held.wait(self._timeout_s):
            self._let_go.set()
            busy = sorted(set(self._names) - set(self._held))
            raise AssertionError(f"a handler does not return, or the server has stopped; busy: {busy}")
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go.set()

    def is_quiet(self) -> bool:
        """Whether nothing is queued. What the store still does is done first, as it answers actors."""
        store = self._store
        if store is not None and not issubclass(store.actor_class, PooledActor):
            _fence_store(store, self._timeout_s)
        return not (self._has_own_work or self._dispatcher.queued or self._loop.queued)

    def _hold(self) -> None:
        """Run on each of the threads: a worker that is held takes no second one."""
        if self._dispatcher.queued_own:
            self._has_own_work = True
        self._held.append(threading.current_thread().name)
        if len(self._held) >= len(self._names):
            self._all_held.set()
        self._let_go.wait()


class _Answered:
    """What `post` needs of a reference; sets an event when it is told something."""

    def __init__(self) -> None:
        self.actor_stopped = threading.Event()
        self.actor_inbox = self
        self.event = threading.Event()

    def put(self, _envelope: Envelope[Any], /) -> None:
        self.event.set()


def _fence_store(store: pykka.ActorRef[Any], timeout_s: float) -> None:
    """Return once a store with threads of its own has written, read and answered what it was told."""
    answered = _Answered()
    ref: pykka.ActorRef[Any] = answered  # type: ignore[assignment]
    try:
        store.tell(LoadThread(ThreadId(""), is_for_writing=False, reply_to=ref, token=0, with_turns=False))
    except pykka.ActorDeadError:
        return
    if not answered.event.wait(timeout_s):
        raise AssertionError("the store does not get through its inbox")


def _busiest(server: AppServer) -> str:
    """Return which actors have most to do, for a failure."""
    depths: list[tuple[int, str]] = []
    for ref in pykka.ActorRegistry.get_all():
        actor: object = ref._actor_weakref()
        if isinstance(actor, PooledActor) and actor._dispatcher is server._dispatcher and actor.inbox_depth:
            depths.append((actor.inbox_depth, str(ref)))
    return ", ".join(f"{name} has {depth} messages" for depth, name in sorted(depths, reverse=True)[:5]) or (
        "they tell each other without end"
    )
