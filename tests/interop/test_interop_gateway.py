"""The gateway in front of the real `codex app-server`; what a fake one shows better is in tests/gateway."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from codex_stand_in import CodexHome
from gateway.upstreams import request_when_up
from helpers import Client, Message, thread_of
from houses import LocalHouse
from trunkline.gateway.gateway import Gateway

APPROVAL = "item/commandExecution/requestApproval"
DELTA = "item/agentMessage/delta"
EVERYTHING = {"experimentalApi": True}


def two(house: LocalHouse) -> tuple[Client, Client, str]:
    """Return two subscribers of a new thread, and its id."""
    alice, bob = house.connect("alice", **EVERYTHING), house.connect("bob", **EVERYTHING)
    thread_id = alice.start_thread(cwd=str(Path.cwd()))
    bob.wait("thread/started")
    bob.resume(thread_id)
    return alice, bob, thread_id


def said(client: Client) -> str:
    return "".join(message["params"]["delta"] for message in client.arrived if message.get("method") == DELTA)


def end_of(client: Client, turn_id: str) -> Message:
    return client.wait_turn(turn_id)


def child_of(house: LocalHouse) -> int:
    """Return the process of the upstream."""
    gateway = house.server._backend
    assert isinstance(gateway, Gateway)
    assert gateway._child is not None
    process = gateway._child._process
    assert process is not None
    return process.pid


def test_requests_with_equal_ids_get_their_own_answers(codex_house: LocalHouse) -> None:
    alice, bob, thread_id = two(codex_house)
    for client in (alice, bob):
        client.send({"id": 7, "method": "fs/getMetadata", "params": {"path": str(Path(__file__).parent)}})
        client.send({"id": "7", "method": "thread/read", "params": {"threadId": thread_id}})

    for client in (alice, bob):
        assert client.response("7")["result"]["thread"]["id"] == thread_id
        assert client.response(7)["result"]["isDirectory"] is True  # a method that trunkline does not know


def test_what_the_upstream_refuses_is_refused_in_its_words(codex_house: LocalHouse) -> None:
    alice = codex_house.connect("alice")

    assert "unknown variant `no/such`" in alice.refused("no/such", threadId="no id at all")["message"]
    assert (
        "no rollout found"
        in alice.refused("thread/resume", threadId="01900000-0000-7000-8000-000000000000")["message"]
    )


def test_everybody_sees_a_turn_and_the_first_answer_counts(codex_house: LocalHouse) -> None:
    alice, bob, thread_id = two(codex_house)
    turn_id = alice.start_turn(thread_id, "say 20 9\nask echo approved\ntext done")
    asked, same = alice.wait(APPROVAL), bob.wait(APPROVAL)

    bob.decide(same)
    alice.wait("serverRequest/resolved", requestId=asked["id"])
    alice.decide(asked, "decline")

    assert [end_of(client, turn_id)["status"] for client in (alice, bob)] == ["completed"] * 2
    assert said(alice) == said(bob) == "".join(f"{number:07d} x" for number in range(20)) + "done"
    for client in (alice, bob):
        [command] = [
            message["params"]["item"]
            for message in client.arrived
            if message.get("method") == "item/completed"
            and message["params"]["item"]["type"] == "commandExecution"
        ]
        assert (command["exitCode"], command["aggregatedOutput"]) == (0, "approved\n")
        assert client.methods().count("serverRequest/resolved") == 1
        # Numbered without a gap, and the same for all.
        events = client.events_of(thread_id)
        assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[-1]["seq"] + 1))
    tail = {event["seq"]: event["method"] for event in bob.events_of(thread_id)}
    assert tail.items() <= {event["seq"]: event["method"] for event in alice.events_of(thread_id)}.items()


def test_a_prompt_waits_for_somebody_and_one_who_comes_back_gets_what_was_missed(
    codex_house: LocalHouse,
) -> None:
    alice, bob, thread_id = two(codex_house)
    turn_id = alice.start_turn(thread_id, "text before\nask echo waited\ntext after")
    prompt = bob.wait(APPROVAL)
    place = alice.events_of(thread_id)[0]["seq"]
    epoch = bob.request("thread/resume", threadId=thread_id)["epoch"]
    for client in (alice, bob):
        codex_house.lose(client)

    carol = codex_house.connect("carol", **EVERYTHING)
    result = carol.request("thread/resume", threadId=thread_id, afterSeq=place, epoch=epoch)
    carol.decide(carol.wait(APPROVAL))

    assert result["delivery"] == "events"
    assert end_of(carol, turn_id)["status"] == "completed"
    assert said(carol) == "beforeafter"
    assert [m["id"] for m in carol.arrived if m.get("method") == APPROVAL] == [prompt["id"]]


def test_one_who_joins_in_mid_stream_disturbs_nobody_and_misses_nothing(
    codex_house: LocalHouse, codex_home: CodexHome
) -> None:
    alice, bob, thread_id = two(codex_house)
    turn_id = alice.start_turn(thread_id, "halves here and there")
    alice.wait(DELTA)
    before = len(alice.events_of(thread_id))

    carol = codex_house.connect("carol", **EVERYTHING)
    [item] = [
        each for each in carol.resume(thread_id)["turns"][-1]["items"] if each["type"] == "agentMessage"
    ]
    seen_by_others = alice.events_of(thread_id)[before:]
    codex_home.model.let_go("here")

    for client in (alice, bob, carol):
        end_of(client, turn_id)
    assert not seen_by_others
    assert item["text"] == "and there"
    assert said(carol) == "and there"
    assert said(alice) == said(bob) == "and thereand there"


def test_the_death_of_the_upstream_ends_its_turns_and_it_comes_back(codex_house: LocalHouse) -> None:
    alice, bob, thread_id = two(codex_house)
    alice.run_turn(thread_id, "text first")  # so that it is stored
    bob.drain(thread_id)
    turn_id = alice.start_turn(thread_id, "ask never")
    prompts = [client.wait(APPROVAL) for client in (alice, bob)]

    os.kill(child_of(codex_house), signal.SIGKILL)

    for client, prompt in zip((alice, bob), prompts, strict=True):
        client.wait("serverRequest/resolved", requestId=prompt["id"])
        client.wait("error", turnId=turn_id)
        assert end_of(client, turn_id)["status"] == "failed"
    # Nobody resumes: that is for the gateway to do.
    request_when_up(alice, "thread/loaded/list")
    assert alice.run_turn(thread_id, "text second")["status"] == "completed"
    bob.wait_for(
        lambda m: m.get("method") == "item/completed" and m["params"]["item"].get("text") == "second"
    )
    turns = bob.request("thread/resume", threadId=thread_id)["thread"]["turns"]
    assert [turn["status"] for turn in turns][::2] == ["completed"] * 2


def test_the_upstream_ends_by_itself_when_the_server_stops(
    codex_house: LocalHouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alice, bob, thread_id = two(codex_house)
    alice.start_turn(thread_id, "hold for ever")
    alice.wait("turn/started")
    pid = child_of(codex_house)

    codex_house.server.stop(grace_s=0)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not [record for record in caplog.records if "SIGTERM" in record.message]
    for client in (alice, bob):
        client.wait_closed()
        ends = [message for message in client.arrived if message.get("method") == "turn/completed"]
        assert [(thread_of(end), end["params"]["turn"]["status"]) for end in ends] == [
            (thread_id, "interrupted")
        ]
