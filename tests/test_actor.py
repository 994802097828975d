"""What Pykka promises of an actor holds for a pooled one too: each test runs for both."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pykka
import pytest

from actor_kinds import Diary, Kind, Pooled, Start, Threaded, wait
from houses import in_parallel
from trunkline.actor import Dispatcher
from trunkline.testing import fence
from wires import PATIENCE_S


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(name="trunkline-test")
    dispatcher.start()
    yield dispatcher
    assert dispatcher.stop(PATIENCE_S)


@pytest.fixture(params=[Threaded, Pooled])
def start(request: pytest.FixtureRequest, dispatcher: Dispatcher) -> Iterator[Start]:
    """Starts actors of each kind; those that still run at the end are stopped."""
    started: list[pykka.ActorRef[Kind]] = []

    def start(diary: Diary) -> pykka.ActorRef[Kind]:
        started.append(request.param.start(diary, dispatcher))
        return started[-1]

    yield start
    for ref in started:
        ref.stop(timeout=PATIENCE_S)


@pytest.fixture
def diary() -> Diary:
    return Diary()


def hold(ref: pykka.ActorRef[Kind]) -> threading.Event:
    """Have the actor wait until the event that is returned is set."""
    entered, release = threading.Event(), threading.Event()

    def wait_in_handler(_: Kind) -> None:
        entered.set()
        wait(release)

    ref.tell(wait_in_handler)
    wait(entered)
    return release


def test_messages_are_handled_in_the_order_they_were_told(start: Start, diary: Diary) -> None:
    ref = start(diary)
    for number in range(1000):
        ref.tell(number)
    fence(ref)
    assert diary.lines == ["on_start", *range(1000)]


def test_messages_of_many_senders_are_all_handled_one_at_a_time_and_in_order_of_each(
    start: Start, diary: Diary
) -> None:
    ref = start(diary)

    def send(sender: int) -> None:
        for number in range(2000):
            ref.tell((sender, number))

    in_parallel(*(lambda sender=sender: send(sender) for sender in range(4)))
    fence(ref)
    for sender in range(4):
        assert [line[1] for line in diary.lines[1:] if line[0] == sender] == list(range(2000))
    assert len(diary.lines) == 1 + 4 * 2000


def test_an_ask_is_answered_with_what_the_handler_returns(start: Start, diary: Diary) -> None:
    ref = start(diary)
    assert ref.ask("question", timeout=PATIENCE_S) == "question"
    future = ref.ask(lambda actor: actor.number, block=False)
    assert future.get(timeout=PATIENCE_S) == 5


def test_an_exception_in_an_ask_goes_to_the_asker_and_the_actor_lives(start: Start, diary: Diary) -> None:
    ref = start(diary)
    with pytest.raises(ZeroDivisionError):
        ref.ask(lambda _: 1 / 0, timeout=PATIENCE_S)
    assert ref.ask("well?", timeout=PATIENCE_S) == "well?"


def test_an_asker_that_is_not_answered_in_time_is_told_so(start: Start, diary: Diary) -> None:
    ref = start(diary)
    release = hold(ref)
    with pytest.raises(pykka.Timeout):
        ref.ask("question", timeout=0)
    release.set()
    fence(ref)


def test_an_exception_in_a_tell_ends_the_actor_with_on_failure_and_not_on_stop(
    start: Start, diary: Diary
) -> None:
    ref = start(diary)
    ref.tell("before")
    ref.tell(lambda _: 1 / 0)
    wait(ref.actor_stopped)
    assert not ref.is_alive()
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("after")
    ended_by(diary, [(ZeroDivisionError, "division by zero")])
    assert diary.lines == ["on_start", "before", "on_failure", (ZeroDivisionError, "division by zero")]


def ended_by(diary: Diary, lines: list[object]) -> None:
    """Wait until the diary ends with `lines`: an actor is dead before its last hook has run."""
    deadline = threading.Event()
    for _ in range(int(PATIENCE_S * 1000)):
        if diary.lines[-len(lines) :] == lines:
            return
        deadline.wait(0.001)
    raise AssertionError(diary.lines)


def test_a_stop_lets_what_was_told_before_it_be_handled(start: Start, diary: Diary) -> None:
    ref = start(diary)
    release = hold(ref)
    for number in range(10):
        ref.tell(number)
    stopping = threading.Thread(target=ref.stop, kwargs={"timeout": PATIENCE_S})
    stopping.start()
    release.set()
    stopping.join(PATIENCE_S)
    assert diary.lines == ["on_start", *range(10), "on_stop"]
    assert not ref.is_alive()


def test_a_second_stop_is_harmless_and_says_that_there_was_nothing_to_stop(
    start: Start, diary: Diary
) -> None:
    ref = start(diary)
    assert ref.stop(timeout=PATIENCE_S)
    assert not ref.stop(timeout=PATIENCE_S)
    assert diary.lines == ["on_start", "on_stop"]


def test_an_actor_may_stop_itself(start: Start, diary: Diary) -> None:
    ref = start(diary)
    ref.ask(lambda actor: actor.stop(), timeout=PATIENCE_S)
    wait(ref.actor_stopped)
    ended_by(diary, ["on_start", "on_stop"])


def test_an_actor_that_has_stopped_is_dead_to_senders(start: Start, diary: Diary) -> None:
    ref = start(diary)
    ref.stop(timeout=PATIENCE_S)
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("x")
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("x", timeout=PATIENCE_S)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("x", block=False).get(timeout=PATIENCE_S)


def test_asks_behind_the_stop_are_answered_with_actor_dead(start: Start, diary: Diary) -> None:
    ref = start(diary)
    release = hold(ref)
    first = ref.ask("before", block=False)
    stopped = ref.stop(block=False)
    late = [ref.ask(number, block=False) for number in range(3)]
    again = ref.stop(block=False)
    ref.tell("lost")
    release.set()

    assert first.get(timeout=PATIENCE_S) == "before"
    assert stopped.get(timeout=PATIENCE_S)
    for future in late:
        with pytest.raises(pykka.ActorDeadError):
            future.get(timeout=PATIENCE_S)
    again.get(timeout=PATIENCE_S)
    assert diary.lines[:3] == ["on_start", "before", "on_stop"]
    assert "lost" not in diary.lines


def test_asks_behind_a_failure_are_answered_with_actor_dead(start: Start, diary: Diary) -> None:
    ref = start(diary)
    release = hold(ref)
    ref.tell(lambda _: 1 / 0)
    late = ref.ask("late", block=False)
    release.set()
    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=PATIENCE_S)


def test_a_failing_on_start_ends_the_actor_without_another_hook(start: Start, diary: Diary) -> None:
    diary.fail_in.add("on_start")
    ref = start(diary)
    wait(ref.actor_stopped)
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("x", timeout=PATIENCE_S)
    assert [line for line in diary.lines if line in ("on_start", "on_stop", "on_failure")] == ["on_start"]


@pytest.mark.parametrize("hook", ["on_stop", "on_failure"])
def test_a_failing_last_hook_ends_the_actor_all_the_same(start: Start, diary: Diary, hook: str) -> None:
    diary.fail_in.add(hook)
    ref = start(diary)
    ref.tell((lambda actor: actor.stop()) if hook == "on_stop" else (lambda _: 1 / 0))
    wait(ref.actor_stopped)
    ended_by(diary, [hook])
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("x", timeout=PATIENCE_S)


def test_a_proxy_reads_writes_and_calls(start: Start, diary: Diary) -> None:
    proxy = start(diary).proxy()
    assert proxy.number.get(timeout=PATIENCE_S) == 5
    proxy.number = 7
    assert proxy.add(3).get(timeout=PATIENCE_S) == 10
    proxy.add.defer(5)
    assert proxy.number.get(timeout=PATIENCE_S) == 15
    with pytest.raises(ValueError, match="a method fails"):
        proxy.fail().get(timeout=PATIENCE_S)
    assert proxy.number.get(timeout=PATIENCE_S) == 15


def test_the_registry_knows_an_actor_from_its_start_to_its_end(start: Start, diary: Diary) -> None:
    ref = start(diary)
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
    assert ref in pykka.ActorRegistry.get_by_class(ref.actor_class)
    pykka.ActorRegistry.broadcast("to all", target_class=ref.actor_class)
    fence(ref)
    assert diary.lines[-1] == "to all"
    ref.stop(timeout=PATIENCE_S)
    assert ref not in pykka.ActorRegistry.get_all()


def test_stop_all_stops_it(start: Start, diary: Diary) -> None:
    ref = start(diary)
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)
    assert not ref.is_alive()
    assert diary.lines[-1] == "on_stop"


def test_an_actor_may_tell_itself_and_start_others(start: Start, diary: Diary) -> None:
    ref, others = start(diary), Diary()
    done = threading.Event()

    def start_another(_: Kind) -> None:
        start(others).tell(lambda _: done.set())

    def tell_itself(actor: Kind) -> None:
        actor.actor_ref.tell("later")
        actor.diary.lines.append("now")
        actor.actor_ref.tell(start_another)

    ref.tell(tell_itself)
    wait(done)
    assert diary.lines == ["on_start", "now", "later"]


def test_actors_that_ask_each_other_in_a_ring_pass_the_answer_on(start: Start) -> None:
    # With a future each, as hosts do that use Pykka: nobody waits inside a handler.
    refs = [start(Diary()) for _ in range(10)]

    def pass_on(place: int) -> object:
        if place == len(refs):
            return "the end"
        return lambda _: refs[place].ask(pass_on(place + 1), block=False)

    future = refs[0].ask(pass_on(1), block=False)
    for _ in range(len(refs) - 1):
        future = future.get(timeout=PATIENCE_S)
    assert future.get(timeout=PATIENCE_S) == "the end"
