"""The opening handshake over real sockets: who is let in, who is told what instead."""

from __future__ import annotations

import pytest
from websockets.server import ServerProtocol

from transports.links import Listen, Recorders
from transports.raw import TEXT, RawClient, frame, request
from trunkline.transports.handshake import Handshake, Site
from trunkline.transports.websocket import WebSocketLimits


@pytest.mark.parametrize("path", ["/", "/any/path", "/?query=1", "/readyz/", "/healthzz"])
def test_any_path_but_the_health_paths_upgrades(listen: Listen, links: Recorders, path: str) -> None:
    with RawClient(listen(links)).upgrade(path):
        assert links.next().link.is_open


@pytest.mark.parametrize("path", ["/readyz", "/healthz", "/healthz?verbose"])
@pytest.mark.parametrize("verb", ["GET", "HEAD"])
@pytest.mark.parametrize("upgrade", [False, True])
def test_a_health_path_says_ok_with_an_empty_body(
    listen: Listen, links: Recorders, path: str, verb: str, upgrade: bool
) -> None:
    with RawClient(listen(links)) as client:
        client.send(request(path, verb=verb, upgrade=upgrade))

        assert client.read_status() == 200
        assert client.read_to_eof() == b""
    assert links.empty()


def test_readyz_says_unavailable_while_the_server_is_not_ready_and_healthz_does_not(
    listen: Listen, links: Recorders
) -> None:
    is_ready = [False, True]
    listener = listen(links, ready=lambda: is_ready.pop(0))
    for path, status in (("/readyz", 503), ("/healthz", 200), ("/readyz", 200)):
        with RawClient(listener) as client:
            client.send(request(path, upgrade=False))
            assert client.read_status() == status
            assert client.read_to_eof() == b""


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", ["/", "/readyz", "/healthz"])
@pytest.mark.parametrize("body", ["", "a body"])
def test_another_verb_is_not_allowed(
    listen: Listen, links: Recorders, verb: str, path: str, body: str
) -> None:
    with RawClient(listen(links)) as client:
        extra = f"Content-Length: {len(body)}\r\n" if body else ""
        client.send(request(path, verb=verb, upgrade=False, extra=extra) + body.encode())

        head = client.read_head()
        assert head.startswith("HTTP/1.1 405 ")
        assert "\r\nAllow: GET" in head
        client.read_to_eof()
    assert links.empty()


@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/", "/readyz", "/healthz"])
@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize(
    "origin", ["Origin: https://example.com", "Origin:", "oRiGiN: null", "Origin: a\r\nOrigin: b"]
)
def test_a_request_with_an_origin_is_forbidden(
    listen: Listen, links: Recorders, verb: str, path: str, upgrade: bool, origin: str
) -> None:
    with RawClient(listen(links)) as client:
        client.send(request(path, verb=verb, upgrade=upgrade, extra=f"{origin}\r\n"))

        assert client.read_status() == 403
        client.read_to_eof()
    assert links.empty()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(upgrade=False), 426),
        (request(version="HTTP/1.0"), 505),
        (request(extra="Upgrade: h2c\r\n"), 426),
        (request().replace(b"Version: 13", b"Version: 8"), 400),
        (request().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
        (request().replace(b"Sec-WebSocket-Key", b"X-Key"), 400),
        (request(extra="Transfer-Encoding: chunked\r\n"), 400),
        (request(extra="no colon\r\n"), 400),
        (request(extra="Content-Length: 5\r\n") + b"hello", 400),
        (request(version="HTTP/9.9"), 400),
        (request().replace(b"\r\n", b"\n"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (request("/" + "x" * 9000), 414),
        (request(extra=f"X: {'x' * 9000}\r\n"), 431),
        (request(extra="X: x\r\n" * 200), 431),
        (b"GET /" + b"x" * 100_000, 414),
    ],
)
def test_what_is_no_upgrade_is_refused_with_its_status(
    listen: Listen, links: Recorders, data: bytes, status: int
) -> None:
    with RawClient(listen(links)) as client:
        client.send(data)

        assert client.read_status() == status
        client.read_to_eof()
    assert links.empty()


def test_the_accept_key_is_that_of_the_rfc(listen: Listen, links: Recorders) -> None:
    with RawClient(listen(links)) as client:
        client.send(request())

        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in client.read_head()


@pytest.mark.parametrize("data", [b"", b"GET / HT", request()[:-2]])
def test_who_stops_within_the_handshake_is_cut_after_a_while(
    listen: Listen, links: Recorders, data: bytes
) -> None:
    listener = listen(links, limits=WebSocketLimits(handshake_timeout_s=0.05))
    with RawClient(listener) as client:
        client.send(data)

        assert client.read_status() == 408
        assert client.read_to_eof() == b""
    assert links.empty()


def test_while_the_server_is_not_ready_nobody_is_let_in_and_all_are_told_when_to_come_back(
    listen: Listen, links: Recorders
) -> None:
    with RawClient(listen(links, ready=lambda: False)) as client:
        client.send(request())
        head = client.read_head()
        assert head.startswith("HTTP/1.1 503 ")
        assert "\r\nRetry-After: 5\r\n" in head
        assert client.read_to_eof() == b"the server is stopping"
    assert links.empty()


def test_frames_behind_the_request_are_told_from_it_wherever_the_bytes_are_cut() -> None:
    data = request() + frame(TEXT, b"eager")
    for cut in range(1, len(data)):
        protocol = ServerProtocol()
        handshake = Handshake(protocol, Site())
        rest = handshake.feed(data[:cut])
        if not handshake.is_done:
            assert not rest
            rest = handshake.feed(data[cut:])
        else:
            rest += data[cut:]

        assert handshake.is_done
        assert rest == frame(TEXT, b"eager")
        assert protocol.data_to_send()[0].startswith(b"HTTP/1.1 101 ")


def test_who_stops_within_the_handshake_costs_nobody_anything(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes)
    stopped = [RawClient(listener) for _ in range(50)]
    for client in stopped:
        client.send(b"GET / HTTP/1.1\r\n")
    with RawClient(listener).upgrade() as client:
        client.send(frame(TEXT, b"hello"))
        assert client.read_text() == "hello"
    for client in stopped:
        client.sock.close()


def test_a_client_that_leaves_within_the_handshake_is_forgotten(listen: Listen, links: Recorders) -> None:
    listener = listen(links)
    for end in (lambda client: client.sock.close(), RawClient.reset):
        client = RawClient(listener)
        client.send(b"GET / HTTP/1.1\r\n")
        end(client)
    assert listener.close()
    assert links.empty()


def test_the_handshake_deadline_does_not_hit_an_open_connection(listen: Listen, echoes: Recorders) -> None:
    listener = listen(echoes, limits=WebSocketLimits(handshake_timeout_s=0.05))
    with RawClient(listener).upgrade() as client, RawClient(listener) as stopped:
        assert stopped.read_status() == 408  # the deadline of the later one has passed
        client.send(frame(TEXT, b"still here"))
        assert client.read_text() == "still here"
