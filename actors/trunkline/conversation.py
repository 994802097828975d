"""A conversation: a thread's record, its turns, their items. State and its JSON, nothing else.

Knows no actor, no subscriber and no client. A completed item is turned into bytes once; the event
that tells of it, every snapshot and the store use the same bytes. An item that is still open is in
every snapshot with its text so far, so that snapshot and later deltas together are the whole.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import msgspec
import orjson

from trunkline.agents.base import input_text
from trunkline.agents.events import TurnStatus
from trunkline.protocol.deltas import DeltaHead
from trunkline.protocol.envelope import now_ms
from trunkline.protocol.ids import uuid7
from trunkline.protocol.items import ItemKind, item_kind
from trunkline.protocol.values import Encoded, given
from trunkline.store.base import (
    ITEM_OVERHEAD,
    ItemPlace,
    StoredItem,
    StoredThread,
    ThreadRecord,
    TurnRecord,
    ended_record,
    item_type,
)
from trunkline.types import Json, JsonObject, TurnId
from trunkline.version import VERSION

__all__ = ["Conversation", "History", "Item", "TurnState", "record_json", "turn_json"]

PREVIEW_CHARS = 400


class Item:
    """An item of a turn: open while `body` is None."""

    __slots__ = (
        "_kept",
        "_members",
        "_parts",
        "body",
        "delta_head",
        "id",
        "kind",
        "position",
        "started_at_ms",
        "type",
    )

    def __init__(self, members: JsonObject, position: int) -> None:
        self.id: str = members["id"]
        self.type: str = members["type"]
        self.kind: ItemKind = item_kind(self.type)
        self.position = position
        self.started_at_ms = now_ms()
        self.body: Encoded | None = None
        """The whole item, once it is complete."""
        self.delta_head: DeltaHead | None = None
        """What all its deltas begin with, once it has had one."""
        # As it was told, its type before all else: what is kept is told apart by how it begins.
        self._members = {"type": self.type, "id": self.id, **members}
        # Its text: what it started with, then its deltas.
        self._parts: list[str] = [members.get(self.kind.text_member or "") or ""]
        self._kept = 0

    @classmethod
    def stored(cls, stored: StoredItem) -> Item:
        """Return a completed item as it was kept."""
        item = cls.__new__(cls)  # there may be thousands: no more is set than a completed item needs
        item.id, item.position, item.body = stored.id, stored.position, Encoded(data=stored.payload)
        item.type = item_type(stored.payload)
        return item

    def add(self, text: str) -> None:
        """Add what deltas add; what is over the limit of the kind is sent on but not kept."""
        limit = self.kind.kept_chars
        if limit is not None and self._kept + len(text) > limit:
            text = text[: limit - self._kept]
        self._kept += len(text)
        self._parts.append(text)

    @property
    def size(self) -> int:
        """Bytes of a complete item, about; 0 while it is open."""
        return 0 if self.body is None else self.body.size

    def misfit(self, changes: JsonObject) -> str | None:
        """Return what an agent did in completing the item so that it must not be; None if all is well."""
        if changes.get("type", self.type) != self.type or changes.get("id", self.id) != self.id:
            return "completed an item as another: its `type` and `id` stay what they are"
        text = self.kind.text_member
        if text is not None and not isinstance(changes.get(text), str | None):
            return f"completed an item with a `{text}` that is not a text"
        return None

    def complete(self, changes: JsonObject) -> None:
        """End the item. `misfit` must be None."""
        self.body = Encoded({**self._so_far(now_ms()), **changes})
        self._members, self._parts = {}, []

    def write(self) -> None:
        """Keep the complete item as bytes alone."""
        if self.body is not None:
            self.body = Encoded(data=self.body.data)

    def settle(self) -> None:
        """Keep the complete item in one form: everybody who was there when it was completed has been told."""
        if self.body is not None:
            self.body = self.body.lean()

    def cut(self) -> None:
        """End the item because its turn has ended: with the text so far, and `failed` if it has a status."""
        self.complete({"status": "failed"} if self.kind.has_status else {})

    def json(self) -> Json:
        """Return the item as it is now, for a snapshot."""
        return self._so_far(None) if self.body is None else self.body

    def _so_far(self, completed_at_ms: int | None) -> JsonObject:
        members = {**self._members, "startedAtMs": self.started_at_ms, "completedAtMs": completed_at_ms}
        if self.kind.text_member is not None and len(self._parts) > 1:
            self._parts = ["".join(self._parts), ""]
            members[self.kind.text_member] = self._parts[0]
        return members


class TurnState:
    """A turn and its items, in the order they started."""

    __slots__ = ("_started_monotonic", "items", "last_body", "last_message", "record")

    def __init__(self, record: TurnRecord, items: Iterable[Item] = ()) -> None:
        self.record = record
        self.items = {item.id: item for item in items}
        self.last_message: Item | None = None
        """The agent message that was completed last."""
        self.last_body: Encoded | None = None
        """That message in all forms in which it is there, for `turn/completed`; None once that is told."""
        self._started_monotonic = time.monotonic()

    @property
    def id(self) -> TurnId:
        """The turn's id."""
        return self.record.id

    def size(self) -> int:
        """Return the bytes of its completed items, with what is around them."""
        return sum(
            ITEM_OVERHEAD + (0 if item.body is None else item.body.size) for item in self.items.values()
        )

    def open_items(self) -> list[Item]:
        """Return the items that are not complete, oldest first."""
        return [item for item in self.items.values() if item.body is None]

    def open_item(self, item_id: str) -> Item | None:
        """Return an item if it is open."""
        item = self.items.get(item_id)
        return item if item is not None and item.body is None else None

    def note_completed(self, item: Item) -> None:
        """Note that an item has been completed."""
        if item.kind.is_message:
            self.last_message = item
            self.last_body = item.body

    def end(self, status: TurnStatus, error: JsonObject | None) -> None:
        """Set how the turn ended."""
        self.record = msgspec.structs.replace(
            self.record,
            status=status,
            error=error,
            completed_at=int(time.time()),
            duration_ms=round((time.monotonic() - self._started_monotonic) * 1000),
        )

    def json(self) -> JsonObject:
        """Return the turn with all its items."""
        return {
            **turn_json(self.record),
            "items": [item.json() for item in self.items.values()],
            "itemsView": "full",
        }

    def summary_json(self) -> JsonObject:
        """Return the turn with its last agent message, as `turn/completed` has it."""
        last, body = self.last_message, self.last_body
        return {
            **turn_json(self.record),
            "items": [] if last is None else [body or last.json()],
            "itemsView": "notLoaded" if last is None else "summary",
        }

    def settle(self) -> None:
        """Keep the turn in one form: its end has been told."""
        self.last_body = None


