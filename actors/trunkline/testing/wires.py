"""Three ways to a server: a WebSocket, the pipes of a child process, a client in this process.

A wire is for one thread. The frames and the handshake are those of `websockets`, and nothing reads a
socket but the test: a client that does not wait for anything is one that does not read.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from trunkline.errors import Disconnected, RpcError
from trunkline.futures import Future
from trunkline.inprocess.deliveries import Closed, Delivery, Prompt
from trunkline.server import AppServer

__all__ = ["PATIENCE_S", "CannotSend", "InProcessWire", "StdioWire", "WebSocketWire", "Wire", "WireClosed"]

PATIENCE_S = 30.0
"""Seconds that no passing test waits: what waits longer fails, and says for what it waited."""

RECEIVE_BYTES = 65_536

_SILENT = logging.Logger("trunkline.testing", logging.CRITICAL)  # noqa: LOG001
"""Of no tree: what a client says, its token for one, is not for the log of the server that is tested."""


class WireClosed(Exception):
    """The connection is closed; everything that came before has been received.

    Examples:
        >>> error = WireClosed(Closed(1001, "server is stopping; reconnect in 5 s and resume"))
        >>> error.closed.code
        1001

    """

    def __init__(self, closed: Closed) -> None:
        super().__init__(*closed)
        self.closed = closed


class CannotSend(Exception):
    """A client in this process has no way to send that: what it sends is typed, and always a message."""


class Wire(Protocol):
    """One client's end of a connection.

    Examples:
        >>> def say_hello(wire: Wire) -> None:
        ...     wire.send('{"method": "hello"}')

    """

    def send(self, text: str) -> None:
        """Send one message."""
        ...

    def receive(self, timeout_s: float) -> list[str]:
        """Return the next messages, at least one; raise `TimeoutError` or `WireClosed`."""
        ...

    def close(self) -> None:
        """Close as a polite client does, and wait for the end. Twice is harmless."""
        ...

    def cut(self) -> None:
        """Be gone without a word. Twice is harmless."""
        ...


class WebSocketWire:
    """A WebSocket, open from the start.

    Args:
        url: where to: `ws://`, `wss://`, or `unix://` and a path.
        headers: what the handshake says besides, such as `{"Authorization": "Bearer …"}`.
        tls: how to know the server, for `wss://`; None trusts whom the machine does.
        receive_buffer_bytes: what the kernel may hold for us; None leaves that to the kernel.

    Raises:
        websockets.exceptions.InvalidStatus: the server refused; its `response` says with which status.

    Examples:
        >>> with running_server() as server:
        ...     wire = WebSocketWire(server.url)
        ...     wire.send('{"id": 1, "method": "thread/list"}')
        ...     wire.receive(PATIENCE_S)
        ...     wire.close()
        ['{"error":{"code":-32600,"message":"Not initialized"},"id":1}']

    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        path = url.removeprefix("unix://") if url.startswith("unix://") else None
        uri = parse_uri("ws://localhost/" if path else url)
        self._protocol = ClientProtocol(uri, max_size=None, logger=_SILENT)
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        if receive_buffer_bytes is not None:  # before the connect: it decides about the window
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(path or (uri.host, uri.port))
            if not path:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                tls = tls or ssl.create_default_context()
                self.socket = tls.wrap_socket(self.socket, server_hostname=uri.host)
            self._shake_hands(headers or {})
        except BaseException:
            self.socket.close()
            raise

    def _shake_hands(self, headers: Mapping[str, str]) -> None:
        request = self._protocol.connect()
        request.headers.update(headers)
        self._protocol.send_request(request)
        self._flush()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            self._read(PATIENCE_S)
            self._protocol.events_received()
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc

    @property
    def address(self) -> str:
        """What the server calls the other end."""
        host, port = self.socket.getsockname()[:2]
        return f"{host}:{port}"

    def send(self, text: str) -> None:
        """Send one message."""
        self._protocol.send_text(text.encode())
        self._flush()

    def ping(self) -> None:
        """Send a ping, which the server answers on its own."""
        self._protocol.send_ping(b"ping")
        self._flush()

    def receive(self, timeout_s: float) -> list[str]:
        """Return the next messages, at least one; raise `TimeoutError` or `WireClosed`."""
        deadline = time.monotonic() + timeout_s
        while not (texts := self._texts()):
            if self._protocol.state is State.CLOSED:
                self.socket.close()
                raise WireClosed(self._closed())
            self._read(max(deadline - time.monotonic(), 0.001))
        return texts

    def close(self) -> None:
        """Close as a polite client does. Twice is harmless."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
                self._flush()
            while self._protocol.state is not State.CLOSED:
                self._read(PATIENCE_S)
                self._protocol.events_received()
        except OSError:
            pass
        finally:
            self.socket.close()

    def cut(self) -> None:
        """Be gone without a word. Twice is harmless."""
        # A reset at once, and not an orderly end behind what is unsent.
        if self.socket.fileno() != -1:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.socket.close()

    def _texts(self) -> list[str]:
        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        return [bytes(frame.data).decode() for frame in frames if frame.opcode is Opcode.TEXT]

    def _read(self, timeout_s: float) -> None:
        self.socket.settimeout(timeout_s)
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        self.socket.settimeout(PATIENCE_S)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            try:
                if data:
                    self.socket.sendall(data)
                else:
                    self.socket.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass  # what the server said before is still to be read
            except OSError:
                if self._protocol.state is not State.CLOSED:
                    raise

    def _closed(self) -> Closed:
        received = self._protocol.close_rcvd
        return Closed(1006, "") if received is None else Closed(int(received.code), received.reason)


class StdioWire:
    """The pipes of a child process. Closed with 1000 when the child ends its output.

    Examples:
        >>> import subprocess
        >>> child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        >>> wire = StdioWire(child)
        >>> wire.send("a message is a line")
        >>> wire.receive(PATIENCE_S)
        ['a message is a line']
        >>> wire.cut()
        >>> child.wait()
        0

    """

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._stdin = child.stdin
        self._stdout = child.stdout
        self._partial = b""

    def send(self, text: str) -> None:
        """Send one message."""
        self._stdin.write(text.encode() + b"\n")
        self._stdin.flush()

    def receive(self, timeout_s: float) -> list[str]:
        """Return the next messages, at least one; raise `TimeoutError` or `WireClosed`."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._wait_readable(deadline - time.monotonic())
            data = os.read(self._stdout.fileno(), RECEIVE_BYTES)
            if not data:
                raise WireClosed(Closed(1000, ""))
            *lines, self._partial = (self._partial + data).split(b"\n")
            if lines:
                return [line.decode() for line in lines]

    def close(self) -> None:
        """Close as a polite client does. Twice is harmless."""
        self._stdin.close()

    def cut(self) -> None:
        """Be gone without a word. Twice is harmless."""
        self._stdin.close()
        self._stdout.close()

    def _wait_readable(self, timeout_s: float) -> None:
        readable, _, _ = select.select([self._stdout], [], [], max(timeout_s, 0.001))
        if not readable:
            raise TimeoutError


