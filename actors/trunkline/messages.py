"""The messages that actors send each other, by who accepts them.

Frozen, and named as orders (`Broadcast`) or facts (`ConnectionOpened`). A message that an actor sends
to itself alone, and what a running turn tells its thread (`agents.events`), are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias

import msgspec
import pykka

from trunkline.errors import RpcError
from trunkline.futures import Future
from trunkline.log import Chunk, Event, Frames
from trunkline.protocol.methods import Method
from trunkline.protocol.params import Params
from trunkline.store.base import ItemQuery, ThreadRecord, TurnQuery
from trunkline.transports.base import Closed
from trunkline.transports.closes import Ending
from trunkline.types import ConnectionId, Json, JsonObject, RequestId, ThreadId, TurnId

__all__ = [
    "Broadcast",
    "Close",
    "CloseConnections",
    "ConnectionClosed",
    "ConnectionInitialized",
    "ConnectionOpened",
    "CutConnections",
    "Deliver",
    "Drain",
    "FellBehind",
    "Fork",
    "Forked",
    "HostAnswer",
    "HostCall",
    "HostEvent",
    "InputEnded",
    "InterruptOverdue",
    "InterruptTurn",
    "InterruptTurns",
    "LinkClosed",
    "LinkDrained",
    "Message",
    "Progress",
    "PromptAnswer",
    "PromptEnded",
    "PromptMisfit",
    "PromptOverdue",
    "Publish",
    "PushNotification",
    "RaisePrompt",
    "ReadOlder",
    "Received",
    "Ref",
    "Refuse",
    "Relay",
    "Reply",
    "Request",
    "StillLoaded",
    "StopThreads",
    "Subscribed",
    "Summary",
    "TellSummary",
    "ThreadChanged",
    "ThreadIdle",
    "ThreadStopped",
    "TurnOverdue",
    "Unload",
    "Unsubscribed",
    "Warn",
]

Ref: TypeAlias = pykka.ActorRef[Any]
"""A reference to an actor of any kind."""


class Message(msgspec.Struct, frozen=True, eq=False):
    """The root of all messages. Compared by identity."""


# Accepted by a Connection: from its link.


class Received(Message, frozen=True):
    """Texts were read from the client, in this order."""

    texts: tuple[str, ...]


class LinkDrained(Message, frozen=True):
    """The operating system has taken everything that was sent."""


class InputEnded(Message, frozen=True):
    """The client will send no more, but still reads."""


class LinkClosed(Message, frozen=True):
    """The link is gone."""

    closed: Closed


# Accepted by a InProcessSession: from the client.


class HostCall(Message, frozen=True):
    """The client sends a request."""

    id: RequestId
    method: str
    params: JsonObject
    future: Future[Json]
    """Where the answer goes."""


class HostAnswer(Message, frozen=True):
    """The client answers a prompt; with an error, if `result` is None."""

    prompt_id: int
    result: JsonObject | None


# Accepted by a Connection: answers to its requests.


class Reply(Message, frozen=True):
    """The result of a request."""

    request_id: RequestId
    result: Json
    """May hold `Encoded`s and `orjson.Fragment`s."""


class Refuse(Message, frozen=True):
    """The error of a request."""

    request_id: RequestId
    error: RpcError


class Subscribed(Message, frozen=True):
    """The connection is a subscriber now: the thread's events behind `seq` follow, and only those."""

    thread_id: ThreadId
    thread: Ref
    generation: int
    """Numbers this subscription among all of the thread, for `Progress`."""
    reply: Reply
    prompts: tuple[tuple[int, Event | None], ...]
    """(request id, event) of the prompts that are open. The event is sent after the reply; it is
    None if the client has it already, or gets it with the events behind the one it saw last."""


class Unsubscribed(Message, frozen=True):
    """The connection is no subscriber any more.

    Comes through the router, behind every `Broadcast` that the thread sent while it was one, so that
    none of those is taken for news. A `Subscribed` that the thread sent later may have come before it.
    """

    thread_id: ThreadId
    reply: Reply | None = None
    generation: int | None = None
    """The newest subscription of the thread that this may end; None ends whichever there is."""


