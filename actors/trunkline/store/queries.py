"""The SQL of lists. No connection here."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from trunkline.store.base import ItemQuery, ThreadQuery, TurnQuery
from trunkline.store.cursors import read_item_cursor, read_thread_cursor, read_turn_cursor
from trunkline.types import ThreadId

__all__ = ["Statement", "items_statement", "threads_statement", "turns_statement"]

MAX_WALKS = 50
"""Walks of an index that are merged. Of more values than this, threads are looked at one by one."""

_Query: TypeAlias = ThreadQuery | TurnQuery | ItemQuery


class Statement(NamedTuple):
    """A statement and its values."""

    sql: str
    values: list[object]


def threads_statement(query: ThreadQuery) -> Statement | None:
    """Return the statement for a page of threads, with one row more than it has: `record`.

    Walks an index from the place of the cursor on, and ends with the page. Of several working directories
    or providers each is a walk, and their pages are merged. What has no index of its own (a search term, a
    provider beside a directory) is looked at row by row.

    Returns:
        None if the cursor is none of ours.

    """
    place = None if query.cursor is None else read_thread_cursor(query.cursor)
    if query.cursor is not None and place is None:
        return None
    conditions = ["is_archived = ?"]
    values: list[object] = [query.is_archived]
    if place is not None:
        conditions.append(f"({query.sort_key}, id) {_comparison(place.is_inclusive, query)} (?, ?)")
        values += place.key
    if query.search_term is not None:
        # instr, not LIKE: case counts, and % is a character like any other.
        conditions.append("(instr(coalesce(name, ''), ?) > 0 OR instr(preview, ?) > 0)")
        values += [query.search_term, query.search_term]
    filters = {"cwd": query.cwds, "model_provider": query.model_providers}
    # The index of this column is walked, once for each value; a plus keeps SQLite from that of the other.
    column = "cwd" if query.cwds else "model_provider"
    is_merged = 1 < len(filters[column]) <= MAX_WALKS
    for name, wanted in filters.items():
        if wanted and not (is_merged and name == column):
            plus = "" if name == column else "+"
            conditions.append(f"{plus}{name} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    order = _order(query)
    walk = (
        f"SELECT record, {query.sort_key}, id FROM threads WHERE {' AND '.join(conditions)}{{}} "
        f"ORDER BY {query.sort_key} {order}, id {order} LIMIT {query.limit + 1}"
    )
    if not is_merged:
        return Statement(walk.format(""), values)
    each = f"SELECT * FROM ({walk.format(f' AND {column} = ?')})"
    several = tuple(dict.fromkeys(filters[column]))
    return Statement(
        f"SELECT * FROM ({' UNION ALL '.join([each] * len(several))}) "
        f"ORDER BY {query.sort_key} {order}, id {order} LIMIT {query.limit + 1}",
        [value for one in several for value in (*values, one)],
    )


def turns_statement(thread_id: ThreadId, query: TurnQuery) -> Statement | None:
    """Return the statement for a page of turns, with one row more than it has: `record`.

    Returns:
        None if the cursor is none of ours.

    """
    place = None if query.cursor is None else read_turn_cursor(query.cursor)
    if query.cursor is not None and place is None:
        return None
    conditions = ["thread_id = ?"]
    values: list[object] = [thread_id]
    if place is not None:
        conditions.append(f"id {_comparison(place.is_inclusive, query)} ?")
        values.append(place.key)
    if query.before is not None:
        conditions.append("id < ?")
        values.append(query.before)
    return Statement(
        f"SELECT record FROM turns WHERE {' AND '.join(conditions)} ORDER BY id {_order(query)} LIMIT ?",
        [*values, query.limit + 1],
    )


def items_statement(thread_id: ThreadId, query: ItemQuery) -> Statement | None:
    """Return the statement for a page of items, with one row more: `turn_id, id, payload, position`.

    Returns:
        None if the cursor is none of ours.

    """
    place = None if query.cursor is None else read_item_cursor(query.cursor)
    if query.cursor is not None and place is None:
        return None
    conditions = ["thread_id = ?"]
    values: list[object] = [thread_id]
    bounds = [] if query.before is None else [(query.before, "<")]
    if place is not None:
        bounds.append((place.key, _comparison(place.is_inclusive, query)))
    order = _order(query)
    if query.turn_id is None:
        sort = f"turn_id {order}, position {order}"
        for bound, comparison in bounds:
            conditions.append(f"(turn_id, position) {comparison} (?, ?)")
            values += bound
    else:
        sort = f"position {order}"
        conditions.append("turn_id = ?")
        values.append(query.turn_id)
        for bound, comparison in bounds:
            # A bound in another turn leaves out all of this one, or nothing.
            if bound.turn_id == query.turn_id:
                conditions.append(f"position {comparison} ?")
                values.append(bound.position)
            elif (bound.turn_id < query.turn_id) == comparison.startswith("<"):
                conditions.append("FALSE")
    return Statement(
        f"SELECT turn_id, id, payload, position FROM items WHERE {' AND '.join(conditions)} "
        f"ORDER BY {sort} LIMIT {query.limit + 1}",
        values,
    )


def _order(query: _Query) -> str:
    return "DESC" if query.is_descending else "ASC"


def _comparison(is_inclusive: bool, query: _Query) -> str:
    return ("<" if query.is_descending else ">") + ("=" if is_inclusive else "")
