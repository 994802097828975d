"""Microbenchmarks of what every event and every request passes through. Not part of the ordinary test run:

    pip install -e '.[bench]'
    python -m pytest benchmarks

What they add up to is measured by `tests/load/compare.py`; these say which part of it has changed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pykka
import pytest
from websockets.protocol import State
from websockets.server import ServerProtocol

from actor_kinds import Diary, Pooled, Threaded
from transports.raw import TEXT, frame
from trunkline import AppServer, Config
from trunkline.access import EVERYTHING
from trunkline.actor import Dispatcher
from trunkline.connection import Connection
from trunkline.feed import Feed
from trunkline.log import Chunk, EventLog
from trunkline.messages import Deliver, Reply, Request, Subscribed
from trunkline.protocol.deltas import DeltaHead, Deltas
from trunkline.protocol.envelope import (
    encode_notification,
    encode_result,
    now_ms,
    parse,
)
from trunkline.protocol.even_texts import join, pack
from trunkline.protocol.methods import read_call
from trunkline.router import Router
from trunkline.transports.framing import TEXT_FRAMING, TextFraming
from trunkline.transports.short_cut import whole_text
from trunkline.types import Buffer, ConnectionId, ThreadId

Benchmark: TypeAlias = Callable[..., Any]
"""The fixture of pytest-benchmark: calls what it is given, many times."""

THREAD = ThreadId("0190aaaa-1111-7222-8333-444444444444")
IDS = {"threadId": THREAD, "turnId": "0190bbbb-1111-7222-8333-444444444444", "itemId": "0190cccc-1111"}
DELTA = "item/agentMessage/delta"
EVENTS = 256
SUBSCRIBERS = 256
HOPS = 1000
PATIENCE_S = 60.0


class Sink:
    """What `post` needs of a reference; takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.actor_stopped = threading.Event()
        self.actor_inbox = self

    def put(self, _envelope: object, /) -> None:
        """Take a message."""

    @property
    def ref(self) -> pykka.ActorRef[Any]:
        return self  # type: ignore[return-value]


class OpenLink:
    """A link whose socket takes everything."""

    name = "bench"
    access = EVERYTHING
    is_remote = False
    is_open = True
    unsent_bytes = 0

    @property
    def framing(self) -> TextFraming:
        return TEXT_FRAMING

    def send(self, data: Buffer) -> None: ...
    def consumed(self, count: int) -> None: ...
    def close(self, code: int, reason: str = "") -> None: ...


@pytest.fixture
def server() -> Iterator[AppServer]:
    with AppServer(Config()) as running:
        yield running


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(workers=2, name="bench")
    dispatcher.start()
    yield dispatcher
    pykka.ActorRegistry.stop_all(timeout=PATIENCE_S)
    dispatcher.stop(PATIENCE_S)


# Encode


def test_encode_64_deltas_of_one_length(benchmark: Benchmark) -> None:
    head = DeltaHead(DELTA, IDS)
    texts = tuple(f"{number:08}" for number in range(64))
    even = pack(texts, join(texts))  # as agents have them
    header, trailer = TEXT_FRAMING.header, TEXT_FRAMING.trailer
    benchmark(lambda: Deltas(head, even, now_ms(), 12345).framed(header, trailer))


def test_encode_64_deltas_of_many_lengths(benchmark: Benchmark) -> None:
    head = DeltaHead(DELTA, IDS)
    texts = tuple("word" * (number % 9) for number in range(64))
    header, trailer = TEXT_FRAMING.header, TEXT_FRAMING.trailer
    benchmark(lambda: Deltas(head, texts, now_ms(), 12345).framed(header, trailer))


def test_encode_64_deltas_that_are_not_ascii(benchmark: Benchmark) -> None:
    head = DeltaHead(DELTA, IDS)
    texts = tuple(f"größe {number}" for number in range(64))
    header, trailer = TEXT_FRAMING.header, TEXT_FRAMING.trailer
    benchmark(lambda: Deltas(head, texts, now_ms(), 12345).framed(header, trailer))


def test_encode_the_same_as_any_notification(benchmark: Benchmark) -> None:
    params = {**IDS, "delta": "00000123"}
    benchmark(lambda: encode_notification(DELTA, params, now_ms(), 12345))


def test_encode_a_result(benchmark: Benchmark) -> None:
    benchmark(lambda: TEXT_FRAMING.frame(encode_result(7, {"data": [], "nextCursor": None})))


# Parse


REQUEST = b'{"id":7,"method":"thread/loaded/list","params":{}}'


