"""The result of a run, and the figures that are read from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from trunkline_cli.load.histogram import Histogram
from trunkline_cli.load.model import Scenario, Threshold
from trunkline_cli.load.stats import SLOW_DELIVERY, Breach, Interval, Phase

__all__ = ["NOT_REQUESTS", "Point", "Result", "ServerUse", "Verdict"]

SATURATED = 0.95
"""A worker that uses so much of a core may be what limits the rates."""
LATE_SHARE = 0.01
"""So many rounds of an open loop may begin late before it counts."""

NOT_REQUESTS = frozenset({"connect", "delivery", SLOW_DELIVERY, "prompt", "turn"})
"""Latencies that are not a request's."""


@dataclass(frozen=True, slots=True)
class Point:
    """Rates of the whole run, and latencies, over a short time."""

    at_s: float
    """Seconds from the start of the run to the end of this time."""
    phase: Phase
    open_connections: int
    requests_per_s: float
    deliveries_per_s: float
    bytes_in_per_s: float
    errors: int
    request_p50_us: int
    request_p99_us: int
    delivery_p50_us: int
    delivery_p99_us: int
    server_cpu: float | None = None
    """CPU seconds a second, if the server is watched."""
    server_rss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ServerUse:
    """What the watched server used."""

    cpu_s: float
    """CPU time in the measured time."""
    seconds: float
    """Length of the measured time."""
    rss_before: int
    """Resident memory before the first connection of the run."""
    rss_connected: int
    """Resident memory when the measured time began: connections made, and nothing under way."""
    rss_peak: int
    connections: int
    """Open connections when the measured time began."""
    requests: int
    deliveries: int

    @property
    def cpu_us_per_request(self) -> float | None:
        """CPU microseconds per request, where there were requests and nearly nothing else."""
        return self.cpu_s / self.requests * 1e6 if self.requests else None

    @property
    def cpu_us_per_delivery(self) -> float | None:
        """CPU microseconds per delivery."""
        return self.cpu_s / self.deliveries * 1e6 if self.deliveries else None

    @property
    def bytes_per_connection(self) -> float | None:
        """Memory by which the server grew for each connection."""
        return (self.rss_connected - self.rss_before) / self.connections if self.connections else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A threshold and what was measured."""

    threshold: Threshold
    value: float | None
    """None if the run has no such figure: the threshold fails then."""
    passed: bool


@dataclass(slots=True)
class Result:
    """All there is to say about a run."""

    scenario: Scenario
    url: str
    workers: int
    began_at: float
    """Unix time."""
    phases: dict[Phase, Interval]
    points: list[Point]
    peak_connections: int
    interrupted: bool = False
    """Ended early, by Ctrl-C."""
    unfinished: int = 0
    """Connections that had to be cut off at the end."""
    missing: list[str] = field(default_factory=list)
    """Workers that died, and other reasons why figures are incomplete."""
    server: ServerUse | None = None
    left_over: list[str] = field(default_factory=list)
    """With `--embedded`: what the server left behind when it stopped."""
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def measured(self) -> Interval:
        """The measured time."""
        return self.phases["measured"]

    @property
    def window_s(self) -> float:
        """Length of the measured time."""
        return max(self.measured.ended_at - self.measured.began_at, 1e-9)

    @property
    def connections(self) -> int:
        """Connections opened."""
        return sum(interval.opened for interval in self.phases.values())

    @property
    def opened_per_s(self) -> float | None:
        """Connections opened a second before the measured time; None if the scenario has no such time."""
        setup = self.phases["setup"]
        seconds = setup.ended_at - setup.began_at
        return setup.opened / seconds if setup.opened and seconds > 0 else None

    @property
    def errors(self) -> Counter[str]:
        """Errors in all phases, by kind."""
        return sum((interval.errors for interval in self.phases.values()), Counter())

    @property
    def expected(self) -> Counter[str]:
        """What looks like an error and is what the scenario asked for, in all phases, by kind."""
        return sum((interval.expected for interval in self.phases.values()), Counter())

    @property
    def breaches(self) -> dict[str, Breach]:
        """Broken promises in all phases, by the name of the check."""
        merged = Interval("measured", 0.0)
        for interval in self.phases.values():
            for check, breach in interval.breaches.items():
                known = merged.breaches.setdefault(check, Breach(0, breach.example))
                known.count += breach.count
        return merged.breaches

    @property
    def passed(self) -> bool:
        """Every threshold holds, no promise was broken, and nothing is left over, missing or unfinished."""
        return (
            all(verdict.passed for verdict in self.verdicts)
            and not self.breaches
            and not self.left_over
            and not self.missing
            and not self.unfinished
        )

    @property
    def load_side_kept_up(self) -> bool:
        """Whether the figures are the server's, and not those of a load side that was too slow itself."""
        measured = self.measured
        busy = measured.cpu_s / self.window_s / self.workers
        return busy < SATURATED and measured.late_sends <= measured.planned_sends * LATE_SHARE

    def latencies(self) -> dict[str, tuple[Histogram, Phase]]:
        """Return latencies by name: those of the measured time, of others only what it has none of."""
        found: dict[str, tuple[Histogram, Phase]] = {}
        phases: tuple[Phase, ...] = ("measured", "setup", "closing")
        for phase in phases:
            for name, histogram in self.phases[phase].latencies.items():
                found.setdefault(name, (histogram, phase))
        return found

    def requests_histogram(self) -> Histogram:
        """Return the latencies of all requests of the measured time together."""
        merged = Histogram()
        for name, histogram in self.measured.latencies.items():
            if name not in NOT_REQUESTS:
                merged.merge(histogram)
        return merged
