"""The messages of the gateway, by who accepts them."""

from __future__ import annotations

from trunkline.errors import RpcError
from trunkline.messages import Message, Ref, Request
from trunkline.types import Json, RequestId, ThreadId

__all__ = [
    "Adopt",
    "Answered",
    "Ask",
    "ChildEnded",
    "Lines",
    "Lost",
    "Notified",
    "PromptSettled",
    "Prompted",
    "ThreadGone",
    "ThreadHere",
    "Unheard",
    "UseRouter",
]


# Accepted by the Upstream: from the child.


class Lines(Message, frozen=True):
    """Lines that the child wrote, in this order."""

    generation: int
    lines: tuple[bytes, ...]


class ChildEnded(Message, frozen=True):
    """The child has ended, or could not be started."""

    generation: int
    reason: str


# Accepted by the Upstream: from the router and from threads.


class Ask(Message, frozen=True):
    """Send the upstream a request."""

    method: str
    params: Json
    request: Request | None = None
    """The client's request that this passes on; None for one of the gateway's own."""
    reply_to: Ref | None = None
    """The thread that is told `Answered`; None has the client told, or nobody."""
    tag: str = ""
    """Given back with `Answered`."""
    makes_thread: bool = False
    """Whether the result has a thread that is not loaded here yet."""


class UseRouter(Message, frozen=True):
    """Start the child; this is the router that is told what it says."""

    router: Ref


class ThreadHere(Message, frozen=True):
    """A thread takes what the upstream says of it, from the answer on that it was made for."""

    thread_id: ThreadId
    thread: Ref


class ThreadGone(Message, frozen=True):
    """A thread takes nothing any more."""

    thread_id: ThreadId
    thread: Ref


class Unheard(Message, frozen=True):
    """A thread had gone when it was told this; it may be for everybody."""

    method: str
    params: bytes


class PromptSettled(Message, frozen=True):
    """A prompt of the upstream has its answer."""

    generation: int
    """The child that raised it; another one knows nothing of it."""
    id: RequestId
    result: Json
    is_refused: bool
    """Whether there is no result: a client refused, or answered with something that is none."""


# Accepted by a thread of the gateway, in the order in which the upstream said it.


class Notified(Message, frozen=True):
    """A notification of the upstream about the thread."""

    method: str
    params: bytes


class Prompted(Message, frozen=True):
    """A request of the upstream for clients of the thread. A thread that has ended gives it back."""

    generation: int
    id: RequestId
    method: str
    params: bytes


class Answered(Message, frozen=True):
    """The upstream's answer: `result`, or `error`."""

    ask: Ask
    result: bytes
    error: RpcError | None = None


class Lost(Message, frozen=True):
    """The child has ended. Nothing that it was doing goes on."""


# Accepted by the Router, for the gateway's catalog.


class Adopt(Message, frozen=True):
    """The upstream has started or loaded a thread for a client.

    What it says of the thread is held until the thread is there.
    """

    request: Request
    thread_id: ThreadId
    result: bytes
