"""The outgoing side of a socket, on a real socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from transports.links import PATIENCE_S
from trunkline.transports.outbox import Outbox


class Ends:
    """An outbox, the other end of its socket, and what the outbox reported."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.sock = ours
        self.theirs.settimeout(PATIENCE_S)
        self.reports: list[str] = []
        self.outbox = Outbox(
            ours,
            on_blocked=lambda: self.reports.append("blocked"),
            on_drained=lambda: self.reports.append(f"drained {self.outbox.unsent}"),
            on_broken=lambda: self.reports.append("broken"),
        )

    def fill(self) -> int:
        """Send until the socket takes no more; return how much that was."""
        count = 0
        while not self.outbox.unsent:
            self.outbox.put(b"f" * 10_000)
            count += 10_000
        return count

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.theirs.recv(count - len(data))
            self.outbox.writable()  # as the loop would say
        return data


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.outbox.close()
    ends.theirs.close()


def test_what_the_socket_takes_is_sent_at_once(ends: Ends) -> None:
    ends.outbox.put(b"now")

    assert ends.theirs.recv(100) == b"now"
    assert ends.outbox.unsent == 0
    assert ends.reports == []


def test_what_the_socket_does_not_take_waits_in_order(ends: Ends) -> None:
    count = ends.fill()
    for number in range(2000):  # more than one system call takes
        ends.outbox.put(b"%06d" % number)
    assert ends.outbox.unsent > 2000 * 6
    assert ends.reports == ["blocked"]

    data = ends.read(count + 2000 * 6)
    assert data == b"f" * count + b"".join(b"%06d" % number for number in range(2000))
    assert ends.reports[-1] == "drained 0"
    assert ends.reports.count("drained 0") == 1


def test_one_big_buffer_goes_out_piece_by_piece(ends: Ends) -> None:
    data = bytes(range(256)) * 20_000
    ends.outbox.put(data)
    assert 0 < ends.outbox.unsent < len(data)

    assert ends.read(len(data)) == data
    assert ends.outbox.unsent == 0


def test_unsent_is_what_the_socket_has_not_taken(ends: Ends) -> None:
    count = ends.fill()
    ends.outbox.put(b"x" * 123)
    before = ends.outbox.unsent

    taken = len(ends.theirs.recv(5000))
    ends.outbox.put(b"")
    assert ends.outbox.unsent == before  # nobody said that the socket is writable
    ends.read(count + 123 - taken)
    assert ends.outbox.unsent == 0


@pytest.mark.parametrize("is_full", [False, True])
def test_nothing_follows_the_last_bytes_but_the_end(ends: Ends, is_full: bool) -> None:
    count = ends.fill() if is_full else 0
    ends.outbox.put(b"before")
    ends.outbox.put_last(b"last")
    ends.outbox.put(b"after")
    ends.outbox.end()
    ends.outbox.put_last(b"after")

    assert ends.read(count + 10)[count:] == b"beforelast"
    assert ends.theirs.recv(100) == b""


@pytest.mark.parametrize("is_full", [False, True])
def test_a_lost_connection_is_reported_once_and_nothing_is_kept(ends: Ends, is_full: bool) -> None:
    if is_full:
        ends.fill()
    ends.theirs.close()
    ends.outbox.writable()
    ends.outbox.put(b"x")
    ends.outbox.put(b"x")
    ends.outbox.put_last(b"x")
    ends.outbox.end()

    assert ends.reports.count("broken") == 1
    assert ends.outbox.unsent == 0


def test_a_close_drops_what_waits_and_twice_is_harmless(ends: Ends) -> None:
    ends.fill()
    ends.outbox.close()
    ends.outbox.close()
    ends.outbox.put(b"x")
    ends.outbox.writable()

    assert ends.sock.fileno() == -1
    assert ends.outbox.unsent == 0
    assert ends.reports == ["blocked"]
