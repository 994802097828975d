"""The link to a client in this process: events are handed over as they are, and nothing is encoded.

Where they go is a *sink*: a callback, a Pykka actor, or a queue that somebody reads. A sink tells how
much it was given that is not taken, as a socket does, so that one that is slow is held up in the same
way: its place in each thread's log is all that is kept for it.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
import orjson
import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyGetAttr

from trunkline.access import Access
from trunkline.actor import post
from trunkline.errors import RpcError
from trunkline.futures import Future
from trunkline.inprocess.deliveries import Delivery, Notification, Prompt
from trunkline.log import Event
from trunkline.messages import HostAnswer, Ref
from trunkline.protocol.values import given
from trunkline.transports.base import CloseCode, Closed, LinkEvents
from trunkline.transports.framing import LINE_FRAMING, LineFraming
from trunkline.transports.relay import Relay
from trunkline.transports.serial import SerialQueue, Tally
from trunkline.types import Json, JsonObject, ThreadId

__all__ = [
    "ANSWER_SIZE",
    "ActorSink",
    "Addressed",
    "CallbackSink",
    "InProcessLink",
    "Parcel",
    "QueueSink",
    "Settle",
    "Sink",
]

logger = logging.getLogger(__name__)

BUFFER_BYTES = 2 * 1024 * 1024
"""What a queue may hold before its reader counts as slow: as much as a socket's buffers take."""


ANSWER_SIZE = 1
"""What an answer counts as."""


class Addressed(NamedTuple):
    """An event, and the thread it is of; None if it is about the connection."""

    thread_id: ThreadId | None
    event: Event


class Settle(NamedTuple):
    """An answer: settles a future when its turn among the events has come."""

    future: Future[Json]
    value: Json
    error: RpcError | None

    def settle(self) -> None:
        """Do it. Twice is harmless."""
        if self.error is None:
            self.future.set(self.value)
        else:
            self.future.fail(self.error)


class Parcel(msgspec.Struct, frozen=True):
    """Events and answers on their way to a client. Its length is what they count as in bytes."""

    items: tuple[Addressed | Settle, ...]
    size: int

    def __len__(self) -> int:
        return self.size


Open: TypeAlias = Callable[[Addressed], Delivery]
"""Makes of an event what the client is given."""


