"""The store that keeps nothing beyond the process: `--store memory`.

Threads that are unloaded can be resumed as long as the server runs.
"""

from __future__ import annotations

from bisect import insort

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
    ReleaseThread,
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
from trunkline.store.cursors import Place, read_cursor
from trunkline.store.queries import page_of, sort_key
from trunkline.types import ThreadId, TurnId

__all__ = ["MemoryStore"]


class _Turn:
    __slots__ = ("items", "record")

    def __init__(self, record: TurnRecord) -> None:
        self.record = record
        self.items: list[StoredItem] = []  # by position


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
        insort(turn.items, message.item, key=_position)

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
        post(message.reply_to, Committed())

    @handles(ReleaseThread)
    def _on_release_thread(self, _message: ReleaseThread) -> None:
        """There is no other process."""

    @handles(LoadThread)
    def _on_load_thread(self, message: LoadThread) -> None:
        thread = self._threads.get(message.thread_id)
        stored = None
        if thread is not None:
            turns = [StoredTurn(turn.record, tuple(turn.items)) for turn in thread.turns.values()]
            stored = StoredThread(thread.record, tuple(turns))
        post(message.reply_to, Loaded(message.thread_id, message.is_for_writing, stored))

    @handles(ListThreads)
    def _on_list_threads(self, message: ListThreads) -> None:
        records = [thread.record for thread in self._threads.values()]
        post(message.reply_to, _page(records, message.query, message.token))


def _position(item: StoredItem) -> int:
    return item.position


def _page(records: list[ThreadRecord], query: ThreadQuery, token: int) -> Listed:
    """Cut a page out of all threads."""
    place = None if query.cursor is None else read_cursor(query.cursor)
    if query.cursor is not None and place is None:
        return Listed(token, is_bad_cursor=True)
    wanted = [record for record in records if _matches(record, query)]
    wanted.sort(key=lambda record: sort_key(record, query), reverse=query.is_descending)
    if place is not None:
        wanted = [record for record in wanted if _is_behind(sort_key(record, query), place, query)]
    return page_of(wanted[: query.limit + 1], query, token)


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


def _is_behind(key: tuple[int, str], place: Place, query: ThreadQuery) -> bool:
    if key == place.key:
        return place.is_inclusive
    return (key < place.key) if query.is_descending else (key > place.key)
