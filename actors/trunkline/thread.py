"""The Thread actor: one conversation and its subscribers.

It alone changes what belongs to the thread, so that subscriptions, the snapshot a resume returns and
the live events that follow are in one order. The conversation itself is the engine's, delivery the
feed's; here is who is attached, and how the thread's life begins and ends.

Accepts  Request (of a method that names the thread), ConnectionClosed, Progress, PromptAnswer,
         Unload, InterruptTurn, TellSummary, Committed, and what its running turn tells (agents.events)
Sends    to connections: Reply, Refuse, Subscribed, Deliver, FellBehind, PromptEnded
         to the router:  Broadcast, Relay (of Unsubscribed), ThreadChanged, ThreadIdle, StillLoaded,
                         ThreadStopped
         to the store:   SaveThread, SaveTurn, SaveItem, Commit
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar

from trunkline.actor import PooledActor, handles, post
from trunkline.agents.events import Answer, ItemCompleted, ItemDelta, ItemStarted, PromptRaised, TurnEnded
from trunkline.context import Context
from trunkline.engine import Engine
from trunkline.errors import RpcError
from trunkline.feed import Feed
from trunkline.log import EventLog
from trunkline.messages import (
    ConnectionClosed,
    Fork,
    Forked,
    InterruptOverdue,
    InterruptTurn,
    Message,
    Progress,
    PromptAnswer,
    PromptOverdue,
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
    TurnOverdue,
    Unload,
    Unsubscribed,
)
from trunkline.prompts import Prompts
from trunkline.protocol import errors
from trunkline.protocol.params import (
    ForkParams,
    ItemsListParams,
    NameSetParams,
    RevertParams,
    ThreadReadParams,
    ThreadResumeParams,
    TurnInterruptParams,
    TurnsListParams,
    TurnStartParams,
    TurnSteerParams,
)
from trunkline.store.base import Commit, Committed, ReleaseThread, StoredThread, StoreFailed, ThreadRecord
from trunkline.types import JsonObject, ThreadId, TurnId

__all__ = ["Origin", "Thread"]

logger = logging.getLogger(__name__)

PACE_S = 2.0
"""Seconds for which an agent is held for subscribers that take nothing at all."""


class Origin(Enum):
    """Why there is an actor for a thread now."""

    NEW = "new"
    """It has just been started or forked."""
    RESUMED = "resumed"
    """It was stored, and somebody wants to use it."""
    ERRAND = "errand"
    """It was stored, and one request needs it for a moment: nobody is told that it is loaded."""


class _UnloadDue(Message, frozen=True):
    """The unload delay has passed since the thread became idle for the `generation`th time."""

    generation: int


class _PaceDue(Message, frozen=True):
    """The agent has been held for `PACE_S`; `taken` is what subscribers had taken when that began."""

    taken: int


class _Finish(Message, frozen=True):
    """Everything the thread has published is out; it may stop."""


class Thread(PooledActor):
    """One loaded thread.

    Args:
        context: what the server's actors share.
        router: the server's router.
        record: what the thread is.
        stored: what was kept of it; None if nothing was.
        origin: why there is an actor for it now.

    """

    def __init__(
        self,
        *,
        context: Context,
        router: Ref,
        record: ThreadRecord,
        stored: StoredThread | None,
        origin: Origin,
    ) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._context = context
        self._router = router
        self._id: ThreadId = record.id
        limits = context.config.limits
        log = EventLog(max_events=limits.log_events, max_bytes=limits.log_bytes, last_seq=record.seq_bound)
        is_kept = context.store_is_durable and not record.is_ephemeral
        self._feed = Feed(
            thread_id=record.id,
            log=log,
            router=router,
            epoch=record.epoch,
            reserve=lambda seq: self._engine.keep_seq_bound(seq),
            commit=self._commit if is_kept else None,
        )
        self._prompts = Prompts(record.id, self._feed, context.prompt_ids, context.timers.clock)
        self._engine = Engine(
            context=context,
            thread=self.actor_ref,
            inbox_depth=self._inbox.messages.__len__,
            feed=self._feed,
            prompts=self._prompts,
            record=record,
            stored=stored,
            is_new=origin is Origin.NEW,
        )
        # Loaded for one request that needs nobody to know: it ends with that, unless it is used.
        self._is_errand = origin is Origin.ERRAND
        # Requests that wait for the running turn to end, and what they do then.
        self._when_quiet: list[tuple[Request, Callable[[], None]]] = []
        # What the router was told last.
        self._summary: Summary | None = None
        # Idle: nobody subscribed, nothing running or open. Each time it begins has a number.
        self._is_idle = False
        self._idle_generation = 0
        # Bytes that subscribers have taken; whether the agent is held until they take more; whether
        # they took nothing for so long that it is no longer held for them.
        self._taken = 0
        self._is_paced = False
        self._has_stalled = False
        self._has_ended = False

    def on_start(self) -> None:
        """Tell everybody that the thread is loaded, if they knew it as one that is not."""
        try:
            if not self._is_errand:
                self._engine.publish_status()
        except BaseException:
            self._end(has_failed=True)  # after a failure here nothing else is called
            raise

    def on_batch_end(self) -> None:
        """Let out what the batch published, and see whether the agent has to wait or the thread is idle."""
        self._see_attended()
        self._feed.flush()
        self._tell_summary()
        self._pace()
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
        request = message.request if isinstance(message, Forked) else message
        if isinstance(request, Request):
            post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))
        elif isinstance(message, PromptRaised):
            message.reply(Answer("dropped"))

    # Requests

    @handles(Request)
    def _on_request(self, request: Request) -> None:
        try:
            self._answers[request.method.name](self, request, request.params)
        except RpcError as error:
            self._feed.refuse(request, error)
        except BaseException:
            # A bug of ours, which ends this thread. Whoever asked is told before, past the feed.
            post(request.reply_to, Refuse(request.id, errors.internal()))
            raise

    def _start(self, request: Request, _params: object) -> None:
        self._subscribe(request, with_turns=False)
        params = {"thread": self._thread_json()}
        self._feed.notify("thread/started", params, to_everybody=True)

    def _resume(self, request: Request, params: ThreadResumeParams) -> None:
        self._be_used()
        if params.after_seq is not None and self._feed.holds_after(params.after_seq, params.epoch):
            self._subscribe(request, with_turns=False, after_seq=params.after_seq)
        else:
            self._subscribe(request, with_turns=not params.exclude_turns)

    @handles(Forked)
    def _on_forked(self, message: Forked) -> None:
        """Answer as the fork that this thread is."""
        self._engine.save_all()
        params = message.request.params
        with_turns = not (isinstance(params, ForkParams) and params.exclude_turns)
        self._subscribe(message.request, with_turns=with_turns)
        started = {"thread": self._thread_json()}
        self._feed.notify("thread/started", started, to_everybody=True)

    def _fork(self, request: Request, params: ForkParams) -> None:
        if self._engine.record.is_ephemeral:
            raise errors.no_rollout(self._id)
        post(self._router, Fork(request, self._engine.fork_copy(params)))

    def _revert(self, request: Request, params: RevertParams) -> None:
        def revert() -> None:
            self._engine.revert(TurnId(params.before_turn_id))
            self._feed.hold()
            if self._feed.is_subscribed(request.connection_id):
                # A new subscription would begin here, and skip what this one has not been sent yet.
                self._feed.reply(request, self._joined_json(with_turns=False))
            else:
                self._subscribe(request, with_turns=False)
            self._feed.notify("thread/reverted", {"threadId": self._id}, to_everybody=True)

        self._do_when_quiet(request, revert)

    def _archive(self, request: Request, _params: object) -> None:
        self._leave(request, "thread/archived", lambda: self._engine.set_archived(is_archived=True))

    def _delete(self, request: Request, _params: object) -> None:
        self._leave(request, "thread/deleted", self._engine.delete)

    def _unarchive(self, request: Request, _params: object) -> None:
        if not self._engine.record.is_archived:
            if self._is_errand:  # nobody knows that it is loaded
                raise errors.not_archived(self._id)
            raise errors.active_writer(self._id)
        self._engine.set_archived(is_archived=False)
        self._feed.hold()
        self._feed.reply(request, {"thread": self._thread_json()})
        self._feed.notify("thread/unarchived", {"threadId": self._id}, to_everybody=True)

    def _leave(self, request: Request, method: str, keep: Callable[[], None]) -> None:
        """End the thread's life here, for everybody: its turn, its subscriptions, the actor."""

        def leave() -> None:
            keep()
            self._feed.hold()
            self._publish_not_loaded()
            self._feed.reply(request, {})
            self._feed.notify(method, {"threadId": self._id}, to_everybody=True)
            self._feed.close(lambda: Unsubscribed(self._id))
            self._feed.tell(self.actor_ref, _Finish())

        if self._engine.record.is_ephemeral:
            post(self._router, StillLoaded(self._id))
            raise errors.no_rollout(self._id)
        self._do_when_quiet(request, leave)

    def _do_when_quiet(self, request: Request, do: Callable[[], None]) -> None:
        """Do it once no turn is running; one that is gets interrupted."""

        def guarded() -> None:
            try:
                do()
            except RpcError as error:
                self._feed.refuse(request, error)

        self._when_quiet.append((request, guarded))
        self._engine.interrupt()
        self._see_quiet()

    def _see_quiet(self) -> None:
        while self._when_quiet and not self._engine.is_running:
            _, do = self._when_quiet.pop(0)
            do()

    def _list_turns(self, request: Request, params: TurnsListParams) -> None:
        self._feed.reply(request, self._engine.turns_page(params))

    def _list_items(self, request: Request, params: ItemsListParams) -> None:
        self._feed.reply(request, self._engine.items_page(params))

    def _unsubscribe(self, request: Request, _params: object) -> None:
        subscription = self._feed.unsubscribe(request.connection_id)
        if subscription is not None:
            self._prompts.subscriber_left(request.connection_id, subscription.connection)
        status = "notSubscribed" if subscription is None else "unsubscribed"
        reply = Reply(request.id, {"status": status})
        unsubscribed = Unsubscribed(self._id, reply, self._feed.generation)
        self._feed.tell(self._router, Relay(request.reply_to, unsubscribed))

    def _read(self, request: Request, params: ThreadReadParams) -> None:
        self._feed.reply(request, self._snapshot_json(with_turns=bool(params.include_turns)))

    def _set_name(self, request: Request, params: NameSetParams) -> None:
        self._engine.set_name(request, params)

    def _start_turn(self, request: Request, params: TurnStartParams) -> None:
        self._be_used()
        self._engine.start_turn(request, params)

    def _steer_turn(self, request: Request, params: TurnSteerParams) -> None:
        self._engine.steer_turn(request, params)

    def _interrupt_turn(self, request: Request, params: TurnInterruptParams) -> None:
        self._engine.interrupt_turn(request, params)

    _answers: ClassVar[dict[str, Callable[[Thread, Request, Any], None]]] = {
        "thread/start": _start,
        "thread/resume": _resume,
        "thread/fork": _fork,
        "thread/revert": _revert,
        "thread/archive": _archive,
        "thread/unarchive": _unarchive,
        "thread/delete": _delete,
        "thread/turns/list": _list_turns,
        "thread/items/list": _list_items,
        "thread/unsubscribe": _unsubscribe,
        "thread/read": _read,
        "thread/name/set": _set_name,
        "turn/start": _start_turn,
        "turn/steer": _steer_turn,
        "turn/interrupt": _interrupt_turn,
    }

    def _subscribe(self, request: Request, *, with_turns: bool, after_seq: int | None = None) -> None:
        """Make the caller a subscriber, and answer with a snapshot or with the events behind `after_seq`.

        Subscription and answer are made at one point of the event order, so that nothing is missing
        between them and what follows, and nothing is in both.
        """
        self._is_idle = False
        self._prompts.subscriber_came(request.connection_id)

        def welcome(generation: int) -> Subscribed:
            delivery = "snapshot" if after_seq is None else "events"
            reply = Reply(request.id, {**self._joined_json(with_turns=with_turns), "delivery": delivery})
            prompts = self._prompts.messages(are_sent=after_seq is None)
            return Subscribed(self._id, self.actor_ref, generation, reply, prompts)

        self._feed.subscribe(request.connection_id, request.reply_to, welcome, after_seq)

    def _joined_json(self, *, with_turns: bool) -> JsonObject:
        return {
            **self._snapshot_json(with_turns=with_turns),
            **self._engine.settings_json(),
            **self._engine.cursors_json(),
            # Not in the reference: the place of this answer among the thread's events.
            "seq": self._feed.last_seq,
            "epoch": self._feed.epoch,
        }

    def _snapshot_json(self, *, with_turns: bool) -> JsonObject:
        if not with_turns:
            return {"thread": self._thread_json()}
        turns, left_out = self._engine.snapshot()
        return {"thread": self._thread_json(turns), **left_out}

    def _thread_json(self, turns: list[JsonObject] | None = None) -> JsonObject:
        thread = self._engine.thread_json(turns)
        # Not in the reference: how many connections are subscribed.
        return {**thread, "subscriberCount": self._feed.subscriber_count}

    # Subscribers

    @handles(ConnectionClosed)
    def _on_connection_closed(self, message: ConnectionClosed) -> None:
        self._feed.unsubscribe(message.connection_id)
        self._prompts.connection_closed(message.connection_id)

    @handles(Progress)
    def _on_progress(self, message: Progress) -> None:
        self._taken += message.size
        self._has_stalled = False
        self._feed.progress(message.connection_id, message.generation, message.size)

    @handles(PromptAnswer)
    def _on_prompt_answer(self, message: PromptAnswer) -> None:
        if self._prompts.answer(message, self._feed.subscriber_ids()):
            self._engine.publish_status()

    @handles(PromptOverdue)
    def _on_prompt_overdue(self, message: PromptOverdue) -> None:
        timeout_s = self._context.config.prompt_timeout_s
        if self._prompts.refuse(message.prompt_id, f"nobody answered within {timeout_s:g} s"):
            self._engine.publish_status()

    def _see_attended(self) -> None:
        """Refuse what nobody is there to answer, if that is what the server is set up to do."""
        is_alone = bool(self._prompts) and self._feed.listener is None
        if is_alone and self._context.config.prompt_without_subscriber == "refuse":
            self._prompts.refuse_all("nobody is attached")
            self._engine.publish_status()

    # The running turn

    @handles(ItemStarted)
    def _on_item_started(self, event: ItemStarted) -> None:
        self._engine.on_item_started(event)

    @handles(ItemDelta)
    def _on_item_delta(self, event: ItemDelta) -> None:
        self._engine.on_item_delta(event)

    @handles(ItemCompleted)
    def _on_item_completed(self, event: ItemCompleted) -> None:
        self._engine.on_item_completed(event)

    @handles(PromptRaised)
    def _on_prompt_raised(self, event: PromptRaised) -> None:
        self._engine.on_prompt_raised(event)

    @handles(TurnEnded)
    def _on_turn_ended(self, event: TurnEnded) -> None:
        self._engine.on_turn_ended(event)
        self._see_quiet()

    @handles(InterruptTurn)
    def _on_interrupt_turn(self, _message: InterruptTurn) -> None:
        self._engine.interrupt()

    @handles(InterruptOverdue)
    def _on_interrupt_overdue(self, message: InterruptOverdue) -> None:
        self._engine.on_interrupt_overdue(message)
        self._see_quiet()

    @handles(TurnOverdue)
    def _on_turn_overdue(self, message: TurnOverdue) -> None:
        self._engine.on_turn_overdue(message)

    def _pace(self) -> None:
        """Hold the agent while even the fastest subscriber is half a log behind, if it takes anything."""
        gate = self._engine.gate
        must_wait = gate is not None and not self._has_stalled and self._feed.is_far_ahead()
        if must_wait and not self._is_paced:
            self._context.timers.tell_later(PACE_S, self.actor_ref, _PaceDue(self._taken))
        self._is_paced = must_wait
        if gate is not None:
            gate.set_held(must_wait)

    @handles(_PaceDue)
    def _on_pace_due(self, message: _PaceDue) -> None:
        if not self._is_paced:
            return
        if message.taken == self._taken:
            self._has_stalled = True  # until somebody takes something
        else:
            self._context.timers.tell_later(PACE_S, self.actor_ref, _PaceDue(self._taken))

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

    def _be_used(self) -> None:
        """Be a loaded thread like any other from now on, and idle for no time at all."""
        self._is_errand = False
        self._is_idle = False
        self._engine.publish_status()

    def _watch_idle(self) -> None:
        delay_s = 0.0 if self._is_errand else self._context.config.unload_after_s
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
        if not self._is_errand:
            self._publish_not_loaded()
            self._feed.notify("thread/closed", {"threadId": self._id}, to_everybody=True)
        self._feed.tell(self.actor_ref, _Finish())

    def _publish_not_loaded(self) -> None:
        if not self._is_errand:
            params = {"threadId": self._id, "status": {"type": "notLoaded"}}
            self._feed.notify("thread/status/changed", params, to_everybody=True)

    @handles(_Finish)
    def _on_finish(self, _message: _Finish) -> None:
        self.stop()

    def _commit(self) -> None:
        post(self._context.store, Commit(self._id, self.actor_ref))

    @handles(StoreFailed)
    def _on_store_failed(self, message: StoreFailed) -> None:
        """End: what has been published cannot be kept, and so nobody may be told of it."""
        if self._has_ended:
            return  # an answer to a later commit
        logger.error("x thread %s: it cannot be kept, and ends: %s", self._id, message.error)
        self._feed.warn(f"the thread cannot be stored, and ends: {message.error}; resume it for what is kept")
        self._feed.fail(errors.not_kept(message.error))
        self._end(has_failed=True)
        self.stop()

    @handles(Committed)
    def _on_committed(self, _message: Committed) -> None:
        self._feed.committed()

    def _end(self, *, has_failed: bool) -> None:
        """Let go of everybody who waits, and tell the router. What comes after the first time is nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        if not has_failed:
            self._engine.keep_seq_bound(self._feed.last_seq)
        self._prompts.abandon()
        self._engine.abandon()
        for request, _ in self._when_quiet:
            post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))
        post(self._context.store, ReleaseThread(self._id))
        post(self._router, ThreadStopped(self._id, self.actor_ref, has_failed))