class Sink(Protocol):
    """Where the events of one client go. `put` and `close` are called one at a time; none blocks."""

    @property
    def unsent_bytes(self) -> int:
        """What was put and is not taken, as it counts. Any thread."""
        ...

    def bind(self, open_event: Open, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Say how events are opened, and what to call: when all is taken; when the client has gone."""
        ...

    def put(self, parcel: Parcel) -> None:
        """Give it events."""
        ...

    def close(self, closed: Closed) -> None:
        """Tell it the end. Called once, and last."""
        ...


class CallbackSink:
    """Calls a function of the host's with each delivery.

    Args:
        callback: must not block. What it raises is logged.

    """

    def __init__(self, callback: Callable[[Delivery], object]) -> None:
        self._callback: Callable[[Delivery], object] | None = callback
        self._open: Open

    @property
    def unsent_bytes(self) -> int:
        """Always 0: a call takes all there is."""
        return 0

    def bind(self, open_event: Open, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Say how events are opened."""
        self._open = open_event

    def put(self, parcel: Parcel) -> None:
        """Call it with each event."""
        for item in parcel.items:
            if isinstance(item, Settle):
                item.settle()
            else:
                self._call(self._open(item))

    def close(self, closed: Closed) -> None:
        """Call it for the last time."""
        self._call(closed)
        self._callback = None  # it may hold who knows what of the host's

    def _call(self, delivery: Delivery) -> None:
        if self._callback is None:
            return
        try:
            self._callback(delivery)
        except Exception:
            logger.exception("x the callback of an in-process connection failed")


class ActorSink:
    """Tells a Pykka actor, of any kind, each delivery.

    An actor's inbox has no bound, so behind each parcel a question is put that Pykka itself answers when
    the actor has come to it: until then the parcel is not taken.

    Args:
        ref: the actor.

    """

    def __init__(self, ref: pykka.ActorRef[pykka.Actor]) -> None:
        self._ref = ref
        self._put = 0
        self._taken = Tally()
        self._open: Open
        self._drained: Callable[[], None]
        self._lost: Callable[[], None]

    @property
    def unsent_bytes(self) -> int:
        """What the actor has not come to."""
        return self._put - self._taken.value

    def bind(self, open_event: Open, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Say how events are opened and whom to tell."""
        self._open, self._drained, self._lost = open_event, drained, lost

    def put(self, parcel: Parcel) -> None:
        """Tell it each event, and put the question behind them."""
        self._put += parcel.size
        for item in parcel.items:
            if isinstance(item, Settle):
                item.settle()
            else:
                post(self._ref, self._open(item))
        taken: Future[object] = Future()
        taken.add_done_callback(lambda _: self._acknowledge(parcel.size))
        self._ref.actor_inbox.put(Envelope(ProxyGetAttr(attr_path=("actor_urn",)), reply_to=taken))
        if self._ref.actor_stopped.is_set():  # it may never look at its inbox again
            self._lost()

    def close(self, closed: Closed) -> None:
        """Tell it the end."""
        post(self._ref, closed)

    def _acknowledge(self, size: int) -> None:
        self._taken.add(size)
        if self.unsent_bytes == 0:
            self._drained()


class QueueSink:
    """Keeps deliveries until somebody reads them."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Addressed | Closed] = queue.SimpleQueue()
        self._put = 0
        self._taken = Tally()
        # Holds a token while the server waits for the reader.
        self._awaited: list[None] = []
        self._open: Open
        self._drained: Callable[[], None]

    @property
    def unsent_bytes(self) -> int:
        """What is over the buffer."""
        return max(self._put - self._taken.value - BUFFER_BYTES, 0)

    def bind(self, open_event: Open, drained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Say how events are opened and whom to tell."""
        self._open, self._drained = open_event, drained

    def put(self, parcel: Parcel) -> None:
        """Keep it."""
        self._put += parcel.size
        for item in parcel.items:
            if isinstance(item, Settle):
                item.settle()
                self._taken.add(ANSWER_SIZE)
            else:
                self._queue.put(item)
        if self.unsent_bytes:
            self._awaited.append(None)
            self._tell_if_drained()  # the reader may have been quicker

    def close(self, closed: Closed) -> None:
        """Keep that it has ended."""
        self._queue.put(closed)

    def take(self, timeout_s: float | None) -> Delivery:
        """Return the next delivery; wait for it. The end is returned every time.

        Raises:
            TimeoutError: none came in time.

        """
        try:
            taken = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"nothing came within {timeout_s:g} s") from None
        if isinstance(taken, Closed):
            self._queue.put(taken)  # for others who read
            return taken
        self._taken.add(taken.event.size)
        if self._awaited:
            self._tell_if_drained()
        return self._open(taken)

    def _tell_if_drained(self) -> None:
        if self.unsent_bytes:
            return
        try:
            self._awaited.pop()
        except IndexError:
            return
        self._drained()


class InProcessLink:
    """The server's end of a connection in this process: a `Link` that takes parcels.

    Args:
        name: what a log calls the client.
        access: what the client may do.
        sink: where the deliveries go.

    """

    def __init__(self, name: str, access: Access, sink: Sink) -> None:
        self.name = name
        self.access = access
        self.is_open = True
        self.closed: Closed | None = None
        """How it ended; None while it has not."""
        self._sink = sink
        self._session: Ref | None = None
        # Holds one token until somebody closes: `list.pop` is atomic, so one caller gets it.
        self._close_token: list[None] = [None]
        self._outgoing: SerialQueue[Parcel | Closed] = SerialQueue(self._hand_out)
        self._relay = Relay()
        sink.bind(self._open, self._relay.drained, self._lose)

    def attach(self, session: Ref, events: LinkEvents) -> None:
        """Say whose link it is, and whom to tell. Call it once."""
        self._session = session
        self._relay.attach(events)

    @property
    def is_remote(self) -> bool:
        """False: it is part of this process."""
        return False

    @property
    def framing(self) -> LineFraming:
        """Never used: nothing is framed."""
        return LINE_FRAMING

    @property
    def unsent_bytes(self) -> int:
        """What the client has not taken, as it counts."""
        return self._sink.unsent_bytes

    def send(self, parcel: Any) -> None:
        """Give the client a `Parcel`. Any thread; does nothing after the link has closed."""
        if self.is_open:
            self._outgoing.put(parcel)

    def consumed(self, count: int) -> None:
        """Nothing waits for it: a request that would be too many is answered at once."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Hand over what was sent before, then close. Any thread; never blocks; the first call counts."""
        try:
            self._close_token.pop()
        except IndexError:
            return
        closed = self.closed = Closed(code, reason)
        self.is_open = False
        self._outgoing.put(closed)
        self._relay.closed(closed)

    def _lose(self) -> None:
        self.close(CloseCode.ABNORMAL, "the actor it was delivered to has stopped")

    def _hand_out(self, items: list[Parcel | Closed]) -> None:
        for item in items:
            if isinstance(item, Closed):
                self._sink.close(item)
            else:
                self._sink.put(item)

    def _open(self, addressed: Addressed) -> Delivery:
        thread_id, event = addressed
        params = _params(event)
        if event.prompt_id is not None and thread_id is not None:
            return Prompt(event.prompt_id, event.method, params, thread_id, event.seq, self._answer)
        return Notification(event.method, params, thread_id, event.seq or None, event.at_ms)

    def _answer(self, prompt_id: int, result: JsonObject | None) -> None:
        post(self._session, HostAnswer(prompt_id, result))


def _params(event: Event) -> JsonObject:
    """Return a copy of an event's params. Only what came to the server as JSON is decoded."""
    # Without params it was published for clients that take bytes only, and encoded then.
    is_encoded = event.params is None
    params: JsonObject = orjson.loads(event.encode())["params"] if is_encoded else given(event.params)
    return params
