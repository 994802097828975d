"""The OS threads of turns are used again, know nothing of the turn before, and end."""

from __future__ import annotations

import contextvars
import gc
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import Serve
from trunkline import starter as starter_module
from trunkline.starter import TurnStarter
from wires import PATIENCE_S

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")


class Idle(list[Any]):
    """The idle threads' inboxes. Tells when one is there, and can have one taken in the last moment."""

    def __init__(self) -> None:
        super().__init__()
        self.came: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.before_remove: Callable[[], object] = lambda: None

    def append(self, inbox: Any) -> None:
        super().append(inbox)
        self.came.put(None)

    def remove(self, inbox: Any) -> None:
        self.before_remove()
        super().remove(inbox)


class House:
    """A starter whose idle threads a test sees."""

    def __init__(self) -> None:
        self.starter = TurnStarter()
        self.idle = self.starter._idle = Idle()
        self.starter.start()

    def run(self, do: Callable[[], object] = lambda: None) -> threading.Thread:
        """Run a turn and return the thread it ran on."""
        ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

        def run_turn(_turn: object, _thread: object) -> None:
            do()
            ran.put(threading.current_thread())

        slot: Any = SimpleNamespace(run_turn=run_turn)
        turn: Any = SimpleNamespace(turn_id="0123456789abcdef")
        nobody: Any = None
        self.starter.start_turn(slot, turn, nobody)
        return ran.get(timeout=PATIENCE_S)

    def wait_idle(self) -> None:
        self.idle.came.get(timeout=PATIENCE_S)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.starter.stop(PATIENCE_S)


def wait_ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE_S)
    return not thread.is_alive()


def test_a_turn_runs_on_the_thread_of_one_that_has_ended(house: House) -> None:
    first = house.run()
    house.wait_idle()

    assert house.run() is first


def test_a_turn_has_a_thread_of_its_own_while_another_runs(house: House) -> None:
    others: list[threading.Thread] = []

    first = house.run(lambda: others.append(house.run()))

    assert others != [first]


def test_what_an_agent_sets_for_its_context_is_not_there_in_the_next_turn(house: House) -> None:
    marks: list[str] = []
    first = house.run(lambda: MARK.set("first"))
    house.wait_idle()

    assert house.run(lambda: marks.append(MARK.get())) is first
    assert marks == ["none"]


def test_an_idle_thread_holds_nothing_of_the_turn_before(house: House) -> None:
    def run_turn() -> None:
        """Stands for an agent, with all that it holds."""

    agent = weakref.ref(run_turn)
    house.run(run_turn)
    house.wait_idle()
    del run_turn
    gc.collect()

    assert agent() is None


def test_idle_threads_end_with_the_server_and_busy_ones_with_their_turns(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "IDLE_S", 1000.0)
    may_end, is_busy = threading.Event(), threading.Event()

    def be_busy() -> None:
        is_busy.set()
        assert may_end.wait(PATIENCE_S)

    busy: list[threading.Thread] = []
    holder = threading.Thread(target=lambda: busy.append(house.run(be_busy)))
    holder.start()
    assert is_busy.wait(PATIENCE_S)
    idle = house.run()
    house.wait_idle()

    house.starter.stop(PATIENCE_S)

    assert wait_ended(idle)
    may_end.set()
    holder.join(PATIENCE_S)
    assert wait_ended(busy[0])
    assert house.starter.threads == (house.starter._thread,)


def test_a_thread_that_has_been_idle_for_a_while_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter_module, "IDLE_S", 0.0)

    assert wait_ended(house.run())
    assert house.idle == []


def test_no_more_threads_are_idle_than_are_worth_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter_module, "MAX_IDLE", 0)
    monkeypatch.setattr(starter_module, "IDLE_S", 1000.0)

    assert wait_ended(house.run())


def test_a_turn_that_finds_a_thread_about_to_end_is_run_by_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "IDLE_S", 0.0)
    ran = threading.Event()

    def take() -> None:
        house.idle.before_remove = lambda: None
        slot: Any = SimpleNamespace(run_turn=lambda _turn, _thread: ran.set())
        turn: Any = SimpleNamespace(turn_id="next")
        nobody: Any = None
        house.starter.start_turn(slot, turn, nobody)  # in the moment between the wait's end and the leaving

    house.idle.before_remove = take
    house.run()

    assert ran.wait(PATIENCE_S)


def test_a_turn_for_which_there_is_no_os_thread_fails_and_the_next_one_runs(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve().connect()
    thread_id = client.start_thread()
    start = threading.Thread.start
    refusals = [RuntimeError("can't start new thread")]

    def refuse(thread: threading.Thread) -> None:
        if refusals and "-turn-" in thread.name:
            raise refusals.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    failed = client.run_turn(thread_id, "text hello")
    done = client.run_turn(thread_id, "text hello")

    assert failed["error"]["message"] == "the server has no more threads to run the agent on"
    assert [failed["status"], done["status"]] == ["failed", "completed"]
