"""A client that waits: makes the shared threads before a run, and asks the server about itself."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from typing import Any, Self

import orjson

from trunkline_cli.load import wire

__all__ = ["BlockingClient", "Refused"]

JsonObject = dict[str, Any]


class Refused(Exception):
    """The server answered with an error, or could not be reached; the text says which."""


class BlockingClient:
    """One initialized connection. A context manager.

    Args:
        target: where the server is.
        headers: HTTP headers for the opening handshake.
        timeout_s: how long to wait for anything.

    Raises:
        Refused: there is no server there, or it does not speak the protocol.

    """

    def __init__(
        self, target: wire.Target, headers: tuple[tuple[str, str], ...] = (), timeout_s: float = 30
    ) -> None:
        self._data = bytearray()
        self._requests = 0
        self._events: list[JsonObject] = []
        try:
            self._socket = _connect(target, timeout_s)
        except OSError as error:
            raise Refused(f"cannot connect to {target.url}: {error.strerror or error}") from error
        try:
            self._open(target, headers)
            self.initialize_result = self.request(
                "initialize",
                {
                    "clientInfo": {"name": "trunkline_load", "title": "trunkline load", "version": "1"},
                    "capabilities": {"experimentalApi": True},
                },
            )
            self._send({"method": "initialized"})
        except (OSError, Refused) as error:
            self._socket.close()
            raise Refused(f"{target.url} is no app-server: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, method: str, params: JsonObject) -> JsonObject:
        """Send a request and return its result; what else comes meanwhile is kept.

        Raises:
            Refused: the answer is an error.

        """
        self._requests += 1
        number = self._requests
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" in message:
                self._events.append(message)
            elif message.get("id") == number:
                if "error" in message:
                    raise Refused(f"{method}: {message['error'].get('message')}")
                result: JsonObject = message["result"]
                return result

    def wait_for(self, fits: Callable[[JsonObject], bool]) -> JsonObject:
        """Return the first notification or prompt, from now on or kept, that fits."""
        while True:
            while self._events:
                message = self._events.pop(0)
                if fits(message):
                    return message
            message = self._receive()
            if "method" in message:
                self._events.append(message)

    def _open(self, target: wire.Target, headers: tuple[tuple[str, str], ...]) -> None:
        key = wire.handshake_key(random.Random())
        self._socket.sendall(wire.handshake_request(target, key, headers))
        while b"\r\n\r\n" not in self._data:
            self._read_more()
        head, _, rest = bytes(self._data).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101") or wire.accept_value(key) not in head:
            raise Refused(head.partition(b"\r\n")[0].decode("latin-1"))
        self._data = bytearray(rest)

    def _send(self, message: JsonObject) -> None:
        self._socket.sendall(wire.client_frame(wire.TEXT, orjson.dumps(message)))

    def _receive(self) -> JsonObject:
        """Return the next message."""
        text = b""
        while True:
            first, payload = self._frame()
            opcode = first & 0x0F
            if opcode == wire.PING:
                self._socket.sendall(wire.client_frame(wire.PONG, payload))
            elif opcode == wire.CLOSE:
                raise Refused(f"the server closed the connection: {payload[2:].decode('utf-8', 'replace')}")
            elif opcode in (0, wire.TEXT):
                text += payload
                if first & 0x80:
                    message: JsonObject = orjson.loads(text)
                    return message

    def _frame(self) -> tuple[int, bytes]:
        while True:
            if len(self._data) >= 2:
                length, start = self._data[1], 2
                if length > 125:
                    start += 2 if length == 126 else 8
                    length = int.from_bytes(self._data[2:start])
                if len(self._data) >= start + length:
                    frame = self._data[0], bytes(self._data[start : start + length])
                    del self._data[: start + length]
                    return frame
            self._read_more()

    def _read_more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise Refused("the server closed the connection")
        self._data += data


def _connect(target: wire.Target, timeout_s: float) -> socket.socket:
    with contextlib.ExitStack() as stack:
        if target.socket_path is not None:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(timeout_s)
            sock.connect(target.socket_path)
        else:
            sock = stack.enter_context(socket.create_connection((target.host, target.port), timeout_s))
        if target.is_secure:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)
        stack.pop_all()
        return sock
