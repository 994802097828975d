"""The in-process transport: a client that is a few callbacks."""

from __future__ import annotations

import logging
import queue
import threading

import pytest

from transports.links import PATIENCE_S, Recorder, Recorders, get
from trunkline.transports import inprocess
from trunkline.transports.base import CloseCode, Closed, Link
from trunkline.transports.inprocess import InProcessClient, InProcessLink


class Heard:
    """What a client was told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed: list[Closed] = []
        self.calls: list[str] = []

    def on_message(self, message: bytes) -> None:
        self.calls.append("message")
        self.messages.append(message)

    def on_closed(self, closed: Closed) -> None:
        self.calls.append("closed")
        self.closed.append(closed)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def connect(recorders: Recorders, heard: Heard) -> InProcessClient:
    return InProcessClient(recorders, heard.on_message, heard.on_closed)


def test_a_text_comes_back_as_it_was_sent(echoes: Recorders, heard: Heard) -> None:
    client = connect(echoes, heard)
    for text in ("hello", "Zoë 🦆\u2028\x85", "x" * 100_000):
        assert client.send(text)

    assert heard.messages == [b"hello", "Zoë 🦆\u2028\x85".encode(), b"x" * 100_000]


def test_frames_that_were_put_together_come_one_by_one(links: Recorders, heard: Heard) -> None:
    connect(links, heard)
    link = links.next().link
    link.send(b"".join(link.framing.frame(payload) for payload in (b"1", b"2\r", b"3")))

    assert heard.messages == [b"1", b"2\r", b"3"]
    assert link.unsent_bytes == 0


def test_the_client_closes_and_both_are_told_once(links: Recorders, heard: Heard) -> None:
    client = connect(links, heard)
    recorder = links.next()
    client.close()
    client.close()
    recorder.link.close(CloseCode.GOING_AWAY)

    assert get(recorder.closed) == Closed(1000, "")
    assert recorder.calls == ["closed"]
    assert recorder.open_at_closed == [False]
    assert heard.closed == [Closed(1000, "")]
    assert not client.is_open


def test_the_server_closes_behind_what_it_sent(links: Recorders, heard: Heard) -> None:
    client = connect(links, heard)
    recorder = links.next()
    recorder.link.send(b"last words\n")
    recorder.link.close(CloseCode.TRY_AGAIN_LATER, "too slow")
    recorder.link.send(b"too late\n")
    assert isinstance(recorder.link, InProcessLink)
    recorder.link._outgoing.put(b"from a thread that looked before the close\n")

    assert heard.calls == ["message", "closed"]
    assert heard.closed == [Closed(1013, "too slow")]
    assert get(recorder.closed) == Closed(1013, "too slow")
    assert not client.send("too late")
    assert recorder.calls == ["closed"]


def test_a_client_that_is_too_far_ahead_is_refused_until_the_server_has_caught_up(heard: Heard) -> None:
    slow = Recorders(lambda link: Recorder(link, consume=False))
    client = connect(slow, heard)
    for _ in range(inprocess.MAX_OUTSTANDING_MESSAGES):
        assert client.send("x")
    assert not client.send("x")

    slow.next().link.consumed(1)
    assert client.send("x")
    assert not client.send("x")


def test_a_link_may_be_used_before_opened_returns(heard: Heard) -> None:
    made: queue.SimpleQueue[Recorder] = queue.SimpleQueue()

    def opened(link: Link) -> Recorder:
        link.send(b"welcome\n")
        link.close(CloseCode.NORMAL)
        recorder = Recorder(link)
        made.put(recorder)
        return recorder

    client = InProcessClient(opened, heard.on_message, heard.on_closed)

    assert heard.calls == ["message", "closed"]
    assert get(get(made).closed).code == 1000
    assert not client.is_open


def test_an_answer_sent_from_within_a_callback_does_not_overtake(links: Recorders) -> None:
    heard: list[bytes] = []

    def on_message(message: bytes) -> None:
        heard.append(message)
        if message == b"1":
            links_link.send(b"3\n")

    InProcessClient(links, on_message)
    links_link = links.next().link
    links_link.send(b"1\n2\n")

    assert heard == [b"1", b"2", b"3"]


def test_a_callback_that_raises_is_logged_and_the_next_is_called(
    links: Recorders, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []

    def on_message(message: bytes) -> None:
        if message == b"bad":
            raise ValueError("a bug")
        heard.append(message)

    InProcessClient(links, on_message)
    link = links.next().link
    link.send(b"bad\n")
    link.send(b"good\n")

    assert heard == [b"good"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_callbacks_come_one_at_a_time_and_the_close_last(links: Recorders) -> None:
    for _ in range(20):
        running: list[int] = []
        most = [0]
        calls: list[str] = []

        def on_message(_message: bytes, running: list[int] = running, most: list[int] = most) -> None:
            running.append(1)
            most[0] = max(most[0], len(running))
            calls.append("message")  # noqa: B023
            running.pop()

        client = InProcessClient(links, on_message, lambda _closed, calls=calls: calls.append("closed"))  # type: ignore[misc]
        recorder = links.next()
        start = threading.Barrier(4)

        def send(recorder: Recorder = recorder, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE_S)
            for _ in range(200):
                recorder.link.send(b"x\n")

        def close(client: InProcessClient = client, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE_S)
            client.send("x")
            client.close()

        threads = [threading.Thread(target=send) for _ in range(3)] + [threading.Thread(target=close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)

        assert most[0] <= 1
        assert calls.count("closed") == 1
        assert calls[-1] == "closed"
        assert recorder.calls[-1] == "closed"
