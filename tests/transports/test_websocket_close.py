"""How WebSocket connections end: every way has its code, is told once, and harms nobody else."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from functools import partial

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from transports.links import PATIENCE_S, Listen, Recorders, get
from transports.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame, RawClient, close_payload, frame
from trunkline.transports.base import CloseCode, Closed, Link
from trunkline.transports.closes import MAX_REASON_BYTES, advised
from trunkline.transports.framing import TEXT_FRAMING
from trunkline.transports.loop import IoLoop
from trunkline.transports.websocket import WebSocketLimits
from trunkline.transports.websocket_link import MOVES, State, WebSocketLink

VIOLATIONS: list[tuple[str, bytes, int]] = [
    ("an unmasked frame", frame(TEXT, b"x", masked=False), 1002),
    ("a reserved bit", frame(TEXT, b"x", rsv=4), 1002),
    ("a reserved opcode", frame(0x3, b"x"), 1002),
    ("a reserved control opcode", frame(0xB), 1002),
    ("a fragmented ping", frame(PING, b"x", fin=False), 1002),
    ("a ping that is too long", frame(PING, b"x" * 126), 1002),
    ("a continuation of nothing", frame(CONT, b"x"), 1002),
    ("a text within a text", frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    ("a binary message within a text", frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"), 1002),
    ("half a close code", frame(CLOSE, b"\x03"), 1002),
    ("a close code that is never sent", frame(CLOSE, close_payload(1005)), 1002),
    ("a close code that does not exist", frame(CLOSE, close_payload(999)), 1002),
    ("a close reason that is not UTF-8", frame(CLOSE, close_payload(1000, b"\xff")), 1007),
    ("a text that is not UTF-8", frame(TEXT, b"ok\xff"), 1007),
    ("a text that ends within a character", frame(TEXT, "€".encode()[:2]), 1007),
    ("a fragment that is not UTF-8", frame(TEXT, b"\xff", fin=False), 1007),
    ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
    (
        "a last fragment that ends within a character",
        frame(TEXT, b"x", fin=False) + frame(CONT, b"\xe2"),
        1007,
    ),
    ("a text that is not UTF-8 and a close", frame(TEXT, b"\xff") + frame(CLOSE, close_payload(1000)), 1007),
    ("a message that is too big", frame(TEXT, b"x" * 1001), 1009),
    ("the head of a message that is too big", frame(TEXT, b"x" * 1001)[:10], 1009),
    ("fragments that are too big", frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 600), 1009),
]


@pytest.mark.parametrize(
    ("data", "code"), [case[1:] for case in VIOLATIONS], ids=[case[0] for case in VIOLATIONS]
)
def test_a_violation_is_answered_with_its_code(
    listen: Listen, links: Recorders, data: bytes, code: int
) -> None:
    listener = listen(links, limits=WebSocketLimits(max_message_bytes=1000))
    with RawClient(listener).upgrade() as client:
        # What the client sends after it must not turn our close frame into a reset.
        client.send(frame(TEXT, b"before") + data + frame(TEXT, b"after") * 1000)
        recorder = links.next()

        close = client.read_frame()
        assert close.code == code
        assert close.payload[2:].decode().endswith(advised(code, ""))
        assert get(recorder.closed) == (code, close.payload[2:].decode())
        assert client.read_to_eof() == b""
        assert recorder.calls == ["messages", "closed"]
        assert recorder.batches == [("before",)]


@pytest.mark.parametrize("code", [1002, 1007, 1009])
def test_the_reason_for_a_violation_says_whether_to_reconnect_however_long_it_is(code: int) -> None:
    reason = advised(code, "€" * 100)
    assert re.search("€; (do not reconnect|reconnect now)", reason)
    assert MAX_REASON_BYTES - 3 < len(reason.encode()) <= MAX_REASON_BYTES


def test_a_client_may_finish_sending_before_it_reads_why_it_was_closed(
    listen: Listen, links: Recorders
) -> None:
    listener = listen(links, limits=WebSocketLimits(max_message_bytes=1000, close_timeout_s=PATIENCE_S))
    with RawClient(listener).upgrade() as client:
        client.send(frame(TEXT, b"x" * 20_000_000))

        assert client.read_frame().code == 1009
        assert client.read_to_eof() == b""


@pytest.mark.parametrize("fragments", [1, 4])
def test_a_message_of_just_the_largest_size_is_taken(
    listen: Listen, links: Recorders, fragments: int
) -> None:
    listener = listen(links, limits=WebSocketLimits(max_message_bytes=1000))
    with RawClient(listener).upgrade() as client:
        part = b"x" * (1000 // fragments)
        client.send(frame(TEXT, part, fin=fragments == 1))
        for number in range(1, fragments):
            client.send(frame(CONT, part, fin=number == fragments - 1))

        assert get(links.next().texts) == "x" * 1000


@pytest.mark.parametrize(
    ("payload", "closed"),
    [
        (close_payload(1000), Closed(1000, "")),
        (close_payload(1001, b"bye"), Closed(1001, "bye")),
        (close_payload(4321, "für immer".encode()), Closed(4321, "für immer")),
        (b"", Closed(1005, "")),
    ],
)
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"x", fin=False)], ids=["alone", "within a message"])
def test_a_close_is_echoed_and_told(
    listen: Listen, links: Recorders, payload: bytes, closed: Closed, before: bytes
) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        client.send(before + frame(CLOSE, payload))
        recorder = links.next()

        assert client.read_frame() == Frame(CLOSE, payload)
        assert client.read_to_eof() == b""
        assert get(recorder.closed) == closed
        assert recorder.open_at_closed == [False]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1013])
def test_a_close_of_ours_reaches_the_client_behind_what_was_sent(
    listen: Listen, links: Recorders, code: int
) -> None:
    with connect(listen(links).url, max_size=None) as client:
        recorder = links.next()
        link = recorder.link
        big = b"x" * 3_000_000
        link.send(TEXT_FRAMING.frame(big))
        link.close(CloseCode(code), "because")
        assert not link.is_open
        link.send(TEXT_FRAMING.frame(b"too late"))

        assert client.recv(PATIENCE_S) == big.decode()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "because")
        assert get(recorder.closed) == Closed(code, "because")


def test_a_reason_that_is_too_long_is_cut_at_a_character(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        links.next().link.close(CloseCode.NORMAL, "x" + "€" * 100)

        assert client.read_frame().payload == close_payload(1000, b"x" + "€".encode() * 40)


@pytest.mark.parametrize("code", [CloseCode.NO_STATUS, CloseCode.ABNORMAL])
def test_a_code_that_is_never_sent_cuts_the_connection(
    listen: Listen, links: Recorders, code: CloseCode
) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        recorder = links.next()
        recorder.link.close(code)

        assert client.read_to_eof() == b""
        assert get(recorder.closed).code == code


def test_what_comes_after_our_close_is_dropped_until_the_client_closes(
    listen: Listen, links: Recorders
) -> None:
    listener = listen(links, limits=WebSocketLimits(max_outstanding_messages=1))
    with RawClient(listener).upgrade() as client:
        recorder = links.next()
        recorder.link.close(CloseCode.GOING_AWAY)
        assert client.read_frame().code == 1001
        client.send((frame(TEXT, b"x" * 1000) + frame(PING)) * 1000)
        assert recorder.closed.empty()
        client.send(frame(CLOSE, close_payload(1001)))

        assert client.read_to_eof() == b""
        assert get(recorder.closed) == Closed(1001, "")
        assert recorder.calls == ["closed"]


def test_a_client_that_does_not_answer_our_close_is_cut(listen: Listen, links: Recorders) -> None:
    listener = listen(links, limits=WebSocketLimits(close_timeout_s=0.05))
    with RawClient(listener).upgrade() as client:
        recorder = links.next()
        recorder.link.close(CloseCode.TRY_AGAIN_LATER, "too slow")

        assert get(recorder.closed) == Closed(1013, "too slow")
        assert client.read_frame().code == 1013
        assert client.read_to_eof() == b""


def test_a_client_that_does_not_read_is_cut_after_our_close(listen: Listen, links: Recorders) -> None:
    listener = listen(links, limits=WebSocketLimits(close_timeout_s=0.05))
    with RawClient(listener, receive_buffer=4096).upgrade():
        recorder = links.next()
        recorder.link.send(TEXT_FRAMING.frame(b"x" * 20_000_000))
        recorder.link.close(CloseCode.TRY_AGAIN_LATER, "too slow")

        assert get(recorder.closed) == Closed(1013, "too slow")
        assert recorder.link.unsent_bytes == 0


def test_a_client_that_never_ends_its_direction_is_cut(listen: Listen, links: Recorders) -> None:
    listener = listen(links, limits=WebSocketLimits(close_timeout_s=0.05))
    with RawClient(listener).upgrade() as client:
        client.send(frame(CLOSE, close_payload(1000)))
        get(links.next().closed)
        client.read_to_eof()

        assert listener.close(timeout_s=PATIENCE_S)


def test_the_messages_before_a_close_in_the_same_read_come_when_the_link_is_closed(
    listen: Listen, links: Recorders
) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        client.send(frame(TEXT, b"last words") + frame(CLOSE, close_payload(1000)))
        recorder = links.next()
        get(recorder.closed)

        assert recorder.calls == ["messages", "closed"]
        assert recorder.open_at_messages == [False]


@pytest.mark.parametrize("end", [lambda client: client.sock.close(), RawClient.reset], ids=["EOF", "reset"])
def test_a_connection_that_breaks_is_told_as_abnormal(
    listen: Listen, links: Recorders, end: Callable[[RawClient], None]
) -> None:
    listener = listen(links)
    client = RawClient(listener).upgrade()
    recorder = links.next()
    end(client)

    assert get(recorder.closed).code == 1006
    assert recorder.open_at_closed == [False]


def test_a_connection_that_breaks_while_much_is_unsent_is_told(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    client = RawClient(listener, receive_buffer=4096).upgrade()
    recorder = links.next()
    recorder.link.send(TEXT_FRAMING.frame(b"x" * 20_000_000))
    assert recorder.link.unsent_bytes
    client.reset()

    assert get(recorder.closed).code == 1006
    assert recorder.link.unsent_bytes == 0
    recorder.link.send(b"nobody is there")
    assert recorder.link.unsent_bytes == 0


def test_after_a_failed_write_only_the_close_frame_is_of_interest(
    listen: Listen, links: Recorders, loop: IoLoop
) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        recorder = links.next()
        assert isinstance(recorder.link, WebSocketLink)
        recorder.link._on_broken()  # as the outbox does on a thread that sends
        assert not recorder.link.is_open
        noticed = threading.Event()
        loop.call_soon(noticed.set)
        assert noticed.wait(PATIENCE_S)
        client.send(frame(TEXT, b"too late") + frame(PING))
        assert client.read_frame() == Frame(PONG, b"")
        client.send(frame(CLOSE, close_payload(4000, b"bye")))

        assert get(recorder.closed) == Closed(4000, "bye")
        assert recorder.calls == ["closed"]


def race(*actions: Callable[[], None]) -> None:
    """Run all at once."""
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], None]) -> None:
        start.wait(PATIENCE_S)
        action()

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("end", ["close", "reset", "violation", "eof"])
def test_the_close_is_told_once_and_last_whoever_noticed_first(
    listen: Listen, links: Recorders, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    listener = listen(links)
    for _ in range(40):
        client = RawClient(listener).upgrade()
        recorder = links.next()
        link = recorder.link

        def end_it(client: RawClient = client) -> None:
            if end == "close":
                client.send(frame(TEXT, b"x") + frame(CLOSE, close_payload(1000)))
            elif end == "violation":
                client.send(frame(TEXT, b"x") + frame(TEXT, b"\xff"))
            elif end == "eof":
                client.sock.close()
            else:
                client.reset()

        def send(link: Link = link) -> None:
            for _ in range(50):
                link.send(TEXT_FRAMING.frame(b"x" * 1000))

        race(end_it, send, partial(link.close, CloseCode.GOING_AWAY), partial(link.close, CloseCode.NORMAL))
        client.sock.close()

        assert get(recorder.closed).code in (1000, 1001, 1006, 1007)
        assert recorder.calls.count("closed") == 1
        assert recorder.calls[-1] == "closed"
    assert listener.close(timeout_s=PATIENCE_S)
    assert links.empty()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_every_state_can_come_to_an_end() -> None:
    assert set(MOVES) == set(State)
    assert all(State.CLOSED in moves for state, moves in MOVES.items() if state is not State.CLOSED)
    assert not MOVES[State.CLOSED]
