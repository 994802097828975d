"""A store file of each schema version stays readable, and is brought forward."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from conftest import Serve
from helpers import Message
from store.make_data import ONE, TURNS, TWO
from trunkline import StartError
from trunkline.store import schema

DATA = Path(__file__).parent / "data"
VERSIONS = range(1, schema.SCHEMA_VERSION + 1)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def old(version: int, tmp_path: Path) -> Path:
    """A copy of the sample of a version."""
    return Path(shutil.copy(DATA / f"v{version}.sqlite", tmp_path / "threads.sqlite"))


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        number: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return number


def tables_of(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def test_there_is_a_sample_of_every_version() -> None:
    assert {path.name for path in DATA.iterdir()} == {f"v{version}.sqlite" for version in VERSIONS}
    for number in VERSIONS:
        assert version_of(DATA / f"v{number}.sqlite") == number


def test_an_old_file_is_read_and_brought_forward(
    serve: Serve, old: Path, version: int, tmp_path: Path
) -> None:
    house = serve(store=old)
    alice = house.connect("alice")

    (one,) = alice.request("thread/list")["data"]
    assert (one["id"], one["name"], one["preview"], one["cwd"]) == (ONE, "One", "first words", "/srv/one")
    (two,) = alice.request("thread/list", archived=True)["data"]
    assert (two["id"], two["forkedFromId"]) == (TWO, ONE)
    turns: list[Message] = alice.request("thread/read", threadId=ONE, includeTurns=True)["thread"]["turns"]
    assert [(turn["id"], turn["status"]) for turn in turns] == [
        (TURNS[0], "completed"),
        (TURNS[1], "failed"),
        (TURNS[2], "interrupted"),
    ]
    assert [[item["id"] for item in turn["items"]] for turn in turns] == [["u1", "a1"], [], ["u3", "c3"]]
    assert turns[0]["items"][1]["text"] == "grüße"

    epoch = "01900000-0000-7000-a000-000000000001"
    answer = alice.request("thread/resume", threadId=ONE, afterSeq=40, epoch=epoch)
    assert answer["delivery"] == ("snapshot" if version < 2 else "events")
    assert answer["seq"] > 42
    assert alice.run_turn(ONE, "text and on")["status"] == "completed"
    alice.request("thread/unarchive", threadId=TWO)

    fresh = tmp_path / "fresh.sqlite"
    schema.open_writer(fresh).close()
    assert version_of(old) == schema.SCHEMA_VERSION
    assert tables_of(old) == tables_of(fresh)


def test_a_version_that_cannot_be_reached_leaves_the_file_as_it_was(
    old: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (*schema._MIGRATIONS, "CREATE TABLE better (id TEXT); CREATE TABLE threads (id TEXT)")
    monkeypatch.setattr(schema, "_MIGRATIONS", steps)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", len(steps))
    before = tables_of(old)
    with pytest.raises(StartError, match="table threads already exists"):
        schema.open_writer(old)
    assert tables_of(old) == before
    assert version_of(old) == version
