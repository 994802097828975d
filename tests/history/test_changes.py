"""Fork, revert, archive, unarchive, delete, rename: what becomes of the thread, and who is told."""

from __future__ import annotations

import pytest

from helpers import Client
from houses import LocalHouse


def turn_ids(client: Client, thread_id: str) -> list[str]:
    page = client.request("thread/turns/list", threadId=thread_id, sortDirection="asc")
    return [turn["id"] for turn in page["data"]]


def unload(client: Client, thread_id: str) -> None:
    client.request("thread/unsubscribe", threadId=thread_id)
    client.wait("thread/closed", threadId=thread_id)


def with_turns(client: Client, count: int) -> str:
    thread_id = client.start_thread()
    for number in range(count):
        client.run_turn(thread_id, f"text answer {number}")
    return thread_id


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_fork_has_the_past_and_a_future_of_its_own(kept: LocalHouse, is_loaded: bool) -> None:
    alice, bob = kept.connect("alice"), kept.connect("bob")
    source = with_turns(alice, 3)
    ids = turn_ids(alice, source)
    if not is_loaded:
        unload(alice, source)

    answer = bob.request("thread/fork", threadId=source, lastTurnId=ids[1])

    fork = answer["thread"]["id"]
    assert answer["thread"]["forkedFromId"] == source
    assert [turn["id"] for turn in answer["thread"]["turns"]] == ids[:2]
    assert bob.wait("thread/started")["params"]["thread"]["id"] in (source, fork)
    bob.run_turn(fork, "text onwards")
    assert len(turn_ids(bob, fork)) == 3
    assert turn_ids(alice, source) == ids
    unload(bob, fork)
    assert len(bob.request("thread/resume", threadId=fork)["thread"]["turns"]) == 3


def test_the_caller_of_a_fork_is_subscribed_to_the_fork_only(loaded: LocalHouse) -> None:
    alice, bob = loaded.connect("alice"), loaded.connect("bob")
    source = with_turns(alice, 1)
    fork = bob.request("thread/fork", threadId=source)["thread"]["id"]

    alice.run_turn(source, "text in the source")
    bob.fence(source)
    told = {event["method"] for event in bob.events_of(source)}
    assert told <= {"thread/started", "thread/status/changed"}
    assert bob.request("thread/unsubscribe", threadId=source)["status"] == "notSubscribed"
    assert bob.request("thread/unsubscribe", threadId=fork)["status"] == "unsubscribed"


def test_a_fork_of_a_running_thread_is_interrupted_and_the_source_runs_on(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "text one\nask something\ntext two")
    prompt = alice.wait("item/commandExecution/requestApproval")

    error = alice.refused("thread/fork", threadId=thread_id, lastTurnId=turn_id)
    assert error["message"] == f"lastTurnId '{turn_id}' identifies an in-progress turn"
    (turn,) = alice.request("thread/fork", threadId=thread_id)["thread"]["turns"]
    assert turn["status"] == "interrupted"
    assert [item["type"] for item in turn["items"]] == ["userMessage", "agentMessage"]

    alice.decide(prompt)
    assert alice.wait_turn(turn_id)["status"] == "completed"


