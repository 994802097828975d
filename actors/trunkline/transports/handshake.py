"""The opening handshake: one HTTP request, and whether it becomes a WebSocket connection.

Knows HTTP and no sockets. Who may come in is the door's to say (`door`), before anything else is looked at.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from trunkline.access import EVERYTHING, Access
from trunkline.transports.closes import RECONNECT_S
from trunkline.transports.door import OPEN_DOOR, Door, Refusal

__all__ = ["TIMED_OUT", "Handshake", "Page", "Site"]

_END_OF_HEAD = b"\r\n\r\n"
_LONGEST_VERB = 16

MAX_HEAD_BYTES = 32 * 1024
"""The size of a request's head. A line may have 8 KiB: the parser sees to that."""

FULL = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections", retry_after_s=RECONNECT_S)

STOPPING = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping", retry_after_s=RECONNECT_S)


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered to a GET that is no upgrade."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a listener has to offer, and to whom. Its functions run on the loop's thread; none may block."""

    is_ready: Callable[[], bool] = lambda: True
    """What `/readyz` reports, and whether anybody is let in."""
    door: Door = OPEN_DOOR
    """Who may come in. The health pages are for everybody that it does not refuse outright."""
    pages: Mapping[str, Callable[[], Page]] = field(default_factory=dict)
    """By path; for those with a credential, if one is asked for."""
    refused: Callable[[str], None] = lambda _: None
    """Told about everybody who is not let in: why, in one word."""
    upgrades: bool = True
    """Whether any other path becomes a WebSocket."""


class Handshake:
    """Takes the bytes of a request in any portions, and answers it.

    Args:
        protocol: of this connection, untouched so far. It parses the request and builds the upgrade.
        site: what there is to be had.
        is_full: whether there are too many connections already; the health pages are shown all the same.

    """

    __slots__ = ("_is_full", "_protocol", "_site", "_size", "_start", "_tail", "access", "is_done")

    def __init__(self, protocol: ServerProtocol, site: Site, *, is_full: bool = False) -> None:
        self._protocol = protocol
        self._site = site
        self._is_full = is_full
        self._size = 0
        self._start = b""
        self._tail = b""
        self.is_done = False
        """The request has been answered, one way or the other; the protocol holds what is to be sent."""
        self.access: Access = EVERYTHING
        """What the client may do, once it has been let in."""

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
        self._size += len(data)
        protocol = self._protocol
        protocol.receive_data(data)
        for request in protocol.events_received():
            assert isinstance(request, Request)
            protocol.send_response(self._answer(request))
            self.is_done = True
        if protocol.handshake_exc is not None or self._size > MAX_HEAD_BYTES:
            self.is_done = True
        return rest

    def refuse(self, response: bytes) -> bytes:
        """Return what to answer to a request that does not become a WebSocket, after telling who counts.

        Args:
            response: of the protocol; empty if there is none.

        """
        answer = response or self.answer_to_junk()
        status = answer[9:12].decode()  # "HTTP/1.1 401 Unauthorized"
        if status[0] in "45":
            self._site.refused(f"http{status}")
        return answer

    def answer_to_junk(self) -> bytes:
        """Return the response to what is no request that the protocol can read, and leaves unanswered."""
        if self._size > MAX_HEAD_BYTES:
            return _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).serialize()
        verb = self._start.split(b" ", 1)[0]
        if verb.isalpha() and verb.isupper() and verb not in (b"GET", b"HEAD"):
            # Such as a POST with a body.
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET").serialize()
        return _refuse(HTTPStatus.BAD_REQUEST).serialize()

    def _answer(self, request: Request) -> Response:
        site = self._site
        if self._size > MAX_HEAD_BYTES:
            return _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if request.protocol != "HTTP/1.1":
            return _refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        refusal = site.door.refuse_request(request.headers)
        if refusal is not None:
            return _refused(refusal)
        path = request.path.partition("?")[0]
        if path in ("/healthz", "/readyz"):
            return self._health(request, path)
        if self._is_full:
            return _refused(FULL)
        access = site.door.admit(request.headers, time.time())
        if isinstance(access, Refusal):
            return _refused(access)
        self.access = access
        if path in site.pages:
            return self._page(request, site.pages[path])
        if not site.upgrades:
            return _refuse(HTTPStatus.NOT_FOUND)
        return self._protocol.accept(request) if site.is_ready() else _refused(STOPPING)

    def _health(self, request: Request, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        if path == "/readyz" and not self._site.is_ready():
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        return _refuse(HTTPStatus.OK)

    def _page(self, request: Request, make: Callable[[], Page]) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        page = make()
        body = b"" if request.method == "HEAD" else page.body
        return _refuse(HTTPStatus.OK, body, **{"Content-Type": page.content_type})


def _refused(refusal: Refusal) -> Response:
    headers = {} if not refusal.body else {"Content-Type": "text/plain; charset=utf-8"}
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 11.6.1
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return _refuse(refusal.status, refusal.body.encode(), **headers)


def _refuse(status: HTTPStatus, body: bytes = b"", **headers: str) -> Response:
    """Return a response after which the connection closes."""
    return Response(
        status.value,
        status.phrase,
        Headers(
            Date=email.utils.formatdate(usegmt=True),
            Connection="close",
            **{"Content-Length": str(len(body))},
            **headers,
        ),
        body,
    )


TIMED_OUT = Response(
    HTTPStatus.REQUEST_TIMEOUT.value,
    HTTPStatus.REQUEST_TIMEOUT.phrase,
    Headers(Connection="close", **{"Content-Length": "0"}),
).serialize()
"""The answer to a request that does not end. RFC 9110, 15.5.9."""
