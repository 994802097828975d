from __future__ import annotations

import errno
import os
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any

import orjson
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from cli.fakes import fake_server, handshake
from cli.processes import PATIENCE_S
from trunkline_cli.client import (
    Client,
    ConnectFailed,
    Disconnected,
    Incoming,
    NoAnswer,
    NotAServer,
    Notification,
    Refused,
    Reply,
    RpcFailure,
    ServerGone,
    ServerRequest,
)
from trunkline_cli.wire import _connect_error, _gone, open_client


class Heard:
    """What a client's callback was called with."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Incoming] = queue.SimpleQueue()

    def __call__(self, message: Incoming) -> None:
        self._messages.put(message)

    def next(self) -> Incoming:
        return self._messages.get(timeout=PATIENCE_S)

    def is_empty(self) -> bool:
        return self._messages.empty()


@pytest.fixture
def heard() -> Heard:
    return Heard()


def read(connection: ServerConnection) -> dict[str, Any]:
    message = orjson.loads(connection.recv())
    assert isinstance(message, dict)
    return message


def write(connection: ServerConnection, message: object) -> None:
    connection.send(orjson.dumps(message).decode())


@contextmanager
def connected(talk: Callable[[ServerConnection], None], heard: Heard) -> Iterator[Client]:
    """A client of a server that does `talk` after the handshake."""

    def whole(connection: ServerConnection) -> None:
        handshake(connection)
        talk(connection)

    with fake_server(whole) as url, open_client(url, heard) as client:
        yield client


def until_closed(connection: ServerConnection) -> None:
    """Take whatever comes, until the client leaves."""
    for _ in connection:
        pass


# Talking


def test_the_handshake_says_who_we_are_and_what_we_do_not_want() -> None:
    requests: list[dict[str, Any]] = []

    def talk(connection: ServerConnection) -> None:
        requests.append(read(connection))
        write(connection, {"id": requests[0]["id"], "result": {}})
        requests.append(read(connection))

    with fake_server(talk) as url:
        open_client(url, lambda _: None, opt_out=("thread/started",)).close()
    assert requests[0]["method"] == "initialize"
    assert "jsonrpc" not in requests[0]
    assert requests[0]["params"]["clientInfo"]["name"] == "trunkline"
    assert requests[0]["params"]["capabilities"]["optOutNotificationMethods"] == ["thread/started"]
    assert requests[1] == {"method": "initialized"}


def test_a_request_gets_its_own_result(heard: Heard) -> None:
    def talk(connection: ServerConnection) -> None:
        first, second = read(connection), read(connection)
        write(connection, {"id": second["id"], "result": {"for": second["method"]}})
        write(connection, {"id": first["id"], "result": {"for": first["method"]}})

    results: dict[str, Any] = {}
    with connected(talk, heard) as client:

        def ask(method: str) -> None:
            results[method] = client.request(method)

        threads = [threading.Thread(target=ask, args=(method,)) for method in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert results == {"a": {"for": "a"}, "b": {"for": "b"}}


def test_a_request_that_fails_raises_with_code_and_message(heard: Heard) -> None:
    def talk(connection: ServerConnection) -> None:
        error = {"code": -32600, "message": "thread not\nfound", "data": {"why": 1}}
        write(connection, {"id": read(connection)["id"], "error": error})

    with connected(talk, heard) as client, pytest.raises(RpcFailure) as failure:
        client.request("thread/read")
    assert (failure.value.code, failure.value.data) == (-32600, {"why": 1})
    assert str(failure.value) == "thread not found (-32600)"


def test_everything_else_comes_in_the_order_of_the_wire(heard: Heard) -> None:
    def talk(connection: ServerConnection) -> None:
        write(connection, {"method": "n1", "params": {"a": 1}, "seq": 5, "emittedAtMs": 1})
        write(connection, {"id": read(connection)["id"], "result": {"r": 1}})
        write(connection, {"id": 0, "method": "ask", "params": {"b": 2}, "seq": 6})
        write(connection, {"method": "n2"})
        write(connection, {"id": read(connection)["id"], "error": {"code": -1, "message": "no"}})
        until_closed(connection)

    with connected(talk, heard) as client:
        first = client.send("x")
        second = client.send("y")
        assert heard.next() == Notification("n1", {"a": 1}, seq=5)
        assert heard.next() == Reply(first, {"r": 1})
        assert heard.next() == ServerRequest(0, "ask", {"b": 2}, seq=6)
        assert heard.next() == Notification("n2", {})
        refused = heard.next()
        assert isinstance(refused, Reply)
        assert refused.id == second
        assert str(refused.failure) == "no (-1)"


def test_answers_carry_the_id_as_it_came(heard: Heard) -> None:
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def talk(connection: ServerConnection) -> None:
        write(connection, {"id": "5", "method": "ask", "params": {}})
        write(connection, {"id": 5, "method": "ask", "params": {}})
        answers.put(read(connection))
        answers.put(read(connection))

    with connected(talk, heard) as client:
        for _ in range(2):
            request = heard.next()
            assert isinstance(request, ServerRequest)
            if isinstance(request.id, str):
                client.respond(request.id, {"decision": "accept"})
            else:
                client.refuse(request.id, -32601, "no")
        assert answers.get(timeout=PATIENCE_S) == {"id": "5", "result": {"decision": "accept"}}
        assert answers.get(timeout=PATIENCE_S) == {"id": 5, "error": {"code": -32601, "message": "no"}}


def test_what_is_no_message_is_passed_over(heard: Heard) -> None:
    def talk(connection: ServerConnection) -> None:
        for text in ("", "no json", "[]", "{}", '{"id":null,"method":"x"}', '{"method":5}', '{"id":true}'):
            connection.send(text)
        connection.send(b"binary")
        connection.send('{"method":"x","params":[1]}')
        write(connection, {"method": "fine"})
        until_closed(connection)

    with connected(talk, heard):
        assert heard.next() == Notification("fine", {})


def test_a_callback_that_waits_holds_up_the_reading_and_nothing_else() -> None:
    gate = threading.Event()
    heard = Heard()

    def talk(connection: ServerConnection) -> None:
        write(connection, {"method": "n1"})
        write(connection, {"method": "n2"})
        until_closed(connection)

    def on_message(message: Incoming) -> None:
        heard(message)
        gate.wait(PATIENCE_S)

    def whole(connection: ServerConnection) -> None:
        handshake(connection)
        talk(connection)

    with fake_server(whole) as url, open_client(url, on_message):
        assert heard.next() == Notification("n1", {})
        assert heard.is_empty()
        gate.set()
        assert heard.next() == Notification("n2", {})


# Endings


def test_a_server_that_closes_says_why_and_that_is_the_last_word(heard: Heard) -> None:
    def talk(connection: ServerConnection) -> None:
        write(connection, {"method": "last"})
        connection.close(1013, "too slow;\nreconnect")

    with connected(talk, heard) as client:
        assert heard.next() == Notification("last", {})
        gone = heard.next()
        assert isinstance(gone, Disconnected)
        assert (
            str(gone.error) == "the connection to the server is lost: closed with 1013, too slow; reconnect"
        )
        with pytest.raises(ServerGone, match="1013"):
            client.request("x")
        with pytest.raises(ServerGone, match="1013"):
            client.send("x")


@pytest.mark.parametrize(
    ("code", "is_final", "was_too_big"),
    [
        (1001, False, False),
        (1002, True, False),
        (1007, True, False),
        (1008, True, False),
        (1009, False, True),
        (1011, False, False),
        (1013, False, False),
    ],
)
def test_the_code_says_whether_another_connection_would_end_alike(
    heard: Heard, code: int, *, is_final: bool, was_too_big: bool
) -> None:
    with connected(lambda connection: connection.close(code), heard):
        gone = heard.next()
        assert isinstance(gone, Disconnected)
        assert (gone.error.is_final, gone.error.was_too_big) == (is_final, was_too_big)


@pytest.mark.parametrize(("counts", "said"), [(True, True), (False, False), ("yes", False), (None, False)])
def test_the_handshake_says_whether_the_server_counts_events(*, counts: object, said: bool) -> None:
    def talk(connection: ServerConnection) -> None:
        write(connection, {"id": read(connection)["id"], "result": {"threadSequence": counts}})
        until_closed(connection)

    with fake_server(talk) as url, open_client(url, lambda _: None) as client:
        assert client.counts_events is said


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy_is_one_that_cannot_be_reached_now(status: int) -> None:
    process = refuse_with(HTTPStatus(status), b"")
    with fake_server(until_closed, process_request=process) as url, pytest.raises(ConnectFailed) as error:
        open_client(url, lambda _: None)
    assert f"it answers with HTTP {status} (" in str(error.value)


def test_a_request_that_waits_is_woken_when_the_server_goes(heard: Heard) -> None:
    def talk(connection: ServerConnection) -> None:
        read(connection)
        connection.socket.shutdown(socket.SHUT_RDWR)

    with connected(talk, heard) as client, pytest.raises(ServerGone, match="broke off without a word"):
        client.request("x")


def test_a_server_that_says_nothing_does_not_hold_us_for_ever(heard: Heard) -> None:
    with connected(until_closed, heard) as client:
        with pytest.raises(NoAnswer) as error:
            client.request("thread/read", timeout_s=0)
        assert str(error.value) == "the server did not answer thread/read within 0 s"


def test_our_own_close_is_no_news_and_may_be_repeated(heard: Heard) -> None:
    with connected(until_closed, heard) as client:
        client.close()
        client.close()
    assert heard.is_empty()


# Not getting in


def test_a_port_where_nobody_listens(port: int) -> None:
    url = f"ws://127.0.0.1:{port}"
    with pytest.raises(ConnectFailed) as error:
        open_client(url, lambda _: None)
    assert str(error.value) == f"cannot connect to {url}: connection refused"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (TimeoutError("timed out during opening handshake"), "timed out"),
        (OSError(errno.EHOSTUNREACH, "whatever"), os.strerror(errno.EHOSTUNREACH).lower()),
        (ssl.SSLError(1, "[SSL] wrong version\nnumber"), "[ssl] wrong version number"),
    ],
)
def test_what_keeps_us_from_connecting_is_said_in_one_line(error: OSError, why: str) -> None:
    assert str(_connect_error("ws://host:1", error)) == f"cannot connect to ws://host:1: {why}"


def refuse_with(status: HTTPStatus, body: bytes) -> Callable[[ServerConnection, Request], Response]:
    def process(_: ServerConnection, __: Request) -> Response:
        return Response(status, status.phrase, Headers({"Content-Length": str(len(body))}), body)

    return process


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (HTTPStatus.UNAUTHORIZED, b"missing websocket bearer token\n", "missing websocket bearer token"),
        (HTTPStatus.FORBIDDEN, b"", "forbidden"),
    ],
)
def test_a_server_that_does_not_let_us_in(status: HTTPStatus, body: bytes, why: str) -> None:
    process = refuse_with(status, body)
    with fake_server(until_closed, process_request=process) as url, pytest.raises(Refused) as error:
        open_client(url, lambda _: None)
    assert str(error.value) == f"{url} refused the connection ({int(status)}): {why}"


def test_an_ordinary_web_server() -> None:
    process = refuse_with(HTTPStatus.NOT_FOUND, b"<html>")
    with fake_server(until_closed, process_request=process) as url, pytest.raises(NotAServer) as error:
        open_client(url, lambda _: None)
    assert str(error.value) == f"{url} is not an app-server: it answers with HTTP 404 (not found)"


def test_a_server_of_another_protocol() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                # Behind the request: sent before it, and hung up, it may be lost with the connection.
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(NotAServer) as error:
            open_client(url, lambda _: None)
        thread.join(PATIENCE_S)
    assert str(error.value) == f"{url} is not an app-server: it does not speak HTTP"


def test_a_server_that_hangs_up_before_it_answers() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectFailed) as error:
            open_client(url, lambda _: None)
        thread.join(PATIENCE_S)
    assert str(error.value) == f"cannot connect to {url}: it hung up without a proper answer"


def test_a_websocket_server_that_knows_no_initialize() -> None:
    def talk(connection: ServerConnection) -> None:
        error = {"code": -32601, "message": "unknown method"}
        write(connection, {"id": read(connection)["id"], "error": error})
        until_closed(connection)

    with fake_server(talk) as url, pytest.raises(NotAServer) as error:
        open_client(url, lambda _: None)
    assert str(error.value) == f"{url} is not an app-server: unknown method (-32601)"


def test_a_websocket_server_that_hangs_up_on_us() -> None:
    def talk(connection: ServerConnection) -> None:
        connection.close(1013, "full")

    with fake_server(talk) as url, pytest.raises(ConnectFailed) as error:
        open_client(url, lambda _: None)
    assert str(error.value) == f"cannot connect to {url}: closed with 1013, full"


def test_an_error_for_nothing_that_was_asked_is_told_as_a_warning() -> None:
    heard = Heard()

    def talk(connection: ServerConnection) -> None:
        write(connection, {"id": read(connection)["id"], "result": {}})
        write(connection, {"id": None, "error": {"code": -32600, "message": "not  yours"}})
        until_closed(connection)

    with fake_server(talk) as url, open_client(url, heard):
        assert heard.next() == Notification("warning", {"message": "not yours"})


def test_a_server_that_answers_no_ping_has_gone() -> None:
    error = ConnectionClosedError(None, Close(1011, "keepalive ping timeout"), None)
    assert (_gone(error).why, _gone(error).is_final) == ("it gives no sign of life", False)


def test_a_message_that_we_cannot_take_would_come_again() -> None:
    error = ConnectionClosedError(None, Close(1009, "frame with 99 bytes exceeds limit of 9 bytes"), None)
    assert _gone(error).why == "frame with 99 bytes exceeds limit of 9 bytes"
    assert _gone(error).is_final