class PromptEnded(Message, frozen=True):
    """A prompt that the connection was sent has ended, and its subscription ended before that."""

    prompt_id: int


class PromptMisfit(Message, frozen=True):
    """An answer of the connection's to a prompt did not fit, and the prompt is still open."""

    prompt_id: int


# Accepted by a Connection: events.


class Deliver(Message, frozen=True):
    """Events of a thread the connection is subscribed to."""

    thread_id: ThreadId
    chunks: tuple[Chunk, ...]
    size: int
    """Bytes of payload, to be given back with `Progress`."""
    frames: tuple[Frames, ...]
    """Holds the framed bytes of the chunks until the last of those who are told this has handled it."""

    @classmethod
    def of(cls, thread_id: ThreadId, chunks: Sequence[Chunk]) -> Self:
        """Return the message for chunks that follow each other, at least one."""
        size = sum([chunk.size for chunk in chunks])
        return cls(thread_id, tuple(chunks), size, tuple([chunk.frames() for chunk in chunks]))


class Broadcast(Message, frozen=True):
    """Events of a thread that everybody is sent.

    Accepted by the Router too, which passes it to every initialized connection. Subscribers skip it:
    they get the same events with `Deliver`, in order with the others.
    """

    thread_id: ThreadId
    chunk: Chunk
    frames: Frames
    """As in `Deliver`."""

    @classmethod
    def of(cls, thread_id: ThreadId, event: Event) -> Self:
        """Return the message for one event."""
        chunk = Chunk([event])
        return cls(thread_id, chunk, chunk.frames())


class Warn(Message, frozen=True):
    """Send the connection a `warning` about a thread."""

    thread_id: ThreadId
    text: str


class PushNotification(Message, frozen=True):
    """Send a notification that is no thread's event."""

    method: str
    params: JsonObject
    taken: Future[None]
    """Told when little waits to be sent, or that the connection has ended."""


class FellBehind(Message, frozen=True):
    """The connection's place in a thread has fallen out of the log; it cannot be sent what it missed."""

    thread_id: ThreadId


class Close(Message, frozen=True):
    """Close the connection, once what is under way is answered."""

    ending: Ending


# Accepted by the Router.


class ConnectionOpened(Message, frozen=True):
    """A client has connected."""

    connection_id: ConnectionId
    connection: Ref
    is_remote: bool
    """Whether the client came over a socket, and may be a stranger."""


class ConnectionInitialized(Message, frozen=True):
    """A connection may be sent broadcasts from now on."""

    connection_id: ConnectionId
    unwanted: frozenset[str]
    """Methods of notifications that it is not sent: among thousands of connections it matters that those
    who opted out are not even told."""


class ConnectionClosed(Message, frozen=True):
    """A connection is gone.

    The Router passes it to exactly the threads it is or was subscribed to, and they drop it.
    """

    connection_id: ConnectionId


class Request(Message, frozen=True):
    """A client's request, checked. The Router answers it or passes it to the thread it names."""

    connection_id: ConnectionId
    reply_to: Ref
    """Told a `Reply`, `Refuse`, `Subscribed` or `Unsubscribed`: exactly one of them."""
    id: RequestId
    method: Method
    params: Params
    is_in_process: bool = False
    """Whether the client is in this process and takes events as they are."""
    may_answer: bool = False
    """Whether its credential allows the client to answer prompts."""


class Publish(Message, frozen=True):
    """The host publishes a notification into a thread. The Router passes it on."""

    thread_id: ThreadId
    method: str
    params: JsonObject
    future: Future[int]
    """Told the number of the event, or an error."""


class RaisePrompt(Message, frozen=True):
    """The host asks the subscribers of a thread something. The Router passes it on."""

    thread_id: ThreadId
    method: str
    params: JsonObject
    timeout_s: float | None
    future: Future[JsonObject]
    """Told the answer, or an error."""


