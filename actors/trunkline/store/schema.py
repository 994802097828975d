"""The store file: its tables, its version, and how an older file becomes a newer one."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from trunkline.errors import StartError

__all__ = ["SCHEMA_VERSION", "open_checkpointer", "open_memory", "open_reader", "open_writer"]

_MIGRATIONS = (
    # 1: threads, turns and items. What is looked for or sorted by has a column; the rest is JSON.
    """
    CREATE TABLE threads (
        id TEXT PRIMARY KEY,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        is_archived INTEGER NOT NULL,
        cwd TEXT NOT NULL,
        model_provider TEXT NOT NULL,
        name TEXT,
        preview TEXT NOT NULL,
        record BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX threads_by_creation ON threads (is_archived, created_at, id);
    CREATE INDEX threads_by_update ON threads (is_archived, updated_at, id);
    CREATE TABLE turns (
        thread_id TEXT NOT NULL,
        id TEXT NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (thread_id, id)
    ) WITHOUT ROWID;
    CREATE TABLE items (
        thread_id TEXT NOT NULL,
        turn_id TEXT NOT NULL,
        position INTEGER NOT NULL,
        id TEXT NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE UNIQUE INDEX items_by_place ON items (thread_id, turn_id, position);
    """,
    # 2: lists of the threads of one directory or provider end with their page, too; the newest events of a
    # thread that is not loaded.
    """
    CREATE INDEX threads_by_cwd_creation ON threads (is_archived, cwd, created_at, id);
    CREATE INDEX threads_by_cwd_update ON threads (is_archived, cwd, updated_at, id);
    CREATE INDEX threads_by_provider_creation ON threads (is_archived, model_provider, created_at, id);
    CREATE INDEX threads_by_provider_update ON threads (is_archived, model_provider, updated_at, id);
    CREATE TABLE events (
        thread_id TEXT NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        data BLOB NOT NULL
    );
    CREATE UNIQUE INDEX events_by_place ON events (thread_id, last_seq);
    """,
)

SCHEMA_VERSION = len(_MIGRATIONS)
"""The version of the files that this program writes, in SQLite's `user_version`."""

LOCK_TIMEOUT_S = 30.0
"""Seconds for which somebody else may hold the file: another process may be migrating it, say."""

_APPLICATION_ID = 0x74726B6C
"""Marks a file as ours: "trkl", in SQLite's `application_id`."""


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for the one thread that writes it, making or migrating it first.

    Raises:
        StartError: it cannot be used, with the reason. Nothing in it was changed.

    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not path.exists() or path.stat().st_size == 0
        connection = _connect(path, "rwc")
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"cannot open the store {path}: {error}") from error
    try:
        _prepare(connection, path, is_new=is_new)
    except BaseException:
        connection.close()
        raise
    return connection


def open_memory() -> sqlite3.Connection:
    """Return a new store that is in memory, and gone when it is closed."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _migrate(connection)
    return connection


def open_checkpointer(path: Path) -> sqlite3.Connection:
    """Open the file for the thread that makes checkpoints."""
    return _connect(path, "rw")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for the thread that reads it."""
    return _connect(path, "ro")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # Each connection belongs to one thread once that has started; it is made and closed by another.
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def _prepare(connection: sqlite3.Connection, path: Path, *, is_new: bool) -> None:
    try:
        if not is_new:
            _check_ours(connection, path)
        if is_new:
            with contextlib.suppress(OSError):
                path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        # What is committed is in the page cache of the operating system: the death of the process loses
        # nothing of it. A power cut may lose the last commits; the file stays whole.
        connection.execute("PRAGMA synchronous = NORMAL")
        # Checkpoints are made elsewhere: they wait for the disk, and commits would wait for them.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        _migrate(connection)
    except sqlite3.Error as error:
        raise StartError(f"cannot use the store {path}: {error}{_advice(error)}") from error


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != _APPLICATION_ID:
        raise StartError(f"cannot use the store {path}: it is an SQLite file of another program")
    if version > SCHEMA_VERSION:
        raise StartError(
            f"cannot use the store {path}: it was written by a newer trunkline "
            f"(version {version}; this one reads up to {SCHEMA_VERSION})"
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StartError(f"cannot use the store {path}: it is damaged: {verdict}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this program's version, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")  # also says whether the file can be written
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for script in _MIGRATIONS[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _advice(error: sqlite3.Error) -> str:
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return "; the file is damaged or no store: move it away, or name another with --store"
    if "readonly" in text:
        return "; it must be writable, and so must its folder"
    if "locked" in text:
        return "; another program holds it"
    return ""
