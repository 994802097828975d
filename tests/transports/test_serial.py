"""The tools with which threads share work without a lock."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

import pytest

from transports.links import PATIENCE_S, Recorder
from trunkline.transports.base import Closed
from trunkline.transports.relay import Relay
from trunkline.transports.serial import SerialQueue, Tally, Window
from trunkline.transports.waker import Waker


def run_all(threads: int, action: Callable[[int], None]) -> None:
    """Run `action(number)` on many threads at once."""
    start = threading.Barrier(threads)

    def run(number: int) -> None:
        start.wait(PATIENCE_S)
        action(number)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_every_item_is_worked_on_once_in_order_and_never_two_threads_at_once() -> None:
    seen: list[tuple[int, int]] = []
    working: list[None] = []

    def work(items: list[tuple[int, int]]) -> None:
        assert not working
        working.append(None)
        seen.extend(items)
        working.pop()

    turns = SerialQueue(work)
    threads, count = 6, 3000

    def put(name: int) -> None:
        for number in range(count):
            turns.put((name, number))

    run_all(threads, put)

    assert len(seen) == threads * count
    for name in range(threads):
        assert [number for who, number in seen if who == name] == list(range(count))


def test_an_item_put_by_the_work_itself_is_worked_on_after_it() -> None:
    seen: list[int] = []

    def work(items: list[int]) -> None:
        for item in items:
            if item < 3:
                turns.put(item + 1)
            seen.append(item)

    turns = SerialQueue(work)
    turns.put(0)

    assert seen == [0, 1, 2, 3]


def test_work_that_raises_does_not_keep_the_turn() -> None:
    seen: list[int] = []

    def work(items: list[int]) -> None:
        if items == [1]:
            raise ValueError("a bug")
        seen.extend(items)

    turns = SerialQueue(work)
    with pytest.raises(ValueError, match="a bug"):
        turns.put(1)
    turns.put(2)

    assert seen == [2]


def test_what_is_put_while_held_waits_for_the_release() -> None:
    seen: list[int] = []
    turns = SerialQueue(seen.extend)
    turns.hold()
    turns.put(1)
    assert seen == []

    turns.release()
    turns.put(2)
    assert seen == [1, 2]


def test_a_tally_of_many_threads_is_exact() -> None:
    tally = Tally()

    def add(name: int) -> None:
        for number in range(3000):
            tally.add(number * name)

    run_all(6, add)

    assert tally.value == sum(range(6)) * sum(range(3000))


def test_a_window_is_over_its_limit_until_enough_is_consumed() -> None:
    window = Window(max_messages=4, max_bytes=100)
    window.hand_out(4, 100)
    assert not window.is_over(half=False)
    window.hand_out(1, 0)
    assert window.is_over(half=False)
    window.consumed(1)
    assert not window.is_over(half=False)
    assert window.is_over(half=True)
    window.consumed(2)
    assert window.is_over(half=True)  # the first batch's bytes count until its last message
    window.consumed(1)
    assert not window.is_over(half=True)
    assert (window.messages, window.bytes) == (1, 0)


def test_a_window_counts_bytes() -> None:
    window = Window(max_messages=4, max_bytes=100)
    window.hand_out(1, 101)
    assert window.is_over(half=False)
    window.consumed(1)
    assert not window.is_over(half=True)


def test_a_window_of_which_more_is_consumed_than_was_handed_out_is_empty() -> None:
    window = Window(max_messages=4, max_bytes=100)
    window.hand_out(1, 1)
    window.consumed(5)
    assert not window.is_over(half=True)
    assert (window.messages, window.bytes) == (0, 0)


def is_readable(waker: Waker) -> bool:
    return bool(select.select([waker], [], [], 0)[0])


def test_an_owner_that_is_busy_is_not_woken() -> None:
    waker = Waker()
    waker.wake()
    assert not is_readable(waker)
    waker.close()


def test_an_owner_that_dozes_is_woken_once() -> None:
    waker = Waker()
    assert waker.doze()
    waker.wake()
    waker.wake()
    assert waker._receiver.recv(10) == b"\0"
    assert not is_readable(waker)
    waker.close()


def test_an_owner_may_not_wait_while_somebody_has_the_token() -> None:
    waker = Waker()
    waker.doze()
    waker._asleep.pop()  # as a thread that is about to send, or has just sent, its byte
    waker.rise()

    assert not waker.doze()
    waker._awake.append(None)
    assert waker.doze()
    waker.close()


def test_a_waker_that_is_closed_wakes_nobody() -> None:
    waker = Waker()
    waker.doze()
    waker.close()
    waker.wake()


def test_no_wake_up_is_lost() -> None:
    waker = Waker()
    items: list[int] = []
    taken: list[int] = []
    threads, count = 4, 3000

    def own() -> None:
        while len(taken) < threads * count:
            may_wait = waker.doze()
            timeout = PATIENCE_S if may_wait and not items else 0
            woken = select.select([waker], [], [], timeout)[0]
            assert woken or not timeout
            waker.rise()
            if woken:
                waker.drain()
            batch = items[:]
            del items[: len(batch)]
            taken.extend(batch)

    owner = threading.Thread(target=own)
    owner.start()

    def put(_name: int) -> None:
        for number in range(count):
            items.append(number)
            waker.wake()

    run_all(threads, put)
    owner.join(PATIENCE_S)
    assert len(taken) == threads * count
    waker.close()


def test_a_relay_passes_on_nothing_after_the_close() -> None:
    calls: list[str] = []

    class Events(Recorder):
        def on_closed(self, closed: Closed) -> None:
            calls.append(closed.reason)
            relay.drained()

        def on_messages(self, messages: tuple[str, ...]) -> None:
            calls.extend(messages)

        def on_drained(self) -> None:
            calls.append("drained")

    relay = Relay()
    relay.messages(("before",))
    relay.closed(Closed(1000, "first"))
    relay.closed(Closed(1001, "second"))
    relay.messages(("after",))
    relay.attach(Events(None))  # type: ignore[arg-type]  # it looks at no link
    relay.messages(("after",))
    relay.input_ended()

    assert calls == ["before", "first"]
