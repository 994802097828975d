"""A thread's listener: the delivery of its events to its subscribers.

A subscription is a cursor into the thread's log. It is sent what is behind the cursor as long as no
more than a window of bytes is on its way to the socket; the connection gives them back as the
operating system takes them. So a subscriber that does not read holds up nothing and costs no memory
per event: its cursor stays where it is. The listener knows nothing of turns or requests.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator

from trunkline.actor import post
from trunkline.log import Chunk, EventLog, Frames
from trunkline.messages import Deliver, Ref, Warn
from trunkline.types import ConnectionId, ThreadId

__all__ = ["ACKNOWLEDGE_BYTES", "WINDOW_BYTES", "Listener", "Subscription"]

WINDOW_BYTES = 256 * 1024
"""A subscription is sent no more while this much is under way: enough to keep a socket busy, little
enough that thousands of stalled ones are cheap (the bytes are shared in any case)."""

ACKNOWLEDGE_BYTES = WINDOW_BYTES // 4
"""A connection gives bytes back when it has this many. Less than the window, so that a full window is
always given back."""


_TOO_SLOW = "this connection reads too slowly and will be closed if it does not catch up"


class Subscription:
    """One connection's place in the thread."""

    __slots__ = (
        "connection",
        "connection_id",
        "generation",
        "has_begun",
        "is_in_process",
        "is_warned",
        "may_answer",
        "sent_seq",
        "under_way",
    )

    def __init__(
        self,
        connection_id: ConnectionId,
        connection: Ref,
        generation: int,
        sent_seq: int,
        *,
        is_in_process: bool = False,
        may_answer: bool = False,
    ) -> None:
        self.connection_id = connection_id
        self.connection = connection
        self.generation = generation
        self.sent_seq = sent_seq
        """The cursor: the last event that was sent to the connection."""
        self.under_way = 0
        """Bytes sent to the connection that it has not given back."""
        self.has_begun = False
        """Whether the connection has been told of it; it is sent nothing before that."""
        self.is_warned = False
        """Whether it was told that it is half a log behind, and has not caught up since."""
        self.is_in_process = is_in_process
        """Whether its client is in this process and takes events as they are."""
        self.may_answer = may_answer
        """Whether its client is allowed to answer prompts."""


