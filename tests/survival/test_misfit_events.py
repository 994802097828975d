"""An agent that tells its thread what cannot be fails its turn, with the reason. Nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Serve
from survival.test_lone_surrogates import check_fails_and_goes_on
from trunkline import Turn
from trunkline.agents.events import ItemCompleted, ItemStarted
from trunkline.testing import ScriptedAgent, Transport


def starting(item: Any) -> Callable[[Turn], object]:
    return lambda turn: turn.emit(ItemStarted(turn.turn_id, item))


def completing(kind: str, changes: Any) -> Callable[[Turn], object]:
    def tell(turn: Turn) -> None:
        turn.emit(ItemCompleted(turn.turn_id, turn.start_item(kind, text=""), changes))
        turn.wait_interrupted(60)  # what the thread finds is no exception in the agent
        turn.say("too late")

    return tell


def start_twice(turn: Turn) -> None:
    turn.complete_item(turn.start_item("plan", id="one", text="first"))
    turn.start_item("plan", id="one", text="second")
    turn.wait_interrupted(60)
    turn.say("too late")


TOLD: dict[str, tuple[Callable[[Turn], object], str]] = {
    "a list": (starting(["acme"]), "the agent told an item that is no object"),
    "no type": (starting({"id": "a"}), "the agent told an item whose `type` is missing, empty or not a text"),
    "an empty type": (
        starting({"type": "", "id": "a"}),
        "the agent told an item whose `type` is missing, empty or not a text",
    ),
    "no id": (
        starting({"type": "acme"}),
        "the agent told an item whose `id` is missing, empty or not a text",
    ),
    "an id that is a number": (
        starting({"type": "acme", "id": 7}),
        "the agent told an item whose `id` is missing, empty or not a text",
    ),
    "a text that is a number": (
        lambda turn: turn.start_item("agentMessage", text=5),
        "the agent told an item whose `text` is not a text",
    ),
    "an output that is a list": (
        lambda turn: turn.start_item("commandExecution", aggregatedOutput=["a"]),
        "the agent told an item whose `aggregatedOutput` is not a text",
    ),
    "params that are a list": (
        lambda turn: turn.ask("acme/ask", ["a"]),  # type: ignore[arg-type]
        "the agent told a prompt whose params are no object",
    ),
    "a delta for a list": (
        lambda turn: turn.add_delta(["one"], "text"),  # type: ignore[arg-type]
        "the agent told a delta for an id that is not a text",
    ),
    "a change to a list": (
        lambda turn: turn.complete_item(["one"]),  # type: ignore[arg-type]
        "the agent told a change to an item for an id that is not a text",
    ),
    "an id twice": (start_twice, "the agent started two items with the id 'one'"),
    "changes that are a list": (
        completing("plan", ["a"]),
        "the agent told a change to an item that is no object",
    ),
    "another type": (
        completing("plan", {"type": "reasoning"}),
        "the agent completed an item as another: its `type` and `id` stay what they are",
    ),
    "another id": (
        completing("plan", {"id": "another"}),
        "the agent completed an item as another: its `type` and `id` stay what they are",
    ),
    "a text that becomes a number": (
        completing("agentMessage", {"text": 5}),
        "the agent completed an item with a `text` that is not a text",
    ),
}


@pytest.mark.parametrize("transport", ["websocket", "in-process"])
@pytest.mark.parametrize(("tell", "error"), TOLD.values(), ids=TOLD)
def test_an_agent_that_tells_what_cannot_be_fails_its_turn_and_the_thread_goes_on(
    serve: Serve, transport: Transport, tell: Callable[[Turn], object], error: str
) -> None:
    agent = ScriptedAgent(tell, lambda turn: turn.say("hello"))
    check_fails_and_goes_on(serve(agent=agent, transport=transport), error)


def test_what_was_told_before_is_kept_once_and_in_its_place(serve: Serve, tmp_path: Path) -> None:
    store = tmp_path / "threads.sqlite3"
    house = serve(agent=ScriptedAgent(start_twice), store=store)
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    turn = alice.run_turn(thread_id, "anything")
    assert turn["status"] == "failed"
    house.server.stop()

    again = serve(agent=ScriptedAgent(), store=store).connect("alice")
    items = again.resume(thread_id)["turns"][0]["items"]

    assert [(item["type"], item.get("text")) for item in items[1:]] == [("plan", "first")]


def test_an_item_may_be_completed_with_the_type_and_id_it_has(serve: Serve) -> None:
    def tell(turn: Turn) -> None:
        item_id = turn.start_item("plan", id="one", text="")
        turn.complete_item(item_id, type="plan", id="one", text="more")

    alice = serve(agent=ScriptedAgent(tell)).connect("alice")
    thread_id = alice.start_thread()

    assert alice.run_turn(thread_id, "anything")["status"] == "completed"
    items = alice.resume(thread_id)["turns"][0]["items"]
    assert (items[-1]["type"], items[-1]["id"], items[-1]["text"]) == ("plan", "one", "more")


def test_an_item_is_told_with_its_type_before_all_else(serve: Serve) -> None:
    # What is kept is told apart by how it begins.
    tell = starting({"text": "a", "id": "one", "type": "plan"})
    alice = serve(agent=ScriptedAgent(tell)).connect("alice")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "anything")

    items = alice.resume(thread_id)["turns"][0]["items"]
    assert list(items[-1])[:3] == ["type", "id", "text"]
