"""What a store keeps, and the messages it takes and gives.

A store is anything with a `tell` that takes these messages in order: an actor, or an edge with a
thread of its own. It answers by telling `reply_to`; nobody waits for it.

A read sees everything that was told before it, and perhaps some of what was told after it. Answers to
reads may come in another order than the questions.

What a thread is told to keep is kept in order and without holes. Where a write of a thread fails, all
that is told of the thread behind it is dropped, and each `Commit` answered with `StoreFailed`, until
the thread is released: who loads it then begins with what is kept. Other threads are not concerned.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import pykka

from trunkline.types import JsonObject, ThreadId, TurnId

__all__ = [
    "ITEM_OVERHEAD",
    "Commit",
    "Committed",
    "DeleteThread",
    "DropTurns",
    "ForkThread",
    "ItemPlace",
    "ItemQuery",
    "ItemsListed",
    "ListItems",
    "ListThreads",
    "ListTurns",
    "Listed",
    "LoadThread",
    "Loaded",
    "ReleaseThread",
    "SaveEvents",
    "SaveItem",
    "SaveThread",
    "SaveTurn",
    "StoreFailed",
    "StoreMessage",
    "StoredEvents",
    "StoredItem",
    "StoredThread",
    "StoredTurn",
    "ThreadQuery",
    "ThreadRecord",
    "TurnQuery",
    "TurnRecord",
    "TurnsListed",
    "ended_record",
    "item_type",
]


class ThreadRecord(msgspec.Struct, frozen=True):
    """A thread without its turns. Times are Unix seconds."""

    id: ThreadId
    session_id: str
    cwd: str
    created_at: int
    updated_at: int
    preview: str = ""
    """The first user message; empty before there is one."""
    name: str | None = None
    forked_from_id: ThreadId | None = None
    is_ephemeral: bool = False
    is_archived: bool = False
    source: str = "appServer"
    thread_source: str | None = None
    model: str = ""
    model_provider: str = "local"
    approval_policy: Literal["untrusted", "on-request", "never"] = "untrusted"
    approvals_reviewer: str = "user"
    epoch: str = ""
    """Names the count of the thread's events: a number means nothing under another epoch."""
    seq_bound: int = 0
    """No event of the thread has had a higher number; the next one after a restart has the one behind."""
    sandbox: JsonObject = msgspec.field(default_factory=lambda: {"type": "dangerFullAccess"})


class TurnRecord(msgspec.Struct, frozen=True):
    """A turn without its items. Times are Unix seconds."""

    id: TurnId
    status: Literal["inProgress", "completed", "interrupted", "failed"]
    started_at: int
    completed_at: int | None = None
    duration_ms: int | None = None
    error: JsonObject | None = None
    """A TurnError of the wire, if it failed."""


class StoredItem(msgspec.Struct, frozen=True):
    """A completed item."""

    id: str
    payload: bytes
    """The item as it was sent in `item/completed`, byte for byte."""
    position: int
    """Its place among the turn's items, by when they started. There are gaps where an item was never
    completed."""


class StoredTurn(msgspec.Struct, frozen=True):
    """A turn and its completed items, in the order they started."""

    record: TurnRecord
    items: tuple[StoredItem, ...] = ()
    is_cut: bool = False
    """Whether there are items that were asked for and are not in it, as they are too many bytes."""


class StoredEvents(msgspec.Struct, frozen=True):
    """Events of a thread that are next to each other."""

    first_seq: int
    last_seq: int
    data: bytes
    """The events, in whatever form they were given to the store."""


class ItemPlace(NamedTuple):
    """Where an item is in its thread. Places sort as their items do."""

    turn_id: TurnId
    position: int


class StoredThread(msgspec.Struct, frozen=True):
    """A thread and its turns, oldest first."""

    record: ThreadRecord
    turns: tuple[StoredTurn, ...] = ()
    events: tuple[StoredEvents, ...] = ()
    """The newest events, oldest first, without a gap up to the record's `seq_bound`; empty if the one with
    that number is not kept."""
    left_out: ItemPlace | None = None
    """The newest item that was over the limit of bytes: it and all before it are not in `turns`, nor are
    turns before its own."""


