"""A guest in somebody's process: nothing global is touched, and two servers share nothing."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
import typing
from typing import Any

import pykka
import pytest
from pykka.debug import log_thread_tracebacks

from children import environment
from embedding.hosts import Inbox, get, initialized, start_thread, start_turn
from houses import Puppets
from trunkline import Agent, AppServer, Config, ConfigError, Limits, RpcError, Turn
from trunkline.config import Settings
from trunkline.testing import WebSocketWire
from wires import PATIENCE_S

LISTEN = ("ws://127.0.0.1:0",)

# Runs in a process of its own, in which nobody has imported or set anything yet.
PROGRAM = """
import asyncio, builtins, gc, locale, logging, os, signal, socket, sys, threading, warnings

def state():
    root = logging.getLogger()
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wakeup": signal.set_wakeup_fd(signal.set_wakeup_fd(-1)),
        "handlers": list(root.handlers), "level": root.level, "disabled": root.manager.disable,
        "logger class": logging.getLoggerClass(), "record factory": logging.getLogRecordFactory(),
        "ours": [logging.getLogger(name).handlers for name in ("trunkline", "websocket_server")],
        "cwd": os.getcwd(), "environ": dict(os.environ), "umask": os.umask(os.umask(0)),
        "path": list(sys.path), "argv": list(sys.argv), "streams": (sys.stdin, sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook,
                  sys.gettrace(), sys.getprofile(), threading.gettrace()),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size(),
                   sys.get_int_max_str_digits(), socket.getdefaulttimeout()),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), list(gc.callbacks)),
        "warnings": list(warnings.filters), "locale": locale.setlocale(locale.LC_ALL),
        "policy": type(asyncio.get_event_loop_policy()), "builtins": set(vars(builtins)),
    }

def different(what):
    now = state()
    for name, value in before.items():
        if now[name] != value:
            print(f"{what}: {name} was {value} and is {now[name]}")

before = state()
import trunkline, trunkline.aio, trunkline.testing
different("imported")
servers = [trunkline.AppServer(listen=("ws://127.0.0.1:0",), agent="script") for _ in range(2)]
for server in servers:
    server.start()
    connection = server.connect()
    connection.initialize("host").get()
    thread_id = connection.request("thread/start").get()["thread"]["id"]
    connection.request("turn/start", {"threadId": thread_id, "input": [{"type": "text", "text": "text x"}]})
    next(each for each in connection if each.method == "turn/completed")
different("running")
for server in servers:
    server.stop()
