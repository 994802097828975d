"""Reading the store file: threads, and pages of them, their turns and their items.

Plain functions over a connection, for the one thread of the operating system that it belongs to. A page
and a thread are read only as far as they are shown, however large the thread is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from trunkline.store.base import (
    ITEM_OVERHEAD,
    ItemPlace,
    ItemQuery,
    ItemsListed,
    Listed,
    ListItems,
    ListThreads,
    ListTurns,
    Loaded,
    LoadThread,
    StoredEvents,
    StoredItem,
    StoredThread,
    StoredTurn,
    ThreadQuery,
    ThreadRecord,
    TurnQuery,
    TurnRecord,
    TurnsListed,
    item_type,
)
from trunkline.store.cursors import at, behind, item_key, thread_key
from trunkline.store.queries import items_statement, threads_statement, turns_statement
from trunkline.types import ThreadId, TurnId

__all__ = ["Answer", "Question", "answer"]

Question = LoadThread | ListThreads | ListTurns | ListItems
"""What is answered here."""

Answer = Loaded | Listed | TurnsListed | ItemsListed
"""And with what."""

T = TypeVar("T")


def answer(connection: sqlite3.Connection, question: Question) -> Answer:
    """Answer a question, from one view of all tables.

    Raises:
        Exception: the file cannot be read, or what is in it is not what should be.

    """
    connection.execute("BEGIN")
    try:
        if isinstance(question, LoadThread):
            return _load(connection, question)
        if isinstance(question, ListThreads):
            return _list_threads(connection, question)
        if isinstance(question, ListTurns):
            return _list_turns(connection, question)
        return _list_items(connection, question)
    finally:
        connection.execute("COMMIT")


# One thread


def _load(connection: sqlite3.Connection, question: LoadThread) -> Loaded:
    record = _read_record(connection, question.thread_id)
    if record is None:
        return Loaded(question.token)
    if not question.with_turns:
        return Loaded(question.token, StoredThread(record))
    last_turn_id = question.last_turn_id
    if last_turn_id is not None and not _has_turn(connection, question.thread_id, last_turn_id):
        return Loaded(question.token, is_turn_unknown=True)
    items, left_out = _newest_items(connection, question)
    oldest_id = None
    if left_out is not None:
        oldest_id = next(reversed(items), left_out.turn_id)
    turns = [
        StoredTurn(turn, tuple(items.get(turn.id, ())[::-1]))
        for turn in _turns_between(connection, question.thread_id, oldest_id, last_turn_id)
    ]
    events = _newest_events(connection, record) if question.with_events else ()
    return Loaded(question.token, StoredThread(record, tuple(turns), events, left_out))


def _read_record(connection: sqlite3.Connection, thread_id: ThreadId) -> ThreadRecord | None:
    row = connection.execute("SELECT record FROM threads WHERE id = ?", (thread_id,)).fetchone()
    return None if row is None else _decode(row[0], ThreadRecord)


def _has_turn(connection: sqlite3.Connection, thread_id: ThreadId, turn_id: TurnId) -> bool:
    found = connection.execute("SELECT 1 FROM turns WHERE thread_id = ? AND id = ?", (thread_id, turn_id))
    return found.fetchone() is not None


def _newest_items(
    connection: sqlite3.Connection, question: LoadThread
) -> tuple[dict[TurnId, list[StoredItem]], ItemPlace | None]:
    """Return the newest items, newest first, by turn; and the newest one that was over the limit."""
    room = question.max_item_bytes
    until, values = "", [question.thread_id]
    if question.last_turn_id is not None:
        until = "AND turn_id <= ? "
        values.append(ThreadId(question.last_turn_id))
    rows = connection.execute(
        f"SELECT turn_id, id, payload, position FROM items WHERE thread_id = ? {until}"
        "ORDER BY turn_id DESC, position DESC",
        values,
    )
    items: dict[TurnId, list[StoredItem]] = {}
    for turn_id, *item in rows:
        stored = StoredItem(*item)
        if room is not None:
            room -= len(stored.payload) + ITEM_OVERHEAD
            if room < 0:
                return items, ItemPlace(turn_id, stored.position)
        items.setdefault(turn_id, []).append(stored)
    return items, None


def _newest_events(connection: sqlite3.Connection, record: ThreadRecord) -> tuple[StoredEvents, ...]:
    """Return the events that lead up to the thread's last number without a gap, oldest first."""
    rows = connection.execute(
        "SELECT first_seq, last_seq, data FROM events WHERE thread_id = ? ORDER BY last_seq DESC",
        (record.id,),
    )
    newest_first: list[StoredEvents] = []
    last_seq = record.seq_bound
    for row in rows:
        events = StoredEvents(*row)
        if events.last_seq != last_seq:
            break
        newest_first.append(events)
        last_seq = events.first_seq - 1
    return tuple(newest_first[::-1])


