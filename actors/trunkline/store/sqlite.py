"""The store that outlives the process: one SQLite file.

An edge: a `pykka.ThreadingActor` whose thread may wait for the disk. What has come in while it wrote is
written next, in one transaction (group commit), and then everybody is told. Reading has a connection and
a thread of its own, so that a long list or a large thread holds up no commit; it sees every write that
was told before it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import orjson
import pykka
from pykka._envelope import Envelope

from trunkline.actor import post
from trunkline.errors import StartError
from trunkline.store.base import (
    Commit,
    Committed,
    DeleteThread,
    DropTurns,
    Listed,
    ListThreads,
    Loaded,
    LoadThread,
    ReleaseThread,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoredItem,
    StoredThread,
    StoredTurn,
    StoreFailed,
    ThreadRecord,
    TurnRecord,
)
from trunkline.store.locks import ThreadLocks
from trunkline.store.queries import list_query, page_of
from trunkline.store.schema import open_reader, open_writer
from trunkline.types import ThreadId, TurnId

__all__ = ["SqliteStore"]

logger = logging.getLogger(__name__)

MAX_BATCH = 4096
"""Messages that are written in one transaction at most."""


class SqliteStore(pykka.ThreadingActor):
    """Keeps threads in an SQLite file. Takes and gives the messages of `store.base`.

    Args:
        path: the file; its folder is made if it is not there.

    Raises:
        StartError: the file cannot be used. Nothing in it was changed.

    """

    use_daemon_thread = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._connection = open_writer(path)
        try:
            self._locks = ThreadLocks(path.with_name(path.name + "-lock"))
            self._reader = _Reader(path)
        except (OSError, sqlite3.Error) as error:
            self._connection.close()
            raise StartError(f"cannot use the store {path}: {error}") from error
        # Threads of which something could not be written, and why: nothing more is, until their release.
        self._failed: dict[ThreadId, str] = {}
        self._is_failing = False

    def on_start(self) -> None:
        """Start to read."""
        self._reader.start()

    def on_stop(self) -> None:
        """Close the file. What came before the stop is written."""
        self._reader.stop()
        self._connection.close()
        self._locks.close()

    def _actor_loop_running(self) -> None:
        """Take what has come in as one batch. What Pykka itself sends is handled as always."""
        inbox = self.actor_inbox
        while not self.actor_stopped.is_set():
            batch: list[Any] = []
            envelope: Envelope[Any] | None = inbox.get()
            while envelope is not None and _is_ours(envelope) and len(batch) < MAX_BATCH:
                batch.append(envelope.message)
                envelope = None if inbox.empty() else inbox.get()
            if batch:
                self._take(batch)
            if envelope is not None:
                self._handle_other(envelope)

    def _handle_other(self, envelope: Envelope[Any]) -> None:
        if _is_ours(envelope):
            self._take([envelope.message])
            return
        try:
            result = self._handle_receive(envelope.message)
        except Exception:
            if envelope.reply_to is None:
                raise
            envelope.reply_to.set_exception()
        else:
            if envelope.reply_to is not None:
                envelope.reply_to.set(result)

    def _take(self, batch: list[Any]) -> None:
        """Write what is to be written, in one transaction; then answer, in order."""
        writes = [message for message in batch if type(message) in self._writers]
        if writes:
            self._write(writes)
        for message in batch:
            if isinstance(message, Commit):
                self._answer_commit(message)
            elif isinstance(message, LoadThread):
                self._load(message)
            elif isinstance(message, ListThreads):
                self._reader.ask(message)
            elif isinstance(message, ReleaseThread):
                self._release(message.thread_id)

    def _write(self, writes: list[Any]) -> None:
        """Write what is not of a failed thread, all at once; if that fails, each thread by itself."""
        by_thread: dict[ThreadId, list[Any]] = {}
        for message in writes:
            by_thread.setdefault(_thread_of(message), []).append(message)
        left = {key: each for key, each in by_thread.items() if key not in self._failed}
        if not left:
            return
        error = self._try_write([message for each in left.values() for message in each])
        if error is None:
            if self._is_failing:
                logger.warning("= store: it can be written again")
            self._is_failing = False
            return
        if not self._is_failing:  # once, and not for every batch of a full disk
            logger.error("x store: it cannot be written: %s", error)
        self._is_failing = True
        for thread_id, messages in left.items():
            # One that is locked by somebody else has been waited for long enough.
            is_lost = len(left) == 1 or _is_locked(error)
            reason = error if is_lost else self._try_write(messages)
            if reason is not None:
                self._failed[thread_id] = str(reason)

    def _try_write(self, writes: list[Any]) -> Exception | None:
        """Write in one transaction. Returns why it could not be, if so; nothing is written then."""
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            for message in writes:
                self._writers[type(message)](self, message)
            execute("COMMIT")
        except Exception as error:  # not only SQLite's: one thread's writes must not end everybody's store
            if not isinstance(error, sqlite3.Error):
                logger.exception("x store: a write failed")
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    execute("ROLLBACK")
            return error
        return None

    def _release(self, thread_id: ThreadId) -> None:
        self._failed.pop(thread_id, None)
        self._locks.release(thread_id)

    def _answer_commit(self, message: Commit) -> None:
        error = self._failed.get(message.thread_id)
        if error is None:
            post(message.reply_to, Committed())
        else:
            post(message.reply_to, StoreFailed(error))

    def _load(self, message: LoadThread) -> None:
        if message.is_for_writing and not self._locks.take(message.thread_id):
            post(message.reply_to, Loaded(message.thread_id, True, None, is_busy=True))
        else:
            self._reader.ask(message)

    # Writing

    def _save_thread(self, message: SaveThread) -> None:
        record = message.record
        self._locks.take(record.id)
        self._connection.execute(
            "INSERT OR REPLACE INTO threads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.created_at,
                record.updated_at,
                record.is_archived,
                record.cwd,
                record.model_provider,
                record.name,
                record.preview,
                orjson.dumps(msgspec.structs.asdict(record)),
            ),
        )

    def _save_turn(self, message: SaveTurn) -> None:
        record = orjson.dumps(msgspec.structs.asdict(message.record))
        self._connection.execute(
            "INSERT OR REPLACE INTO turns VALUES (?, ?, ?)", (message.thread_id, message.record.id, record)
        )

    def _save_item(self, message: SaveItem) -> None:
        item = message.item
        self._connection.execute(
            "INSERT OR REPLACE INTO items (thread_id, turn_id, position, id, payload) VALUES (?, ?, ?, ?, ?)",
            (message.thread_id, message.turn_id, item.position, item.id, item.payload),
        )

    def _drop_turns(self, message: DropTurns) -> None:
        # Turn ids are UUIDv7: later ones sort behind.
        place = (message.thread_id, message.from_turn_id)
        self._connection.execute("DELETE FROM items WHERE thread_id = ? AND turn_id >= ?", place)
        self._connection.execute("DELETE FROM turns WHERE thread_id = ? AND id >= ?", place)

    def _delete_thread(self, message: DeleteThread) -> None:
        for table, column in (("items", "thread_id"), ("turns", "thread_id"), ("threads", "id")):
            self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (message.thread_id,))

    _writers: ClassVar[dict[type, Callable[[SqliteStore, Any], None]]] = {
        SaveThread: _save_thread,
        SaveTurn: _save_turn,
        SaveItem: _save_item,
        DropTurns: _drop_turns,
        DeleteThread: _delete_thread,
    }


class _Reader:
    """The thread that reads the file.

    Args:
        path: the file, which is there.

    """

    def __init__(self, path: Path) -> None:
        self._connection = open_reader(path)
        self._asked: queue.SimpleQueue[LoadThread | ListThreads | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="trunkline-store-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, then close the file. Blocks until that is done."""
        self._asked.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()

    def ask(self, message: LoadThread | ListThreads) -> None:
        """Have a message answered. Never blocks."""
        self._asked.put(message)

    def _run(self) -> None:
        while (message := self._asked.get()) is not None:
            answer: Loaded | Listed
            try:
                answer = self._load(message) if isinstance(message, LoadThread) else self._list(message)
            except Exception as error:  # a damaged file may hold anything, and others want to read too
                logger.exception("x store: it cannot be read")
                answer = _unreadable(message, str(error))
            post(message.reply_to, answer)

    def _load(self, message: LoadThread) -> Loaded:
        execute = self._connection.execute
        thread_id = message.thread_id
        execute("BEGIN")  # one view of all three tables
        try:
            row = execute("SELECT record FROM threads WHERE id = ?", (thread_id,)).fetchone()
            if row is None:
                return Loaded(thread_id, message.is_for_writing, None)
            turns = [
                msgspec.convert(orjson.loads(record), TurnRecord)
                for (record,) in execute(
                    "SELECT record FROM turns WHERE thread_id = ? ORDER BY id", (thread_id,)
                )
            ]
            items: dict[TurnId, list[StoredItem]] = {turn.id: [] for turn in turns}
            rows = execute(
                "SELECT turn_id, id, payload, position FROM items WHERE thread_id = ? "
                "ORDER BY turn_id, position",
                (thread_id,),
            )
            for turn_id, *item in rows:
                items[turn_id].append(StoredItem(*item))
        finally:
            execute("COMMIT")
        record = msgspec.convert(orjson.loads(row[0]), ThreadRecord)
        stored = StoredThread(record, tuple(StoredTurn(turn, tuple(items[turn.id])) for turn in turns))
        return Loaded(thread_id, message.is_for_writing, stored)

    def _list(self, message: ListThreads) -> Listed:
        query = list_query(message.query)
        if query is None:
            return Listed(message.token, is_bad_cursor=True)
        rows = self._connection.execute(*query).fetchall()
        records = [msgspec.convert(orjson.loads(record), ThreadRecord) for (record,) in rows]
        return page_of(records, message.query, message.token)


def _unreadable(message: LoadThread | ListThreads, error: str) -> Loaded | Listed:
    if isinstance(message, LoadThread):
        return Loaded(message.thread_id, message.is_for_writing, None, error=error)
    return Listed(message.token, error=error)


def _thread_of(message: Any) -> ThreadId:
    thread_id: ThreadId = message.record.id if isinstance(message, SaveThread) else message.thread_id
    return thread_id


def _is_locked(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY


_OURS = (
    SaveThread,
    SaveTurn,
    SaveItem,
    DropTurns,
    DeleteThread,
    Commit,
    LoadThread,
    ListThreads,
    ReleaseThread,
)


def _is_ours(envelope: Envelope[Any]) -> bool:
    return envelope.reply_to is None and isinstance(envelope.message, _OURS)
