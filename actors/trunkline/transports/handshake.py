"""The opening handshake: one HTTP request, and whether it becomes a WebSocket connection.

Knows HTTP and no sockets. Who may come in is decided in `_refusal`, before anything else is looked at.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

__all__ = ["Handshake"]

_END_OF_HEAD = b"\r\n\r\n"
_LONGEST_VERB = 16


class Handshake:
    """Takes the bytes of a request in any portions, and answers it.

    Args:
        protocol: of this connection, untouched so far. It parses the request and builds the upgrade.
        is_ready: what `/readyz` reports.

    """

    __slots__ = ("_is_ready", "_protocol", "_start", "_tail", "is_done")

    def __init__(self, protocol: ServerProtocol, is_ready: Callable[[], bool]) -> None:
        self._protocol = protocol
        self._is_ready = is_ready
        self._start = b""
        self._tail = b""
        self.is_done = False
        """The request has been answered, one way or the other; the protocol holds what is to be sent."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the client; return those that come after the head of the request.

        A client should wait for the answer before it sends frames. One that does not is not
        punished, but the protocol must be answered first: hence the cut.
        """
        if len(self._start) < _LONGEST_VERB:
            self._start = (self._start + data)[:_LONGEST_VERB]
        end = (self._tail + data).find(_END_OF_HEAD)
        if end < 0:
            self._tail = (self._tail + data)[-3:]
            rest = b""
        else:
            cut = end + len(_END_OF_HEAD) - len(self._tail)
            data, rest = data[:cut], data[cut:]
        protocol = self._protocol
        protocol.receive_data(data)
        for request in protocol.events_received():
            assert isinstance(request, Request)
            protocol.send_response(self._answer(request))
            self.is_done = True
        if protocol.handshake_exc is not None:
            self.is_done = True
        return rest

    def answer_to_junk(self) -> bytes:
        """Return the response to what is no request that the protocol can read, and leaves unanswered."""
        verb = self._start.split(b" ", 1)[0]
        if verb.isalpha() and verb.isupper() and verb not in (b"GET", b"HEAD"):
            # Such as a POST with a body.
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET").serialize()
        return _refuse(HTTPStatus.BAD_REQUEST).serialize()

    def _answer(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path = request.path.partition("?")[0]
        if path in ("/healthz", "/readyz"):
            return self._health(request, path)
        return self._protocol.accept(request)

    def _refusal(self, request: Request) -> Response | None:
        # Only browsers send an Origin. A page on any site can open a WebSocket to this machine, and
        # nothing but this header tells it from a program of the user's own.
        if "Origin" in request.headers:
            return _refuse(HTTPStatus.FORBIDDEN)
        return None

    def _health(self, request: Request, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        if path == "/readyz" and not self._is_ready():
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        return _refuse(HTTPStatus.OK)


def _refuse(status: HTTPStatus, **headers: str) -> Response:
    """Return a response with an empty body, after which the connection closes."""
    return Response(
        status.value,
        status.phrase,
        Headers(
            Date=email.utils.formatdate(usegmt=True),
            Connection="close",
            **{"Content-Length": "0"},
            **headers,
        ),
    )
