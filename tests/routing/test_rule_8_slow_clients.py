"""Rule 8: in and out are separate paths; a client that does not read, or floods, delays nobody else."""

from __future__ import annotations

import json
import threading

import pytest

from conftest import Serve
from helpers import Client, methods
from houses import LocalHouse, Puppets, look_into
from routing.streams import check_unbroken, counted
from trunkline import Limits
from trunkline.listener import WINDOW_BYTES
from trunkline.outgoing import FLUSH_BYTES
from trunkline.testing import ManualClock
from trunkline.transports.closes import TOO_SLOW
from trunkline.transports.websocket_link import WebSocketLink
from wires import PATIENCE_S, WebSocketWire

KIB = 1024
DELTA = "x" * (20 * KIB)
KERNEL_BYTES = 8 * 1024 * KIB
"""More than the buffers of two sockets take."""


def slow_client(house: LocalHouse, name: str = "slow") -> Client:
    """Connect a client for which the kernel holds little, so that what it does not read waits early."""
    client = Client(WebSocketWire(house.url, receive_buffer_bytes=4 * KIB), name)
    house.clients.append(client)
    client.initialize()
    return client


def waiting_bytes(house: LocalHouse, client: Client) -> int:
    """Return the bytes that wait for a client, in its actor and in its link."""
    connection = look_into(house.connection(client))
    return sum(map(len, connection._outgoing._queue)) + connection._link.unsent_bytes


def test_a_subscriber_that_does_not_read_delays_no_other_and_costs_little(
    serve: Serve, puppets: Puppets
) -> None:
    house = serve(agent=puppets, limits=Limits(log_bytes=12 * 1024 * KIB))
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    slow = slow_client(house)
    slow.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()

    most = 0
    for _ in range(180):
        play.speak(DELTA)
        alice.wait("item/agentMessage/delta")
        bob.wait("item/agentMessage/delta")
        most = max(most, waiting_bytes(house, slow))
    play.end()

    for client in (alice, bob):
        client.wait_turn(turn_id)
        check_unbroken(client.events_of(thread_id)[1:], 1)
    assert 0 < most < 2 * (WINDOW_BYTES + FLUSH_BYTES)
    # It comes late, and has lost nothing.
    slow.wait_turn(turn_id)
    assert slow.events_of(thread_id) == alice.events_of(thread_id)[1:]


