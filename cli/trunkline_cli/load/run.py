"""Runs a scenario: makes the shared threads, starts the workers, watches, and returns the result."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Protocol

from trunkline_cli.load import messages, model, proc, wire
from trunkline_cli.load.blocking import BlockingClient
from trunkline_cli.load.coordinator import POINT_S, Coordinator
from trunkline_cli.load.result import Point, Result, ServerUse
from trunkline_cli.load.stats import Phase
from trunkline_cli.load.worker import TICK_S, run_worker

__all__ = ["Settings", "run_load"]

_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a scenario is run."""

    url: str
    workers: int = 1
    server_pid: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    on_progress: Callable[[Coordinator, float], None] | None = None
    """Called a few times a second, with the time since the start in seconds."""


class WorkerHandle(Protocol):
    """What runs a worker: a process, or in tests a thread."""

    def start(self) -> None:
        """Start it."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


def spawn_worker(job: messages.Job, control: Connection) -> WorkerHandle:
    """Make a process that runs a worker."""
    context = multiprocessing.get_context("spawn")
    return context.Process(target=run_worker, args=(job, control), name=f"load-{job.index}", daemon=True)


def run_load(
    scenario: model.Scenario,
    settings: Settings,
    make_worker: Callable[[messages.Job, Connection], WorkerHandle] = spawn_worker,
) -> Result:
    """Run a scenario to its end, or to Ctrl-C.

    Raises:
        Refused: the server cannot be reached, or the shared threads cannot be made.
        ValueError: the URL is none, or there is no process to watch.

    """
    target = wire.parse_target(settings.url)
    if settings.server_pid is not None and proc.sample(settings.server_pid) is None:
        raise ValueError(f"there is no process {settings.server_pid} to watch")
    with BlockingClient(target, settings.headers, scenario.timeout) as client:
        threads = {each.name: _make_threads(client, each) for each in scenario.threads}
    run = _Run(scenario, settings, target, threads, make_worker)
    return run.execute()


def _make_threads(client: BlockingClient, threads: model.ThreadSet) -> tuple[str, ...]:
    """Make a set of shared threads and return their ids. Nobody is subscribed to them then."""
    ids = []
    for _ in range(threads.count):
        thread_id = client.request("thread/start", threads.params)["thread"]["id"]
        ids.append(thread_id)
        if threads.prepare is not None:
            params = {"threadId": thread_id, "input": [{"type": "text", "text": threads.prepare}]}
            turn_id = client.request("turn/start", params)["turn"]["id"]
            client.wait_for(lambda message: _completes(message, turn_id))  # noqa: B023  # called at once
        client.request("thread/unsubscribe", {"threadId": thread_id})
    return tuple(ids)


def _completes(message: dict[str, Any], turn_id: str) -> bool:
    return message["method"] == "turn/completed" and bool(message["params"]["turn"]["id"] == turn_id)


class _Run:
    """One run. Made and executed once."""

    def __init__(
        self,
        scenario: model.Scenario,
        settings: Settings,
        target: wire.Target,
        threads: dict[str, tuple[str, ...]],
        make_worker: Callable[[messages.Job, Connection], WorkerHandle],
    ) -> None:
        self._make_worker = make_worker
        self._scenario = scenario
        self._settings = settings
        self._target = target
        self._threads = threads
        self._workers: list[tuple[WorkerHandle, Connection]] = []
        self._began = time.monotonic()
        self._coordinator = Coordinator(scenario, settings.workers, self._broadcast, self._began)
        self._samples: list[tuple[Phase, proc.ProcessSample]] = []
        self._interrupts = 0
        self._missing: list[str] = []

    def execute(self) -> Result:
        began_at = time.time()
        self._sample()
        with self._signals():
            self._start_workers()
            try:
                self._watch()
            finally:
                self._stop_workers()
        self._coordinator.flush_points()
        coordinator = self._coordinator
        return Result(
            scenario=self._scenario,
            url=self._settings.url,
            workers=self._settings.workers,
            began_at=began_at,
            phases=coordinator.phases,
            points=self._with_server(coordinator.points),
            peak_connections=coordinator.peak_connections,
            interrupted=self._interrupts > 0,
            unfinished=coordinator.unfinished,
            missing=self._missing,
            server=self._server_use(),
        )

    def _start_workers(self) -> None:
        for index in range(self._settings.workers):
            job = messages.Job(
                scenario=self._scenario,
                target=self._target,
                threads=self._threads,
                index=index,
                workers=self._settings.workers,
                headers=self._settings.headers,
            )
            ours, theirs = multiprocessing.Pipe()
            worker = self._make_worker(job, theirs)
            worker.start()
            if isinstance(worker, BaseProcess):
                theirs.close()  # the process has its own
            self._workers.append((worker, ours))

    def _watch(self) -> None:
        """Take in what the workers say until they have ended."""
        by_pipe = {pipe: index for index, (_, pipe) in enumerate(self._workers)}
        next_tick = time.monotonic()
        while not self._coordinator.done:
            next_call = min(next_tick, self._coordinator.due)
            for pipe in wait(list(by_pipe), max(0.0, next_call - time.monotonic())):
                assert isinstance(pipe, Connection)
                index = by_pipe[pipe]
                try:
                    message: messages.FromWorker = pipe.recv()
                except (EOFError, OSError):
                    del by_pipe[pipe]
                    if index in self._coordinator.running:
                        self._missing.append(f"worker {index} died, with what it had not reported yet")
                    self._coordinator.worker_ended(index)
                    continue
                phase = self._coordinator.phase
                self._coordinator.on_message(index, message, time.monotonic())
                if phase != self._coordinator.phase:
                    self._sample()
            now = time.monotonic()
            if now >= next_tick or now >= self._coordinator.due:
                next_tick = now + TICK_S
                self._tick(now)

    def _tick(self, now: float) -> None:
        phase = self._coordinator.phase
        if self._interrupts:
            self._coordinator.end(now)
        self._coordinator.tick(now)
        self._sample()
        if phase == "measured" and self._coordinator.phase == "closing":
            self._sample()
        if self._settings.on_progress is not None:
            self._settings.on_progress(self._coordinator, now - self._began)

    def _broadcast(self, message: messages.ToWorker) -> None:
        for _, pipe in self._workers:
            try:
                pipe.send(message)
            except OSError:  # it has ended, which its own pipe says too
                continue

    def _stop_workers(self) -> None:
        for worker, pipe in self._workers:
            pipe.close()
            worker.join(_PATIENCE_S)
            if isinstance(worker, BaseProcess):
                if worker.is_alive():
                    worker.kill()
                    worker.join()
                worker.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take the first Ctrl-C as a wish to end early; a second one is an ordinary interrupt."""

        def on_interrupt(_number: int, _frame: FrameType | None) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt

        try:
            previous = signal.signal(signal.SIGINT, on_interrupt)
        except ValueError:  # not in the main thread, where no signal arrives anyway
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    # The server's process

    def _sample(self) -> None:
        pid = self._settings.server_pid
        sample = None if pid is None else proc.sample(pid)
        if sample is not None:
            self._samples.append((self._coordinator.phase, sample))

    def _server_use(self) -> ServerUse | None:
        samples = self._samples
        measured = [sample for phase, sample in samples if phase == "measured"]
        after = [sample for phase, sample in samples if phase == "closing"][:1]
        if not measured:
            return None
        first, last = measured[0], (after or measured)[-1]
        interval = self._coordinator.phases["measured"]
        # Counted at the same moments as the CPU time, or nearly: scaled to the same length of time.
        seconds = max(last.at - first.at, 1e-9)
        return ServerUse(
            cpu_s=last.cpu_s - first.cpu_s,
            seconds=seconds,
            rss_before=samples[0][1].rss_bytes,
            rss_connected=first.rss_bytes,
            rss_peak=max(sample.rss_bytes for _, sample in samples),
            connections=self._coordinator.connections_at_begin,
            requests=interval.requests,
            deliveries=interval.deliveries,
        )

    def _with_server(self, points: list[Point]) -> list[Point]:
        """Add the server's CPU and memory to the series."""
        if not self._samples:
            return points
        samples = [sample for _, sample in self._samples]
        found = []
        for point in points:
            end = self._began + point.at_s
            inside = [sample for sample in samples if end - 2 * POINT_S <= sample.at <= end]
            if len(inside) > 1:
                spent = inside[-1].cpu_s - inside[0].cpu_s
                cpu = spent / max(inside[-1].at - inside[0].at, 1e-9)
                point = replace(point, server_cpu=cpu, server_rss_bytes=inside[-1].rss_bytes)
            found.append(point)
        return found
