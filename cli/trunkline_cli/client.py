"""A JSON-RPC client for the commands: one connection, and one ordered stream of what comes from it.

Owns the pairing of requests with their answers and the one thread that reads. It knows the envelope of
the wire and the handshake, and nothing of threads, turns or items. How bytes travel is the business
of a `Wire`; the one for WebSocket is in `wire.py`.

Whatever the server sends is handed to one callback, in the order of the wire: `Notification`,
`ServerRequest`, `Reply` (to a request made with `send`), and `Disconnected`, which is the last. Only the
answer to a `request`, which waits, goes past it.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import orjson

__all__ = [
    "Client",
    "ClientError",
    "ConnectFailed",
    "Connection",
    "Disconnected",
    "Incoming",
    "NoAnswer",
    "NotAServer",
    "Notification",
    "Refused",
    "Reply",
    "RequestId",
    "RpcFailure",
    "ServerGone",
    "ServerRequest",
    "Wire",
]

logger = logging.getLogger(__name__)

JsonObject: TypeAlias = dict[str, Any]
RequestId: TypeAlias = int | str

ANSWER_TIMEOUT_S = 30.0
"""How long `request` waits. Nothing a command asks for takes long; a server that says nothing is stuck."""

HANDSHAKE_TIMEOUT_S = 10.0
"""How long the answer to `initialize` may take, as long as `websockets` gives its own handshake."""


class ClientError(Exception):
    """The root of what can go wrong between a command and a server. The text is one line for the user."""


class ConnectFailed(ClientError):
    """Nobody could be reached."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        return f"cannot connect to {self.url}: {self.why}"


class NotAServer(ClientError):
    """Somebody answered, but not as an app-server does."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        return f"{self.url} is not an app-server: {self.why}"


class Refused(ClientError):
    """The server does not let us in."""

    def __init__(self, url: str, status: int, why: str) -> None:
        super().__init__(url, status, why)
        self.url = url
        self.status = status
        """The HTTP status, 401 or 403."""
        self.why = why

    def __str__(self) -> str:
        return f"{self.url} refused the connection ({self.status}): {self.why}"


class ServerGone(ClientError):
    """The connection has ended, and not by us."""

    def __init__(self, why: str, *, is_final: bool = False, was_too_big: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.is_final = is_final
        """Whether another connection would end the same way."""
        self.was_too_big = was_too_big
        """Whether it ended over the size of a message of ours."""

    def __str__(self) -> str:
        return f"the connection to the server is lost: {self.why}"


class NoAnswer(ClientError):
    """The server is there, and says nothing."""

    def __init__(self, method: str, waited_s: float) -> None:
        super().__init__(method, waited_s)
        self.method = method
        self.waited_s = waited_s

    def __str__(self) -> str:
        return f"the server did not answer {self.method} within {self.waited_s:g} s"


class RpcFailure(ClientError):
    """The server answered a request with an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


