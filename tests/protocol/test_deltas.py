"""Deltas that are written together are, byte for byte, the notifications that they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.log import Chunk, Event
from trunkline.protocol.deltas import DeltaHead, Deltas
from trunkline.protocol.envelope import encode_notification
from trunkline.protocol.even_texts import pack
from trunkline.transports.base import Framing
from trunkline.transports.framing import LINE_FRAMING, TEXT_FRAMING

FRAMINGS: list[Framing] = [TEXT_FRAMING, LINE_FRAMING]
NOTHING: frozenset[str] = frozenset()

# Also what JSON escapes, what is not ASCII, what is long enough for each kind of frame header.
short_texts = st.text(st.sampled_from('ab "\\\n\x7f\x80ÿé漢😀'), max_size=12)
texts_of_any_kind = st.one_of(
    st.lists(short_texts, min_size=1, max_size=40),
    st.lists(st.text("ab ", max_size=200), min_size=1, max_size=40),
    st.lists(st.just("x" * 8), min_size=1, max_size=300),
    # Of one length, up to which they are kept together and beyond.
    st.integers(1, 34).flatmap(
        lambda size: st.lists(st.text("abc", min_size=size, max_size=size), min_size=1).map(
            lambda texts: texts * 64
        )
    ),
    st.lists(st.sampled_from(["x" * 70_000, "y"]), min_size=1, max_size=3),
)
numbers = st.one_of(st.integers(1, 1200), st.integers(9_900, 10_100), st.integers(1, 2**53))
ids_of_any_kind = st.sampled_from([{"threadId": "a"}, {"threadId": "a", "itemId": 'b"'}, {"itemId": "é"}])


def made(ids: dict[str, str], texts: list[str], at_ms: int, seq: int) -> tuple[Deltas, list[bytes]]:
    """Return deltas, and what `encode_notification` makes of each."""
    expected = [
        encode_notification("item/x", {**ids, "delta": text}, at_ms, number)
        for number, text in enumerate(texts, seq)
    ]
    return Deltas(DeltaHead("item/x", ids), pack(texts, "".join(texts)), at_ms, seq), expected


@given(ids=ids_of_any_kind, texts=texts_of_any_kind, at_ms=st.integers(0, 2**53), seq=numbers)
def test_they_are_the_notifications_that_they_stand_for(
    ids: dict[str, str], texts: list[str], at_ms: int, seq: int
) -> None:
    deltas, expected = made(ids, texts, at_ms, seq)

    assert deltas.payloads() == expected
    for framing in FRAMINGS:
        framed = deltas.framed(framing.header, framing.trailer)
        assert framed == b"".join([framing.frame(payload) for payload in expected])


@pytest.mark.parametrize("seq", [1, 95, 999, 1000, 8_999, 9_500, 109_999, 199_001])
def test_thousands_of_one_length_are_numbered_on_past_each_change_of_digits(seq: int) -> None:
    texts = [f"{number:04}" for number in range(3001)]
    deltas, expected = made({"threadId": "a"}, texts, 5, seq)

    framed = deltas.framed(TEXT_FRAMING.header, TEXT_FRAMING.trailer)

    assert framed == b"".join([TEXT_FRAMING.frame(payload) for payload in expected])


@given(ids=ids_of_any_kind, texts=texts_of_any_kind, seq=numbers)
def test_their_size_is_exact(ids: dict[str, str], texts: list[str], seq: int) -> None:
    deltas, expected = made(ids, texts, 5, seq)

    assert deltas.sizes() == [len(payload) for payload in expected]
    assert deltas.size == sum(deltas.sizes())


@given(texts=texts_of_any_kind, seq=numbers, data=st.data())
def test_a_chunk_of_them_is_what_it_would_be_of_single_events(
    texts: list[str], seq: int, data: st.DataObject
) -> None:
    deltas, expected = made({"threadId": "a"}, texts, 5, seq)
    other = Event(deltas.last_seq + 1, "turn/completed", b"{}", 2, is_terminal=True)
    chunk = Chunk([deltas, other])
    cut = data.draw(st.integers(0, len(texts)), "events that are cut off")

    rest = chunk if cut == 0 else chunk.after(seq + cut - 1)

    assert [event.seq for event in rest.events] == list(range(seq + cut, other.seq + 1))
    assert [event.encode() for event in rest.events] == [*expected, b"{}"][cut:]
    assert rest.size == sum(event.size for event in rest.events)
    for framing in FRAMINGS:
        frames = [framing.frame(payload) for payload in expected[cut:]]
        assert rest.framed(framing, NOTHING) == b"".join([*frames, framing.frame(b"{}")])
        assert rest.framed(framing, frozenset(["item/x"])) == framing.frame(b"{}")


@given(texts=texts_of_any_kind, seq=numbers)
def test_deltas_for_this_process_alone_are_the_same_once_somebody_wants_bytes(
    texts: list[str], seq: int
) -> None:
    _, expected = made({"threadId": "a"}, texts, 5, seq)
    deltas = Deltas(DeltaHead("item/x", {"threadId": "a"}), texts, 5, seq, is_for_wire=False)
    about = deltas.size

    framed = deltas.framed(TEXT_FRAMING.header, TEXT_FRAMING.trailer)

    assert framed == b"".join([TEXT_FRAMING.frame(payload) for payload in expected])
    assert about == deltas.size == sum(deltas.sizes())


def test_a_lone_surrogate_is_refused_before_anything_is_published() -> None:
    with pytest.raises(TypeError, match="surrogates"):
        Deltas(DeltaHead("item/x", {"threadId": "a"}), ["fine", "\ud800"], 5, 1)


def test_framed_bytes_are_kept_as_long_as_somebody_holds_them() -> None:
    chunk = Chunk([made({"threadId": "a"}, ["x"] * 3, 5, 1)[0]])

    frames = chunk.frames()
    first = chunk.framed(TEXT_FRAMING, NOTHING)

    assert chunk.framed(TEXT_FRAMING, NOTHING) is first
    assert chunk.frames() is frames
    del frames
    assert chunk.framed(TEXT_FRAMING, NOTHING) == first
    assert chunk.framed(TEXT_FRAMING, NOTHING) is not first
