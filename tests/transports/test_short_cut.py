"""However the bytes of messages come, in whole frames or in pieces, they are the same texts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports.links import Recorder
from transports.raw import BINARY, CONT, PING, TEXT, frame, request
from trunkline.transports.base import CloseCode, Link
from trunkline.transports.handshake import Site
from trunkline.transports.loop import IoLoop
from trunkline.transports.short_cut import whole_text
from trunkline.transports.websocket_link import WebSocketLimits, WebSocketLink

TEXTS = st.text(max_size=200) | st.integers(60, 130).map("é".__mul__) | st.just("x" * 65_536)


@contextmanager
def open_link(limits: WebSocketLimits) -> Iterator[tuple[WebSocketLink, Recorder]]:
    """Make a link whose handshake is done, and that reads what the test says."""
    recorders: list[Recorder] = []

    def opened(link: Link) -> Recorder:
        recorders.append(Recorder(link))
        return recorders[-1]

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = IoLoop()
    link = WebSocketLink(
        ours, "link", loop, limits=limits, site=Site(), is_full=False, opened=opened, gone=lambda _: None
    )
    try:
        link._receive_handshake(request())
        yield link, recorders[0]
    finally:
        link.cut()
        theirs.close()
        loop.stop()


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[bytes], list[str]]:
    """Draw frames, and the texts that they are."""
    frames: list[bytes] = []
    texts: list[str] = []
    for _ in range(draw(st.integers(1, 8))):
        match draw(st.sampled_from(["text", "text", "text", "binary", "ping", "fragments"])):
            case "text":
                texts.append(draw(TEXTS))
                frames.append(frame(TEXT, texts[-1].encode()))
            case "binary":
                frames.append(frame(BINARY, draw(st.binary(max_size=200))))
            case "ping":
                frames.append(frame(PING, draw(st.binary(max_size=20))))
            case "fragments":
                parts = draw(st.lists(TEXTS, min_size=2, max_size=3))
                texts.append("".join(parts))
                frames.append(frame(TEXT, parts[0].encode(), fin=False))
                for number, part in enumerate(parts[1:], 2):
                    if draw(st.booleans()):
                        frames.append(frame(PING))
                    frames.append(frame(CONT, part.encode(), fin=number == len(parts)))
    return frames, texts


@settings(max_examples=150, deadline=None)
@given(messages(), st.data())
def test_texts_are_the_same_however_they_are_read(
    drawn: tuple[list[bytes], list[str]], data: st.DataObject
) -> None:
    frames, texts = drawn
    # Reads end where a frame does, or anywhere.
    pieces = frames
    if data.draw(st.booleans()):
        whole = b"".join(frames)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole)), max_size=6)) | {0, len(whole)})
        pieces = [whole[begin:end] for begin, end in pairwise(cuts)]

    with open_link(WebSocketLimits()) as (link, read):
        for piece in pieces:
            link._receive(piece)

        assert [text for batch in read.batches for text in batch] == texts


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), CloseCode.INVALID_DATA),
        (frame(TEXT, b"12345"), CloseCode.TOO_BIG),
        (frame(TEXT, b"1", masked=False), CloseCode.PROTOCOL_ERROR),
        (frame(TEXT, b"1", rsv=1), CloseCode.PROTOCOL_ERROR),
    ],
    ids=["no UTF-8", "too long", "unmasked", "reserved bit"],
)
def test_what_is_wrong_is_left_to_the_parser(data: bytes, code: CloseCode) -> None:
    with open_link(WebSocketLimits(max_message_bytes=4)) as (link, read):
        link._receive(frame(TEXT, b"1234"))
        link._receive(data)

        assert read.batches == [("1234",)]
        assert read.closed.get(timeout=0).code == code


def test_a_text_within_a_fragmented_one_is_against_the_rules() -> None:
    with open_link(WebSocketLimits()) as (link, read):
        link._receive(frame(TEXT, b"1", fin=False))
        link._receive(frame(TEXT, b"2"))

        assert read.batches == []
        assert read.closed.get(timeout=0).code == CloseCode.PROTOCOL_ERROR


def test_what_looks_like_a_text_but_is_the_rest_of_a_frame_is_none() -> None:
    inner = frame(TEXT, b"1")
    with open_link(WebSocketLimits()) as (link, read):
        link._receive(bytes((0x82, 0x80 | len(inner), 0, 0, 0, 0)))
        link._receive(inner)
        link._receive(frame(TEXT, b"2"))

        assert read.batches == [("2",)]


NO_WHOLE_FRAME = [b"", b"\x81", b"\x81\x80\0\0\0", b"\x81\xfe\0", frame(TEXT, b"1") + b"\x81"]


@pytest.mark.parametrize("data", NO_WHOLE_FRAME)
def test_what_is_no_whole_frame_takes_no_short_cut(data: bytes) -> None:
    assert whole_text(data, 1000) is None


def test_an_empty_text_is_one() -> None:
    assert whole_text(frame(TEXT), 0) == ""
