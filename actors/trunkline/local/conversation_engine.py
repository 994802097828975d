"""The conversation engine of a thread: its turns, run by an agent in this process.

Takes the requests that work on turns and what the running turn tells, and publishes what comes of
them. It knows nothing of subscribers: the Thread actor does.

A plain object that belongs to one Thread actor and is called by it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from trunkline.actor import post
from trunkline.agents.events import (
    Answer,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    PromptRaised,
    TurnEnded,
    TurnStatus,
)
from trunkline.agents.registry import no_agent
from trunkline.context import Context
from trunkline.conversation import Conversation, Item, TurnState, record_json
from trunkline.errors import RpcError
from trunkline.feed import Feed
from trunkline.local.pages import (
    item_query,
    items_page,
    newest_item_cursor,
    newest_turn_cursor,
    snapshot,
    turn_query,
    turns_page,
)
from trunkline.local.questions import Questions
from trunkline.local.records import changed_record
from trunkline.local.remembered import write_events
from trunkline.local.reverts import Done, Reverts
from trunkline.local.running import Runner, Running
from trunkline.local.workshop import Workshop
from trunkline.messages import InterruptOverdue, Message, Ref, Refuse, Request, TurnOverdue
from trunkline.prompts import Prompts
from trunkline.protocol import errors
from trunkline.protocol.deltas import DeltaHead
from trunkline.protocol.envelope import now_ms
from trunkline.protocol.ids import uuid7
from trunkline.protocol.items import user_message
from trunkline.protocol.params import (
    ForkParams,
    ItemsListParams,
    NameSetParams,
    TurnInterruptParams,
    TurnsListParams,
    TurnStartParams,
    TurnSteerParams,
    check_turn_input,
)
from trunkline.store.asking import read_items
from trunkline.store.base import (
    DeleteThread,
    ItemPlace,
    ItemQuery,
    SaveEvents,
    SaveItem,
    SaveThread,
    SaveTurn,
    StoredItem,
    StoredThread,
    ThreadRecord,
    TurnQuery,
)
from trunkline.turns import Gate
from trunkline.types import JsonObject, ThreadId, TurnId

__all__ = ["ConversationEngine"]

logger = logging.getLogger(__name__)


class ConversationEngine:
    """A thread's conversation at work.

    Args:
        context: what the server's actors share.
        workshop: the agents and the store.
        thread: the Thread actor, which is told what the turn tells.
        inbox_depth: tells how many messages wait for that actor; too many hold up the agent.
        feed: where everything is published.
        prompts: the thread's open prompts.
        record: what the thread is.
        stored: what was kept of it; None for a new one.
        is_new: whether nobody has known it as unloaded.

    """

    def __init__(
        self,
        *,
        context: Context,
        workshop: Workshop,
        thread: Ref,
        inbox_depth: Callable[[], int],
        feed: Feed,
        prompts: Prompts,
        record: ThreadRecord,
        stored: StoredThread | None,
        is_new: bool,
    ) -> None:
        self._context = context
        self._workshop = workshop
        self._thread = thread
        self._feed = feed
        self._prompts = prompts
        self._id: ThreadId = record.id
        self._conversation = Conversation(record, stored)
        self.questions = Questions(workshop.store)
        """What the store was asked."""
        self._runner = Runner(context, workshop, thread, inbox_depth, prompts)
        self._running: Running | None = None
        self._is_kept = not record.is_ephemeral
        # Whether there is something of the thread in the store. A new thread is kept from its first turn on.
        self._is_stored = self._is_kept and stored is not None
        self._reverts = Reverts(self._conversation, self.questions, thread, self._save, self._max_bytes)
        # What was published last, to publish it only when it changes.
        self.status: JsonObject = {"type": "idle" if is_new else "notLoaded"}
        """The thread's status, as it was published last."""

    @property
    def is_running(self) -> bool:
        """Whether a turn is running."""
        return self._running is not None

    @property
    def is_ending(self) -> bool:
        """Whether the turn that is running was interrupted."""
        return self._running is not None and self._running.is_interrupted

    @property
    def gate(self) -> Gate | None:
        """Where the agent of the running turn waits; None once it need not wait any more."""
        return None if self._running is None or self._running.is_interrupted else self._running.gate

    def thread_json(self, turns: list[JsonObject] | None = None) -> JsonObject:
        """Return the thread as the wire has it."""
        return record_json(self._conversation.record, self.status, turns)

    def snapshot(self) -> tuple[list[JsonObject], JsonObject]:
        """Return the turns for an answer, and the members that say what was left out: see `pages`."""
        return snapshot(self._conversation, self._max_bytes)

    def settings_json(self) -> JsonObject:
        """Return what the answers to thread/start and thread/resume say besides the thread."""
        record = self._conversation.record
        return {
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

    @property
    def record(self) -> ThreadRecord:
        """What the thread is."""
        return self._conversation.record

    def turns_page(self, params: TurnsListParams) -> JsonObject | TurnQuery:
        """Return the answer to `thread/turns/list`, or what to ask the store for it."""
        return turns_page(self._conversation, turn_query(params, self._max_bytes))

    def items_page(self, params: ItemsListParams) -> JsonObject | ItemQuery:
        """Return the answer to `thread/items/list`, or what to ask the store for it."""
        return items_page(self._conversation, item_query(params, self._max_bytes))

    def cursors_json(self) -> JsonObject:
        """Return the cursors from which a client lists turns and items backwards."""
        return {
            "turnsBackwardsCursor": newest_turn_cursor(self._conversation),
            "itemsBackwardsCursor": newest_item_cursor(self._conversation),
        }

    def check_fork(self, params: ForkParams) -> None:
        """See whether the thread can be forked as a client wants.

        Raises:
            RpcError: the last turn of the fork would be one that is running.

        """
        running = self._running
        if running is not None and params.last_turn_id == running.state.id:
            raise errors.invalid_request(f"lastTurnId '{running.state.id}' identifies an in-progress turn")

    def publish_status(self) -> None:
        """Tell everybody the status of the thread, if it is another than before."""
        status = self._compute_status()
        if status != self.status:
            self.status = status
            params = {"threadId": self._id, "status": status}
            self._feed.notify("thread/status/changed", params, to_everybody=True)

    # Requests

    def set_name(self, request: Request, params: NameSetParams) -> None:
        """Answer `thread/name/set`."""
        name = params.name.strip()
        if not name:
            raise errors.invalid_request("thread name must not be empty")
        self._conversation.update(name=name)
        if self._is_stored:
            self._save(SaveThread(self._conversation.record))
            self._feed.hold()
        self._feed.reply(request, {})
        params_out = {"threadId": self._id, "threadName": name}
        self._feed.notify("thread/name/updated", params_out, to_everybody=True)

    def keep_seq_bound(self, seq: int) -> None:
        """Keep that events of the thread may have numbers up to `seq`."""
        self._conversation.update(seq_bound=seq)
        if self._is_stored:
            self._save(SaveThread(self._conversation.record))

    def keep_events(self, after_seq: int) -> None:
        """Keep the newest events behind `after_seq`, as the last thing of all."""
        last_seq = self._feed.last_seq
        if last_seq > after_seq:
            self.keep_seq_bound(last_seq)
        if not self._is_stored:
            return
        max_bytes = self._context.config.limits.stored_event_bytes
        events = self._feed.newest_after(after_seq, max_bytes)
        if events:
            written = write_events(events, self._workshop.run_id)
            self._save(SaveEvents(self._id, written, max_bytes))

    def set_archived(self, *, is_archived: bool) -> None:
        """Move the thread into the archive, or out of it."""
        self._conversation.update(is_archived=is_archived)
        self._save(SaveThread(self._conversation.record))

    def delete(self) -> None:
        """Forget what was kept of the thread."""
        self._save(DeleteThread(self._id))
        self._is_kept = False  # what its actor still has to say must not bring it back

    def revert(self, before_turn_id: TurnId, done: Done) -> None:
        """Drop a turn and all later ones. No turn may be running, nor begin before `done` is called."""

        def reverted(error: RpcError | None) -> None:
            if error is None:
                self._save(SaveThread(self._conversation.record))
                self._publish_reverted()
            done(error)

        self._reverts.revert(before_turn_id, reverted)

    def _publish_reverted(self) -> None:
        # The reference loads the thread anew, and its clients see that.
        for status in ({"type": "notLoaded"}, self._compute_status()):
            params = {"threadId": self._id, "status": status}
            self._feed.notify("thread/status/changed", params, to_everybody=True)
        self.status = self._compute_status()

    def start_turn(self, request: Request, params: TurnStartParams) -> None:
        """Answer `turn/start`. It steers while a turn runs: two clients who start at once share one."""
        if self._workshop.agent_factory is no_agent:
            raise errors.invalid_request("this server has no agent: its threads take no turns")
        check_turn_input(params)
        if self._running is not None:
            self._feed.reply(request, {"turn": self._running.state.summary_json()})
            self._steer(self._running, params.input, params.client_user_message_id)
            return
        self._conversation.record = changed_record(self._conversation.record, params)
        history = self._conversation.history(self._read_older)
        self._conversation.note_input(params.input)
        state = self._conversation.begin_turn()
        self._save_turn(state)
        self._running = self._runner.new_turn(self._conversation.record, state, params.input, history)
        self._feed.reply(request, {"turn": state.summary_json()})
        self.publish_status()
        self._feed.notify("turn/started", {"threadId": self._id, "turn": state.summary_json()})
        if params.input:
            self._publish_input(state, params.input, params.client_user_message_id)
        self._runner.run(self._running)
        if self._running.clock is not None:
            self._tell_later(self._running.clock.timeout_s, TurnOverdue(state.id))

    def steer_turn(self, request: Request, params: TurnSteerParams) -> None:
        """Answer `turn/steer`."""
        if not params.expected_turn_id:
            raise errors.invalid_request("expectedTurnId must not be empty")
        if not params.input:
            raise errors.invalid_request("input must not be empty")
        check_turn_input(params)
        running = self._running
        if running is None:
            raise errors.invalid_request("no active turn to steer")
        if params.expected_turn_id != running.state.id:
            raise errors.invalid_request(
                f"expected active turn id `{params.expected_turn_id}` but found `{running.state.id}`"
            )
        self._feed.reply(request, {"turnId": running.state.id})
        self._steer(running, params.input, params.client_user_message_id)

    def interrupt_turn(self, request: Request, params: TurnInterruptParams) -> None:
        """Answer `turn/interrupt`, once the turn has ended."""
        if not params.turn_id:  # the reference's "interrupt the start-up": there is none here
            self._feed.reply(request, {})
            return
        running = self._running
        if running is None:
            raise errors.invalid_request("no active turn to interrupt")
        if params.turn_id != running.state.id:
            raise errors.invalid_request(
                f"expected active turn id {params.turn_id} but found {running.state.id}"
            )
        running.interrupts.append(request)
        self.interrupt()

    def interrupt(self) -> None:
        """Interrupt the running turn, if there is one. It ends when its agent has returned."""
        running = self._running
        if running is None or running.is_interrupted:
            return
        running.is_interrupted = True
        running.handle.interrupt()
        running.gate.open_for_good()
        self._prompts.drop_all()
        self._tell_later(self._context.config.interrupt_grace_s, InterruptOverdue(running.state.id))

    # What the running turn tells

    def on_item_started(self, event: ItemStarted) -> None:
        """An item begins."""
        running = self._current(event.turn_id)
        if running is None:
            return
        if event.item["id"] in running.state.items:
            self._fail(running, f"started two items with the id {event.item['id'][:100]!r}")
            return
        self._publish_started(event.turn_id, self._conversation.start_item(event.item))

    def on_item_delta(self, event: ItemDelta) -> None:
        """Text is added to an open item."""
        item = self._open_item(event.turn_id, event.item_id)
        if item is None or item.kind.delta_method is None or not event.texts:
            return
        if item.delta_head is None:
            ids = {"threadId": self._id, "turnId": event.turn_id, "itemId": item.id}
            item.delta_head = DeltaHead(item.kind.delta_method, ids)
        item.add(event.joined)
        self._feed.notify_deltas(item.delta_head, event.texts, event.joined)

    def on_item_completed(self, event: ItemCompleted) -> None:
        """An open item is complete."""
        item = self._open_item(event.turn_id, event.item_id)
        running = self._running
        if item is None or running is None:
            return
        misfit = item.misfit(event.changes)
        if misfit is not None:
            self._fail(running, misfit)
            return
        item.complete(event.changes)
        self._publish_completed(running.state, item)

    def on_prompt_raised(self, event: PromptRaised) -> None:
        """Clients are asked something."""
        running = self._current(event.turn_id)
        if running is None or running.is_interrupted:
            event.reply(Answer("dropped"))
            return
        params = {"threadId": self._id, "turnId": event.turn_id, "startedAtMs": now_ms(), **event.params}
        prompt_id = self._prompts.new(event.method, event.reply)
        self.publish_status()
        self._prompts.publish(prompt_id, event.method, params)

    def on_turn_ended(self, event: TurnEnded) -> None:
        """The agent has returned or raised."""
        running = self._current(event.turn_id)
        if running is None:
            return
        unread = running.handle.take_unread()
        if unread and event.status == "completed" and not running.is_interrupted:
            # It came too late for the agent, or the agent takes none: it is the turn's next input.
            self._runner.go_on(running, self._conversation.record, list(unread))
        else:
            self._end_turn(running, event.status, event.message)

    def on_interrupt_overdue(self, message: InterruptOverdue) -> None:
        """An interrupted turn has had its time: it ends without its agent."""
        running = self._current(message.turn_id)
        if running is not None:
            text = "x thread %s: the agent did not stop; turn %s ends"
            logger.warning(text, self._id, running.state.id, extra=self._ids(running))
            self._runner.give_up()
            self._end_turn(running, "interrupted", None)

    def on_turn_overdue(self, message: TurnOverdue) -> None:
        """The time a turn may take has passed, unless some of it was spent waiting for a client."""
        running = self._current(message.turn_id)
        if running is None or running.is_interrupted or running.clock is None:
            return
        left_s = running.clock.left_s()
        if left_s > 0:
            # A second at least: while a prompt is open, what is left stays as it is, however little.
            self._tell_later(max(left_s, 1.0), message)
            return
        running.failure = f"the turn did not end within {running.clock.timeout_s:g} s"
        logger.warning(
            "x thread %s: turn %s takes too long", self._id, running.state.id, extra=self._ids(running)
        )
        self.interrupt()

    def abandon(self) -> None:
        """Let go of everybody who waits, because the actor ends. Publishes nothing."""
        running, self._running = self._running, None
        if running is None:
            return
        running.handle.interrupt()
        running.gate.open_for_good()
        for request in running.interrupts:
            post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))

    # Turns

    def _steer(self, running: Running, content: list[JsonObject], client_id: str | None) -> None:
        self._publish_input(running.state, content, client_id)
        running.handle.steer(content)

    def _fail(self, running: Running, what: str) -> None:
        """Have the turn fail over what its agent did, as soon as that has returned."""
        running.failure = f"the agent {what}"
        self.interrupt()

    def _end_turn(self, running: Running, status: TurnStatus, message: str | None) -> None:
        if running.failure is not None:
            status, message = "failed", running.failure
        self._running = None
        state = running.state
        running.gate.open_for_good()
        running.handle.interrupt()  # nothing more comes of it, whatever the agent still tries
        self._prompts.drop_all()
        for request in running.interrupts:
            self._feed.reply(request, {})
        for item in state.open_items():
            item.cut()
            self._publish_completed(state, item)
        error = None if message is None else _turn_error(message)
        self._conversation.end_turn(status, error)
        if self._is_kept:
            self._conversation.forget_older(self._max_bytes)
        self._save_turn(state)
        self.publish_status()
        if error is not None:
            self._feed.notify(
                "error", {"threadId": self._id, "turnId": state.id, "error": error, "willRetry": False}
            )
        params = {"threadId": self._id, "turn": state.summary_json()}
        self._feed.notify("turn/completed", params, is_terminal=True, shared=state.last_body)
        state.settle()
        self._context.metrics.turn_ended(status)

    def _tell_later(self, delay_s: float, message: Message) -> None:
        self._context.timers.tell_later(delay_s, self._thread, message)

    def _ids(self, running: Running) -> dict[str, str]:
        return {"threadId": self._id, "turnId": running.state.id}

    def _current(self, turn_id: TurnId) -> Running | None:
        running = self._running
        return running if running is not None and running.state.id == turn_id else None

    def _open_item(self, turn_id: TurnId, item_id: str) -> Item | None:
        running = self._running
        if running is None or running.state.id != turn_id:
            return None
        return running.state.open_item(item_id)

    # Events

    def _publish_input(self, state: TurnState, content: list[JsonObject], client_id: str | None) -> None:
        item = self._conversation.start_item(user_message(uuid7(), content, client_id))
        self._publish_started(state.id, item)
        item.complete({})
        self._publish_completed(state, item)

    def _publish_started(self, turn_id: TurnId, item: Item) -> None:
        params = {
            "threadId": self._id,
            "turnId": turn_id,
            "startedAtMs": item.started_at_ms,
            "item": item.json(),
        }
        self._feed.notify("item/started", params)

    def _publish_completed(self, state: TurnState, item: Item) -> None:
        if self._feed.is_sent_as_bytes:
            item.write()
        body = item.body
        assert body is not None
        state.note_completed(item)
        if self._is_kept:
            self._save(SaveItem(self._id, state.id, StoredItem(item.id, body.data, item.position)))
        params = {
            "threadId": self._id,
            "turnId": state.id,
            "completedAtMs": now_ms(),
            "item": body,
        }
        self._feed.notify("item/completed", params, is_terminal=True, shared=body)
        item.settle()

    def _compute_status(self) -> JsonObject:
        flags = self._prompts.flags()
        if self._running is not None or flags:
            return {"type": "active", "activeFlags": flags}
        return {"type": "systemError" if self._conversation.has_failed else "idle"}

    # What is kept

    def _save_turn(self, state: TurnState) -> None:
        self._save(SaveThread(self._conversation.record))
        self._save(SaveTurn(self._id, state.record))

    def _save(self, message: object) -> None:
        if self._is_kept:
            self._is_stored = True
            post(self._workshop.store, message)

    def _read_older(self, last: ItemPlace) -> list[bytes]:
        """Read the items up to a place. On the agent's thread; blocks."""
        return read_items(self._workshop.store, self._id, last)

    @property
    def _max_bytes(self) -> int:
        return self._context.config.limits.snapshot_bytes


def _turn_error(message: str) -> JsonObject:
    return {"message": message, "codexErrorInfo": "other", "additionalDetails": None}
