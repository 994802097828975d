"""Looking at threads: what is loaded, what is in one, and what a resume tells and does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Serve
from helpers import UNKNOWN_ID, methods
from houses import LocalHouse


def test_loaded_threads_are_listed_all_at_once_or_page_by_page(house: LocalHouse) -> None:
    client = house.connect()
    threads = sorted(client.start_thread() for _ in range(5))
    assert client.request("thread/loaded/list") == {"data": threads, "nextCursor": None}
    seen, cursor = [], None
    while True:
        page = client.request("thread/loaded/list", limit=2, cursor=cursor)
        seen.append(page["data"])
        if (cursor := page["nextCursor"]) is None:
            break
    assert seen == [threads[:2], threads[2:4], threads[4:]]


def test_a_thread_is_read_with_its_turns_if_they_are_wanted(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread(cwd="/srv")
    client.run_turn(thread_id, "text hello")
    bare = client.request("thread/read", threadId=thread_id)["thread"]
    assert (bare["id"], bare["cwd"], bare["preview"], bare["turns"]) == (thread_id, "/srv", "text hello", [])
    for wanted in (False, None):
        assert client.request("thread/read", threadId=thread_id, includeTurns=wanted)["thread"] == bare
    [turn] = client.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]["turns"]
    assert [item["type"] for item in turn["items"]] == ["userMessage", "agentMessage"]
    assert (turn["status"], turn["itemsView"]) == ("completed", "full")


def test_a_thread_that_nobody_knows_cannot_be_read_or_named(house: LocalHouse) -> None:
    client = house.connect()
    assert client.refused("thread/read", threadId=UNKNOWN_ID)["message"] == f"thread not loaded: {UNKNOWN_ID}"
    error = client.refused("thread/name/set", threadId=UNKNOWN_ID, name="x")
    assert error["message"] == f"no rollout found for thread id {UNKNOWN_ID}"
    thread_id = client.start_thread()
    error = client.refused("thread/name/set", threadId=thread_id, name="  ")
    assert error == {"code": -32600, "message": "thread name must not be empty"}


def test_an_ephemeral_thread_is_joined_like_any_other(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.request("thread/start", ephemeral=True)["thread"]["id"]
    assert bob.resume(thread_id)["ephemeral"] is True
    alice.run_turn(thread_id, "text hello")
    bob.wait("turn/completed")
    assert len(bob.resume(thread_id)["turns"]) == 1


def test_a_resume_tells_nobody_of_anything(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text hello")
    alice.drain(thread_id)
    bob.drain()
    bob.resume(thread_id)
    bob.resume(thread_id)
    bob.expect_nothing(thread_id)
    alice.expect_nothing(thread_id)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_resume_that_names_other_settings_says_that_it_ignores_them(
    serve: Serve, store: Path, *, is_loaded: bool
) -> None:
    house = serve(store=store, unload_after_s=60.0 if is_loaded else 0.0)
    alice, bob = house.connect("alice"), house.connect("bob")
    started = alice.request("thread/start", cwd="/srv", model="m")
    thread_id = started["thread"]["id"]
    alice.run_turn(thread_id, "text hello")
    alice.request("thread/unsubscribe", threadId=thread_id)
    if not is_loaded:
        bob.wait("thread/closed")

    answer = bob.request(
        "thread/resume", threadId=thread_id, cwd="/", model="m", approvalPolicy="never", sandbox="read-only"
    )

    settings = ("cwd", "model", "approvalPolicy", "sandbox")
    assert [answer[name] for name in settings] == [started[name] for name in settings]
    warning = bob.wait("warning")
    assert warning["params"] == {
        "threadId": thread_id,
        "message": "thread/resume changes no settings, and ignores `cwd`, `approvalPolicy`, `sandbox`: "
        "turn/start changes them",
    }
    assert "warning" not in methods(alice.drain(thread_id))


def test_a_resume_that_names_the_settings_there_are_warns_of_nothing(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    started = alice.request("thread/start", cwd="/srv")
    bob.request(
        "thread/resume",
        threadId=started["thread"]["id"],
        cwd="/srv",
        model=started["model"],
        approvalPolicy="untrusted",
        approvalsReviewer="user",
    )
    assert "warning" not in methods(bob.drain(started["thread"]["id"]))
