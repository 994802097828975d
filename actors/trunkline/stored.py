"""Threads that are stored and not loaded: which methods take them, and what is answered from the store.

Plain functions; the router calls them with what it has read.
"""

from __future__ import annotations

from trunkline.conversation import Conversation, record_json
from trunkline.engines import NOT_LOADED
from trunkline.pages import list_items, list_turns, snapshot
from trunkline.protocol import errors
from trunkline.protocol.params import ItemsListParams, Params, ThreadReadParams, TurnsListParams
from trunkline.store.base import StoredThread
from trunkline.types import JsonObject, ThreadId

__all__ = ["TAKES_STORED", "WRITES_STORED", "answer_from_store", "check_stored"]

_READS = frozenset({"thread/read", "thread/turns/list", "thread/items/list"})

WRITES_STORED = frozenset(
    {"thread/resume", "thread/archive", "thread/unarchive", "thread/delete", "thread/name/set"}
)
"""Methods that load a thread which is not loaded."""

TAKES_STORED = _READS | WRITES_STORED | {"thread/fork"}
"""Methods that take a thread which is not loaded."""


def check_stored(method: str, thread_id: ThreadId, stored: StoredThread | None) -> StoredThread:
    """Return what is stored of a thread, if the method takes it in its state.

    Raises:
        RpcError: there is no such thread, or it is in the archive, or it is not and should be.

    """
    if method == "thread/unarchive":
        if stored is None or not stored.record.is_archived:
            raise errors.not_archived(thread_id)
    elif stored is None:
        raise (errors.thread_not_loaded if method in _READS else errors.no_rollout)(thread_id)
    elif stored.record.is_archived and method == "thread/archive":
        raise errors.no_rollout(thread_id)
    elif stored.record.is_archived and method in ("thread/resume", "thread/fork"):
        raise errors.archived(thread_id)
    return stored


def answer_from_store(stored: StoredThread, params: Params, max_bytes: int) -> JsonObject | None:
    """Return the answer to a method that only reads; None for one that does more.

    Args:
        stored: what is kept of the thread.
        params: the method's.
        max_bytes: of items, in the answer to a `thread/read`.

    Raises:
        RpcError: the params name something that is not there.

    """
    if isinstance(params, TurnsListParams):
        return list_turns(Conversation(stored.record, stored.turns), params)
    if isinstance(params, ItemsListParams):
        return list_items(Conversation(stored.record, stored.turns), params)
    if not isinstance(params, ThreadReadParams):
        return None
    if not params.include_turns:
        return {"thread": record_json(stored.record, NOT_LOADED)}
    turns, left_out = snapshot(Conversation(stored.record, stored.turns), max_bytes)
    return {"thread": record_json(stored.record, NOT_LOADED, turns), **left_out}
