"""The end: `AppServer.stop`, from wherever it is called, `ActorRegistry.stop_all`, and what is left."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
import pytest

from children import environment
from embedding.hosts import Inbox, get, initialized, start_thread, start_turn
from houses import LocalHouse, Puppets, in_parallel
from trunkline import (
    Agent,
    AppServer,
    Call,
    Closed,
    Dispatcher,
    PooledActor,
    ServerStopped,
    StopReport,
    Turn,
    TurnInterrupted,
    stopping,
)
from trunkline.inprocess import link
from trunkline.local.backend import LocalBackend
from trunkline.messages import InterruptTurns, Message, Ref
from trunkline.testing import WebSocketWire, settle
from trunkline.transports.closes import STOPPING
from trunkline.types import ThreadId
from wires import PATIENCE_S, WireClosed

LISTEN = ("ws://127.0.0.1:0",)


class Deaf(Agent):
    """Takes no notice of an interrupt."""

    release = threading.Event()

    def run_turn(self, turn: Turn) -> None:
        self.release.wait(PATIENCE_S)


def descriptors() -> dict[str, str]:
    """Return what this process has open, by number."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[path.name] = str(path.readlink())
        except OSError:
            continue  # that of the folder itself
    return found


def read_to_the_end(wire: WebSocketWire) -> Closed:
    while True:
        try:
            wire.receive(PATIENCE_S)
        except WireClosed as error:
            return error.closed


def lived(server: AppServer) -> StopReport:
    """Give a server everything it can have, and stop it."""

    @server.method("acme/do")
    def do(call: Call) -> str:
        call.notify("acme/doing")
        return "done"

    with server:
        inbox = Inbox()
        connection = initialized(server, inbox)
        unread = initialized(server)
        thread_id = start_thread(connection)
        get(unread.request("thread/resume", {"threadId": thread_id}))
        start_turn(connection, thread_id, "text hello")
        inbox.wait("turn/completed")
        assert get(connection.request("acme/do")) == "done"
        get(server.thread(thread_id).publish("acme/said"))
        server.thread(thread_id).prompt("acme/ask")
        wire = WebSocketWire(server.listeners[0].url)
        reports: list[StopReport] = []
        in_parallel(
            lambda: reports.append(server.stop()),
            lambda: read_to_the_end(wire),
        )
        assert read_to_the_end(wire).code == 1001
        wire.cut()
        assert inbox.wait_closed().code == 1001
        assert [each for each in unread if isinstance(each, Closed)] == [Closed(*STOPPING)]
    return reports[0]


def test_after_the_stop_no_thread_socket_descriptor_file_or_actor_is_left(tmp_path: Path) -> None:
    lived(AppServer(listen=LISTEN, agent="script", store=tmp_path / "warm.sqlite"))  # imports, caches
    before, threads = descriptors(), set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        report = lived(AppServer(listen=LISTEN, agent="script", store=tmp_path / "kept.sqlite"))
        gc.collect()
    assert report.is_clean, report
    assert descriptors() == before
    assert set(threading.enumerate()) == threads
    assert pykka.ActorRegistry.get_all() == []
    assert {path.name for path in tmp_path.iterdir()} == {
        *("warm.sqlite", "warm.sqlite-lock", "kept.sqlite", "kept.sqlite-lock")
    }, "nothing beside the store is left on the disk"


def test_it_may_be_stopped_before_it_is_started_and_as_often_as_one_likes() -> None:
    server = AppServer(agent=None)
    assert server.stop().is_clean
    with server:
        first = server.stop()
        assert first.is_clean
        assert server.stop() is first
    assert server.stop() is first


def test_all_who_stop_it_at_once_get_one_report() -> None:
    server = AppServer(agent=None)
    server.start()
    reports: list[StopReport] = []
    in_parallel(*(lambda: reports.append(server.stop()) for _ in range(8)))
    assert len({id(report) for report in reports}) == 1
    assert reports[0].is_clean


# From threads that cannot wait for it.


def from_callback(server: AppServer, stop: Callable[[], object]) -> None:
    start_thread(initialized(server, lambda _: stop()))


def from_future(server: AppServer, stop: Callable[[], object]) -> None:
    initialized(server).request("thread/start").add_done_callback(lambda _: stop())


def from_method(server: AppServer, stop: Callable[[], object]) -> None:
    server.method("acme/stop")(lambda _: stop() and None)
    initialized(server).request("acme/stop")


def from_agent(server: AppServer, stop: Callable[[], object]) -> None:
    connection = initialized(server)
    start_turn(connection, start_thread(connection), "stop")


