"""A string with a lone surrogate is no text. Whoever tells one is told so, and no actor fails over it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Serve
from embedding.hosts import get, initialized
from houses import LocalHouse
from trunkline import Call, RpcError, Turn, TurnFailed
from trunkline.testing import ScriptedAgent, Transport

LONE = "\ud800"
NO_TEXT = "cannot be written as JSON: a string with a lone surrogate (U+D800 at {}), which is no text"


def add_to_message(*texts: str) -> Callable[[Turn], None]:
    def add(turn: Turn) -> None:
        with turn.message() as message:
            turn.add_deltas(message.item_id, texts)

    return add


TOLD: dict[str, tuple[Callable[[Turn], object], str]] = {
    "a message": (lambda turn: turn.say(LONE), "a delta"),
    "one delta of many": (add_to_message("fine", LONE), "a delta"),
    "an output": (lambda turn: turn.command("ls").output(LONE), "a delta"),
    "a command": (lambda turn: turn.command(LONE), "an item"),
    "a diff": (lambda turn: turn.file_change([{"path": "a", "diff": LONE}]), "an item"),
    "a member": (lambda turn: turn.start_item("acme", note=LONE), "an item"),
    "a member's name": (lambda turn: turn.start_item("acme", **{LONE: 1}), "an item"),
    "an id": (lambda turn: turn.start_item("acme", id=LONE), "an item"),
    "a change": (
        lambda turn: turn.command("ls").complete("completed", kept_output=LONE),
        "a change to an item",
    ),
    "a question": (lambda turn: turn.ask("acme/ask", {"what": LONE}), "a prompt"),
    "a prompt's name": (lambda turn: turn.ask(LONE, {}), "a prompt"),
}


def check_fails_and_goes_on(house: LocalHouse, error: str) -> None:
    """Check that a thread's first turn fails with `error`, everybody is told, and the next turn works."""
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)

    turn = alice.run_turn(thread_id, "anything")

    assert (turn["status"], turn["error"]["message"]) == ("failed", error)
    assert bob.wait("error", turnId=turn["id"])["params"]["error"]["message"] == error
    assert alice.run_turn(thread_id, "anything")["status"] == "completed"
    assert bob.wait("item/agentMessage/delta")["params"]["delta"] == "hello"


@pytest.mark.parametrize("transport", ["websocket", "in-process"])
@pytest.mark.parametrize(("tell", "what"), TOLD.values(), ids=TOLD)
def test_an_agent_that_tells_one_fails_its_turn_and_the_thread_goes_on(
    serve: Serve, transport: Transport, tell: Callable[[Turn], object], what: str
) -> None:
    agent = ScriptedAgent(tell, lambda turn: turn.say("hello"))
    where = 4 if tell is TOLD["one delta of many"][0] else 0
    check_fails_and_goes_on(
        serve(agent=agent, transport=transport), f"the agent told {what} that {NO_TEXT.format(where)}"
    )


def test_two_halves_of_a_character_are_no_text_in_two_deltas(serve: Serve) -> None:
    agent = ScriptedAgent(add_to_message("\ud83d", "\ude00"), lambda turn: turn.say("hello"))
    error = f"the agent told a delta that {NO_TEXT.format(0)}".replace("D800", "D83D")
    check_fails_and_goes_on(serve(agent=agent), error)


@pytest.mark.parametrize(
    ("tell", "why"),
    [
        (lambda turn: turn.start_item("acme", thing=object()), "an item that cannot be written as JSON: "),
        (lambda turn: turn.start_item("acme", map={1: 2}), "the keys of an object must be strings"),
        (
            lambda turn: turn.add_delta(turn.message().item_id, b"hello"),
            "a delta that cannot be written as JSON: ",
        ),
        (lambda turn: turn.add_delta(turn.message().item_id, 5), "the agent failed with TypeError"),
    ],
)
def test_an_agent_that_tells_what_json_has_not_fails_its_turn_and_the_thread_goes_on(
    serve: Serve, tell: Callable[[Turn], object], why: str
) -> None:
    house = serve(agent=ScriptedAgent(tell, lambda turn: turn.say("hello")))
    alice = house.connect("alice")
    thread_id = alice.start_thread()

    assert why in alice.run_turn(thread_id, "anything")["error"]["message"]
    assert alice.run_turn(thread_id, "anything")["status"] == "completed"


