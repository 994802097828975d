"""What a worker counts: one `Interval` at a time, sent off, merged by whoever asked for the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from trunkline_cli.load.histogram import Histogram

__all__ = ["SLOW_DELIVERY", "Breach", "Interval", "Phase"]

SLOW_DELIVERY = "delivery (slow readers)"
"""The latency of deliveries to clients that are slow on purpose, apart from that of all others."""

Phase: TypeAlias = Literal["setup", "measured", "closing"]
"""Before the `begin` step, from there to the end of the duration, and after it."""


@dataclass(slots=True)
class Breach:
    """One kind of promise that the server broke."""

    count: int
    example: str
    """The first case, in words that name the connection, the thread and what was seen."""


@dataclass(slots=True)
class Interval:
    """All that happened between two moments, in one worker or (merged) in all of them."""

    phase: Phase
    began_at: float
    """`time.monotonic()`, which all processes of a machine share."""
    ended_at: float = 0.0
    requests: int = 0
    """Answered requests, those that were refused included."""
    refused: int = 0
    """Requests that were answered with an error."""
    deliveries: int = 0
    """Notifications and prompts received."""
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_s: float = 0.0
    """CPU time of the worker."""
    opened: int = 0
    """Connections that finished the WebSocket handshake."""
    closed: int = 0
    """Connections that ended, in whatever way."""
    late_sends: int = 0
    """Sends of an open loop that left more than `LATE_S` after their moment though nothing but this
    process held them up."""
    planned_sends: int = 0
    """Sends of an open loop."""
    latencies: dict[str, Histogram] = field(default_factory=dict)
    """By method, and `connect`, `turn`, `delivery`, `prompt`: microseconds."""
    errors: Counter[str] = field(default_factory=Counter)
    """By kind."""
    expected: Counter[str] = field(default_factory=Counter)
    """What looks like an error and is what the scenario asked for, by kind."""
    breaches: dict[str, Breach] = field(default_factory=dict)
    """By the name of the check."""

    def record(self, name: str, value_us: int, count: int = 1) -> None:
        """Record a latency."""
        histogram = self.latencies.get(name)
        if histogram is None:
            histogram = self.latencies[name] = Histogram()
        histogram.record(value_us, count)

    def breach(self, check: str, example: str) -> None:
        """Count a broken promise; the first one is kept as the example."""
        known = self.breaches.get(check)
        if known is None:
            self.breaches[check] = Breach(1, example)
        else:
            known.count += 1

    def merge(self, other: Interval) -> None:
        """Add `other`, of the same phase, to this one."""
        self.began_at = min(self.began_at, other.began_at)
        self.ended_at = max(self.ended_at, other.ended_at)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, histogram in other.latencies.items():
            self.latencies.setdefault(name, Histogram()).merge(histogram)
        self.errors.update(other.errors)
        self.expected.update(other.expected)
        for check, breach in other.breaches.items():
            known = self.breaches.get(check)
            if known is None:
                self.breaches[check] = Breach(breach.count, breach.example)
            else:
                known.count += breach.count


_SUMS = (
    "requests",
    "refused",
    "deliveries",
    "bytes_in",
    "bytes_out",
    "cpu_s",
    "opened",
    "closed",
    "late_sends",
    "planned_sends",
)
