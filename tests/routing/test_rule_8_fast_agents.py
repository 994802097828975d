"""An agent that is faster than its thread, or than those who read, waits: and no longer than it has to."""

from __future__ import annotations

import threading
from typing import Any

import pykka

from conftest import Serve
from houses import Puppets
from trunkline import Limits
from trunkline.agents.events import ItemDelta, ItemStarted
from trunkline.local.engine import LocalEngine
from trunkline.messages import Warn
from trunkline.testing import PATIENCE_S
from trunkline.turns import Gate
from trunkline.types import ConnectionId, ThreadId, TurnId


class Inbox:
    """As deep as a test says; tells when it is looked at for the second time, right before a wait."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.is_about_to_wait = threading.Event()
        self._looks = 0

    def __call__(self) -> int:
        self._looks += 1
        if self._looks == 2:
            self.is_about_to_wait.set()
        return self.depth


def pass_through(gate: Gate, count: int) -> threading.Event:
    """Have a thread pass `gate` with so many events; return what is set when it has."""
    passed = threading.Event()

    def tell() -> None:
        gate.wait_open(8 * count, count)
        passed.set()

    threading.Thread(target=tell, daemon=True).start()
    return passed


def test_as_many_messages_may_wait_as_there_is_room_for_their_events() -> None:
    for count, most in ((1024, 16), (256, 64), (2, 2048), (1, 2048)):
        inbox = Inbox(most)
        gate = Gate(inbox, 2048, max_chars=512 * 1024, max_events=16_384)

        assert pass_through(gate, count).wait(PATIENCE_S)

        inbox.depth += 1
        assert gate._is_shut(most)
        assert not gate._is_shut(most + 1)


def test_an_agent_that_waits_is_woken_once_half_of_what_may_wait_is_worked_off() -> None:
    inbox = Inbox(17)
    gate = Gate(inbox, 2048, max_chars=512 * 1024, max_events=16_384)
    passed = pass_through(gate, 1024)
    assert inbox.is_about_to_wait.wait(PATIENCE_S)

    inbox.depth = 9
    gate.set_held(False)
    assert not gate._opened.is_set()
    inbox.depth = 8
    gate.set_held(False)

    assert passed.wait(PATIENCE_S)


def test_an_agent_is_held_in_the_middle_of_a_batch_that_fills_half_the_log(
    serve: Serve, puppets: Puppets
) -> None:
    class Sink(pykka.ThreadingActor):
        """A subscriber that takes nothing."""

        def on_receive(self, message: Any) -> None:
            pass

    house = serve(agent=puppets, limits=Limits(log_events=8192))
    client = house.connect()
    thread_id = client.start_thread()
    turn_id = TurnId(client.start_turn(thread_id, "play"))
    play = puppets.next()
    client.request("thread/unsubscribe", threadId=thread_id)
    house.settle()
    thread, sink = house.thread(thread_id), Sink.start()
    try:
        thread.feed.subscribe(ConnectionId(1000), sink, lambda _: Warn(ThreadId(thread_id), "welcome"))
        engine = thread._engine
        assert isinstance(engine, LocalEngine)
        gate = engine._conversation.gate
        assert gate is not None
        thread._handle_receive(ItemStarted(turn_id, {"type": "agentMessage", "id": "i"}))
        texts = ("12345678",) * 1024
        told = 0
        while not gate._is_held and told < 8192:
            thread._handle_receive(ItemDelta(turn_id, "i", texts, "".join(texts)))
            told += 1024

        assert gate._is_held
        assert told <= 2 * 1024 + 8192 // 2 + 1024  # what is sent at once, half of the log, and the last
    finally:
        sink.stop()
        play.end()