class History(Sequence[JsonObject]):
    """The completed items of earlier turns, for agents; each is copied or decoded when it is looked at.

    Args:
        read_newest: returns those that are in memory, oldest first. Called when one is needed, or their
            number: most agents ask for none, and a long thread has many.
        read_older: returns the bytes of those before them. Called when one of them, or the number of all, is
            needed; may block. None if there are none.

    """

    def __init__(
        self,
        read_newest: Callable[[], Sequence[bytes | Encoded]],
        read_older: Callable[[], Sequence[bytes]] | None = None,
    ) -> None:
        self._read_newest = read_newest
        self._read_older = read_older
        # What was read: of those in memory, and of all.
        self._newest_read: Sequence[bytes | Encoded] | None = None
        self._all_read: Sequence[bytes | Encoded] | None = None

    @property
    def _newest(self) -> Sequence[bytes | Encoded]:
        # Two threads of an agent may do this at the same moment with equal results: no harm, no lock.
        newest = self._newest_read
        if newest is None:
            newest = self._newest_read = self._read_newest()
        return newest

    @property
    def _items(self) -> Sequence[bytes | Encoded]:
        if self._read_older is None:
            return self._newest
        items = self._all_read
        if items is None:
            items = self._all_read = [*self._read_older(), *self._newest]
        return items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> JsonObject: ...

    @overload
    def __getitem__(self, index: slice) -> History: ...

    def __getitem__(self, index: int | slice) -> JsonObject | History:
        if isinstance(index, slice):
            part = self._items[index]
            return History(lambda: part)
        is_new = -len(self._newest) <= index < 0
        body = (self._newest if is_new else self._items)[index]
        item: JsonObject = orjson.loads(body) if isinstance(body, bytes) else given(body)
        return item


