"""No list and no resume looks at more than it shows: how SQLite goes about the statements that are used.

The statements are taken from a store at work, not written down here a second time.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from trunkline.protocol.ids import uuid7
from trunkline.store import reader
from trunkline.store.base import (
    ItemPlace,
    ItemQuery,
    ListItems,
    ListThreads,
    ListTurns,
    LoadThread,
    ThreadQuery,
    ThreadRecord,
    TurnQuery,
    TurnRecord,
)
from trunkline.store.cursors import behind, item_key, thread_key
from trunkline.store.schema import open_memory
from trunkline.types import ThreadId, TurnId

THREAD = ThreadId(uuid7())
TURN = TurnId(uuid7())
WHO: Any = None


@pytest.fixture
def statements() -> Iterator[tuple[sqlite3.Connection, list[str]]]:
    """A store with a thread in it, and the statements that are run on it."""
    connection = open_memory()
    record = ThreadRecord(THREAD, THREAD, "/a", created_at=1, updated_at=1)
    connection.execute(
        "INSERT INTO threads VALUES (?, 1, 1, 0, '/a', 'local', NULL, '', ?)",
        (THREAD, msgspec.json.encode(record)),
    )
    turn = msgspec.json.encode(TurnRecord(TURN, "completed", 1))
    connection.execute("INSERT INTO turns VALUES (?, ?, ?)", (THREAD, TURN, turn))
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    yield connection, seen
    connection.close()


def check_plans(connection: sqlite3.Connection, seen: list[str]) -> None:
    """No statement that was run goes through a whole table, or sorts what it finds."""
    connection.set_trace_callback(None)
    selects = [statement for statement in seen if statement.startswith("SELECT")]
    assert selects
    for statement in selects:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        text = f"{statement}\n" + "\n".join(plan)
        for step in plan:
            assert not re.match(r"SCAN (threads|turns|items|events)", step), text
            # Pages of several directories are merged; each of them is short.
            assert "TEMP B-TREE" not in step or "UNION ALL" in statement, text
        for step in plan:
            if step.startswith("SEARCH"):
                assert "USING" in step, text


FILTERS: list[dict[str, Any]] = [
    {},
    {"cwds": ("/a",)},
    {"cwds": ("/a", "/b", "/c")},
    {"model_providers": ("local",)},
    {"model_providers": ("local", "other")},
    {"cwds": ("/a",), "model_providers": ("local", "other")},
    {"search_term": "x"},
    {"cwds": ("/a", "/b"), "search_term": "x"},
]


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: "+".join(filters) or "all")
def test_a_page_of_threads_walks_an_index_from_its_cursor_on(
    statements: tuple[sqlite3.Connection, list[str]], filters: dict[str, Any]
) -> None:
    connection, seen = statements
    for sort_key, is_descending, is_archived, cursor in itertools.product(
        ("created_at", "updated_at"), (True, False), (True, False), (None, behind(thread_key((5, THREAD))))
    ):
        key: Any = sort_key
        query = ThreadQuery(25, cursor, key, is_descending, is_archived, **filters)
        answer = reader.answer(connection, ListThreads(query, WHO, 1))
        assert answer.error is None
    check_plans(connection, seen)
    column = "cwd" if "cwds" in filters else "provider" if "model_providers" in filters else "is_archived"
    names = {"cwd": "threads_by_cwd_", "provider": "threads_by_provider_", "is_archived": "threads_by_"}
    for statement in (each for each in seen if each.startswith("SELECT")):
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        searches = [step for step in plan if step.startswith("SEARCH threads")]
        assert searches
        assert all(f"INDEX {names[column]}" in step for step in searches), plan


def test_a_resume_and_a_read_look_up_one_thread(
    statements: tuple[sqlite3.Connection, list[str]],
) -> None:
    connection, seen = statements
    for max_bytes, last in ((1, None), (None, TURN)):
        limits: dict[str, Any] = {"last_turn_id": last, "max_item_bytes": max_bytes}
        reader.answer(connection, LoadThread(THREAD, True, WHO, 1, with_events=True, **limits))
    check_plans(connection, seen)


def test_pages_of_a_thread_walk_an_index_from_their_cursor_on(
    statements: tuple[sqlite3.Connection, list[str]],
) -> None:
    connection, seen = statements
    place = ItemPlace(TURN, 3)
    for is_descending, turn_id, cursor, border in itertools.product(
        (True, False), (None, TURN), (None, behind(item_key(place))), (None, place)
    ):
        items = ItemQuery(25, cursor, is_descending, turn_id, before=border)
        reader.answer(connection, ListItems(THREAD, items, WHO, 1))
    for is_descending, cursor, before, view in itertools.product(
        (True, False), (None, f"={TURN}"), (None, TURN), ("notLoaded", "summary", "full")
    ):
        turns = TurnQuery(25, cursor, is_descending, view, before=before)  # type: ignore[arg-type]
        reader.answer(connection, ListTurns(THREAD, turns, WHO, 1))
    check_plans(connection, seen)