class Listener:
    """The subscriptions of a thread.

    Args:
        thread_id: the thread's id.
        log: where its events are.
        recent_frames: holds the framed bytes of what was sent out last, for subscribers that are a little
            behind the others. The server's threads share it.

    """

    def __init__(self, thread_id: ThreadId, log: EventLog, recent_frames: deque[Frames]) -> None:
        self._thread_id = thread_id
        self._log = log
        self._recent_frames = recent_frames
        self._subscriptions: dict[ConnectionId, Subscription] = {}
        # Up to where everybody was looked at, and the first event that the log had then. While both are
        # the same only those have to be looked at again that have begun or have made room since: who
        # comes to a thread or leaves it must not cost a look at everybody there.
        self._looked_up_to = (-1, -1)
        self._ready: dict[ConnectionId, Subscription] = {}
        self.wire_count = 0
        """Subscriptions that are sent bytes."""
        self.in_process_count = 0
        """Subscriptions that take events as they are."""

    def __len__(self) -> int:
        return len(self._subscriptions)

    def __contains__(self, connection_id: ConnectionId) -> bool:
        return connection_id in self._subscriptions

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._subscriptions.values())

    def get(self, connection_id: ConnectionId) -> Subscription | None:
        """Return a connection's subscription."""
        return self._subscriptions.get(connection_id)

    def add(self, subscription: Subscription) -> None:
        """Begin a subscription, in the place of the one the connection may have."""
        self.remove(subscription.connection_id)
        self._count(subscription, 1)
        self._subscriptions[subscription.connection_id] = subscription

    def remove(self, connection_id: ConnectionId) -> Subscription | None:
        """End a subscription.

        Returns:
            What it was; None if there was none.

        """
        subscription = self._subscriptions.pop(connection_id, None)
        if subscription is not None:
            self._count(subscription, -1)
            self._ready.pop(connection_id, None)
        return subscription

    def begin(self, subscription: Subscription) -> None:
        """Let a subscription be sent events from now on: its connection has been told of it."""
        subscription.has_begun = True
        if self._subscriptions.get(subscription.connection_id) is subscription:
            self._ready[subscription.connection_id] = subscription

    def progress(self, connection_id: ConnectionId, generation: int, size: int) -> None:
        """Take back bytes. Those of an earlier subscription of the connection are of no account."""
        subscription = self._subscriptions.get(connection_id)
        if subscription is not None and subscription.generation == generation:
            subscription.under_way -= size
            self._ready[connection_id] = subscription

    def deliver(self, last_seq: int) -> list[Subscription]:
        """Send each subscriber what is behind its cursor, up to `last_seq`, as far as its window allows.

        One that is half a log behind is warned, once until it has caught up.

        Returns:
            Those whose cursor has fallen out of the log; they have been removed.

        """
        oldest = self._log.first_seq - 1
        by_cursor: dict[int, Deliver] = {}
        lost: list[Subscription] = []
        for subscription in self._to_look_at(last_seq, oldest):
            if not subscription.has_begun:
                continue
            while subscription.sent_seq < last_seq and subscription.under_way < WINDOW_BYTES:
                if subscription.sent_seq < oldest:
                    break
                cursor = subscription.sent_seq
                deliver = by_cursor.get(cursor)
                if deliver is None:
                    deliver = by_cursor[cursor] = self._cut(cursor, last_seq)
                if not post(subscription.connection, deliver):
                    break  # its ConnectionClosed is on the way
                subscription.under_way += deliver.size
                subscription.sent_seq = deliver.chunks[-1].last_seq
            if subscription.sent_seq < oldest:
                lost.append(subscription)
            elif subscription.sent_seq < last_seq:
                self._warn_if_far_behind(subscription)
            else:
                subscription.is_warned = False
        for subscription in lost:
            self.remove(subscription.connection_id)
        return lost

    def is_far_behind(self) -> bool:
        """Whether even the subscriber that is furthest on has half a log to go. False without any."""
        is_far = self._log.is_half_full_after
        # Ends at the first that keeps up: as a rule, the first there is.
        return bool(self._subscriptions) and all(is_far(each.sent_seq) for each in self)

    def _to_look_at(self, last_seq: int, oldest: int) -> Collection[Subscription]:
        """Return those that may have to be sent something, or have fallen out of the log."""
        ready, self._ready = self._ready, {}
        looked_up_to, self._looked_up_to = self._looked_up_to, (last_seq, oldest)
        return ready.values() if looked_up_to == self._looked_up_to else self._subscriptions.values()

    def _count(self, subscription: Subscription, change: int) -> None:
        if subscription.is_in_process:
            self.in_process_count += change
        else:
            self.wire_count += change

    def _warn_if_far_behind(self, subscription: Subscription) -> None:
        if not subscription.is_warned and self._log.is_half_full_after(subscription.sent_seq):
            subscription.is_warned = True
            post(subscription.connection, Warn(self._thread_id, _TOO_SLOW))

    def _cut(self, cursor: int, last_seq: int) -> Deliver:
        """Take a window's worth of chunks behind `cursor`."""
        chunks: list[Chunk] = []
        size = 0
        for chunk in self._log.chunks_after(cursor):
            if chunk.last_seq > last_seq or (chunks and size + chunk.size > WINDOW_BYTES):
                break
            chunks.append(chunk)
            size += chunk.size
        deliver = Deliver.of(self._thread_id, chunks)
        # A large chunk is one of large events, which cost little to frame again.
        self._recent_frames.extend([chunk.frames() for chunk in chunks if chunk.size <= WINDOW_BYTES])
        return deliver
