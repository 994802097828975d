"""Rule 6: a close takes effect at once, wherever it comes: no actor holds the connection any more."""

from __future__ import annotations

import gc
import random
import socket
import threading
import weakref
from collections.abc import Callable

import pytest

from conftest import Serve
from helpers import Client, methods
from houses import Known, LocalHouse, Puppets, actors, in_parallel, look_into
from routing.streams import check_unbroken, counted
from trunkline.connection import Connection
from trunkline.testing import ManualClock
from trunkline.thread import Thread
from wires import PATIENCE_S, WebSocketWire

CHURNS = 4
ROUNDS = 40


def assert_forgotten(house: LocalHouse, *living: Client) -> None:
    """Check that all connections but these are gone, from every actor and from memory."""
    gone = house.wait_gone(*living)
    living[0].fence()
    assert len(house.known) == len(living)
    kept = {house.connection(client) for client in living}
    assert {peer.connection for peer in house.router._peers.values()} == kept
    assert {actor.actor_ref for actor in actors(Connection)} == kept
    for thread in actors(Thread):
        assert {subscription.connection for subscription in thread.feed.listener or ()} <= kept
    for known in gone:
        wait_collected(known)


def wait_collected(known: Known) -> None:
    """Wait until an actor is no longer in memory; whoever has a reference to one holds it."""
    actor = known.actor()
    if actor is None:
        return
    collected = threading.Event()
    weakref.finalize(actor, collected.set)
    del actor
    gc.collect()
    if not collected.wait(PATIENCE_S / 10):
        actor = known.actor()
        assert actor is None, f"{actor} is held by {holders(actor)} and {holders(actor.actor_ref)}"


def holders(thing: object) -> list[str]:
    """Return what refers to `thing`, for the text of a failure."""
    return [f"{type(each).__name__} {str(each)[:200]}" for each in gc.get_referrers(thing)]


def test_a_connection_that_closes_is_forgotten(house: LocalHouse) -> None:
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    for politely in (True, False):
        bob = house.connect("bob")
        bob.resume(thread_id)
        bob.start_thread()
        bob.run_turn(thread_id, "say 10 8")
        house.lose(bob, politely=politely)
    assert_forgotten(house, alice)


def test_a_connection_that_closes_before_it_is_initialized_is_forgotten(house: LocalHouse) -> None:
    alice = house.connect("alice")
    house.open("bob").wire.cut()
    carol = house.open("carol")
    carol.refused("thread/loaded/list")
    house.lose(carol)
    assert_forgotten(house, alice)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: webso"])
def test_a_close_in_the_middle_of_a_handshake_leaves_nothing(house: LocalHouse, sent: bytes) -> None:
    alice = house.connect("alice")
    assert isinstance(alice.wire, WebSocketWire)
    for _ in range(10):
        sock = socket.create_connection(alice.wire.socket.getpeername(), PATIENCE_S)
        sock.sendall(sent)
        sock.close()
    assert len(house.wait_gone(alice)) == 0
    alice.fence()