class ThreadQuery(msgspec.Struct, frozen=True):
    """Which threads a list shows, and in which order."""

    limit: int
    cursor: str | None = None
    sort_key: Literal["created_at", "updated_at"] = "created_at"
    is_descending: bool = True
    is_archived: bool = False
    cwds: tuple[str, ...] = ()
    """Only threads with one of these working directories; empty for all."""
    search_term: str | None = None
    """Only threads whose name or preview contains this, as it is written."""
    model_providers: tuple[str, ...] = ()
    """Only threads of one of these providers; empty for all."""


class TurnQuery(msgspec.Struct, frozen=True):
    """Which turns of a thread a page shows, and in which order. They are sorted by their ids."""

    limit: int
    cursor: str | None = None
    is_descending: bool = True
    view: Literal["notLoaded", "summary", "full"] = "summary"
    """Which items come with a turn: none, its first user message and last agent message, or all."""
    max_bytes: int | None = None
    """Bytes of items after which the page ends. A turn that is larger by itself comes with its newest
    items and `is_cut`. None is no limit."""
    before: TurnId | None = None
    """Only turns before this one. A page that ends there goes on with it."""


class ItemQuery(msgspec.Struct, frozen=True):
    """Which items of a thread a page shows, and in which order: by turn, then by position."""

    limit: int
    cursor: str | None = None
    is_descending: bool = False
    turn_id: TurnId | None = None
    """Only items of this turn."""
    max_bytes: int | None = None
    """Bytes of items after which the page ends, though not before its first item. None is no limit."""
    before: ItemPlace | None = None
    """Only items before this one. A page that ends there goes on with it."""


# What a store takes.


class SaveThread(msgspec.Struct, frozen=True):
    """Keep a thread's record, in the place of the one it may have."""

    record: ThreadRecord


class SaveTurn(msgspec.Struct, frozen=True):
    """Keep a turn's record, in the place of the one it may have; a new one is the thread's last."""

    thread_id: ThreadId
    record: TurnRecord


class SaveItem(msgspec.Struct, frozen=True):
    """Keep a completed item of a turn."""

    thread_id: ThreadId
    turn_id: TurnId
    item: StoredItem


class SaveEvents(msgspec.Struct, frozen=True):
    """Keep events of a thread, for those who come back and ask for what they missed.

    What was kept before stays if these follow it without a gap, and there is room.
    """

    thread_id: ThreadId
    events: StoredEvents
    max_bytes: int
    """Of all events that are kept of the thread."""


class ForkThread(msgspec.Struct, frozen=True):
    """Keep a new thread that begins with the turns of another, and read it.

    A turn of the source that is running is in the copy with the items that were completed so far. A
    source that is not stored has no turns.
    """

    source_id: ThreadId
    record: ThreadRecord
    """The new thread."""
    reply_to: pykka.ActorRef[Any]
    """Told `Loaded`, for writing."""
    token: int
    last_turn_id: TurnId | None = None
    """The last turn to take over; None for all."""
    max_item_bytes: int | None = None
    """As in `LoadThread`."""


class DropTurns(msgspec.Struct, frozen=True):
    """Forget a turn of a thread and all later ones."""

    thread_id: ThreadId
    from_turn_id: TurnId


class DeleteThread(msgspec.Struct, frozen=True):
    """Forget a thread."""

    thread_id: ThreadId


class Commit(msgspec.Struct, frozen=True):
    """Say when everything told so far is kept."""

    thread_id: ThreadId
    """Whose writes it is about."""
    reply_to: pykka.ActorRef[Any]
    """Told `Committed`, or `StoreFailed`. Answers come in the order of the questions."""


class ReleaseThread(msgspec.Struct, frozen=True):
    """Let another process write the thread: nothing more is saved of it until it is loaded again."""

    thread_id: ThreadId


