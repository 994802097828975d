"""A thread may be longer than what is loaded of it: clients and agents see all of it all the same."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import Serve
from helpers import Client, Message
from history.test_lists import unload, walk
from houses import LocalHouse, Play, Puppets
from trunkline import Limits, Turn
from trunkline.conversation import History
from trunkline.local.engine import LocalEngine
from trunkline.protocol.ids import uuid7
from trunkline.store import reader, schema, sqlite
from trunkline.store.base import LoadThread, ThreadRecord, TurnRecord
from trunkline.types import ThreadId, TurnId
from wires import PATIENCE_S

SNAPSHOT_BYTES = 20_000
TURNS = 10


@pytest.fixture
def house(serve: Serve, store: Path, puppets: Puppets) -> LocalHouse:
    """A server that loads about three turns of those below."""
    return serve(agent=puppets, store=store, unload_after_s=0, limits=Limits(snapshot_bytes=SNAPSHOT_BYTES))


def run_turn(client: Client, puppets: Puppets, thread_id: str, size: int = 5_000) -> str:
    turn_id = client.start_turn(thread_id, "x")
    play = puppets.next()
    play.speak("y" * size)
    play.end()
    client.wait_turn(turn_id)
    return turn_id


@pytest.fixture
def long(house: LocalHouse, puppets: Puppets) -> tuple[Client, str, list[str]]:
    """A client, and a thread that was unloaded after its turns."""
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    turn_ids = [run_turn(alice, puppets, thread_id) for _ in range(TURNS)]
    unload(alice, thread_id)
    return alice, thread_id, turn_ids


def turns_in_memory(house: LocalHouse, thread_id: str) -> int:
    """Look how many turns of a thread are loaded."""
    engine = house.thread(thread_id)._engine
    assert isinstance(engine, LocalEngine)
    return len(engine._conversation._conversation.turns)


def ids(entries: list[Message]) -> list[str]:
    return [(entry.get("item") or entry)["id"] for entry in entries]


@pytest.mark.parametrize("method", ["thread/turns/list", "thread/items/list"])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_go_on_from_what_is_loaded_to_what_is_not(
    house: LocalHouse, long: tuple[Client, str, list[str]], method: str, limit: int
) -> None:
    alice, thread_id, turn_ids = long
    unloaded = {way: walk(alice, method, limit, threadId=thread_id, sortDirection=way) for way in WAYS}
    assert ids(unloaded["asc"]) == ids(unloaded["desc"])[::-1]
    if method == "thread/turns/list":
        assert ids(unloaded["asc"]) == turn_ids

    answer = alice.request("thread/resume", threadId=thread_id)

    loaded_turns = [turn["id"] for turn in answer["thread"]["turns"]]
    assert 1 < len(loaded_turns) < TURNS
    assert loaded_turns == turn_ids[-len(loaded_turns) :]
    assert answer["olderItemsCursor"] is not None
    assert turns_in_memory(house, thread_id) < TURNS
    for way in WAYS:
        assert walk(alice, method, limit, threadId=thread_id, sortDirection=way) == unloaded[way]


WAYS = ("asc", "desc")


@pytest.mark.parametrize("method", ["thread/turns/list", "thread/items/list"])
def test_a_cursor_stays_valid_whether_the_thread_is_loaded_or_not_and_while_it_grows(
    long: tuple[Client, str, list[str]], puppets: Puppets, method: str
) -> None:
    alice, thread_id, _ = long
    whole = walk(alice, method, 100, threadId=thread_id, sortDirection="asc")
    found: list[Message] = []
    cursor = None
    for number in range(len(whole)):
        page = alice.request(method, threadId=thread_id, limit=1, cursor=cursor, sortDirection="asc")
        found += page["data"]
        cursor = page["nextCursor"]
        if number % 3 == 0:
            alice.request("thread/resume", threadId=thread_id)
            if number < 7:
                run_turn(alice, puppets, thread_id, 100)
            unload(alice, thread_id)
    assert ids(found) == ids(whole)
    assert cursor is not None, "what was added is behind it"


@pytest.mark.parametrize("method", ["thread/turns/list", "thread/items/list"])
def test_a_page_backwards_from_any_place_has_what_is_before_it(
    long: tuple[Client, str, list[str]], method: str
) -> None:
    alice, thread_id, _ = long
    whole = ids(walk(alice, method, 100, threadId=thread_id, sortDirection="asc"))
    alice.request("thread/resume", threadId=thread_id)
    cursor = None
    for place in range(len(whole)):
        page = alice.request(method, threadId=thread_id, limit=1, cursor=cursor, sortDirection="asc")
        back = walk_from(alice, method, thread_id, page["backwardsCursor"])
        assert back == whole[: place + 1][::-1]
        cursor = page["nextCursor"]
    assert cursor is None


def walk_from(client: Client, method: str, thread_id: str, cursor: str | None) -> list[str]:
    found: list[str] = []
    while cursor is not None:
        page = client.request(method, threadId=thread_id, limit=7, cursor=cursor, sortDirection="desc")
        found += ids(page["data"])
        cursor = page["nextCursor"]
    return found


def test_items_of_one_turn_are_listed_wherever_they_are(long: tuple[Client, str, list[str]]) -> None:
    alice, thread_id, turn_ids = long
    alice.request("thread/resume", threadId=thread_id)
    for turn_id in turn_ids:
        for way in WAYS:
            listed = walk(
                alice, "thread/items/list", 1, threadId=thread_id, turnId=turn_id, sortDirection=way
            )
            types = [entry["item"]["type"] for entry in listed]
            assert types == ["userMessage", "agentMessage"][:: 1 if way == "asc" else -1]
            assert {entry["turnId"] for entry in listed} == {turn_id}


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_page_carries_no_more_bytes_than_an_answer_may(
    long: tuple[Client, str, list[str]], is_loaded: bool
) -> None:
    alice, thread_id, _ = long
    if is_loaded:
        alice.request("thread/resume", threadId=thread_id)
    for method, more in (("thread/items/list", {}), ("thread/turns/list", {"itemsView": "full"})):
        page = alice.request(method, threadId=thread_id, limit=100, **more)
        assert 0 < len(page["data"]) < TURNS
        assert len(walk(alice, method, 100, threadId=thread_id, **more)) in (TURNS, 2 * TURNS)


def say_one_message(play: Play, text: str) -> None:
    """Say a text, complete the message, and wait until that is done."""
    done = threading.Event()

    def say(turn: Turn) -> None:
        turn.complete_item(turn.start_item("agentMessage", text=text, phase=None))
        done.set()

    play.do(say)
    assert done.wait(PATIENCE_S)


def test_a_turn_that_is_larger_than_an_answer_comes_with_its_end(house: LocalHouse, puppets: Puppets) -> None:
    alice = house.connect()
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "x")
    play = puppets.next()
    for _ in range(6):
        say_one_message(play, "z" * 5_000)
    play.end()
    alice.wait_turn(turn_id)
    for _ in range(2):  # loaded, and not
        (turn,) = alice.request("thread/turns/list", threadId=thread_id, itemsView="full")["data"]
        assert turn["itemsView"] == "summary"
        assert 0 < len(turn["items"]) < 6
        if house.router._threads:
            unload(alice, thread_id)
    assert len(walk(alice, "thread/items/list", 100, threadId=thread_id)) == 7


def test_a_thread_that_stays_loaded_takes_no_more_memory_the_longer_it_gets(
    house: LocalHouse, puppets: Puppets
) -> None:
    alice = house.connect()
    thread_id = alice.start_thread()
    turn_ids = []
    for _ in range(3 * TURNS):
        turn_ids.append(run_turn(alice, puppets, thread_id))
        assert turns_in_memory(house, thread_id) < TURNS
    assert ids(walk(alice, "thread/turns/list", 7, threadId=thread_id)) == turn_ids[::-1]
    assert len(walk(alice, "thread/items/list", 7, threadId=thread_id)) == 2 * len(turn_ids)
    alice.request("thread/revert", threadId=thread_id, beforeTurnId=turn_ids[TURNS])
    turn_ids[TURNS:] = [run_turn(alice, puppets, thread_id) for _ in range(TURNS)]
    assert ids(walk(alice, "thread/turns/list", 7, threadId=thread_id)) == turn_ids[::-1]


@pytest.mark.parametrize("index", [0, 3, TURNS - 2])
def test_a_revert_reaches_what_is_not_loaded(
    house: LocalHouse, long: tuple[Client, str, list[str]], puppets: Puppets, index: int
) -> None:
    alice, thread_id, turn_ids = long
    bob = house.connect("bob")
    for client in (alice, bob):
        client.request("thread/resume", threadId=thread_id)

    answer = alice.request("thread/revert", threadId=thread_id, beforeTurnId=turn_ids[index])

    assert answer["thread"]["turns"] == []
    bob.wait("thread/reverted")
    assert ids(walk(bob, "thread/turns/list", 4, threadId=thread_id, sortDirection="asc")) == turn_ids[:index]
    new_id = run_turn(alice, puppets, thread_id)
    bob.wait_turn(new_id)
    for client in (alice, bob):
        client.request("thread/unsubscribe", threadId=thread_id)
    bob.wait("thread/closed")
    left = ids(walk(bob, "thread/turns/list", 4, threadId=thread_id, sortDirection="asc"))
    assert left == [*turn_ids[:index], new_id]


def test_a_revert_to_nowhere_in_a_long_thread_is_refused_and_it_goes_on(
    long: tuple[Client, str, list[str]], puppets: Puppets
) -> None:
    alice, thread_id, turn_ids = long
    alice.request("thread/resume", threadId=thread_id)
    requests = [alice.begin("thread/revert", threadId=thread_id, beforeTurnId=turn) for turn in ("0", "x")]
    read = alice.begin("thread/read", threadId=thread_id)
    for request, turn in zip(requests, ("0", "x"), strict=True):
        assert alice.response(request)["error"]["message"] == f"turn not found: {turn}"
    assert alice.response(read)["result"]["thread"]["id"] == thread_id
    run_turn(alice, puppets, thread_id)
    assert len(walk(alice, "thread/turns/list", 100, threadId=thread_id)) == len(turn_ids) + 1


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("is_ephemeral", [True, False])
def test_a_fork_has_what_is_not_loaded_of_its_source(
    long: tuple[Client, str, list[str]], puppets: Puppets, is_loaded: bool, is_ephemeral: bool
) -> None:
    alice, thread_id, turn_ids = long
    if is_loaded:
        alice.request("thread/resume", threadId=thread_id)
    whole = alice.request("thread/fork", threadId=thread_id, ephemeral=is_ephemeral)["thread"]["id"]
    part = alice.request("thread/fork", threadId=thread_id, ephemeral=is_ephemeral, lastTurnId=turn_ids[2])[
        "thread"
    ]["id"]
    for fork, expected in ((whole, turn_ids), (part, turn_ids[:3])):
        assert ids(walk(alice, "thread/turns/list", 100, threadId=fork, sortDirection="asc")) == expected
        source_items = ids(walk(alice, "thread/items/list", 100, threadId=thread_id))
        assert ids(walk(alice, "thread/items/list", 3, threadId=fork)) == source_items[: 2 * len(expected)]
    error = alice.refused("thread/fork", threadId=thread_id, ephemeral=is_ephemeral, lastTurnId="x")
    assert error["message"] == "turn not found: x"


def test_an_agent_has_the_whole_history(long: tuple[Client, str, list[str]], puppets: Puppets) -> None:
    alice, thread_id, _ = long
    told = ids(walk(alice, "thread/items/list", 100, threadId=thread_id))
    alice.request("thread/resume", threadId=thread_id)
    alice.start_turn(thread_id, "x")
    history = puppets.next().turn.history
    assert history[-1]["id"] == told[-1]
    assert [item["id"] for item in history] == told
    assert len(history) == len(told)
    assert history[0]["id"] == told[0]


def test_a_history_is_read_when_it_is_looked_at() -> None:
    read: list[str] = []

    def newest() -> list[bytes]:
        read.append("newest")
        return [b'{"id":"c"}']

    def older() -> list[bytes]:
        read.append("older")
        return [b'{"id":"a"}', b'{"id":"b"}']

    history = History(newest, older)
    assert read == []
    assert history[-1] == {"id": "c"}
    assert read == ["newest"]
    assert [item["id"] for item in history[1:]] == ["b", "c"]
    assert (len(history), read) == (3, ["newest", "older"])


# A history of a hundred megabytes

LARGE_TURNS, LARGE_ITEMS, LARGE_BYTES = 1_000, 10, 10_000


def make_large(path: Path) -> ThreadId:
    """Write a store with one thread of 100 MB into a file."""
    thread_id = ThreadId(uuid7())
    record = ThreadRecord(
        thread_id, thread_id, "/", created_at=1, updated_at=1, preview="large", epoch=uuid7(), seq_bound=1
    )
    with closing(schema.open_writer(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO threads VALUES (?, 1, 1, 0, '/', 'local', NULL, 'large', ?)",
            (thread_id, msgspec.json.encode(record)),
        )
        turn_ids = [TurnId(uuid7()) for _ in range(LARGE_TURNS)]
        connection.executemany(
            "INSERT INTO turns VALUES (?, ?, ?)",
            (
                (thread_id, turn_id, msgspec.json.encode(TurnRecord(turn_id, "completed", 1, 1, 1)))
                for turn_id in turn_ids
            ),
        )
        connection.executemany(
            "INSERT INTO items (thread_id, turn_id, position, id, payload) VALUES (?, ?, ?, ?, ?)",
            large_items(thread_id, turn_ids),
        )
        connection.execute("COMMIT")
    return thread_id


def large_items(thread_id: str, turn_ids: list[TurnId]) -> Iterator[tuple[object, ...]]:
    text = b"x" * LARGE_BYTES
    for turn_id in turn_ids:
        for position in range(LARGE_ITEMS):
            item_id = f"{turn_id}-{position}"
            payload = b'{"type":"agentMessage","id":"%b","text":"%b"}' % (item_id.encode(), text)
            yield thread_id, turn_id, position, item_id, payload


class Gate:
    """Holds the store's reader when it reads a thread, until it is opened."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.is_reading = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection: sqlite3.Connection, question: object) -> Any:
        if isinstance(question, LoadThread):
            self.is_reading.set()
            assert self.opened.wait(PATIENCE_S)
        return self.answer(connection, question)


