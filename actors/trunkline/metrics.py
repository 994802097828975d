"""What a server counts, for those who watch it.

Every OS thread counts for itself, in objects that it alone changes, and whoever wants to know adds them up:
so counting takes no lock, and nobody who counts waits for anybody who looks. What is there now (connections,
threads, mailboxes) is not counted but looked at, when somebody asks.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from trunkline.errors import RpcError
from trunkline.messages import Ref
from trunkline.protocol.errors import ErrorCode
from trunkline.protocol.methods import METHODS

__all__ = ["Counts", "Metrics", "Sizes", "Survey", "refusal_reason"]

_BUCKETS = 64
"""As many as a size may have bits."""


class Sizes:
    """How often something had which size: a histogram whose buckets end at powers of two."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * _BUCKETS
        """The sizes below 1, 2, 4, 8 and so on."""
        self.total = 0
        """The sum of the sizes."""

    def add(self, size: int) -> None:
        """Count one, from 0 to 2**63."""
        self.buckets[size.bit_length()] += 1
        self.total += size

    def merge(self, other: Sizes) -> None:
        """Count all that another has counted."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total


class Counts:
    """What one OS thread has counted since the start. It alone adds; any thread may read."""

    __slots__ = (
        "answered",
        "closes",
        "commits_us",
        "deliveries",
        "errors",
        "flushes",
        "opened",
        "refusals",
        "slow",
        "subscriptions",
        "turns",
    )

    def __init__(self) -> None:
        self.answered: defaultdict[str | None, int] = defaultdict(int)
        """Requests that had a result, by method."""
        self.closes: dict[int, int] = {}
        """Connections that are gone, by close code."""
        self.commits_us = Sizes()
        """Microseconds from asking the store for a commit to its answer."""
        self.deliveries = 0
        """Events sent, once for each subscriber."""
        self.errors: dict[tuple[str, int], int] = {}
        """Requests that had an error, by method and code."""
        self.flushes = Sizes()
        """Bytes handed to a link at once."""
        self.opened = 0
        """Connections that ever came in."""
        self.refusals: dict[str, int] = {}
        """What was not let in or not begun, by reason."""
        self.slow: dict[str, int] = {}
        """Connections closed because their client was too slow, by what it was too slow at."""
        self.subscriptions = 0
        """Subscriptions that began, less those that ended: the sum over all threads is how many there are."""
        self.turns: dict[str, int] = {}
        """Turns that have ended, by status."""

    def merge(self, other: Counts) -> None:
        """Count all that another has counted."""
        for name in ("answered", "closes", "errors", "refusals", "slow", "turns"):
            mine = getattr(self, name)
            for key, count in getattr(other, name).copy().items():  # a copy is atomic, a walk is not
                mine[key] = mine.get(key, 0) + count
        self.commits_us.merge(other.commits_us)
        self.flushes.merge(other.flushes)
        self.deliveries += other.deliveries
        self.opened += other.opened
        self.subscriptions += other.subscriptions


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is at one moment, as the router knows it."""

    router: Ref
    connections: tuple[Ref, ...]
    initialized: int
    """How many of the connections are."""
    threads: tuple[Ref, ...]
    """Those that are loaded."""
    running: int
    """How many of the threads have a turn running."""


class Metrics:
    """What one server counts: nothing is shared with another in the same process."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._by_thread: list[Counts] = []
        self.survey: Callable[[], Survey] | None = None
        """Looks at what there is; any thread may call it. None while there is no router."""

    @property
    def mine(self) -> Counts:
        """The counts of the calling OS thread."""
        try:
            counts: Counts = self._local.counts
        except AttributeError:
            counts = self._local.counts = Counts()
            self._by_thread.append(counts)
        return counts

    def sum(self) -> Counts:
        """Return what all OS threads have counted. Any thread; costs the counting ones nothing."""
        total = Counts()
        for counts in tuple(self._by_thread):
            total.merge(counts)
        return total

    def failed(self, method: str | None, error: RpcError) -> None:
        """Count an error that answers a request. A method that is not the protocol's counts as `other`."""
        counts = self.mine
        name = method if method in METHODS else None
        key = (name or "other", int(error.code))
        counts.errors[key] = counts.errors.get(key, 0) + 1
        reason = refusal_reason(error)
        if reason is not None:
            counts.refusals[reason] = counts.refusals.get(reason, 0) + 1

    def refused(self, reason: str) -> None:
        """Count something that was not let in."""
        refusals = self.mine.refusals
        refusals[reason] = refusals.get(reason, 0) + 1

    def turn_ended(self, status: str) -> None:
        """Count a turn."""
        turns = self.mine.turns
        turns[status] = turns.get(status, 0) + 1

    def closed(self, code: int) -> None:
        """Count a connection that is gone; with code 0 if that is one that clients make up."""
        closes = self.mine.closes
        known = code if 1000 <= code <= 1015 else 0
        closes[known] = closes.get(known, 0) + 1

    def was_slow(self, at: str) -> None:
        """Count a connection that is closed because its client is too slow."""
        slow = self.mine.slow
        slow[at] = slow.get(at, 0) + 1

    def commit_took(self, seconds: float) -> None:
        """Count a commit of the store."""
        self.mine.commits_us.add(int(seconds * 1e6))


def refusal_reason(error: RpcError) -> str | None:
    """Return why a request was not begun; None if the error is about the request itself."""
    if error.code == ErrorCode.OVERLOADED:
        return "overloaded"
    if isinstance(error.data, dict):
        if "missingScope" in error.data:
            return "missingScope"
        reason = error.data.get("reason")
        if reason in _REASONS:
            return str(reason)
    return None


_REASONS = frozenset({"serverShuttingDown", "tooManySubscriptions"})
