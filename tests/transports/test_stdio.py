"""The stdio transport over real pipes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from children import environment
from transports.links import PATIENCE_S, Recorder, Recorders, echo, get
from trunkline.transports.base import CloseCode, Closed, Link
from trunkline.transports.framing import LINE_FRAMING
from trunkline.transports.lines import UNREADABLE, LineSplitter
from trunkline.transports.stdio import StdioTransport


class Pipes:
    """A transport and the client's ends of its two pipes."""

    def __init__(self, opened: Callable[[Link], Recorder], **options: float) -> None:
        self.server_in, client_out = os.pipe()
        client_in, self.server_out = os.pipe()
        self.input: IO[bytes] = os.fdopen(client_out, "wb", buffering=0)
        self.output: IO[bytes] = os.fdopen(client_in, "rb")
        recorders = Recorders(opened)
        self.transport = StdioTransport(self.server_in, self.server_out, recorders, **options)  # type: ignore[arg-type]
        self.transport.start()
        self.recorder = recorders.next()

    def end(self) -> None:
        self.transport.close(CloseCode.NORMAL)
        self.output.close()
        assert self.transport.join(PATIENCE_S)
        self.input.close()
        os.close(self.server_in)
        os.close(self.server_out)


OpenPipes = Callable[..., Pipes]


@pytest.fixture
def pipes() -> Iterator[OpenPipes]:
    opened = []

    def open_pipes(make: Callable[[Link], Recorder] = Recorder, **options: float) -> Pipes:
        pair = Pipes(make, **options)
        opened.append(pair)
        return pair

    yield open_pipes
    for pair in opened:
        pair.end()


def test_each_line_is_a_message_and_is_answered_with_a_line(pipes: OpenPipes) -> None:
    pair = pipes(echo)
    for text in ("hello", "Zoë 🦆", "x" * 300_000):
        pair.input.write(text.encode() + b"\n")
        assert pair.output.readline() == text.encode() + b"\n"


def test_a_line_may_come_in_pieces_end_in_crlf_and_blank_ones_do_not_count(pipes: OpenPipes) -> None:
    pair = pipes()
    for piece in (b"\n\r\n  \n", b"on", b"e\r", b"\ntwo\r\nthr", "€".encode()[:1], "€".encode()[1:], b"\n"):
        pair.input.write(piece)

    assert [get(pair.recorder.texts) for _ in range(3)] == ["one", "two", "thr€"]


