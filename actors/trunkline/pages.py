"""Pages: how a list is cut, and the pages of a conversation's turns and items.

A cursor is the key of an entry with a mark in front: `>` goes on behind that entry, `=` from it on,
so that it stays valid while entries are added. To clients it is opaque.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import orjson

from trunkline.conversation import Conversation, Item, TurnState, turn_json
from trunkline.protocol import errors
from trunkline.protocol.params import ItemsListParams, TurnsListParams
from trunkline.types import JsonObject, TurnId

__all__ = [
    "DEFAULT_PAGE",
    "MAX_PAGE",
    "ItemsView",
    "Page",
    "cut_page",
    "items_page",
    "list_items",
    "list_turns",
    "newest_item_cursor",
    "newest_turn_cursor",
    "page_size",
    "snapshot",
    "turns_page",
]

DEFAULT_PAGE = 25
"""Entries on a page unless the client says."""

MAX_PAGE = 100
"""Entries on a page at most."""

ItemsView: TypeAlias = Literal["notLoaded", "summary", "full"]
"""Which items come with a turn: none, its first user message and last agent message, or all."""


class Page(NamedTuple):
    """A part of an ascending list."""

    indices: range
    """In the order asked for."""
    next_cursor: str | None
    """Goes on behind the page; None on the last one."""
    backwards_cursor: str | None
    """For the opposite direction, from the page's first entry on; None on an empty page."""


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


def cut_page(keys: Sequence[str], limit: int, cursor: str | None, *, is_descending: bool) -> Page:
    """Cut a page out of a list.

    Args:
        keys: the keys of all entries, ascending.
        limit: entries on the page, at least 1.
        cursor: where it begins; None is the beginning.
        is_descending: whether the page goes from higher keys to lower ones.

    Raises:
        RpcError: `cursor` is none of ours.

    """
    mark, key = _read_cursor(cursor)
    if is_descending:
        end = len(keys) if not mark else (bisect_left if mark == ">" else bisect_right)(keys, key)
        indices = range(end - 1, max(end - limit, 0) - 1, -1)
        has_more = end > limit
    else:
        start = 0 if not mark else (bisect_right if mark == ">" else bisect_left)(keys, key)
        indices = range(start, min(start + limit, len(keys)))
        has_more = start + limit < len(keys)
    if not indices:
        return Page(indices, None, None)
    next_cursor = f">{keys[indices[-1]]}" if has_more else None
    return Page(indices, next_cursor, f"={keys[indices[0]]}")


def snapshot(conversation: Conversation, max_bytes: int) -> tuple[list[JsonObject], JsonObject]:
    """Return the turns as an answer may carry them: the newest items up to `max_bytes`, oldest first.

    Items that are open are always in it, so that it and later deltas are the whole.

    Returns:
        The turns; and the members that say from where what was left out is to be listed, descending;
        they are null if nothing was. The oldest turn may lack its first items.

    """
    turns: list[JsonObject] = []
    room = max_bytes
    for turn in reversed(conversation.turns):
        items, room, left_out = _newest_items(turn, room)
        if left_out is None:
            turns.append(turn.json())
            continue
        if items:
            data = [item.json() for item in items]
            turns.append({**turn_json(turn.record), "items": data, "itemsView": "summary"})
        cursors = {"olderTurnsCursor": f"={turn.id}", "olderItemsCursor": f"={_item_key(turn, left_out)}"}
        return turns[::-1], cursors
    return turns[::-1], {"olderTurnsCursor": None, "olderItemsCursor": None}


def list_turns(conversation: Conversation, params: TurnsListParams) -> JsonObject:
    """Return the answer to `thread/turns/list`: newest first unless the client says."""
    return turns_page(
        conversation,
        page_size(params.limit),
        params.cursor,
        is_descending=params.sort_direction != "asc",
        view=params.items_view or "summary",
    )


def list_items(conversation: Conversation, params: ItemsListParams) -> JsonObject:
    """Return the answer to `thread/items/list`: oldest first unless the client says."""
    return items_page(
        conversation,
        None if params.turn_id is None else TurnId(params.turn_id),
        page_size(params.limit),
        params.cursor,
        is_descending=params.sort_direction == "desc",
    )


def turns_page(
    conversation: Conversation, limit: int, cursor: str | None, *, is_descending: bool, view: ItemsView
) -> JsonObject:
    """Return a page of turns, the running one included, as `thread/turns/list` has it."""
    turns = conversation.turns
    page = cut_page([turn.id for turn in turns], limit, cursor, is_descending=is_descending)
    data = [_turn_json(turns[index], view) for index in page.indices]
    return {"data": data, "nextCursor": page.next_cursor, "backwardsCursor": page.backwards_cursor}


def items_page(
    conversation: Conversation,
    turn_id: TurnId | None,
    limit: int,
    cursor: str | None,
    *,
    is_descending: bool,
) -> JsonObject:
    """Return a page of items, of one turn or of all, as `thread/items/list` has it."""
    entries = [
        (_item_key(turn, item), turn, item)
        for turn in conversation.turns
        if turn_id is None or turn.id == turn_id
        for item in turn.items.values()
    ]
    page = cut_page([key for key, _, _ in entries], limit, cursor, is_descending=is_descending)
    data = [_entry_json(*entries[index][1:]) for index in page.indices]
    return {"data": data, "nextCursor": page.next_cursor, "backwardsCursor": page.backwards_cursor}


def newest_turn_cursor(conversation: Conversation) -> str | None:
    """Return the cursor that begins a descending list with the newest turn; None if there is none."""
    return f"={conversation.turns[-1].id}" if conversation.turns else None


def newest_item_cursor(conversation: Conversation) -> str | None:
    """Return the cursor that begins a descending list with the newest item; None if there is none."""
    for turn in reversed(conversation.turns):
        if turn.items:
            return f"={_item_key(turn, next(reversed(turn.items.values())))}"
    return None


def _newest_items(turn: TurnState, room: int) -> tuple[list[Item], int, Item | None]:
    """Return the newest items of a turn for which there is room and all that are open, oldest first.

    Besides, the room that is left, and the newest item that was left out.
    """
    items: list[Item] = []
    left_out: Item | None = None
    for item in reversed(turn.items.values()):
        if item.payload is not None:
            room -= len(item.payload)
            if room < 0 or left_out is not None:
                left_out = left_out or item
                continue
        items.append(item)
    return items[::-1], max(room, 0), left_out


def _read_cursor(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    if cursor[:1] not in (">", "=") or len(cursor) < 2:
        raise errors.invalid_request(f"invalid cursor: {cursor}")
    return cursor[0], cursor[1:]


def _item_key(turn: TurnState, item: Item) -> str:
    # Turn ids are UUIDv7 and ascend; so do positions, once they are of one length.
    return f"{turn.id}.{item.position:09d}"


def _turn_json(turn: TurnState, view: ItemsView) -> JsonObject:
    if view == "full":
        return turn.json()
    items: list[Item] = []
    if view == "summary":
        items = [item for item in turn.items.values() if item.type == "userMessage"][:1]
        items += [item for item in turn.items.values() if item.type == "agentMessage"][-1:]
    return {**turn_json(turn.record), "items": [item.json() for item in items], "itemsView": view}


def _entry_json(turn: TurnState, item: Item) -> JsonObject:
    times = {"startedAtMs": item.started_at_ms, "completedAtMs": None}
    if item.payload is not None:
        members = orjson.loads(item.payload)
        times = {name: members.get(name) for name in times}
    return {"turnId": turn.id, "item": item.json(), **times}