class Conversation:
    """A thread's record and turns.

    Args:
        record: what the thread is.
        stored: what was read of it; None for a new one.

    """

    def __init__(self, record: ThreadRecord, stored: StoredThread | None = None) -> None:
        self.record = record
        self.running: TurnState | None = None
        """The turn that is running; it is the last of `turns`."""
        self.turns: list[TurnState] = []
        """Oldest first; without those that are left out."""
        # Bytes of the items of `turns` that have ended, as `TurnState.size` counts them.
        self._size = 0
        self.left_out: ItemPlace | None = None
        """The newest item that is in the store only: it and all before it are not in `turns`."""
        if stored is not None:
            self.take_stored(stored)

    def take_stored(self, stored: StoredThread) -> None:
        """Have the turns that were read, and no others."""
        self.left_out = stored.left_out
        self.turns = [
            TurnState(ended_record(turn.record), [Item.stored(item) for item in turn.items])
            for turn in stored.turns
        ]
        self._size = sum(turn.size() for turn in self.turns)

    def forget_older(self, max_bytes: int) -> None:
        """Leave out the oldest turns if there are twice `max_bytes` of items. They must all be in the store.

        No turn may be running.
        """
        if self._size <= 2 * max_bytes:
            return
        count = 0
        while self._size > max_bytes and count < len(self.turns) - 1:
            turn = self.turns[count]
            count += 1
            self._size -= turn.size()
            newest = next(reversed(turn.items.values()), None)
            self.left_out = ItemPlace(turn.id, 0 if newest is None else newest.position)
        del self.turns[:count]

    @property
    def whole_turns(self) -> list[TurnState]:
        """The turns of which no item is left out."""
        is_cut = self.left_out is not None and bool(self.turns) and self.turns[0].id == self.left_out.turn_id
        return self.turns[1:] if is_cut else self.turns

    def items(self) -> list[tuple[TurnState, Item]]:
        """Return all items that are here, each with its turn, oldest first."""
        return [(turn, item) for turn in self.turns for item in turn.items.values()]

    @property
    def has_failed(self) -> bool:
        """Whether the last turn failed, and no other has begun."""
        return bool(self.turns) and self.turns[-1].record.status == "failed"

    def update(self, **changes: object) -> None:
        """Change the record."""
        self.record = msgspec.structs.replace(self.record, **changes)

    def touch(self) -> None:
        """Note that something happened in the thread now."""
        self.update(updated_at=int(time.time()))

    def begin_turn(self) -> TurnState:
        """Begin a turn, with an id that sorts behind all others; none may be running."""
        assert self.running is None
        turn_id = TurnId(uuid7(after=self.turns[-1].id if self.turns else None))
        turn = TurnState(TurnRecord(turn_id, "inProgress", int(time.time())))
        self.turns.append(turn)
        self.running = turn
        self.touch()
        return turn

    def end_turn(self, status: TurnStatus, error: JsonObject | None) -> TurnState:
        """End the running turn."""
        turn = self.running
        assert turn is not None
        turn.end(status, error)
        self._size += turn.size()
        self.running = None
        self.touch()
        return turn

    def start_item(self, members: JsonObject) -> Item:
        """Start an item in the running turn."""
        assert self.running is not None
        item = Item(members, len(self.running.items))
        self.running.items[item.id] = item
        return item

    def can_drop(self, from_turn_id: TurnId) -> bool:
        """Whether this turn and all later ones can be dropped with no look at what is left out."""
        if self.left_out is None:
            return True
        return any(turn.id == from_turn_id for turn in self.turns[1:])

    def drop_turns(self, from_turn_id: TurnId) -> bool:
        """Drop a turn and all later ones; tell whether there is such a turn. None may be running."""
        for index, turn in enumerate(self.turns):
            if turn.id == from_turn_id:
                self._size -= sum(dropped.size() for dropped in self.turns[index:])
                del self.turns[index:]
                self.touch()
                return True
        return False

    def note_input(self, content: Sequence[JsonObject]) -> None:
        """Take the thread's preview from its first user message."""
        if not self.record.preview:
            self.update(preview=input_text(content)[:PREVIEW_CHARS])

    def history(self, read_older: Callable[[ItemPlace], Sequence[bytes]]) -> History:
        """Return the completed items of all turns. None may be running.

        Args:
            read_older: reads the items up to a place, oldest first; may block.

        """
        turns, left_out = tuple(self.turns), self.left_out  # nothing of a turn that has ended changes

        def read_newest() -> list[Encoded]:
            return [item.body for turn in turns for item in turn.items.values() if item.body is not None]

        return History(read_newest, None if left_out is None else lambda: read_older(left_out))


def record_json(
    record: ThreadRecord, status: JsonObject, turns: list[JsonObject] | None = None
) -> JsonObject:
    """Return a thread as the wire has it."""
    return {
        "id": record.id,
        "sessionId": record.session_id,
        "preview": record.preview,
        "ephemeral": record.is_ephemeral,
        "modelProvider": record.model_provider,
        "model": record.model,
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
        "recencyAt": record.updated_at,
        "status": status,
        "cwd": record.cwd,
        "cliVersion": VERSION,
        "source": record.source,
        "threadSource": record.thread_source,
        "name": record.name,
        "path": None,
        "projectId": None,
        "forkedFromId": record.forked_from_id,
        "parentThreadId": None,
        "historyMode": "paginated",
        "turns": [] if turns is None else turns,
    }


def turn_json(record: TurnRecord) -> JsonObject:
    """Return a turn without its items."""
    return {
        "id": record.id,
        "items": [],
        "itemsView": "notLoaded",
        "status": record.status,
        "error": record.error,
        "startedAt": record.started_at,
        "completedAt": record.completed_at,
        "durationMs": record.duration_ms,
        "rootTurnId": record.id,
    }
