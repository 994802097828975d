from __future__ import annotations

import queue
import socket
import threading
from typing import Any

import pykka
import pytest

from conftest import Serve
from houses import look_into
from trunkline import AppServer, Config, Turn
from trunkline.actor import Dispatcher, PooledActor
from trunkline.local.engine import LocalEngine
from trunkline.testing import (
    InProcessWire,
    ManualClock,
    RunningServer,
    ScriptedAgent,
    fence,
    running_server,
    settle,
    text_input,
)

CHAIN = 2000


class Passer(PooledActor):
    """Passes a number on to the next, one less, until it is 0."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher=dispatcher)
        self.next: pykka.ActorRef[Any] = self.actor_ref
        self.last: int | None = None

    def on_receive(self, message: Any) -> None:
        self.last = message
        if message:
            self.next.tell(message - 1)


class Host(pykka.ThreadingActor):
    """An actor of a host, with a thread of its own."""

    def __init__(self, next_one: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self.next = next_one
        self.heard: list[Any] = []

    def on_receive(self, message: Any) -> None:
        self.heard.append(message)
        if message:
            self.next.tell(message - 1)


@pytest.fixture
def server() -> Any:
    with running_server() as running:
        yield running


def test_settling_waits_for_what_comes_of_a_message_however_far_it_goes(server: RunningServer) -> None:
    dispatcher = server.server._dispatcher
    first, second = Passer.start(dispatcher), Passer.start(dispatcher)
    look_into(first).next, look_into(second).next = second, first
    try:
        for _ in range(5):
            first.tell(CHAIN)
            server.settle()
            assert look_into(first).last == 0
    finally:
        first.stop()
        second.stop()


def test_settling_waits_for_what_a_socket_was_sent(serve: Serve) -> None:
    house = serve(unload_after_s=None)
    client = house.connect()
    thread_id = client.start_thread()
    engine = house.thread(thread_id)._engine
    assert isinstance(engine, LocalEngine)
    for number in range(30):
        client.begin("thread/name/set", threadId=thread_id, name=f"name {number}")
        house.settle()
        assert engine._conversation.record.name == f"name {number}"


def test_settling_waits_for_the_store(serve: Serve, tmp_path: Any) -> None:
    house = serve(store=tmp_path / "threads.sqlite")
    client = house.connect()
    thread_id = client.start_thread()
    thread = house.thread(thread_id)
    client.run_turn(thread_id, "text hello")
    client.begin("thread/archive", threadId=thread_id)
    house.settle()
    assert thread.actor_stopped.is_set()


def test_settling_waits_for_actors_of_the_host(server: RunningServer) -> None:
    pooled = Passer.start(server.server._dispatcher)
    one = Host.start(pooled)
    two = Host.start(one)
    look_into(pooled).next = one
    try:
        for _ in range(20):
            two.tell(3)
            server.settle(one, two)
            assert look_into(one).heard[-1] == 0
            look_into(one).heard.clear()
    finally:
        for ref in (one, two, pooled):
            ref.stop()


def test_settling_needs_no_listener() -> None:
    server = AppServer(Config(agent="script"))
    with server:
        wire = InProcessWire(server)
        wire.send('{"id": 1, "method": "thread/list"}')
        settle(server)
        assert "Not initialized" in wire.receive(0.001)[0]


def test_several_may_settle_at_once(server: RunningServer) -> None:
    done = [threading.Thread(target=server.settle, name=f"test-{index}") for index in range(8)]
    for thread in done:
        thread.start()
    for thread in done:
        thread.join(30)
        assert not thread.is_alive()


def test_a_handler_that_does_not_return_is_named(server: RunningServer) -> None:
    dispatcher = server.server._dispatcher
    stuck = threading.Event()
    dispatcher.schedule(lambda: [stuck.wait(30)].clear())
    try:
        with pytest.raises(AssertionError, match=r"busy: \['trunkline-worker-\d'\]"):
            server.settle(timeout_s=1.0)
    finally:
        stuck.set()
    server.settle()


def test_actors_that_never_come_to_rest_are_named(server: RunningServer) -> None:
    ref = Passer.start(server.server._dispatcher)
    ref.tell(-1)  # counts away from 0
    try:
        with pytest.raises(AssertionError, match=r"do not settle within|does not return"):
            server.settle(timeout_s=0.2)
    finally:
        ref.stop()


def test_a_fence_says_which_actor_does_not_get_through(server: RunningServer) -> None:
    stuck = threading.Event()

    class Stuck(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> None:
            stuck.wait(30)

    ref = Stuck.start()
    ref.tell("anything")
    try:
        with pytest.raises(AssertionError, match="Stuck"):
            fence(ref, timeout_s=0.1)
    finally:
        stuck.set()
        ref.stop()
    fence(ref)  # one that has stopped has nothing to get through


def test_time_stands_still_until_it_is_moved(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock, unload_after_s=60.0)
    client = house.connect()
    thread_id = client.start_thread()
    client.request("thread/unsubscribe", threadId=thread_id)
    house.settle()

    clock.advance(59.9)
    house.settle()
    assert client.request("thread/loaded/list")["data"] == [thread_id]

    clock.advance(0.2)
    house.settle()
    assert client.request("thread/loaded/list")["data"] == []


def test_a_prompt_runs_out_of_time_when_the_clock_says_so(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock, prompt_timeout_s=300.0)
    client = house.connect()
    turn_id = client.start_turn(client.start_thread(), "ask ls")
    client.wait("item/commandExecution/requestApproval")
    house.settle()

    clock.advance(300.0)

    assert client.wait("serverRequest/resolved")["params"]["reason"] == "nobody answered within 300 s"
    client.wait_turn(turn_id)


def test_the_time_limit_of_a_turn_leaves_out_what_it_waits_for_clients(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock, turn_timeout_s=60.0)
    client = house.connect()
    turn_id = client.start_turn(client.start_thread(), "ask ls\nsteered")
    prompt = client.wait("item/commandExecution/requestApproval")
    house.settle()
    clock.advance(600.0)
    client.decide(prompt)
    client.wait("serverRequest/resolved")
    house.settle()
    clock.advance(59.0)
    house.settle()
    assert "turn/completed" not in client.methods()

    clock.advance(2.0)

    assert client.wait_turn(turn_id)["error"]["message"] == "the turn did not end within 60 s"


def test_the_timers_of_sockets_go_by_the_same_clock(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock)
    client = house.connect()
    host, port = house.url.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), 30) as silent:
        client.fence()  # its socket is known to the loop behind ours
        house.settle()
        clock.advance(1000.0)
        silent.settimeout(30)
        assert silent.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_what_an_agent_waits_by_its_turn_goes_by_the_same_clock() -> None:
    clock = ManualClock()
    waiting = threading.Event()
    steers: list[object] = []

    def wait(turn: Turn) -> None:
        waiting.set()
        turn.sleep(3600.0)
        turn.say("an hour later")
        steers.append(turn.wait_steer(timeout_s=0))
        steers.append(turn.wait_steer(timeout_s=3600.0))

    with running_server(agent=ScriptedAgent(wait), clock=clock) as server:
        client = server.connect("alice")
        thread_id = client.start_thread()
        turn_id = client.start_turn(thread_id, "")
        assert waiting.wait(30)
        while "item/agentMessage/delta" not in client.methods():
            clock.advance(1800.0)
            client.fence(thread_id)
        while "turn/completed" not in client.methods():
            clock.advance(1800.0)
            client.fence(thread_id)
        assert client.wait_turn(turn_id)["status"] == "completed"
    assert steers == [None, None]


def test_an_agent_that_waits_by_a_clock_that_stands_still_can_be_interrupted_and_steered() -> None:
    def wait(turn: Turn) -> None:
        assert turn.wait_steer(timeout_s=1.0) is not None
        turn.say("steered")
        turn.sleep(1.0)

    with running_server(agent=ScriptedAgent(wait), clock=ManualClock()) as server:
        client = server.connect("alice")
        thread_id = client.start_thread()
        turn_id = client.start_turn(thread_id, "")
        client.request("turn/steer", threadId=thread_id, expectedTurnId=turn_id, input=text_input("more"))
        client.wait("item/agentMessage/delta")
        client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)
        assert client.wait_turn(turn_id)["status"] == "interrupted"


def test_one_clock_may_be_that_of_several_servers_and_outlive_them() -> None:
    clock = ManualClock()
    for _ in range(2):
        with running_server(clock=clock), running_server(clock=clock):
            clock.advance(1.0)
    clock.advance(1.0)
    assert clock._looks == []


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        ManualClock().advance(-1.0)


def test_a_server_that_does_not_run_is_not_waited_for() -> None:
    server = AppServer(agent="script")
    with pytest.raises(AssertionError, match="not running"):
        settle(server)
    with server:
        settle(server)
    with pytest.raises(AssertionError, match="not running"):
        settle(server)


def test_a_thread_of_the_servers_own_does_not_wait_for_itself(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock)
    came: queue.SimpleQueue[object] = queue.SimpleQueue()

    def on_delivery(_: object) -> None:
        clock.advance(1.0)
        try:
            house.settle()
        except AssertionError as error:
            came.put(error)

    with house.server.connect(on_delivery) as connection:
        connection.initialize("host").get(timeout=30)
        connection.request("thread/start").get(timeout=30)
        assert "a thread of the server's own" in str(came.get(timeout=30))
        house.server._loop.call_soon(clock.advance, 1.0)
        house.server._loop.call_soon(came.put, "moved")
        while came.get(timeout=30) != "moved":
            pass
