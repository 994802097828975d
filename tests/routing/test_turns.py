"""Turns as the protocol has them: who may start, steer and interrupt one, and what is told of it."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from conftest import Serve
from helpers import UNKNOWN_ID, Client, Message, methods, text_input
from houses import House, LocalHouse, Puppets, in_parallel
from trunkline import Agent, Turn
from wires import PATIENCE_S


def open_items(events: list[Message]) -> set[str]:
    """Return the items that have started and not completed."""
    started = {each["params"]["item"]["id"] for each in events if each["method"] == "item/started"}
    return started - {each["params"]["item"]["id"] for each in events if each["method"] == "item/completed"}


def test_a_start_while_a_turn_runs_steers_it(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "steered")
    assert bob.start_turn(thread_id, "a bit faster") == turn_id
    assert alice.wait_turn(turn_id)["status"] == "completed"
    events = methods(alice.events_of(thread_id))
    assert events.count("turn/started") == events.count("turn/completed") == 1


def test_two_starts_at_once_share_a_turn(house: LocalHouse) -> None:
    clients = [house.connect(name) for name in ("alice", "bob")]
    thread_id = clients[0].start_thread()
    clients[1].resume(thread_id)
    turns: list[str] = []

    def start(client: Client) -> None:
        turns.append(client.start_turn(thread_id, "steered"))

    in_parallel(*(partial(start, client) for client in clients))

    assert turns[0] == turns[1]
    clients[0].wait_turn(turns[0])
    said = [each for each in clients[0].events_of(thread_id) if each["method"] == "item/completed"]
    assert [each["params"]["item"]["type"] for each in said].count("userMessage") == 2


def test_a_message_is_known_by_the_id_that_its_client_gave_it(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    params = {"threadId": thread_id, "input": text_input("text hi")}
    client.request("turn/start", **params, clientUserMessageId="mine")
    item = client.wait("item/started")["params"]["item"]
    assert (item["type"], item["clientId"]) == ("userMessage", "mine")


def test_a_steer_names_the_turn_it_means(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()

    def steer(turn_id: str, text: str = "left") -> Message:
        return client.refused(
            "turn/steer", threadId=thread_id, expectedTurnId=turn_id, input=text_input(text)
        )

    assert steer(UNKNOWN_ID) == {"code": -32600, "message": "no active turn to steer"}
    turn_id = client.start_turn(thread_id, "steered")
    other = f"expected active turn id `{UNKNOWN_ID}` but found `{turn_id}`"
    assert steer(UNKNOWN_ID) == {"code": -32600, "message": other}
    assert steer("")["message"] == "expectedTurnId must not be empty"
    empty = client.refused("turn/steer", threadId=thread_id, expectedTurnId=turn_id, input=[])
    assert empty["message"] == "input must not be empty"
    result = client.request(
        "turn/steer", threadId=thread_id, expectedTurnId=turn_id, input=text_input("right")
    )
    assert result == {"turnId": turn_id}
    assert client.wait_turn(turn_id)["items"][-1]["text"] == "right"


def test_an_interrupt_names_the_turn_it_means_and_is_answered_at_its_end(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()

    def interrupt(turn_id: str) -> Message:
        return client.refused("turn/interrupt", threadId=thread_id, turnId=turn_id)

    assert interrupt(UNKNOWN_ID) == {"code": -32600, "message": "no active turn to interrupt"}
    turn_id = client.start_turn(thread_id, "text begun\nsleep 1000")
    client.wait("item/agentMessage/delta")
    other = f"expected active turn id {UNKNOWN_ID} but found {turn_id}"
    assert interrupt(UNKNOWN_ID) == {"code": -32600, "message": other}
    # "Interrupt the start-up" in the reference, which has one.
    assert client.request("turn/interrupt", threadId=thread_id, turnId="") == {}
    assert client.request("turn/interrupt", threadId=thread_id, turnId=turn_id) == {}
    assert client.wait_turn(turn_id)["status"] == "interrupted"
    assert client.run_turn(thread_id, "text again")["status"] == "completed"


def test_a_start_behind_an_interrupt_begins_a_turn_of_its_own(serve: Serve) -> None:
    go_on = threading.Event()

    class Slow(Agent):
        """Takes its time over an interrupt."""

        def run_turn(self, turn: Turn) -> None:
            if turn.text == "first":
                assert go_on.wait(PATIENCE_S)
            else:
                turn.say(f"heard {turn.text}")

    client = serve(agent=Slow).connect()
    thread_id = client.start_thread()
    first = client.start_turn(thread_id, "first")
    interrupt = client.begin("turn/interrupt", threadId=thread_id, turnId=first)
    start = client.begin("turn/start", threadId=thread_id, input=text_input("second"))
    client.fence(thread_id)
    go_on.set()

    assert "result" in client.response(interrupt)
    second = client.response(start)["result"]["turn"]["id"]
    assert second != first
    assert client.wait_turn(second)["status"] == "completed"
    said = [
        event["params"]["item"].get("text")
        for event in client.events_of(thread_id)
        if "item" in event["params"]
    ]
    assert "heard second" in said


def test_a_turn_is_started_on_a_thread_that_is_loaded(house: LocalHouse) -> None:
    client = house.connect()
    for method, params in (
        ("turn/start", {"input": []}),
        ("turn/steer", {"input": text_input("x"), "expectedTurnId": UNKNOWN_ID}),
        ("turn/interrupt", {"turnId": UNKNOWN_ID}),
    ):
        error = client.refused(method, threadId=UNKNOWN_ID, **params)
        assert error == {"code": -32600, "message": f"thread not found: {UNKNOWN_ID}"}


def test_input_that_is_too_long_is_refused_and_nothing_begun(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    error = client.refused("turn/start", threadId=thread_id, input=text_input("x" * 1_048_577))
    assert error["code"] == -32602
    assert error["message"] == "Input exceeds the maximum length of 1048576 characters."
    assert error["data"] == {
        "input_error_code": "input_too_large",
        "max_chars": 1_048_576,
        "actual_chars": 1_048_577,
    }
    client.expect_nothing(thread_id)


def test_a_turn_without_input_has_no_message_of_the_user(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    turn = client.request("turn/start", threadId=thread_id, input=[])["turn"]
    assert client.wait_turn(turn["id"])["status"] == "completed"
    assert not any(each["method"].startswith("item/") for each in client.events_of(thread_id))


@pytest.mark.parametrize(
    "text", ["text begun\nsleep 1000", "ask something", "patch a/file", "question What?", "steered"]
)
def test_every_item_is_complete_before_the_end_of_an_interrupted_turn(house: LocalHouse, text: str) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, text)
    if text.startswith("text"):
        client.wait("item/agentMessage/delta")
    elif text != "steered":
        client.wait_for(lambda message: "method" in message and "id" in message, "a prompt")
    client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)
    client.wait_turn(turn_id)
    events = client.events_of(thread_id)
    assert events[-1]["method"] == "turn/completed"
    assert open_items([each for each in events if each["method"].startswith("item/")]) == set()


def test_an_item_that_is_cut_off_completes_with_what_there_is_of_it(serve: Serve, puppets: Puppets) -> None:
    client = serve(agent=puppets).connect()
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "go")
    puppets.next().speak("half a sent")
    client.wait("item/agentMessage/delta")
    client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)
    client.wait_turn(turn_id)
    ends = [
        each["params"]["item"] for each in client.events_of(thread_id) if each["method"] == "item/completed"
    ]
    assert ends[-1]["text"] == "half a sent"


def test_an_item_has_one_id_wherever_it_is_seen(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    turn = client.start_turn(thread_id, "text one\nask two")
    client.decide(client.wait("item/commandExecution/requestApproval"))
    client.wait_turn(turn)
    live = [
        each["params"]["item"]["id"]
        for each in client.events_of(thread_id)
        if each["method"] == "item/completed"
    ]
    snapshot = client.resume(thread_id)["turns"][0]["items"]
    listed = client.request("thread/items/list", threadId=thread_id)["data"]
    read = client.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]["turns"][0]["items"]
    fork = client.request("thread/fork", threadId=thread_id)["thread"]["turns"][0]["items"]
    assert len(live) == 3
    for items in (snapshot, [each["item"] for each in listed], read, fork):
        assert [item["id"] for item in items] == live


def test_the_approval_policy_is_kept_with_the_thread_and_changed_by_a_turn(house: LocalHouse) -> None:
    client = house.connect()
    started = client.request("thread/start", approvalPolicy="never")
    thread_id = started["thread"]["id"]
    assert started["approvalPolicy"] == "never"
    client.request("turn/start", threadId=thread_id, input=text_input("text hi"), approvalPolicy="on-request")
    assert client.request("thread/resume", threadId=thread_id)["approvalPolicy"] == "on-request"
