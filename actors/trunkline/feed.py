"""A thread's feed: everything it tells the outside, in one order.

Numbers events, and encodes them if a client needs bytes (but for deltas, which are written when they are
sent); keeps them in the log, hands them to the listener and, those that are for everybody, to the router;
and keeps what is told to one connection (an answer) behind the events that were published before it. Where
the store has to keep an event before anybody may see it, the feed holds that event and all that follows
until the store says so.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from trunkline.actor import post
from trunkline.errors import RpcError
from trunkline.listener import Listener, Subscription
from trunkline.log import MAX_KEPT_BYTES, Chunk, Event, EventLog, Frames, Part
from trunkline.messages import (
    Broadcast,
    Deliver,
    FellBehind,
    Message,
    Ref,
    Refuse,
    Relay,
    Reply,
    Request,
    Subscribed,
    Warn,
)
from trunkline.protocol.deltas import DeltaHead, Deltas
from trunkline.protocol.envelope import encode_notification, now_ms
from trunkline.protocol.values import Encoded, measure
from trunkline.types import ConnectionId, Json, ThreadId

__all__ = ["Feed"]

RESERVED_SEQS = 100_000
"""Numbers that are reserved at a time. After a crash the count goes on behind the reservation."""


MAX_CHUNK_EVENTS = 1024
"""Deltas do not wait for the end of a batch once there are so many: subscribers go by whole chunks."""


class _Held(NamedTuple):
    """Something that is done once the events before it may be seen."""

    commit: int
    """The number of the commit that lets it out."""
    after_seq: int
    """Subscribers are sent the events up to here first."""
    do: Callable[[], object]
    give_up: Callable[[RpcError], object] | None
    """Done in its place if the commit fails."""


def _refuse(ref: Ref, message: Message, error: RpcError) -> None:
    """Tell `ref` an error in the place of an answer; what is no answer of the thread's own is told."""
    if isinstance(message, Reply):
        message = Refuse(message.request_id, error)
    elif isinstance(message, Subscribed):
        message = Refuse(message.reply.request_id, error)
    post(ref, message)


