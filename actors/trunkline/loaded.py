"""What every loaded thread is, whoever answers its turns: its subscribers, and its life.

An *engine* does the rest: the conversation's own (`trunkline.engine`), or the gateway's, which passes it
on to another app-server. `Engine` is all that is known of it here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from trunkline.actor import PooledActor, handles, post
from trunkline.context import Context
from trunkline.errors import RpcError
from trunkline.feed import Feed
from trunkline.log import EventLog
from trunkline.messages import (
    ConnectionClosed,
    InterruptTurn,
    Message,
    Progress,
    PromptAnswer,
    Ref,
    Refuse,
    Relay,
    Reply,
    Request,
    StillLoaded,
    Subscribed,
    Summary,
    TellSummary,
    ThreadChanged,
    ThreadIdle,
    ThreadStopped,
    Unload,
    Unsubscribed,
)
from trunkline.prompts import Prompts
from trunkline.protocol import errors
from trunkline.protocol.ids import uuid7
from trunkline.types import ConnectionId, JsonObject, ThreadId

__all__ = ["Engine", "LoadedThread"]


class Engine(Protocol):
    """What answers a thread's requests and publishes its events. Called by the thread's actor alone."""

    @property
    def status(self) -> JsonObject:
        """The thread's status, as it was published last."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether a turn is running."""
        ...

    def answer(self, request: Request) -> None:
        """Answer a request, now or later.

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

    def unload(self) -> None:
        """Say that the thread is not needed here any more."""
        ...

    def abandon(self) -> None:
        """Let go of everybody who waits, because the actor ends."""
        ...


class _UnloadDue(Message, frozen=True):
    """The unload delay has passed since the thread became idle for the `generation`th time."""

    generation: int


class _Finish(Message, frozen=True):
    """Everything the thread has published is out; it may stop."""


class LoadedThread(PooledActor):
    """One loaded thread.

    Args:
        context: what the server's actors share.
        router: the server's router.
        thread_id: which it is.

    """

    _engine: Engine

    def __init__(self, *, context: Context, router: Ref, thread_id: ThreadId) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._context = context
        self._router = router
        self._id = thread_id
        limits = context.config.limits
        log = EventLog(max_events=limits.log_events, max_bytes=limits.log_bytes)
        self._feed = Feed(thread_id=thread_id, log=log, router=router, epoch=uuid7(), reserve=_nothing)
        self._prompts = Prompts(thread_id, self._feed, context.prompt_ids, context.timers.clock)
        # What the router was told last.
        self._summary: Summary | None = None
        # Idle: nobody subscribed, nothing running or open. Each time it begins has a number.
        self._is_idle = False
        self._idle_generation = 0

    def on_batch_end(self) -> None:
        """Let out what the batch published, and see whether the thread is idle."""
        self._feed.flush()
        self._tell_summary()
        self._watch_idle()

    def on_stop(self) -> None:
        """Let go of everybody who waits."""
        self._end(has_failed=False)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of everybody who waits; the router tells the subscribers."""
        self._end(has_failed=True)

    def on_undelivered(self, message: Any) -> None:
        """Answer what came too late."""
        if isinstance(message, Request):
            post(message.reply_to, Refuse(message.id, errors.thread_closing(self._id)))

    # Requests

    @handles(Request)
    def _on_request(self, request: Request) -> None:
        is_plain = request.method.name == "thread/unsubscribe"
        try:
            if is_plain and not self._engine.is_answering(request.connection_id):
                self._unsubscribe(request)
            else:
                self._engine.answer(request)
        except RpcError as error:
            self._feed.refuse(request, error)

    def _unsubscribe(self, request: Request) -> None:
        subscription = self._feed.unsubscribe(request.connection_id)
        if subscription is not None:
            self._prompts.subscriber_left(request.connection_id, subscription.connection)
        status = "notSubscribed" if subscription is None else "unsubscribed"
        reply = Reply(request.id, {"status": status})
        unsubscribed = Unsubscribed(self._id, reply, self._feed.generation)
        self._feed.tell(self._router, Relay(request.reply_to, unsubscribed))

    def _subscribe(
        self, request: Request, snapshot: Callable[[], JsonObject], after_seq: int | None = None
    ) -> None:
        """Make the caller a subscriber, and answer with a snapshot or with the events behind `after_seq`.

        Subscription and answer are made at one point of the event order, so that nothing is missing
        between them and what follows, and nothing is in both.
        """
        self._is_idle = False
        self._prompts.subscriber_came(request.connection_id)

        def welcome(generation: int) -> Subscribed:
            result = {
                **snapshot(),
                "seq": self._feed.last_seq,
                "epoch": self._feed.epoch,
                "delivery": "snapshot" if after_seq is None else "events",
            }
            prompts = self._prompts.messages(are_sent=after_seq is None)
            return Subscribed(self._id, self.actor_ref, generation, Reply(request.id, result), prompts)

        self._feed.subscribe(request.connection_id, request.reply_to, welcome, after_seq)

    # Subscribers

    @handles(ConnectionClosed)
    def _on_connection_closed(self, message: ConnectionClosed) -> None:
        self._engine.connection_closed(message.connection_id)
        self._feed.unsubscribe(message.connection_id)
        self._prompts.connection_closed(message.connection_id)

    @handles(Progress)
    def _on_progress(self, message: Progress) -> None:
        self._feed.progress(message.connection_id, message.generation, message.size)

    @handles(PromptAnswer)
    def _on_prompt_answer(self, message: PromptAnswer) -> None:
        if self._prompts.answer(message, self._feed.subscriber_ids()):
            self._engine.prompt_settled()

    @handles(InterruptTurn)
    def _on_interrupt_turn(self, _message: InterruptTurn) -> None:
        self._engine.interrupt()

    # Life

    @handles(TellSummary)
    def _on_tell_summary(self, _message: TellSummary) -> None:
        self._summary = None  # told at the end of the batch

    def _tell_summary(self) -> None:
        summary = Summary(self._engine.status, self._engine.is_running)
        last = self._summary
        if last is None or (last.status, last.is_running) != (summary.status, summary.is_running):
            self._summary = summary
            post(self._router, ThreadChanged(self._id, summary))

    @property
    def _is_unused(self) -> bool:
        return not self._engine.is_running and not self._prompts and self._feed.listener is None

    def _watch_idle(self) -> None:
        delay_s = self._context.config.unload_after_s
        if self._is_unused and not self._is_idle and delay_s is not None:
            self._idle_generation += 1
            self._context.timers.tell_later(delay_s, self.actor_ref, _UnloadDue(self._idle_generation))
        self._is_idle = self._is_unused

    @handles(_UnloadDue)
    def _on_unload_due(self, message: _UnloadDue) -> None:
        if self._is_idle and message.generation == self._idle_generation:
            # The router decides: it may have passed on a request meanwhile.
            post(self._router, ThreadIdle(self._id))

    @handles(Unload)
    def _on_unload(self, _message: Unload) -> None:
        if not self._is_unused:
            self._is_idle = False  # or a turn that ends in this very batch would start no new delay
            post(self._router, StillLoaded(self._id))
            return
        self._engine.unload()
        self._finish()

    def _finish(self) -> None:
        """End every subscription behind what was published, and then the actor."""
        self._feed.close(lambda: Unsubscribed(self._id))
        self._feed.tell(self.actor_ref, _Finish())

    @handles(_Finish)
    def _on_finish(self, _message: _Finish) -> None:
        self.stop()

    def _end(self, *, has_failed: bool) -> None:
        self._prompts.abandon()
        self._engine.abandon()
        post(self._router, ThreadStopped(self._id, self.actor_ref, has_failed))


def _nothing(_seq: int) -> None:
    """Keep no numbers: nothing is stored here, and an epoch ends with its actor."""
