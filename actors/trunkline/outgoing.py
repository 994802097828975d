"""What is on its way out on one connection, and how its link takes it.

Joins what a batch of the actor produced and hands it to the link; gives threads the bytes back that the link
has taken; tells when a client leaves too much unread, or takes nothing at all. What the bytes say is not
known here, nor whether they are bytes: a client in this process is sent parcels, which have a size as well.

A plain object that belongs to one Connection actor and is called by it alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from trunkline.actor import post
from trunkline.config import Limits
from trunkline.errors import Disconnected
from trunkline.futures import Future
from trunkline.listener import ACKNOWLEDGE_BYTES
from trunkline.messages import Deliver, Message, Progress, Ref
from trunkline.metrics import Metrics
from trunkline.timers import Timers
from trunkline.transports.base import Link
from trunkline.types import ConnectionId

__all__ = ["FLUSH_BYTES", "Outgoing", "Slow", "StallDue", "Window"]

FLUSH_BYTES = 64 * 1024
"""Bytes that are joined to be handed to a link at once. What is larger goes as it is: others share it."""

WAITING_BYTES = 256 * 1024
"""Answers that may wait until no more requests are read."""


class StallDue(Message, frozen=True):
    """Half the stall timeout has passed; `taken` is what the link had taken when it began."""

    taken: int
    is_warned: bool


class Slow(Enum):
    """What is to be done about a client that does not take what it is sent."""

    WARN = 1
    """It has come half the way to its limit: tell it."""
    CLOSE = 2
    """It is over its limit: close it."""


class Window:
    """A subscription of the connection, as somebody to give bytes back to."""

    __slots__ = ("generation", "taken", "thread")

    def __init__(self, thread: Ref, generation: int) -> None:
        self.thread = thread
        self.generation = generation
        self.taken = 0
        """Bytes handed to the link and not yet given back to the thread."""


class Outgoing:
    """The way out of one connection.

    Args:
        connection_id: whose it is.
        connection: told `StallDue`.
        link: where everything goes.
        join: makes one output of several.
        limits: what a client may leave unread, and for how long it may take nothing.
        timers: tell the connection when it is time to look again.
        metrics: where flushes and deliveries are counted.

    """

    __slots__ = (
        "_connection",
        "_consumed",
        "_framing",
        "_handed",
        "_id",
        "_is_closed",
        "_is_warned_of_unsent",
        "_is_watching_stall",
        "_join",
        "_limits",
        "_link",
        "_metrics",
        "_owing",
        "_pushed",
        "_queue",
        "_spared",
        "_timers",
        "_unbounded",
        "_uncounted",
    )

    def __init__(
        self,
        *,
        connection_id: ConnectionId,
        connection: Ref,
        link: Link,
        join: Callable[[Sequence[Any]], Any],
        limits: Limits,
        timers: Timers,
        metrics: Metrics,
    ) -> None:
        self._id = connection_id
        self._connection = connection
        self._link = link
        self._framing = link.framing
        self._join = join
        self._limits = limits
        self._timers = timers
        self._metrics = metrics
        # Events on their way out that are not counted yet: they are when they leave.
        self._uncounted = 0
        # Framed bytes (or what the link takes instead) on their way out, in order. They stay here while
        # the link has not drained: thread events among them are shared with other connections, and so
        # cost nothing but their place.
        self._queue: deque[Any] = deque()
        # Bytes among them that no thread's window bounds: answers, broadcasts, and events of subscriptions
        # that have ended.
        self._unbounded = 0
        # The most among them that one ended subscription left. It does not count against the client: to
        # unsubscribe while much is on its way is legal, but not to do so again and again without reading.
        self._spared = 0
        self._is_warned_of_unsent = False
        # Messages that were dealt with and not yet reported to the link: none are while too much waits.
        self._consumed = 0
        # Notifications that were pushed and of which nobody has been told that they are taken.
        self._pushed: list[Future[None]] = []
        # Bytes ever handed to the link; less what is unsent, these are the bytes it has taken.
        self._handed = 0
        self._is_watching_stall = False
        # Subscriptions with bytes to give back once the link has drained.
        self._owing: set[Window] = set()
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many outputs wait; what the link was handed is not among them."""
        return len(self._queue)

    @property
    def has_excess(self) -> bool:
        """Whether more waits that no window bounds than the client may leave waiting."""
        return self._unbounded - self._spared > self._limits.max_unsent_bytes

    def put(self, output: Any) -> None:
        """Add what no thread's window bounds."""
        self._queue.append(output)
        self._unbounded += len(output)

    def deliver(self, message: Deliver, unwanted: frozenset[str], window: Window) -> None:
        """Add a thread's events.

        Args:
            message: tells them.
            unwanted: methods of notifications that are left out.
            window: the subscription that they are sent for.

        """
        chunks = message.chunks
        for chunk in chunks:
            self._queue.append(chunk.framed(self._framing, unwanted))
        self._uncounted += chunks[-1].last_seq - chunks[0].first_seq + 1
        window.taken += message.size
        if window.taken >= ACKNOWLEDGE_BYTES:
            self._owing.add(window)

    def end_window(self, window: Window) -> None:
        """Count what a subscription leaves on its way out: the next one begins with a window of its own."""
        self._owing.discard(window)
        if self._queue:  # else all of it is with the link already
            self._unbounded += window.taken
            self._spared = max(self._spared, window.taken)

    def note_consumed(self, count: int) -> None:
        """Report to the link that so many messages were dealt with, once not too much waits."""
        self._consumed += count

    def note_pushed(self, taken: Future[None]) -> None:
        """Set `taken` once not too much waits."""
        self._pushed.append(taken)

    def flush(self) -> Slow | None:
        """Hand the link what it takes at once, and a little more.

        Returns:
            What is to be done about the client; None as long as it reads.

        """
        link = self._link
        if self._is_closed:
            self._queue.clear()  # the link takes nothing more, and it may be a while until it is gone
        while self._queue and link.unsent_bytes == 0:
            data = self._take()
            if data:  # not if everything was opted out of
                self._count_flush(len(data))
                link.send(data)
        unsent = link.unsent_bytes
        if unsent == 0:
            if self._owing:
                self._give_back()
        elif not self._is_watching_stall:
            self._is_watching_stall = True
            self._watch_stall(self._handed - unsent, is_warned=False)
        if self._unbounded - self._spared > self._limits.max_unsent_bytes // 2:
            return self._judge_unsent()
        if self._unbounded <= WAITING_BYTES:
            if self._consumed:
                link.consumed(self._consumed)
                self._consumed = 0
            if self._pushed:
                pushed, self._pushed = self._pushed, []
                for taken in pushed:
                    taken.set()
        return None

    def stall_due(self, message: StallDue) -> Slow | None:
        """See whether the link has taken something meanwhile.

        Returns:
            What is to be done about the client; None if it has, or if there is nothing to take.

        """
        unsent = self._link.unsent_bytes
        taken = self._handed - unsent
        if unsent == 0 or self._is_closed:
            self._is_watching_stall = False
            return None
        if taken != message.taken:
            self._watch_stall(taken, is_warned=False)
            return None
        if message.is_warned:
            return Slow.CLOSE
        self._watch_stall(taken, is_warned=True)
        return Slow.WARN

    def close(self) -> None:
        """Hand the link nothing more from now on: it is closed, or about to be."""
        self._is_closed = True

    def abandon(self, error: Disconnected) -> None:
        """Close, and forget everything; whoever waits for a pushed notification to be taken gets `error`."""
        self._is_closed = True
        self._queue.clear()
        self._owing.clear()
        pushed, self._pushed = self._pushed, []
        for taken in pushed:
            taken.fail(error)

    def _take(self) -> Any:
        """Take what is to be sent next: the first, and what can be joined to it."""
        queue = self._queue
        taken = [queue.popleft()]
        size = len(taken[0])
        while queue and size + len(queue[0]) <= FLUSH_BYTES:
            size += len(queue[0])
            taken.append(queue.popleft())
        if queue:
            self._unbounded = max(self._unbounded - size, 0)  # a guess: events may have been among it
        else:
            self._unbounded = self._spared = 0
            self._is_warned_of_unsent = False
        return taken[0] if len(taken) == 1 else self._join(taken)

    def _count_flush(self, size: int) -> None:
        self._handed += size
        counts = self._metrics.mine
        flushes = counts.flushes
        flushes.buckets[size.bit_length()] += 1
        flushes.total += size
        counts.deliveries += self._uncounted
        self._uncounted = 0

    def _give_back(self) -> None:
        """Give the threads the bytes back that the operating system has taken: all that was delivered."""
        for window in self._owing:
            post(window.thread, Progress(self._id, window.generation, window.taken))
            window.taken = 0
        self._owing.clear()

    def _watch_stall(self, taken: int, *, is_warned: bool) -> None:
        half_s = self._limits.stall_timeout_s / 2
        self._timers.tell_later(half_s, self._connection, StallDue(taken, is_warned))

    def _judge_unsent(self) -> Slow | None:
        # What a subscription left may have been taken in part: nobody is closed for more than there is.
        self._unbounded = min(self._unbounded, sum(map(len, self._queue)))
        if self.has_excess:
            return Slow.CLOSE
        is_half_way = self._unbounded - self._spared > self._limits.max_unsent_bytes // 2
        if not is_half_way or self._is_warned_of_unsent:
            return None
        self._is_warned_of_unsent = True  # until it has taken all
        return Slow.WARN
