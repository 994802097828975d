"""Reading the store on a thread of the operating system that may wait, such as an agent's."""

from __future__ import annotations

import queue
import threading
from typing import Any, cast

import pykka
from pykka._envelope import Envelope

from trunkline.actor import post
from trunkline.errors import TurnFailed
from trunkline.store.base import ItemPlace, ItemQuery, ItemsListed, ListItems
from trunkline.store.cursors import at, item_key
from trunkline.types import ThreadId

__all__ = ["read_items"]

PAGE_ITEMS = 1_000
PAGE_BYTES = 8 * 1024 * 1024

PATIENCE_S = 120.0
"""Seconds until a store that does not answer is given up: far more than it may be locked by others."""


class _Letterbox:
    """Where an answer goes that somebody waits for: what `post` needs of a reference to an actor."""

    def __init__(self) -> None:
        self.actor_inbox: queue.SimpleQueue[Envelope[Any]] = queue.SimpleQueue()
        self.actor_stopped = threading.Event()

    @property
    def address(self) -> pykka.ActorRef[Any]:
        """What to give as `reply_to`."""
        return cast("pykka.ActorRef[Any]", self)

    def wait(self) -> Any:
        """Wait for an answer."""
        return self.actor_inbox.get(timeout=PATIENCE_S).message


def read_items(store: pykka.ActorRef[Any], thread_id: ThreadId, last: ItemPlace) -> list[bytes]:
    """Return the items of a thread up to a place, oldest first. Blocks; not for actors.

    Raises:
        TurnFailed: they cannot be read.

    """
    letterbox = _Letterbox()
    newest_first: list[bytes] = []
    cursor: str | None = at(item_key(last))
    while cursor is not None:
        query = ItemQuery(PAGE_ITEMS, cursor, is_descending=True, max_bytes=PAGE_BYTES)
        try:
            if not post(store, ListItems(thread_id, query, letterbox.address, 0)):
                raise queue.Empty
            listed: ItemsListed = letterbox.wait()
        except queue.Empty:
            raise TurnFailed("the thread's history cannot be read: the store does not answer") from None
        if listed.error is not None:
            raise TurnFailed("the thread's history cannot be read")
        newest_first += [item.payload for _, item in listed.items]
        cursor = listed.next_cursor
    return newest_first[::-1]
