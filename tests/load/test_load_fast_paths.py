"""The fast paths see every frame: whatever is done to a stream, they find what a full look at each finds."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_cli.load import wire
from trunkline_cli.load.loop import Loop
from trunkline_cli.load.session import Session
from trunkline_cli.load.stats import Interval

THREADS = ("0190aaaa-1111-7222-8333-444444444444", "0190bbbb-1111-7222-8333-444444444444")

Event = dict[str, Any]


class Place:
    """A worker, as far as a session knows it. Sends go nowhere, as no socket is open."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.interval = Interval("measured", 0.0)
        self.target = wire.parse_target("ws://127.0.0.1:1")
        self.address: tuple[int, tuple[str, int] | str] = (0, ("", 0))
        self.tls: ssl.SSLContext | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self.logs: dict[str, Any] = {}
        self.latency_from_mark = False
        self.room: list[bytearray] = []


class Listener:
    number = 1

    def __init__(self) -> None:
        self.methods: list[str] = []

    def on_open(self) -> None: ...
    def on_reply(self, reply: dict[str, Any]) -> None: ...
    def on_lost(self, why: str) -> None: ...

    def on_event(self, method: str, message: dict[str, Any]) -> None:
        self.methods.append(method)


def frame(payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2)
    return b"\x81" + head + payload


def delta(thread: int, item: str, text: str, ms: int) -> Event:
    params = {"threadId": THREADS[thread], "turnId": "u", "itemId": item, "delta": text}
    return {"method": "item/agentMessage/delta", "params": params, "emittedAtMs": ms}


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Draw messages of two threads, mostly deltas, numbered or not, with a broadcast here and there."""
    numbered = draw(st.booleans())
    start, ms, found = draw(st.sampled_from([0, 985, 1990, 9985])), 1_795_336_385_341, []
    seqs = [start, start]
    kinds = ["delta"] * 8 + ["started", "completed", "status"]
    left: list[str] = []  # texts of one size, which come behind each other in one thread
    for _ in range(draw(st.integers(1, 90))):
        if not left:
            thread = draw(st.sampled_from([0, 0, 0, 1]))
            kind = draw(st.sampled_from([*kinds, "alike", "alike"]))
            ms += draw(st.sampled_from([0, 0, 0, 1]))
            item = f"item-{draw(st.integers(0, 1))}"
            if kind == "alike":
                left = draw(st.lists(st.text("ab ", min_size=8, max_size=8), min_size=8, max_size=60))
        if left:
            event = delta(thread, item, left.pop(), ms)
        elif kind == "delta":
            event = delta(thread, item, draw(st.text(max_size=200)), ms)
        elif kind == "status":
            event = {"method": "thread/status/changed", "params": {"threadId": THREADS[thread]}}
        else:
            body = {"id": item, "type": "agentMessage", "text": draw(st.text(max_size=3))}
            event = {"method": f"item/{kind}", "params": {"threadId": THREADS[thread], "item": body}}
        if numbered:
            seqs[thread] += 1
            event["seq"] = seqs[thread]
        found.append(event)
    return found


@st.composite
def damaged(draw: st.DrawFn, stream: list[Event]) -> list[Event]:
    """Draw what a faulty server makes of a stream: left out, repeated, swapped, of a foreign thread."""
    stream = list(stream)
    for _ in range(draw(st.integers(0, 3))):
        if not stream:
            break
        at = draw(st.integers(0, len(stream) - 1))
        match draw(st.sampled_from(["leave out", "repeat", "swap", "foreign"])):
            case "leave out":
                del stream[at]
            case "repeat":
                stream.insert(at, stream[at])
            case "swap":
                stream.insert(draw(st.integers(0, len(stream) - 1)), stream.pop(at))
            case "foreign":
                event = stream[at]
                stream[at] = {**event, "params": {**event["params"], "threadId": "0190cccc"}}
    return stream


def pieces(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Cut bytes as a socket might."""
    while data:
        size = rng.choice((1, 7, 300, 4096, 65_536))
        yield data[:size]
        data = data[size:]


