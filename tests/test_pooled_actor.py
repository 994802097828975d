"""Where a pooled actor differs from Pykka's: its threads, how it ends, what it owes to late messages."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope

from actor_kinds import Diary, Kind, Pooled, Threaded, in_turn, wait
from houses import in_parallel, look_into
from trunkline.actor import MAX_BATCH, MAX_OWN_RUNS, Dispatcher, PooledActor, handles, post
from wires import PATIENCE_S

ENDS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit()]


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    """One worker: what it is held up by holds up everything."""
    dispatcher = Dispatcher(workers=1, name="trunkline-test")
    dispatcher.start()
    yield dispatcher
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)
    assert dispatcher.stop(PATIENCE_S)


@pytest.fixture
def diary() -> Diary:
    return Diary()


def raising(error: BaseException) -> Any:
    def deed(_: Kind) -> None:
        raise error

    return deed


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_asked", [True, False])
def test_an_exit_ends_its_own_actor_and_no_other(
    dispatcher: Dispatcher, diary: Diary, error: BaseException, is_asked: bool
) -> None:
    neighbour = Pooled.start(Diary(), dispatcher)
    host = Threaded.start(Diary(), dispatcher)
    ref = Pooled.start(diary, dispatcher)

    if is_asked:
        with pytest.raises(type(error)):
            ref.ask(raising(error), timeout=PATIENCE_S)
    else:
        ref.tell(raising(error))

    wait(ref.actor_stopped)
    for other in (neighbour, host):
        assert other.ask("well?", timeout=PATIENCE_S) == "well?"
    assert diary.lines[:2] == ["on_start", "on_failure"]
    assert ref not in pykka.ActorRegistry.get_all()


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_batch_end"])
def test_an_exit_in_a_hook_ends_its_own_actor_and_no_other(dispatcher: Dispatcher, hook: str) -> None:
    class Leaving(PooledActor):
        def on_receive(self, message: Any) -> Any:
            return self.stop() if message == "stop" else None

    def leave(_: PooledActor) -> None:
        raise SystemExit

    setattr(Leaving, hook, leave)
    neighbour = Pooled.start(Diary(), dispatcher)
    ref = Leaving.start(dispatcher=dispatcher)
    post(ref, "stop")
    wait(ref.actor_stopped)
    assert neighbour.ask("well?", timeout=PATIENCE_S) == "well?"


def test_what_it_was_told_behind_its_end_is_undelivered(dispatcher: Dispatcher, diary: Diary) -> None:
    ref = Pooled.start(diary, dispatcher)
    entered, release = threading.Event(), threading.Event()
    ref.tell(lambda _: in_turn(entered.set, lambda: wait(release)))
    wait(entered)
    ref.stop(block=False)
    ref.tell("one")
    asked = ref.ask("two", block=False)
    post(ref, "three")
    release.set()

    with pytest.raises(pykka.ActorDeadError):
        asked.get(timeout=PATIENCE_S)
    fence(dispatcher)
    assert diary.lines == ["on_start", "on_stop", "undelivered one", "undelivered two", "undelivered three"]


def fence(dispatcher: Dispatcher) -> None:
    """Return once the one worker has run all that is ready now."""
    passed = threading.Event()
    dispatcher.schedule(passed.set)
    wait(passed)


def test_a_message_that_is_put_while_the_rest_is_dropped_is_undelivered_too(
    dispatcher: Dispatcher, diary: Diary
) -> None:
    # A sender that has just seen it alive, and puts only now: the answer to an ask must not be lost.
    ref = Pooled.start(diary, dispatcher)
    inbox = ref.actor_inbox
    late: pykka.Future[Any] = pykka.ThreadingFuture()
    note = diary.note

    def note_and_put(line: object) -> None:
        if line == "undelivered early":
            inbox.put(Envelope("late", reply_to=late))
        note(line)

    diary.note = note_and_put  # type: ignore[method-assign]
    ref.ask(lambda _: in_turn(lambda: ref.stop(block=False), lambda: ref.tell("early")), timeout=PATIENCE_S)

    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=PATIENCE_S)
    fence(dispatcher)
    assert diary.lines[-2:] == ["undelivered early", "undelivered late"]


def test_a_message_that_is_put_after_the_end_is_undelivered(dispatcher: Dispatcher, diary: Diary) -> None:
    ref = Pooled.start(diary, dispatcher)
    ref.stop(timeout=PATIENCE_S)
    late: pykka.Future[Any] = pykka.ThreadingFuture()
    ref.actor_inbox.put(Envelope("late", reply_to=late))
    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=PATIENCE_S)
    fence(dispatcher)
    assert diary.lines[-1] == "undelivered late"


def test_a_failing_on_undelivered_keeps_no_other_from_being_answered(
    dispatcher: Dispatcher, diary: Diary
) -> None:
    diary.fail_in |= {"undelivered one", "undelivered two"}
    ref = Pooled.start(diary, dispatcher)
    ref.ask(lambda _: in_turn(lambda: ref.stop(block=False), lambda: ref.tell("one")), timeout=PATIENCE_S)
    for message in ("two", "three"):
        late: pykka.Future[Any] = pykka.ThreadingFuture()
        ref.actor_inbox.put(Envelope(message, reply_to=late))
        with pytest.raises(pykka.ActorDeadError):
            late.get(timeout=PATIENCE_S)


def test_senders_that_race_with_the_stop_lose_no_message_without_a_word(dispatcher: Dispatcher) -> None:
    for _ in range(200):
        diary = Diary()
        ref = Pooled.start(diary, dispatcher)
        told: list[int] = []

        def tell(ref: pykka.ActorRef[Any] = ref, told: list[int] = told) -> None:
            told += [number for number in range(100) if post(ref, number)]

        in_parallel(tell, partial(ref.stop, timeout=PATIENCE_S))
        fence(dispatcher)
        fence(dispatcher)
        handled = [line for line in diary.lines if isinstance(line, int)]
        undelivered = [int(line.split()[1]) for line in map(str, diary.lines) if line.startswith("undel")]
        assert handled + undelivered == told


def test_an_actor_that_keeps_itself_busy_starves_no_other(dispatcher: Dispatcher) -> None:
    busy, other = Pooled.start(Diary(), dispatcher), Pooled.start(Diary(), dispatcher)
    is_over = threading.Event()

    def go_on(actor: Kind) -> None:
        if not is_over.is_set():
            actor.actor_ref.tell(go_on)

    busy.tell(go_on)
    other.tell(lambda _: is_over.set())
    wait(is_over)
    busy.stop(timeout=PATIENCE_S)


class Counting(PooledActor):
    """Writes down its batches."""

    def __init__(self, *, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)
        self.batches: list[int] = []
        self._count = 0

    def on_receive(self, message: Any) -> None:
        self._count += 1

    def on_batch_end(self) -> None:
        if self._count:
            self.batches.append(self._count)
        self._count = 0


def test_messages_are_handled_in_batches_with_an_end_each(dispatcher: Dispatcher) -> None:
    entered, release = threading.Event(), threading.Event()
    Pooled.start(Diary(), dispatcher).tell(lambda _: in_turn(entered.set, lambda: wait(release)))
    wait(entered)  # the one worker is held up
    ref = Counting.start(dispatcher=dispatcher)
    for number in range(2 * MAX_BATCH + 10):
        ref.tell(number)
    counting = look_into(ref)
    assert counting.inbox_depth == 2 * MAX_BATCH + 10
    release.set()
    ref.stop(timeout=PATIENCE_S)
    # The stop came in the last batch, which therefore has no end.
    assert counting.batches == [MAX_BATCH, MAX_BATCH]


def test_a_batch_end_comes_before_the_actor_rests(dispatcher: Dispatcher) -> None:
    ref = Counting.start(dispatcher=dispatcher)
    for _ in range(3):
        ref.tell("x")
        fence(dispatcher)
    assert sum(look_into(ref).batches) == 3


def test_thousands_of_actors_take_no_thread_more(dispatcher: Dispatcher) -> None:
    before = threading.active_count()
    refs = [Counting.start(dispatcher=dispatcher) for _ in range(2000)]
    for ref in refs:
        ref.tell("x")
    fence(dispatcher)
    assert threading.active_count() == before
    assert all(look_into(ref).batches == [1] for ref in refs)


def test_a_dispatcher_that_is_stopped_finishes_what_is_queued() -> None:
    dispatcher = Dispatcher(workers=2, name="trunkline-test")
    refs = [Counting.start(dispatcher=dispatcher) for _ in range(100)]
    for ref in refs:
        ref.tell("x")
        ref.stop(block=False)
    assert len(dispatcher.threads) == 2
    dispatcher.start()
    assert dispatcher.stop(PATIENCE_S)
    assert not any(ref.is_alive() for ref in refs)
    assert not any(thread.is_alive() for thread in dispatcher.threads)


def test_a_thread_that_lends_a_hand_runs_what_it_has_woken_and_what_that_wakes(
    dispatcher: Dispatcher,
) -> None:
    entered, release = threading.Event(), threading.Event()
    Pooled.start(Diary(), dispatcher).tell(lambda _: in_turn(entered.set, lambda: wait(release)))
    wait(entered)  # the worker cannot help
    ran_on: list[str] = []

    def lend_a_hand() -> None:
        dispatcher.run_own()
        first, second = (Pooled.start(Diary(), dispatcher) for _ in range(2))

        def note(_: Kind) -> None:
            ran_on.append(threading.current_thread().name)

        first.tell(lambda actor: in_turn(lambda: note(actor), lambda: second.tell(note)))
        dispatcher.run_own()

    thread = threading.Thread(target=lend_a_hand, name="helper")
    thread.start()
    thread.join(PATIENCE_S)
    assert ran_on == ["helper"] * 2
    release.set()


def test_a_thread_that_lends_a_hand_leaves_the_rest_to_the_workers_in_the_end(dispatcher: Dispatcher) -> None:
    is_over = threading.Event()
    ran_on: set[str] = set()

    def go_on(actor: Kind) -> None:
        ran_on.add(threading.current_thread().name)
        if len(ran_on) == 1:
            actor.actor_ref.tell(go_on)
        else:
            is_over.set()

    def lend_a_hand() -> None:
        dispatcher.run_own()
        Pooled.start(Diary(), dispatcher).tell(go_on)
        dispatcher.run_own()

    thread = threading.Thread(target=lend_a_hand, name="helper")
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    wait(is_over)
    assert ran_on == {"helper", "trunkline-test-worker-0"}
    assert MAX_OWN_RUNS < 1_000_000


class Base(PooledActor):
    def __init__(self, *, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)

    @handles(int)
    def _on_int(self, message: int) -> str:
        return "base int"

    @handles(str)
    def _on_str(self, message: str) -> str:
        return "base str"


class Derived(Base):
    @handles(str)
    def _on_other_str(self, message: str) -> str:
        return "derived str"


def test_a_handler_takes_exactly_its_type_and_a_subclass_may_take_its_place(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    base, derived = Base.start(dispatcher=dispatcher), Derived.start(dispatcher=dispatcher)
    assert [base.ask(message, timeout=PATIENCE_S) for message in (1, "x")] == ["base int", "base str"]
    assert [derived.ask(message, timeout=PATIENCE_S) for message in (1, "x")] == ["base int", "derived str"]
    with caplog.at_level(logging.WARNING):
        assert base.ask(True, timeout=PATIENCE_S) is None
    assert "no handler for a bool" in caplog.text


def test_post_tells_whether_there_was_somebody(dispatcher: Dispatcher, diary: Diary) -> None:
    ref = Pooled.start(diary, dispatcher)
    assert post(ref, "x")
    ref.stop(timeout=PATIENCE_S)
    assert not post(ref, "y")
    assert not post(None, "z")
    host = Threaded.start(diary, dispatcher)
    assert post(host, "x of the host")
    host.stop(timeout=PATIENCE_S)
    assert not post(host, "y")
    assert diary.lines[-2:] == ["x of the host", "on_stop"]


def test_what_is_posted_told_and_asked_comes_in_one_order(dispatcher: Dispatcher, diary: Diary) -> None:
    ref = Pooled.start(diary, dispatcher)
    entered, release = threading.Event(), threading.Event()
    post(ref, lambda _: in_turn(entered.set, lambda: wait(release)))
    wait(entered)
    post(ref, "posted")
    ref.tell("told")
    asked = ref.ask("asked", block=False)
    post(ref, None)
    # Pykka's own way in, which it takes for an actor of any kind.
    assert ref.actor_inbox.get().message == "posted"
    post(ref, "posted again")
    release.set()

    assert ref.ask("last", timeout=PATIENCE_S) == "last"
    assert asked.get() == "asked"
    assert diary.lines == ["on_start", "told", "asked", None, "posted again", "last"]


def test_an_actor_that_nobody_refers_to_any_more_is_gone(dispatcher: Dispatcher) -> None:
    ref = Pooled.start(Diary(), dispatcher)
    ref.ask("x", timeout=PATIENCE_S)
    actor = weakref.ref(look_into(ref))
    ref.stop(timeout=PATIENCE_S)
    del ref
    fence(dispatcher)
    fence(dispatcher)
    gc.collect()
    assert actor() is None
