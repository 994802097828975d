"""The client's side of RFC 6455, as far as a load test needs it: handshake and frames. No socket.

The server's frames are taken apart in `session`, where it has to be quick; here is what is sent.
"""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass
from urllib.parse import urlsplit

try:
    from websockets.speedups import apply_mask
except ImportError:  # an installation without the C extension
    from websockets.utils import apply_mask

__all__ = [
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "Target",
    "accept_value",
    "client_frame",
    "handshake_key",
    "handshake_request",
    "parse_target",
]

TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# RFC 6455, 5.3 asks for an unpredictable mask to protect proxies from scripts in a browser. There is
# neither here, and a constant saves a call per frame; a server has the same work with any mask.
_MASK = b"\x5c\xa3\x17\xe9"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a `ws://`, `wss://` or `unix://` URL leads."""

    url: str
    host: str
    port: int
    path: str
    """Of the HTTP request."""
    is_secure: bool = False
    """Whether TLS is spoken."""
    socket_path: str | None = None
    """Of the Unix socket, if it is one."""

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them."""
        if self.socket_path is not None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take a URL apart.

    Raises:
        ValueError: it is neither `ws://HOST:PORT` nor `wss://HOST:PORT`, with or without a path, nor
            `unix://PATH`; the text says what was given.

    """
    expected = f"expected ws://HOST:PORT, wss://HOST:PORT or unix://PATH, got {url!r}"
    socket_path = url.removeprefix("unix://")
    if socket_path != url and socket_path:
        return Target(url, "localhost", 0, "/", socket_path=socket_path)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(expected) from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(expected)
    path = parts.path or "/"
    is_secure = parts.scheme == "wss"
    return Target(
        url,
        parts.hostname,
        port or (443 if is_secure else 80),
        f"{path}?{parts.query}" if parts.query else path,
        is_secure,
    )


def handshake_key(rng: random.Random) -> str:
    """Return a new `Sec-WebSocket-Key`."""
    return base64.b64encode(rng.randbytes(16)).decode("ascii")


def accept_value(key: str) -> bytes:
    """Return the `Sec-WebSocket-Accept` that answers `key` (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest())


def handshake_request(target: Target, key: str, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Return the HTTP request that opens a WebSocket."""
    lines = [
        f"GET {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Return one unfragmented, masked frame."""
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65536:
        head = bytes((0x80 | opcode, 0xFE, length >> 8, length & 0xFF))
    else:
        head = bytes((0x80 | opcode, 0xFF)) + length.to_bytes(8)
    return head + _MASK + apply_mask(payload, _MASK)
