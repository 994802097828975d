"""What the gateway keeps of a thread's running turn: for snapshots, and for the case that its upstream dies.

The upstream's own snapshots leave out items that are not complete. With what is kept here they are in
them, with their text so far, so that snapshot and later deltas together are the whole.
"""

from __future__ import annotations

import time

import msgspec

from trunkline.conversation import Item
from trunkline.types import Json, JsonObject

__all__ = ["RunningTurn", "Scene"]

_ENDS = frozenset({"completed", "interrupted", "failed"})
_DELTAS = frozenset({"item/agentMessage/delta", "item/plan/delta", "item/commandExecution/outputDelta"})


class _Turn(msgspec.Struct, frozen=True):
    id: str
    status: str = ""


class _TurnParams(msgspec.Struct, frozen=True):
    turn: _Turn


class _ItemParams(msgspec.Struct, frozen=True):
    item: JsonObject


class _DeltaParams(msgspec.Struct, frozen=True, rename="camel"):
    item_id: str
    delta: str


class _StatusParams(msgspec.Struct, frozen=True):
    status: JsonObject


_read_turn = msgspec.json.Decoder(_TurnParams).decode
_read_item = msgspec.json.Decoder(_ItemParams).decode
_read_delta = msgspec.json.Decoder(_DeltaParams).decode
_read_status = msgspec.json.Decoder(_StatusParams).decode


class RunningTurn:
    """A turn that the upstream runs."""

    __slots__ = ("id", "items", "started_at")

    def __init__(self, turn_id: str) -> None:
        self.id = turn_id
        self.started_at = int(time.time())
        self.items: dict[str, Item] = {}
        """Those that are not complete, by id."""

    def failed_json(self, error: JsonObject) -> JsonObject:
        """Return the turn as one that has failed."""
        return {
            "id": self.id,
            "items": [],
            "itemsView": "notLoaded",
            "status": "failed",
            "error": error,
            "startedAt": self.started_at,
            "completedAt": int(time.time()),
        }


class Scene:
    """What is going on in a thread, as far as its notifications told."""

    def __init__(self) -> None:
        self.status: JsonObject = {"type": "idle"}
        self.turn: RunningTurn | None = None
        self.ended_as = ""
        """The status of the turn that ended last; `other` if it is none of the protocol's."""

    def note(self, method: str, params: bytes) -> None:
        """Take note of a notification; one that cannot be read changes nothing."""
        try:
            self._note(method, params)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return

    def take_snapshot(self, thread: JsonObject) -> None:
        """Note how a thread is, from an answer of the upstream that has it."""
        self.status = thread.get("status") or self.status
        turns = thread.get("turns") or ()
        if turns and turns[-1].get("status") == "inProgress" and self.turn is None:
            self.turn = RunningTurn(turns[-1]["id"])

    def add_open_items(self, thread: JsonObject) -> None:
        """Add to a snapshot's running turn the items that are not complete, with their text so far."""
        turn = self.turn
        turns = thread.get("turns") or ()
        if turn is None or not turns or turns[-1].get("id") != turn.id:
            return
        items = turns[-1].setdefault("items", [])
        present = {item.get("id") for item in items}
        items += [item.json() for item in turn.items.values() if item.id not in present]

    def _note(self, method: str, params: bytes) -> None:
        if method == "thread/status/changed":
            self.status = _read_status(params).status
        elif method == "turn/started":
            self.turn = RunningTurn(_read_turn(params).turn.id)
        elif method == "turn/completed":
            self.turn = None
            status = _read_turn(params).turn.status
            self.ended_as = status if status in _ENDS else "other"
        elif self.turn is not None:
            self._note_item(self.turn, method, params)

    def _note_item(self, turn: RunningTurn, method: str, params: bytes) -> None:
        if method == "item/started":
            members: Json = _read_item(params).item
            if type(members.get("id")) is str and type(members.get("type")) is str:
                turn.items[members["id"]] = Item(members, len(turn.items))
        elif method == "item/completed":
            turn.items.pop(_read_item(params).item.get("id", ""), None)
        elif method in _DELTAS:
            delta = _read_delta(params)
            item = turn.items.get(delta.item_id)
            if item is not None:
                item.add(delta.delta)
