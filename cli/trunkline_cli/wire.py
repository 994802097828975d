"""The wire to a server over WebSocket: how a command reaches it, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import http
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
    WebSocketException,
)
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect, unix_connect

from trunkline.protocol.errors import ErrorCode
from trunkline.version import VERSION
from trunkline_cli.client import (
    Client,
    ClientError,
    ConnectFailed,
    Incoming,
    NoAnswer,
    NotAServer,
    Refused,
    RpcFailure,
    ServerGone,
)
from trunkline_cli.options import is_local

__all__ = ["WebSocketWire", "open_client"]

MAX_MESSAGE_BYTES = 64 * 2**20
"""The largest message we take, which is the largest that servers of this protocol take."""

CLOSE_TIMEOUT_S = 2.0
"""How long a server may take to answer our close frame. A user who leaves does not want to wait for it."""

UNIX_PREFIX = "unix://"

_FINAL_CODES = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_DATA,
        CloseCode.POLICY_VIOLATION,
        CloseCode.MANDATORY_EXTENSION,
    }
)
"""Close codes that say that one of the two is at fault, or not wanted: another connection would end alike."""

_BUSY_STATUSES = frozenset(
    {
        http.HTTPStatus.TOO_MANY_REQUESTS,
        http.HTTPStatus.BAD_GATEWAY,
        http.HTTPStatus.SERVICE_UNAVAILABLE,
        http.HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""What servers, and proxies before them, answer for a while."""

# What goes wrong is raised, and said in one line; the library's own log would say it again, at length.
_silent = logging.getLogger(f"{__name__}.websockets")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class WebSocketWire:
    """A `Wire` over a WebSocket connection."""

    def __init__(self, url: str, bearer: str | None = None) -> None:
        """Connect to `url`, with a credential. Raises `ConnectFailed`, `NotAServer` or `Refused`."""
        self._stack = contextlib.ExitStack()
        try:
            self._connection: ClientConnection = self._stack.enter_context(_connect(url, bearer))
        # AssertionError: what `websockets` makes of a server that speaks, and hangs up, before it is asked.
        except (OSError, WebSocketException, AssertionError) as error:
            raise _connect_error(url, error) from error

    def send(self, text: str) -> None:
        """Send one message."""
        try:
            self._connection.send(text)
        except ConnectionClosed as error:
            raise _gone(error) from error

    def receive(self) -> str:
        """Wait for one message; a binary one, which is none of the protocol's, is passed over."""
        try:
            while True:
                message = self._connection.recv()
                if isinstance(message, str):
                    return message
        except ConnectionClosed as error:
            raise _gone(error) from error

    def close(self) -> None:
        """Close the connection, and wait a short while for the server's part of it."""
        self._stack.close()


def open_client(
    url: str,
    on_message: Callable[[Incoming], None],
    *,
    opt_out: tuple[str, ...] = (),
    bearer: str | None = None,
) -> Client:
    """Connect to the server at `url` and do the handshake.

    Args:
        url: where it listens.
        on_message: see `Client`.
        opt_out: methods of notifications that are not to be sent.
        bearer: a token, if the server asks for one.

    Raises:
        ConnectFailed: nobody is there.
        NotAServer: somebody is, but no app-server.
        Refused: the server does not let us in.

    """
    client = Client(WebSocketWire(url, bearer), on_message)
    try:
        client.initialize("trunkline", VERSION, opt_out=opt_out)
    except ClientError as error:
        client.close()
        raise _handshake_error(url, error) from error
    return client


def _connect(url: str, bearer: str | None) -> ClientConnection:
    settings: dict[str, Any] = {
        "additional_headers": {} if bearer is None else {"Authorization": f"Bearer {bearer}"},
        "compression": None,
        "max_size": MAX_MESSAGE_BYTES,
        "close_timeout": CLOSE_TIMEOUT_S,
        "logger": _silent,
    }
    connection: ClientConnection
    if url.startswith(UNIX_PREFIX):
        connection = unix_connect(url.removeprefix(UNIX_PREFIX), uri="ws://localhost/", **settings)
    else:
        # A proxy is for the outside; on this machine nobody means it, however the environment is set.
        connection = connect(url, proxy=None if is_local(url) else True, **settings)
    return connection


def _handshake_error(url: str, error: ClientError) -> ClientError:
    match error:
        case NoAnswer() | RpcFailure(code=ErrorCode.OVERLOADED):
            return ConnectFailed(url, str(error))
        case RpcFailure():
            return NotAServer(url, str(error))
        case ServerGone():
            return ConnectFailed(url, error.why)
        case _:
            return error


def _connect_error(url: str, error: Exception) -> ClientError:
    match error:
        case InvalidStatus():
            return _status_error(url, error)
        case InvalidMessage(__cause__=EOFError()) | ConnectionClosed():
            return ConnectFailed(url, "it hung up without a proper answer")
        case InvalidMessage() | AssertionError():
            return NotAServer(url, "it does not speak HTTP")
        case WebSocketException():
            return NotAServer(url, _one_line(str(error)))
        case TimeoutError() if error.errno is None:
            return ConnectFailed(url, "timed out")
        case socket.gaierror() | ssl.SSLError():  # with numbers of their own, and a text
            return ConnectFailed(url, _one_line(error.strerror or str(error)).lower())
        case OSError() if error.errno is not None:  # the text may hold more than the reason
            return ConnectFailed(url, os.strerror(error.errno).lower())
        case _:
            return ConnectFailed(url, _one_line(str(error)).lower())


def _status_error(url: str, error: InvalidStatus) -> ClientError:
    status = error.response.status_code
    phrase = http.HTTPStatus(status).phrase.lower() if status in set(http.HTTPStatus) else "?"
    if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        body = _one_line((error.response.body or b"").decode(errors="replace"))
        return Refused(url, status, body or phrase)
    why = f"it answers with HTTP {status} ({phrase})"
    return ConnectFailed(url, why) if status in _BUSY_STATUSES else NotAServer(url, why)


def _gone(error: ConnectionClosed) -> ServerGone:
    if error.rcvd is not None:
        reason = _one_line(error.rcvd.reason)
        return ServerGone(
            f"closed with {error.rcvd.code}" + (f", {reason}" if reason else ""),
            is_final=error.rcvd.code in _FINAL_CODES,
            was_too_big=error.rcvd.code == CloseCode.MESSAGE_TOO_BIG,
        )
    if error.sent is not None and error.sent.code == CloseCode.INTERNAL_ERROR:
        return ServerGone("it gives no sign of life")  # no pong has come
    if error.sent is not None:  # something has come that we cannot take
        is_final = error.sent.code in _FINAL_CODES or error.sent.code == CloseCode.MESSAGE_TOO_BIG
        return ServerGone(_one_line(error.sent.reason) or f"closed with {error.sent.code}", is_final=is_final)
    return ServerGone("it broke off without a word")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
