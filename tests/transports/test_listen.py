from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import ConfigError, ListenUrlError
from trunkline.transports.listen import (
    ListenUrl,
    OffListen,
    StdioListen,
    UnixListen,
    WebSocketListen,
    is_loopback,
    parse_listen_url,
    require_auth,
)


@pytest.mark.parametrize(
    ("url", "listen"),
    [
        ("stdio://", StdioListen()),
        ("off", OffListen()),
        ("ws://127.0.0.1:4500", WebSocketListen("127.0.0.1", 4500)),
        ("ws://127.0.0.1:0", WebSocketListen("127.0.0.1", 0)),
        ("ws://0.0.0.0:65535", WebSocketListen("0.0.0.0", 65_535)),
        ("ws://[::1]:4500", WebSocketListen("::1", 4500)),
        ("ws://[0:0:0:0:0:0:0:1]:80", WebSocketListen("::1", 80)),
        ("wss://127.0.0.1:443", WebSocketListen("127.0.0.1", 443, is_secure=True)),
        ("unix:///run/trunkline.sock", UnixListen(Path("/run/trunkline.sock"))),
        ("unix://here.sock", UnixListen(Path("here.sock"))),
    ],
)
def test_an_accepted_url_is_read(url: str, listen: ListenUrl) -> None:
    assert parse_listen_url(url) == listen


@pytest.mark.parametrize(
    "url",
    ["", "stdio", "stdio:///", "tcp://127.0.0.1:1", "http://127.0.0.1:1", "OFF", " off", "unix://", "ws:"],
)
def test_any_other_url_is_refused_with_what_was_given_and_what_is_accepted(url: str) -> None:
    with pytest.raises(ListenUrlError) as error:
        parse_listen_url(url)

    assert str(error.value) == (
        f"unsupported --listen URL `{url}`; expected "
        "`stdio://`, `ws://IP:PORT`, `wss://IP:PORT`, `unix://PATH`, `off`"
    )


@pytest.mark.parametrize(
    "url",
    [
        "ws://localhost:1",
        "ws://127.0.0.1",
        "ws://127.0.0.1:",
        "ws://127.0.0.1:65536",
        "ws://127.0.0.1:+1",
        "ws://127.0.0.1:-1",
        "ws://127.0.0.1:٤٥٠٠",
        "ws://127.0.0.1:80/",
        "ws://127.0.0.1:80/path",
        "ws://127.0.0.256:80",
        "ws://127.1:80",
        "ws://::1:80",
        "ws://[::1]",
        "ws://[127.0.0.1]:80",
        "ws://[::1%lo]:80",
        "ws://[::1]:80\n",
        "ws://:80",
        "ws://",
    ],
)
def test_a_websocket_url_needs_an_ip_address_and_a_port(url: str) -> None:
    with pytest.raises(ListenUrlError) as error:
        parse_listen_url(url)

    assert str(error.value) == f"invalid websocket --listen URL `{url}`; expected `ws://IP:PORT`"
    assert error.value.url == url


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")])
def test_an_address_is_written_as_in_a_url(host: str, expected: str) -> None:
    assert WebSocketListen(host, 80).address == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1"])
def test_a_loopback_address_is_one(host: str) -> None:
    assert is_loopback(host)
    require_auth(WebSocketListen(host, 80), has_auth=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "8.8.8.8", "::", "fe80::1"])
def test_an_address_that_others_can_reach_is_refused_without_a_credential(host: str) -> None:
    assert not is_loopback(host)
    listen = WebSocketListen(host, 80)

    with pytest.raises(ConfigError) as error:
        require_auth(listen, has_auth=False)

    assert str(error.value) == (
        f"refusing to start non-loopback websocket listener {listen.address} without auth; "
        "configure `--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
    )
    require_auth(listen, has_auth=True)
