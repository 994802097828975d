"""What is fed with any bytes: each parser, with what must hold of it whatever it is given.

A target takes bytes and returns, or raises `AssertionError` if something does not hold; anything else that
is raised is a finding too. They run under atheris (`run.py`) and under hypothesis (`test_parsers.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from msgspec.structs import fields

from trunkline.access import Access
from trunkline.errors import ConfigError, RpcError
from trunkline.gateway.methods import read_call as read_gateway_call
from trunkline.protocol.envelope import IncomingRequest, MalformedMessage, encode_error, parse
from trunkline.protocol.methods import METHODS, read_call
from trunkline.transports.auth import (
    AuthError,
    CapabilityToken,
    CapabilityTokens,
    SignedBearer,
    authenticate,
    read_token,
    sign,
)
from trunkline.transports.base import CloseCode, Closed, Link
from trunkline.transports.door import Door
from trunkline.transports.handshake import Site
from trunkline.transports.listen import parse_listen_url
from trunkline.transports.loop import READ, IoLoop
from trunkline.transports.websocket_link import WebSocketLimits, WebSocketLink

__all__ = ["SEEDS", "TARGETS", "WORDS"]

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000

_SIGNED = SignedBearer(SECRET, "us", "me", 30)
_TOKENS = CapabilityTokens((CapabilityToken(hashlib.sha256(b"sesame").digest()),))
_GOOD = sign(SECRET, {"exp": NOW + 60, "iss": "us", "aud": ["me"], "scope": "attach", "sub": "alice"})

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = b"\x01\x02\x03\x04"


def envelope(data: bytes) -> None:
    """Read a message, find its method, check its params; and write the error, if that is what comes of it."""
    try:
        message = parse(data)
    except MalformedMessage as malformed:
        json.loads(encode_error(malformed.id, malformed.error))
        return
    if isinstance(message, IncomingRequest):
        for read in (read_call, read_gateway_call):
            try:
                read(message.method, message.params)
            except RpcError as error:
                text = encode_error(message.id, error)
                assert json.loads(text)["error"]["code"] in (-32600, -32601, -32602), text


def handshake(data: bytes) -> None:
    """Read a request. Nobody gets in whose request is not the one that may."""
    door = Door(authenticator=_TOKENS, needs_loopback_host=True)
    sent, _ = _feed(data, Site(door=door))
    if sent.startswith(b"HTTP/1.1 101 "):
        head = data.partition(b"\r\n\r\n")[0].lower()
        assert b"sesame" in data
        assert b"\norigin:" not in head
        assert head.startswith(b"get ")
    else:
        assert not sent or sent.startswith(b"HTTP/1.1 "), sent


def frames(data: bytes) -> None:
    """Read frames; how they are cut on their way makes no difference for what comes out."""
    cut_at, rest = data[:1], data[1:]
    middle = cut_at[0] if cut_at else 0
    _, whole = _feed(UPGRADE, Site(), [rest])
    for chunks in ([rest[:middle], rest[middle:]], _one_by_one(rest), [bytes([byte]) for byte in rest[:300]]):
        if sum(map(len, chunks)) == len(rest):
            _, cut = _feed(UPGRADE, Site(), chunks)
            assert (cut.texts, cut.closed) == (whole.texts, whole.closed), chunks
    assert whole.closed is None or whole.closed.code != CloseCode.INTERNAL_ERROR


def credentials(data: bytes) -> None:
    """Check a header. Only the two that are right get in."""
    text = data.decode("latin-1")
    for settings in (_SIGNED, _TOKENS):
        for headers in ([text], [f"Bearer {text}"], text.split("\n")):
            with contextlib.suppress(AuthError):
                assert isinstance(authenticate(settings, headers, NOW), Access)
                assert _GOOD in text or "sesame" in text


def claims(data: bytes) -> None:
    """Check a token that is signed as it should be and says anything."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        token = sign(SECRET, said) if isinstance(said, dict) else _sign_anything(data)
    except (TypeError, ValueError, RecursionError):
        return
    try:
        authenticate(_SIGNED, [f"Bearer {token}"], NOW)
    except AuthError:
        return
    assert said["iss"] == "us"
    assert said["aud"] == "me" or "me" in said["aud"]
    assert said["exp"] >= NOW - 30


def token_file(data: bytes) -> None:
    """Read a file with a token."""
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(ConfigError):
        file.write(data)
        file.flush()
        token, scopes = read_token(Path(file.name))
        assert scopes
        assert len(token.split()) == 1


def listen_url(data: bytes) -> None:
    """Read a listen URL."""
    with contextlib.suppress(ConfigError):
        parse_listen_url(data.decode("latin-1"))


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (envelope, handshake, frames, credentials, claims, token_file, listen_url)
}


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a client's frame of up to 125 bytes."""
    body = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))
    return bytes([fin << 7 | opcode, 0x80 | len(payload)]) + _MASK + body


