"""The store that keeps nothing beyond the process: `--store memory`.

Threads that are unloaded can be resumed as long as the server runs.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

import msgspec

from trunkline.actor import Dispatcher, PooledActor, handles, post
from trunkline.store.base import (
    Commit,
    Committed,
    DeleteThread,
    DropTurns,
    Listed,
    ListThreads,
    Loaded,
    LoadThread,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoredItem,
    StoredThread,
    StoredTurn,
    ThreadQuery,
    ThreadRecord,
    TurnRecord,
)
from trunkline.types import ThreadId, TurnId

__all__ = ["MemoryStore"]


class _Turn:
    __slots__ = ("items", "record")

    def __init__(self, record: TurnRecord) -> None:
        self.record = record
        self.items: list[tuple[int, StoredItem]] = []  # by position


class _Thread:
    __slots__ = ("record", "turns")

    def __init__(self, record: ThreadRecord) -> None:
        self.record = record
        self.turns: dict[TurnId, _Turn] = {}


class MemoryStore(PooledActor):
    """Keeps threads in this process. Takes and gives the messages of `store.base`.

    Args:
        dispatcher: whose workers run it.

    """

    def __init__(self, *, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)
        self._threads: dict[ThreadId, _Thread] = {}

    @handles(SaveThread)
    def _on_save_thread(self, message: SaveThread) -> None:
        thread = self._threads.get(message.record.id)
        if thread is None:
            self._threads[message.record.id] = _Thread(message.record)
        else:
            thread.record = message.record

    @handles(SaveTurn)
    def _on_save_turn(self, message: SaveTurn) -> None:
        turns = self._threads[message.thread_id].turns
        turn = turns.get(message.record.id)
        if turn is None:
            turns[message.record.id] = _Turn(message.record)
        else:
            turn.record = message.record

    @handles(SaveItem)
    def _on_save_item(self, message: SaveItem) -> None:
        turn = self._threads[message.thread_id].turns[message.turn_id]
        insort(turn.items, (message.position, message.item), key=lambda each: each[0])

    @handles(DropTurns)
    def _on_drop_turns(self, message: DropTurns) -> None:
        turns = self._threads[message.thread_id].turns
        ids = list(turns)
        for turn_id in ids[ids.index(message.from_turn_id) :] if message.from_turn_id in turns else ():
            del turns[turn_id]

    @handles(DeleteThread)
    def _on_delete_thread(self, message: DeleteThread) -> None:
        self._threads.pop(message.thread_id, None)

    @handles(Commit)
    def _on_commit(self, message: Commit) -> None:
        post(message.reply_to, Committed(message.token))

    @handles(LoadThread)
    def _on_load_thread(self, message: LoadThread) -> None:
        thread = self._threads.get(message.thread_id)
        stored = None
        if thread is not None:
            turns = [
                StoredTurn(turn.record, tuple(item for _, item in turn.items))
                for turn in thread.turns.values()
            ]
            stored = StoredThread(thread.record, tuple(turns))
        post(message.reply_to, Loaded(message.thread_id, stored))

    @handles(ListThreads)
    def _on_list_threads(self, message: ListThreads) -> None:
        records = [thread.record for thread in self._threads.values()]
        post(message.reply_to, _page(records, message.query, message.token))


def _page(records: list[ThreadRecord], query: ThreadQuery, token: int) -> Listed:
    """Cut a page out of all threads. A cursor is the sort key and the id of an entry.

    `>` in front of it means behind that entry, `=` means from it on.
    """
    place = _read_cursor(query.cursor)
    if query.cursor is not None and place is None:
        return Listed(token, is_bad_cursor=True)
    key = _sort_key(query)
    wanted = sorted(
        (record for record in records if _matches(record, query)), key=key, reverse=query.is_descending
    )
    if place is not None:
        wanted = [record for record in wanted if _is_behind(key(record), place, query)]
    page = wanted[: query.limit]
    return Listed(
        token,
        tuple(page),
        next_cursor=_cursor(">", key(page[-1])) if len(wanted) > len(page) else None,
        backwards_cursor=_cursor("=", key(page[0])) if page else None,
    )


def _sort_key(query: ThreadQuery) -> Callable[[ThreadRecord], tuple[int, str]]:
    if query.sort_key == "created_at":
        return lambda record: (record.created_at, record.id)
    return lambda record: (record.updated_at, record.id)


def _matches(record: ThreadRecord, query: ThreadQuery) -> bool:
    return (
        record.is_archived == query.is_archived
        and (not query.cwds or record.cwd in query.cwds)
        and (not query.model_providers or record.model_provider in query.model_providers)
        and (
            query.search_term is None
            or query.search_term in (record.name or "")
            or query.search_term in record.preview
        )
    )


class _Place(msgspec.Struct, frozen=True):
    key: tuple[int, str]
    is_inclusive: bool


def _is_behind(key: tuple[int, str], place: _Place, query: ThreadQuery) -> bool:
    if key == place.key:
        return place.is_inclusive
    return (key < place.key) if query.is_descending else (key > place.key)


def _cursor(mark: str, key: tuple[int, str]) -> str:
    return f"{mark}{key[0]}.{key[1]}"


def _read_cursor(cursor: str | None) -> _Place | None:
    if not cursor or cursor[0] not in ">=":
        return None
    number, dot, thread_id = cursor[1:].partition(".")
    if not dot or not number.isdecimal() or not thread_id:
        return None
    return _Place((int(number), thread_id), cursor[0] == "=")