@dataclass(frozen=True, slots=True)
class Notification:
    """The server tells something."""

    method: str
    params: JsonObject
    seq: int | None = None
    """The event's place in its thread's sequence, where the server counts."""


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """The server asks something: to be answered with `respond` or `refuse`, or left to another client."""

    id: RequestId
    method: str
    params: JsonObject
    seq: int | None = None
    """The prompt's place in its thread's sequence, where the server counts."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request made with `send`."""

    id: RequestId
    result: JsonObject
    """Empty if the request failed."""
    failure: RpcFailure | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection has ended. The last of all messages, and not sent after `close`."""

    error: ServerGone


Incoming: TypeAlias = Notification | ServerRequest | Reply | Disconnected
"""All that `on_message` is called with."""


class Wire(Protocol):
    """What carries texts to a server and back. `send` and `close` may be called from any thread."""

    def send(self, text: str) -> None:
        """Send one message; blocks while the server does not read. Raises `ServerGone`."""
        ...

    def receive(self) -> str:
        """Wait for one message. Raises `ServerGone` at the end."""
        ...

    def close(self) -> None:
        """Close the connection, and wake `receive`. Idempotent."""
        ...


class Connection(Protocol):
    """What a session needs of a `Client`."""

    @property
    def counts_events(self) -> bool:
        """Whether the server numbers the events of threads, and sends those that were missed."""
        ...

    def send(self, method: str, params: JsonObject | None = None) -> RequestId:
        """Send a request, whose answer comes as a message."""
        ...

    def respond(self, request_id: RequestId, result: JsonObject) -> None:
        """Answer a `ServerRequest`."""
        ...

    def refuse(self, request_id: RequestId, code: int, message: str) -> None:
        """Answer a `ServerRequest` with an error."""
        ...


class Client:
    """One connection to an app-server. Every method may be called from any thread, but not from the callback.

    Args:
        wire: the connection. It is the client's from now on.
        on_message: is called on the client's own thread, for one message after the other. It may block:
            then nothing more is read, which is how a slow consumer holds up the server and not its own
            memory. It must not call `request`, whose answer it would stand in the way of.

    """

    def __init__(self, wire: Wire, on_message: Callable[[Incoming], None]) -> None:
        self._wire = wire
        self._on_message = on_message
        self._ids = itertools.count(1)
        # Requests that wait, by id. Whoever takes an entry out is the one to answer it.
        self._waiting: dict[RequestId, queue.SimpleQueue[Reply | ServerGone]] = {}
        # Why the connection ended; None while it lives. Set before the waiting requests are woken.
        self._gone: ServerGone | None = None
        self._closing = False
        self.counts_events = False
        """Whether the server numbers the events of threads, and sends those that were missed; known once
        `initialize` has returned."""
        self._reader = threading.Thread(target=self._read, name="trunkline-client", daemon=True)
        self._reader.start()

    def initialize(self, name: str, version: str, *, opt_out: tuple[str, ...] = ()) -> JsonObject:
        """Do the handshake. Call it once, before anything else.

        Args:
            name: what the server is to call this client.
            version: the client's version.
            opt_out: methods of notifications that are not to be sent.

        Returns:
            What the server says about itself.

        """
        params = {
            "clientInfo": {"name": name, "title": name, "version": version},
            "capabilities": {"experimentalApi": False, "optOutNotificationMethods": list(opt_out)},
        }
        result = self.request("initialize", params, timeout_s=HANDSHAKE_TIMEOUT_S)
        self.counts_events = result.get("threadSequence") is True
        self._send({"method": "initialized"})
        return result

    def request(
        self, method: str, params: JsonObject | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JsonObject:
        """Send a request and wait for its result.

        Raises:
            RpcFailure: the server answered with an error.
            NoAnswer: it did not answer within `timeout_s` seconds.
            ServerGone: it is not there any more.

        """
        request_id = next(self._ids)
        box: queue.SimpleQueue[Reply | ServerGone] = queue.SimpleQueue()
        self._waiting[request_id] = box
        try:
            self._send({"id": request_id, "method": method, "params": params or {}})
            answer = box.get(timeout=timeout_s)
        except queue.Empty:
            raise NoAnswer(method, timeout_s) from None
        finally:
            self._waiting.pop(request_id, None)
        if isinstance(answer, ServerGone):
            raise answer
        if answer.failure is not None:
            raise answer.failure
        return answer.result

    def send(self, method: str, params: JsonObject | None = None) -> RequestId:
        """Send a request whose `Reply` is to come to the callback, in its place among the other messages.

        Returns:
            The id that the reply will have.

        """
        request_id = next(self._ids)
        self._send({"id": request_id, "method": method, "params": params or {}})
        return request_id

    def respond(self, request_id: RequestId, result: JsonObject) -> None:
        """Answer a `ServerRequest`."""
        self._send({"id": request_id, "result": result})

    def refuse(self, request_id: RequestId, code: int, message: str) -> None:
        """Answer a `ServerRequest` with an error."""
        self._send({"id": request_id, "error": {"code": code, "message": message}})

    def close(self) -> None:
        """Close the connection, and wait for the reading thread unless it is the caller. Idempotent."""
        self._closing = True
        self._wire.close()
        if threading.current_thread() is not self._reader:
            self._reader.join(ANSWER_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: JsonObject) -> None:
        # A request has put its box into the table before this look: either it sees that the connection
        # is gone, or the reader, which sets `_gone` first, sees the box.
        if self._gone is not None:
            raise self._gone
        self._wire.send(orjson.dumps(message).decode())

    def _read(self) -> None:
        try:
            while True:
                self._take(self._wire.receive())
        except ServerGone as error:
            self._end(error)

    def _take(self, text: str) -> None:
        message = _parse(text)
        if message is None:
            # Nothing we could answer, and nothing anybody waits for by an id that we could read.
            logger.warning("x a message that is no JSON-RPC was ignored (%d characters)", len(text))
            return
        if isinstance(message, Reply):
            box = self._waiting.pop(message.id, None)
            if box is not None:
                box.put(message)
                return
        self._on_message(message)

    def _end(self, error: ServerGone) -> None:
        self._gone = error
        for request_id in list(self._waiting):
            box = self._waiting.pop(request_id, None)
            if box is not None:
                box.put(error)
        if not self._closing:
            self._on_message(Disconnected(error))


def _parse(text: str) -> Incoming | None:
    """Read one message of the server; None if it is not one."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict):
        return None
    request_id = message.get("id")
    if "method" not in message:
        return (
            _parse_reply(request_id, message) if isinstance(request_id, (int, str)) else _parse_stray(message)
        )
    method = message["method"]
    params = message.get("params") or {}
    if not isinstance(method, str) or not isinstance(params, dict):
        return None
    seq = message.get("seq")
    seq = seq if isinstance(seq, int) else None
    if "id" not in message:
        return Notification(method, params, seq)
    return ServerRequest(request_id, method, params, seq) if isinstance(request_id, (int, str)) else None


def _parse_stray(message: JsonObject) -> Notification | None:
    """Read an error that is for no request of ours, such as for an answer that we may not give."""
    error = message.get("error")
    if not isinstance(error, dict):
        return None
    return Notification("warning", {"message": " ".join(str(error.get("message", "")).split())}, None)


def _parse_reply(request_id: RequestId, message: JsonObject) -> Reply | None:
    if "result" in message:
        result = message["result"]
        return Reply(request_id, result if isinstance(result, dict) else {})
    error = message.get("error")
    if not isinstance(error, dict):
        return None
    text = " ".join(str(error.get("message", "")).split())  # one line, whatever the server made of it
    return Reply(request_id, {}, RpcFailure(error.get("code", 0), text, error.get("data")))