def test_a_subscriber_that_has_fallen_out_of_the_log_is_closed_and_can_come_back(
    serve: Serve, puppets: Puppets
) -> None:
    house = serve(agent=puppets, limits=Limits(log_bytes=1024 * KIB))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    slow = slow_client(house)
    slow.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()

    for _ in range(KERNEL_BYTES // len(DELTA)):
        play.speak(DELTA)
        alice.wait("item/agentMessage/delta")

    closed = slow.wait_closed()
    assert tuple(closed) == TOO_SLOW
    check_unbroken(slow.events_of(thread_id), 1)
    slow = slow_client(house, "slow again")
    copy = slow.resume(thread_id)["turns"][0]["items"][-1]
    play.end()
    alice.wait_turn(turn_id)
    slow.wait_turn(turn_id)
    assert len(copy["text"]) % len(DELTA) == 0
    check_unbroken(alice.events_of(thread_id), 0)


def test_one_that_falls_behind_is_warned_once_before_it_is_closed(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets, limits=Limits(log_events=400, log_bytes=64 * 1024 * KIB))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    slow = slow_client(house)
    slow.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    for _ in range(390):  # so it stays in the log, but more than half of it behind
        play.speak(DELTA)
        alice.wait("item/agentMessage/delta")
    play.end()
    alice.wait_turn(turn_id)

    slow.wait_turn(turn_id)

    warnings = [each for each in slow.arrived if each.get("method") == "warning"]
    assert [each["params"]["threadId"] for each in warnings] == [thread_id]
    assert "warning" not in methods(alice.arrived)


@pytest.mark.parametrize(
    ("script", "limits"),
    [
        ("say 20000 100", Limits(log_bytes=256 * KIB, log_events=1000)),
        ("say 20000 8", Limits(log_events=1000)),  # told 1,024 at once, where the log can hold so many
        ("say 200000 8", Limits()),
        ("say 5000 8", Limits(log_events=300)),
        ("say 3000 9000", Limits()),  # more than fits into the log is ready before anything is sent
        ("say 400 65000", Limits()),
        ("say 40 1000000", Limits()),
    ],
)
def test_the_only_subscriber_of_a_fast_agent_loses_nothing(serve: Serve, script: str, limits: Limits) -> None:
    client = serve(limits=limits).connect()
    thread_id = client.start_thread()
    client.run_turn(thread_id, script)
    check_unbroken(client.events_of(thread_id), 0)
    assert methods(client.arrived).count("item/agentMessage/delta") == int(script.split()[1])


def test_one_that_takes_nothing_at_all_is_warned_and_then_closed(serve: Serve, puppets: Puppets) -> None:
    clock = ManualClock()
    house = serve(agent=puppets, clock=clock, limits=Limits(stall_timeout_s=40))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    slow = slow_client(house)
    slow.resume(thread_id)
    alice.start_turn(thread_id, "play")
    play = puppets.next()
    link = look_into(house.connection(slow))._link
    while not link.unsent_bytes:
        play.speak(DELTA)
        alice.wait("item/agentMessage/delta")
    play.end()
    alice.wait("turn/completed")
    house.settle()
    clock.advance(19.9)
    house.settle()
    assert link.is_open
    while link.is_open:  # again while the kernel still takes what little it does
        clock.advance(20.0)
        house.settle()

    assert slow.wait_closed().code == 1013
    alice.fence(thread_id)


def test_one_that_reads_again_before_the_time_is_over_is_not_closed(serve: Serve, puppets: Puppets) -> None:
    clock = ManualClock()
    house = serve(agent=puppets, clock=clock, limits=Limits(stall_timeout_s=40))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    slow = slow_client(house)
    slow.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    link = look_into(house.connection(slow))._link
    while not link.unsent_bytes:
        play.speak(DELTA)
        alice.wait("item/agentMessage/delta")
    house.settle()
    clock.advance(20.0)
    house.settle()
    play.end()
    slow.wait_turn(turn_id)
    slow.fence(thread_id)

    clock.advance(20.0)
    house.settle()

    slow.fence(thread_id)
    assert slow.closed is None


def test_one_for_whom_too_many_broadcasts_wait_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = serve(limits=Limits(max_unsent_bytes=512 * KIB))
    alice = house.connect("alice")
    slow = slow_client(house)
    connection = look_into(house.connection(slow))
    thread_id = alice.start_thread()
    while connection._link.is_open:
        alice.request("thread/name/set", threadId=thread_id, name="n" * 100_000)
        alice.wait("thread/name/updated")
        assert waiting_bytes(house, slow) < 1024 * KIB + KERNEL_BYTES
        assert len(alice.arrived) < 10 * KERNEL_BYTES // 100_000

    # It is not gone yet, but nothing is kept for it any more.
    kept = []
    end_batch = connection.on_batch_end

    def end_batch_and_count() -> None:
        end_batch()
        kept.append(len(connection._outgoing._queue))

    monkeypatch.setattr(connection, "on_batch_end", end_batch_and_count)
    for _ in range(20):
        alice.request("thread/name/set", threadId=thread_id, name="n" * 100_000)
        alice.fence()
    assert set(kept) <= {0}
    assert tuple(slow.wait_closed()) == TOO_SLOW


def test_a_client_that_floods_requests_and_does_not_read_is_not_read_either(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = threading.Event()
    may_read = WebSocketLink._may_read

    def may_read_and_tell(self: WebSocketLink) -> bool:
        if not may_read(self):
            paused.set()
            return False
        return True

    monkeypatch.setattr(WebSocketLink, "_may_read", may_read_and_tell)
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    alice.request("thread/name/set", threadId=thread_id, name="n" * 10_000)
    flooder = slow_client(house, "flooder")
    asked, sender = flood(flooder, thread_id)

    assert paused.wait(PATIENCE_S)
    # The server keeps no more than its limits say, and everybody else is served.
    assert waiting_bytes(house, flooder) < Limits().max_unsent_bytes
    assert alice.run_turn(thread_id, "say 100 8")["status"] == "completed"
    alice.fence(thread_id)
    assert sender.is_alive()
    # Once it is read, it answers everything.
    answered = [flooder.response(request_id) for request_id in asked]
    assert all("result" in answer or answer["error"]["code"] == -32001 for answer in answered)
    sender.join(PATIENCE_S)
    flooder.fence(thread_id)


@pytest.mark.parametrize("methods_again", [("thread/resume",), ("thread/resume", "thread/unsubscribe")])
def test_one_that_resumes_again_and_again_without_reading_is_kept_little_and_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, methods_again: tuple[str, ...]
) -> None:
    house = serve(limits=Limits(max_unsent_bytes=1024 * KIB))
    alice = house.connect("alice")
    started = alice.request("thread/start")
    thread_id = started["thread"]["id"]
    alice.run_turn(thread_id, "say 200 4000")
    slow = slow_client(house)
    assert isinstance(slow.wire, WebSocketWire)
    connection = look_into(house.connection(slow))
    bound = 6 * 1024 * KIB
    waited = [0]
    is_over = threading.Event()
    end_batch = connection.on_batch_end

    def count_and_end_batch() -> None:
        waited.append(sum(map(len, connection._outgoing._queue)))
        end_batch()
        if waited[-1] >= bound or not connection._link.is_open:
            is_over.set()

    monkeypatch.setattr(connection, "on_batch_end", count_and_end_batch)
    resume = {"threadId": thread_id, "afterSeq": 1, "epoch": started["epoch"], "excludeTurns": True}
    for number in range(400):
        for index, method in enumerate(methods_again):
            params = {"threadId": thread_id} if index else resume
            text = json.dumps({"id": 1000 + 2 * number + index, "method": method, "params": params})
            slow.wire._protocol.send_text(text.encode())
    slow.wire.socket.sendall(b"".join(slow.wire._protocol.data_to_send()))

    assert is_over.wait(PATIENCE_S)
    assert max(waited) < bound
    assert tuple(slow.wait_closed()) == TOO_SLOW
    alice.fence(thread_id)


def test_one_that_unsubscribes_while_much_is_on_its_way_gets_it_all(serve: Serve) -> None:
    house = serve(limits=Limits(max_unsent_bytes=256 * KIB, log_bytes=64 * 1024 * KIB))
    alice = house.connect("alice")
    started = alice.request("thread/start")
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    alice.run_turn(thread_id, "say 120 90000")
    slow = slow_client(house)
    slow.begin("thread/resume", threadId=thread_id, afterSeq=1, epoch=epoch, excludeTurns=True)
    answer = slow.response(slow.begin("thread/unsubscribe", threadId=thread_id))

    assert answer["result"] == {"status": "unsubscribed"}
    assert slow.events_of(thread_id) == alice.events_of(thread_id)[1:]
    assert "warning" not in methods(slow.arrived)
    slow.fence()


def flood(client: Client, thread_id: str) -> tuple[range, threading.Thread]:
    """Send more requests than the kernel and the server hold, on a thread; return their ids too."""
    assert isinstance(client.wire, WebSocketWire)
    ids = range(1000, 3000)
    for number in ids:
        params = {"threadId": thread_id, "ballast": "x" * 10_000}
        text = json.dumps({"id": number, "method": "thread/read", "params": params})
        client.wire._protocol.send_text(text.encode())
    data = b"".join(client.wire._protocol.data_to_send())
    assert len(data) > KERNEL_BYTES
    sender = threading.Thread(target=client.wire.socket.sendall, args=(data,), daemon=True)
    sender.start()
    return ids, sender


def test_many_that_do_not_read_and_many_that_do_on_one_thread(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets)
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    slow = [slow_client(house, f"slow {index}") for index in range(8)]
    quick = [house.connect(f"quick {index}") for index in range(8)]
    for client in (*slow, *quick):
        client.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    for text in counted(0, 100):
        play.speak(text + DELTA)
        alice.wait("item/agentMessage/delta")
    play.end()

    for client in (alice, *quick, *slow):
        client.wait_turn(turn_id)
        check_unbroken(client.events_of(thread_id)[-105:], client.events_of(thread_id)[-105]["seq"] - 1)
        assert methods(client.arrived).count("item/agentMessage/delta") == 100


def test_one_that_floods_without_reading_while_it_is_sent_a_stream_waits_for_nobody(
    serve: Serve, puppets: Puppets
) -> None:
    # The one way in which two queues could wait for each other: it reads nothing until all is sent.
    house = serve(agent=puppets)
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    both = slow_client(house, "both")
    both.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    asked = []
    for _ in range(200):
        play.speak(DELTA)
        asked.append(both.begin("thread/read", threadId=thread_id))
        alice.wait("item/agentMessage/delta")
    play.end()
    alice.wait_turn(turn_id)

    for request_id in asked:
        both.response(request_id)
    both.wait_turn(turn_id)
    check_unbroken((each for each in both.arrived if "seq" in each), both.arrived[1]["result"]["seq"])
