"""A subscriber that is behind and leaves has been one until then: it misses nothing up to its leaving."""

from __future__ import annotations

from collections import deque
from typing import Any

import pykka

from helpers import Client
from houses import LocalHouse
from routing.streams import check_unbroken
from trunkline.feed import Feed
from trunkline.listener import WINDOW_BYTES
from trunkline.log import EventLog, Frames
from trunkline.messages import Warn
from trunkline.types import ConnectionId, ThreadId
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


def test_a_last_subscriber_may_leave_as_it_falls_out_of_the_log() -> None:
    class Sink(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> None:
            pass

    sink, slow, room = Sink.start(), ConnectionId(1), ThreadId("t")
    try:
        log = EventLog(max_events=4, max_bytes=8 * WINDOW_BYTES, last_seq=0)
        feed = Feed(
            thread_id=room, log=log, router=sink, recent_frames=deque(), epoch="e", reserve=lambda _: None
        )
        feed.subscribe(slow, sink, lambda _: Warn(room, "welcome"))
        feed.notify("big", {"text": "x" * 2 * WINDOW_BYTES})
        feed.flush()  # its window is full, and nothing is given back
        for _ in range(3):
            feed.notify("more", {})
            feed.flush()
        assert feed.is_subscribed(slow)
        for _ in range(3):
            feed.notify("more", {})

        assert feed.unsubscribe(slow) is None
    finally:
        sink.stop()


def test_what_is_kept_for_those_a_little_behind_is_small() -> None:
    class Sink(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> None:
            pass

    sink, room = Sink.start(), ThreadId("t")
    recent: deque[Frames] = deque()
    try:
        log = EventLog(max_events=100, max_bytes=8 * WINDOW_BYTES)
        feed = Feed(
            thread_id=room, log=log, router=sink, recent_frames=recent, epoch="e", reserve=lambda _: None
        )
        feed.subscribe(ConnectionId(1), sink, lambda _: Warn(room, "welcome"))
        for text in ("small", "x" * WINDOW_BYTES, "small"):
            feed.notify("m", {"text": text})
            feed.flush()
            feed.progress(ConnectionId(1), 1, log.size)

        small, large, last = log.chunks_after(0)
        assert [id(frames) for frames in recent] == [id(small.frames()), id(last.frames())]
        assert large.size > WINDOW_BYTES
    finally:
        sink.stop()
