"""Messages over WebSocket: what goes in comes out, and who sends or reads badly harms nobody else."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest
from websockets.sync.client import connect

from transports.links import PATIENCE_S, Listen, Recorder, Recorders, get
from transports.raw import BINARY, CONT, PING, PONG, TEXT, Frame, RawClient, fence, frame, request
from trunkline.transports.base import Link
from trunkline.transports.framing import TEXT_FRAMING
from trunkline.transports.loop import IoLoop
from trunkline.transports.protocol import logger as protocol_logger
from trunkline.transports.websocket import WebSocketLimits
from trunkline.transports.websocket_link import WebSocketLink


def unconsumed(link: Link) -> Recorder:
    return Recorder(link, consume=False)


@pytest.mark.parametrize(
    "text", ["hello", "", "Zoë 🦆 日本", "x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536]
)
def test_a_text_comes_back_as_it_was_sent(listen: Listen, echoes: Recorders, text: str) -> None:
    with connect(listen(echoes).url, max_size=None) as client:
        client.send(text)
        assert client.recv(PATIENCE_S) == text


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_framed_payload_is_one_text_frame(length: int) -> None:
    payload = b"p" * length
    assert TEXT_FRAMING.frame(payload) == frame(TEXT, payload, masked=False)


def test_fragments_are_joined_even_with_a_ping_and_a_cut_character_between(
    listen: Listen, links: Recorders
) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        euro = "€".encode()
        client.send(
            frame(TEXT, b"a" + euro[:1], fin=False)
            + frame(PING, b"between")
            + frame(CONT, b"", fin=False)
            + frame(CONT, euro[1:2], fin=False)
        )
        assert client.read_frame() == Frame(PONG, b"between")
        client.send(frame(CONT, euro[2:] + b"z") + frame(TEXT, b"next"))
        client.send(frame(TEXT, b"an", fin=False) + frame(CONT, b"other"))
        recorder = links.next()

        assert [get(recorder.texts) for _ in range(3)] == ["a€z", "next", "another"]


def test_a_client_that_sends_a_byte_at_a_time_is_understood(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes)
    with RawClient(listener) as client:
        for byte in request():
            client.send(bytes([byte]))
        assert client.read_status() == 101
        for byte in frame(TEXT, b"slow") + frame(TEXT, b"x" * 200):
            client.send(bytes([byte]))

        assert client.read_text() == "slow"
        assert client.read_text() == "x" * 200


def test_a_client_that_does_not_wait_for_the_handshake_is_understood(
    listen: Listen, echoes: Recorders
) -> None:
    listener = listen(echoes)
    with RawClient(listener) as client:
        client.send(request() + frame(PING, b"?") + frame(TEXT, b"eager"))

        assert client.read_status() == 101
        assert {client.read_frame(), client.read_frame()} == {Frame(PONG, b"?"), Frame(TEXT, b"eager")}


def test_a_ping_is_answered_with_its_payload_and_a_pong_is_ignored(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes)
    with RawClient(listener).upgrade() as client:
        client.send(frame(PONG, b"unasked") + frame(PING, b"p" * 125) + frame(PING))

        assert client.read_frame() == Frame(PONG, b"p" * 125)
        assert client.read_frame() == Frame(PONG, b"")


def test_binary_messages_are_ignored(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        client.send(frame(BINARY, b"\xff") + frame(BINARY, b"\xff", fin=False) + frame(CONT, b"\xff"))
        client.send(frame(TEXT, b"text"))

        assert get(links.next().texts) == "text"


def test_the_messages_of_one_read_come_in_one_call(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(500)))
        recorder = links.next()

        assert [get(recorder.texts) for _ in range(500)] == [str(number) for number in range(500)]
        assert len(recorder.batches) < 50  # one or two, if nothing cuts the bytes on their way


def test_neither_extensions_nor_subprotocols_are_agreed_on(listen: Listen, echoes: Recorders) -> None:
    with connect(listen(echoes).url, compression="deflate", subprotocols=["chat"]) as client:  # type: ignore[list-item]
        assert client.protocol.extensions == []
        assert client.subprotocol is None


def test_small_messages_leave_at_once(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade():
        link = links.next().link
        assert link._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # type: ignore[attr-defined]


def test_a_link_says_who_it_is(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    with RawClient(listener).upgrade() as client:
        assert links.next().link.name == f"ws 127.0.0.1:{client.sock.getsockname()[1]}"


def test_a_client_that_does_not_read_holds_up_nobody_and_gets_everything_when_it_does(
    listen: Listen, links: Recorders, echoes: Recorders
) -> None:
    stalled_listener, listener = listen(links), listen(echoes)
    with RawClient(stalled_listener, receive_buffer=4096).upgrade() as client:
        recorder = links.next()
        link = recorder.link
        count, size = 2000, 20_000
        for number in range(count):
            link.send(TEXT_FRAMING.frame(b"%06d" % number + b"x" * size))
        assert link.unsent_bytes > count * size // 2
        assert recorder.drained.empty()
        fence(listener, echoes)

        for number in range(count):
            assert client.read_text() == f"{number:06d}" + "x" * size
        assert get(recorder.drained) == 0
        assert link.unsent_bytes == 0


def test_frames_of_many_threads_stay_whole_and_each_thread_keeps_its_order(
    listen: Listen, links: Recorders
) -> None:
    listener = listen(links)
    with RawClient(listener, receive_buffer=65_536).upgrade() as client:
        link = links.next().link
        threads, count = 8, 500
        start = threading.Barrier(threads)

        def send(name: int) -> None:
            start.wait(PATIENCE_S)
            for number in range(count):
                payload = b"%d %d " % (name, number)
                link.send(TEXT_FRAMING.frame(payload + b"x" * (number * 7 % 3000)))

        senders = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
        for sender in senders:
            sender.start()
        seen: dict[int, list[int]] = {name: [] for name in range(threads)}
        for _ in range(threads * count):
            name, number, filling = client.read_text().split(" ")
            assert filling == "x" * (int(number) * 7 % 3000)
            seen[int(name)].append(int(number))
        for sender in senders:
            sender.join(PATIENCE_S)

        assert all(numbers == list(range(count)) for numbers in seen.values())
        assert link.unsent_bytes == 0


def test_reading_stops_while_too_many_messages_are_not_consumed(listen: Listen, echoes: Recorders) -> None:
    slow = Recorders(unconsumed)
    listener = listen(slow, limits=WebSocketLimits(max_outstanding_messages=4))
    other = listen(echoes)
    with RawClient(listener).upgrade() as client:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(5)))
        recorder = slow.next()
        assert [get(recorder.texts) for _ in range(5)] == list("01234")
        client.send(frame(TEXT, b"5"))
        fence(other, echoes)
        assert recorder.texts.empty()

        recorder.link.consumed(2)  # three are left: not below half yet
        fence(other, echoes)
        assert recorder.texts.empty()

        recorder.link.consumed(1)
        assert get(recorder.texts) == "5"


def test_reading_stops_while_too_many_bytes_are_not_consumed(listen: Listen, echoes: Recorders) -> None:
    slow = Recorders(unconsumed)
    listener = listen(slow, limits=WebSocketLimits(max_outstanding_bytes=1000))
    other = listen(echoes)
    with RawClient(listener).upgrade() as client:
        client.send(frame(TEXT, b"x" * 1001))
        recorder = slow.next()
        get(recorder.texts)
        client.send(frame(TEXT, b"next"))
        fence(other, echoes)
        assert recorder.texts.empty()

        recorder.link.consumed(1)
        assert get(recorder.texts) == "next"


def test_reading_stops_while_the_client_does_not_take_what_is_sent(listen: Listen, echoes: Recorders) -> None:
    links = Recorders()
    listener, other = listen(links), listen(echoes)
    with RawClient(listener, receive_buffer=4096).upgrade() as client:
        recorder = links.next()
        size = 8_000_000
        recorder.link.send(TEXT_FRAMING.frame(b"x" * size))
        assert recorder.link.unsent_bytes > WebSocketLimits().max_unsent_bytes_to_read
        client.send(frame(TEXT, b"first"))  # read before the loop looks at what is unsent, or not
        client.send(frame(TEXT, b"second"))
        fence(other, echoes)
        client.send(frame(TEXT, b"third"))
        fence(other, echoes)
        assert "third" not in {text for batch in recorder.batches for text in batch}

        assert len(client.read_text()) == size
        assert [get(recorder.texts) for _ in range(3)] == ["first", "second", "third"]


def test_reading_goes_on_when_another_thread_has_sent_the_last_of_what_was_unsent(
    listen: Listen, echoes: Recorders, loop: IoLoop
) -> None:
    limit = 1000
    links = Recorders()
    listener, other = listen(links, limits=WebSocketLimits(max_unsent_bytes_to_read=limit)), listen(echoes)
    with RawClient(listener).upgrade() as client:
        recorder = links.next()
        link = recorder.link
        assert isinstance(link, WebSocketLink)
        turns = link._outbox._queue
        data, count = TEXT_FRAMING.frame(b"x" * 4000), 0
        while link.unsent_bytes <= limit:  # what is on its way may make room for all that waits
            while link.unsent_bytes <= limit:
                link.send(data)
                count += len(data)
            fence(other, echoes)
        client.send(frame(TEXT, b"are you there"))
        loop.call_soon(turns.hold)  # as a thread that is about to write; the loop has no turn meanwhile
        fence(other, echoes)
        client.read(count - link.unsent_bytes)
        deadline = time.monotonic() + PATIENCE_S
        while not turns._items:  # until the loop has found the socket writable, and the turn taken
            assert time.monotonic() < deadline
            fence(other, echoes)
        turns.release()
        assert not link.unsent_bytes  # few enough for a socket that is writable

        assert get(recorder.texts) == "are you there"


def test_no_wake_up_is_lost_when_another_thread_consumes(listen: Listen) -> None:
    slow = Recorders(unconsumed)
    listener = listen(slow, limits=WebSocketLimits(max_outstanding_messages=1))
    with RawClient(listener).upgrade() as client:
        recorder = slow.next()
        count = 5000

        def consume() -> None:
            for _ in range(count):
                get(recorder.texts)
                recorder.link.consumed(1)

        consumer = threading.Thread(target=consume)
        consumer.start()
        for _ in range(count):
            client.send(frame(TEXT, b"x"))
        consumer.join(PATIENCE_S)
        assert not consumer.is_alive()


def test_a_callback_that_raises_closes_its_own_connection_only(
    listen: Listen, echoes: Recorders, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        def on_messages(self, messages: tuple[str, ...]) -> None:
            raise ValueError("a bug")

    broken = Recorders(Broken)
    listener, other = listen(broken), listen(echoes)
    with RawClient(other).upgrade() as healthy, RawClient(listener).upgrade() as client:
        client.send(frame(TEXT, b"x"))

        assert client.read_frame().code == 1011
        assert get(broken.next().closed).code == 1011
        healthy.send(frame(TEXT, b"still here"))
        assert healthy.read_text() == "still here"
    assert "closed because of an error of ours" in caplog.text


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_payloads_are_not_logged(
    listen: Listen, echoes: Recorders, caplog: pytest.LogCaptureFixture, is_asked_for: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    if is_asked_for:
        caplog.set_level(logging.DEBUG, logger=protocol_logger.name)
    listener = listen(echoes)
    with RawClient(listener).upgrade() as client:
        client.send(frame(TEXT, b"a secret") + frame(PING, b"a secret") + frame(BINARY, b"a secret"))
        client.read_frame()
        client.read_frame()
        client.send(frame(TEXT, b"a secret\xff"))
        client.read_to_eof()
        get(echoes.next().closed)

    assert "OPEN" in caplog.text
    assert ("connection open" in caplog.text) == is_asked_for  # what the parser says of itself
    assert "secret" not in caplog.text
