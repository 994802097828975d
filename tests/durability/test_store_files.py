"""A file that cannot be used is refused with its name and the reason, and nothing in it is changed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from trunkline import AppServer, Config, StartError


def refusal(path: Path) -> str:
    """Start a server on a file that it must refuse, and return what it says."""
    before = path.read_bytes()
    server = AppServer(Config(store=path))
    with pytest.raises(StartError) as raised:
        server.start()
    assert path.read_bytes() == before, "a file that was refused was changed"
    text = str(raised.value)
    assert str(path) in text
    return text


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 500)
    assert "not a database" in refusal(path)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
        connection.commit()
    assert "another program" in refusal(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "threads.sqlite"
    make_store(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert "newer trunkline" in refusal(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "threads.sqlite"
    make_store(path)
    data = bytearray(path.read_bytes())
    data[4096 : 4096 + 2048] = os.urandom(2048)  # a page behind the header
    path.write_bytes(data)
    assert "damaged" in refusal(path) or "malformed" in refusal(path)


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = AppServer(Config(store=tmp_path / "file" / "threads.sqlite"))
    with pytest.raises(StartError, match="cannot open the store") as raised:
        server.start()
    assert "\n" not in str(raised.value)


def make_store(path: Path) -> None:
    """Make a store file, as a server does."""
    server = AppServer(Config(store=path))
    server.start()
    server.stop()