SEEDS: dict[str, list[bytes]] = {
    "envelope": [
        b'{"id":1,"method":"initialize","params":{"clientInfo":{"name":"a","version":"1"}}}',
        b'{"id":"x","method":"thread/start","params":{"cwd":"/","approvalPolicy":{"granular":{}}}}',
        b'{"id":2,"method":"turn/start","params":{"threadId":"0","input":[{"type":"text","text":"hi"}]}}',
        b'{"id":3,"method":"thread/resume","params":{"threadId":"0","afterSeq":1,"epoch":"e"}}',
        b'{"id":4,"result":{"decision":"accept"}}',
        b'{"id":null,"error":{"code":1,"message":"x"}}',
        b'{"method":"initialized"}',
        b"[{}]",
    ],
    "handshake": [
        UPGRADE,
        UPGRADE.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer sesame\r\n\r\n"),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer sesame\r\nOrigin: null\r\n\r\n"),
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
    ],
    "frames": [
        b"\x03" + masked(1, b"hello") + masked(1, b"h\xc3", fin=False) + masked(0, b"\xa9"),
        b"\x05" + masked(9, b"ping") + masked(1, b"\xff"),
        b"\x01" + masked(2, b"binary", fin=False) + masked(10, b"") + masked(0, b"x"),
        b"\x02" + masked(1, b"bye") + masked(8, b"\x03\xe8"),
        b"\x10" + masked(1, b"x", fin=False) + masked(8, b""),
    ],
    "credentials": [_GOOD.encode(), b"sesame", b"Bearer sesame", b"a.b.c", b"Basic x"],
    "claims": [
        b'{"exp":1800000060,"iss":"us","aud":"me","scope":"attach drive","nbf":1}',
        b'{"exp":1800000060,"iss":"us","aud":["me"],"sub":null}',
        b"[]",
    ],
    "token_file": [b"token\n", b"token attach drive", b"open sesame", b" \n"],
    "listen_url": [b"ws://127.0.0.1:0", b"wss://[::1]:443", b"unix:///tmp/x", b"stdio://", b"off"],
}  # fmt: skip


WORDS = sorted(
    {
        *(f'"{method.name}"' for method in METHODS.values()),
        *(f'"{field.encode_name}":' for each in METHODS.values() for field in fields(each.params)),
        *('"id":', '"result":', '"error":', '"method":', '"params":', '{"granular":{}}', '"untrusted"'),
        *("\r\n", "Host: localhost", "Authorization: Bearer ", "sesame", "Origin: ", "Upgrade: websocket"),
        *('"exp":', '"nbf":', '"iss":"us"', '"aud":"me"', '"scope":"attach"', " drive", " admin"),
    }
)
"""What a fuzzer would take long to find by itself."""


def _one_by_one(data: bytes) -> list[bytes]:
    """Cut bytes between frames, as far as they are frames."""
    chunks = []
    while len(data) >= 2:
        length, start = data[1] & 0x7F, 2
        if length > 125:
            start += 2 if length == 126 else 8
            length = int.from_bytes(data[2:start], "big")
        end = start + (4 if data[1] & 0x80 else 0) + length
        chunks.append(data[:end])
        data = data[end:]
    return [*chunks, data] if data else chunks


def _sign_anything(payload: bytes) -> str:
    """Sign what is no object of claims, which the library would not."""
    import jwt

    return jwt.api_jws.PyJWS().encode(payload, SECRET, algorithm="HS256")


class _NoLoop:
    """An I/O loop that never calls."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        return self

    def cancel(self) -> None:
        """Of a timer, which this is as well."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        callback(*args)

    def watch(self, sock: socket.socket, watcher: Any, mask: int) -> None:
        pass

    def unwatch(self, sock: socket.socket) -> None:
        pass


class _Socket:
    """A socket on which is read what was put there, and that takes everything."""

    def __init__(self) -> None:
        self.incoming: list[bytes] = []
        self.sent = b""

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            raise BlockingIOError
        data = self.incoming[0][:size]
        self.incoming[0] = self.incoming[0][size:]
        if not self.incoming[0]:
            del self.incoming[0]
        return data

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def sendmsg(self, buffers: list[bytes]) -> int:
        return self.send(b"".join(buffers))

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Events:
    """What a link told."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.texts: list[str] = []
        self.closed: Closed | None = None

    def on_messages(self, messages: tuple[str, ...]) -> None:
        assert self.closed is None
        self.texts += messages
        self.link.consumed(len(messages))

    def on_drained(self) -> None:
        pass

    def on_input_ended(self) -> None:
        pass

    def on_closed(self, closed: Closed) -> None:
        assert self.closed is None
        self.closed = closed


class _Raise(logging.Handler):
    """Turns what a link would log as an error of ours into one."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None and record.exc_info[1] is not None:
            raise AssertionError(self.format(record)) from record.exc_info[1]


@contextlib.contextmanager
def _raising() -> Iterator[None]:
    log = logging.getLogger("trunkline.transports.websocket_link")
    handler = _Raise()
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)


def _feed(head: bytes, site: Site, chunks: list[bytes] | None = None) -> tuple[bytes, _Events]:
    """Give a link a request and what comes after it; return what it answered, and what it told."""
    with _raising():
        return _feed_link(head, site, chunks)


def _feed_link(head: bytes, site: Site, chunks: list[bytes] | None) -> tuple[bytes, _Events]:
    sock = _Socket()
    made: list[_Events] = []

    def opened(link: Link) -> _Events:
        made.append(_Events(link))
        return made[0]

    link = WebSocketLink(
        cast("socket.socket", sock),
        "fuzz",
        cast("IoLoop", _NoLoop()),
        limits=WebSocketLimits(max_message_bytes=100_000),
        site=site,
        is_full=False,
        opened=opened,
        gone=lambda _: None,
    )
    link.start()
    for chunk in (head, *(chunks or ())):
        sock.incoming = [chunk] if chunk else []
        while sock.incoming:
            link.on_ready(READ)
    events = made[0] if made else _Events(link)
    link.cut()
    return sock.sent, events
