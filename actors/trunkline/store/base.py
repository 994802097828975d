"""What a store keeps, and the messages it takes and gives.

A store is anything with a `tell` that takes these messages in order: an actor, or an edge with a
thread of its own. It answers by telling `reply_to`; nobody waits for it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import pykka

from trunkline.types import JsonObject, ThreadId, TurnId

__all__ = [
    "Commit",
    "Committed",
    "DeleteThread",
    "DropTurns",
    "ListThreads",
    "Listed",
    "LoadThread",
    "Loaded",
    "ReleaseThread",
    "SaveItem",
    "SaveThread",
    "SaveTurn",
    "StoreFailed",
    "StoreMessage",
    "StoredItem",
    "StoredThread",
    "StoredTurn",
    "ThreadQuery",
    "ThreadRecord",
    "TurnRecord",
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


class StoredTurn(msgspec.Struct, frozen=True):
    """A turn and its completed items, in the order they started."""

    record: TurnRecord
    items: tuple[StoredItem, ...] = ()


class StoredThread(msgspec.Struct, frozen=True):
    """A thread and its turns, oldest first."""

    record: ThreadRecord
    turns: tuple[StoredTurn, ...] = ()


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
    position: int
    """Its place among the turn's items, by when they started."""
    item: StoredItem


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
    """Told `Committed`, or `StoreFailed`."""
    token: int


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
    | DropTurns
    | DeleteThread
    | Commit
    | ReleaseThread
    | LoadThread
    | ListThreads
)
"""All that a store takes."""


# What a store gives.


class Committed(msgspec.Struct, frozen=True):
    """Everything that was told before the `Commit` with this token is kept."""

    token: int


class StoreFailed(msgspec.Struct, frozen=True):
    """What was told before a `Commit` cannot be kept. Told in the place of `Committed`."""

    token: int
    error: str
    """Why, for the log."""


class Loaded(msgspec.Struct, frozen=True):
    """A thread was read."""

    thread_id: ThreadId
    is_for_writing: bool
    """As it was asked."""
    thread: StoredThread | None
    """None if it is not stored."""
    is_busy: bool = False
    """Whether it was to be written, and another process does so."""
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
