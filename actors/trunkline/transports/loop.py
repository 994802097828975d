"""The I/O loop: one OS thread that waits for all sockets.

Other threads hand it work with `call_soon`; everything else here is for callbacks on the loop's own
thread. It knows sockets, calls and timers, and nothing of what is spoken.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from trunkline.clock import Clock
from trunkline.transports.waker import Waker

__all__ = ["READ", "WRITE", "IoLoop", "Timer", "Watcher"]

logger = logging.getLogger(__name__)

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

_LOOK_S = 0.1
"""Seconds after which one who waits for a look sees whether the thread still lives."""


class Watcher(Protocol):
    """What the loop calls about one socket, on the loop's thread. Neither may block."""

    def on_ready(self, mask: int) -> None:
        """Read from the socket (`READ`), write to it (`WRITE`) or both. May come once after `unwatch`."""
        ...

    def on_loop_stop(self) -> None:
        """Close the socket now, as the loop ends."""
        ...


class Timer:
    """A call that is due at a moment, until it is cancelled."""

    __slots__ = ("_callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        """When it is due, on the loop's clock."""
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call. Twice, or too late, is harmless. On the loop's thread."""
        # The loop forgets the timer itself only when it is due; what it would have kept alive is let go now.
        self._callback = None

    def fire(self) -> None:
        """Call, unless cancelled."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class IoLoop:
    """One OS thread with a selector.

    Args:
        name: what the thread is called.
        clock: by which timers are due; None is the machine's.
        after_round: called on the loop's thread after each round of what was ready; must not block
            or raise.

    """

    def __init__(
        self,
        *,
        name: str = "trunkline-io",
        clock: Clock | None = None,
        after_round: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock or Clock()
        self._after_round = after_round
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # Made by `start`, so that a loop that is never started has nothing to close.
        self._selector: selectors.DefaultSelector
        self._waker: Waker | None = None
        self._watched: dict[socket.socket, tuple[Watcher, int]] = {}
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_ids = itertools.count()
        self._stopping = False

    @property
    def is_running(self) -> bool:
        """True from `start` until the thread has ended."""
        return self._thread.is_alive()

    @property
    def thread(self) -> threading.Thread:
        """The loop's thread."""
        return self._thread

    @property
    def queued(self) -> int:
        """Calls that wait for the loop. Any thread; by the time it is known it may have changed."""
        return len(self._calls)

    def start(self) -> None:
        """Start the thread. Call it once."""
        self._clock.watch(self._look)
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._selector.register(self._waker, READ)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the loop: run what was handed over, tell every watcher, end the thread. Any thread but its own.

        Args:
            timeout_s: seconds to wait for the thread; None waits for ever.

        Returns:
            True if the thread has ended. Calling it again is harmless.

        """
        if self._thread.ident is None:
            if not self._stopping:
                self._stopping = True
                self._close()
            return True
        self._clock.unwatch(self._look)
        self.call_soon(self._begin_stop)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Have the loop's thread call `callback(*args)`, in the order handed over. Any thread; never blocks.

        After the loop has ended nothing is called.
        """
        self._calls.append((callback, args))
        if self._waker is not None:
            self._waker.wake()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once `delay_s` seconds have passed. On the loop's thread."""
        timer = Timer(self._clock.monotonic() + delay_s, callback)
        heapq.heappush(self._timers, (timer.deadline, next(self._timer_ids), timer))
        return timer

    def watch(self, sock: socket.socket, watcher: Watcher, mask: int) -> None:
        """Tell `watcher` when `sock` is ready for what `mask` says; 0 is nothing for now.

        For a socket that is watched already this changes the mask. On the loop's thread.
        """
        _, before = self._watched.get(sock, (None, 0))
        self._watched[sock] = (watcher, mask)
        if before and mask:
            self._selector.modify(sock, mask, watcher)
        elif mask:
            self._selector.register(sock, mask, watcher)
        elif before:
            self._selector.unregister(sock)

    def unwatch(self, sock: socket.socket) -> None:
        """Forget `sock`; call it before closing it. On the loop's thread."""
        _, before = self._watched.pop(sock, (None, 0))
        if before:
            self._selector.unregister(sock)

    def _run(self) -> None:
        select = self._selector.select
        waker = self._waker
        assert waker is not None  # made by `start`
        calls = self._calls
        self._after_round()
        while not self._stopping:
            # After the doze: a call before it is seen by this look, one after it wakes us.
            may_wait = waker.doze()
            ready = select(0 if calls or not may_wait else self._time_to_next_timer())
            waker.rise()
            for key, mask in ready:
                if key.data is None:
                    waker.drain()
                else:
                    self._guarded(key.data.on_ready, mask)
            # Not more than are there now: a call that hands over another must not starve the sockets.
            for _ in range(len(calls)):
                callback, args = calls.popleft()
                self._guarded(callback, *args)
            if self._timers:
                self._fire_timers()
            self._after_round()
        self._close()
        self._after_round()

    def _time_to_next_timer(self) -> float | None:
        if not self._timers:
            return None
        return self._clock.wait_s(self._timers[0][0])

    def _fire_timers(self) -> None:
        now = self._clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            self._guarded(timer.fire)

    def _guarded(self, callback: Callable[..., object], *args: Any) -> None:
        """Call; whatever goes wrong is our bug, and ends at most what was called, not the loop."""
        try:
            callback(*args)
        except Exception:
            logger.exception("x a callback of the I/O loop failed")

    def _look(self) -> None:
        """Return once every timer that is due has fired. For the thread that has moved the clock."""
        if threading.current_thread() is self._thread:
            return  # moved by what runs here, behind which this thread looks anyway
        looked = threading.Event()
        # By the second call the timers have been looked at, behind the first.
        self.call_soon(self.call_soon, looked.set)
        while not looked.wait(_LOOK_S) and self._thread.is_alive():
            pass  # once more: the thread may have ended without a look

    def _begin_stop(self) -> None:
        self._stopping = True

    def _close(self) -> None:
        # What was handed over before the stop may hold a socket that is not watched yet.
        for _ in range(len(self._calls)):
            callback, args = self._calls.popleft()
            self._guarded(callback, *args)
        for watcher, _ in list(self._watched.values()):
            self._guarded(watcher.on_loop_stop)
        self._calls.clear()
        self._timers.clear()
        if self._waker is not None:
            self._selector.close()
            self._waker.close()
