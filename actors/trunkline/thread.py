"""The Thread actor: one loaded thread and its subscribers.

It alone changes what belongs to the thread, so that subscriptions, the snapshot a resume returns and
the live events that follow are in one order. What is said in the thread is its engine's, delivery the
feed's; here is who is attached, and how the thread's life begins and ends.

Accepts  Request (of a method that names the thread), ConnectionClosed, Progress, PromptAnswer,
         PromptOverdue, Publish, RaisePrompt, PaceDue, Unload, InterruptTurn, TellSummary; and what its
         engine's `handlers` are for
Sends    to connections: Reply, Refuse, Subscribed, Deliver, FellBehind, PromptEnded, PromptMisfit
         to the router:  Broadcast, Relay (of Unsubscribed), ThreadChanged, ThreadIdle, StillLoaded,
                         ThreadStopped
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from trunkline.actor import PooledActor, handles, post
from trunkline.context import Context
from trunkline.engines import MakeEngine, Numbering
from trunkline.errors import RpcError
from trunkline.feed import Feed
from trunkline.log import EventLog
from trunkline.messages import (
    ConnectionClosed,
    HostEvent,
    InterruptTurn,
    Message,
    Progress,
    PromptAnswer,
    PromptOverdue,
    Publish,
    RaisePrompt,
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
from trunkline.pacing import PaceDue, Pacing
from trunkline.prompts import Prompts
from trunkline.protocol import errors
from trunkline.publications import Publications
from trunkline.types import JsonObject, ThreadId

__all__ = ["Thread"]


class _UnloadDue(Message, frozen=True):
    """The unload delay has passed since the thread was idle; it may have been used and idle again since."""


class _Finish(Message, frozen=True):
    """Everything the thread has published is out; it may stop."""


class Thread(PooledActor):
    """One loaded thread, and the `Seat` of its engine.

    Args:
        context: what the server's actors share.
        router: the server's router.
        thread_id: which it is.
        numbering: how its events are numbered.
        make_engine: makes what answers its requests.

    """

    def __init__(
        self,
        *,
        context: Context,
        router: Ref,
        thread_id: ThreadId,
        numbering: Numbering,
        make_engine: MakeEngine,
    ) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._context = context
        self._router = router
        self._id = thread_id
        limits = context.config.limits
        log = EventLog(max_events=limits.log_events, max_bytes=limits.log_bytes, last_seq=numbering.last_seq)
        log.restore(numbering.events)
        self.feed = Feed(
            thread_id=thread_id,
            log=log,
            router=router,
            recent_frames=context.recent_frames,
            epoch=numbering.epoch,
            reserve=lambda seq: self._engine.reserve(seq),
            commit=(lambda: self._engine.commit()) if numbering.is_kept else None,
            commit_took=context.metrics.commit_took,
            pace=self._pace,
        )
        """Where everything is published."""
        self.prompts = Prompts(
            thread_id, self.feed, context.prompt_ids, context.timers.clock, self._watch_prompt
        )
        """The open prompts."""
        self._publications = Publications(thread_id, self.feed, self.prompts)
        self._pacing = Pacing(self.feed, context.timers, self.actor_ref)
        self._engine = make_engine(self)
        self._engine_handlers = self._engine.handlers
        # What the router was told last.
        self._summary: Summary | None = None
        # Idle: nobody subscribed, nothing running or open; since when; whether a message will come to look.
        self._is_idle = False
        self._idle_since = 0.0
        self._is_look_due = False
        self._has_ended = False

    def on_start(self) -> None:
        """Let the engine begin."""
        try:
            self._engine.begin()
        except BaseException:
            self._end(has_failed=True)  # after a failure here nothing else is called
            raise

    def _handle_receive(self, message: Any) -> Any:
        # First of all what is the engine's: its events are nearly all that comes.
        handle = self._engine_handlers.get(type(message))
        return super()._handle_receive(message) if handle is None else handle(message)

    def on_batch_end(self) -> None:
        """Let out what the batch published, and see whether the thread is idle."""
        self._see_attended()
        self.feed.flush()
        self._tell_summary()
        self._pace()
        if not self._pacing.is_held:
            self._publications.confirm()
        self._watch_idle()

    def _pace(self) -> None:
        """Hold whoever publishes while subscribers are too far behind."""
        self._pacing.look()
        self._engine.pace()

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
        if isinstance(message, HostEvent):
            message.future.fail(errors.thread_closing(self._id))
            return
        request = message if isinstance(message, Request) else self._engine.undelivered(message)
        if request is not None:
            post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))

    # Requests

    @handles(Request)
    def answer(self, request: Request) -> None:
        """Answer a request, or have the engine do so."""
        is_leaving = request.method.name == "thread/unsubscribe"
        try:
            if is_leaving and not self._engine.is_answering(request.connection_id):
                self._unsubscribe(request)
            else:
                self._engine.answer(request)
        except RpcError as error:
            self.feed.refuse(request, error)
        except BaseException:
            # A bug of ours, which ends this thread. Whoever asked is told before, past the feed.
            post(request.reply_to, Refuse(request.id, errors.internal()))
            raise

    def _unsubscribe(self, request: Request) -> None:
        subscription = self.feed.unsubscribe(request.connection_id)
        if subscription is not None:
            self.prompts.subscriber_left(request.connection_id, subscription.connection)
        status = "notSubscribed" if subscription is None else "unsubscribed"
        reply = Reply(request.id, {"status": status})
        unsubscribed = Unsubscribed(self._id, reply, self.feed.generation)
        self.feed.tell(self._router, Relay(request.reply_to, unsubscribed))
        self._see_answerable()

    # From the host

    @handles(Publish)
    def _on_publish(self, message: Publish) -> None:
        self._publications.publish(message)

    @handles(RaisePrompt)
    def _on_raise_prompt(self, message: RaisePrompt) -> None:
        # The status may be another then, and is told first.
        prompt_id = self._publications.raise_prompt(message, self._engine.prompt_settled)
        if message.timeout_s is not None:
            self._refuse_later(prompt_id, message.timeout_s)

    @handles(PaceDue)
    def _on_pace_due(self, message: PaceDue) -> None:
        self._pacing.due(message)

    # For the engine: see `Seat`

    @property
    def is_held(self) -> bool:
        """Whether those who publish have to wait for subscribers."""
        return self._pacing.is_held

    def subscribe(
        self, request: Request, snapshot: Callable[[], JsonObject], after_seq: int | None = None
    ) -> None:
        """Make the caller a subscriber, and answer it."""
        self.be_used()
        self.prompts.subscriber_came(request.connection_id)

        def welcome(generation: int) -> Subscribed:
            result = {
                **snapshot(),
                # Not in the reference: the place of this answer among the thread's events.
                "seq": self.feed.last_seq,
                "epoch": self.feed.epoch,
                "delivery": "snapshot" if after_seq is None else "events",
            }
            prompts = self.prompts.messages(are_sent=after_seq is None)
            return Subscribed(self._id, self.actor_ref, generation, Reply(request.id, result), prompts)

        self.feed.subscribe(
            request.connection_id,
            request.reply_to,
            welcome,
            after_seq,
            is_in_process=request.is_in_process,
            may_answer=request.may_answer,
        )

    def be_used(self) -> None:
        """Have been idle for no time at all."""
        self._is_idle = False

    def stay(self) -> None:
        """Tell the router that the thread goes on; if it is idle, it has just begun to be."""
        self._is_idle = False
        post(self._router, StillLoaded(self._id))

    def finish(self) -> None:
        """End every subscription behind what was published, and then the actor."""
        self.feed.close(lambda: Unsubscribed(self._id))
        self.feed.tell(self.actor_ref, _Finish())

    def fail(self) -> None:
        """End the actor at once."""
        self._end(has_failed=True)
        self.stop()

    # Subscribers

    @handles(ConnectionClosed)
    def _on_connection_closed(self, message: ConnectionClosed) -> None:
        self._engine.connection_closed(message.connection_id)
        self.feed.unsubscribe(message.connection_id)
        self.prompts.connection_closed(message.connection_id)
        self._see_answerable()

    @handles(Progress)
    def _on_progress(self, message: Progress) -> None:
        self._pacing.taken(message.size)
        self.feed.progress(message.connection_id, message.generation, message.size)

    @handles(InterruptTurn)
    def _on_interrupt_turn(self, _message: InterruptTurn) -> None:
        self._engine.interrupt()

    # Prompts

    @handles(PromptAnswer)
    def _on_prompt_answer(self, message: PromptAnswer) -> None:
        if self.prompts.answer(message, self.feed.answerer_ids()):
            self._engine.prompt_settled()

    def _see_answerable(self) -> None:
        """Refuse what all who may answer have answered wrong: another may have left."""
        if self.prompts.refuse_misfits(self.feed.answerer_ids):
            self._engine.prompt_settled()

    def _watch_prompt(self, prompt_id: int) -> None:
        timeout_s = self._context.config.prompt_timeout_s
        if timeout_s is not None:
            self._refuse_later(prompt_id, timeout_s)

    def _refuse_later(self, prompt_id: int, timeout_s: float) -> None:
        self._context.timers.tell_later(timeout_s, self.actor_ref, PromptOverdue(prompt_id, timeout_s))

    @handles(PromptOverdue)
    def _on_prompt_overdue(self, message: PromptOverdue) -> None:
        if self.prompts.refuse(message.prompt_id, f"nobody answered within {message.timeout_s:g} s"):
            self._engine.prompt_settled()

    def _see_attended(self) -> None:
        """Refuse what nobody is there to answer, if that is what the server is set up to do."""
        is_alone = bool(self.prompts) and self.feed.listener is None
        if is_alone and self._context.config.prompt_without_subscriber == "refuse":
            self.prompts.refuse_all("nobody is attached")
            self._engine.prompt_settled()

    # Life

    @handles(TellSummary)
    def _on_tell_summary(self, _message: TellSummary) -> None:
        self._summary = None  # told at the end of the batch

    def _tell_summary(self) -> None:
        summary = Summary(self._engine.status, self._engine.is_running)
        last = self._summary
        if last is None or (last.status, last.is_running) != (summary.status, summary.is_running):
            self._summary = summary
            # Behind the events that say so: a server that stops goes by it, and closes the connections.
            self.feed.tell(self._router, ThreadChanged(self._id, summary))

    @property
    def _is_unused(self) -> bool:
        return not self._engine.is_busy and not self.prompts and self.feed.listener is None

    def _watch_idle(self) -> None:
        delay_s = self._engine.unload_after_s
        if self._is_unused and not self._is_idle and delay_s is not None:
            self._idle_since = self._context.timers.clock.monotonic()
            self._look_idle_in(delay_s)
        self._is_idle = self._is_unused

    def _look_idle_in(self, delay_s: float) -> None:
        # One at a time, however often the thread is used and idle again.
        if not self._is_look_due:
            self._is_look_due = True
            self._context.timers.tell_later(delay_s, self.actor_ref, _UnloadDue())

    @handles(_UnloadDue)
    def _on_unload_due(self, _message: _UnloadDue) -> None:
        self._is_look_due = False
        delay_s = self._engine.unload_after_s
        if not self._is_idle or delay_s is None:
            return
        left_s = self._idle_since + delay_s - self._context.timers.clock.monotonic()
        if left_s > 0:
            self._look_idle_in(left_s)
        else:
            # The router decides: it may have passed on a request meanwhile.
            post(self._router, ThreadIdle(self._id))

    @handles(Unload)
    def _on_unload(self, _message: Unload) -> None:
        if not self._is_unused:
            self.stay()
            return
        self._engine.unload()
        self.finish()

    @handles(_Finish)
    def _on_finish(self, _message: _Finish) -> None:
        self.stop()

    def _end(self, *, has_failed: bool) -> None:
        """Let go of everybody who waits, and tell the router. What comes after the first time is nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        self._publications.confirm()
        self._engine.abandon(has_failed=has_failed)
        self.prompts.abandon()
        post(self._router, ThreadStopped(self._id, self.actor_ref, has_failed))
