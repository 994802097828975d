"""Barriers, phases and the end, without processes and with a clock that is set."""

from __future__ import annotations

from trunkline_cli.load import messages
from trunkline_cli.load.coordinator import Coordinator
from trunkline_cli.load.parse import parse_scenario
from trunkline_cli.load.stats import Interval, Phase

TEXT = """
name = "test"
duration = 10
drain = 5
[[groups]]
name = "a"
connections = 3
steps = [{ do = "begin" }, { do = "repeat", steps = [{ do = "barrier", name = "round" }] }]
[[groups]]
name = "b"
connections = 2
steps = [{ do = "begin" }, { do = "stay" }]
"""


class Stage:
    def __init__(self, workers: int = 2) -> None:
        self.sent: list[messages.ToWorker] = []
        self.now = 100.0
        self.workers = workers
        self.coordinator = Coordinator(parse_scenario(TEXT, "test"), workers, self.sent.append, self.now)

    def arrive(self, barrier: str, generation: int, arrived: int = 0, ended: int = 0) -> None:
        message = messages.Arrived(barrier, generation, arrived, ended)
        self.coordinator.on_message(0, message, self.now)

    def report(self, worker: int, phase: Phase, *, busy: int = 0, finished: bool = False) -> Interval:
        interval = Interval(phase, self.now - 0.25, self.now)
        interval.requests, interval.deliveries = 5, 100
        message = messages.Report(interval, 2, busy, finished)
        self.coordinator.on_message(worker, message, self.now)
        return interval

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.coordinator.tick(self.now)

    def begin(self) -> None:
        self.arrive("begin", 0, 5)
        self.sent.clear()


def test_a_barrier_opens_when_everybody_has_come() -> None:
    stage = Stage()

    stage.arrive("begin", 0, 3)
    assert stage.sent == []
    stage.arrive("begin", 0, 2)
    assert stage.sent == [messages.Release("begin", 0, "measured")]
    assert stage.coordinator.connections_at_begin == 5


def test_a_barrier_does_not_wait_for_connections_that_have_ended() -> None:
    stage = Stage()

    stage.arrive("begin", 0, 4)
    stage.arrive("begin", 0, ended=1)

    assert stage.sent == [messages.Release("begin", 0, "measured")]


def test_a_connection_that_ends_after_a_barrier_has_been_at_it() -> None:
    stage = Stage()
    stage.begin()

    stage.arrive("round", 0, 2)
    stage.arrive("round", 1, ended=1)  # it had come to the first round and will not come to the second
    assert stage.sent == []
    stage.arrive("round", 0, 1)
    assert stage.sent == [messages.Release("round", 0, None)]
    stage.arrive("round", 1, 2)
    assert stage.sent[-1] == messages.Release("round", 1, None)


def test_the_duration_counts_from_the_beginning_of_the_measured_time() -> None:
    stage = Stage()
    stage.pass_time(60)
    stage.begin()

    assert stage.coordinator.due == stage.now + 10
    stage.pass_time(9.9)
    assert stage.sent == []
    stage.pass_time(0.1)
    assert stage.sent == [messages.Over()]


def test_whoever_stays_may_leave_when_nobody_is_busy_and_all_have_said_what_they_received() -> None:
    stage = Stage()
    stage.begin()
    stage.pass_time(10)
    stage.sent.clear()

    stage.report(0, "closing")
    stage.report(1, "closing", busy=1)
    assert stage.sent == []
    stage.report(1, "closing")
    assert stage.sent == [messages.Settle()]
    stage.coordinator.on_message(0, messages.Settled({"t": 7, "u": 1}), stage.now)
    assert stage.sent == [messages.Settle()]
    stage.coordinator.on_message(1, messages.Settled({"t": 9}), stage.now)
    assert stage.sent[1:] == [messages.Finish({"t": 9, "u": 1})]


def test_a_report_of_before_the_end_does_not_say_that_nobody_is_busy() -> None:
    stage = Stage(workers=1)
    stage.begin()
    stage.pass_time(10)
    stage.sent.clear()

    stage.report(0, "measured")

    assert stage.sent == []


def test_who_is_still_busy_is_waited_for_and_then_cut_off() -> None:
    stage = Stage(workers=1)
    stage.begin()
    stage.pass_time(10)
    stage.report(0, "closing", busy=3)
    stage.sent.clear()

    stage.pass_time(5.1)
    assert stage.sent == [messages.Settle()]
    stage.pass_time(11)
    assert stage.sent[-1] == messages.Stop()
    assert stage.coordinator.unfinished == 3


def test_an_early_end_is_an_end() -> None:
    stage = Stage()
    stage.begin()

    stage.coordinator.end(stage.now)
    stage.coordinator.end(stage.now)

    assert stage.sent == [messages.Over()]


def test_a_worker_that_died_is_not_waited_for() -> None:
    stage = Stage()
    stage.begin()
    stage.coordinator.worker_ended(1)
    stage.pass_time(10)
    stage.report(0, "closing")
    stage.coordinator.on_message(0, messages.Settled({}), stage.now)
    stage.report(0, "closing", finished=True)

    assert stage.sent == [messages.Over(), messages.Settle(), messages.Finish({})]
    assert stage.coordinator.done


def test_reports_are_added_up_by_phase_and_in_time() -> None:
    stage = Stage()
    stage.report(0, "setup")
    stage.begin()
    stage.now += 1
    stage.report(0, "measured")
    stage.report(1, "measured")
    stage.coordinator.flush_points()

    coordinator = stage.coordinator
    assert coordinator.phases["setup"].requests == 5
    assert coordinator.phases["measured"].deliveries == 200
    assert coordinator.phases["measured"].began_at == stage.now - 0.25
    assert [(point.at_s, point.phase, point.deliveries_per_s) for point in coordinator.points] == [
        (0.5, "setup", 200.0),
        (1.5, "measured", 400.0),
    ]
    assert coordinator.peak_connections == 4
