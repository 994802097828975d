"""A subscriber that is behind and leaves has been one until then: it misses nothing up to its leaving."""

from __future__ import annotations

from helpers import Client
from houses import LocalHouse
from routing.streams import check_unbroken
from wires import WebSocketWire


def test_an_unsubscribing_client_that_is_behind_gets_every_event_up_to_there(house: LocalHouse) -> None:
    bob = house.connect("bob")
    thread_id = bob.start_thread()
    alice = Client(WebSocketWire(house.url, receive_buffer_bytes=4096), "alice")
    alice.initialize()
    answer = alice.request("thread/resume", threadId=thread_id)
    # Far more than a window and what the sockets take, while alice reads nothing.
    bob.run_turn(thread_id, "say 30000 200")

    status = alice.request("thread/unsubscribe", threadId=thread_id)["status"]

    assert status == "unsubscribed"
    last = check_unbroken(alice.events_of(thread_id), answer["seq"])
    assert last == bob.events_of(thread_id)[-1]["seq"]
    bob.run_turn(thread_id, "text after")
    alice.drain(thread_id)
    told = [event for event in alice.events_of(thread_id) if event["seq"] > last]
    assert {event["method"] for event in told} == {"thread/status/changed"}
    alice.close()
