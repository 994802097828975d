"""The clock by which a server waits: the machine's, unless a test moves one of its own.

Every deadline of a server (unloading, the time limits of turns and prompts, stalled clients, handshakes)
is a moment on one clock. Two edges wait for such moments, the timers and the I/O loop, and agents do; all
ask the clock for how long. The times of day that threads and items report are always the machine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]

_MAX_WAIT_S = 3600.0
"""A lock and a selector cannot wait for an arbitrary time."""


class Clock:
    """The machine's monotonic clock. Its methods may be called from any thread and never block."""

    def monotonic(self) -> float:
        """Return the seconds since some moment; the difference of two calls is what counts."""
        return time.monotonic()

    def wait_s(self, deadline: float) -> float | None:
        """Return the seconds of real time that a thread may wait before it looks at the clock again.

        Args:
            deadline: the moment for which it waits, on `monotonic`.

        Returns:
            0 or more; None if it may wait until it is woken by what it gave to `watch`.

        """
        return min(max(deadline - time.monotonic(), 0.0), _MAX_WAIT_S)

    def nap_s(self, deadline: float) -> float:
        """Return the same for a thread that nothing wakes when the clock is moved: never None.

        Args:
            deadline: the moment for which it waits, on `monotonic`.

        """
        return min(max(deadline - time.monotonic(), 0.0), _MAX_WAIT_S)

    def watch(self, look: Callable[[], None]) -> None:
        """Have `look` called each time after the clock was moved by hand. This one never is.

        Args:
            look: called on the thread that moves the clock; returns when all that is due has been done.

        """

    def unwatch(self, look: Callable[[], None]) -> None:
        """Forget `look`. Harmless if it is not known."""
