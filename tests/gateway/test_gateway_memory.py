"""What a large message costs."""

from __future__ import annotations

import tracemalloc

from gateway.upstreams import Gateway
from helpers import text_input

MIB = 1024 * 1024
LARGE = 4 * MIB
SUBSCRIBERS = 24


def test_a_large_message_is_not_copied_for_each_subscriber(gateway: Gateway) -> None:
    """What takes part of it is in this process, but for the fake upstream and the operating system."""
    alice = gateway.connect()
    thread_id = alice.start_thread()
    for number in range(SUBSCRIBERS):
        gateway.connect(f"client {number}").resume(thread_id)
    onlooker = gateway.connect("onlooker")
    gateway.house.settle()
    tracemalloc.start()
    try:
        # Said in two messages: as a delta, and in the item that is complete.
        alice.begin("turn/start", threadId=thread_id, input=text_input(f"say 1 {LARGE}"))
        onlooker.wait("thread/status/changed", status={"type": "idle"})  # which comes behind both
        gateway.house.settle()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Each is there as the upstream wrote it, as it is kept, and as it is sent; and each of these is made of
    # the one before.
    assert 2 * LARGE < peak < SUBSCRIBERS / 2 * LARGE
