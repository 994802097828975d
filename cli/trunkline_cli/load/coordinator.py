"""The run as a whole: barriers, phases, the end, and what the workers report, added up. No I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from trunkline_cli.load import messages, model
from trunkline_cli.load.histogram import Histogram
from trunkline_cli.load.result import NOT_REQUESTS, Point
from trunkline_cli.load.stats import Interval, Phase

__all__ = ["POINT_S", "Coordinator"]

POINT_S = 0.5
"""Length of time that one point of the series stands for."""


class Coordinator:
    """Decides when barriers open and the run ends.

    Args:
        scenario: what is run.
        workers: how many workers there are.
        broadcast: sends a message to every worker.
        now: `time.monotonic()` at the start.

    """

    def __init__(
        self,
        scenario: model.Scenario,
        workers: int,
        broadcast: Callable[[messages.ToWorker], None],
        now: float,
    ) -> None:
        self._scenario = scenario
        self._broadcast = broadcast
        self._began = self._last_tick = now
        # How many connections there are that pass each barrier.
        self._members: Counter[str] = Counter()
        for group in scenario.groups:
            for name in {model.barrier_name(step) for step in model.walk(group.steps)} - {None}:
                assert name is not None
                self._members[name] += group.connections
        self._arrived: Counter[tuple[str, int]] = Counter()
        # Barrier -> how often the connections that have ended had come to it -> how many they are.
        self._ended: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._released: set[tuple[str, int]] = set()
        self._busy = [1] * workers
        self._open = [0] * workers
        self._running = set(range(workers))
        self._over_at: float | None = None
        self._settle_sent = False
        # Workers whose reports are of after the end.
        self._heard_of_end: set[int] = set()
        self._unsettled = set(range(workers))
        self._last_events: dict[str, int] = {}
        self.phase: Phase = "setup" if self._members["begin"] else "measured"
        self.phase_began = now
        self.phases: dict[Phase, Interval] = {
            "setup": Interval("setup", now, now),
            "measured": Interval("measured", now, now),
            "closing": Interval("closing", now, now),
        }
        self._seen: set[Phase] = set()
        self.points: list[Point] = []
        self._pending_points: dict[int, tuple[Interval, int]] = {}
        self.peak_connections = 0
        self.connections_at_begin = 0
        """Connections that were open when the measured time began."""
        self.unfinished = 0

    @property
    def open_connections(self) -> int:
        """Connections open now, as far as reported."""
        return sum(self._open)

    @property
    def done(self) -> bool:
        """Every worker has ended."""
        return not self._running

    @property
    def running(self) -> frozenset[int]:
        """Workers that have not ended."""
        return frozenset(self._running)

    def on_message(self, worker: int, message: messages.FromWorker, now: float) -> None:
        """Take in what a worker says."""
        match message:
            case messages.Arrived():
                key = message.barrier, message.generation
                self._arrived[key] += message.arrived
                self._ended[message.barrier][message.generation] += message.ended
                self._open_barriers(message.barrier, now)
            case messages.Report():
                self._on_report(worker, message)
                self.tick(now)
            case messages.Settled():
                for thread_id, seq in message.last_events.items():
                    self._last_events[thread_id] = max(seq, self._last_events.get(thread_id, 0))
                self._settled(worker)

    def worker_ended(self, worker: int) -> None:
        """Take note that nothing more comes from a worker."""
        self._settled(worker)
        self._running.discard(worker)
        self._busy[worker] = 0

    @property
    def connections(self) -> int:
        """Connections that the scenario has in all."""
        return self._scenario.connections

    @property
    def share_done(self) -> float:
        """How much of the measured time has passed, from 0 to 1, as of the last tick."""
        return min(1.0, (self._last_tick - self.phase_began) / max(self._scenario.duration, 1e-9))

    @property
    def due(self) -> float:
        """When `tick` has to be called even if nothing happens before."""
        return self.phase_began + self._scenario.duration if self.phase == "measured" else float("inf")

    def tick(self, now: float) -> None:
        """Do what is due. Call it a few times a second."""
        self._last_tick = now
        scenario = self._scenario
        if self.phase == "measured" and now - self.phase_began >= scenario.duration:
            self.end(now)
        if self._over_at is None:
            return
        waited = now - self._over_at
        idle = self._running <= self._heard_of_end and not any(self._busy)
        if not self._settle_sent and (idle or waited > scenario.drain):
            self._settle_sent = True
            self._broadcast(messages.Settle())
        if waited > 3 * scenario.drain + POINT_S:
            self.unfinished = sum(self._busy)
            self._broadcast(messages.Stop())
            self._over_at = now  # and once more, should a worker not have heard

    def end(self, now: float) -> None:
        """End the run now: the duration is over, or somebody has had enough. A second call does nothing."""
        if self._over_at is None:
            self._over_at = now
            self._enter("closing", now)
            self._broadcast(messages.Over())

    def _settled(self, worker: int) -> None:
        """Let everybody leave once every worker has said what it has received."""
        if worker in self._unsettled:
            self._unsettled.discard(worker)
            if not self._unsettled and self._settle_sent:
                self._broadcast(messages.Finish(self._last_events))

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self.phase_began = now

    def _open_barriers(self, barrier: str, now: float) -> None:
        """Release what everybody has come to who still can."""
        for (name, generation), arrived in list(self._arrived.items()):
            if name != barrier or (name, generation) in self._released:
                continue
            gone = sum(count for passed, count in self._ended[name].items() if passed <= generation)
            if arrived + gone < self._members[name]:
                continue
            self._released.add((name, generation))
            phase: Phase | None = None
            if name == "begin" and self.phase == "setup":
                phase = "measured"
                self._enter("measured", now)
                self.connections_at_begin = arrived
            self._broadcast(messages.Release(name, generation, phase))

    def _on_report(self, worker: int, report: messages.Report) -> None:
        self._busy[worker] = report.busy
        self._open[worker] = report.open_connections
        self.peak_connections = max(self.peak_connections, self.open_connections)
        interval = report.interval
        if interval.phase == "closing":
            self._heard_of_end.add(worker)
        total = self.phases[interval.phase]
        if interval.phase not in self._seen:
            self._seen.add(interval.phase)
            total.began_at, total.ended_at = interval.began_at, interval.ended_at
        total.merge(interval)
        self._add_point(interval)
        if report.finished:
            self.worker_ended(worker)

    def _add_point(self, interval: Interval) -> None:
        number = int((interval.ended_at - self._began) / POINT_S)
        known, _ = self._pending_points.get(number, (None, 0))
        if known is None:
            known = Interval(interval.phase, interval.began_at, interval.ended_at)
        known.merge(interval)
        known.phase = interval.phase
        self._pending_points[number] = known, self.open_connections
        # Workers report in turn: a point is complete when a later one has been begun by all.
        for complete in [key for key in self._pending_points if key < number - 2]:
            self.points.append(self._point(complete))

    def flush_points(self) -> None:
        """Complete the points that are not complete: nothing more will come."""
        self.points.extend(self._point(number) for number in sorted(self._pending_points))

    def _point(self, number: int) -> Point:
        interval, open_connections = self._pending_points.pop(number)
        requests = Histogram()
        for name, histogram in interval.latencies.items():
            if name not in NOT_REQUESTS:
                requests.merge(histogram)
        deliveries = interval.latencies.get("delivery", Histogram())
        return Point(
            at_s=(number + 1) * POINT_S,
            phase=interval.phase,
            open_connections=open_connections,
            requests_per_s=interval.requests / POINT_S,
            deliveries_per_s=interval.deliveries / POINT_S,
            bytes_in_per_s=interval.bytes_in / POINT_S,
            errors=interval.errors.total(),
            request_p50_us=requests.percentile(50),
            request_p99_us=requests.percentile(99),
            delivery_p50_us=deliveries.percentile(50),
            delivery_p99_us=deliveries.percentile(99),
        )