def test_a_line_that_is_not_utf8_is_reported_and_does_not_end_the_input(pipes: OpenPipes) -> None:
    pair = pipes()
    pair.input.write(b'{"id":1,"method":"\xff"}\nnext\n')

    assert [get(pair.recorder.texts) for _ in range(2)] == [UNREADABLE, "next"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(UNREADABLE)


def test_a_line_that_is_too_long_is_reported_once_and_skipped(pipes: OpenPipes) -> None:
    pair = pipes(max_message_bytes=1000)
    pair.input.write(b"x" * 1000 + b"\r\n")
    assert get(pair.recorder.texts) == "x" * 1000
    pair.input.write(b"y" * 1001 + b"\n" + b"z" * 200_000)
    pair.input.write(b"z" * 200_000 + b"\nnext\n")

    assert [get(pair.recorder.texts) for _ in range(3)] == [UNREADABLE, UNREADABLE, "next"]


def test_the_end_of_input_is_told_after_the_last_line_and_does_not_close(pipes: OpenPipes) -> None:
    pair = pipes(echo)
    pair.input.write(b"first\nlast without a newline")
    pair.input.close()

    assert pair.output.readline() == b"first\n"
    assert pair.output.readline() == b"last without a newline\n"
    assert pair.recorder.input_ended.wait(PATIENCE_S)
    assert pair.transport.is_open
    pair.transport.send(b"still here\n")
    assert pair.output.readline() == b"still here\n"
    pair.transport.close(CloseCode.NORMAL, "bye")
    assert get(pair.recorder.closed) == Closed(1000, "bye")
    assert pair.recorder.calls.count("input_ended") == 1
    assert pair.recorder.calls[-1] == "closed"


def test_a_close_sends_what_is_unsent_first(pipes: OpenPipes) -> None:
    pair = pipes()
    line = b"x" * 1_000_000 + b"\n"
    pair.transport.send(line)
    pair.transport.close(CloseCode.GOING_AWAY, "bye")
    assert not pair.transport.is_open
    pair.transport.send(b"too late\n")

    assert pair.output.readline() == line
    assert get(pair.recorder.closed) == Closed(1001, "bye")
    assert pair.transport.join(PATIENCE_S)
    os.set_blocking(pair.output.fileno(), False)
    assert not pair.output.read()


def test_a_client_that_does_not_read_holds_up_nobody_and_gets_everything_when_it_does(
    pipes: OpenPipes,
) -> None:
    pair = pipes(echo)
    line = b"x" * 1_000_000 + b"\n"
    for _ in range(3):
        pair.transport.send(line)
    assert pair.transport.unsent_bytes > 2 * len(line)
    pair.input.write(b"it still reads\n")
    assert get(pair.recorder.texts) == "it still reads"
    assert pair.recorder.drained.empty()

    for _ in range(3):
        assert pair.output.readline() == line
    assert pair.output.readline() == b"it still reads\n"
    assert get(pair.recorder.drained) == 0
    assert pair.transport.unsent_bytes == 0


def test_a_client_that_does_not_read_is_cut_after_our_close(pipes: OpenPipes) -> None:
    pair = pipes(close_timeout_s=0.05)
    pair.transport.send(b"x" * 1_000_000 + b"\n")
    pair.transport.close(CloseCode.TRY_AGAIN_LATER, "too slow")

    assert get(pair.recorder.closed) == Closed(1013, "too slow")
    assert pair.transport.join(PATIENCE_S)


@pytest.mark.parametrize("is_writing", [False, True])
def test_a_lost_output_closes_the_link(pipes: OpenPipes, is_writing: bool) -> None:
    pair = pipes()
    if is_writing:
        pair.transport.send(b"x" * 1_000_000)
    pair.output.close()

    assert get(pair.recorder.closed) == Closed(1006, "output lost")
    assert pair.recorder.open_at_closed == [False]
    assert pair.transport.join(PATIENCE_S)


def test_lines_of_many_threads_stay_whole_and_each_thread_keeps_its_order(pipes: OpenPipes) -> None:
    pair = pipes()
    threads, count = 4, 300

    def send(name: int) -> None:
        for number in range(count):
            pair.transport.send(LINE_FRAMING.frame(b"%d %d " % (name, number) + b"x" * (number * 37 % 5000)))

    senders = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
    for sender in senders:
        sender.start()
    seen: dict[int, list[int]] = {name: [] for name in range(threads)}
    for _ in range(threads * count):
        name, number, filling = pair.output.readline().split(b" ")
        assert filling == b"x" * (int(number) * 37 % 5000) + b"\n"
        seen[int(name)].append(int(number))
    for sender in senders:
        sender.join(PATIENCE_S)

    assert all(numbers == list(range(count)) for numbers in seen.values())


def test_reading_stops_while_too_much_is_not_consumed(pipes: OpenPipes) -> None:
    pair = pipes(lambda link: Recorder(link, consume=False), max_outstanding_messages=2)
    pair.input.write(b"1\n2\n3\n")
    assert [get(pair.recorder.texts) for _ in range(3)] == ["1", "2", "3"]
    os.set_blocking(pair.input.fileno(), False)
    while pair.input.write(b"x" * 4095 + b"\n") == 4096:  # until nobody takes it any more
        pass
    assert pair.recorder.texts.empty()

    pair.transport.consumed(3)
    assert get(pair.recorder.texts) == "x" * 4095


def test_no_wake_up_is_lost_when_another_thread_consumes(pipes: OpenPipes) -> None:
    pair = pipes(lambda link: Recorder(link, consume=False), max_outstanding_messages=1)
    count = 3000

    def consume() -> None:
        for _ in range(count):
            get(pair.recorder.texts)
            pair.transport.consumed(1)

    consumer = threading.Thread(target=consume)
    consumer.start()
    for _ in range(count):
        pair.input.write(b"x\n")
    consumer.join(PATIENCE_S)
    assert not consumer.is_alive()


@pytest.mark.parametrize("round_number", range(20))
def test_the_close_is_told_once_and_last_whoever_noticed_first(pipes: OpenPipes, round_number: int) -> None:
    pair = pipes(echo)
    start = threading.Barrier(3)

    def close() -> None:
        start.wait(PATIENCE_S)
        pair.transport.close(CloseCode.NORMAL)

    def lose_output() -> None:
        start.wait(PATIENCE_S)
        pair.output.close()

    def write() -> None:
        start.wait(PATIENCE_S)
        pair.input.write(b"x\n" * 100)
        pair.input.close()

    threads = [threading.Thread(target=action) for action in (close, lose_output, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert get(pair.recorder.closed).code in (1000, 1006)
    assert pair.transport.join(PATIENCE_S)
    assert pair.recorder.calls.count("closed") == 1
    assert pair.recorder.calls[-1] == "closed"


def test_a_host_may_give_one_socket_for_both_directions() -> None:
    ours, theirs = socket.socketpair()
    recorders = Recorders(echo)
    with ours, theirs:
        theirs.settimeout(PATIENCE_S)
        transport = StdioTransport(ours, ours, recorders)
        transport.start()
        theirs.sendall(b"hello\n")
        assert theirs.recv(100) == b"hello\n"
        theirs.close()
        assert get(recorders.next().closed).code == 1006
        assert transport.join(PATIENCE_S)


def test_the_descriptors_stay_the_callers(pipes: OpenPipes) -> None:
    pair = pipes()
    pair.transport.close(CloseCode.NORMAL)
    assert pair.transport.join(PATIENCE_S)

    os.fstat(pair.server_in)
    os.fstat(pair.server_out)


CHILD = """
import sys, threading
from transports.links import Recorder
from trunkline.transports.base import CloseCode
from trunkline.transports.stdio import StdioTransport

class Echo(Recorder):
    def on_input_ended(self):
        self.link.close(CloseCode.NORMAL)

transport = StdioTransport(sys.stdin, sys.stdout, lambda link: Echo(link, echo=True))
transport.start()
transport.join()
"""


def test_a_child_process_answers_over_its_standard_streams_and_ends_with_its_input() -> None:
    env = environment(*sys.path)
    lines = b"".join(b"%d\n" % number for number in range(1000))
    result = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=lines,
        env=env,
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert result.stdout == lines
    assert result.stderr == b""


def test_a_child_process_reads_from_a_file_to_its_end() -> None:
    env = environment(*sys.path)
    with open(__file__, "rb") as file:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-c", CHILD],
            stdin=file,
            env=env,
            capture_output=True,
            timeout=PATIENCE_S,
            check=True,
        )

    assert b"reads_from_a_file_to_its_end" in result.stdout


def test_lines_come_out_the_same_however_the_bytes_are_cut() -> None:
    data = "one\r\n\ntwo €\n\xff".encode() + b"\xff\nthis one is too long\nend\n"
    whole = LineSplitter(10).feed(data)
    for size in range(1, len(data)):
        splitter = LineSplitter(10)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [text for piece in pieces for text in splitter.feed(piece)] == whole
        assert splitter.finish() == []
    assert LineSplitter(10).feed(b"x" * 12) == [UNREADABLE]  # known before its end, and not kept
    assert whole == ["one", "two €", UNREADABLE, UNREADABLE, "end"]
