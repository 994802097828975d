"""Timers: an edge that tells actors things later."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import weakref
from typing import Any, TypeAlias

import pykka

from trunkline.actor import post
from trunkline.clock import Clock

__all__ = ["Timers"]

# The actor is not kept alive by what it is to be told: one that has stopped may hold much, and the delay may
# be long.
_Due: TypeAlias = tuple[float, int, "weakref.ref[pykka.ActorRef[Any]]", object]

_LOOK_S = 0.1
"""Seconds after which one who waits for a look sees whether the thread still lives."""


class Timers:
    """One OS thread that tells messages when their time has come.

    There is no way to cancel: a message carries what its receiver needs to see that it is late, such
    as a generation or a turn id.

    Args:
        clock: what says when the time has come; None is the machine's.
        name: the thread is called `<name>-timers`.

    """

    def __init__(self, clock: Clock | None = None, *, name: str = "trunkline") -> None:
        self.clock = clock or Clock()
        """By which deadlines are reckoned; for those who reckon one themselves."""
        # What is to be told; an event, for one who waits until what is due has been; None for the end.
        self._added: queue.SimpleQueue[_Due | threading.Event | None] = queue.SimpleQueue()
        self._order = itertools.count()  # among equal deadlines, first come first told
        self._thread = threading.Thread(target=self._run, name=f"{name}-timers", daemon=True)

    @property
    def thread(self) -> threading.Thread:
        """The thread."""
        return self._thread

    def start(self) -> None:
        """Start the thread. Call it once."""
        self.clock.watch(self._look)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread; what has not been told by now never is. Returns whether it has ended."""
        self.clock.unwatch(self._look)
        self._added.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def tell_later(self, delay_s: float, ref: pykka.ActorRef[Any], message: object) -> None:
        """Tell `message` to `ref` in `delay_s` seconds. Any thread; never blocks."""
        self._added.put((self.clock.monotonic() + delay_s, next(self._order), weakref.ref(ref), message))

    def _look(self) -> None:
        """Return once everything that is due has been told. For the thread that has moved the clock."""
        if threading.current_thread() is self._thread:
            return  # moved by what runs here, behind which this thread looks anyway
        looked = threading.Event()
        self._added.put(looked)
        while not looked.wait(_LOOK_S) and self._thread.is_alive():
            pass  # once more: the thread may have ended without a look

    def _run(self) -> None:
        waiting: list[_Due] = []
        while True:
            looked = None
            try:
                added = self._added.get(timeout=self._wait_s(waiting))
            except queue.Empty:
                pass
            else:
                if added is None:
                    return
                if isinstance(added, threading.Event):
                    looked = added
                else:
                    heapq.heappush(waiting, added)
            while waiting and waiting[0][0] <= self.clock.monotonic():
                _, _, ref, message = heapq.heappop(waiting)
                post(ref(), message)
                del message  # nor is it kept alive while this waits for the next
            if looked is not None:
                looked.set()

    def _wait_s(self, waiting: list[_Due]) -> float | None:
        return self.clock.wait_s(waiting[0][0]) if waiting else None