def test_forks_that_cannot_be_are_refused(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = with_turns(alice, 1)
    assert alice.refused("thread/fork", threadId=thread_id, lastTurnId="x")["message"] == "turn not found: x"
    ephemeral = alice.start_thread(ephemeral=True)
    no_rollout = f"no rollout found for thread id {ephemeral}"
    assert alice.refused("thread/fork", threadId=ephemeral)["message"] == no_rollout
    kept_out = alice.request("thread/fork", threadId=thread_id, ephemeral=True)["thread"]
    assert kept_out["ephemeral"]
    assert [thread["id"] for thread in alice.request("thread/list")["data"]] == [thread_id]


def test_a_revert_drops_the_turn_and_all_later_ones(kept: LocalHouse) -> None:
    alice, bob = kept.connect("alice"), kept.connect("bob")
    thread_id = with_turns(alice, 3)
    ids = turn_ids(alice, thread_id)

    answer = bob.request("thread/revert", threadId=thread_id, beforeTurnId=ids[1])

    assert answer["thread"]["turns"] == []
    for client in (alice, bob):
        assert client.wait("thread/reverted")["params"] == {"threadId": thread_id}
    assert turn_ids(alice, thread_id) == ids[:1]
    alice.run_turn(thread_id, "text anew")
    assert bob.wait("turn/completed")["params"]["threadId"] == thread_id  # the caller is subscribed
    bob.request("thread/unsubscribe", threadId=thread_id)
    unload(alice, thread_id)
    assert len(turn_ids(alice, thread_id)) == 2


def test_a_revert_interrupts_the_running_turn(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = with_turns(alice, 1)
    turn_id = alice.start_turn(thread_id, "sleep 1000")

    alice.request("thread/revert", threadId=thread_id, beforeTurnId=turn_id)

    assert alice.wait_turn(turn_id)["status"] == "interrupted"
    assert turn_id not in turn_ids(alice, thread_id)


def test_a_revert_to_nowhere_is_refused(kept: LocalHouse) -> None:
    alice = kept.connect()
    thread_id = with_turns(alice, 1)
    error = alice.refused("thread/revert", threadId=thread_id, beforeTurnId="x")
    assert error["message"] == "turn not found: x"
    unload(alice, thread_id)
    error = alice.refused("thread/revert", threadId=thread_id, beforeTurnId="x")
    assert error["message"] == f"thread not found: {thread_id}"


def test_an_archive_ends_the_turn_and_every_subscription(kept: LocalHouse) -> None:
    alice, bob = kept.connect("alice"), kept.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "sleep 1000")

    assert bob.request("thread/archive", threadId=thread_id) == {}

    assert alice.wait_turn(turn_id)["status"] == "interrupted"
    statuses = [
        event["params"]["status"]["type"]
        for event in alice.arrived
        if event.get("method") == "thread/status/changed"
    ]
    assert statuses == ["active", "idle", "notLoaded"]
    for client in (alice, bob):
        assert client.wait("thread/archived")["params"] == {"threadId": thread_id}
        assert "thread/closed" not in client.methods()
    assert alice.request("thread/unsubscribe", threadId=thread_id)["status"] == "notLoaded"
    assert alice.refused("thread/resume", threadId=thread_id)["message"] == (
        f"session {thread_id} is archived. Run `codex unarchive {thread_id}` to unarchive it first."
    )
    no_rollout = f"no rollout found for thread id {thread_id}"
    assert alice.refused("thread/archive", threadId=thread_id)["message"] == no_rollout
    assert alice.request("thread/list")["data"] == []
    assert [thread["id"] for thread in alice.request("thread/list", archived=True)["data"]] == [thread_id]


@pytest.mark.parametrize("is_loaded", [True, False])
def test_what_was_archived_comes_back(kept: LocalHouse, is_loaded: bool) -> None:
    alice, bob = kept.connect("alice"), kept.connect("bob")
    thread_id = with_turns(alice, 2)
    if not is_loaded:
        unload(alice, thread_id)
    alice.request("thread/archive", threadId=thread_id)

    answer = bob.request("thread/unarchive", threadId=thread_id)

    assert answer["thread"]["status"] == {"type": "notLoaded"}
    for client in (alice, bob):
        assert client.wait("thread/unarchived")["params"] == {"threadId": thread_id}
    error = bob.refused("thread/unarchive", threadId=thread_id)
    assert error["message"] == f"no archived rollout found for thread id {thread_id}"
    assert len(alice.request("thread/resume", threadId=thread_id)["thread"]["turns"]) == 2


@pytest.mark.parametrize("is_loaded", [True, False])
def test_what_is_deleted_is_gone(kept: LocalHouse, is_loaded: bool) -> None:
    alice, bob = kept.connect("alice"), kept.connect("bob")
    thread_id = with_turns(alice, 2)
    if not is_loaded:
        unload(alice, thread_id)

    assert bob.request("thread/delete", threadId=thread_id) == {}

    for client in (alice, bob):
        assert client.wait("thread/deleted")["params"] == {"threadId": thread_id}
    no_rollout = f"no rollout found for thread id {thread_id}"
    assert alice.refused("thread/resume", threadId=thread_id)["message"] == no_rollout
    assert alice.refused("thread/delete", threadId=thread_id)["message"] == no_rollout
    assert alice.refused("thread/read", threadId=thread_id)["message"] == f"thread not loaded: {thread_id}"
    assert alice.request("thread/list")["data"] == []


def test_an_archived_thread_can_be_deleted(kept: LocalHouse) -> None:
    alice = kept.connect()
    thread_id = with_turns(alice, 1)
    alice.request("thread/archive", threadId=thread_id)
    assert alice.request("thread/delete", threadId=thread_id) == {}
    assert alice.request("thread/list", archived=True)["data"] == []


def test_a_thread_that_is_not_loaded_is_renamed_without_a_word_of_its_loading(kept: LocalHouse) -> None:
    alice = kept.connect()
    thread_id = with_turns(alice, 1)
    unload(alice, thread_id)
    alice.drain()

    alice.request("thread/name/set", threadId=thread_id, name="  better  ")

    event = alice.wait("thread/name/updated")
    assert event["params"] == {"threadId": thread_id, "threadName": "better"}
    assert alice.request("thread/list")["data"][0]["name"] == "better"
    assert "thread/status/changed" not in [event.get("method") for event in alice.drain()]


def test_the_count_of_events_goes_on_when_a_thread_is_loaded_again(kept: LocalHouse) -> None:
    alice = kept.connect()
    thread_id = with_turns(alice, 1)
    unload(alice, thread_id)
    before = [event["seq"] for event in alice.events_of(thread_id)]

    answer = alice.request("thread/resume", threadId=thread_id)
    alice.run_turn(thread_id, "text again")

    after = [event["seq"] for event in alice.events_of(thread_id)][len(before) :]
    assert min(after) > max(before)
    assert answer["seq"] >= max(before)