def session(place: Place, *, numbered: bool, full_look: bool, strict: bool = True, after: int = 0) -> Session:
    opened = Session(place, Listener(), random.Random(1), 0)
    opened.strict = strict
    opened.peer.is_open = True
    for thread in THREADS:
        opened.subscribe(thread, after if numbered else None)
    opened.tell_deltas(full_look)
    return opened


def feed(target: Session, stream: list[Event], rng: random.Random) -> None:
    rest = b""
    for piece in pieces(b"".join(frame(orjson.dumps(event)) for event in stream), rng):
        data = rest + piece
        # There is more in the place it was read into, of earlier reads.
        before, behind = (rng.randbytes(rng.choice((0, 300))) for _ in range(2))
        room, begin, end = bytearray(before + data + behind), len(before), len(before) + len(data)
        rest = bytes(room[target.on_data(room, begin, end) : end])
    assert not rest


def outcome(place: Place) -> tuple[int, int, dict[str, int]]:
    interval = place.interval
    latencies = interval.latencies.get("delivery")
    breaches = {check: breach.count for check, breach in interval.breaches.items()}
    return interval.deliveries, latencies.total if latencies else 0, breaches


@pytest.fixture(scope="module", params=[300, 131_072])
def _block_bytes(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is compared is in many blocks, with events that count as large, or in few and with none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trunkline_cli.load.threadlog._BLOCK_BYTES", request.param)
        patch.setattr("trunkline_cli.load.threadlog._LARGE_BYTES", request.param // 3)
        yield


@pytest.mark.usefixtures("_block_bytes")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fast_paths_find_what_a_full_look_finds(data: st.DataObject) -> None:
    stream = data.draw(events())
    numbered = "seq" in stream[0]
    after = stream[0].get("seq", 1) - 1
    streams = [stream, data.draw(damaged(stream)), data.draw(damaged(stream))]
    # Whether a reader opted out of something: then it may miss numbers.
    strict = [data.draw(st.booleans()) for _ in streams]
    rng = random.Random(data.draw(st.integers(0, 1000)))

    # One connection at a time and every frame taken apart; nothing is shared.
    expected = []
    for one, is_strict in zip(streams, strict, strict=True):
        alone = Place()
        feed(session(alone, numbered=numbered, full_look=True, strict=is_strict, after=after), one, rng)
        expected.append(outcome(alone))
    # Together: what the first has read is what the others are compared with.
    together = Place()
    found = []
    sessions = [
        session(together, numbered=numbered, full_look=False, strict=each, after=after) for each in strict
    ]
    for one, target in zip(streams, sessions, strict=True):
        together.interval = Interval("measured", 0.0)
        feed(target, one, rng)
        found.append(outcome(together))

    assert found == expected


def test_a_delta_with_an_escape_in_it_is_taken_in() -> None:
    place = Place()
    target = session(place, numbered=False, full_look=False)
    texts = ['"', "\\", "é\n", "plain", '"},"emittedAtMs":1795336385341', "plain"]
    stream: list[Event] = [
        {
            "method": "item/started",
            "params": {"threadId": THREADS[0], "item": {"id": "i", "type": "agentMessage"}},
        },
        *(delta(0, "i", text, 1_795_336_385_341) for text in texts),
        {
            "method": "item/completed",
            "params": {
                "threadId": THREADS[0],
                "item": {"id": "i", "type": "agentMessage", "text": "".join(texts)},
            },
        },
    ]

    feed(target, stream, random.Random(1))

    assert outcome(place) == (len(stream), len(texts), {})


@pytest.mark.parametrize("count", [9, 99, 999])
def test_numbers_may_grow_by_a_digit(count: int) -> None:
    place = Place()
    readers = [session(place, numbered=True, full_look=False) for _ in range(2)]
    stream = [{**delta(0, "i", "x", 1_795_336_385_341), "seq": number + 1} for number in range(count + 3)]

    for reader in readers:
        feed(reader, stream, random.Random(1))

    assert outcome(place) == (2 * len(stream), 2 * len(stream), {})


@pytest.mark.parametrize("is_other", [False, True])
def test_a_large_event_is_taken_apart_once_unless_it_is_another(
    is_other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place()
    readers = [session(place, numbered=True, full_look=False) for _ in range(3)]
    item = {"id": "i", "type": "agentMessage", "text": "x" * 10_000}
    first = {**delta(0, "i", "x", 1_795_336_385_341), "seq": 1}
    end = {"method": "item/completed", "params": {"threadId": THREADS[0], "item": item}, "seq": 2}
    other = {**end, "params": {"threadId": THREADS[1] if is_other else THREADS[0], "item": item}}
    parsed: list[int] = []
    loads = orjson.loads

    def count(data: bytes) -> Any:
        parsed.append(len(data))
        return loads(data)

    monkeypatch.setattr("trunkline_cli.load.session.orjson.loads", count)
    monkeypatch.setattr("trunkline_cli.load.threadlog._LARGE_BYTES", 10_000)  # whatever others have set
    for reader, last in zip(readers, (end, end, other), strict=True):
        data = bytearray(b"".join(frame(orjson.dumps(event)) for event in (first, last)))
        assert reader.on_data(data, 0, len(data)) == len(data)

    assert len([size for size in parsed if size > 10_000]) == 1 + is_other
    breaches = {"order": 1} if is_other else {}  # the event of the other thread is not its first
    assert outcome(place) == (6, 3, breaches)
    assert not place.logs[THREADS[0]]._large  # all have asked for it


def alike(count: int, first: int) -> list[Event]:
    """Return deltas that differ in text and number only."""
    return [{**delta(0, "i", f"{n:08}", 1_795_336_385_341), "seq": first + n} for n in range(count)]


@pytest.mark.parametrize("first", [101, 1001])
def test_deltas_that_are_alike_are_checked_together(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_cli.load.deltas.Deltas._take_each", lambda _, read, position: position)
    looks: list[int] = []
    look = Session._on_text

    def count(session: Session, data: bytes, frame: int, start: int, stop: int) -> None:
        looks.append(frame)
        look(session, data, frame, start, stop)

    monkeypatch.setattr(Session, "_on_text", count)
    place = Place()
    readers = [session(place, numbered=True, full_look=False, after=first - 1) for _ in range(2)]
    data = b"".join(frame(orjson.dumps(event)) for event in alike(100, first))

    for reader in readers:
        assert reader.on_data(data, 0, len(data)) == len(data)

    assert outcome(place) == (200, 200, {})
    assert looks == [0, 0]  # of each reader at its first
    log = place.logs[THREADS[0]]
    assert log.match(first + 50, memoryview(data)[len(data) // 2 :]) == (first + 100, len(data) // 2)


@pytest.mark.parametrize("numbered", [True, False])
def test_no_byte_of_a_delta_can_be_wrong_unseen(numbered: bool) -> None:
    events = alike(20, 1001)
    if not numbered:
        events = [{key: value for key, value in event.items() if key != "seq"} for event in events]
    stream = [orjson.dumps(event) for event in events]
    spoilt = stream[12]
    for at in range(spoilt.index(b'"delta"'), len(spoilt)):
        for byte in (b'"', b"\\", b"\n", b"x", b"7"):
            stream[12] = spoilt[:at] + byte + spoilt[at + 1 :]
            found = []
            for full_look in (True, False):
                place = Place()
                target = session(place, numbered=numbered, full_look=full_look, after=1000)
                data = b"".join(map(frame, stream))
                assert target.on_data(data, 0, len(data)) == len(data)
                deliveries, _, breaches = outcome(place)  # it may say another time
                found.append((deliveries, breaches))
            assert found[0] == found[1], (at, byte)


def test_what_has_fallen_out_of_the_shared_log_is_looked_at_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_cli.load.threadlog._MAX_BYTES", 2000)
    monkeypatch.setattr("trunkline_cli.load.threadlog._BLOCK_BYTES", 500)
    place = Place()
    first, second = (session(place, numbered=True, full_look=False) for _ in range(2))
    stream = [{**delta(0, "i", "x", 1_795_336_385_341 + n // 3), "seq": n + 1} for n in range(100)]

    feed(first, stream, random.Random(1))
    assert place.logs[THREADS[0]].first > 80
    feed(second, stream, random.Random(2))

    assert outcome(place) == (200, 200, {})


def test_what_all_subscribers_have_read_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_cli.load.threadlog._BLOCK_BYTES", 500)
    place = Place()
    readers = [session(place, numbered=True, full_look=False, after=1000) for _ in range(3)]
    stream = [{**delta(0, "i", f"{n:08}", 1_795_336_385_341 + n // 20), "seq": 1001 + n} for n in range(200)]
    log = place.logs[THREADS[0]]

    for reader in readers[:2]:
        feed(reader, stream, random.Random(1))
    assert log.first == 1001  # the third needs it all
    feed(readers[2], stream, random.Random(2))

    assert log.first > 1100
    assert outcome(place) == (600, 600, {})


def test_an_event_that_everybody_looks_at_pushes_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_cli.load.threadlog._MAX_BYTES", 20_000)
    place = Place()
    listener = Listener()
    first, second = (session(place, numbered=True, full_look=False) for _ in range(2))
    second._driver = listener
    body = {"id": "i", "type": "agentMessage", "text": "x" * 30_000}
    completed: Event = {"method": "item/completed", "params": {"threadId": THREADS[0], "item": body}}
    before = [{**delta(0, "i", "x", 1_795_336_385_341), "seq": n} for n in range(1, 31)]
    behind = [{**delta(0, "i", "x", 1_795_336_385_341), "seq": n} for n in range(32, 62)]

    for reader in (first, second):
        feed(reader, [*before, {**completed, "seq": 31}, *behind], random.Random(1))

    assert place.logs[THREADS[0]].first == 1  # it did not push out what was before it
    assert listener.methods == ["item/completed"]
    assert outcome(place) == (122, 120, {})


def test_a_log_of_nothing_but_such_events_has_its_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_cli.load.threadlog._MAX_BYTES", 20_000)
    monkeypatch.setattr("trunkline_cli.load.threadlog._BLOCK_BYTES", 2_000)
    place = Place()
    readers = [session(place, numbered=True, full_look=False) for _ in range(2)]
    event = {"method": "thread/status/changed", "params": {"threadId": THREADS[0]}}
    stream: list[Event] = [{**event, "seq": n} for n in range(1, 1001)]

    for reader in readers:
        feed(reader, stream, random.Random(1))

    assert place.logs[THREADS[0]].first > 700
    assert outcome(place) == (2000, 0, {})


def test_latencies_are_those_of_each_events_own_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = 1_795_336_385_400
    monkeypatch.setattr("trunkline_cli.load.session.time.time", lambda: now_ms / 1000)
    place = Place()
    readers = [session(place, numbered=True, full_look=False) for _ in range(3)]
    stream = [{**delta(0, "i", "x", now_ms - n), "seq": 10 - n} for n in range(9, -1, -1)]

    for reader in readers:
        feed(reader, stream, random.Random(1))

    buckets = {low // 1000: count for low, _, count in place.interval.latencies["delivery"].buckets()}
    assert buckets == dict.fromkeys(range(10), 3)


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("readers", [1, 2])
def test_deltas_after_unsubscribing_are_caught_one_by_one(readers: int, numbered: bool) -> None:
    place = Place()
    sessions = [session(place, numbered=numbered, full_look=False) for _ in range(readers)]
    stream = [delta(0, "i", "x", 1_795_336_385_341) for _ in range(10)]
    if numbered:
        stream = [{**event, "seq": number + 1} for number, event in enumerate(stream)]
    for reader in sessions:
        feed(reader, stream[:5], random.Random(1))
    sessions[-1].unsubscribe(THREADS[0])

    for reader in sessions:
        feed(reader, stream[5:], random.Random(1))

    assert place.interval.breaches["unsubscribed"].count == 5
    assert set(place.interval.breaches) == {"unsubscribed"}


def test_who_opted_out_may_miss_numbers_but_not_see_them_twice() -> None:
    place = Place()
    full, part = (session(place, numbered=True, full_look=False) for _ in range(2))
    for subscription in part.subscriptions.values():
        subscription.strict = False
    stream = [{**delta(0, "i", "x", 1_795_336_385_341), "seq": number + 1} for number in range(20)]

    feed(part, stream[::2], random.Random(1))
    feed(full, stream, random.Random(1))
    assert outcome(place) == (30, 30, {})

    feed(part, stream[-2:-1], random.Random(1))
    assert outcome(place) == (31, 31, {"order": 1})
