"""The SQL of thread lists, and how rows become a page. No connection here."""

from __future__ import annotations

from trunkline.store.base import Listed, ThreadQuery, ThreadRecord
from trunkline.store.cursors import read_cursor, write_cursor

__all__ = ["list_query", "page_of", "sort_key"]


def sort_key(record: ThreadRecord, query: ThreadQuery) -> tuple[int, str]:
    """Return what a list sorts a thread by."""
    time_s = record.created_at if query.sort_key == "created_at" else record.updated_at
    return (time_s, record.id)


def list_query(query: ThreadQuery) -> tuple[str, list[object]] | None:
    """Return the statement for a page, with one row more than it has, and its values.

    Walks an index from the place of the cursor on; filters other than the archive are looked at row by
    row, and stop at the end of the page.

    Returns:
        None if the cursor is none of ours.

    """
    place = None if query.cursor is None else read_cursor(query.cursor)
    if query.cursor is not None and place is None:
        return None
    conditions = ["is_archived = ?"]
    values: list[object] = [query.is_archived]
    if place is not None:
        comparison = ("<" if query.is_descending else ">") + ("=" if place.is_inclusive else "")
        conditions.append(f"({query.sort_key}, id) {comparison} (?, ?)")
        values += place.key
    for column, wanted in (("cwd", query.cwds), ("model_provider", query.model_providers)):
        if wanted:
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    if query.search_term is not None:
        # instr, not LIKE: case counts, and % is a character like any other.
        conditions.append("(instr(coalesce(name, ''), ?) > 0 OR instr(preview, ?) > 0)")
        values += [query.search_term, query.search_term]
    direction = "DESC" if query.is_descending else "ASC"
    values.append(query.limit + 1)
    return (
        f"SELECT record FROM threads WHERE {' AND '.join(conditions)} "
        f"ORDER BY {query.sort_key} {direction}, id {direction} LIMIT ?",
        values,
    )


def page_of(records: list[ThreadRecord], query: ThreadQuery, token: int) -> Listed:
    """Return a page: `records` are those from its first entry on, one more than it holds if there is."""
    page = tuple(records[: query.limit])
    if not page:
        return Listed(token)
    has_more = len(records) > query.limit
    return Listed(
        token,
        page,
        next_cursor=write_cursor(">", sort_key(page[-1], query)) if has_more else None,
        backwards_cursor=write_cursor("=", sort_key(page[0], query)),
    )
