"""Clients that knock at a server's door, with whatever a test has them say."""

from __future__ import annotations

import socket
import ssl
import urllib.parse
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from helpers import Client
from trunkline.transports.auth import sign
from wires import PATIENCE_S, WebSocketWire

SECRET = b"0123456789abcdef0123456789abcdef"


def sign_for(expires: int, **claims: object) -> str:
    """Return a token that ends then."""
    return sign(SECRET, {"exp": expires, **claims})


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: str


def head(path: str = "/", *lines: str, host: str = "localhost", upgrade: bool = True) -> bytes:
    """Return a request with these header lines."""
    upgrades = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    every = [f"GET {path} HTTP/1.1", f"Host: {host}", *(upgrades if upgrade else ()), *lines]
    return "\r\n".join([*every, "", ""]).encode()


def read_answer(sock: socket.socket) -> Answer:
    """Read one response, with its body if it has one."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65_536)
        assert more, f"the server ended the connection after {data!r}"
        data += more
    start, _, body = data.partition(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += sock.recv(65_536)
    return Answer(int(status.split()[1]), headers, body.decode())


class Open:
    """Opens connections, which live as long as the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def socket(self, url: str, cafile: Path | None = None) -> socket.socket:
        """Connect to a listener's URL, with TLS if it says so."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE_S)
            sock.connect(parts.netloc + parts.path)
        else:
            sock = socket.create_connection((parts.hostname, parts.port), PATIENCE_S)
        self._stack.callback(sock.close)
        if parts.scheme == "wss":
            context = ssl.create_default_context(cafile=cafile)
            sock = context.wrap_socket(sock, server_hostname="localhost")
            self._stack.callback(sock.close)
        return sock

    def ask(self, url: str, request: bytes, cafile: Path | None = None) -> Answer:
        """Send a request, return the response, and leave."""
        with self.socket(url, cafile) as sock:
            sock.sendall(request)
            return read_answer(sock)

    def client(self, url: str, name: str, *lines: str, cafile: Path | None = None) -> Client:
        """Return a client whose upgrade has these header lines, after its handshake."""
        headers = dict(line.split(": ", 1) for line in lines)
        tls = ssl.create_default_context(cafile=cafile) if url.startswith("wss://") else None
        client = Client(WebSocketWire(url, headers=headers, tls=tls), name)
        self._stack.callback(client.wire.cut)
        client.initialize()
        return client