def test_a_close_in_the_middle_of_a_request_lets_the_request_finish(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    release = threading.Event()
    play.do(lambda _: release.wait(PATIENCE_S))
    asked = bob.begin("turn/interrupt", threadId=thread_id, turnId=turn_id)
    bob.fence(thread_id)
    assert asked not in [message.get("id") for message in bob.unread]

    stage.lose(bob)
    release.set()

    assert alice.wait_turn(turn_id)["status"] == "interrupted"
    assert_forgotten(stage, alice)


def test_a_revert_whose_caller_closes_is_done_and_subscribes_nobody(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    release = threading.Event()
    puppets.next().do(lambda _: release.wait(PATIENCE_S))
    bob.begin("thread/revert", threadId=thread_id, beforeTurnId=turn_id)
    bob.fence(thread_id)

    stage.lose(bob)
    stage.wait_gone(alice)  # the thread knows
    release.set()

    alice.wait("thread/reverted", threadId=thread_id)
    thread = alice.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]
    assert (thread["turns"], thread["subscriberCount"]) == ([], 1)
    assert_forgotten(stage, alice)


def test_requests_that_came_with_the_close_are_not_begun(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    assert isinstance(bob.wire, WebSocketWire)
    protocol = bob.wire._protocol
    for _ in range(5):
        protocol.send_text(
            b'{"id":1,"method":"turn/start","params":{"threadId":"%b","input":[]}}' % thread_id.encode()
        )
    protocol.send_close(1000)
    bob.wire.socket.sendall(b"".join(protocol.data_to_send()))

    assert_forgotten(house, alice)
    alice.fence(thread_id)
    assert "turn/started" not in alice.methods()
    assert alice.request("thread/read", threadId=thread_id, includeTurns=True)["thread"]["turns"] == []


def test_a_close_in_the_middle_of_a_fan_out_breaks_nobody_elses_stream(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice = stage.connect("alice")
    others = [stage.connect(f"subscriber {index}") for index in range(10)]
    thread_id = alice.start_thread()
    for other in others:
        other.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()

    for index, other in enumerate(others[:5]):
        play.speak(*counted(100 * index, 100 * index + 50))
        other.wait("item/agentMessage/delta")
        other.wire.cut()
        play.speak(*counted(100 * index + 50, 100 * index + 100))
    play.end()

    for client in (alice, *others[5:]):
        client.wait_turn(turn_id)
        check_unbroken(client.events_of(thread_id)[1:], 1)
        assert methods(client.arrived).count("item/agentMessage/delta") == 500
    assert_forgotten(stage, alice, *others[5:])


def test_a_close_while_much_waits_for_the_socket_lets_go_of_it_all(serve: Serve, puppets: Puppets) -> None:
    clock = ManualClock()
    house = serve(agent=puppets, clock=clock)
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    for text in counted(0, 40):
        play.speak(text * 20_000)  # more than sockets hold
        alice.wait("item/agentMessage/delta")
    assert look_into(house.connection(bob))._link.unsent_bytes > 0

    house.lose(bob)

    play.end()
    alice.wait_turn(turn_id)
    clock.advance(1_000_000.0)  # what was to be told to it later is told to nobody
    assert_forgotten(house, alice)


def test_a_close_in_the_middle_of_a_prompt_leaves_the_prompt_to_the_others(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    for _ in range(ROUNDS):
        turn_id = alice.start_turn(thread_id, "ask ls")
        prompt = bob.wait("item/commandExecution/requestApproval")
        bob.decide(prompt)  # may be read, or not
        bob.wire.cut()
        alice.wait("item/commandExecution/requestApproval")
        alice.decide(prompt)
        assert alice.wait_turn(turn_id)["status"] == "completed"
        bob = house.connect("bob")
        bob.resume(thread_id)
    assert methods(alice.arrived).count("serverRequest/resolved") == ROUNDS
    assert_forgotten(house, alice, bob)


def test_closes_at_any_moment_against_a_running_fan_out_leave_nothing_behind(
    serve: Serve, puppets: Puppets, store: object
) -> None:
    house = serve(agent=puppets, store=store)
    alice = house.connect("alice")
    threads = [alice.start_thread() for _ in range(2)]
    turns = [alice.start_turn(thread_id, "play") for thread_id in threads]
    plays = [puppets.next() for _ in turns]
    is_over = threading.Event()

    def speak() -> None:
        spoken = 0
        while not is_over.is_set():
            for play in plays:
                play.speak(*counted(spoken, spoken + 10))
                for _ in range(10):
                    alice.wait("item/agentMessage/delta")
            spoken += 10

    def churn(seed: int) -> Callable[[], None]:
        dice = random.Random(seed)

        def run() -> None:
            for _ in range(ROUNDS):
                lead_a_short_life(house, threads, dice)

        return run

    def churn_all() -> None:
        try:
            in_parallel(*(churn(seed) for seed in range(CHURNS)))
        finally:
            is_over.set()

    in_parallel(speak, churn_all)
    for play in plays:
        play.end()
    for turn_id in turns:
        alice.wait_turn(turn_id)
    for thread_id in threads:
        check_unbroken(alice.events_of(thread_id), 0)
    assert_forgotten(house, alice)


def lead_a_short_life(house: LocalHouse, threads: list[str], dice: random.Random) -> None:
    """Connect, do a random part of what clients do, and go in a random way without waiting."""
    client = Client(WebSocketWire(house.url), "short-lived")
    steps: list[Callable[[], object]] = [
        client.initialize,
        lambda: client.begin("thread/resume", threadId=threads[0], excludeTurns=True),
        lambda: client.begin("thread/resume", threadId=threads[1], excludeTurns=True),
        lambda: client.wait("item/agentMessage/delta"),
        lambda: client.begin("thread/unsubscribe", threadId=dice.choice(threads)),
        lambda: client.begin("thread/loaded/list"),
        lambda: client.request("thread/resume", threadId=dice.choice(threads), excludeTurns=True),
        lambda: client.begin("turn/steer", threadId=threads[0], expectedTurnId="x", input=[{}]),
    ]
    for step in steps[: dice.randrange(len(steps) + 1)]:
        step()
    for thread_id in threads:
        events = client.events_of(thread_id)
        if events:  # none twice and none missing while it was subscribed
            numbers = [event["seq"] for event in events]
            assert numbers == sorted(set(numbers))
    if dice.random() < 0.3:
        client.close()
    else:
        client.wire.cut()
