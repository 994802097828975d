from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from agents.harness import PATIENCE_S, Run, leave_open, run, text_input
from trunkline.agents.base import Agent, Turn
from trunkline.agents.events import ItemDelta, ItemStarted
from trunkline.errors import TurnInterrupted
from trunkline.protocol.even_texts import EvenTexts, pack


class Does(Agent):
    """An agent made of a function."""

    def __init__(self, function: Callable[[Turn], None]) -> None:
        self._function = function

    def run_turn(self, turn: Turn) -> None:
        self._function(turn)


@pytest.mark.parametrize(
    "use",
    [
        lambda turn: turn.check(),
        lambda turn: turn.sleep(1000),
        lambda turn: turn.wait_steer(),
        lambda turn: turn.say("x"),
        lambda turn: turn.command("x"),
        lambda turn: turn.ask_user([]),
    ],
)
def test_after_an_interrupt_the_handle_raises(use: Callable[[Turn], None]) -> None:
    running = Run(Does(use), "", answer=leave_open)
    running.turn.interrupt()

    assert running.finish().outcome == "interrupted"
    assert running.events == []


def test_an_interrupt_during_a_message_leaves_it_open() -> None:
    def say(turn: Turn) -> None:
        with turn.message() as message:
            message.write("one")
            turn.interrupt()
            message.write("two")

    done = run(Does(say), "")

    assert done.outcome == "interrupted"
    assert done.kinds == [ItemStarted, ItemDelta]


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        ([], []),
        (["a"], [1]),
        ([f"{number} " for number in range(2056)], [1024, 1024, 8]),
        (["x" * 16_384, "y"], [1, 1]),
        (["x" * 16_383, "y"], [2]),
        (["x" * 200] * 256, [64] * 4),
        (["x"] * 100 + ["y" * 20_000] + ["x"] * 155, [64, 32, 4, 1, 1, 2, 8, 16, 128]),
    ],
    ids=["none", "one", "many", "long", "nearly too long", "much in all", "one long among many"],
)
def test_many_deltas_are_told_in_groups_that_are_not_too_large(texts: list[str], groups: list[int]) -> None:
    def stream(turn: Turn) -> None:
        turn.add_deltas(turn.start_item("agentMessage"), iter(texts))

    done = run(Does(stream), "")

    told = [event for event in done.events if isinstance(event, ItemDelta)]
    assert [len(event.texts) for event in told] == groups
    assert done.deltas == texts


def test_texts_of_one_length_are_told_together_and_are_the_same() -> None:
    texts = [f"{number:04}" for number in range(2112)]

    def stream(turn: Turn) -> None:
        item_id = turn.start_item("agentMessage")
        turn.add_deltas(item_id, texts)
        turn.add_deltas(item_id, pack(texts, "".join(texts)))

    done = run(Does(stream), "")

    told = [event for event in done.events if isinstance(event, ItemDelta)]
    assert [len(event.texts) for event in told] == [1024, 1024, 64] * 2
    assert all(isinstance(event.texts, EvenTexts) for event in told)
    assert ["".join(event.texts) for event in told] == [event.joined for event in told]
    assert done.deltas == texts * 2


@pytest.mark.parametrize("when", ["before", "during"])
def test_on_interrupt_calls_back(when: str) -> None:
    called = threading.Event()

    def wait(turn: Turn) -> None:
        if when == "before":
            turn.interrupt()
        with turn.on_interrupt(called.set):
            if when == "during":
                turn.interrupt()
            assert called.wait(PATIENCE_S)

    assert run(Does(wait), "").outcome == "completed"


def test_on_interrupt_does_not_call_back_after_its_block() -> None:
    called = threading.Event()

    def leave(turn: Turn) -> None:
        with turn.on_interrupt(called.set):
            pass
        turn.interrupt()

    run(Does(leave), "")

    assert not called.is_set()


def test_a_prompt_that_is_dropped_interrupts_the_turn_and_wakes_its_other_threads() -> None:
    woken: list[bool] = []

    def ask(turn: Turn) -> None:
        def wait() -> None:
            try:
                turn.wait_steer()
            except TurnInterrupted:
                woken.append(True)

        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        try:
            turn.command("x").ask_approval()
        finally:
            waiter.join(PATIENCE_S)

    running = Run(Does(ask), "", answer=leave_open).start().wait_for_prompt()
    # Without telling the turn: the answer alone says it.
    running.drop_open()

    assert running.finish().outcome == "interrupted"
    assert woken == [True]


def test_wait_steer_gives_up_after_its_timeout() -> None:
    got: list[object] = []

    run(Does(lambda turn: got.append(turn.wait_steer(timeout_s=0))), "")

    assert got == [None]


def test_steers_that_came_before_are_taken_in_order() -> None:
    got: list[object] = []

    def take(turn: Turn) -> None:
        turn.steer(text_input("one"))
        turn.steer(text_input("two"))
        got.extend([turn.wait_steer(), turn.wait_steer()])

    run(Does(take), "")

    assert got == [tuple(text_input("one")), tuple(text_input("two"))]