def from_pooled_actor(server: AppServer, stop: Callable[[], object]) -> None:
    class Stopper(PooledActor):
        def on_receive(self, message: Any) -> None:
            stop()
            self.stop()

    Stopper.start(dispatcher=server._dispatcher).tell("now")


def from_loop(server: AppServer, stop: Callable[[], object]) -> None:
    server._loop.call_soon(stop)


@pytest.mark.parametrize(
    "begin", [from_callback, from_future, from_method, from_agent, from_pooled_actor, from_loop]
)
def test_on_a_thread_of_its_own_the_stop_goes_on_behind_it(begin: Callable[..., None]) -> None:
    reports: list[StopReport] = []
    stopped = threading.Event()

    def stop() -> None:
        reports.append(server.stop(grace_s=5))
        stopped.set()

    class Stopper(Agent):
        def run_turn(self, turn: Turn) -> None:
            stop()

    server = AppServer(listen=LISTEN, agent=Stopper)
    server.start()
    begin(server, stop)
    assert stopped.wait(PATIENCE_S)
    assert not reports[0].is_complete
    assert server.wait_closed(0)
    report = server.stop()
    assert report.is_clean, report


def test_an_actor_of_the_hosts_may_stop_it_and_be_told_of_the_close() -> None:
    class Host(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[Any] = []

        def on_receive(self, message: Any) -> Any:
            if isinstance(message, AppServer):
                return message.stop()
            self.heard.append(message)
            return None

    host = Host.start()
    server = AppServer(agent=None)
    server.start()
    initialized(server, host)
    report: Any = host.ask(server, timeout=PATIENCE_S)
    assert report.is_clean
    heard = host.proxy().heard.get(timeout=PATIENCE_S)
    assert heard[-1] == Closed(*STOPPING)
    host.stop()


# What has to be cut off.


def test_threads_and_the_store_may_take_all_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, float] = {}
    stop, tell = LocalBackend.stop, stopping._tell

    def note_stop(backend: LocalBackend, timeout_s: float) -> tuple[str, ...]:
        given["store"] = timeout_s
        return stop(backend, timeout_s)

    def note_tell(router: Ref | None, message: Message, done: threading.Event, timeout_s: float) -> bool:
        given[type(message).__name__] = timeout_s
        return tell(router, message, done, timeout_s)

    monkeypatch.setattr(LocalBackend, "stop", note_stop)
    monkeypatch.setattr(stopping, "_tell", note_tell)
    server = AppServer(agent=None)
    server.start()

    assert server.stop(timeout_s=1000).is_clean

    assert 900 < given["StopThreads"] < 1000
    assert 900 < given["store"] < 1000


def test_it_returns_in_its_time_and_says_what_it_had_to_cut_off() -> None:
    Deaf.release.clear()
    hold = threading.Event()
    server = AppServer(listen=LISTEN, agent=Deaf, interrupt_grace_s=60)

    @server.method("acme/hang")
    def hang(_: Call) -> None:
        hold.wait(PATIENCE_S)

    server.start()
    connection = initialized(server, Inbox())
    thread_id = start_thread(connection)
    start_turn(connection, thread_id, "x")
    connection.request("acme/hang")
    settle(server)
    report = server.stop(grace_s=0, timeout_s=1.0)
    assert report.took_s < 10
    assert report.is_complete
    assert not report.is_clean
    assert report.turns == (thread_id,)
    assert report.connections == 1
    assert [name.rstrip("0123456789abcdef") for name in report.os_threads] == [
        "trunkline-method-worker-",
        "trunkline-turn-",
    ]
    Deaf.release.set()
    hold.set()


def test_a_turn_that_ends_on_its_interrupt_is_named_and_leaves_nothing(puppets: Puppets) -> None:
    with AppServer(agent=puppets) as server:
        connection = initialized(server)
        thread_id = start_thread(connection)
        start_turn(connection, thread_id, "x")
        puppets.next_turn()
        report = server.stop(grace_s=0)
    assert report == StopReport(took_s=report.took_s, turns=(ThreadId(thread_id),))


def test_a_client_that_reads_nothing_is_cut_off(house: LocalHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "CLOSE_S", 0.2)
    monkeypatch.setattr(link, "BUFFER_BYTES", 1000)

    @house.server.method("acme/flood")
    def flood(call: Call) -> None:
        for _ in range(20):
            call.notify("acme/text", {"text": "x" * 50_000})

    connection = initialized(house.server)
    get(connection.request("acme/flood"))
    report = house.server.stop(grace_s=0)
    assert (report.connections, report.os_threads, report.actors) == (1, (), ())
    assert list(connection)[-1] == Closed(*STOPPING)


