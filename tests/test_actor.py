"""Pooled actors keep what Pykka promises of an actor; and what differs is held here too."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pykka
import pytest

from trunkline.actor import MAX_BATCH, Dispatcher, PooledActor, handles, post

PATIENCE_S = 20.0

Start: TypeAlias = Callable[..., pykka.ActorRef[Any]]


class _Probe:
    """What both kinds of actor do in these tests."""

    def __init__(self, heard: queue.SimpleQueue[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heard = heard

    def on_start(self) -> None:
        self.heard.put("started")

    def on_stop(self) -> None:
        self.heard.put("stopped")

    def on_failure(self, *exc_info: Any) -> None:
        self.heard.put(f"failed with {exc_info[0].__name__}")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, threading.Event):
            message.wait(PATIENCE_S)
            return None
        self.heard.put(message)
        return ("answer", message)

    def add(self, one: int, other: int) -> int:
        return one + other


class ThreadingProbe(_Probe, pykka.ThreadingActor):
    pass


class PooledProbe(_Probe, PooledActor):
    pass


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher()
    dispatcher.start()
    yield dispatcher
    assert dispatcher.stop(PATIENCE_S)


@pytest.fixture
def heard() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


@pytest.fixture(params=["threading", "pooled"])
def start(
    request: pytest.FixtureRequest, dispatcher: Dispatcher, heard: queue.SimpleQueue[Any]
) -> Iterator[Callable[[], pykka.ActorRef[Any]]]:
    """Starts a probe of each kind; what is left of them is stopped."""

    def start_probe() -> pykka.ActorRef[Any]:
        if request.param == "threading":
            return ThreadingProbe.start(heard)
        return PooledProbe.start(heard, dispatcher=dispatcher)

    yield start_probe
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)


def hear(heard: queue.SimpleQueue[Any], count: int) -> list[Any]:
    return [heard.get(timeout=PATIENCE_S) for _ in range(count)]


def test_messages_are_handled_one_at_a_time_in_order(start: Start, heard: queue.SimpleQueue[Any]) -> None:
    actor = start()
    count = 3 * MAX_BATCH
    for number in range(count):
        actor.tell(number)
    assert hear(heard, count + 1) == ["started", *range(count)]


def test_each_senders_messages_stay_in_order(start: Start, heard: queue.SimpleQueue[Any]) -> None:
    actor = start()
    together = threading.Barrier(4)

    def send(name: int) -> None:
        together.wait(PATIENCE_S)
        for number in range(500):
            actor.tell((name, number))

    senders = [threading.Thread(target=send, args=(name,)) for name in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    got = hear(heard, 2001)[1:]
    for name in range(4):
        assert [number for who, number in got if who == name] == list(range(500))


def test_ask_and_a_proxy_give_the_answer(start: Start) -> None:
    actor = start()
    assert actor.ask("x", timeout=PATIENCE_S) == ("answer", "x")
    assert actor.proxy().add(1, 2).get(timeout=PATIENCE_S) == 3


def test_an_error_goes_to_who_asked_and_the_actor_lives(start: Start) -> None:
    actor = start()
    with pytest.raises(ValueError, match="asked for"):
        actor.ask(ValueError("asked for"), timeout=PATIENCE_S)
    assert actor.ask("x", timeout=PATIENCE_S) == ("answer", "x")


def test_an_error_on_a_tell_ends_the_actor(
    start: Start, heard: queue.SimpleQueue[Any], caplog: pytest.LogCaptureFixture
) -> None:
    actor = start()
    with caplog.at_level(logging.CRITICAL, "pykka"):
        actor.tell(ValueError("told"))
        assert hear(heard, 2) == ["started", "failed with ValueError"]
    assert actor.actor_stopped.wait(PATIENCE_S)
    assert actor not in pykka.ActorRegistry.get_all()


def test_what_came_before_a_stop_is_handled_and_what_comes_after_is_refused(
    start: Start, heard: queue.SimpleQueue[Any]
) -> None:
    actor = start()
    gate = threading.Event()
    actor.tell(gate)
    actor.tell("before")
    stopping = actor.stop(block=False)
    after = actor.ask("after", block=False)
    gate.set()

    assert stopping.get(timeout=PATIENCE_S) is True
    with pytest.raises(pykka.ActorDeadError):
        after.get(timeout=PATIENCE_S)
    assert hear(heard, 3) == ["started", "before", "stopped"]
    with pytest.raises(pykka.ActorDeadError):
        actor.tell("too late")
    assert post(actor, "too late") is False


def test_an_actor_is_in_the_registry_for_as_long_as_it_lives(start: Start) -> None:
    actor = start()
    assert pykka.ActorRegistry.get_by_urn(actor.actor_urn) == actor
    actor.stop(timeout=PATIENCE_S)
    assert pykka.ActorRegistry.get_by_urn(actor.actor_urn) is None


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_pooled_actor_that_meets_a_system_exit_ends_alone(
    dispatcher: Dispatcher, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    hers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    actor = PooledProbe.start(hers, dispatcher=dispatcher)
    neighbour = PooledProbe.start(queue.SimpleQueue(), dispatcher=dispatcher)
    hosts_own = ThreadingProbe.start(queue.SimpleQueue())
    with caplog.at_level(logging.CRITICAL, "pykka"):
        actor.tell(error())
        assert hear(hers, 2) == ["started", f"failed with {error.__name__}"]
    for other in (neighbour, hosts_own):
        assert other.ask("x", timeout=PATIENCE_S) == ("answer", "x")
        other.stop(timeout=PATIENCE_S)


def test_a_busy_actor_does_not_starve_the_others(heard: queue.SimpleQueue[Any]) -> None:
    dispatcher = Dispatcher(workers=1)

    class Busy(PooledActor):
        @handles(int)
        def _on_number(self, number: int) -> None:
            self.actor_ref.tell(number + 1)

    busy = Busy.start(dispatcher=dispatcher)
    busy.tell(0)
    dispatcher.start()
    other = PooledProbe.start(heard, dispatcher=dispatcher)
    assert other.ask("x", timeout=PATIENCE_S) == ("answer", "x")
    for actor in (busy, other):
        actor.stop(timeout=PATIENCE_S)
    assert dispatcher.stop(PATIENCE_S)


def test_what_an_actor_will_not_handle_is_shown_to_it(
    dispatcher: Dispatcher, heard: queue.SimpleQueue[Any]
) -> None:
    class Mourner(PooledActor):
        def on_undelivered(self, message: Any) -> None:
            heard.put(("undelivered", message))

        @handles(threading.Event)
        def _on_event(self, event: threading.Event) -> None:
            event.wait(PATIENCE_S)

    gate = threading.Event()
    actor = Mourner.start(dispatcher=dispatcher)
    actor.tell(gate)
    actor.stop(block=False)
    actor.tell("too late")
    gate.set()
    assert hear(heard, 1) == [("undelivered", "too late")]


def test_a_message_without_a_handler_is_logged_and_dropped(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    class Empty(PooledActor):
        pass

    actor = Empty.start(dispatcher=dispatcher)
    with caplog.at_level(logging.WARNING, "trunkline.actor"):
        assert actor.ask(5, timeout=PATIENCE_S) is None
    assert "no handler for a int" in caplog.text
    actor.stop(timeout=PATIENCE_S)


def test_a_thread_that_lends_a_hand_leaves_nothing_over(heard: queue.SimpleQueue[Any]) -> None:
    """Without a single worker: what the thread wakes it runs itself."""
    dispatcher = Dispatcher(workers=1)
    dispatcher.run_own()
    actor = PooledProbe.start(heard, dispatcher=dispatcher)
    actor.tell("x")
    dispatcher.run_own()
    assert hear(heard, 2) == ["started", "x"]
    stopped = actor.stop(block=False)
    dispatcher.run_own()
    assert stopped.get(timeout=PATIENCE_S) is True
