"""The store: SQLite, in a file that outlives the process, or in memory.

An edge: a `pykka.ThreadingActor` whose thread may wait for the disk. What has come in while it wrote is
written next, in one transaction (group commit), and then everybody is told. A file is read by a thread of
its own, with a connection of its own, so that a long list or a large thread holds up no commit; it sees
every write that was told before it. Checkpoints, which wait for the disk, have a third thread.
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
import pykka
from pykka._envelope import Envelope

from trunkline.actor import post
from trunkline.errors import StartError
from trunkline.store.base import (
    Commit,
    Committed,
    DeleteThread,
    DropTurns,
    ForkThread,
    ItemsListed,
    Listed,
    ListItems,
    ListThreads,
    ListTurns,
    Loaded,
    LoadThread,
    ReleaseThread,
    SaveEvents,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoreFailed,
    StoreMessage,
    ThreadRecord,
    TurnsListed,
)
from trunkline.store.checkpoints import Checkpoints
from trunkline.store.locks import ThreadLocks
from trunkline.store.reader import Answer, Question, answer
from trunkline.store.schema import open_memory, open_reader, open_writer
from trunkline.types import ThreadId

__all__ = ["SqliteStore"]

logger = logging.getLogger(__name__)

MAX_BATCH = 4096
"""Messages that are written in one transaction at most."""

LINGER_S = 0.05
"""Seconds after which writes are written that nobody waits for."""

_CAN_WAIT = frozenset({SaveThread, SaveTurn, SaveItem, SaveEvents, DropTurns, DeleteThread})
"""Writes, of which nobody is told anything."""


class SqliteStore(pykka.ThreadingActor):
    """Keeps threads in SQLite. Takes and gives the messages of `store.base`.

    Args:
        path: the file; its folder is made if it is not there. None keeps threads in memory, for as long
            as the store lives.

    Raises:
        StartError: the file cannot be used. Nothing in it was changed.

    """

    use_daemon_thread = True

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self._locks: ThreadLocks | None = None
        self._reader: _Reader | None = None
        self._checkpoints: Checkpoints | None = None
        if path is None:
            self._connection = open_memory()
        else:
            self._connection = open_writer(path)
            try:
                self._locks = ThreadLocks(path.with_name(path.name + "-lock"))
                self._reader = _Reader(path)
                self._checkpoints = Checkpoints(path)
            except (OSError, sqlite3.Error) as error:
                self._connection.close()
                raise StartError(f"cannot use the store {path}: {error}") from error
        # Threads of which something could not be written, and why: nothing more is, until their release.
        self._failed: dict[ThreadId, str] = {}
        self._is_failing = False
        # What is kept of the threads that are written here, to write no more than what changes.
        self._records: dict[ThreadId, ThreadRecord] = {}
        # Forks that ask for a turn that is not there.
        self._astray: set[ThreadId] = set()

    @staticmethod
    def _create_actor_inbox() -> Any:
        return queue.SimpleQueue()  # half as slow as Pykka's, and nobody waits for it to be empty

    def on_start(self) -> None:
        """Start to read."""
        if self._reader is not None:
            self._reader.start()
        if self._checkpoints is not None:
            self._checkpoints.start()

    def on_stop(self) -> None:
        """Close the file. What came before the stop is written."""
        if self._reader is not None:
            self._reader.stop()
        if self._checkpoints is not None:
            self._checkpoints.stop()
        if self._locks is not None:
            self._locks.close()
        self._connection.close()

    def _actor_loop_running(self) -> None:
        """Take what has come in as one batch. What Pykka itself sends is handled as always.

        Writes alone are no reason to begin: a `Commit` is mostly right behind them.
        """
        inbox = self.actor_inbox
        batch: list[Any] = []
        while not self.actor_stopped.is_set():
            envelope = _next(inbox, LINGER_S if batch else None)
            is_urgent = envelope is None
            while envelope is not None and _is_ours(envelope) and len(batch) < MAX_BATCH:
                batch.append(envelope.message)
                is_urgent = is_urgent or type(envelope.message) not in _CAN_WAIT
                envelope = None if inbox.empty() else inbox.get()
            if batch and (is_urgent or envelope is not None):
                self._take(batch)
                batch = []
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
            elif isinstance(message, ForkThread):
                self._load_fork(message)
            elif isinstance(message, Question):
                self._read(message)
            elif isinstance(message, ReleaseThread):
                self._release(message.thread_id)

    def _write(self, writes: list[Any]) -> None:
        """Write what is not of a failed thread, all at once; if that fails, each thread by itself."""
        if self._failed:
            writes = [message for message in writes if _thread_of(message) not in self._failed]
        error = self._try_write(writes) if writes else None
        if error is None:
            if self._is_failing and writes:
                self._is_failing = False
                logger.warning("= store: it can be written again")
            if self._checkpoints is not None:
                self._checkpoints.written(writes)
            return
        if not self._is_failing:  # once, and not for every batch of a full disk
            logger.error("x store: it cannot be written: %s", error)
        self._is_failing = True
        by_thread: dict[ThreadId, list[Any]] = {}
        for message in writes:
            by_thread.setdefault(_thread_of(message), []).append(message)
        for thread_id, messages in by_thread.items():
            # One that is locked by somebody else has been waited for long enough.
            is_lost = len(by_thread) == 1 or _is_locked(error)
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
            for message in writes:
                self._records.pop(_thread_of(message), None)
            return error
        return None

    def _release(self, thread_id: ThreadId) -> None:
        self._failed.pop(thread_id, None)
        self._records.pop(thread_id, None)
        if self._locks is not None:
            self._locks.release(thread_id)

    def _lock(self, thread_id: ThreadId) -> bool:
        return self._locks is None or self._locks.take(thread_id)

    def _answer_commit(self, message: Commit) -> None:
        error = self._failed.get(message.thread_id)
        if error is None:
            post(message.reply_to, Committed())
        else:
            post(message.reply_to, StoreFailed(error))

    def _load(self, message: LoadThread) -> None:
        if message.is_for_writing and not self._lock(message.thread_id):
            post(message.reply_to, Loaded(message.token, is_busy=True))
        else:
            self._read(message)

    def _load_fork(self, message: ForkThread) -> None:
        thread_id = message.record.id
        if thread_id in self._astray:
            self._astray.discard(thread_id)
            post(message.reply_to, Loaded(message.token, is_turn_unknown=True))
        elif thread_id in self._failed:
            post(message.reply_to, Loaded(message.token, error=self._failed[thread_id]))
            self._release(thread_id)
        else:
            limit = message.max_item_bytes
            self._read(LoadThread(thread_id, True, message.reply_to, message.token, max_item_bytes=limit))

    def _read(self, question: Question) -> None:
        if self._reader is not None:
            self._reader.ask(question)
        else:
            post(question.reply_to, _answer(self._connection, question))

    # Writing

    def _save_thread(self, message: SaveThread) -> None:
        record = message.record
        kept = self._records.get(record.id)
        if record == kept:
            return
        data = msgspec.json.encode(record)
        if kept is not None and _columns(kept) == _columns(record):
            if kept.updated_at == record.updated_at:
                self._connection.execute("UPDATE threads SET record = ? WHERE id = ?", (data, record.id))
            else:
                values = (record.updated_at, data, record.id)
                self._connection.execute("UPDATE threads SET updated_at = ?, record = ? WHERE id = ?", values)
        else:
            self._lock(record.id)
            self._connection.execute(
                "INSERT OR REPLACE INTO threads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (record.id, record.created_at, record.updated_at, *_columns(record), data),
            )
        self._records[record.id] = record

    def _save_turn(self, message: SaveTurn) -> None:
        values = (message.thread_id, message.record.id, msgspec.json.encode(message.record))
        self._connection.execute("INSERT OR REPLACE INTO turns VALUES (?, ?, ?)", values)

    def _save_item(self, message: SaveItem) -> None:
        item = message.item
        self._connection.execute(
            "INSERT OR REPLACE INTO items (thread_id, turn_id, position, id, payload) VALUES (?, ?, ?, ?, ?)",
            (message.thread_id, message.turn_id, item.position, item.id, item.payload),
        )

    def _save_events(self, message: SaveEvents) -> None:
        execute = self._connection.execute
        thread_id, events = message.thread_id, message.events
        before = (thread_id, events.first_seq - 1)
        if execute("SELECT 1 FROM events WHERE thread_id = ? AND last_seq = ?", before).fetchone() is None:
            execute("DELETE FROM events WHERE thread_id = ?", (thread_id,))
        execute(
            "INSERT OR REPLACE INTO events (thread_id, first_seq, last_seq, data) VALUES (?, ?, ?, ?)",
            (thread_id, events.first_seq, events.last_seq, events.data),
        )
        rows = execute(
            "SELECT last_seq, length(data) FROM events WHERE thread_id = ? ORDER BY last_seq DESC",
            (thread_id,),
        ).fetchall()
        room = message.max_bytes - rows[0][1]  # the newest stay in any case
        for last_seq, size in rows[1:]:
            room -= size
            if room < 0:
                execute("DELETE FROM events WHERE thread_id = ? AND last_seq <= ?", (thread_id, last_seq))
                break

    def _fork_thread(self, message: ForkThread) -> None:
        execute = self._connection.execute
        source_id, last_turn_id, record = message.source_id, message.last_turn_id, message.record
        if last_turn_id is not None:
            turn = (source_id, last_turn_id)
            if execute("SELECT 1 FROM turns WHERE thread_id = ? AND id = ?", turn).fetchone() is None:
                self._astray.add(record.id)
                return
        self._save_thread(SaveThread(record))
        # Turn ids are UUIDv7: later ones sort behind, and all of them before this.
        values = (record.id, source_id, last_turn_id or "~")
        execute(
            "INSERT INTO turns SELECT ?, id, record FROM turns WHERE thread_id = ? AND id <= ?",
            values,
        )
        execute(
            "INSERT INTO items (thread_id, turn_id, position, id, payload) "
            "SELECT ?, turn_id, position, id, payload FROM items WHERE thread_id = ? AND turn_id <= ?",
            values,
        )

    def _drop_turns(self, message: DropTurns) -> None:
        # Turn ids are UUIDv7: later ones sort behind.
        place = (message.thread_id, message.from_turn_id)
        self._connection.execute("DELETE FROM items WHERE thread_id = ? AND turn_id >= ?", place)
        self._connection.execute("DELETE FROM turns WHERE thread_id = ? AND id >= ?", place)

    def _delete_thread(self, message: DeleteThread) -> None:
        self._records.pop(message.thread_id, None)
        for table in ("items", "turns", "events"):
            self._connection.execute(f"DELETE FROM {table} WHERE thread_id = ?", (message.thread_id,))
        self._connection.execute("DELETE FROM threads WHERE id = ?", (message.thread_id,))

    _writers: ClassVar[dict[type, Callable[[SqliteStore, Any], None]]] = {
        SaveThread: _save_thread,
        SaveTurn: _save_turn,
        SaveItem: _save_item,
        SaveEvents: _save_events,
        ForkThread: _fork_thread,
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
        self._asked: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="trunkline-store-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, then close the file. Blocks until that is done."""
        self._asked.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()

    def ask(self, question: Question) -> None:
        """Have a question answered. Never blocks."""
        self._asked.put(question)

    def _run(self) -> None:
        while (question := self._asked.get()) is not None:
            post(question.reply_to, _answer(self._connection, question))
            del question  # while it waits for the next it holds nothing


