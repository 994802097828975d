"""The Thread actor: one conversation, its subscribers, its prompts, its running turn.

It alone changes these, so that subscriptions, the snapshot a resume returns and the live events that
follow are in one order. It knows connections by their id and as somebody to tell; it does not know
sockets, nor other threads.

Accepts  Request (of a method that names the thread), ConnectionClosed, Progress, PromptAnswer,
         Unload, InterruptTurn, Committed, and what its running turn tells (agents.events)
Sends    to connections: Reply, Refuse, Subscribed, Deliver, FellBehind, PromptEnded
         to the router:  Broadcast, Relay (of Unsubscribed), ThreadChanged, ThreadIdle, StillLoaded,
                         ThreadStopped
         to the store:   SaveThread, SaveTurn, SaveItem, Commit
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import orjson

from trunkline.actor import PooledActor, handles, post
from trunkline.agents.base import ApprovalPolicy, Turn
from trunkline.agents.events import (
    Answer,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    PromptRaised,
    TurnEnded,
    TurnEvent,
    TurnStatus,
)
from trunkline.context import Context
from trunkline.conversation import Conversation, Item, now_ms, record_json
from trunkline.errors import RpcError, TurnInterrupted
from trunkline.feed import Feed
from trunkline.log import EventLog
from trunkline.messages import (
    ConnectionClosed,
    InterruptTurn,
    Message,
    Progress,
    PromptAnswer,
    PromptEnded,
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
from trunkline.protocol import errors
from trunkline.protocol.ids import uuid7
from trunkline.protocol.items import user_message
from trunkline.protocol.params import (
    ApprovalPolicyParam,
    NameSetParams,
    ThreadReadParams,
    ThreadResumeParams,
    TurnInterruptParams,
    TurnStartParams,
    TurnSteerParams,
)
from trunkline.protocol.prompts import PromptKind, prompt_kind
from trunkline.store.base import (
    Committed,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoredItem,
    StoredThread,
    ThreadRecord,
)
from trunkline.turns import AgentSlot, Gate
from trunkline.types import ConnectionId, Json, JsonObject, ThreadId, TurnId

__all__ = ["Thread"]

logger = logging.getLogger(__name__)

PACE_S = 2.0
"""Seconds for which an agent is held for a subscriber that takes nothing."""


class _UnloadDue(Message, frozen=True):
    """The unload delay has passed since the thread became idle for the `generation`th time."""

    generation: int


class _InterruptOverdue(Message, frozen=True):
    """An interrupted turn has had its time to end."""

    turn_id: TurnId


class _PaceDue(Message, frozen=True):
    """The agent has been held for `PACE_S`; `progress` is what the subscribers had taken at its begin."""

    progress: int


class _Finish(Message, frozen=True):
    """Everything the thread has published is out; it may stop."""


class _OpenPrompt:
    """A prompt that nobody has answered."""

    __slots__ = ("kind", "left", "misfits", "payload", "reply")

    def __init__(self, kind: PromptKind, payload: bytes, reply: Callable[[Answer], None]) -> None:
        self.kind = kind
        self.payload = payload
        self.reply = reply
        self.left: dict[ConnectionId, Ref] = {}
        """Those who were sent it and have unsubscribed since; they may still answer."""
        self.misfits: set[ConnectionId] = set()
        """Those whose answer did not fit, while others could still give one."""


class _RunningTurn:
    """The handle of the turn that is running, and who waits for its end."""

    __slots__ = ("gate", "handle", "interrupts", "is_interrupted")

    def __init__(self, handle: Turn, gate: Gate) -> None:
        self.handle = handle
        self.gate = gate
        self.is_interrupted = False
        self.interrupts: list[Request] = []


class Thread(PooledActor):
    """One loaded thread.

    Args:
        context: what the server's actors share.
        router: the server's router.
        record: what the thread is.
        stored: what was kept of it; None for a new one.

    """

    def __init__(
        self, *, context: Context, router: Ref, record: ThreadRecord, stored: StoredThread | None = None
    ) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._context = context
        self._router = router
        self._id: ThreadId = record.id
        self._conversation = Conversation(record, () if stored is None else stored.turns)
        limits = context.config.limits
        self._feed = Feed(
            thread_id=record.id,
            log=EventLog(max_events=limits.log_events, max_bytes=limits.log_bytes),
            router=router,
        )
        self._agent = AgentSlot(context.agent_factory)
        self._running: _RunningTurn | None = None
        self._prompts: dict[int, _OpenPrompt] = {}
        # What was told last, to tell it only when it changes.
        self._status: JsonObject = {"type": "notLoaded"} if stored is not None else {"type": "idle"}
        self._summary: Summary | None = None
        # Idle: nobody subscribed, nothing running or open. Each time it begins has a number.
        self._is_idle = False
        self._idle_generation = 0
        # Bytes that subscribers have taken, and whether the agent is held until they take more.
        self._progress = 0
        self._is_paced = False
        self._has_stalled = False

    def on_start(self) -> None:
        """Tell what the thread is like; everybody, if it was not loaded before."""
        self._publish_status()
        self._tell_summary()

    def on_batch_end(self) -> None:
        """Let out what the batch published, and look whether the agent has to wait or the thread is idle."""
        self._feed.flush()
        self._pace()
        self._watch_idle()

    def on_stop(self) -> None:
        """Let go of everybody who waits."""
        self._end(failed=False)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of everybody who waits; the router tells the subscribers."""
        self._end(failed=True)

    def on_undelivered(self, message: Any) -> None:
        """Answer what came too late."""
        if isinstance(message, Request):
            post(message.reply_to, Refuse(message.id, errors.thread_closing(self._id)))
        elif isinstance(message, PromptRaised):
            message.reply(Answer("dropped"))

    # Requests

    @handles(Request)
    def _on_request(self, request: Request) -> None:
        try:
            self._answers[request.method.name](self, request, request.params)
        except RpcError as error:
            self._feed.tell(request.reply_to, Refuse(request.id, error))

    def _reply(self, request: Request, result: Json) -> None:
        self._feed.tell(request.reply_to, Reply(request.id, result))

    def _start_thread(self, request: Request, _params: object) -> None:
        self._subscribe(request, self._session_json(turns=None))
        self._feed.notify("thread/started", {"thread": self._thread_json(turns=None)}, to_everybody=True)

    def _resume_thread(self, request: Request, params: ThreadResumeParams) -> None:
        turns = None if params.exclude_turns else self._conversation.turns_json()
        self._subscribe(request, self._session_json(turns))

    def _subscribe(self, request: Request, result: JsonObject) -> None:
        subscription = self._feed.subscribe(request.connection_id, request.reply_to)
        self._is_idle = False
        open_prompts = []
        for prompt_id, prompt in self._prompts.items():
            prompt.left.pop(request.connection_id, None)
            open_prompts.append((prompt_id, prompt.payload))
        self._feed.tell(
            request.reply_to,
            Subscribed(
                self._id,
                self.actor_ref,
                subscription.generation,
                Reply(request.id, result),
                tuple(open_prompts),
            ),
        )

    def _unsubscribe_thread(self, request: Request, _params: object) -> None:
        was_subscribed = self._drop_subscriber(request.connection_id, leaves_server=False)
        status = "unsubscribed" if was_subscribed else "notSubscribed"
        reply = Reply(request.id, {"status": status})
        self._feed.tell(self._router, Relay(request.reply_to, Unsubscribed(self._id, reply)))

    def _read_thread(self, request: Request, params: ThreadReadParams) -> None:
        turns = self._conversation.turns_json() if params.include_turns else None
        self._reply(request, {"thread": self._thread_json(turns)})

    def _set_name(self, request: Request, params: NameSetParams) -> None:
        name = params.name.strip()
        if not name:
            raise errors.invalid_request("thread name must not be empty")
        self._conversation.update(name=name)
        self._save_record()
        self._reply(request, {})
        self._feed.notify(
            "thread/name/updated", {"threadId": self._id, "threadName": name}, to_everybody=True
        )

    def _start_turn(self, request: Request, params: TurnStartParams) -> None:
        _check_length(params.input)
        if self._running is not None:
            # The reference steers here, so that two clients that start at once share one turn.
            turn = self._conversation.running
            assert turn is not None
            self._reply(request, {"turn": turn.summary_json()})
            self._take_input(params.input, params.client_user_message_id)
            self._running.handle.steer(params.input)
            return
        self._change_settings(params)
        history = self._conversation.history()
        turn = self._conversation.begin_turn(TurnId(uuid7()))
        self._reply(request, {"turn": turn.summary_json()})
        self._publish_status()
        self._feed.notify("turn/started", {"threadId": self._id, "turn": turn.summary_json()})
        if params.input:
            self._take_input(params.input, params.client_user_message_id)
        self._save_turn()
        self._tell_summary()
        self._run_agent(turn.id, params.input, history)

    def _steer_turn(self, request: Request, params: TurnSteerParams) -> None:
        if not params.expected_turn_id:
            raise errors.invalid_request("expectedTurnId must not be empty")
        if not params.input:
            raise errors.invalid_request("input must not be empty")
        _check_length(params.input)
        if self._running is None:
            raise errors.invalid_request("no active turn to steer")
        turn_id = self._running.handle.turn_id
        if params.expected_turn_id != turn_id:
            raise errors.invalid_request(
                f"expected active turn id `{params.expected_turn_id}` but found `{turn_id}`"
            )
        self._reply(request, {"turnId": turn_id})
        self._take_input(params.input, params.client_user_message_id)
        self._running.handle.steer(params.input)

    def _interrupt_turn(self, request: Request, params: TurnInterruptParams) -> None:
        if not params.turn_id:  # the reference's "interrupt the start-up": there is none here
            self._reply(request, {})
            return
        if self._running is None:
            raise errors.invalid_request("no active turn to interrupt")
        turn_id = self._running.handle.turn_id
        if params.turn_id != turn_id:
            raise errors.invalid_request(f"expected active turn id {params.turn_id} but found {turn_id}")
        self._running.interrupts.append(request)
        self._interrupt(self._running)

    _answers: ClassVar[dict[str, Callable[[Thread, Request, Any], None]]] = {
        "thread/start": _start_thread,
        "thread/resume": _resume_thread,
        "thread/unsubscribe": _unsubscribe_thread,
        "thread/read": _read_thread,
        "thread/name/set": _set_name,
        "turn/start": _start_turn,
        "turn/steer": _steer_turn,
        "turn/interrupt": _interrupt_turn,
    }

    # Subscribers

    @handles(ConnectionClosed)
    def _on_connection_closed(self, message: ConnectionClosed) -> None:
        self._drop_subscriber(message.connection_id, leaves_server=True)

    @handles(Progress)
    def _on_progress(self, message: Progress) -> None:
        self._progress += message.size
        self._has_stalled = False
        self._feed.progress(message.connection_id, message.generation, message.size)

    def _drop_subscriber(self, connection_id: ConnectionId, *, leaves_server: bool) -> bool:
        subscription = self._feed.unsubscribe(connection_id)
        for prompt in self._prompts.values():
            if leaves_server:
                prompt.left.pop(connection_id, None)
            elif subscription is not None:
                prompt.left[connection_id] = subscription.connection
        return subscription is not None

    # The running turn

    def _run_agent(self, turn_id: TurnId, content: list[JsonObject], history: Any) -> None:
        record = self._conversation.record
        gate = Gate(self._inbox, self._context.config.limits.inbox_high_water)
        me = self.actor_ref

        def emit(event: TurnEvent) -> None:  # on the agent's thread
            gate.wait_open()
            if not post(me, event):
                raise TurnInterrupted

        handle = Turn(
            thread_id=self._id,
            turn_id=turn_id,
            input=content,
            history=history,
            cwd=Path(record.cwd),
            approval_policy=record.approval_policy,
            emit=emit,
        )
        self._running = _RunningTurn(handle, gate)
        try:
            self._agent.run_turn(handle, me)
        except RuntimeError:
            logger.exception("x thread %s: no OS thread for turn %s", self._id, turn_id)
            post(me, TurnEnded(turn_id, "failed", "the server has no more threads to run the agent on"))

    @handles(ItemStarted)
    def _on_item_started(self, event: ItemStarted) -> None:
        if self._is_current(event.turn_id):
            self._publish_started(event.turn_id, self._conversation.start_item(event.item))

    @handles(ItemDelta)
    def _on_item_delta(self, event: ItemDelta) -> None:
        if not self._is_current(event.turn_id):
            return
        item = self._conversation.open_item(event.item_id)
        if item is None or item.kind.delta_method is None:
            return
        item.add(event.text)
        self._feed.notify(
            item.kind.delta_method,
            {"threadId": self._id, "turnId": event.turn_id, "itemId": item.id, "delta": event.text},
        )

    @handles(ItemCompleted)
    def _on_item_completed(self, event: ItemCompleted) -> None:
        if not self._is_current(event.turn_id):
            return
        item = self._conversation.open_item(event.item_id)
        if item is not None:
            self._publish_completed(event.turn_id, item, item.complete(event.changes))

    @handles(PromptRaised)
    def _on_prompt_raised(self, event: PromptRaised) -> None:
        if not self._is_current(event.turn_id) or self._running is None or self._running.is_interrupted:
            event.reply(Answer("dropped"))
            return
        prompt_id = next(self._context.prompt_ids)
        params = {
            "threadId": self._id,
            "turnId": event.turn_id,
            "startedAtMs": now_ms(),
            **event.params,
        }
        prompt = _OpenPrompt(prompt_kind(event.method), b"", event.reply)
        self._prompts[prompt_id] = prompt
        self._publish_status()
        prompt.payload = self._feed.prompt(prompt_id, event.method, params)

    @handles(PromptAnswer)
    def _on_prompt_answer(self, answer: PromptAnswer) -> None:
        prompt = self._prompts.get(answer.prompt_id)
        if prompt is None:
            logger.info("x connection %s: late answer to prompt %s", answer.connection_id, answer.prompt_id)
            return
        result = None if answer.failed else prompt.kind.read(answer.result)
        if result is None and not answer.failed and self._may_others_answer(prompt, answer.connection_id):
            logger.warning(
                "x connection %s: its answer to prompt %s does not fit and is ignored",
                answer.connection_id,
                answer.prompt_id,
            )
            return
        logger.info(
            "= thread %s: prompt %s answered by connection %s",
            self._id,
            answer.prompt_id,
            answer.connection_id,
        )
        self._settle(answer.prompt_id, Answer("refused" if result is None else "result", result))
        self._publish_status()

    @handles(TurnEnded)
    def _on_turn_ended(self, event: TurnEnded) -> None:
        if self._is_current(event.turn_id):
            self._end_turn(event.status, event.message)

    @handles(InterruptTurn)
    def _on_interrupt_turn(self, _message: InterruptTurn) -> None:
        if self._running is not None:
            self._interrupt(self._running)

    @handles(_InterruptOverdue)
    def _on_interrupt_overdue(self, message: _InterruptOverdue) -> None:
        if self._is_current(message.turn_id):
            logger.warning(
                "x thread %s: the agent did not stop; turn %s ends without it", self._id, message.turn_id
            )
            # The agent may still be running: the next turn must not be handed to the same object.
            self._agent = AgentSlot(self._context.agent_factory)
            self._end_turn("interrupted", None)

    def _is_current(self, turn_id: TurnId) -> bool:
        return self._running is not None and self._running.handle.turn_id == turn_id

    def _may_others_answer(self, prompt: _OpenPrompt, connection_id: ConnectionId) -> bool:
        prompt.misfits.add(connection_id)
        listener = self._feed.listener
        return listener is not None and any(each.connection_id not in prompt.misfits for each in listener)

    def _interrupt(self, running: _RunningTurn) -> None:
        if running.is_interrupted:
            return
        running.is_interrupted = True
        running.handle.interrupt()
        running.gate.open_for_good()
        self._drop_prompts()
        self._context.timers.tell_later(
            self._context.config.interrupt_grace_s, self.actor_ref, _InterruptOverdue(running.handle.turn_id)
        )

    def _end_turn(self, status: TurnStatus, message: str | None) -> None:
        running, self._running = self._running, None
        state = self._conversation.running
        assert running is not None
        assert state is not None
        running.gate.open_for_good()
        running.handle.interrupt()  # nothing more comes of it, whatever the agent still tries
        self._drop_prompts()
        for request in running.interrupts:
            self._reply(request, {})
        for item in state.open_items():
            self._publish_completed(state.id, item, item.cut())
        error = None if message is None else _turn_error(message)
        self._conversation.end_turn(status, error)
        self._save_turn()
        self._publish_status()
        if error is not None:
            self._feed.notify(
                "error", {"threadId": self._id, "turnId": state.id, "error": error, "willRetry": False}
            )
        self._feed.notify(
            "turn/completed", {"threadId": self._id, "turn": state.summary_json()}, is_terminal=True
        )
        self._tell_summary()

    # Prompts

    def _settle(self, prompt_id: int, answer: Answer) -> None:
        prompt = self._prompts.pop(prompt_id)
        prompt.reply(answer)
        self._feed.notify(
            "serverRequest/resolved",
            {"threadId": self._id, "requestId": prompt_id},
            resolves=prompt_id,
            is_terminal=True,
        )
        for connection in prompt.left.values():
            self._feed.tell(connection, PromptEnded(prompt_id))

    def _drop_prompts(self) -> None:
        for prompt_id in list(self._prompts):
            self._settle(prompt_id, Answer("dropped"))

    # Events

    def _take_input(self, content: list[JsonObject], client_id: str | None) -> None:
        self._conversation.note_input(content)
        turn = self._conversation.running
        assert turn is not None
        item = self._conversation.start_item(user_message(uuid7(), content, client_id))
        self._publish_started(turn.id, item)
        self._publish_completed(turn.id, item, item.complete({}))

    def _publish_started(self, turn_id: TurnId, item: Item) -> None:
        self._feed.notify(
            "item/started",
            {
                "threadId": self._id,
                "turnId": turn_id,
                "startedAtMs": item.started_at_ms,
                "item": item.json(),
            },
        )

    def _publish_completed(self, turn_id: TurnId, item: Item, payload: bytes) -> None:
        if item.kind.text_member == "text" and item.kind.delta_method == "item/agentMessage/delta":
            turn = self._conversation.running
            assert turn is not None
            turn.last_message = item
        self._save(SaveItem(self._id, turn_id, item.position, StoredItem(item.id, payload)))
        self._feed.notify(
            "item/completed",
            {
                "threadId": self._id,
                "turnId": turn_id,
                "completedAtMs": now_ms(),
                "item": orjson.Fragment(payload),
            },
            is_terminal=True,
        )

    def _publish_status(self) -> None:
        status = self._compute_status()
        if status != self._status:
            self._status = status
            self._feed.notify(
                "thread/status/changed", {"threadId": self._id, "status": status}, to_everybody=True
            )
            self._tell_summary()

    def _compute_status(self) -> JsonObject:
        flags = {prompt.kind.flag for prompt in self._prompts.values() if prompt.kind.flag is not None}
        if self._conversation.running is not None or flags:
            return {"type": "active", "activeFlags": sorted(flags)}
        return {"type": "systemError" if self._conversation.has_failed else "idle"}

    # Life

    def _pace(self) -> None:
        """Hold the agent while even the fastest subscriber is half a log behind, unless it takes nothing."""
        if self._running is None:
            return
        gate = self._running.gate
        is_ahead = self._feed.is_far_ahead() and not self._has_stalled and not self._running.is_interrupted
        if is_ahead and not self._is_paced:
            gate.hold()
            self._context.timers.tell_later(PACE_S, self.actor_ref, _PaceDue(self._progress))
        elif not is_ahead:
            gate.release()
            gate.let_through()
        self._is_paced = is_ahead

    @handles(_PaceDue)
    def _on_pace_due(self, message: _PaceDue) -> None:
        if self._is_paced and message.progress == self._progress:
            self._has_stalled = True  # until somebody takes something
        elif self._is_paced:
            self._context.timers.tell_later(PACE_S, self.actor_ref, _PaceDue(self._progress))

    def _watch_idle(self) -> None:
        is_idle = self._running is None and not self._prompts and self._feed.listener is None
        delay = self._context.config.unload_after_s
        if is_idle and not self._is_idle and delay is not None:
            self._idle_generation += 1
            self._context.timers.tell_later(delay, self.actor_ref, _UnloadDue(self._idle_generation))
        self._is_idle = is_idle

    @handles(_UnloadDue)
    def _on_unload_due(self, message: _UnloadDue) -> None:
        if self._is_idle and message.generation == self._idle_generation:
            # The router decides: it may have passed on a request meanwhile.
            post(self._router, ThreadIdle(self._id))

    @handles(Unload)
    def _on_unload(self, _message: Unload) -> None:
        if self._running is not None or self._prompts or self._feed.listener is not None:
            post(self._router, StillLoaded(self._id))
            return
        self._feed.notify(
            "thread/status/changed",
            {"threadId": self._id, "status": {"type": "notLoaded"}},
            to_everybody=True,
        )
        self._feed.notify("thread/closed", {"threadId": self._id}, to_everybody=True)
        self._feed.tell(self.actor_ref, _Finish())

    @handles(_Finish)
    def _on_finish(self, _message: _Finish) -> None:
        self.stop()

    @handles(Committed)
    def _on_committed(self, message: Committed) -> None:
        self._feed.committed(message.token)

    def _end(self, *, failed: bool) -> None:
        for prompt in self._prompts.values():
            prompt.reply(Answer("dropped"))
        self._prompts.clear()
        if self._running is not None:
            self._running.handle.interrupt()
            self._running.gate.open_for_good()
            for request in self._running.interrupts:
                post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))
            self._running = None
        post(self._router, ThreadStopped(self._id, self.actor_ref, failed))

    # What the thread is

    def _change_settings(self, params: TurnStartParams) -> None:
        changes: dict[str, object] = {}
        if params.cwd is not None:
            changes["cwd"] = str(Path(self._conversation.record.cwd, params.cwd))
        if params.model is not None:
            changes["model"] = params.model
        if params.approval_policy is not None:
            changes["approval_policy"] = approval_policy(params.approval_policy)
        if params.approvals_reviewer is not None:
            changes["approvals_reviewer"] = params.approvals_reviewer
        if params.sandbox_policy is not None:
            changes["sandbox"] = params.sandbox_policy
        if changes:
            self._conversation.update(**changes)

    def _thread_json(self, turns: list[JsonObject] | None) -> JsonObject:
        return {
            **record_json(self._conversation.record, self._status, turns),
            "subscriberCount": self._feed.subscriber_count,
        }

    def _session_json(self, turns: list[JsonObject] | None) -> JsonObject:
        record = self._conversation.record
        return {
            "thread": self._thread_json(turns),
            "model": record.model,
            "modelProvider": record.model_provider,
            "cwd": record.cwd,
            "approvalPolicy": record.approval_policy,
            "approvalsReviewer": record.approvals_reviewer,
            "sandbox": record.sandbox,
            "serviceTier": None,
            "reasoningEffort": None,
            "instructionSources": [],
        }

    @handles(TellSummary)
    def _on_tell_summary(self, _message: TellSummary) -> None:
        self._summary = None
        self._tell_summary()

    def _tell_summary(self) -> None:
        summary = Summary(self._status, self._running is not None or self._conversation.running is not None)
        last = self._summary
        if last is None or (last.status, last.is_running) != (summary.status, summary.is_running):
            self._summary = summary
            post(self._router, ThreadChanged(self._id, summary))

    # The store

    def _save(self, message: object) -> None:
        if not self._conversation.record.is_ephemeral:
            self._context.store.tell(message)

    def _save_record(self) -> None:
        if self._conversation.is_materialized:
            self._save(SaveThread(self._conversation.record))

    def _save_turn(self) -> None:
        self._save_record()
        self._save(SaveTurn(self._id, self._conversation.turns[-1].record))


def approval_policy(given: ApprovalPolicyParam) -> ApprovalPolicy:
    """Read a policy; a granular one means that the agent asks when it thinks it should."""
    return "on-request" if isinstance(given, dict) else given


def _check_length(content: list[JsonObject]) -> None:
    chars = sum(len(part["text"]) for part in content if part.get("type") == "text")
    if chars > errors.MAX_INPUT_CHARS:
        raise errors.input_too_long(chars)


def _turn_error(message: str) -> JsonObject:
    return {"message": message, "codexErrorInfo": "other", "additionalDetails": None}
