"""The tap: records what every server of this process sends, and what it is sent, where both leave a link.

Nothing of the product is changed for it. It stands between transports and connections, where all traffic
passes as framed bytes, and at the two ends of a connection within the process, where nothing is framed:
what is handed over there is written down as a socket would have it.
"""

from __future__ import annotations

import functools
from itertools import count
from typing import Any

from orjson import OPT_APPEND_NEWLINE, dumps  # by name: tests count the calls of the library's own

from traffic.recording import LINES, RECEIVED, TEXT_FRAMES, Recorder
from trunkline.errors import Disconnected, RpcError
from trunkline.futures import Future
from trunkline.inprocess.connection import InProcessConnection
from trunkline.inprocess.deliveries import Closed, Delivery, Prompt
from trunkline.inprocess.link import Addressed, InProcessLink, Parcel
from trunkline.server import AppServer
from trunkline.transports.base import Link, LinkEvents
from trunkline.transports.framing import LINE_FRAMING

__all__ = ["tap_servers"]

_IN_PROCESS = 0
"""The connection that all within the process are: a request has an id there that no other has."""


def tap_servers(recorder: Recorder) -> None:
    """Record the traffic of all servers of this process, from now on."""
    numbers = count(1)
    for name in ("_opened", "_opened_stdio"):
        _tap_links(name, recorder, numbers)
    _tap_deliveries(recorder)
    _tap_requests(recorder)


def _tap_links(name: str, recorder: Recorder, numbers: count[int]) -> None:
    opened = getattr(AppServer, name)

    @functools.wraps(opened)
    def tapped(self: AppServer, link: Link) -> LinkEvents:
        number = next(numbers)
        events: LinkEvents = opened(self, _TappedLink(link, recorder, number))
        return _TappedEvents(events, recorder, number)

    setattr(AppServer, name, tapped)


class _TappedLink:
    """A link as a connection sees it."""

    __slots__ = ("_kind", "_link", "_number", "_recorder")

    def __init__(self, link: Link, recorder: Recorder, number: int) -> None:
        self._link = link
        self._recorder = recorder
        self._number = number
        self._kind = LINES if link.framing is LINE_FRAMING else TEXT_FRAMES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def send(self, data: bytes) -> None:
        if self._link.is_open:  # else it is not sent
            self._recorder.record(self._kind, self._number, data)
        self._link.send(data)


class _TappedEvents:
    """A connection as its link sees it."""

    __slots__ = ("_events", "_number", "_recorder")

    def __init__(self, events: LinkEvents, recorder: Recorder, number: int) -> None:
        self._events = events
        self._recorder = recorder
        self._number = number

    def on_messages(self, messages: tuple[str, ...]) -> None:
        for text in messages:
            self._recorder.record(RECEIVED, self._number, text.encode(errors="surrogatepass"))
        self._events.on_messages(messages)

    def on_drained(self) -> None:
        self._events.on_drained()

    def on_input_ended(self) -> None:
        self._events.on_input_ended()

    def on_closed(self, closed: Closed) -> None:
        self._events.on_closed(closed)


def _tap_deliveries(recorder: Recorder) -> None:
    send = InProcessLink.send

    @functools.wraps(send)
    def tapped(self: InProcessLink, parcel: Parcel) -> None:
        if self.is_open:
            for item in parcel.items:
                if isinstance(item, Addressed):
                    recorder.record(LINES, _IN_PROCESS, _line(_message(self._open(item))))
        send(self, parcel)

    InProcessLink.send = tapped  # type: ignore[method-assign]


def _message(delivery: Delivery) -> dict[str, object]:
    assert not isinstance(delivery, Closed)
    message: dict[str, object] = {"method": delivery.method, "params": delivery.params}
    if isinstance(delivery, Prompt):
        message["id"] = delivery.id
    else:
        message["emittedAtMs"] = delivery.emitted_at_ms
    return message


def _line(message: dict[str, object]) -> bytes:
    try:
        return dumps(message, option=OPT_APPEND_NEWLINE)
    except TypeError as error:  # a line that is no JSON is found where it is read
        return f"{error}: {message}".encode().replace(b"\n", b" ") + b"\n"


def _tap_requests(recorder: Recorder) -> None:
    request = InProcessConnection.request
    ids = count(1)

    @functools.wraps(request)
    def tapped(self: InProcessConnection, method: str, params: object = None) -> Future[Any]:
        future = request(self, method, params)
        future.add_done_callback(functools.partial(_record_answer, recorder, next(ids), method))
        return future

    InProcessConnection.request = tapped  # type: ignore[method-assign]


def _record_answer(recorder: Recorder, request_id: int, method: str, future: Future[Any]) -> None:
    answer: dict[str, object] = {"id": request_id}
    try:
        answer["result"] = future.get()
    except RpcError as error:
        answer["error"] = {"code": int(error.code), "message": error.message, "data": error.data}
    except Disconnected:
        return  # that is no message
    recorder.record(RECEIVED, _IN_PROCESS, dumps({"id": request_id, "method": method}))
    recorder.record(LINES, _IN_PROCESS, _line(answer))
