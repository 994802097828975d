"""Timers: an edge that tells actors things later."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from typing import Any

import pykka

from trunkline.actor import post

__all__ = ["Timers"]


class Timers:
    """One OS thread that tells messages when their time has come.

    There is no way to cancel: a message carries what its receiver needs to see that it is late, such
    as a generation or a turn id.
    """

    def __init__(self, name: str = "trunkline") -> None:
        self._added: queue.SimpleQueue[tuple[float, int, pykka.ActorRef[Any], object] | None] = (
            queue.SimpleQueue()
        )
        self._order = itertools.count()  # among equal deadlines, first come first told
        self._thread = threading.Thread(target=self._run, name=f"{name}-timers", daemon=True)

    def start(self) -> None:
        """Start the thread. Call it once."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread; what has not been told by now never is. Returns whether it has ended."""
        self._added.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def tell_later(self, delay_s: float, ref: pykka.ActorRef[Any], message: object) -> None:
        """Tell `message` to `ref` in `delay_s` seconds. Any thread; never blocks."""
        self._added.put((time.monotonic() + delay_s, next(self._order), ref, message))

    def _run(self) -> None:
        waiting: list[tuple[float, int, pykka.ActorRef[Any], object]] = []
        while True:
            try:
                added = self._added.get(timeout=self._time_left(waiting))
            except queue.Empty:
                pass
            else:
                if added is None:
                    return
                heapq.heappush(waiting, added)
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, ref, message = heapq.heappop(waiting)
                post(ref, message)

    @staticmethod
    def _time_left(waiting: list[tuple[float, int, pykka.ActorRef[Any], object]]) -> float | None:
        if not waiting:
            return None
        # An hour at most: a lock cannot wait for an arbitrary time.
        return min(max(waiting[0][0] - time.monotonic(), 0.0), 3600.0)