# Pykka's own way.


def test_stop_all_of_pykkas_registry_shuts_the_server_down(tmp_path: Path) -> None:
    store = tmp_path / "threads.sqlite"
    server = AppServer(listen=LISTEN, agent="script", store=store)
    server.start()
    inbox = Inbox()
    connection = initialized(server, inbox)
    thread_id = start_thread(connection)
    start_turn(connection, thread_id, "text kept")
    inbox.wait("turn/completed")
    wire = WebSocketWire(server.listeners[0].url)

    in_parallel(
        lambda: pykka.ActorRegistry.stop_all(timeout=PATIENCE_S),
        lambda: read_to_the_end(wire),
    )
    assert server.wait_closed(PATIENCE_S)
    report = server.stop()
    assert report.is_clean, report
    assert inbox.wait_closed().code == 1001
    assert read_to_the_end(wire).code == 1001
    wire.cut()
    with AppServer(agent="script", store=store) as again, initialized(again) as reader:
        read = get(reader.request("thread/read", {"threadId": thread_id, "includeTurns": True}))
        assert [item["type"] for item in read["thread"]["turns"][0]["items"]] == [
            "userMessage",
            "agentMessage",
        ]


def test_a_turn_that_runs_while_all_are_stopped_is_interrupted(puppets: Puppets) -> None:
    server = AppServer(agent=puppets)
    server.start()
    connection = initialized(server)
    start_turn(connection, start_thread(connection), "x")
    play = puppets.next_turn()
    ended = threading.Event()

    def wait(turn: Turn) -> None:
        try:
            turn.sleep(PATIENCE_S)
        except TurnInterrupted:
            ended.set()
            raise

    play.do(wait)
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)
    assert ended.wait(PATIENCE_S)
    assert server.stop().is_clean


def test_whoever_stops_the_router_alone_stops_the_server(inbox: Inbox) -> None:
    server = AppServer(agent=None)
    server.start()
    start_thread(initialized(server, inbox))
    router = server._router
    assert router is not None
    router.stop(timeout=PATIENCE_S)
    assert server.stop().is_clean
    assert inbox.wait_closed().code == 1001


def test_who_comes_in_while_all_are_stopped_is_closed_too(caplog: pytest.LogCaptureFixture) -> None:
    server = AppServer(agent=None)
    server.method("acme/do")(lambda call: call.notify("acme/doing"))
    server.start()
    over = threading.Event()
    inboxes: list[Inbox] = []

    def come_in() -> None:
        while not over.is_set():
            inbox = Inbox()
            try:
                connection = server.connect(inbox)
            except ServerStopped:
                return
            inboxes.append(inbox)
            connection.initialize("host")
            connection.request("acme/do")

    in_parallel(come_in, come_in, lambda: pykka.ActorRegistry.stop_all(timeout=PATIENCE_S))
    over.set()
    assert server.stop().actors == ()
    assert {inbox.wait_closed().code for inbox in inboxes} <= {1001}
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


PROGRAM = """
import pykka
from trunkline import AppServer
server = AppServer(agent=None)
server.start()
server.connect().initialize("host").get()
{end}
"""


@pytest.mark.parametrize("end", ["server.stop()", "pykka.ActorRegistry.stop_all()", ""])
def test_a_program_ends_when_it_has_come_to_its_end(end: str) -> None:
    # Without a stop as well: no thread of the library keeps a program from ending.
    program = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(end=end)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (program.returncode, program.stderr) == (0, "")


def test_a_dispatcher_that_ends_takes_the_time_it_was_given_in_all() -> None:
    dispatcher = Dispatcher(workers=2, name="trunkline-test")
    dispatcher.start()
    hold = threading.Event()
    for _ in range(2):
        dispatcher.schedule(lambda: [hold.wait(PATIENCE_S)].clear())
    assert not dispatcher.stop(0.05)
    hold.set()
    assert dispatcher.stop(PATIENCE_S)


def test_a_stop_waits_for_a_turn_that_the_router_has_not_heard_of_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unaware(pykka.ThreadingActor):
        """A router to which no thread has said yet that its turn runs, and none says that it has ended."""

        def on_receive(self, message: Any) -> None:
            if isinstance(message, InterruptTurns):
                message.done(())

    router, hurry = Unaware.start(), threading.Event()
    hurry.set()
    try:
        deadline = stopping.Deadline(PATIENCE_S)
        stopping.end_turns(router, deadline, hurry, grace_s=0.0, interrupt_grace_s=-0.9)
    finally:
        router.stop()
    assert "turns are still running" in caplog.text  # it did wait, for the tenth of a second that it had