def _turns_between(
    connection: sqlite3.Connection, thread_id: ThreadId, first_id: TurnId | None, last_id: TurnId | None
) -> Iterator[TurnRecord]:
    conditions, values = "", [str(thread_id)]
    for comparison, turn_id in ((">=", first_id), ("<=", last_id)):
        if turn_id is not None:
            conditions += f"AND id {comparison} ? "
            values.append(turn_id)
    rows = connection.execute(f"SELECT record FROM turns WHERE thread_id = ? {conditions}ORDER BY id", values)
    return (_decode(record, TurnRecord) for (record,) in rows)


# Pages


def _list_threads(connection: sqlite3.Connection, question: ListThreads) -> Listed:
    query = question.query
    statement = threads_statement(query)
    if statement is None:
        return Listed(question.token, is_bad_cursor=True)
    rows = connection.execute(*statement).fetchall()
    records = tuple(_decode(row[0], ThreadRecord) for row in rows[: query.limit])
    if not records:
        return Listed(question.token)
    next_cursor = behind(_thread_key(records[-1], query)) if len(rows) > query.limit else None
    return Listed(question.token, records, next_cursor, at(_thread_key(records[0], query)))


def _thread_key(record: ThreadRecord, query: ThreadQuery) -> str:
    time_s = record.created_at if query.sort_key == "created_at" else record.updated_at
    return thread_key((time_s, record.id))


def _list_turns(connection: sqlite3.Connection, question: ListTurns) -> TurnsListed:
    query, thread_id = question.query, question.thread_id
    statement = turns_statement(thread_id, query)
    if statement is None:
        return TurnsListed(question.token, is_bad_cursor=True)
    record = _read_record(connection, thread_id)
    records = [_decode(row[0], TurnRecord) for row in connection.execute(*statement).fetchall()]
    turns: list[StoredTurn] = []
    room = query.max_bytes
    for turn in records[: query.limit]:
        items, size, is_cut = _items_of(connection, thread_id, turn.id, query)
        if room is not None:
            room -= size
            if room < 0 and turns:
                break
        turns.append(StoredTurn(turn, items, is_cut))
    has_more = len(turns) < len(records)
    next_cursor = behind(turns[-1].record.id) if has_more else _at_boundary(query, query.before)
    backwards_cursor = at(turns[0].record.id) if turns else None
    return TurnsListed(question.token, record, tuple(turns), next_cursor, backwards_cursor)


def _items_of(
    connection: sqlite3.Connection, thread_id: ThreadId, turn_id: TurnId, query: TurnQuery
) -> tuple[tuple[StoredItem, ...], int, bool]:
    """Return the items that a view has of a turn, their bytes, and whether some had to be left out."""
    if query.view == "notLoaded":
        return (), 0, False
    place = (thread_id, turn_id)
    newest_first = (StoredItem(*row) for row in connection.execute(f"{_ITEMS} DESC", place))
    if query.view == "summary":
        oldest_first = (StoredItem(*row) for row in connection.execute(f"{_ITEMS} ASC", place))
        ends = (_first(oldest_first, "userMessage"), _first(newest_first, "agentMessage"))
        summary = tuple(item for item in ends if item is not None)
        return summary, sum(len(item.payload) for item in summary), False
    items: list[StoredItem] = []
    size = 0
    for item in newest_first:
        size += len(item.payload)
        if query.max_bytes is not None and size > query.max_bytes:
            return tuple(items[::-1]), size, True
        items.append(item)
    return tuple(items[::-1]), size, False


_ITEMS = "SELECT id, payload, position FROM items WHERE thread_id = ? AND turn_id = ? ORDER BY position"


def _first(items: Iterable[StoredItem], kind: str) -> StoredItem | None:
    return next((item for item in items if item_type(item.payload) == kind), None)


def _list_items(connection: sqlite3.Connection, question: ListItems) -> ItemsListed:
    query = question.query
    statement = items_statement(question.thread_id, query)
    if statement is None:
        return ItemsListed(question.token, is_bad_cursor=True)
    record = _read_record(connection, question.thread_id)
    items: list[tuple[TurnId, StoredItem]] = []
    room = query.max_bytes
    has_more = False
    for turn_id, *item in connection.execute(*statement):
        stored = StoredItem(*item)
        if room is not None:
            room -= len(stored.payload)
        has_more = len(items) == query.limit or (room is not None and room < 0 and bool(items))
        if has_more:
            break
        items.append((turn_id, stored))
    keys = [item_key(ItemPlace(turn_id, item.position)) for turn_id, item in items]
    boundary = None if query.before is None else item_key(query.before)
    next_cursor = behind(keys[-1]) if has_more else _at_boundary(query, boundary)
    return ItemsListed(question.token, record, tuple(items), next_cursor, at(keys[0]) if keys else None)


def _at_boundary(query: TurnQuery | ItemQuery, boundary: str | None) -> str | None:
    """Return the cursor of what follows an ascending page that ends where the query does."""
    return None if query.is_descending or boundary is None else at(boundary)


def _decode(data: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(data, type=kind)
