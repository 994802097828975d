"""Clients that misbehave on purpose, and what is made of the server's reaction."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any, Self

import pytest

from load.fakes import FakeServer, JsonObject, Peer, run, scenario, worker_thread
from load.steps import CALL, ROOM, Witness, do, group, repeat
from trunkline_cli.load import wire
from trunkline_cli.load.run import Settings, run_load


class Strict(Witness):
    """Fails connections as RFC 6455 says, which is what `websockets` does by itself."""

    def on_no_such_method(self, peer: Peer, request: JsonObject) -> None:
        peer.send({"id": request["id"], "error": {"code": -32601, "message": "no such method"}})

    def on_thread_resume(self, peer: Peer, request: JsonObject) -> None:
        if isinstance(request["params"]["threadId"], str):
            super().on_thread_resume(peer, request)
        else:
            peer.send({"id": request["id"], "error": {"code": -32602, "message": "Invalid params"}})

    def read(self, text: str | bytes) -> Any:
        try:
            message = super().read(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return {"error": -32700 if message is None else -32600}
        return message


@pytest.mark.parametrize(
    ("kind", "closed"),
    [
        ("unmasked", "close 1002"),
        ("reserved-opcode", "close 1002"),
        ("reserved-bits", "close 1002"),
        ("too-long", "close 1009"),
        ("bad-utf8", "close 1007"),
    ],
)
def test_a_malformed_frame_gets_the_connection_closed(kind: str, closed: str) -> None:
    result = run(Strict(), group(do("initialize") + do("malformed", f'kind = "{kind}"') + do("initialize")))

    assert result.passed
    assert not result.errors
    [(found, times)] = result.expected.items()
    assert found.startswith(f"malformed, {kind}: {closed}")
    assert times == 1


@pytest.mark.parametrize(
    ("kind", "answered"),
    [
        ("not-json", "for no request: -32700"),
        ("not-a-message", "for no request: -32600"),
        ("unknown-method", "for no request: -32601"),
        ("bad-params", "for no request: -32602"),
    ],
)
def test_a_malformed_text_is_answered_and_the_connection_goes_on(kind: str, answered: str) -> None:
    fake = Strict()

    result = run(fake, group(do("initialize") + do("malformed", f'kind = "{kind}"')))

    assert result.passed
    assert not result.errors
    assert [found.startswith(answered) for found in result.expected] == [True]
    assert fake.methods()[-1] == "thread/loaded/list"
    assert result.connections == 1


class Deaf:
    """Answers `initialize` and hears nothing after it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._server.getsockname()[1]}"
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                self._held.append(self._server.accept()[0])
                self._greet(self._held[-1])

    def _greet(self, client: socket.socket) -> None:
        head = client.recv(4096)
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
        accept = wire.accept_value(key).decode()
        client.sendall(f"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        data = client.recv(4096)  # one masked frame, of medium size
        mask, payload = data[4:8], data[8:]
        text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload[: data[2] << 8 | data[3]]))
        client.sendall(_frame(json.dumps({"id": json.loads(text)["id"], "result": {}})))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for client in self._held:
            client.close()


def _frame(text: str) -> bytes:
    return bytes((0x81, len(text))) + text.encode()


def test_a_server_that_puts_up_with_a_malformed_frame_is_an_error() -> None:
    steps = do("initialize") + do("malformed", 'kind = "unmasked"')
    with Deaf() as deaf:
        result = run_load(scenario(group(steps), timeout="1s"), Settings(deaf.url), worker_thread)

    assert result.errors == {"malformed, unmasked: the server did not close the connection": 1}


def test_an_error_that_nobody_provoked_is_an_error() -> None:
    class Grumpy(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            peer.send({"id": None, "error": {"code": -32700, "message": "Parse error"}})
            super().on_thread_loaded_list(peer, request)

    steps = do("initialize") + CALL

    assert run(Grumpy(), group(steps)).errors == {"for no request: -32700 Parse error": 1}


def test_half_a_handshake_is_held_and_left_without_an_error() -> None:
    result = run(FakeServer(), group(do("half-handshake", 'for = "20ms"') + do("initialize")))

    assert result.connections == 1
    assert not result.errors


def test_who_stops_reading_receives_nothing_and_is_not_said_to_miss_anything() -> None:
    reader = do("initialize") + do("resume", 'threads = "room"') + do("begin")
    text = ROOM + group(reader + do("stop-reading") + do("stay") + do("drop"))
    text += group(reader + repeat("times = 2", do("turn", 'text = "say 50"'))).replace('"g"', '"driver"')

    result = run(FakeServer(), text)

    assert result.passed
    assert result.measured.deliveries == 2 * 54


def test_who_reads_slowly_receives_it_all_in_the_end() -> None:
    reader = do("initialize") + do("resume", 'threads = "room"') + do("begin")
    text = ROOM + group(
        reader
        + do("read-slowly", "bytes_per_second = 2000")
        + do("pause", 'for = "100ms"')
        + do("read-again")
        + do("stay")
    )
    text += group(reader + do("turn", 'text = "say 50"')).replace('"g"', '"driver"')

    result = run(FakeServer(), text)

    assert result.passed
    received = sum(interval.deliveries for interval in result.phases.values())
    assert received == 2 * 54
    assert "delivery (slow readers)" in result.latencies()


def test_pings_are_answered_unless_they_are_to_be_ignored() -> None:
    class Pinging(FakeServer):
        def __init__(self) -> None:
            super().__init__()
            self.pongs: list[bool] = []

        def on_x(self, peer: Peer, request: JsonObject) -> None:
            pong = peer.ws.ping()
            peer.reply(request, {})
            # Its answer to this one comes behind the pong.
            self.waiting = pong

        def on_y(self, peer: Peer, request: JsonObject) -> None:
            self.pongs.append(self.waiting.is_set())
            peer.reply(request, {})

    fake = Pinging()
    round_ = do("call", 'method = "x"') + do("call", 'method = "y"')

    run(fake, group(do("initialize") + round_ + do("ignore-pings") + round_))

    assert fake.pongs == [True, False]


def test_a_storm_comes_all_at_once_and_again() -> None:
    fake = Witness()
    storm = do("connect", "at_once = true") + do("initialize") + do("drop") + do("barrier", 'name = "gone"')

    result = run(fake, group(do("repeat", f"times = 3, steps = [{storm}]"), "connections = 10"))

    assert result.connections == 30
    assert not result.errors