class Feed:
    """What a thread publishes, and to whom.

    Args:
        thread_id: whose feed it is.
        log: where the events are kept.
        router: told a `Broadcast` of what is for everybody.
        recent_frames: see `Listener`.
        epoch: names the count of the thread's events: a number means nothing under another epoch.
        reserve: asked to have kept that events up to the number given may exist.
        commit: asked to have everything stored that the thread has told the store so far, and then to
            see to it that `committed` is called, once for each time; None if nothing is stored.
        commit_took: told how many seconds each took.
        pace: called when deltas did not wait for the end of a batch: whoever publishes them may be too fast.

    """

    def __init__(
        self,
        *,
        thread_id: ThreadId,
        log: EventLog,
        router: Ref,
        recent_frames: deque[Frames],
        epoch: str,
        reserve: Callable[[int], None],
        commit: Callable[[], None] | None = None,
        commit_took: Callable[[float], None] = lambda _: None,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        self._thread_id = thread_id
        self._log = log
        self._router = router
        self._recent_frames = recent_frames
        self._commit = commit
        self._commit_took = commit_took
        self._reserve = reserve
        self._pace = pace
        # Numbers up to this one are taken, whatever happens to the process: they are never used again.
        self._reserved_seq = log.last_seq
        self._must_commit = False
        # Commits that were asked for and are not answered: the last event that each lets out. The newest
        # lets out whatever there is then.
        self._commits: deque[int] = deque()
        # When each was asked for.
        self._asked_at: deque[float] = deque()
        self._answered_commits = 0
        # Published and not yet in the log: they become one chunk at the next flush.
        self._pending: list[Part] = []
        # The next event's number. Counts the pending ones, as `log.last_seq` does not.
        self._next_seq = log.last_seq + 1
        # The last event that may be seen. Behind `log.last_seq` while the store is at work.
        self._visible_seq = log.last_seq
        # What waits for the events before it to become visible.
        self._held: deque[_Held] = deque()
        self.generation = 0
        """The number of the newest subscription."""
        self.epoch = epoch
        """Names the count of the thread's events."""
        self.listener: Listener | None = None
        """From the first subscription to the end of the last; None while there is none."""

    @property
    def last_seq(self) -> int:
        """The number of the newest event, published or pending."""
        return self._next_seq - 1

    @property
    def subscriber_count(self) -> int:
        """How many connections are subscribed."""
        return 0 if self.listener is None else len(self.listener)

    def is_subscribed(self, connection_id: ConnectionId) -> bool:
        """Whether a connection is a subscriber."""
        return self.listener is not None and connection_id in self.listener

    def answerer_ids(self) -> Iterator[ConnectionId]:
        """Return the connections that are subscribed and may answer prompts."""
        return (each.connection_id for each in self.listener or () if each.may_answer)

    @property
    def is_sent_as_bytes(self) -> bool:
        """Whether there are subscribers and none of them takes events as they are."""
        return self.listener is not None and not self.listener.in_process_count

    def is_far_ahead(self) -> bool:
        """Whether more is published than any subscriber can be sent for now."""
        return self.listener is not None and self.listener.is_far_behind()

    def notify(
        self,
        method: str,
        params: Json,
        *,
        to_everybody: bool = False,
        is_terminal: bool = False,
        resolves: int | None = None,
        shared: Encoded | None = None,
    ) -> None:
        """Publish a notification. `params` and what is in it must not be changed afterwards.

        Args:
            method: the notification.
            params: its params.
            to_everybody: whether every initialized connection is sent it.
            is_terminal: whether it must be kept before anybody is told.
            resolves: the prompt whose end it tells.
            shared: what in `params` is kept elsewhere as well. If that is large it is not kept twice.

        """
        seq = self._take_seq()
        at_ms = now_ms()
        listener = self.listener
        is_large = shared is not None and shared.size > MAX_KEPT_BYTES
        if listener is None or not listener.wire_count or is_large:
            payload, size, kept = None, measure(params), params
        else:
            payload = encode_notification(method, params, at_ms, seq)
            size = len(payload)
            kept = params if listener.in_process_count else None
        self._pending.append(
            Event(seq, method, payload, size, kept, at_ms, to_everybody, None, resolves, is_terminal)
        )

    def notify_deltas(self, head: DeltaHead, texts: Sequence[str], joined: str) -> None:
        """Publish a delta for each text.

        Args:
            head: of the item's deltas.
            texts: what is added to it, at least one.
            joined: the texts together.

        """
        if len(texts) == 1:
            self.notify(head.method, head.params(texts[0]))  # alone it is cheaper so
            return
        listener = self.listener
        is_for_wire = listener is not None and listener.wire_count > 0
        seq = self._take_seq(len(texts))
        deltas = Deltas(head, texts, now_ms(), seq, joined=joined, is_for_wire=is_for_wire)
        self._pending.append(deltas)
        if deltas.last_seq - self._log.last_seq >= MAX_CHUNK_EVENTS:
            self.flush()
            self._pace()

    def prompt(self, request_id: int, method: str, params: Json) -> Event:
        """Publish a prompt. `params` and what is in it must not be changed afterwards.

        Returns:
            The event, for those who subscribe while the prompt is open.

        """
        seq = self._take_seq()
        event = Event(
            seq, method, None, measure(params), params, now_ms(), prompt_id=request_id, is_terminal=True
        )
        self._pending.append(event)
        return event

    def reply(self, request: Request, result: Json) -> None:
        """Answer a request, behind everything published so far."""
        self.tell(request.reply_to, Reply(request.id, result))

    def refuse(self, request: Request, error: RpcError) -> None:
        """Answer a request with an error, behind everything published so far."""
        self.tell(request.reply_to, Refuse(request.id, error))

    def tell(self, ref: Ref, message: Message) -> None:
        """Tell `message` to `ref`, behind everything published so far."""
        self.flush()
        self._when_visible(partial(post, ref, message), partial(_refuse, ref, message))

    def hold(self) -> None:
        """Let out nothing more, not even an answer, until what the store has been told so far is kept."""
        if self._commit is None:
            return
        self.flush()
        self._ask_commit(self._log.last_seq)

    def newest_after(self, seq: int, max_bytes: int) -> list[Event]:
        """Return the newest of the events behind `seq` that are kept, as many as `max_bytes` hold."""
        self.flush()
        return self._log.newest_after(seq, max_bytes)

    def holds_after(self, seq: int, epoch: str | None) -> bool:
        """Whether every event behind `seq` is still kept, under the same count."""
        return epoch == self.epoch and self._log.first_seq - 1 <= seq <= self.last_seq

    def subscribe(
        self,
        connection_id: ConnectionId,
        connection: Ref,
        welcome: Callable[[int], Message],
        after_seq: int | None = None,
        *,
        is_in_process: bool = False,
        may_answer: bool = False,
    ) -> None:
        """Make a connection a subscriber of what is published from now on, or of all behind `after_seq`.

        Args:
            connection_id: whose subscription it is; it takes the place of an earlier one.
            connection: told the welcome, and the events after it.
            welcome: makes the message it is told first, from the number of the subscription.
            after_seq: see `holds_after`, which must be true of it.
            is_in_process: whether it takes events as they are, and has no use for bytes.
            may_answer: whether it is allowed to answer prompts.

        """
        self.flush()
        if self.listener is None:
            self.listener = Listener(self._thread_id, self._log, self._recent_frames)
        listener = self.listener
        self.generation += 1
        sent_seq = self._log.last_seq if after_seq is None else after_seq
        subscription = Subscription(
            connection_id,
            connection,
            self.generation,
            sent_seq,
            is_in_process=is_in_process,
            may_answer=may_answer,
        )
        listener.add(subscription)
        message = welcome(self.generation)

        def begin() -> None:
            post(connection, message)
            listener.begin(subscription)

        self._when_visible(begin, partial(_refuse, connection, message))
        self._deliver(self._visible_seq)

    def unsubscribe(self, connection_id: ConnectionId) -> Subscription | None:
        """End a connection's subscription; the listener goes with the last one.

        The connection is sent all up to here that it has not been sent, whatever its window: it was a
        subscriber until now, and a subscriber misses nothing.

        Returns:
            What it was; None if there was none.

        """
        self.flush()
        if self.listener is None:  # the flush may have found the last one too far behind
            return None
        subscription = self.listener.remove(connection_id)
        if subscription is not None:
            self._when_visible(partial(self._deliver_rest, subscription, self._log.last_seq))
        if not len(self.listener):
            self.listener = None
        return subscription

    def close(self, farewell: Callable[[], Message]) -> None:
        """End every subscription.

        Each connection is sent all that it has not been sent, and then, by the router, the farewell.
        """
        self.flush()
        subscriptions = () if self.listener is None else tuple(self.listener)
        self.listener = None
        for subscription in subscriptions:
            rest = partial(self._deliver_rest, subscription, self._log.last_seq)
            self._when_visible(rest)
            self.tell(self._router, Relay(subscription.connection, farewell()))

    def progress(self, connection_id: ConnectionId, generation: int, size: int) -> None:
        """Take back bytes from a connection whose socket has taken them, and send it what is next."""
        if self.listener is not None:
            self.listener.progress(connection_id, generation, size)

    def committed(self) -> None:
        """Let out what the oldest commit was asked for: it is stored."""
        seq = self._commits.popleft()
        self._commit_took(time.perf_counter() - self._asked_at.popleft())
        self._answered_commits += 1
        self._visible_seq = seq if self._commits else self._log.last_seq
        sent_seq = -1
        while self._held and self._held[0].commit <= self._answered_commits:
            held = self._held.popleft()
            if held.after_seq != sent_seq:
                sent_seq = held.after_seq
                self._deliver(sent_seq)
            held.do()
        self._deliver(self._visible_seq)

    def fail(self, error: RpcError) -> None:
        """Show nothing of what is held, as it cannot be stored. Who waits for an answer gets `error`."""
        given_up, self._held = self._held, deque()
        for held in given_up:
            if held.give_up is not None:
                held.give_up(error)

    def warn(self, text: str) -> None:
        """Send every subscriber a warning, whatever is held. It is no event, and has no number."""
        for subscription in self.listener or ():
            post(subscription.connection, Warn(self._thread_id, text))

    def flush(self) -> None:
        """Let out what is pending, and what subscribers have made room for."""
        if self._pending:
            self._append()
        self._deliver(self._visible_seq)

    def _take_seq(self, count: int = 1) -> int:
        """Take the numbers of `count` events, and return the first."""
        first_seq = self._next_seq
        self._next_seq = first_seq + count
        last_seq = self._next_seq - 1
        # The last number is kept back: after a crash it is that of the event which nobody can have seen.
        if last_seq >= self._reserved_seq:
            self._reserved_seq = last_seq + RESERVED_SEQS
            self._reserve(self._reserved_seq)
            self._must_commit = True  # before anybody sees a number out of this reservation
        return first_seq

    def _append(self) -> None:
        pending, self._pending = self._pending, []
        chunk = Chunk(pending)
        before_seq = self._log.last_seq
        self._log.append(chunk)
        events = [part for part in pending if isinstance(part, Event)]
        if self._commit is not None and (self._must_commit or any(event.is_terminal for event in events)):
            self._must_commit = False
            self._ask_commit(before_seq)
        elif not self._commits:
            self._visible_seq = chunk.last_seq
        for event in events:
            if event.to_everybody:
                broadcast = Broadcast.of(self._thread_id, event)
                self._when_visible(partial(post, self._router, broadcast))

    def _deliver_rest(self, subscription: Subscription, last_seq: int) -> None:
        """Send a subscription that has ended what is behind its cursor: the log's own chunks, shared."""
        if subscription.sent_seq < self._log.first_seq - 1:
            post(subscription.connection, FellBehind(self._thread_id))
            return
        chunks = tuple(
            chunk for chunk in self._log.chunks_after(subscription.sent_seq) if chunk.last_seq <= last_seq
        )
        if chunks:
            post(subscription.connection, Deliver.of(self._thread_id, chunks))

    def _ask_commit(self, before_seq: int) -> None:
        """Ask for a commit that lets out what is behind `before_seq`."""
        assert self._commit is not None
        if self._commits:
            self._commits[-1] = before_seq
        self._commits.append(before_seq)
        self._asked_at.append(time.perf_counter())
        self._commit()

    def _when_visible(
        self, do: Callable[[], object], give_up: Callable[[RpcError], object] | None = None
    ) -> None:
        if self._commits:
            commit = self._answered_commits + len(self._commits)
            self._held.append(_Held(commit, self._log.last_seq, do, give_up))
        else:
            do()

    def _deliver(self, last_seq: int) -> None:
        if self.listener is None:
            return
        for subscription in self.listener.deliver(last_seq):
            post(subscription.connection, FellBehind(self._thread_id))
        if not len(self.listener):
            self.listener = None
