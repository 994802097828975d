"""What a large message costs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from gateway.upstreams import Gateway
from helpers import text_input

MIB = 1024 * 1024
LARGE = 4 * MIB
SUBSCRIBERS = 32


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_a_large_message_is_not_copied_for_each_subscriber(gateway: Gateway, traced: None) -> None:
    subscribers = [gateway.connect(f"client {number}") for number in range(SUBSCRIBERS)]
    thread_id = subscribers[0].start_thread()
    for client in subscribers[1:]:
        client.resume(thread_id)
    onlooker = gateway.connect("onlooker")
    gateway.house.settle()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()

    # Said in two messages: as a delta, and in the item that is complete.
    subscribers[0].begin("turn/start", threadId=thread_id, input=text_input(f"say 1 {LARGE}"))
    onlooker.wait("thread/status/changed", status={"type": "idle"})  # which comes behind both
    gateway.house.settle()

    _, peak = tracemalloc.get_traced_memory()
    print((peak - before) / MIB)
    assert peak - before < SUBSCRIBERS / 2 * LARGE