HostEvent: TypeAlias = Publish | RaisePrompt
"""What a host has a thread publish."""


class Summary(Message, frozen=True):
    """What the router has to know of a loaded thread."""

    status: JsonObject
    is_running: bool
    """Whether a turn is running."""


class ThreadChanged(Message, frozen=True):
    """A thread's summary is another."""

    thread_id: ThreadId
    summary: Summary


class Fork(Message, frozen=True):
    """Answer `request` with a fork of the thread that `source` is."""

    request: Request
    source: ThreadRecord


class ReadOlder(Message, frozen=True):
    """Answer `request` with a page from the store: a loaded thread has only the newest items itself."""

    request: Request
    thread_id: ThreadId
    query: TurnQuery | ItemQuery


class ThreadIdle(Message, frozen=True):
    """A thread has had no subscriber and no activity for the unload delay."""

    thread_id: ThreadId


class StillLoaded(Message, frozen=True):
    """A thread that was told to unload goes on: it was needed again meanwhile."""

    thread_id: ThreadId


class ThreadStopped(Message, frozen=True):
    """A thread has ended and takes no more messages."""

    thread_id: ThreadId
    thread: Ref
    has_failed: bool
    """Whether it was ended by a bug of ours, or because it cannot be kept."""


class Relay(Message, frozen=True):
    """Tell `message` to `connection`, behind everything the sender told the router to broadcast."""

    connection: Ref
    message: Message


class Drain(Message, frozen=True):
    """Take no new work. `idle` is called, once, when no turn is running; it must not block."""

    idle: Callable[[], None]


class InterruptTurns(Message, frozen=True):
    """Interrupt every turn that is running. `done` is called, once, with their threads; it must not block."""

    done: Callable[[tuple[ThreadId, ...]], None]


class StopThreads(Message, frozen=True):
    """Stop every thread, whatever it does. `done` is called, once, when all have stopped."""

    done: Callable[[], None]


class CloseConnections(Message, frozen=True):
    """Close every connection. `done` is called, once, when all are gone."""

    ending: Ending
    done: Callable[[], None]


class CutConnections(Message, frozen=True):
    """Stop every connection that is still there, whatever it has to send.

    `count` is called with how many that is, and `done` when all are gone, once each.
    """

    count: Callable[[int], None]
    done: Callable[[], None]


# Accepted by a Thread, besides Request, ConnectionClosed and the events of its turn.


class Forked(Message, frozen=True):
    """Answer the request that made this thread."""

    request: Request


class Progress(Message, frozen=True):
    """A connection's socket has taken `size` bytes of what it was sent with `Deliver`."""

    connection_id: ConnectionId
    generation: int
    size: int


class PromptAnswer(Message, frozen=True):
    """A client that was sent a prompt has answered it."""

    connection_id: ConnectionId
    connection: Ref
    """Told a `PromptMisfit` if the answer changes nothing."""
    prompt_id: int
    result: Json
    failed: bool
    """Whether the answer is an error."""
    who: str
    """What the log calls the one who gave it."""


class Unload(Message, frozen=True):
    """Stop, unless somebody needs the thread again. Answered with `ThreadStopped` or `StillLoaded`."""


class TellSummary(Message, frozen=True):
    """Tell the router `ThreadChanged`, even if nothing has changed."""


class InterruptOverdue(Message, frozen=True):
    """An interrupted turn has had its time to end."""

    turn_id: TurnId


class TurnOverdue(Message, frozen=True):
    """A turn may have had the time that a turn may take."""

    turn_id: TurnId


class PromptOverdue(Message, frozen=True):
    """A prompt has been open for as long as one may be, unless it has ended."""

    prompt_id: int
    timeout_s: float
    """How long that is, for those who are told."""


class InterruptTurn(Message, frozen=True):
    """Interrupt the turn that is running, if any: the server stops."""
