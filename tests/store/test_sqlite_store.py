"""The store by itself: threads do not concern each other, and none has a hole."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pykka
import pytest

from trunkline.protocol.ids import uuid7
from trunkline.store import checkpoints
from trunkline.store.base import (
    Commit,
    Committed,
    ItemPlace,
    ItemQuery,
    ListItems,
    ListTurns,
    Loaded,
    LoadThread,
    ReleaseThread,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoredItem,
    StoreFailed,
    ThreadRecord,
    TurnQuery,
    TurnRecord,
)
from trunkline.store.sqlite import SqliteStore
from trunkline.types import ThreadId, TurnId
from wires import PATIENCE_S

TURN = TurnId("01900000-0000-7000-8000-000000000001")


class Desk:
    """Asks a store, and has its answers."""

    def __init__(self, path: Path | None) -> None:
        self.store = SqliteStore.start(path)
        self.actor_stopped = threading.Event()
        self.actor_inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ref = cast("pykka.ActorRef[Any]", self)

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.store.tell(message)

    def answer(self) -> Any:
        return self.actor_inbox.get(timeout=PATIENCE_S).message

    def commit(self, thread_id: ThreadId) -> object:
        self.tell(Commit(thread_id, self.ref))
        return self.answer()

    def load(self, thread_id: ThreadId, *, is_for_writing: bool = False) -> Loaded:
        self.tell(LoadThread(thread_id, is_for_writing, self.ref, 1))
        loaded: Loaded = self.answer()
        return loaded


@pytest.fixture(params=["memory", "sqlite"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(None if request.param == "memory" else tmp_path / "threads.sqlite")
    yield desk
    desk.store.stop()


def new_record(cwd: str = "/") -> ThreadRecord:
    thread_id = ThreadId(uuid7())
    return ThreadRecord(thread_id, thread_id, cwd, created_at=1, updated_at=1)


def item(position: int, size: int = 10) -> StoredItem:
    payload = b'{"type":"agentMessage","id":"%d","text":"%b"}' % (position, b"x" * size)
    return StoredItem(str(position), payload, position)


def save_turn(thread_id: ThreadId) -> SaveTurn:
    return SaveTurn(thread_id, TurnRecord(TURN, "completed", 1))


def test_a_thread_that_cannot_be_written_takes_no_other_with_it(desk: Desk) -> None:
    good, bad = new_record(), new_record(cwd="\ud800")  # which is no text that could be written
    desk.tell(SaveThread(good), SaveThread(bad), save_turn(bad.id), save_turn(good.id))
    assert isinstance(desk.commit(bad.id), StoreFailed)
    assert desk.commit(good.id) == Committed()
    stored = desk.load(good.id).thread
    assert stored is not None
    assert [turn.record.id for turn in stored.turns] == [TURN]
    assert desk.load(bad.id).thread is None


def test_what_follows_a_write_that_failed_is_not_written_until_the_thread_is_released(desk: Desk) -> None:
    record = new_record()
    desk.tell(SaveThread(record), save_turn(record.id))
    assert desk.commit(record.id) == Committed()
    broken = StoredItem("\ud800", b"{}", 0)
    desk.tell(SaveItem(record.id, TURN, broken))
    assert isinstance(desk.commit(record.id), StoreFailed)
    desk.tell(SaveItem(record.id, TURN, item(1)))
    desk.load(record.id)  # somebody who reads changes nothing
    assert isinstance(desk.commit(record.id), StoreFailed)
    assert desk.load(record.id).thread == desk.load(record.id).thread
    desk.tell(ReleaseThread(record.id))
    stored = desk.load(record.id, is_for_writing=True).thread
    assert stored is not None
    assert stored.turns[0].items == ()
    desk.tell(SaveItem(record.id, TURN, item(2)))
    assert desk.commit(record.id) == Committed()


def test_items_keep_their_places_over_gaps(desk: Desk) -> None:
    """A place is what a cursor is made of."""
    record = new_record()
    desk.tell(SaveThread(record), save_turn(record.id))
    desk.tell(*(SaveItem(record.id, TURN, item(position)) for position in (0, 2, 5)))
    stored = desk.load(record.id).thread
    assert stored is not None
    assert [each.position for each in stored.turns[0].items] == [0, 2, 5]
    desk.tell(ListItems(record.id, ItemQuery(1), desk.ref, 1))
    cursor = desk.answer().next_cursor
    desk.tell(SaveItem(record.id, TURN, item(1)))
    desk.tell(ListItems(record.id, ItemQuery(9, cursor), desk.ref, 1))
    assert [each.position for _, each in desk.answer().items] == [1, 2, 5]


def test_a_read_that_ends_at_a_place_says_where_it_goes_on(desk: Desk) -> None:
    record = new_record()
    desk.tell(SaveThread(record), save_turn(record.id))
    desk.tell(*(SaveItem(record.id, TURN, item(position)) for position in range(5)))
    desk.tell(ListItems(record.id, ItemQuery(9, before=ItemPlace(TURN, 3)), desk.ref, 1))
    listed = desk.answer()
    assert [each.position for _, each in listed.items] == [0, 1, 2]
    desk.tell(ListItems(record.id, ItemQuery(9, listed.next_cursor), desk.ref, 1))
    assert [each.position for _, each in desk.answer().items] == [3, 4]
    desk.tell(ListTurns(record.id, TurnQuery(9, is_descending=False, before=TURN), desk.ref, 1))
    listed = desk.answer()
    assert (listed.turns, listed.next_cursor) == ((), f"={TURN}")


def test_the_log_of_writes_goes_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would grow for as long as the server runs."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 1_000_000)
    monkeypatch.setattr(checkpoints, "LOG_BYTES", 4_000_000)
    path = tmp_path / "threads.sqlite"
    desk = Desk(path)
    record = new_record()
    desk.tell(SaveThread(record), save_turn(record.id))
    deadline = time.monotonic() + PATIENCE_S
    position = 0
    while path.stat().st_size < 10_000_000:
        position += 1
        desk.tell(SaveItem(record.id, TURN, item(position, 20_000)))
        assert desk.commit(record.id) == Committed()
        assert time.monotonic() < deadline, "nothing goes into the file"
    desk.store.stop()


def test_the_newest_items_are_read_as_far_as_there_is_room(desk: Desk) -> None:
    record = new_record()
    desk.tell(SaveThread(record), save_turn(record.id))
    desk.tell(*(SaveItem(record.id, TURN, item(position, 1_000)) for position in range(5)))
    desk.tell(LoadThread(record.id, False, desk.ref, 1, max_item_bytes=2 * 1_000 + 2 * 512 + 200))
    stored = desk.answer().thread
    assert [each.position for each in stored.turns[0].items] == [3, 4]
    assert stored.left_out == ItemPlace(TURN, 2)