def test_an_agent_may_catch_the_error_and_go_on(serve: Serve) -> None:
    def tell(turn: Turn) -> None:
        with turn.message() as message:
            try:
                message.write(LONE)
            except TurnFailed:
                message.write("sorry")

    alice = serve(agent=ScriptedAgent(tell)).connect("alice")
    turn = alice.run_turn(alice.start_thread(), "anything")
    assert turn["status"] == "completed"
    assert turn["items"][0]["text"] == "sorry"


def test_a_reason_that_is_no_text_is_shown_with_escapes(serve: Serve) -> None:
    def fail(_: Turn) -> None:
        raise TurnFailed("cannot read " + os.fsdecode(b"caf\xe9"))

    agent = ScriptedAgent(fail, lambda turn: turn.say("hello"))
    check_fails_and_goes_on(serve(agent=agent), r"cannot read caf\udce9")


# Hosts, and clients in this process


GIVEN = [{"text": LONE}, {LONE: 1}, {"list": [{LONE: 1}]}]


@pytest.mark.parametrize("params", GIVEN, ids=str)
def test_a_host_that_publishes_one_is_told_so_at_once(house: LocalHouse, params: dict[str, Any]) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    thread = house.server.thread(thread_id)

    for publish in (thread.publish, thread.prompt):
        with pytest.raises(TypeError, match=r"lone surrogate \(U\+D800 at 0\)"):
            publish("acme/said", params)

    thread.publish("acme/said", {"text": "hello"})
    assert alice.wait("acme/said")["params"]["text"] == "hello"


@pytest.mark.parametrize("params", GIVEN, ids=str)
def test_a_client_in_this_process_that_asks_with_one_is_told_so_at_once(
    house: LocalHouse, params: dict[str, Any]
) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    text_with_more = {"type": "text", "text": "text hello", **params}
    with initialized(house.server) as connection:
        with pytest.raises(TypeError, match="lone surrogate"):
            connection.request("turn/start", {"threadId": thread_id, "input": [text_with_more]})
        assert get(connection.request("thread/loaded/list"))["data"] == [thread_id]
    assert alice.run_turn(thread_id, "text hello")["status"] == "completed"


def test_names_that_are_no_text_are_of_nothing(house: LocalHouse) -> None:
    with initialized(house.server) as connection:
        with pytest.raises(RpcError, match="Method not found"):
            get(connection.request(LONE))
        with pytest.raises(RpcError, match="thread not"):
            get(house.server.thread(LONE).publish("acme/said"))
        assert get(connection.request("thread/loaded/list"))["data"] == []


def test_a_handler_that_notifies_with_one_is_told_so(house: LocalHouse) -> None:
    @house.server.method("acme/notify")
    def notify(call: Call) -> str:
        try:
            call.notify("acme/said", {LONE: 1})
        except TypeError as error:
            return str(error)
        return "it went out"

    assert "lone surrogate" in house.connect("alice").request("acme/notify")


@pytest.mark.parametrize(
    "error",
    [RpcError(-32050, LONE), RpcError(-32050, "no", LONE), RpcError(-32050, "no", object())],
    ids=["message", "data", "no JSON"],
)
def test_an_error_of_a_handlers_that_cannot_be_written_is_logged_and_answered_as_internal(
    house: LocalHouse, caplog: pytest.LogCaptureFixture, error: RpcError
) -> None:
    @house.server.method("acme/refuse")
    def refuse(_: Call) -> None:
        raise error

    alice = house.connect("alice")
    assert alice.refused("acme/refuse") == {"code": -32603, "message": "Internal error"}
    why = "x method acme/refuse: its handler's error cannot be written as JSON: "
    assert [message for message in caplog.messages if message.startswith(why)]
    assert LONE not in caplog.text
    assert alice.request("thread/loaded/list")["data"] == []


# Clients on a wire, and the place where the server runs


def test_a_client_on_a_wire_that_escapes_one_has_sent_no_json(house: LocalHouse) -> None:
    alice = house.connect("alice")
    alice.wire.send('{"id":1,"method":"thread/name/set","params":{"threadId":"x","name":"\\ud800"}}')
    assert alice.wait_for(lambda message: "error" in message, "an error")["error"]["code"] == -32700
    assert alice.request("thread/loaded/list")["data"] == []


def test_a_server_in_a_directory_whose_name_is_no_text_asks_for_another(
    house: LocalHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    directory.mkdir()
    monkeypatch.chdir(directory)
    alice = house.connect("alice")

    assert alice.refused("thread/start")["message"] == (
        "the server's working directory is one whose name is no text, and no `cwd` given"
    )
    thread_id = alice.start_thread(cwd=str(tmp_path))
    assert alice.run_turn(thread_id, "text hello")["status"] == "completed"
