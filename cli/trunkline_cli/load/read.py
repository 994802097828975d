"""What one read of a connection brought, and how the latency of what is in it counts."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from trunkline_cli.load.stats import Interval

__all__ = ["Buffer", "Read"]

Buffer: TypeAlias = bytes | bytearray
"""Bytes that were read. Whoever keeps some of them keeps a copy: the next read goes to the same place."""


class Read(NamedTuple):
    """One read."""

    data: Buffer
    end: int
    """What is behind this position was not read."""
    now_ms: float
    """When, in Unix milliseconds."""
    interval: Interval
    """Where what is in it is counted."""
    name: str
    """As what its latency counts."""

    def record(self, emitted_ms: int, count: int = 1) -> None:
        """Count the latency of so many events that were emitted then."""
        self.interval.record(self.name, int((self.now_ms - emitted_ms) * 1000), count)
