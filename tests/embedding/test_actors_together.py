"""A host's own actors, of both kinds: that they talk freely, and what of a pooled one differs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from trunkline import AppServer, Dispatcher, PooledActor
from trunkline.testing import settle
from wires import PATIENCE_S


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(workers=1, name="trunkline-test")
    dispatcher.start()
    yield dispatcher
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)
    assert dispatcher.stop(PATIENCE_S)


class Player(pykka.Actor):
    """Returns the ball until it has been hit often enough."""

    done: threading.Event
    name = "nobody"

    def on_receive(self, message: Any) -> Any:
        ball, other = message
        if ball == 0:
            self.done.set()
        else:
            other.tell((ball - 1, self.actor_ref))

    def double(self, number: int) -> int:
        return number * 2

    def double_through(self, other: Any, number: int) -> Any:
        return other.double(number)  # a future: whoever asked waits for it, and not this actor


class Threaded(Player, pykka.ThreadingActor):
    def __init__(self, done: threading.Event, _: Dispatcher) -> None:
        super().__init__()
        self.done = done


class Pooled(Player, PooledActor):
    def __init__(self, done: threading.Event, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)
        self.done = done


KINDS: list[Any] = [Threaded, Pooled]


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_actors_of_both_kinds_tell_ask_and_call_each_other(
    dispatcher: Dispatcher, one: Any, other: Any
) -> None:
    done = threading.Event()
    first, second = one.start(done, dispatcher), other.start(done, dispatcher)
    first.tell((2000, second))
    assert done.wait(PATIENCE_S)

    proxy, others = first.proxy(), second.proxy()
    assert proxy.double_through(others, 21).get(timeout=PATIENCE_S).get(timeout=PATIENCE_S) == 42
    others.name = "somebody"
    assert others.name.get(timeout=PATIENCE_S) == "somebody"
    assert pykka.get_all([proxy.double(1), others.double(2)], timeout=PATIENCE_S) == [2, 4]


def test_a_hosts_actors_and_a_servers_live_side_by_side(dispatcher: Dispatcher) -> None:
    class Host(PooledActor):
        """Drives a server without ever waiting for it."""

        def __init__(self, dispatcher: Dispatcher, done: threading.Event) -> None:
            super().__init__(dispatcher=dispatcher)
            self.heard: list[Any] = []
            self.done = done

        def on_receive(self, message: Any) -> None:
            if isinstance(message, AppServer):
                self.connection = message.connect(self.actor_ref)
                ready = self.connection.initialize("host")
                ready.add_done_callback(lambda _: self.actor_ref.tell("ready"))
            elif message == "ready":
                started = self.connection.request("thread/start")
                started.add_done_callback(lambda future: self.actor_ref.tell(future.get()))
            elif isinstance(message, dict):
                self.heard.append(message["thread"]["id"])
                self.done.set()

    done = threading.Event()
    host = Host.start(dispatcher, done)
    with AppServer(agent=None) as server:
        host.tell(server)
        assert done.wait(PATIENCE_S)
        settle(server, host)


# What differs: docs/actors.md says it, and here it is seen.


class Blocking(pykka.Actor):
    def on_receive(self, message: Any) -> Any:
        return message() if callable(message) else message


class ThreadedBlocking(Blocking, pykka.ThreadingActor):
    def __init__(self, _: Dispatcher) -> None:
        super().__init__()


class PooledBlocking(Blocking, PooledActor):
    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)


@pytest.mark.parametrize(("kind", "goes_on"), [(ThreadedBlocking, True), (PooledBlocking, False)])
def test_a_handler_that_blocks_holds_up_others_of_a_pool_only(
    dispatcher: Dispatcher, kind: Any, *, goes_on: bool
) -> None:
    blocked, other = kind.start(dispatcher), kind.start(dispatcher)
    hold, held = threading.Event(), threading.Event()

    def block() -> None:
        held.set()
        hold.wait(PATIENCE_S)

    blocked.tell(block)
    assert held.wait(PATIENCE_S)
    future = other.ask("are you there?", block=False)
    if goes_on:
        assert future.get(timeout=PATIENCE_S) == "are you there?"
    else:
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.05)
    hold.set()
    assert future.get(timeout=PATIENCE_S) == "are you there?"


def test_to_wait_for_another_in_a_handler_is_to_wait_for_oneself_once_the_pool_is_used_up(
    dispatcher: Dispatcher,
) -> None:
    one, other = PooledBlocking.start(dispatcher), PooledBlocking.start(dispatcher)
    with pytest.raises(pykka.Timeout):
        one.ask(lambda: other.ask("never", timeout=0.05), timeout=PATIENCE_S)


def test_what_is_kept_by_thread_is_shared_by_the_actors_of_a_pool(dispatcher: Dispatcher) -> None:
    local = threading.local()

    def note() -> list[str]:
        names: list[str] = local.__dict__.setdefault("names", [])
        names.append(threading.current_thread().name)
        return names

    for kind, expected in ((ThreadedBlocking, 1), (PooledBlocking, 2)):
        refs: list[Any] = [kind.start(dispatcher) for _ in range(2)]
        names = [ref.ask(note, timeout=PATIENCE_S) for ref in refs]
        assert len(names[-1]) == expected
