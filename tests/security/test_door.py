"""Who gets in over a real socket: origins, hosts, credentials, and what a head may be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.server import ServerProtocol

from security.doors import Open, head, read_answer, sign_for
from trunkline import AppServer, Config, ConfigError
from trunkline.transports.auth import AuthOptions, CapabilityToken, CapabilityTokens
from trunkline.transports.door import Door, parse_origin
from trunkline.transports.entrances import EntranceOptions
from trunkline.transports.handshake import Handshake, Page, Site

Start = Callable[..., AppServer]
Token = Callable[..., str]

PAGE = "https://app.example"


def test_a_page_of_an_allowed_origin_gets_in_and_no_other(start: Start, opened: Open) -> None:
    server = start(entrances=EntranceOptions(allow_origins=("https://App.example:443",)))
    url = server.listeners[0].url
    assert opened.ask(url, head("/", f"Origin: {PAGE}")).status == 101
    for origin in (
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:8443",
        "https://evil.example",
        "null",
        "",
    ):
        assert opened.ask(url, head("/", f"Origin: {origin}")).status == 403, origin
        assert opened.ask(url, head("/readyz", f"Origin: {origin}", upgrade=False)).status == 403


def test_two_origins_are_refused_even_if_both_are_allowed(start: Start, opened: Open) -> None:
    server = start(entrances=EntranceOptions(allow_origins=(PAGE,)))
    answer = opened.ask(server.listeners[0].url, head("/", f"Origin: {PAGE}", f"Origin: {PAGE}"))
    assert answer.status == 403


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example", "https://app.example/", "https://a b", "ws://x"]
)
def test_what_is_no_origin_cannot_be_allowed(origin: str) -> None:
    with pytest.raises(ConfigError, match="invalid --allow-origin"):
        parse_origin(origin)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:4500", "127.0.0.1", "127.0.0.1:80", "127.1.2.3", "[::1]:4500", "[::1]"]
)
def test_the_host_of_a_loopback_listener_is_this_machine(start: Start, opened: Open, host: str) -> None:
    assert opened.ask(start().listeners[0].url, head(host=host)).status == 101


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.1",
        "[::1].evil.example",
        "evil.example:127.0.0.1",
        "[localhost]",
        "",
        "0.0.0.0",
    ],
)
def test_a_host_that_was_made_to_point_here_is_refused(start: Start, opened: Open, host: str) -> None:
    url = start().listeners[0].url
    assert opened.ask(url, head(host=host)).status == 403
    assert opened.ask(url, head("/healthz", host=host, upgrade=False)).status == 403


def test_a_request_has_one_host(start: Start, opened: Open) -> None:
    url = start().listeners[0].url
    assert opened.ask(url, head("/", "Host: localhost")).status == 400
    assert opened.ask(url, b"GET / HTTP/1.1\r\n\r\n").status == 400


def test_a_head_has_a_limit_and_so_has_what_never_ends(start: Start, opened: Open) -> None:
    url = start().listeners[0].url
    lines = [f"X-{index}: {'x' * 4000}" for index in range(10)]
    assert opened.ask(url, head("/", *lines)).status == 431
    sock = opened.socket(url)
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 6000)
    assert read_answer(sock).status == 431


@pytest.mark.parametrize(
    ("start_line", "status"),
    [("POST / HTTP/1.1", 405), ("GET / HTTP/1.0", 505), ("GET / HTTP/2.0", 400), ("PRI * HTTP/2.0", 405)],
)
def test_only_get_and_only_http_1_1(start: Start, opened: Open, start_line: str, status: int) -> None:
    request = head().replace(b"GET / HTTP/1.1", start_line.encode())
    url = start().listeners[0].url
    assert opened.ask(url, request).status == status
    assert opened.ask(url, request.replace(b" / ", b" /healthz ")).status == status


# Credentials


def test_a_credential_is_checked_before_the_upgrade(
    start: Start, opened: Open, signed: EntranceOptions, token: Token
) -> None:
    url = start(entrances=signed).listeners[0].url
    for line, body in (
        (None, "missing websocket bearer token"),
        ("Authorization: Basic x", "invalid authorization header"),
        ("Authorization: Bearer x", "invalid websocket jwt"),
        (f"Authorization: Bearer {sign_for(1)}", "expired websocket jwt"),
    ):
        answer = opened.ask(url, head("/", *([] if line is None else [line])))
        assert (answer.status, answer.body) == (401, body)
        assert answer.headers["www-authenticate"] == "Bearer"
    alice = opened.client(url, "alice", f"Authorization: Bearer {token(sub='alice')}")
    assert alice.request("thread/loaded/list")["data"] == []


def test_a_token_in_the_query_does_not_count(
    start: Start, opened: Open, signed: EntranceOptions, token: Token
) -> None:
    answer = opened.ask(start(entrances=signed).listeners[0].url, head(f"/?token={token()}"))
    assert (answer.status, answer.body) == (401, "missing websocket bearer token")


def test_the_origin_is_looked_at_before_the_credential(
    start: Start, opened: Open, signed: EntranceOptions, token: Token
) -> None:
    lines = (f"Origin: {PAGE}", f"Authorization: Bearer {token()}")
    assert opened.ask(start(entrances=signed).listeners[0].url, head("/", *lines)).status == 403


def test_the_health_pages_need_no_credential(start: Start, opened: Open, signed: EntranceOptions) -> None:
    url = start(entrances=signed).listeners[0].url
    for path in ("/healthz", "/readyz"):
        assert opened.ask(url, head(path, upgrade=False)).status == 200


def test_a_token_is_in_no_log(
    start: Start, opened: Open, signed: EntranceOptions, token: Token, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    url = start(entrances=signed).listeners[0].url
    good, bad = token(sub="alice"), sign_for(1)
    opened.client(url, "alice", f"Authorization: Bearer {good}")
    opened.ask(url, head("/", f"Authorization: Bearer {bad}"))
    assert any(text.startswith("= connection 1: open") and "alice" in text for text in caplog.messages)
    assert good not in caplog.text
    assert bad not in caplog.text


def test_who_is_refused_is_in_the_log_with_the_reason(
    start: Start, opened: Open, signed: EntranceOptions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    url = start(entrances=signed).listeners[0].url
    opened.ask(url, head("/", f"Authorization: Bearer {sign_for(1)}"))
    opened.ask(url, head("/", f"Origin: {PAGE}"))
    opened.ask(url, head("/healthz", upgrade=False))
    refused = [text.split(": ", 1)[1] for text in caplog.messages if "refused" in text]
    assert refused == ["refused with 401 expired websocket jwt", "refused with 403"]


def test_an_address_that_others_reach_is_refused_without_credentials() -> None:
    with pytest.raises(ConfigError, match="without auth; configure `--ws-auth capability-token`"):
        AppServer(Config(listen=("ws://0.0.0.0:0",)))


def test_an_address_that_others_reach_is_taken_with_credentials(
    start: Start,
    opened: Open,
    signed: EntranceOptions,
    token: Token,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = start("ws://0.0.0.0:0", entrances=signed)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"x {server.listeners[0].url} speaks in the clear: tokens and all else can be read on the way"
    ]
    url = server.listeners[0].url.replace("0.0.0.0", "127.0.0.1")
    # Its Host may be any name: what lets one in there is the credential.
    assert opened.ask(url, head(host="server.example")).status == 401
    line = f"Authorization: Bearer {token()}"
    assert opened.ask(url, head("/", line, host="server.example")).status == 101


def test_options_that_make_no_sense_keep_the_server_from_starting(tmp_path: Path) -> None:
    nonsense: list[dict[str, Any]] = [
        {"auth": AuthOptions(token_sha256="0" * 64)},
        {"allow_origins": ("*",)},
        {"tls_cert": tmp_path / "x"},
        {"tls_cert": tmp_path / "x", "tls_key": tmp_path / "y"},
    ]
    for options in nonsense:
        with pytest.raises(ConfigError):
            AppServer(Config(listen=("ws://127.0.0.1:0",), entrances=EntranceOptions(**options)))
    with pytest.raises(ConfigError, match="are required for a `wss://` listener"):
        AppServer(Config(listen=("wss://127.0.0.1:0",)))


# Pages


@pytest.mark.parametrize(
    ("path", "line", "status", "body"),
    [
        ("/metrics", "Authorization: Bearer sesame", 200, "one 1\n"),
        ("/metrics?x=1", "Authorization: Bearer sesame", 200, "one 1\n"),
        ("/metrics", "Authorization: Bearer x", 401, "invalid websocket bearer token"),
        ("/metrics", "Origin: https://a.example", 403, ""),
        ("/other", "Authorization: Bearer sesame", 404, ""),
    ],
)
def test_a_page_is_for_those_who_may_come_in(path: str, line: str, status: int, body: str) -> None:
    token = CapabilityToken(hashlib.sha256(b"sesame").digest())
    site = Site(
        door=Door(authenticator=CapabilityTokens((token,))),
        pages={"/metrics": lambda: Page(b"one 1\n", "text/plain")},
        upgrades=False,
    )
    protocol = ServerProtocol()
    handshake = Handshake(protocol, site)
    handshake.feed(head(path, line, upgrade=False))
    answer = b"".join(protocol.data_to_send()).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert answer.endswith(f"\r\n\r\n{body}")