def test_a_resume_of_a_huge_thread_holds_up_nobody_and_brings_its_end(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "threads.sqlite"
    huge = make_large(path)
    assert path.stat().st_size > 100_000_000
    gate = Gate(reader.answer)
    monkeypatch.setattr(sqlite, "answer", gate)
    house = serve(store=path)
    alice = house.connect("alice")
    small = alice.start_thread()

    # While the store reads, other requests of this connection are answered, and other threads' events come.
    resume = alice.begin("thread/resume", threadId=huge)
    assert gate.is_reading.wait(PATIENCE_S)
    assert alice.run_turn(small, "say 20 10")["status"] == "completed"
    assert alice.request("thread/loaded/list")["data"] == [small]
    gate.opened.set()

    answer = alice.response(resume)["result"]
    turns = answer["thread"]["turns"]
    assert 0 < len(turns) * LARGE_ITEMS * LARGE_BYTES <= Limits().snapshot_bytes
    assert turns_in_memory(house, huge) == len(turns)
    cursor = answer["olderItemsCursor"]
    page = alice.request("thread/items/list", threadId=huge, cursor=cursor, limit=2, sortDirection="desc")
    assert len(page["data"]) == 2
    first = alice.request("thread/items/list", threadId=huge, limit=100)["data"]
    assert first[0]["item"]["id"].endswith("-0")
    assert answer["olderTurnsCursor"] is not None
    assert alice.run_turn(huge, "text and on")["status"] == "completed"
    page = alice.request("thread/resume", threadId=huge, excludeTurns=True)
    assert page["thread"]["turns"] == []


def test_clients_that_close_while_a_revert_reads_the_store_are_not_subscribed_by_it(
    house: LocalHouse, long: tuple[Client, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, thread_id, turn_ids = long
    alice.resume(thread_id)
    bob, carol = house.connect("bob"), house.connect("carol")
    gate = Gate(reader.answer)
    monkeypatch.setattr(sqlite, "answer", gate)
    bob.begin("thread/revert", threadId=thread_id, beforeTurnId=turn_ids[1])
    assert gate.is_reading.wait(PATIENCE_S)
    carol.begin("thread/resume", threadId=thread_id)
    carol.fence()

    for client in (bob, carol):
        house.lose(client)
    alice.fence()  # the thread is told before the store is read
    gate.opened.set()

    alice.wait("thread/reverted", threadId=thread_id)
    thread = alice.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]
    assert ([turn["id"] for turn in thread["turns"]], thread["subscriberCount"]) == (turn_ids[:1], 1)
