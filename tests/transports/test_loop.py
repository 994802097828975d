"""The I/O loop: its calls, timers and sockets."""

from __future__ import annotations

import queue
import socket
import threading

import pytest

from transports.links import PATIENCE_S, get
from trunkline.transports.loop import READ, WRITE, IoLoop


class Watched:
    """A watcher that puts what it is told into a queue."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[int | str] = queue.SimpleQueue()

    def on_ready(self, mask: int) -> None:
        self.told.put(mask)

    def on_loop_stop(self) -> None:
        self.told.put("stop")


def test_calls_of_one_thread_run_in_order_on_the_loops_thread(loop: IoLoop) -> None:
    ran: queue.SimpleQueue[tuple[int, threading.Thread]] = queue.SimpleQueue()
    for number in range(1000):
        loop.call_soon(lambda number: ran.put((number, threading.current_thread())), number)

    assert [get(ran) for _ in range(1000)] == [(number, loop.thread) for number in range(1000)]


def test_timers_fire_in_the_order_of_their_deadlines_unless_cancelled(loop: IoLoop) -> None:
    fired: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start() -> None:
        loop.call_later(0.03, lambda: fired.put("third"))
        cancelled = loop.call_later(0.02, lambda: fired.put("cancelled"))
        loop.call_later(0.01, lambda: fired.put("second"))
        loop.call_later(0.0, lambda: fired.put("first"))
        cancelled.cancel()
        cancelled.cancel()

    loop.call_soon(start)
    assert [get(fired) for _ in range(3)] == ["first", "second", "third"]


def test_a_callback_that_raises_ends_nothing_else(loop: IoLoop, caplog: pytest.LogCaptureFixture) -> None:
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()

    def fail() -> None:
        raise ValueError("a bug")

    loop.call_soon(fail)
    loop.call_soon(loop.call_later, 0.0, fail)
    loop.call_soon(loop.call_later, 0.0, lambda: ran.put("after"))

    assert get(ran) == "after"
    assert caplog.text.count("a callback of the I/O loop failed") == 2


def test_a_watcher_is_told_what_it_asked_for_and_no_more(loop: IoLoop) -> None:
    ours, theirs = socket.socketpair()
    watched = Watched()
    with ours, theirs:
        theirs.send(b"x")
        loop.call_soon(loop.watch, ours, watched, 0)
        loop.call_soon(loop.watch, ours, watched, WRITE)
        assert get(watched.told) == WRITE
        loop.call_soon(loop.watch, ours, watched, READ | WRITE)
        while get(watched.told) != READ | WRITE:
            pass
        loop.call_soon(loop.watch, ours, watched, 0)
        settled = threading.Event()
        loop.call_soon(settled.set)
        assert settled.wait(PATIENCE_S)
        while not watched.told.empty():
            watched.told.get()
        loop.call_soon(loop.watch, ours, watched, READ)
        assert get(watched.told) == READ
        unwatched = threading.Event()
        loop.call_soon(loop.unwatch, ours)
        loop.call_soon(loop.unwatch, ours)
        loop.call_soon(unwatched.set)
        assert unwatched.wait(PATIENCE_S)


@pytest.mark.parametrize("mask", [0, READ])
def test_the_end_of_the_loop_is_told_to_every_watcher(mask: int) -> None:
    loop = IoLoop()
    loop.start()
    ours, theirs = socket.socketpair()
    watched = Watched()
    with ours, theirs:
        loop.call_soon(loop.watch, ours, watched, mask)
        assert loop.stop(PATIENCE_S)
        assert get(watched.told) == "stop"
        assert loop.stop(PATIENCE_S)
        loop.call_soon(watched.told.put, "too late")
        assert watched.told.empty()
    assert not loop.is_running


def test_a_loop_that_was_never_started_can_be_stopped() -> None:
    loop = IoLoop()
    assert loop.stop()
    assert loop.stop()