_UNREADABLE: dict[type, Callable[..., Answer]] = {
    LoadThread: Loaded,
    ListThreads: Listed,
    ListTurns: TurnsListed,
    ListItems: ItemsListed,
}


def _answer(connection: sqlite3.Connection, question: Question) -> Answer:
    try:
        return answer(connection, question)
    except Exception as error:  # a damaged file may hold anything, and others want to read too
        logger.exception("x store: it cannot be read")
        return _UNREADABLE[type(question)](question.token, error=str(error))


def _columns(record: ThreadRecord) -> tuple[object, ...]:
    """Return what has a column of its own, besides the times."""
    return (record.is_archived, record.cwd, record.model_provider, record.name, record.preview)


def _next(inbox: Any, timeout_s: float | None) -> Envelope[Any] | None:
    """Wait for a message; None if there is none in time."""
    try:
        envelope: Envelope[Any] = inbox.get(timeout=timeout_s)
    except queue.Empty:
        return None
    return envelope


def _thread_of(message: Any) -> ThreadId:
    has_record = isinstance(message, SaveThread | ForkThread)
    thread_id: ThreadId = message.record.id if has_record else message.thread_id
    return thread_id


def _is_locked(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY


def _is_ours(envelope: Envelope[Any]) -> bool:
    return envelope.reply_to is None and isinstance(envelope.message, StoreMessage)
