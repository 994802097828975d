"""Lists of threads, turns and items: every entry once, in both directions, whether loaded or not."""

from __future__ import annotations

import pytest

from helpers import Client, Message
from houses import LocalHouse


def walk(client: Client, method: str, limit: int, **params: object) -> list[Message]:
    """Go through all pages of a list."""
    entries: list[Message] = []
    cursor = None
    while True:
        page = client.request(method, limit=limit, cursor=cursor, **params)
        assert len(page["data"]) <= limit
        entries += page["data"]
        cursor = page["nextCursor"]
        if cursor is None:
            return entries


def with_turns(client: Client, count: int) -> str:
    thread_id = client.start_thread()
    for number in range(count):
        client.run_turn(thread_id, f"text answer {number}")
    return thread_id


def unload(client: Client, thread_id: str) -> None:
    client.request("thread/unsubscribe", threadId=thread_id)
    client.wait("thread/closed", threadId=thread_id)


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_turns_have_every_turn_once(kept: LocalHouse, limit: int, is_loaded: bool) -> None:
    alice = kept.connect()
    thread_id = with_turns(alice, 5)
    if not is_loaded:
        unload(alice, thread_id)
    newest_first = [turn["id"] for turn in walk(alice, "thread/turns/list", limit, threadId=thread_id)]
    oldest_first = walk(alice, "thread/turns/list", limit, threadId=thread_id, sortDirection="asc")

    assert len(set(newest_first)) == 5
    assert newest_first == sorted(newest_first, reverse=True)
    assert [turn["id"] for turn in oldest_first] == newest_first[::-1]


def test_a_backwards_cursor_goes_back_from_the_first_entry_on(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = with_turns(alice, 4)
    ids = [turn["id"] for turn in walk(alice, "thread/turns/list", 100, threadId=thread_id)]
    first = alice.request("thread/turns/list", threadId=thread_id, limit=2)
    second = alice.request("thread/turns/list", threadId=thread_id, limit=2, cursor=first["nextCursor"])

    back = alice.request(
        "thread/turns/list", threadId=thread_id, sortDirection="asc", cursor=second["backwardsCursor"]
    )

    assert [turn["id"] for turn in back["data"]] == ids[2::-1]


def test_a_view_says_which_items_come_with_a_turn(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text one\ntext two")

    def types(view: str | None) -> list[str]:
        (turn,) = alice.request("thread/turns/list", threadId=thread_id, itemsView=view)["data"]
        assert turn["itemsView"] == (view or "summary")
        return [item["type"] for item in turn["items"]]

    assert types(None) == ["userMessage", "agentMessage"]
    assert types("notLoaded") == []
    assert types("full") == ["userMessage", "agentMessage", "agentMessage"]


@pytest.mark.parametrize("is_loaded", [True, False])
def test_pages_of_items_have_every_item_once_oldest_first(kept: LocalHouse, is_loaded: bool) -> None:
    alice = kept.connect()
    thread_id = with_turns(alice, 3)
    told = [event["params"] for event in alice.arrived if event.get("method") == "item/completed"]
    if not is_loaded:
        unload(alice, thread_id)

    entries = walk(alice, "thread/items/list", 2, threadId=thread_id)

    assert [entry["item"] for entry in entries] == [params["item"] for params in told]
    assert [entry["turnId"] for entry in entries] == [params["turnId"] for params in told]
    backwards = walk(alice, "thread/items/list", 2, threadId=thread_id, sortDirection="desc")
    assert backwards == entries[::-1]
    one_turn = walk(alice, "thread/items/list", 1, threadId=thread_id, turnId=told[0]["turnId"])
    assert one_turn == entries[:2]
    assert walk(alice, "thread/items/list", 1, threadId=thread_id, turnId="none") == []


def test_the_cursors_of_a_resume_begin_with_the_newest(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = with_turns(alice, 2)
    answer = alice.request("thread/resume", threadId=thread_id, excludeTurns=True)
    assert answer["thread"]["turns"] == []

    turns = alice.request(
        "thread/turns/list", threadId=thread_id, cursor=answer["turnsBackwardsCursor"], sortDirection="desc"
    )
    items = alice.request(
        "thread/items/list", threadId=thread_id, cursor=answer["itemsBackwardsCursor"], sortDirection="desc"
    )

    assert len(turns["data"]) == 2
    assert [entry["item"]["type"] for entry in items["data"]] == ["agentMessage", "userMessage"] * 2


def test_a_fresh_thread_has_empty_pages(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    thread_id = alice.start_thread(ephemeral=True)
    for method in ("thread/turns/list", "thread/items/list"):
        page = alice.request(method, threadId=thread_id)
        assert (page["data"], page["nextCursor"], page["backwardsCursor"]) == ([], None, None)


@pytest.mark.parametrize("method", ["thread/turns/list", "thread/items/list"])
def test_a_cursor_that_is_none_of_ours_is_refused_by_name(loaded: LocalHouse, method: str) -> None:
    alice = loaded.connect()
    thread_id = alice.start_thread()
    error = alice.refused(method, threadId=thread_id, cursor="x")
    assert (error["code"], error["message"]) == (-32600, "invalid cursor: x")


def test_pages_of_threads_have_every_thread_once(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    ids = [with_turns(alice, 1) for _ in range(7)]
    alice.start_thread()  # never used: not listed
    ephemeral = alice.start_thread(ephemeral=True)
    alice.run_turn(ephemeral, "text x")

    assert [thread["id"] for thread in walk(alice, "thread/list", 2)] == ids[::-1]
    assert [thread["id"] for thread in walk(alice, "thread/list", 3, sortDirection="asc")] == ids
    assert walk(alice, "thread/list", 100, sortKey="updated_at")[0]["id"] in ids
    first = alice.request("thread/list", limit=2)
    newcomer = with_turns(alice, 1)  # a cursor stays valid while threads are added
    second = alice.request("thread/list", limit=2, cursor=first["nextCursor"])
    assert [thread["id"] for thread in second["data"]] == ids[4:2:-1]
    assert alice.request("thread/list", limit=1)["data"][0]["id"] == newcomer


def test_a_list_of_threads_is_filtered(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    here = alice.start_thread(cwd="/here")
    alice.run_turn(here, "text 100% sure")
    there = alice.start_thread(cwd="/there")
    alice.run_turn(there, "text other")
    alice.request("thread/name/set", threadId=there, name="Named")

    def listed(**params: object) -> list[str]:
        return [thread["id"] for thread in walk(alice, "thread/list", 100, **params)]

    assert listed(cwd="/here") == [here]
    assert listed(cwd=["/here", "/there"]) == [there, here]
    assert listed(searchTerm="100%") == [here]
    assert listed(searchTerm="0%%") == []
    assert listed(searchTerm="Name") == [there]
    assert listed(searchTerm="name") == []
    assert listed(modelProviders=["local"]) == [there, here]
    assert listed(modelProviders=["elsewhere"]) == []
    assert listed(archived=True) == []


def test_a_negative_limit_and_a_bad_cursor_are_refused(loaded: LocalHouse) -> None:
    alice = loaded.connect()
    with_turns(alice, 1)
    assert alice.refused("thread/list", limit=-1)["code"] == -32602
    for cursor in ("x", ">", ">1", ">.x", ">99999999999999999999.x", "=-1.x", ">\u0661.x"):
        error = alice.refused("thread/list", cursor=cursor)
        assert error["message"] == f"invalid cursor: {cursor}"
    assert len(alice.request("thread/list", limit=0)["data"]) == 1
