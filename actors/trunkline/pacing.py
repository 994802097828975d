"""Pacing: whether those who publish into a thread have to wait for its subscribers.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

from trunkline.feed import Feed
from trunkline.messages import Message, Ref
from trunkline.timers import Timers

__all__ = ["PaceDue", "Pacing"]

PACE_S = 2.0
"""Seconds for which publishers are held for subscribers that take nothing at all."""


class PaceDue(Message, frozen=True):
    """Publishers have been held for `PACE_S`; `taken` is what subscribers had taken when that began."""

    taken: int


class Pacing:
    """Holds those who publish while even the fastest subscriber is half a log behind, if it takes anything.

    Args:
        feed: the thread's.
        timers: tell the thread when it is time to look again.
        thread: told `PaceDue`.

    """

    def __init__(self, feed: Feed, timers: Timers, thread: Ref) -> None:
        self._feed = feed
        self._timers = timers
        self._thread = thread
        # Bytes that subscribers have taken; whether they took nothing for so long that nobody is held.
        self._taken = 0
        self._has_stalled = False
        self.is_held = False
        """Whether publishers wait, as it was at the last look."""

    def taken(self, size: int) -> None:
        """Note that a subscriber's socket has taken `size` bytes."""
        self._taken += size
        self._has_stalled = False

    def look(self) -> None:
        """Look again, once events are out."""
        must_wait = not self._has_stalled and self._feed.is_far_ahead()
        if must_wait and not self.is_held:
            self._tell_due()
        self.is_held = must_wait

    def due(self, message: PaceDue) -> None:
        """See whether somebody has taken something meanwhile."""
        if not self.is_held:
            return
        if message.taken == self._taken:
            self._has_stalled = True  # until somebody takes something
        else:
            self._tell_due()

    def _tell_due(self) -> None:
        self._timers.tell_later(PACE_S, self._thread, PaceDue(self._taken))