class _Arrival(NamedTuple):
    """What the server's threads put into the queue of an in-process client."""

    text: str
    closed: Closed | None = None


class InProcessWire:
    """A client in this process. What it is given there is written down as a socket would have it.

    Examples:
        >>> with AppServer() as server:
        ...     wire = InProcessWire(server)
        ...     wire.send('{"id": 1, "method": "thread/list"}')
        ...     wire.receive(PATIENCE_S)
        ...     wire.close()
        ['{"id": 1, "error": {"code": -32600, "message": "Not initialized"}}']

    """

    def __init__(self, server: AppServer) -> None:
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._prompts: dict[object, Prompt] = {}
        self._connection = server.connect(self._on_delivery)

    def send(self, text: str) -> None:
        """Send one message.

        Raises:
            CannotSend: it is none that a client in this process can send.

        """
        message = json.loads(text)
        if not isinstance(message, dict) or not isinstance(message.get("method", ""), str):
            raise CannotSend("it is no message")
        if "method" not in message:
            self._answer(message)
        elif "id" in message:
            params = message.get("params")
            if not isinstance(params, dict | None):
                raise CannotSend("its params are no object")
            try:
                future = self._connection.request(message["method"], params)
            except TypeError as error:
                raise CannotSend(f"its params cannot be written as JSON: {error}") from error
            future.add_done_callback(lambda future: self._on_answer(message["id"], future))

    def receive(self, timeout_s: float) -> list[str]:
        """Return the next messages, at least one; raise `TimeoutError` or `WireClosed`."""
        try:
            arrival = self._arrivals.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if arrival.closed is not None:
            self._arrivals.put(arrival)
            raise WireClosed(arrival.closed)
        return [arrival.text]

    def close(self) -> None:
        """Close as a polite client does. Twice is harmless."""
        self._connection.close()

    def cut(self) -> None:
        """Be gone without a word. Twice is harmless."""
        self._connection.close()

    def _answer(self, message: dict[str, Any]) -> None:
        if not message.keys() & {"result", "error"}:
            raise CannotSend("it is no message")
        prompt = self._prompts.get(message["id"])
        if prompt is None:
            return  # there is no way to answer what one was not sent
        if isinstance(message.get("result"), dict):
            prompt.answer(message["result"])
        else:
            prompt.refuse()

    def _on_answer(self, request_id: object, future: Future[Any]) -> None:
        answer: dict[str, Any] = {"id": request_id}
        try:
            answer["result"] = future.get()
        except RpcError as error:
            data = {} if error.data is None else {"data": error.data}
            answer["error"] = {"code": error.code, "message": error.message, **data}
        except Disconnected:
            return
        self._put(answer)

    def _on_delivery(self, delivery: Delivery) -> None:
        if isinstance(delivery, Closed):
            self._arrivals.put(_Arrival("", delivery))
            return
        message: dict[str, Any] = {"method": delivery.method, "params": delivery.params}
        if delivery.seq is not None:
            message["seq"] = delivery.seq
        if isinstance(delivery, Prompt):
            message["id"] = delivery.id
            self._prompts[delivery.id] = delivery
        else:
            message["emittedAtMs"] = delivery.emitted_at_ms
        self._put(message)

    def _put(self, message: dict[str, Any]) -> None:
        self._arrivals.put(_Arrival(json.dumps(message)))
