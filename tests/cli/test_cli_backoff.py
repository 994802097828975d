from __future__ import annotations

import math
import queue
import random
from contextlib import closing
from itertools import pairwise

from websockets.sync.server import ServerConnection

from cli.fakes import fake_server, handshake
from cli.processes import PATIENCE_S
from trunkline_cli.client import Client, ConnectFailed, Refused
from trunkline_cli.reconnect import Backoff, GaveUp, NotBack, Reconnector, Reopened, Reopening, TryFailed
from trunkline_cli.wire import open_client

URL = "ws://127.0.0.1:1"


def test_delays_grow_twofold_up_to_a_quarter_of_a_minute() -> None:
    class Most(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == b / 2
            return b

    backoff = Backoff(Most())
    delays = [backoff.next_s() for _ in range(1000)]
    assert delays[:3] == [0.25, 0.5, 1.0]
    assert all(later == min(2 * earlier, 15.0) for earlier, later in pairwise(delays))
    backoff.reset()
    assert backoff.next_s() == 0.25


def test_no_two_clients_keep_step() -> None:
    delays = {Backoff().next_s() for _ in range(100)}
    assert len(delays) > 90
    assert all(0.125 <= delay <= 0.25 for delay in delays)


class Lines:
    """What `connect` does, one after the other: an error, or a real connection."""

    def __init__(self, url: str, *results: Exception | None) -> None:
        self._url = url
        self._results = list(results)
        self.heard: queue.SimpleQueue[Reopening] = queue.SimpleQueue()

    def connect(self) -> Client:
        result = self._results.pop(0)
        if result is not None:
            raise result
        return open_client(self._url, lambda _: None)

    def next(self) -> Reopening:
        return self.heard.get(timeout=PATIENCE_S)


def talk(connection: ServerConnection) -> None:
    handshake(connection)
    for _ in connection:
        pass


def test_attempts_go_on_until_one_succeeds() -> None:
    with fake_server(talk) as url:
        lines = Lines(url, None, ConnectFailed(URL, "first"), ConnectFailed(URL, "second"), None)
        with closing(Reconnector(lines.connect, lines.heard.put, math.inf)) as reconnector:
            first = reconnector.client
            reconnector.reopen(True)
            for why in ("first", "second"):
                failed = lines.next()
                assert isinstance(failed, TryFailed)
                assert isinstance(failed.error, ConnectFailed)
                assert failed.error.why == why
            reopened = lines.next()
            assert isinstance(reopened, Reopened)
            assert reopened.connection is reconnector.client is not first


def test_a_server_that_refuses_us_is_not_asked_again() -> None:
    with fake_server(talk) as url:
        refused = Refused(url, 401, "missing token")
        lines = Lines(url, None, refused)
        with closing(Reconnector(lines.connect, lines.heard.put, math.inf)) as reconnector:
            reconnector.reopen(True)
            assert lines.next() == GaveUp(refused)


def test_patience_is_counted_from_when_the_thread_was_open_last() -> None:
    with fake_server(talk) as url:
        lines = Lines(url, None, None, ConnectFailed(URL, "refused"), ConnectFailed(URL, "refused"))
        with closing(Reconnector(lines.connect, lines.heard.put, 0.2)) as reconnector:
            reconnector.reopen(True)
            assert isinstance(lines.next(), Reopened)
            # The server is there and does not open the thread, until our time is up.
            reconnector.reopen(False)
            messages = [lines.next()]
            while isinstance(messages[-1], TryFailed):
                messages.append(lines.next())
            end = messages[-1]
            assert isinstance(end, GaveUp)
            assert isinstance(end.error, NotBack)
            assert str(end.error).startswith("the connection was lost and not to be had again within 0.2 s: ")


def test_close_ends_the_wait() -> None:
    with fake_server(talk) as url:
        lines = Lines(url, None)
        reconnector = Reconnector(lines.connect, lines.heard.put, math.inf)
        reconnector.reopen(True)
        reconnector.close()
        assert lines.heard.empty()
