"""The engine of a thread whose turns an agent of this process runs: the requests, and the thread's life.

Turns and what they leave behind are the conversation's (`trunkline.local.conversation_engine`).

A plain object that belongs to one Thread actor and is called by it alone.

Takes    Forked, from the router; InterruptOverdue, TurnOverdue, from itself; Committed, StoreFailed,
         TurnsListed, Loaded, from the store; and what its running turn tells (agents.events)
Sends    to the router: Fork, ReadOlder
         to the store:  SaveThread, SaveTurn, SaveItem, DropTurns, DeleteThread, Commit, ReleaseThread,
                        ListTurns, LoadThread
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, ClassVar

from trunkline.actor import post
from trunkline.agents.events import Answer, ItemCompleted, ItemDelta, ItemStarted, PromptRaised, TurnEnded
from trunkline.context import Context
from trunkline.engines import ENDS_THREAD, Handlers, Seat
from trunkline.errors import RpcError
from trunkline.local.conversation_engine import ConversationEngine
from trunkline.local.records import ignored_settings
from trunkline.local.workshop import Workshop
from trunkline.messages import (
    Fork,
    Forked,
    InterruptOverdue,
    ReadOlder,
    Ref,
    Refuse,
    Request,
    TurnOverdue,
    Warn,
)
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
from trunkline.store.base import (
    Commit,
    Committed,
    ItemQuery,
    Loaded,
    ReleaseThread,
    StoredThread,
    StoreFailed,
    ThreadRecord,
    TurnQuery,
    TurnsListed,
)
from trunkline.types import ConnectionId, JsonObject, TurnId

__all__ = ["LocalEngine", "Origin"]

logger = logging.getLogger(__name__)


class Origin(Enum):
    """Why there is an actor for a thread now."""

    NEW = "new"
    """It has just been started or forked."""
    RESUMED = "resumed"
    """It was stored, and somebody wants to use it."""
    ERRAND = "errand"
    """It was stored, and one request needs it for a moment: nobody is told that it is loaded."""


class LocalEngine:
    """What answers the requests of one thread.

    Args:
        seat: the thread's actor.
        context: what the server's actors share.
        workshop: the agents and the store.
        router: the server's router.
        record: what the thread is.
        stored: what was kept of it; None if nothing was.
        origin: why there is an actor for it now.

    """

    def __init__(
        self,
        *,
        seat: Seat,
        context: Context,
        workshop: Workshop,
        router: Ref,
        record: ThreadRecord,
        stored: StoredThread | None,
        origin: Origin,
    ) -> None:
        self._seat = seat
        self._context = context
        self._store = workshop.store
        self._router = router
        self._id = record.id
        self._feed = seat.feed
        # The last event that is already in the store, if it is kept at all.
        self._loaded_seq = record.seq_bound
        self._conversation = ConversationEngine(
            context=context,
            workshop=workshop,
            thread=seat.actor_ref,
            inbox_depth=lambda: seat.inbox_depth,
            feed=seat.feed,
            prompts=seat.prompts,
            record=record,
            stored=stored,
            is_new=origin is Origin.NEW,
        )
        # Loaded for one request that needs nobody to know: it ends with that, unless it is used.
        self._is_errand = origin is Origin.ERRAND
        # Requests that wait for the running turn to end, and what they do then.
        self._when_quiet: list[tuple[Request, Callable[[], None]]] = []
        # Requests that wait for a revert to be done; None while there is none.
        self._waiting: list[Request] | None = None
        # Reverts whose connection they will make a subscriber. One that closes is taken out: what it asked
        # for is done all the same.
        self._subscribing: list[Request] = []
        # What would overtake a revert that has not begun: its connection's unsubscribing, and what follows.
        self._deferred: list[Request] = []
        self._has_ended = False

    # What a thread sees of any engine

    @property
    def handlers(self) -> Handlers:
        """What only it knows."""
        conversation = self._conversation
        return {
            ItemDelta: conversation.on_item_delta,
            ItemStarted: conversation.on_item_started,
            ItemCompleted: conversation.on_item_completed,
            PromptRaised: conversation.on_prompt_raised,
            TurnOverdue: conversation.on_turn_overdue,
            TurnEnded: self._on_turn_ended,
            InterruptOverdue: self._on_interrupt_overdue,
            Forked: self._on_forked,
            Committed: self._on_committed,
            StoreFailed: self._on_store_failed,
            TurnsListed: conversation.questions.answered,
            Loaded: conversation.questions.answered,
        }

    @property
    def status(self) -> JsonObject:
        """The thread's status, as it was published last."""
        return self._conversation.status

    @property
    def is_running(self) -> bool:
        """Whether a turn is running."""
        return self._conversation.is_running

    @property
    def is_busy(self) -> bool:
        """The same, or a revert is under way: a turn begins when it is asked for."""
        return self._conversation.is_running or self._waiting is not None

    @property
    def unload_after_s(self) -> float | None:
        """Seconds after which it is unloaded if nobody uses it."""
        return 0.0 if self._is_errand else self._context.config.unload_after_s

    def begin(self) -> None:
        """Tell everybody that the thread is loaded, if they knew it as one that is not."""
        if not self._is_errand:
            self._conversation.publish_status()

    def answer(self, request: Request) -> None:
        """Answer a request."""
        if self._waiting is not None:
            self._waiting.append(request)
        elif self._must_defer(request):
            self._deferred.append(request)
        else:
            self._answers[request.method.name](self, request, request.params)

    def is_answering(self, connection_id: ConnectionId) -> bool:
        """Whether a request of this connection waits that will make it a subscriber."""
        return any(
            request.connection_id == connection_id and request.method.subscribes
            for request in (*self._subscribing, *self._deferred, *(self._waiting or ()))
        )

    def connection_closed(self, connection_id: ConnectionId) -> None:
        """Subscribe nobody who has gone, and begin nothing more for it: what has begun is done.

        What ends the thread is done as well: the router holds back everybody's requests for it.
        """

        def is_left(request: Request) -> bool:
            return request.connection_id != connection_id or request.method.name in ENDS_THREAD

        self._subscribing = [each for each in self._subscribing if is_left(each)]
        self._deferred = [each for each in self._deferred if is_left(each)]
        if self._waiting is not None:
            self._waiting = [each for each in self._waiting if is_left(each)]

    def prompt_settled(self) -> None:
        """Publish what follows for the status."""
        self._conversation.publish_status()

    def interrupt(self) -> None:
        """Interrupt the running turn."""
        self._conversation.interrupt()

    def pace(self) -> None:
        """Hold the agent while subscribers are too far behind."""
        gate = self._conversation.gate
        if gate is not None:
            gate.set_held(self._seat.is_held)

    def reserve(self, seq: int) -> None:
        """Keep that events up to `seq` may exist."""
        self._conversation.keep_seq_bound(seq)

    def commit(self) -> None:
        """Have stored all that was told so far."""
        post(self._store, Commit(self._id, self._seat.actor_ref))

    def unload(self) -> None:
        """Publish that the thread is not loaded any more."""
        if not self._is_errand:
            self._publish_not_loaded()
            self._feed.notify("thread/closed", {"threadId": self._id}, to_everybody=True)

    def undelivered(self, message: Any) -> Request | None:
        """Answer what came too late."""
        if isinstance(message, PromptRaised):
            message.reply(Answer("dropped"))
        return message.request if isinstance(message, Forked) else None

    def abandon(self, *, has_failed: bool) -> None:
        """Let go of everybody who waits."""
        self._has_ended = True
        # With a turn or a prompt cut off, what was published is not all that has happened: who comes back
        # needs a snapshot. A gap in the numbers sees to it.
        if not has_failed and not self._conversation.is_running and not self._seat.prompts:
            self._conversation.keep_events(self._loaded_seq)
        self._conversation.abandon()
        quiet = (request for request, _ in self._when_quiet)
        # A revert that has not begun is in two of them.
        for request in dict.fromkeys((*quiet, *self._subscribing, *self._deferred, *(self._waiting or ()))):
            post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))
        post(self._store, ReleaseThread(self._id))

    # Requests

    def _start(self, request: Request, _params: object) -> None:
        self._subscribe(request, with_turns=False)
        self._publish_started()

    def _resume(self, request: Request, params: ThreadResumeParams) -> None:
        self._be_used()
        if params.after_seq is not None and self._feed.holds_after(params.after_seq, params.epoch):
            self._subscribe(request, with_turns=False, after_seq=params.after_seq)
        else:
            self._subscribe(request, with_turns=not params.exclude_turns)
        if ignored := ignored_settings(self._conversation.record, params):
            names = ", ".join(f"`{name}`" for name in ignored)
            text = f"thread/resume changes no settings, and ignores {names}: turn/start changes them"
            self._feed.tell(request.reply_to, Warn(self._id, text))

    def _on_forked(self, message: Forked) -> None:
        """Answer as the fork that this thread is."""
        params = message.request.params
        with_turns = not (isinstance(params, ForkParams) and params.exclude_turns)
        self._subscribe(message.request, with_turns=with_turns)
        self._publish_started()

    def _publish_started(self) -> None:
        self._feed.notify("thread/started", {"thread": self._thread_json()}, to_everybody=True)

    def _fork(self, request: Request, params: ForkParams) -> None:
        if self._conversation.record.is_ephemeral:
            raise errors.no_rollout(self._id)
        self._conversation.check_fork(params)
        post(self._router, Fork(request, self._conversation.record))

    def _revert(self, request: Request, params: RevertParams) -> None:
        def revert() -> None:
            self._waiting, self._deferred = self._deferred, []
            self._conversation.revert(TurnId(params.before_turn_id), partial(self._on_reverted, request))

        self._subscribing.append(request)
        self._do_when_quiet(request, revert)

    def _must_defer(self, request: Request) -> bool:
        if request.method.name == "thread/unsubscribe":
            return True
        return request.method.subscribes and any(
            each.connection_id == request.connection_id for each in self._deferred
        )

    def _on_reverted(self, request: Request, error: RpcError | None) -> None:
        if error is None:
            self._answer_revert(request, has_caller=request in self._subscribing)
        else:
            self._feed.refuse(request, error)
        self._subscribing = [each for each in self._subscribing if each is not request]
        waiting, self._waiting = self._waiting, None
        for late in waiting or ():
            self._seat.answer(late)
        self._see_quiet()

    def _answer_revert(self, request: Request, *, has_caller: bool) -> None:
        self._feed.hold()
        if self._feed.is_subscribed(request.connection_id):
            # A new subscription would begin here, and skip what this one has not been sent yet.
            place = {"seq": self._feed.last_seq, "epoch": self._feed.epoch}
            self._feed.reply(request, {**self._joined_json(with_turns=False), **place})
        elif has_caller:  # or it has closed, and would be subscribed for ever
            self._subscribe(request, with_turns=False)
        self._feed.notify("thread/reverted", {"threadId": self._id}, to_everybody=True)

    def _archive(self, request: Request, _params: object) -> None:
        self._leave(request, "thread/archived", lambda: self._conversation.set_archived(is_archived=True))

    def _delete(self, request: Request, _params: object) -> None:
        self._leave(request, "thread/deleted", self._conversation.delete)

    def _unarchive(self, request: Request, _params: object) -> None:
        if not self._conversation.record.is_archived:
            if self._is_errand:  # nobody knows that it is loaded
                raise errors.not_archived(self._id)
            raise errors.active_writer(self._id)
        self._conversation.set_archived(is_archived=False)
        self._feed.hold()
        self._feed.reply(request, {"thread": self._thread_json()})
        self._feed.notify("thread/unarchived", {"threadId": self._id}, to_everybody=True)

    def _leave(self, request: Request, method: str, keep: Callable[[], None]) -> None:
        """End the thread's life here, for everybody: its turn, its subscriptions, the actor."""

        def leave() -> None:
            keep()
            self._feed.hold()
            self._seat.prompts.drop_all(with_hosts=True)
            self._publish_not_loaded()
            self._feed.reply(request, {})
            self._feed.notify(method, {"threadId": self._id}, to_everybody=True)
            self._seat.finish()

        if self._conversation.record.is_ephemeral:
            self._seat.stay()
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
        self._conversation.interrupt()
        self._see_quiet()

    def _see_quiet(self) -> None:
        while self._when_quiet and not self.is_busy:
            _, do = self._when_quiet.pop(0)
            do()

    def _list_turns(self, request: Request, params: TurnsListParams) -> None:
        self._answer_page(request, self._conversation.turns_page(params))

    def _list_items(self, request: Request, params: ItemsListParams) -> None:
        self._answer_page(request, self._conversation.items_page(params))

    def _answer_page(self, request: Request, page: JsonObject | TurnQuery | ItemQuery) -> None:
        if isinstance(page, dict):
            self._feed.reply(request, page)
        else:
            post(self._router, ReadOlder(request, self._id, page))

    def _read(self, request: Request, params: ThreadReadParams) -> None:
        self._feed.reply(request, self._snapshot_json(with_turns=bool(params.include_turns)))

    def _set_name(self, request: Request, params: NameSetParams) -> None:
        self._conversation.set_name(request, params)

    def _start_turn(self, request: Request, params: TurnStartParams) -> None:
        self._be_used()
        if self._conversation.is_ending:  # what it was given now nobody would read
            self._do_when_quiet(request, lambda: self._conversation.start_turn(request, params))
        else:
            self._conversation.start_turn(request, params)

    def _steer_turn(self, request: Request, params: TurnSteerParams) -> None:
        self._conversation.steer_turn(request, params)

    def _interrupt_turn(self, request: Request, params: TurnInterruptParams) -> None:
        self._conversation.interrupt_turn(request, params)

    _answers: ClassVar[dict[str, Callable[[LocalEngine, Request, Any], None]]] = {
        "thread/start": _start,
        "thread/resume": _resume,
        "thread/fork": _fork,
        "thread/revert": _revert,
        "thread/archive": _archive,
        "thread/unarchive": _unarchive,
        "thread/delete": _delete,
        "thread/turns/list": _list_turns,
        "thread/items/list": _list_items,
        "thread/read": _read,
        "thread/name/set": _set_name,
        "turn/start": _start_turn,
        "turn/steer": _steer_turn,
        "turn/interrupt": _interrupt_turn,
    }

    # What answers say

    def _subscribe(self, request: Request, *, with_turns: bool, after_seq: int | None = None) -> None:
        self._seat.subscribe(request, lambda: self._joined_json(with_turns=with_turns), after_seq)

    def _joined_json(self, *, with_turns: bool) -> JsonObject:
        return {
            **self._snapshot_json(with_turns=with_turns),
            **self._conversation.settings_json(),
            **self._conversation.cursors_json(),
        }

    def _snapshot_json(self, *, with_turns: bool) -> JsonObject:
        if not with_turns:
            return {"thread": self._thread_json()}
        turns, left_out = self._conversation.snapshot()
        return {"thread": self._thread_json(turns), **left_out}

    def _thread_json(self, turns: list[JsonObject] | None = None) -> JsonObject:
        thread = self._conversation.thread_json(turns)
        # Not in the reference: how many connections are subscribed.
        return {**thread, "subscriberCount": self._feed.subscriber_count}

    # The running turn

    def _on_turn_ended(self, event: TurnEnded) -> None:
        self._conversation.on_turn_ended(event)
        self._see_quiet()

    def _on_interrupt_overdue(self, message: InterruptOverdue) -> None:
        self._conversation.on_interrupt_overdue(message)
        self._see_quiet()

    # Life

    def _be_used(self) -> None:
        """Be a loaded thread like any other from now on."""
        self._is_errand = False
        self._seat.be_used()
        self._conversation.publish_status()

    def _publish_not_loaded(self) -> None:
        if not self._is_errand:
            params = {"threadId": self._id, "status": {"type": "notLoaded"}}
            self._feed.notify("thread/status/changed", params, to_everybody=True)

    def _on_store_failed(self, message: StoreFailed) -> None:
        """End: what has been published cannot be kept, and so nobody may be told of it."""
        if self._has_ended:
            return  # an answer to a later commit
        text = "x thread %s: it cannot be kept, and ends: %s"
        logger.error(text, self._id, message.error, extra={"threadId": self._id})
        self._feed.warn(f"the thread cannot be stored, and ends: {message.error}; resume it for what is kept")
        self._feed.fail(errors.not_kept(message.error))
        self._seat.fail()

    def _on_committed(self, _message: Committed) -> None:
        self._feed.committed()
