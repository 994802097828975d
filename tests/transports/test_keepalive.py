"""Peers that are gone without a word are found, and those that are merely slow are left alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import SIGCONT, SIGSTOP

import pytest

from children import environment
from conftest import Serve
from transports.links import PATIENCE_S, Listen, Recorders, get
from transports.raw import CLOSE, PING, PONG, TEXT, Frame, RawClient, close_payload, frame
from trunkline import Limits
from trunkline.testing import ManualClock
from trunkline.transports.closes import SILENT
from trunkline.transports.framing import TEXT_FRAMING
from trunkline.transports.keepalive import Keepalive, bytes_taken
from trunkline.transports.loop import IoLoop
from trunkline.transports.websocket import WebSocketLimits
from trunkline.transports.websocket_link import WebSocketLink

SOON = WebSocketLimits(ping_interval_s=0.05, ping_timeout_s=0.05, close_timeout_s=0.05)
CLOSED = Frame(CLOSE, close_payload(SILENT.code, SILENT.reason.encode()))


def test_who_answers_no_ping_is_closed_and_told_to_come_back(listen: Listen, links: Recorders) -> None:
    with RawClient(listen(links, limits=SOON)).upgrade() as client:
        assert client.read_frame() == Frame(PING, b"")
        assert client.read_frame() == CLOSED
        closed = get(links.next().closed)
        assert tuple(closed) == SILENT


@pytest.mark.parametrize("sign", [frame(PONG), frame(TEXT, b"anything"), frame(PING), b"\x81"])
def test_whatever_a_peer_sends_is_a_sign_of_life(listen: Listen, links: Recorders, sign: bytes) -> None:
    patient = WebSocketLimits(ping_interval_s=0.05, ping_timeout_s=PATIENCE_S)
    with RawClient(listen(links, limits=patient)).upgrade() as client:
        link = links.next().link
        assert isinstance(link, WebSocketLink)
        for _ in range(3 if sign != b"\x81" else 1):
            while (came := client.read_frame()).opcode == PONG:
                pass
            assert came == Frame(PING, b"")
            assert link.silence > 0
            client.send(sign)
        deadline = time.monotonic() + PATIENCE_S
        while link.silence and time.monotonic() < deadline:
            time.sleep(0.001)
        assert link.silence == 0
        assert link.is_open


def test_who_sends_is_not_pinged(loop: IoLoop) -> None:
    link = _Link()
    keepalive = Keepalive(loop, [link], interval_s=4.0, timeout_s=8.0)
    for _ in range(100):
        link.is_alive = True
        keepalive._look_at(link)
    assert (link.pings, link.is_given_up) == (0, False)


def test_a_ping_goes_out_once_and_then_the_time_runs(loop: IoLoop) -> None:
    link = _Link()
    keepalive = Keepalive(loop, [link], interval_s=4.0, timeout_s=8.0)  # a look every second
    looks = []
    while not link.is_given_up:
        keepalive._look_at(link)
        looks.append(link.pings)
    assert looks == [0] * 3 + [1] * 9


class _Link:
    """A `Pinged`."""

    def __init__(self) -> None:
        self.silence = 0
        self.is_alive = False
        self.pings = 0
        self.is_given_up = False

    def take_sign_of_life(self) -> bool:
        was_alive, self.is_alive = self.is_alive, False
        return was_alive

    def ping(self) -> None:
        self.pings += 1

    def give_up(self) -> None:
        self.is_given_up = True


def test_each_link_is_looked_at_once_in_a_sweep_however_many_there_are() -> None:
    for count in (1, 5, 16, 17, 1000):
        links = [_Link() for _ in range(count)]
        ticks = _Ticks()
        Keepalive(ticks, links, interval_s=4.0, timeout_s=4.0).watch()  # type: ignore[arg-type]
        for _ in range(16):
            ticks.tick()
        assert {link.silence for link in links} == {1}


def test_no_timer_runs_without_a_link_and_none_if_it_is_switched_off() -> None:
    ticks = _Ticks()
    keepalive = Keepalive(ticks, [], interval_s=4.0, timeout_s=4.0)  # type: ignore[arg-type]
    keepalive.watch()
    ticks.tick()
    assert ticks.due == []
    keepalive.watch()
    assert len(ticks.due) == 1
    ticks = _Ticks()
    Keepalive(ticks, [_Link()], interval_s=0.0, timeout_s=4.0).watch()  # type: ignore[arg-type]
    assert ticks.due == []


class _Ticks:
    """What the keepalive needs of a loop, without time."""

    def __init__(self) -> None:
        self.due: list[object] = []

    def call_later(self, _delay_s: float, callback: object) -> None:
        self.due.append(callback)

    def tick(self) -> None:
        callback = self.due.pop(0)
        assert callable(callback)
        callback()


@contextmanager
def connected(receive_buffer: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(server.getsockname())
        ours, _ = server.accept()
        with ours:
            yield ours, client


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a peer has taken")
def test_a_peer_that_takes_what_waits_for_it_lives_however_slowly_it_reads() -> None:
    with connected(receive_buffer=4096) as (ours, client):
        assert bytes_taken(ours) is None, "nothing waits"
        ours.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65_536)
        before = bytes_taken(ours)
        client.settimeout(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while bytes_taken(ours) == before and time.monotonic() < deadline:
            client.recv(1024)
        assert bytes_taken(ours) != before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a peer has taken")
def test_a_link_whose_peer_reads_gives_a_sign_of_life_and_one_that_stalls_gives_none(
    listen: Listen, links: Recorders
) -> None:
    never = WebSocketLimits(ping_interval_s=0.0)
    with RawClient(listen(links, limits=never), receive_buffer=4096).upgrade() as client:
        link = links.next().link
        assert isinstance(link, WebSocketLink)
        link.send(TEXT_FRAMING.frame(b"x" * 20_000_000))
        deadline = time.monotonic() + PATIENCE_S
        while link.take_sign_of_life() and time.monotonic() < deadline:
            time.sleep(0.01)  # until the operating system takes no more
        assert not link.take_sign_of_life()
        while not link.take_sign_of_life() and time.monotonic() < deadline:
            client.read(1024)
        assert link.is_open


_ATTACH = """
import sys
from trunkline_cli.wire import open_client
with open_client(sys.argv[1], lambda _: None) as client:
    client.request("thread/resume", {"threadId": sys.argv[2]})
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_stands_still_is_cleaned_up_after(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock, limits=Limits(ping_interval_s=10.0, ping_timeout_s=10.0))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    alice.request("thread/unsubscribe", threadId=thread_id)
    child = subprocess.Popen(
        [sys.executable, "-c", _ATTACH, house.url, thread_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            *_, known = house.known
            assert not known.stopped.is_set()
            child.send_signal(SIGSTOP)
            for _ in range(1000):  # a tick each; it takes some 130
                if known.stopped.is_set():
                    break
                clock.advance(1.0)
                alice.request("thread/loaded/list")  # who sends is left alone
            assert known.stopped.is_set()
            assert alice.request("thread/read", threadId=thread_id)["thread"]["subscriberCount"] == 0
        finally:
            child.send_signal(SIGCONT)
            child.kill()
