"""Cursors: the key of an entry, with a mark in front. To clients they are opaque.

`>` goes on behind that entry, `=` from it on, so that a cursor stays valid while entries come and go.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from trunkline.store.base import ItemPlace
from trunkline.types import TurnId

__all__ = [
    "Place",
    "at",
    "behind",
    "item_key",
    "read_item_cursor",
    "read_thread_cursor",
    "read_turn_cursor",
    "thread_key",
]

K = TypeVar("K")


class Place(NamedTuple, Generic[K]):
    """Where a page begins."""

    key: K
    is_inclusive: bool
    """Whether the entry at this place is on the page."""


def behind(key: str) -> str:
    """Return the cursor that goes on behind an entry."""
    return f">{key}"


def at(key: str) -> str:
    """Return the cursor that begins with an entry."""
    return f"={key}"


def thread_key(key: tuple[int, str]) -> str:
    """Return the key of a thread in a list: the time that is sorted by, in Unix seconds, and its id."""
    return f"{key[0]}.{key[1]}"


def item_key(place: ItemPlace) -> str:
    """Return the key of an item."""
    return f"{place.turn_id}.{place.position:09d}"


def read_thread_cursor(cursor: str) -> Place[tuple[int, str]] | None:
    """Return the place that a cursor of a list of threads names; None if it is none of ours."""
    number, dot, thread_id = cursor[1:].partition(".")
    if cursor[:1] not in (">", "=") or not dot or not thread_id or not _is_number(number):
        return None
    return Place((int(number), thread_id), cursor[0] == "=")


def read_turn_cursor(cursor: str) -> Place[TurnId] | None:
    """Return the place that a cursor of a list of turns names; None if it is none of ours."""
    if cursor[:1] not in (">", "=") or len(cursor) < 2:
        return None
    return Place(TurnId(cursor[1:]), cursor[0] == "=")


def read_item_cursor(cursor: str) -> Place[ItemPlace] | None:
    """Return the place that a cursor of a list of items names; None if it is none of ours."""
    turn_id, dot, number = cursor[1:].rpartition(".")
    if cursor[:1] not in (">", "=") or not dot or not turn_id or not _is_number(number):
        return None
    return Place(ItemPlace(TurnId(turn_id), int(number)), cursor[0] == "=")


def _is_number(text: str) -> bool:
    # No more digits than fit the 64 bits of an SQLite integer.
    return text.isascii() and text.isdigit() and len(text) <= 18
