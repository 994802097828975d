"""Pages of a conversation's turns and items: of a loaded thread, and of one that was read from the store.

A loaded thread has its newest items; the older ones may be in the store only. A page lies on one side of
that border or on the other: where it comes to the border it ends, and its cursor goes on from there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import orjson

from trunkline.conversation import Conversation, Item, TurnState, record_json, turn_json
from trunkline.errors import RpcError
from trunkline.protocol import errors
from trunkline.protocol.params import ItemsListParams, TurnsListParams
from trunkline.store.base import (
    ItemPlace,
    ItemQuery,
    ItemsListed,
    StoredThread,
    StoredTurn,
    TurnQuery,
    TurnsListed,
    ended_record,
)
from trunkline.store.cursors import Place, at, behind, item_key, read_item_cursor, read_turn_cursor
from trunkline.types import Json, JsonObject, TurnId

__all__ = [
    "item_query",
    "items_page",
    "listed_items",
    "listed_turns",
    "newest_item_cursor",
    "newest_turn_cursor",
    "page_size",
    "read_json",
    "snapshot",
    "turn_query",
    "turns_page",
]

K = TypeVar("K", TurnId, ItemPlace)

DEFAULT_PAGE = 25
"""Entries on a page unless the client says."""

MAX_PAGE = 100
"""Entries on a page at most."""


# What is asked for


def page_size(limit: int | None, most: int = MAX_PAGE) -> int:
    """Return how many entries a client gets: 0 counts as 1, None is the default, `most` the limit.

    Raises:
        RpcError: `limit` is negative.

    """
    if limit is None:
        return DEFAULT_PAGE
    if limit < 0:
        raise errors.invalid_params("`limit`: must not be negative")
    return min(max(limit, 1), most)


def turn_query(params: TurnsListParams, max_bytes: int) -> TurnQuery:
    """Return what `thread/turns/list` asks for: newest first unless the client says.

    Raises:
        RpcError: the limit is negative.

    """
    return TurnQuery(
        limit=page_size(params.limit),
        cursor=params.cursor,
        is_descending=params.sort_direction != "asc",
        view=params.items_view or "summary",
        max_bytes=max_bytes,
    )


def item_query(params: ItemsListParams, max_bytes: int) -> ItemQuery:
    """Return what `thread/items/list` asks for: oldest first unless the client says.

    Raises:
        RpcError: the limit is negative.

    """
    return ItemQuery(
        limit=page_size(params.limit),
        cursor=params.cursor,
        is_descending=params.sort_direction == "desc",
        turn_id=None if params.turn_id is None else TurnId(params.turn_id),
        max_bytes=max_bytes,
    )


# A loaded thread


def turns_page(conversation: Conversation, query: TurnQuery) -> JsonObject | TurnQuery:
    """Return a page of turns, the running one included, as `thread/turns/list` has it.

    Returns:
        The page; or, if it is in the store, what to ask that for.

    Raises:
        RpcError: the cursor is none of ours.

    """
    place = None if query.cursor is None else read_turn_cursor(query.cursor)
    if query.cursor is not None and place is None:
        raise _bad_cursor(query.cursor)
    turns = conversation.whole_turns
    keys = [turn.id for turn in turns]
    has_older = conversation.left_out is not None
    if has_older and _is_left_out(keys, place, is_descending=query.is_descending):
        return msgspec.structs.replace(query, before=keys[0] if keys else None)

    def size_of(index: int) -> int:
        return sum(item.size for item in _shown(turns[index], query)[0])

    indices, has_more = _cut(keys, size_of, query, place, has_older=has_older)
    data = [_turn_json(turns[index], *_shown(turns[index], query)) for index in indices]
    return _page_json(data, [keys[index] for index in indices], has_more=has_more)


def items_page(conversation: Conversation, query: ItemQuery) -> JsonObject | ItemQuery:
    """Return a page of items, of one turn or of all, as `thread/items/list` has it. As `turns_page`."""
    place = None if query.cursor is None else read_item_cursor(query.cursor)
    if query.cursor is not None and place is None:
        raise _bad_cursor(query.cursor)
    wanted = query.turn_id
    entries = [(turn, item) for turn, item in conversation.items() if wanted is None or turn.id == wanted]
    keys = [ItemPlace(turn.id, item.position) for turn, item in entries]
    left_out = conversation.left_out
    has_older = left_out is not None and (wanted is None or wanted <= left_out.turn_id)
    if has_older and _is_left_out(keys, place, is_descending=query.is_descending):
        return msgspec.structs.replace(query, before=keys[0] if keys else None)
    indices, has_more = _cut(keys, lambda index: entries[index][1].size, query, place, has_older=has_older)
    data = [_entry_json(entries[index][0].id, entries[index][1]) for index in indices]
    return _page_json(data, [item_key(keys[index]) for index in indices], has_more=has_more)


def snapshot(conversation: Conversation, max_bytes: int) -> tuple[list[JsonObject], JsonObject]:
    """Return the turns as an answer may carry them: the newest items up to `max_bytes`, oldest first.

    Items that are open are always in it, so that it and later deltas are the whole.

    Returns:
        The turns; and the members that say from where what was left out is to be listed, descending;
        they are null if nothing was. The oldest turn may lack its first items.

    """
    turns: list[JsonObject] = []
    room = max_bytes
    left_out = conversation.left_out
    for turn in reversed(conversation.turns):
        items, room, first_left_out = _newest_items(turn, room)
        if first_left_out is not None:
            left_out = ItemPlace(turn.id, first_left_out.position)
        if left_out is None or left_out.turn_id != turn.id:
            turns.append(turn.json())
            continue
        if items:
            turns.append(_turn_json(turn, items, "summary"))
        break
    if left_out is None:
        return turns[::-1], {"olderTurnsCursor": None, "olderItemsCursor": None}
    return turns[::-1], {"olderTurnsCursor": at(left_out.turn_id), "olderItemsCursor": at(item_key(left_out))}


def newest_turn_cursor(conversation: Conversation) -> str | None:
    """Return the cursor that begins a descending list with the newest turn; None if there is none."""
    return at(conversation.turns[-1].id) if conversation.turns else None


def newest_item_cursor(conversation: Conversation) -> str | None:
    """Return the cursor that begins a descending list with the newest item; None if there is none."""
    for turn in reversed(conversation.turns):
        if turn.items:
            newest = next(reversed(turn.items.values()))
            return at(item_key(ItemPlace(turn.id, newest.position)))
    return None if conversation.left_out is None else at(item_key(conversation.left_out))


# What was read from the store


def read_json(stored: StoredThread, status: JsonObject, max_bytes: int, *, with_turns: bool) -> JsonObject:
    """Return a thread as `thread/read` has it."""
    if not with_turns:
        return {"thread": record_json(stored.record, status)}
    turns, left_out = snapshot(Conversation(stored.record, stored), max_bytes)
    return {"thread": record_json(stored.record, status, turns), **left_out}


def listed_turns(listed: TurnsListed, query: TurnQuery) -> JsonObject:
    """Return a page that was read from the store, as `thread/turns/list` has it.

    Raises:
        RpcError: the cursor is none of ours.

    """
    if listed.is_bad_cursor:
        raise _bad_cursor(query.cursor)
    data = [_stored_turn_json(turn, query) for turn in listed.turns]
    return {"data": data, "nextCursor": listed.next_cursor, "backwardsCursor": listed.backwards_cursor}


def listed_items(listed: ItemsListed, query: ItemQuery) -> JsonObject:
    """Return a page that was read from the store, as `thread/items/list` has it.

    Raises:
        RpcError: the cursor is none of ours.

    """
    if listed.is_bad_cursor:
        raise _bad_cursor(query.cursor)
    data = [_entry_json(turn_id, Item.stored(item)) for turn_id, item in listed.items]
    return {"data": data, "nextCursor": listed.next_cursor, "backwardsCursor": listed.backwards_cursor}


def _bad_cursor(cursor: str | None) -> RpcError:
    return errors.invalid_request(f"invalid cursor: {cursor}")


def _is_left_out(keys: Sequence[K], place: Place[K] | None, *, is_descending: bool) -> bool:
    """Whether a page begins before the first entry that is here."""
    if not keys:
        return True
    if place is None:
        return not is_descending
    return place.key < keys[0] or (is_descending and place.key == keys[0] and not place.is_inclusive)


def _cut(
    keys: Sequence[K],
    size_of: Callable[[int], int],
    query: TurnQuery | ItemQuery,
    place: Place[K] | None,
    *,
    has_older: bool,
) -> tuple[list[int], bool]:
    """Return the indices of a page, in the order asked for, and whether there is more behind it."""
    if query.is_descending:
        bisect = bisect_right if place is not None and place.is_inclusive else bisect_left
        order = range((len(keys) if place is None else bisect(keys, place.key)) - 1, -1, -1)
    else:
        bisect = bisect_left if place is not None and place.is_inclusive else bisect_right
        order = range(0 if place is None else bisect(keys, place.key), len(keys))
    indices: list[int] = []
    room = query.max_bytes
    for index in order:
        if room is not None:
            room -= size_of(index)
        if len(indices) == query.limit or (room is not None and room < 0 and indices):
            return indices, True
        indices.append(index)
    return indices, query.is_descending and has_older


def _page_json(data: list[JsonObject], keys: Sequence[str], *, has_more: bool) -> JsonObject:
    return {
        "data": data,
        "nextCursor": behind(keys[-1]) if has_more else None,
        "backwardsCursor": at(keys[0]) if keys else None,
    }


def _shown(turn: TurnState, query: TurnQuery) -> tuple[list[Item], str]:
    """Return the items that a view has of a turn, and the name of what that is."""
    if query.view == "notLoaded":
        return [], "notLoaded"
    items = list(turn.items.values())
    if query.view == "summary":
        ends = [item for item in items if item.type == "userMessage"][:1]
        return ends + [item for item in items if item.type == "agentMessage"][-1:], "summary"
    if query.max_bytes is not None:
        items, _, left_out = _newest_items(turn, query.max_bytes)
        if left_out is not None:
            return items, "summary"
    return items, "full"


def _newest_items(turn: TurnState, room: int) -> tuple[list[Item], int, Item | None]:
    """Return the newest items of a turn for which there is room and all that are open, oldest first.

    Besides, the room that is left, and the newest item that was left out.
    """
    items: list[Item] = []
    left_out: Item | None = None
    for item in reversed(turn.items.values()):
        if item.body is not None:
            room -= item.size
            if room < 0 or left_out is not None:
                left_out = left_out or item
                continue
        items.append(item)
    return items[::-1], max(room, 0), left_out


def _turn_json(turn: TurnState, items: Sequence[Item], view: str) -> JsonObject:
    return {**turn_json(turn.record), "items": [item.json() for item in items], "itemsView": view}


def _stored_turn_json(turn: StoredTurn, query: TurnQuery) -> JsonObject:
    items: list[Json] = [orjson.Fragment(item.payload) for item in turn.items]
    view = "summary" if turn.is_cut else query.view
    return {**turn_json(ended_record(turn.record)), "items": items, "itemsView": view}


def _entry_json(turn_id: TurnId, item: Item) -> JsonObject:
    if item.body is None:
        times = {"startedAtMs": item.started_at_ms, "completedAtMs": None}
    else:
        members = item.body.value
        times = {name: members.get(name) for name in ("startedAtMs", "completedAtMs")}
    return {"turnId": turn_id, "item": item.json(), **times}