different("stopped")
"""


def test_no_setting_of_the_process_is_touched() -> None:
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


class Echo(Agent):
    def __init__(self, name: str = "echo") -> None:
        self.name = name

    def run_turn(self, turn: Turn) -> None:
        turn.say(f"{self.name}: {turn.text}")


def test_two_servers_share_nothing() -> None:
    one = AppServer(listen=LISTEN, agent=Echo("one"))
    other = AppServer(listen=LISTEN, agent=Echo("other"))
    one.method("acme/name")(lambda _: "one")
    with other:
        with one:
            inboxes = Inbox(), Inbox()
            mine, theirs = initialized(one, inboxes[0]), initialized(other, inboxes[1])
            thread_id = start_thread(mine)
            for connection in (theirs, initialized(other)):
                for method in ("thread/resume", "thread/read"):
                    with pytest.raises(RpcError):
                        get(connection.request(method, {"threadId": thread_id}))
            with pytest.raises(RpcError, match="Method not found"):
                get(theirs.request("acme/name"))
            with pytest.raises(RpcError, match="thread not found"):
                get(other.thread(thread_id).publish("acme/said"))
            assert get(theirs.request("thread/loaded/list"))["data"] == []
            assert inboxes[1].methods() == []
            assert one.thread(thread_id).prompt("acme/ask") is not None
            assert inboxes[0].wait("acme/ask").id == 0, "and so do not even their ids"
        assert get(theirs.request("thread/loaded/list"))["data"] == [], "one has stopped, the other goes on"
        other_thread = start_thread(theirs)
        start_turn(theirs, other_thread, "hello")
        assert inboxes[1].wait("turn/completed").params["turn"]["items"][0]["text"] == "other: hello"


# How it is built.


def made_by_function() -> Agent:
    return Echo("function")


@pytest.mark.parametrize(("processors", "workers"), [({0}, 1), ({0, 1}, 1), ({1, 5, 6}, 2)])
def test_a_second_worker_takes_a_third_processor(
    processors: set[int], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: processors)
    assert Config().workers == workers
    assert Config(workers=3).workers == 3


@pytest.mark.parametrize(
    ("agent", "name"), [(Echo, "echo"), (Echo("object"), "object"), (made_by_function, "function")]
)
def test_an_agent_is_a_class_an_object_or_a_function(agent: Any, name: str, inbox: Inbox) -> None:
    with AppServer(agent=agent) as server:
        connection = initialized(server, inbox)
        for thread_id in (start_thread(connection), start_thread(connection)):
            start_turn(connection, thread_id, "hello")
            turn = inbox.wait("turn/completed").params["turn"]
            assert turn["items"][0]["text"] == f"{name}: hello"


class Half(Agent):
    """Has no `run_turn`."""


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        (Half, "the class `Half` is no `trunkline.Agent` with a `run_turn`"),
        (dict, "the class `dict` is no `trunkline.Agent`"),
        (5, "an object of type `int` is neither agent nor factory"),
        ("nobody", "unknown agent `nobody`"),
    ],
)
def test_what_is_no_agent_is_said_at_once(agent: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        AppServer(agent=agent)


def test_settings_are_arguments_or_a_config_or_both() -> None:
    config = Config(agent=None, workers=3)
    assert AppServer(config).config is not None
    assert AppServer(config, workers=1, limits=Limits(log_events=5)).config == Config(
        agent=None, workers=1, limits=Limits(log_events=5)
    )
    assert config.workers == 3
    assert Settings.__annotations__.keys() == {field.name for field in dataclasses.fields(Config)}
    assert typing.get_type_hints(Settings) == typing.get_type_hints(Config)
    with pytest.raises(ConfigError, match="workers must be 1 or more, not 0"):
        AppServer(workers=0)
    with pytest.raises(ConfigError, match="listen must be a tuple of URLs"):
        AppServer(listen="ws://127.0.0.1:0")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='or "memory", not "threads'):
        AppServer(store="threads.sqlite3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='not "src"'):
        AppServer(cwd="src")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'worker'"):
        AppServer(worker=1)  # type: ignore[call-arg]


def test_the_logs_of_the_library_are_loggers_that_a_host_can_set(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trunkline")
    with AppServer(agent=None) as server:
        initialized(server).close()
    assert caplog.records
    assert {record.name.partition(".")[0] for record in caplog.records} == {"trunkline"}


# Pykka's tools.


def test_the_actors_of_a_server_are_in_pykkas_registry_and_answer_as_any_do() -> None:
    with AppServer(agent="script") as server:
        connection = initialized(server)
        start_thread(connection)
        refs = {ref.actor_class.__name__: ref for ref in pykka.ActorRegistry.get_all()}
        assert {"Router", "Thread", "InProcessSession"} <= set(refs)
        for name in ("Router", "Thread", "InProcessSession"):
            ref = refs[name]
            assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
            assert pykka.ActorRegistry.get_by_class_name(name) == [ref]
            proxy = ref.proxy()
            assert proxy.actor_urn.get(timeout=PATIENCE_S) == ref.actor_urn
            assert proxy.inbox_depth.get(timeout=PATIENCE_S) == 0
            assert (
                ref.ask("what is not known is logged, and answered with nothing", timeout=PATIENCE_S) is None
            )
            assert ref.is_alive()
        get(connection.request("thread/loaded/list"))


def test_a_dump_of_all_threads_says_who_does_what(puppets: Puppets, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    hold, held = threading.Event(), threading.Event()
    with AppServer(listen=LISTEN, agent=puppets, workers=2) as server:

        def stand(_: Any) -> None:
            held.set()
            hold.wait(PATIENCE_S)

        server.method("acme/stand")(stand)
        wire = WebSocketWire(server.listeners[0].url)
        connection = initialized(server)
        start_turn(connection, start_thread(connection), "x")
        puppets.next_turn()
        connection.request("acme/stand")
        assert held.wait(PATIENCE_S)
        log_thread_tracebacks()
        hold.set()
        wire.cut()
        server.stop(grace_s=0)
    said = "\n".join(record.getMessage() for record in caplog.records)
    for name in ("worker-0", "worker-1", "method-worker-0", "io", "timers", "starter", "accept"):
        assert f"trunkline-{name}" in said
    assert "in stand" in said, "and what they are at"
    assert "trunkline-turn-" in said
