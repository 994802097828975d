"""The event loop of one worker: epoll and timers, nothing else.

Not asyncio: what a delivery costs here is paid thousands of times a second on the machine whose
server is measured, and a callback per readable socket is all that is needed.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["READ", "WRITE", "Handler", "Loop"]

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Handler: TypeAlias = Callable[[int], None]
"""Called with the epoll events of its descriptor."""

_MAX_EVENTS = 512


class Loop:
    """Calls handlers when their descriptors are ready, and callbacks when their time has come."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        # Keeps timers of the same moment in the order in which they were set, and callbacks uncompared.
        self._order = itertools.count()

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call `handler` whenever one of `events` holds for `fd`."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events from now on."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`. Call it before the descriptor is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, moment: float, callback: Callable[[], None]) -> None:
        """Call `callback` once `time.monotonic()` has reached `moment`. It cannot be taken back."""
        heapq.heappush(self._timers, (moment, next(self._order), callback))

    def call_in(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` in so many seconds."""
        self.call_at(time.monotonic() + seconds, callback)

    def run_once(self, longest_s: float) -> None:
        """Wait until something is ready or due, at most `longest_s` seconds, and deal with all of it."""
        timers = self._timers
        if timers:
            longest_s = min(longest_s, max(0.0, timers[0][0] - time.monotonic()))
        handlers = self._handlers
        for fd, events in self._epoll.poll(longest_s, _MAX_EVENTS):
            # An earlier handler of the same round may have closed this one.
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)
        while timers and timers[0][0] <= time.monotonic():
            heapq.heappop(timers)[2]()

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()
