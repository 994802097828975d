"""What is in the file about the numbers of a thread's events, while they are being seen."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import orjson
import pytest

from conftest import Serve
from houses import Puppets
from trunkline import feed


def stored_bound(path: Path, thread_id: str) -> int:
    """Return what a server that starts now would take for the number of the thread's last event."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((record,),) = connection.execute("SELECT record FROM threads WHERE id = ?", (thread_id,))
    bound = orjson.loads(record)["seq_bound"]
    assert isinstance(bound, int)
    return bound


def test_no_event_is_seen_that_a_killed_server_would_take_for_its_last(
    serve: Serve, puppets: Puppets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a client that has seen exactly that one would be told that it has missed nothing, with a turn
    # interrupted by the kill.
    monkeypatch.setattr(feed, "RESERVED_SEQS", 5)
    path = tmp_path / "threads.sqlite"
    client = serve(agent=puppets, store=path).connect("alice")
    thread_id = client.start_thread()
    client.start_turn(thread_id, "go")
    play = puppets.next()
    client.wait("turn/started")
    for number in range(30):
        play.speak(f"{number}")
        delta = client.wait("item/agentMessage/delta")
        assert delta["seq"] < stored_bound(path, thread_id)
    play.end()
    client.wait("turn/completed")
