"""Rule 5: a thread without subscribers and without activity is unloaded after the delay, and no other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from conftest import Serve
from helpers import Client, methods
from houses import Puppets, in_parallel
from routing.streams import check_unbroken
from trunkline.testing import ManualClock
from trunkline.thread import Thread, _UnloadDue
from trunkline.timers import Timers
from wires import PATIENCE_S

ROUNDS = 250


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def assert_unloaded(client: Client, thread_id: str) -> None:
    """Wait until a thread is unloaded, and check how that is told."""
    client.wait("thread/closed", threadId=thread_id)
    last = [event for event in client.events_of(thread_id) if event["method"].startswith("thread/")][-2:]
    assert methods(last) == ["thread/status/changed", "thread/closed"]
    assert last[0]["params"]["status"] == {"type": "notLoaded"}


def test_a_thread_is_unloaded_after_the_delay_and_everybody_is_told(serve: Serve, clock: ManualClock) -> None:
    house = serve(clock=clock, unload_after_s=17.0)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    alice.request("thread/unsubscribe", threadId=thread_id)
    house.settle()

    clock.advance(16.9)
    house.settle()
    assert bob.request("thread/loaded/list")["data"] == [thread_id]
    clock.advance(0.2)

    for client in (alice, bob):
        assert_unloaded(client, thread_id)
    assert bob.request("thread/loaded/list")["data"] == []
    assert bob.request("thread/unsubscribe", threadId=thread_id) == {"status": "notLoaded"}


def test_a_new_subscriber_or_a_turn_restarts_the_clock(serve: Serve, clock: ManualClock) -> None:
    house = serve(clock=clock, unload_after_s=60.0)
    client = house.connect()
    thread_id = client.start_thread()
    client.request("thread/unsubscribe", threadId=thread_id)
    house.settle()
    clock.advance(40.0)
    client.resume(thread_id)
    client.run_turn(thread_id, "text hello")
    client.request("thread/unsubscribe", threadId=thread_id)
    client.drain()
    house.settle()
    clock.advance(40.0)  # 80 since it was idle first, 40 since the last time
    client.start_turn(thread_id, "text hello")
    client.wait("thread/status/changed", status={"type": "active", "activeFlags": []})
    client.wait("thread/status/changed", status={"type": "idle"})
    house.settle()

    for _ in range(2):  # 120 and 80, then 149 and 109: too early for the last
        clock.advance(29.0)
        house.settle()
    assert "thread/closed" not in client.methods()
    clock.advance(2.0)
    assert_unloaded(client, thread_id)


def test_a_thread_with_a_subscriber_is_not_unloaded(serve: Serve, clock: ManualClock) -> None:
    house = serve(clock=clock)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    alice.request("thread/unsubscribe", threadId=thread_id)
    house.settle()
    clock.advance(1_000_000.0)
    house.settle()
    assert bob.request("thread/loaded/list")["data"] == [thread_id]


def test_a_thread_is_never_unloaded_without_a_delay(serve: Serve, clock: ManualClock) -> None:
    house = serve(clock=clock, unload_after_s=None)
    client = house.connect()
    thread_id = client.start_thread()
    client.request("thread/unsubscribe", threadId=thread_id)
    house.settle()
    clock.advance(1_000_000.0)
    house.settle()
    assert client.request("thread/loaded/list")["data"] == [thread_id]


def test_a_thread_whose_turn_runs_is_unloaded_only_when_that_has_ended(
    serve: Serve, puppets: Puppets
) -> None:
    house = serve(agent=puppets, unload_after_s=0)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    alice.start_turn(thread_id, "play")
    play = puppets.next()
    house.lose(alice)
    bob.fence(thread_id)
    play.speak("hello")
    bob.fence(thread_id)
    assert "thread/closed" not in bob.methods()

    play.end()

    assert_unloaded(bob, thread_id)
    turns = bob.resume(thread_id)["turns"]
    assert [item.get("text") for item in turns[0]["items"]] == [None, "hello"]


def test_a_thread_with_an_open_prompt_is_not_unloaded(serve: Serve) -> None:
    house = serve(unload_after_s=0)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "ask ls")
    alice.wait("item/commandExecution/requestApproval")
    house.lose(alice)
    for _ in range(3):
        bob.fence(thread_id)
    assert "thread/closed" not in bob.methods()

    bob.resume(thread_id)
    bob.decide(bob.wait("item/commandExecution/requestApproval"))
    bob.wait_turn(turn_id)
    bob.request("thread/unsubscribe", threadId=thread_id)
    assert_unloaded(bob, thread_id)


def test_a_thread_that_is_left_again_and_again_has_one_timer(
    serve: Serve, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[str] = []
    tell_later = Timers.tell_later

    def spy(self: Timers, delay_s: float, ref: Any, message: object) -> None:
        later.append(type(message).__name__)
        tell_later(self, delay_s, ref, message)

    monkeypatch.setattr(Timers, "tell_later", spy)
    house = serve(clock=clock, unload_after_s=60.0)
    client = house.connect()
    thread_id = client.start_thread()
    for _ in range(50):
        client.request("thread/unsubscribe", threadId=thread_id)
        client.resume(thread_id)
    client.request("thread/unsubscribe", threadId=thread_id)
    house.settle()
    assert later.count("_UnloadDue") == 1

    clock.advance(60.1)
    assert_unloaded(client, thread_id)


def test_a_thread_that_is_idle_while_it_refuses_to_end_is_unloaded_all_the_same(
    serve: Serve, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_looking, go_on = threading.Event(), threading.Event()
    look = Thread._on_unload_due

    def held(self: Thread, message: _UnloadDue) -> None:
        is_looking.set()
        assert go_on.wait(PATIENCE_S)
        look(self, message)

    monkeypatch.setitem(Thread._handlers, _UnloadDue, held)
    house = serve(clock=clock, unload_after_s=60.0)
    client = house.connect()
    thread_id = client.start_thread(ephemeral=True)
    client.request("thread/unsubscribe", threadId=thread_id)
    house.settle()
    clock.advance(60.1)
    assert is_looking.wait(PATIENCE_S)
    archive = client.begin("thread/archive", threadId=thread_id)
    client.request("thread/loaded/list")  # behind it at the router, which now lets nobody to the thread
    go_on.set()
    assert "error" in client.response(archive)
    house.settle()

    clock.advance(60.1)
    client.wait("thread/closed", threadId=thread_id)


def test_a_close_of_the_last_subscriber_starts_the_delay(serve: Serve) -> None:
    house = serve(unload_after_s=0)
    alice, bob = house.connect("alice"), house.connect("bob")
    threads = [alice.start_thread() for _ in range(3)]
    alice.wire.cut()
    for thread_id in threads:
        assert_unloaded(bob, thread_id)


def test_an_unloaded_thread_can_be_resumed_with_its_history(serve: Serve) -> None:
    house = serve(unload_after_s=0)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text one")
    alice.request("thread/name/set", threadId=thread_id, name="work")
    alice.request("thread/unsubscribe", threadId=thread_id)
    assert_unloaded(bob, thread_id)
    bob.drain()

    thread = bob.resume(thread_id)

    assert (thread["name"], thread["preview"], thread["status"]) == ("work", "text one", {"type": "idle"})
    assert [item.get("text") for item in thread["turns"][0]["items"]] == [None, "one"]
    assert methods(alice.drain(thread_id))[-1] == "thread/status/changed"
    assert methods(bob.events_of(thread_id)).count("thread/started") == 1
    assert bob.run_turn(thread_id, "text two")["status"] == "completed"
    assert len(bob.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]["turns"]) == 2


@pytest.mark.parametrize("ephemeral", [True, False])
def test_an_unused_or_ephemeral_thread_is_lost_when_it_is_unloaded(serve: Serve, ephemeral: bool) -> None:
    client = serve(unload_after_s=0).connect()
    thread_id = client.start_thread(ephemeral=ephemeral)
    if ephemeral:
        client.run_turn(thread_id, "text hello")
    client.request("thread/unsubscribe", threadId=thread_id)
    assert_unloaded(client, thread_id)

    error = client.refused("thread/resume", threadId=thread_id)
    assert error == {"code": -32600, "message": f"no rollout found for thread id {thread_id}"}
    error = client.refused("thread/read", threadId=thread_id)
    assert error["message"] == f"thread not loaded: {thread_id}"
    error = client.refused("turn/start", threadId=thread_id, input=[])
    assert error["message"] == f"thread not found: {thread_id}"


def test_a_resume_that_races_with_the_unload_always_succeeds_and_misses_nothing(serve: Serve) -> None:
    house = serve(unload_after_s=0)
    clients = [house.connect(name) for name in ("alice", "bob", "carol")]
    thread_id = clients[0].start_thread()
    clients[0].run_turn(thread_id, "text first")
    clients[0].request("thread/unsubscribe", threadId=thread_id)

    in_parallel(*(lambda client=client: come_and_go(client, thread_id) for client in clients))

    last = clients[0]
    last.drain(thread_id)
    turns = last.resume(thread_id)["turns"]
    assert len({turn["id"] for turn in turns}) == len(turns)
    assert all(turn["status"] == "completed" for turn in turns)
    said = [item["content"][0]["text"] for turn in turns for item in turn["items"] if "content" in item]
    assert len(said) == 1 + 3 * (ROUNDS // 10)  # no input was lost
    last.request("thread/unsubscribe", threadId=thread_id)
    last.wait("thread/closed")


def come_and_go(client: Client, thread_id: str) -> None:
    """Resume a thread that is being unloaded, hundreds of times; run a turn now and then."""
    for number in range(ROUNDS):
        client.arrived.clear()
        client.unread.clear()
        asked = client.begin("thread/resume", threadId=thread_id, excludeTurns=True)
        seq = client.response(asked)["result"]["seq"]
        if number % 10 == 0:
            client.wait_turn(client.start_turn(thread_id, f"text {number}"))
        left = client.begin("thread/unsubscribe", threadId=thread_id)
        client.response(left)
        start, end = (place_of_answer(client, request_id) for request_id in (asked, left))
        check_unbroken((each for each in client.arrived[start:end] if "seq" in each), seq)


def place_of_answer(client: Client, request_id: int) -> int:
    """Return where in all that arrived the answer to a request is."""
    return next(
        place
        for place, message in enumerate(client.arrived)
        if message.get("id") == request_id and "method" not in message
    )


def test_requests_that_race_with_the_unload_are_all_answered(serve: Serve) -> None:
    house = serve(unload_after_s=0)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text hello")
    alice.request("thread/unsubscribe", threadId=thread_id)

    def resume() -> None:
        for _ in range(ROUNDS):
            alice.request("thread/resume", threadId=thread_id, excludeTurns=True)
            alice.request("thread/unsubscribe", threadId=thread_id)

    def look() -> None:
        for number in range(ROUNDS):
            thread = bob.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]
            assert len(thread["turns"]) == 1
            bob.request("thread/name/set", threadId=thread_id, name=f"name {number}")
            assert bob.request("thread/read", threadId=thread_id)["thread"]["name"] == f"name {number}"
            bob.request("thread/list")

    in_parallel(resume, look)


def test_threads_that_are_abandoned_in_every_stage_are_all_unloaded(serve: Serve) -> None:
    house = serve(unload_after_s=0)
    watcher = house.connect("watcher")
    for _ in range(20):
        client = house.connect("client")
        client.begin("thread/start")
        client.begin("thread/start", ephemeral=True)
        thread_id = client.start_thread()
        client.start_turn(thread_id, "say 50 8")
        client.wire.cut()
    # Those whose start was not begun when the connection closed were never there.
    started, closed = 0, 0
    while closed < started or watcher.request("thread/loaded/list")["data"] or started < 20:
        message = watcher.wait_for(lambda each: each.get("method") in ("thread/started", "thread/closed"))
        started += message["method"] == "thread/started"
        closed += message["method"] == "thread/closed"
    watcher.fence()
    assert watcher.request("thread/loaded/list")["data"] == []