class LoadThread(msgspec.Struct, frozen=True):
    """Read a thread."""

    thread_id: ThreadId
    is_for_writing: bool
    """Whether it will be written, which only one process may at a time."""
    reply_to: pykka.ActorRef[Any]
    """Told `Loaded`."""
    token: int
    with_turns: bool = True
    """Whether its turns are read too."""
    last_turn_id: TurnId | None = None
    """The last turn to read; None for all."""
    max_item_bytes: int | None = None
    """Bytes of items to read, the newest ones, each counted with `ITEM_OVERHEAD`. None reads all."""
    with_events: bool = False
    """Whether its newest events are read too."""


class ListTurns(msgspec.Struct, frozen=True):
    """Read a page of a thread's turns."""

    thread_id: ThreadId
    query: TurnQuery
    reply_to: pykka.ActorRef[Any]
    """Told `TurnsListed`."""
    token: int


class ListItems(msgspec.Struct, frozen=True):
    """Read a page of a thread's items."""

    thread_id: ThreadId
    query: ItemQuery
    reply_to: pykka.ActorRef[Any]
    """Told `ItemsListed`."""
    token: int


class ListThreads(msgspec.Struct, frozen=True):
    """Read a page of threads."""

    query: ThreadQuery
    reply_to: pykka.ActorRef[Any]
    """Told `Listed`."""
    token: int


StoreMessage: TypeAlias = (
    SaveThread
    | SaveTurn
    | SaveItem
    | SaveEvents
    | ForkThread
    | DropTurns
    | DeleteThread
    | Commit
    | ReleaseThread
    | LoadThread
    | ListThreads
    | ListTurns
    | ListItems
)
"""All that a store takes."""


# What a store gives.


class Committed(msgspec.Struct, frozen=True):
    """Everything that was told before the `Commit` is kept."""


class StoreFailed(msgspec.Struct, frozen=True):
    """What was told before a `Commit` cannot be kept. Told in the place of `Committed`."""

    error: str
    """Why, for the log and for clients."""


class Loaded(msgspec.Struct, frozen=True):
    """A thread was read."""

    token: int
    thread: StoredThread | None = None
    """None if it is not stored."""
    is_busy: bool = False
    """Whether it was to be written, and another process does so."""
    is_turn_unknown: bool = False
    """Whether there is no turn with the id that was asked for."""
    error: str | None = None
    """Why it could not be read, for the log."""


class Listed(msgspec.Struct, frozen=True):
    """A page of threads was read."""

    token: int
    records: tuple[ThreadRecord, ...] = ()
    next_cursor: str | None = None
    backwards_cursor: str | None = None
    is_bad_cursor: bool = False
    error: str | None = None
    """Why it could not be read, for the log."""


class TurnsListed(msgspec.Struct, frozen=True):
    """A page of a thread's turns was read."""

    token: int
    record: ThreadRecord | None = None
    """The thread; None if it is not stored."""
    turns: tuple[StoredTurn, ...] = ()
    """In the order asked for."""
    next_cursor: str | None = None
    backwards_cursor: str | None = None
    is_bad_cursor: bool = False
    error: str | None = None
    """Why it could not be read, for the log."""


class ItemsListed(msgspec.Struct, frozen=True):
    """A page of a thread's items was read."""

    token: int
    record: ThreadRecord | None = None
    """The thread; None if it is not stored."""
    items: tuple[tuple[TurnId, StoredItem], ...] = ()
    """Each with its turn, in the order asked for."""
    next_cursor: str | None = None
    backwards_cursor: str | None = None
    is_bad_cursor: bool = False
    error: str | None = None
    """Why it could not be read, for the log."""


# What stores and those who read them have in common.


ITEM_OVERHEAD = 512
"""Bytes that an item counts besides its own: what is around it when it is loaded."""

_TYPE = re.compile(rb'\{"type":"([^"\\]+)"')


def item_type(payload: bytes) -> str:
    """Return the type of a completed item without decoding it: its bytes begin with it."""
    match = _TYPE.match(payload)
    return match[1].decode() if match else ""


def ended_record(record: TurnRecord) -> TurnRecord:
    """Return the record of a turn that is copied or was stored: one that was running was interrupted."""
    if record.status != "inProgress":
        return record
    return msgspec.structs.replace(record, status="interrupted", completed_at=record.started_at)
