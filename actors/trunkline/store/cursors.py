"""Cursors of thread lists: the sort key and the id of an entry, with a mark in front.

`>` goes on behind that entry, `=` from it on, so that a cursor stays valid while threads come and go.
"""

from __future__ import annotations

import msgspec

__all__ = ["Place", "read_cursor", "write_cursor"]


class Place(msgspec.Struct, frozen=True):
    """Where a page begins."""

    key: tuple[int, str]
    """The time that is sorted by, in Unix seconds, and the thread's id."""
    is_inclusive: bool
    """Whether the entry at this place is on the page."""


def write_cursor(mark: str, key: tuple[int, str]) -> str:
    """Return the cursor of an entry; `mark` is `>` or `=`."""
    return f"{mark}{key[0]}.{key[1]}"


def read_cursor(cursor: str) -> Place | None:
    """Return the place that a cursor names; None if it is none of ours."""
    number, dot, thread_id = cursor[1:].partition(".")
    if cursor[:1] not in (">", "=") or not dot or not thread_id:
        return None
    # No more digits than fit the 64 bits of an SQLite integer.
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    return Place((int(number), thread_id), cursor[0] == "=")