def test_parse_a_frame_by_the_short_cut(benchmark: Benchmark) -> None:
    data = frame(TEXT, REQUEST)
    assert benchmark(lambda: whole_text(data, 1_000_000)) == REQUEST.decode()


def test_parse_a_frame_by_websockets(benchmark: Benchmark) -> None:
    data = frame(TEXT, REQUEST)
    protocol = ServerProtocol(state=State.OPEN)

    def read() -> int:
        protocol.receive_data(data)
        return len(protocol.events_received())

    assert benchmark(read) == 1


def test_parse_a_request(benchmark: Benchmark) -> None:
    text = REQUEST.decode()

    def read() -> Any:
        message: Any = parse(text)
        return read_call(message.method, message.params)

    assert benchmark(read)[0].name == "thread/loaded/list"


# Route


def test_route_a_request(benchmark: Benchmark, server: AppServer) -> None:
    """The router finds out who answers `thread/loaded/list`, and does."""
    client = server.connect(lambda _: None)
    client.request("initialize", {"clientInfo": {"name": "bench", "version": "1"}}).get(timeout=PATIENCE_S)
    router = look_into(server, Router)
    method, params = read_call("thread/loaded/list", {})
    request = Request(next(iter(router._peers)), Sink().ref, 7, method, params)

    benchmark(lambda: router.on_receive(request))


def test_route_256_events_to_256_subscribers(benchmark: Benchmark) -> None:
    """A thread's feed numbers, encodes and keeps them, and tells everybody who is subscribed."""
    feed = Feed(
        thread_id=THREAD,
        log=EventLog(max_events=65_536, max_bytes=16_777_216),
        router=Sink().ref,
        recent_frames=deque(maxlen=1),
        epoch="1",
        reserve=lambda _: None,
    )
    for number in range(SUBSCRIBERS):
        feed.subscribe(ConnectionId(number), Sink().ref, lambda _: Reply(7, {}))
    head, texts = DeltaHead(DELTA, IDS), tuple(f"{number:08}" for number in range(EVENTS))
    even, joined = pack(texts, join(texts)), join(texts)

    def publish() -> None:
        feed.notify_deltas(head, even, joined)
        feed.flush()
        for subscription in feed.listener or ():
            subscription.under_way = 0

    benchmark(publish)


# Flush


def made_chunk() -> Chunk:
    texts = ["00000123"] * EVENTS
    return Chunk([Deltas(DeltaHead(DELTA, IDS), texts, now_ms(), 1)])


def test_flush_256_events_to_a_link(benchmark: Benchmark, server: AppServer) -> None:
    """What each subscriber's connection does with them, but for the system call."""
    context = server._context
    assert context is not None
    connection = Connection(
        context=context, router=Sink().ref, link=OpenLink(), connection_id=ConnectionId(1)
    )
    connection.on_receive(Subscribed(THREAD, Sink().ref, 1, Reply(7, {}), ()))
    deliver = Deliver.of(THREAD, [made_chunk()])

    def flush() -> None:
        connection.on_receive(deliver)
        connection.on_batch_end()

    benchmark(flush)


def test_frame_256_events(benchmark: Benchmark) -> None:
    """What the first of the subscribers' connections does for all of them."""
    chunk = made_chunk()

    # Nobody holds its frames, so it is done again at every call.
    benchmark(lambda: chunk.framed(TEXT_FRAMING, frozenset()))


# Actor hop


@pytest.mark.parametrize("kind", [Pooled, Threaded])
def test_1000_hops_between_two_actors(
    benchmark: Benchmark, dispatcher: Dispatcher, kind: type[Pooled | Threaded]
) -> None:
    """Two actors tell each other in turn; Pykka's own kind for comparison."""
    here, there = kind.start(Diary(), dispatcher), kind.start(Diary(), dispatcher)

    def play() -> None:
        done = threading.Event()

        def hop(left: int) -> Callable[[Any], None]:
            def deed(_: Any) -> None:
                if left:
                    (here if left % 2 else there).tell(hop(left - 1))
                else:
                    done.set()

            return deed

        here.tell(hop(HOPS))
        assert done.wait(PATIENCE_S)

    benchmark(play)


def look_into(server: AppServer, kind: type[Router]) -> Router:
    """Return the server's actor of a kind."""
    for ref in pykka.ActorRegistry.get_by_class(kind):
        actor = ref._actor_weakref()
        if actor is not None and actor._context is server._context:
            return actor
    raise LookupError(kind.__name__)
