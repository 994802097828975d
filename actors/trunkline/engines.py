"""What answers a thread's requests, as its actor sees it, and the other way round.

There are two: `trunkline.local`, where agents of this process run the turns, and `trunkline.gateway`,
where another app-server does. The Thread and Router actors know these interfaces and ask no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from trunkline.feed import Feed
from trunkline.log import Event
from trunkline.messages import Ref, Request
from trunkline.prompts import Prompts
from trunkline.types import ConnectionId, JsonObject, ThreadId

__all__ = [
    "ENDS_THREAD",
    "NOT_LOADED",
    "Catalog",
    "Desk",
    "Engine",
    "Handlers",
    "MakeCatalog",
    "MakeEngine",
    "Numbering",
    "Seat",
]

NOT_LOADED: JsonObject = {"type": "notLoaded"}
"""The status of a thread that is not loaded."""

ENDS_THREAD = frozenset({"thread/archive", "thread/delete"})
"""Methods after which a thread is not loaded. What comes for it meanwhile waits at the router until the
engine has its seat `finish` or `stay`."""

Handlers: TypeAlias = Mapping[type, Callable[[Any], None]]
"""What is done with messages that are for an engine or a catalog alone, by the type of the message."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """How the events of a thread are numbered."""

    epoch: str
    """Names the count: a number means nothing under another epoch."""
    last_seq: int = 0
    """What the count begins behind."""
    events: tuple[Event, ...] = ()
    """The newest events that are known, up to that one."""
    is_kept: bool = False
    """Whether events wait until they are stored before anybody sees them: see `Engine.commit`."""


class Engine(Protocol):
    """Answers the requests of one thread and publishes its events. Called by the thread's actor alone."""

    @property
    def handlers(self) -> Handlers:
        """What it does with messages that only it knows. Asked for once."""
        ...

    @property
    def status(self) -> JsonObject:
        """The thread's status, as it was published last."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether a turn is running."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether a turn is running or about to: then the thread is not unloaded."""
        ...

    @property
    def unload_after_s(self) -> float | None:
        """Seconds after which it is unloaded if nobody uses it; None for never."""
        ...

    def begin(self) -> None:
        """Start: the actor has, and everything may be used."""
        ...

    def answer(self, request: Request) -> None:
        """Answer a request, now or later. `thread/unsubscribe` comes only while `is_answering`.

        Raises:
            RpcError: it is refused.

        """
        ...

    def is_answering(self, connection_id: ConnectionId) -> bool:
        """Whether a connection is about to be made a subscriber: then its unsubscribing has to wait."""
        ...

    def connection_closed(self, connection_id: ConnectionId) -> None:
        """Make a connection that has gone no subscriber any more."""
        ...

    def prompt_settled(self) -> None:
        """Publish what follows for the status."""
        ...

    def interrupt(self) -> None:
        """Interrupt the running turn, if there is one."""
        ...

    def pace(self) -> None:
        """Hold whoever publishes while subscribers are too far behind."""
        ...

    def reserve(self, seq: int) -> None:
        """Keep that events up to `seq` may exist, whatever happens to the process."""
        ...

    def commit(self) -> None:
        """Have stored all that was told so far, and call the feed's `committed` then."""
        ...

    def unload(self) -> None:
        """Say that the thread is not loaded any more; it is about to end."""
        ...

    def undelivered(self, message: Any) -> Request | None:
        """Deal with a message that came when the actor had stopped; return a request to be refused."""
        ...

    def abandon(self, *, has_failed: bool) -> None:
        """Let go of everybody who waits, because the actor ends. Publishes nothing."""
        ...


class Seat(Protocol):
    """What an engine has its thread's actor do. Used by that engine alone, on the actor's turn."""

    @property
    def actor_ref(self) -> Ref:
        """The actor, as somebody to tell."""
        ...

    @property
    def feed(self) -> Feed:
        """Where everything is published."""
        ...

    @property
    def prompts(self) -> Prompts:
        """The open prompts."""
        ...

    @property
    def inbox_depth(self) -> int:
        """Messages that wait for the actor. Any thread may ask."""
        ...

    @property
    def is_held(self) -> bool:
        """Whether those who publish have to wait: even the fastest subscriber is far behind."""
        ...

    def subscribe(
        self, request: Request, snapshot: Callable[[], JsonObject], after_seq: int | None = None
    ) -> None:
        """Make the caller a subscriber, and answer with a snapshot or with the events behind `after_seq`.

        Subscription and answer are made at one point of the event order, so that nothing is missing
        between them and what follows, and nothing is in both.

        Args:
            request: the caller's.
            snapshot: makes the answer, less what every subscriber is told.
            after_seq: where the subscription begins, if that is not now.

        """
        ...

    def answer(self, request: Request) -> None:
        """Have a request answered that the engine has put off."""
        ...

    def be_used(self) -> None:
        """Have been idle for no time at all."""
        ...

    def stay(self) -> None:
        """Tell the router that the thread goes on, though a request was to end it."""
        ...

    def finish(self) -> None:
        """End every subscription behind what was published, and then the actor."""
        ...

    def fail(self) -> None:
        """End the actor at once, as one that has failed."""
        ...


MakeEngine: TypeAlias = Callable[[Seat], Engine]
"""Makes the engine of a thread, in the constructor of its actor: neither has started."""


class Catalog(Protocol):
    """What threads there are besides those that are loaded. Called by the router alone."""

    @property
    def handlers(self) -> Handlers:
        """What it does with messages that only it knows. Asked for once."""
        ...

    def begin(self) -> None:
        """Start: the router has."""
        ...

    def thread_id(self, request: Request) -> ThreadId:
        """Return the thread that a request names, in the form that ids have here.

        Raises:
            RpcError: that is no id.

        """
        ...

    def answer(self, request: Request) -> None:
        """Answer what concerns no single thread, now or later.

        Raises:
            RpcError: it is refused.

        """
        ...

    def answer_unloaded(self, request: Request, thread_id: ThreadId) -> None:
        """Answer a request about a thread that is not loaded, now or later; it may load it for that.

        Raises:
            RpcError: it is refused.

        """
        ...


class Desk(Protocol):
    """What a catalog has the router do. Used by that catalog alone, on the router's turn."""

    @property
    def actor_ref(self) -> Ref:
        """The router, as somebody to tell."""
        ...

    @property
    def loaded_ids(self) -> list[ThreadId]:
        """The threads that are loaded, ascending. Not to be changed."""
        ...

    def is_loaded(self, thread_id: ThreadId) -> bool:
        """Whether a thread is."""
        ...

    def status(self, thread_id: ThreadId) -> JsonObject:
        """Return the status of a thread, loaded or not."""
        ...

    def is_connected(self, request: Request) -> bool:
        """Whether whoever asked is still there."""
        ...

    def check_room(self) -> None:
        """See that one more thread may be loaded.

        Raises:
            RpcError: as many are as may be.

        """
        ...

    def load(self, thread_id: ThreadId, numbering: Numbering, make_engine: MakeEngine) -> Ref:
        """Start the actor of a thread, which is loaded from now on."""
        ...

    def note_subscriber(self, request: Request, thread_id: ThreadId) -> None:
        """Note that the caller is about to be a subscriber of a loaded thread, so that its end is told."""
        ...

    def pass_to_thread(self, request: Request, thread_id: ThreadId) -> None:
        """Pass a request to its thread, or have it answered if that is not loaded.

        Raises:
            RpcError: it is refused.

        """
        ...


MakeCatalog: TypeAlias = Callable[[Desk], Catalog]
"""Makes the catalog of a server, in the router's constructor."""
