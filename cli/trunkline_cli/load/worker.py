"""One worker: a process with its share of the connections, on one event loop."""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import socket
import ssl
import time
from collections import Counter, deque
from multiprocessing.connection import Connection

from trunkline_cli.load import messages, model, wire
from trunkline_cli.load.client import Client, TimedOut, Wait
from trunkline_cli.load.loop import READ, Loop
from trunkline_cli.load.script import run_script
from trunkline_cli.load.stats import Interval, Phase
from trunkline_cli.load.threadlog import ThreadLog

__all__ = ["Worker", "raise_descriptor_limit", "run_worker"]

TICK_S = 0.25
"""How often a worker reports, and looks for answers that are overdue."""
_LEAVE_S = 0.05
_HANDSHAKES = 128
"""Handshakes under way at a time, unless the scenario wants a storm."""


class Worker:
    """Drives its connections and reports over a pipe."""

    def __init__(self, job: messages.Job, control: Connection) -> None:
        self.loop = Loop()
        self.scenario = job.scenario
        self.target = job.target
        self.address = _address(job.target)
        self.tls = ssl.create_default_context() if job.target.is_secure else None
        self.headers = job.headers
        self.threads = job.threads
        self.logs: dict[str, ThreadLog] = {}
        self.room: list[bytearray] = []
        self.latency_from_mark = job.scenario.latency_from == "mark"
        self.over = False
        self._control = control
        has_begin = any(
            isinstance(step, model.Begin)
            for group in self.scenario.groups
            for step in model.walk(group.steps)
        )
        self._phase: Phase = "setup" if has_begin else "measured"
        self.interval = Interval(self._phase, time.monotonic())
        self._cpu_s = time.process_time()
        self._clients = [
            Client(self, group, index, number)
            for number, (group, index) in enumerate(
                (group, index) for group in self.scenario.groups for index in range(group.connections)
            )
            if number % job.workers == job.index
        ]
        self._active = len(self._clients)
        self._open = 0
        self._handshakes = 0
        self._waiting: deque[Client] = deque()
        self._at_barrier: dict[tuple[str, int], list[Client]] = {}
        self._arrived: Counter[tuple[str, int]] = Counter()
        self._ended: Counter[tuple[str, int]] = Counter()
        self._stopped = False

    def run(self) -> None:
        """Take all steps of all connections. Returns when the last one has ended."""
        self.loop.watch(self._control.fileno(), READ, self._on_control)
        now = time.monotonic()
        for client in self._clients:
            group = client.group
            delay = group.start_delay + group.ramp_up * client.index / group.connections
            self.loop.call_at(now + delay, lambda client=client: client.begin(run_script(client)))  # type: ignore[misc]
        self.loop.call_in(TICK_S, self._tick)
        while self._active and not self._stopped:
            self.loop.run_once(TICK_S)
            if self._arrived or self._ended:
                self._tell_barriers()
        for client in self._clients:
            client.drop()
        self._report(finished=True)
        self.loop.close()

    # What clients use

    def arrive(self, client: Client, barrier: str, generation: int) -> None:
        """Part of `Where`."""
        self._arrived[barrier, generation] += 1
        self._at_barrier.setdefault((barrier, generation), []).append(client)

    def take_slot(self, client: Client) -> bool:
        """Part of `Where`."""
        if self._handshakes < _HANDSHAKES:
            self._handshakes += 1
            return True
        self._waiting.append(client)
        return False

    def free_slot(self) -> None:
        """Part of `Where`."""
        if self._waiting:
            # From the loop, not from here: whoever frees the place is in the middle of a step.
            client = self._waiting.popleft()
            self.loop.call_at(0.0, lambda: client.resume(True))
        else:
            self._handshakes -= 1

    def ended(self, client: Client) -> None:
        """Part of `Where`."""
        self._active -= 1
        for name in {model.barrier_name(step) for step in model.walk(client.group.steps)} - {None}:
            assert name is not None
            self._ended[name, client.barriers.get(name, 0)] += 1

    # What the run says

    def _on_control(self, _events: int) -> None:
        while self._control.poll():
            try:
                message: messages.ToWorker = self._control.recv()
            except EOFError:
                self._stopped = True
                self.loop.forget(self._control.fileno())
                return
            match message:
                case messages.Release():
                    self._on_release(message)
                case messages.Over():
                    if not self.over:
                        self._on_over()
                case messages.Settle():
                    self._send(messages.Settled(self._last_events()))
                case messages.Finish():
                    deadline = time.monotonic() + self.scenario.drain
                    self._leave(message.last_events, deadline)
                case messages.Stop():
                    self._stopped = True

    def _on_release(self, message: messages.Release) -> None:
        if message.phase is not None:
            self._enter(message.phase)
        self._resume(self._at_barrier.pop((message.barrier, message.generation), []))

    def _on_over(self) -> None:
        self._enter("closing")
        self.over = True
        self._waiting.clear()
        self._resume([client for client in self._clients if client.wait is Wait.MOMENT])
        # The run waits for those who are still busy: it should hear at once that there are none.
        self._report()
        self.loop.call_in(_LEAVE_S, self._report_often)

    def _report_often(self) -> None:
        self._report()
        self.loop.call_in(_LEAVE_S, self._report_often)

    def _resume(self, clients: list[Client]) -> None:
        """Resume clients, unless they have gone on already when their turn comes."""
        for client in clients:
            if not client.finished and client.wait in (Wait.MOMENT, Wait.STAY):
                client.resume(None)

    def _last_events(self) -> dict[str, int]:
        """Return the highest number received, by thread."""
        last: dict[str, int] = {}
        for client in self._clients:
            if client.session is not None:
                for subscription in client.session.subscriptions.values():
                    if subscription.active and subscription.seq is not None:
                        thread_id = subscription.thread_id
                        last[thread_id] = max(subscription.seq, last.get(thread_id, 0))
        return last

    def _leave(self, last_events: dict[str, int], deadline: float) -> None:
        """Let those leave who have received what somebody has; look again later for the others."""
        ready, waiting = [], False
        for client in self._clients:
            if client.wait is not Wait.STAY or client.finished:
                continue
            if client.session is not None and client.session.behind(last_events):
                if time.monotonic() < deadline:
                    waiting = True
                    continue
                client.session.count_missing(last_events)
            ready.append(client)
        self._resume(ready)
        if waiting:
            self.loop.call_in(_LEAVE_S, lambda: self._leave(last_events, deadline))

    def _enter(self, phase: Phase) -> None:
        self._report()
        self._phase = self.interval.phase = phase

    # What the run is told

    def _tell_barriers(self) -> None:
        for key in self._arrived.keys() | self._ended.keys():
            self._send(messages.Arrived(*key, arrived=self._arrived[key], ended=self._ended[key]))
        self._arrived.clear()
        self._ended.clear()

    def _tick(self) -> None:
        now = time.monotonic()
        for client in self._clients:
            if client.deadline and client.deadline < now and not client.finished:
                client.fail(TimedOut())
        self._report()
        self.loop.call_in(TICK_S, self._tick)

    def _report(self, *, finished: bool = False) -> None:
        interval = self.interval
        interval.ended_at = time.monotonic()
        cpu_s = time.process_time()
        interval.cpu_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        self._open += interval.opened - interval.closed
        busy = sum(client.wait is Wait.ANSWER and not client.finished for client in self._clients)
        self._send(messages.Report(interval, self._open, busy, finished))
        self.interval = Interval(self._phase, interval.ended_at)

    def _send(self, message: messages.FromWorker) -> None:
        try:
            self._control.send(message)
        except OSError:  # whoever asked for the run is gone
            self._stopped = True


def run_worker(job: messages.Job, control: Connection) -> None:
    """Be a worker process."""
    # Ctrl-C reaches every process of the terminal; the run's own process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()
    # What is allocated here lives as long as its connection; looking for cycles only costs time.
    gc.disable()
    with contextlib.closing(control):
        Worker(job, control).run()


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may allow itself."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _address(target: wire.Target) -> tuple[int, tuple[str, int] | str]:
    """Look a host up, once."""
    if target.socket_path is not None:
        return socket.AF_UNIX, target.socket_path
    family, _, _, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)[0]
    return family, (str(address[0]), int(address[1]))
