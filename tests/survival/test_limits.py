"""What one client, and all of them together, may take of the server; and what they are told beyond."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from conftest import Serve
from helpers import Client, Message, methods
from houses import House, LocalHouse, Puppets, look_into, running_child, running_server
from trunkline import Config, ConfigError, Limits
from trunkline.lobby import LobbyDue
from trunkline.messages import Ref
from trunkline.testing import ManualClock
from trunkline.timers import Timers
from trunkline.transports.closes import NOT_INITIALIZED
from wires import PATIENCE_S, WebSocketWire

KIB = 1024


def too_much(error: Message) -> bool:
    return (error["code"], error["data"]) == (-32001, {"codexErrorInfo": "server_overloaded"})


# JSON depth


def nest(levels: int, shape: str) -> str:
    """Return JSON so many levels deep."""
    if shape == "arrays":
        return "[" * levels + "]" * levels
    return '{"a":' * levels + "0" + "}" * levels


@pytest.mark.parametrize("shape", ["arrays", "objects"])
@pytest.mark.parametrize("house_with_text", [running_server, running_child], ids=["websocket", "stdio"])
def test_json_that_is_too_deep_is_an_error_and_no_crash(
    house_with_text: Callable[[], AbstractContextManager[House]], shape: str
) -> None:
    with house_with_text() as house:
        check_depth(house.connect(), shape)


def check_depth(client: Client, shape: str) -> None:
    call = '{"id":"ID","method":"thread/loaded/list","params":{"x":NEST}}'
    client.send_text(call.replace("ID", "within", 1).replace("NEST", nest(126, shape)))
    assert "result" in client.response("within")
    client.send_text(call.replace("ID", "beyond", 1).replace("NEST", nest(127, shape)))
    error = client.response("beyond")["error"]
    assert error == {"code": -32600, "message": "Invalid request: nested more than 128 levels deep"}


@pytest.mark.parametrize("levels", [1022, 1023, 100_000])
@pytest.mark.parametrize("where", ['{"id":1,"result":%s}', '{"method":"x","params":%s}', "%s"])
def test_a_hostile_nest_of_any_depth_in_any_message_harms_nobody(
    house: LocalHouse, levels: int, where: str
) -> None:
    client = house.connect()
    client.send_text(where % nest(levels, "arrays"))
    client.send_text('{"method":"x","params":' + "[" * levels)
    errors = [client.wait_for(lambda message: "error" in message)["error"]["code"] for _ in range(2)]
    assert errors in ([-32600, -32700], [-32700, -32700])
    client.run_turn(client.start_thread(), "text fine")


def test_brackets_within_texts_are_not_depth(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    assert client.run_turn(thread_id, "text " + "[" * 1000)["status"] == "completed"


def test_no_limit_is_beyond_what_can_be_read() -> None:
    with pytest.raises(ConfigError, match="max_json_depth must be 1024 or less"):
        Config(limits=Limits(max_json_depth=1025))


# Requests


def hold_a_request(client: Client, puppets: Puppets) -> tuple[int, threading.Event]:
    """Have a request of a client under way until the event is set."""
    release = threading.Event()
    thread_id = client.start_thread()
    client.start_turn(thread_id, "")
    puppets.next().do(lambda _: release.wait(PATIENCE_S))
    return client.begin("thread/archive", threadId=thread_id), release  # answered when the turn has ended


def test_requests_beyond_the_limit_of_one_connection_are_refused_and_others_are_not(
    serve: Serve, puppets: Puppets
) -> None:
    house = serve(agent=puppets, limits=Limits(max_requests_in_flight=1))
    alice, bob = house.connect("alice"), house.connect("bob")
    held, release = hold_a_request(alice, puppets)
    assert too_much(alice.refused("thread/loaded/list"))
    bob.request("thread/loaded/list")
    release.set()
    assert "result" in alice.response(held)
    alice.request("thread/loaded/list")


def test_requests_beyond_the_limit_of_the_server_are_refused(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets, limits=Limits(max_requests_in_all=1))
    alice, bob = house.connect("alice"), house.connect("bob")
    held, release = hold_a_request(alice, puppets)
    for client in (alice, bob):
        assert too_much(client.refused("thread/loaded/list"))
    release.set()
    assert "result" in alice.response(held)
    for client in (alice, bob):
        client.request("thread/loaded/list")


def test_a_client_that_goes_gives_back_what_its_requests_took(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets, limits=Limits(max_requests_in_all=1))
    alice, bob = house.connect("alice"), house.connect("bob")
    _, release = hold_a_request(alice, puppets)
    assert too_much(bob.refused("thread/loaded/list"))
    house.lose(alice)
    for _ in range(3):
        bob.request("thread/loaded/list")
    release.set()


def test_an_id_that_is_used_twice_at_once_takes_and_gives_back_two(serve: Serve) -> None:
    client = serve(limits=Limits(max_requests_in_all=2, max_requests_in_flight=2)).connect()
    for _ in range(10):
        for _ in range(2):
            client.send({"id": "same", "method": "thread/loaded/list"})
        for _ in range(2):
            client.response("same")


# Subscriptions and threads


def test_subscriptions_beyond_the_limit_are_refused(serve: Serve) -> None:
    house = serve(limits=Limits(max_subscriptions=2))
    alice, bob = house.connect("alice"), house.connect("bob")
    first, second = alice.start_thread(), alice.start_thread()
    other = bob.start_thread()
    alice.run_turn(first, "text kept")
    for method, params in (
        ("thread/start", {}),
        ("thread/resume", {"threadId": other}),
        ("thread/fork", {"threadId": first}),
    ):
        error = alice.refused(method, **params)
        assert (error["code"], error["data"]) == (-32600, {"reason": "tooManySubscriptions", "limit": 2})
        assert "subscribed to 2 threads" in error["message"]
    alice.resume(first)  # it is one of the two
    alice.request("thread/unsubscribe", threadId=second)
    alice.resume(other)


def test_subscriptions_that_are_asked_for_at_once_are_counted_before_they_are_there(serve: Serve) -> None:
    client = serve(limits=Limits(max_subscriptions=3)).connect()
    asked = [client.begin("thread/start") for _ in range(10)]
    answers = [client.response(request_id) for request_id in asked]
    assert sum("result" in answer for answer in answers) == 3
    assert len(client.request("thread/loaded/list")["data"]) == 3


def test_threads_beyond_the_limit_are_not_loaded(serve: Serve) -> None:
    house = serve(limits=Limits(max_threads=2), unload_after_s=0.0)
    client = house.connect()
    first, second = client.start_thread(), client.start_thread()
    client.run_turn(first, "text kept")
    for method, params in (("thread/start", {}), ("thread/fork", {"threadId": first})):
        error = client.refused(method, **params)
        assert too_much(error)
        assert error["message"] == "Server overloaded: 2 threads are loaded; retry later."
    client.request("thread/unsubscribe", threadId=first)
    client.wait("thread/closed", threadId=first)
    third = client.start_thread()
    assert too_much(client.refused("thread/resume", threadId=first))
    assert sorted(client.request("thread/loaded/list")["data"]) == sorted([second, third])


# Unsent bytes


def test_one_for_whom_much_waits_is_warned_before_it_is_closed(serve: Serve) -> None:
    house = serve(limits=Limits(max_unsent_bytes=64 * 1024 * KIB))
    alice = house.connect("alice")
    slow = Client(WebSocketWire(house.url, receive_buffer_bytes=4 * KIB), "slow")
    house.clients.append(slow)
    slow.initialize()
    connection = look_into(house.connection(slow))
    thread_id = alice.start_thread()
    while not connection._outgoing._is_warned_of_unsent:
        alice.request("thread/name/set", threadId=thread_id, name="n" * 1_000_000)
        alice.wait("thread/name/updated")

    warning = slow.wait("warning")

    assert warning["params"] == {
        "threadId": None,
        "message": "this connection leaves too much unread and will be closed if that goes on",
    }
    slow.fence()
    assert methods(slow.arrived).count("warning") == 1
    assert not connection._outgoing._is_warned_of_unsent, "it has taken all"


# The handshake of the protocol


def test_a_connection_that_is_not_initialized_in_time_is_closed(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock, limits=Limits(initialize_timeout_s=30.0))
    alice = house.connect("alice")
    silent, late = house.open("silent"), house.open("late")
    late.send({"id": 1, "method": "thread/loaded/list"})
    assert late.response(1)["error"]["message"] == "Not initialized"
    clock.advance(20.0)
    later = house.open("later")
    alice.fence()
    clock.advance(15.0)
    for client in (silent, late):
        assert tuple(client.wait_closed()) == NOT_INITIALIZED
    later.initialize()
    clock.advance(100.0)
    for client in (alice, later):
        client.request("thread/loaded/list")


@pytest.fixture
def told_later(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is told by timers."""
    told: list[object] = []
    tell_later = Timers.tell_later

    def note(self: Timers, delay_s: float, ref: Ref, message: object) -> None:
        told.append(message)
        tell_later(self, delay_s, ref, message)

    monkeypatch.setattr(Timers, "tell_later", note)
    return told


def test_one_timer_runs_for_all_that_are_not_initialized(house: LocalHouse, told_later: list[object]) -> None:
    waiting = [house.open(f"waiting {index}") for index in range(5)]
    house.connect("alice").fence()
    assert sum(isinstance(message, LobbyDue) for message in told_later) == 1
    for client in waiting:
        client.initialize()
    house.connect("bob").fence()
    assert not house.router._lobby._due


def test_a_client_of_this_process_may_take_its_time(serve: Serve, told_later: list[object]) -> None:
    house = serve(transport="in-process")
    house.open("silent")
    house.connect("alice").fence()
    assert not any(isinstance(message, LobbyDue) for message in told_later)
