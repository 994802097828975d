"""Writes the sample of the present schema version: tests/store/data/vN.sqlite.

    PYTHONPATH=actors python tests/store/make_data.py

To be run once for each version, before it is released, and never again for an older one: the file is what
that version wrote. What is in it is the same in all of them, as far as the version knows it.
"""

from __future__ import annotations

from pathlib import Path

from trunkline.local.remembered import write_events
from trunkline.log import Event
from trunkline.store.base import (
    SaveEvents,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoredItem,
    ThreadRecord,
    TurnRecord,
)
from trunkline.store.schema import SCHEMA_VERSION
from trunkline.store.sqlite import SqliteStore
from trunkline.types import ThreadId, TurnId

ONE = ThreadId("01900000-0000-7000-8000-000000000001")
TWO = ThreadId("01900000-0000-7000-8000-000000000002")
COMMAND = (
    b'{"type":"commandExecution","id":"c3","command":"make","cwd":"/srv/one","status":"completed",'
    b'"commandActions":[],"aggregatedOutput":"done","exitCode":0}'
)
TURNS = [TurnId(f"01900000-0000-7000-9000-00000000000{number}") for number in (1, 2, 3)]


def messages() -> list[object]:
    """Return what the store is told."""
    first = ThreadRecord(
        ONE,
        ONE,
        "/srv/one",
        created_at=100,
        updated_at=300,
        preview="first words",
        name="One",
        model="script",
        epoch="01900000-0000-7000-a000-000000000001",
        seq_bound=42,
    )
    second = ThreadRecord(
        TWO,
        TWO,
        "/srv/two",
        created_at=200,
        updated_at=200,
        forked_from_id=ONE,
        is_archived=True,
        approval_policy="never",
        sandbox={"type": "readOnly", "networkAccess": False},
    )
    refused = {"message": "no", "codexErrorInfo": "other", "additionalDetails": None}
    user = b'{"type":"userMessage","id":"%b","content":[]}'
    return [
        SaveThread(first),
        SaveThread(second),
        SaveTurn(ONE, TurnRecord(TURNS[0], "completed", 100, 110, 10_000)),
        SaveTurn(ONE, TurnRecord(TURNS[1], "failed", 120, 121, 5, refused)),
        SaveTurn(ONE, TurnRecord(TURNS[2], "inProgress", 130)),
        SaveItem(ONE, TURNS[0], StoredItem("u1", user % b"u1", 0)),
        SaveItem(
            ONE, TURNS[0], StoredItem("a1", '{"type":"agentMessage","id":"a1","text":"grüße"}'.encode(), 1)
        ),
        SaveItem(ONE, TURNS[2], StoredItem("u3", user % b"u3", 0)),
        SaveItem(
            ONE,
            TURNS[2],
            StoredItem("c3", COMMAND, 2),
        ),
        SaveEvents(ONE, write_events([_event(41), _event(42)], "run"), 1_000_000),
    ]


def _event(seq: int) -> Event:
    params = {"threadId": ONE, "threadName": f"Name {seq}"}
    return Event(seq, "thread/name/updated", None, 100, params, 1_000, to_everybody=True)


def main() -> None:
    path = Path(__file__).parent / "data" / f"v{SCHEMA_VERSION}.sqlite"
    path.unlink(missing_ok=True)
    store = SqliteStore.start(path)
    for message in messages():
        store.tell(message)
    store.stop()
    path.with_name(path.name + "-lock").unlink()


if __name__ == "__main__":
    main()
