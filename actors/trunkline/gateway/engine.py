"""The gateway's engine: a thread whose turns another app-server runs.

Passes requests on and publishes what the upstream says, in its order. A second client's resume asks the
upstream for a snapshot and makes the subscription where the answer stands among the thread's events.

A plain object that belongs to one thread's actor and is called by it alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from trunkline.actor import post
from trunkline.agents.events import Answer
from trunkline.context import Context
from trunkline.engines import ENDS_THREAD, Handlers, Seat
from trunkline.errors import RpcError
from trunkline.gateway.answers import upstream_prompt
from trunkline.gateway.messages import (
    Answered,
    Ask,
    Lost,
    Notified,
    Prompted,
    PromptSettled,
    ThreadGone,
    ThreadHere,
    Unheard,
)
from trunkline.gateway.methods import PassedParams
from trunkline.gateway.running import RunningTurn, Scene
from trunkline.gateway.wire import BROADCASTS, thread_of
from trunkline.messages import Ref, Refuse, Request
from trunkline.protocol import errors
from trunkline.protocol.envelope import now_ms
from trunkline.protocol.errors import ErrorCode
from trunkline.types import ConnectionId, Json, JsonObject, RequestId, ThreadId

__all__ = ["GatewayEngine"]

_ENDS = frozenset({"thread/closed", "thread/archived", "thread/deleted"})
"""Notifications after which the upstream has the thread no more."""

_BEGINS = frozenset({"turn/start", "review/start", "thread/compact/start", "thread/shellCommand"})
"""Requests of the reference that begin a turn."""

_AGAIN = "again"
"""The tag of our own resume after the upstream has been started again."""


class _Resolved(msgspec.Struct, frozen=True, rename="camel"):
    request_id: RequestId


class GatewayEngine:
    """A thread of the upstream.

    Args:
        seat: the thread's actor.
        thread_id: which thread it is: the upstream's own id.
        upstream: the actor that talks with the upstream.
        context: what the server's actors share.
        request: what is to be answered with `result`; None if that connection has gone.
        result: the upstream's answer to a start, fork or resume, encoded.

    """

    def __init__(
        self,
        *,
        seat: Seat,
        thread_id: ThreadId,
        upstream: Ref,
        context: Context,
        request: Request | None,
        result: bytes,
    ) -> None:
        self._seat = seat
        self._id = thread_id
        self._upstream = upstream
        self._feed = seat.feed
        self._prompts = seat.prompts
        self._metrics = context.metrics
        self.unload_after_s = context.config.unload_after_s
        """Seconds after which it is unloaded if nobody uses it; None for never."""
        self._begins_with = (request, result)
        self._scene = Scene()
        # The answer that the thread was loaded with, without its turns: what is known if the upstream
        # cannot tell, as it cannot of a thread that has never been used.
        self._known: JsonObject = {}
        # The upstream's prompts that are open here: their ids there, and here.
        self._open_prompts: dict[RequestId, int] = {}
        # Those that were answered here, in the running turn: one may still be on its way here once more.
        self._settled: set[RequestId] = set()
        # Requests that are with the upstream, and may begin a turn.
        self._beginning = 0
        # Requests that will make their connection a subscriber.
        self._resuming: list[Request] = []
        # What has to wait for that: the unsubscribing of the same connections.
        self._deferred: list[Request] = []
        # Whether the upstream that runs now has the thread, and what waits until it has.
        self._is_attached = True
        self._waiting: list[Request] = []
        self._has_finished = False

    # What a thread sees of any engine

    @property
    def handlers(self) -> Handlers:
        """What only it knows: all from the upstream, in the order in which that said it."""
        return {
            Notified: self._on_notified,
            Prompted: self._on_prompted,
            Answered: self._on_answered,
            Lost: self._on_lost,
        }

    @property
    def status(self) -> JsonObject:
        """The thread's status, as the upstream told it last."""
        return self._scene.status

    @property
    def is_running(self) -> bool:
        """Whether the upstream runs a turn of the thread."""
        return self._scene.turn is not None

    @property
    def is_busy(self) -> bool:
        """Whether it does, or may be about to."""
        return self.is_running or self._beginning > 0 or bool(self._resuming)

    def begin(self) -> None:
        """Be the thread that the answer tells of."""
        request, payload = self._begins_with
        self._begins_with = (None, b"")
        result: JsonObject = orjson.loads(payload)
        self._note_loaded(result)
        # From now on it is told what came after that answer.
        post(self._upstream, ThreadHere(self._id, self._seat.actor_ref))
        if request is not None:
            self._seat.subscribe(request, lambda: result)

    def answer(self, request: Request) -> None:
        """Pass a request on."""
        if request.method.name == "thread/unsubscribe":
            self._deferred.append(request)
        elif request.method.name == "thread/resume":
            self._resume(request)
        elif self._is_attached:
            self._pass_on(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) == 1:
                self._ask("thread/resume", {"threadId": self._id, "excludeTurns": True}, tag=_AGAIN)

    def is_answering(self, connection_id: ConnectionId) -> bool:
        """Whether a resume of this connection is with the upstream."""
        return any(request.connection_id == connection_id for request in self._resuming)

    def connection_closed(self, connection_id: ConnectionId) -> None:
        """Subscribe nobody who has gone."""
        self._resuming = [each for each in self._resuming if each.connection_id != connection_id]
        self._deferred = [each for each in self._deferred if each.connection_id != connection_id]

    def prompt_settled(self) -> None:
        """Nothing: the upstream tells the status."""

    def interrupt(self) -> None:
        """Interrupt the running turn."""
        turn = self._scene.turn
        if turn is not None:
            self._ask("turn/interrupt", {"threadId": self._id, "turnId": turn.id})

    def pace(self) -> None:
        """Nothing: the upstream is not held for subscribers, as others would wait with it."""

    def reserve(self, seq: int) -> None:
        """Keep no numbers: nothing is stored here, and an epoch ends with its actor."""

    def commit(self) -> None:
        """Nothing: no event waits to be stored."""

    def unload(self) -> None:
        """Take the upstream's thread as one that nobody here needs; it tells when it has unloaded it."""
        if self._is_attached:
            self._ask("thread/unsubscribe", {"threadId": self._id})

    def undelivered(self, message: Any) -> Request | None:
        """Deal with what came too late."""
        if isinstance(message, Notified):
            post(self._upstream, Unheard(message.method, message.params))
        elif isinstance(message, Prompted):
            post(self._upstream, message)
        return message.ask.request if isinstance(message, Answered) else None

    def abandon(self, *, has_failed: bool) -> None:
        """Hear nothing more of the thread."""
        post(self._upstream, ThreadGone(self._id, self._seat.actor_ref))
        waiting = [*self._waiting, *self._deferred]
        for request in waiting:
            post(request.reply_to, Refuse(request.id, errors.thread_closing(self._id)))

    # What the upstream says

    def _on_notified(self, message: Notified) -> None:
        """Publish a notification."""
        method = message.method
        if self._has_finished:  # what is published now would not get out any more
            post(self._upstream, Unheard(method, message.params))
            return
        was_running = self.is_running
        self._scene.note(method, message.params)
        if method == "serverRequest/resolved":
            self._on_resolved(message.params)
            return
        if was_running and not self.is_running:
            self._settled.clear()
            self._metrics.turn_ended(self._scene.ended_as)
        self._feed.notify(method, orjson.Fragment(message.params), to_everybody=method in BROADCASTS)
        if method in _ENDS:
            self._finish()

    def _on_prompted(self, message: Prompted) -> None:
        """Ask the subscribers. The upstream repeats a prompt when it is asked to resume."""
        if message.id in self._open_prompts or message.id in self._settled:
            return
        upstream, open_prompts, settled = self._upstream, self._open_prompts, self._settled

        def settle(answer: Answer) -> None:
            open_prompts.pop(message.id, None)
            settled.add(message.id)
            if answer.kind != "dropped":  # by the upstream itself, then
                refused = answer.kind == "refused"
                post(upstream, PromptSettled(message.generation, message.id, answer.result, refused))

        kind = upstream_prompt(message.method)
        self._open_prompts[message.id] = prompt_id = self._prompts.new(message.method, settle, kind)
        self._prompts.publish(prompt_id, message.method, orjson.Fragment(message.params))

    def _on_answered(self, message: Answered) -> None:
        """Take the answer to a request back to who made it."""
        self._beginning -= message.ask.method in _BEGINS
        request = message.ask.request
        if message.ask.tag == _AGAIN:
            self._on_attached(message.error)
        elif request is None:
            return
        elif request.method.name == "thread/resume":
            self._on_resumed(message, request)
        elif message.error is not None:
            self._feed.refuse(request, message.error)
            if request.method.name in ENDS_THREAD:
                self._seat.stay()
        else:
            self._feed.reply(request, orjson.Fragment(message.result))
            if request.method.name in ENDS_THREAD:
                self._finish()

    def _on_lost(self, _message: Lost) -> None:
        """End what the upstream was doing: it has died."""
        self._is_attached = False
        self._prompts.drop_all()
        self._settled.clear()
        turn, self._scene.turn = self._scene.turn, None
        if turn is not None:
            self._fail(turn)
            self._metrics.turn_ended("failed")

    # Requests

    def _pass_on(self, request: Request) -> None:
        params = request.params
        self._ask(request.method.name, params.raw if isinstance(params, PassedParams) else None, request)

    def _ask(self, method: str, params: Json, request: Request | None = None, tag: str = "") -> None:
        self._beginning += method in _BEGINS
        post(self._upstream, Ask(method, params, request, self._seat.actor_ref, tag))

    def _resume(self, request: Request) -> None:
        params = request.params
        assert isinstance(params, PassedParams)
        self._resuming.append(request)
        raw = params.raw
        if self._holds(params):  # it has the turns already
            raw = {**raw, "excludeTurns": True}
        self._ask("thread/resume", raw, request, tag="events" if self._holds(params) else "")

    def _holds(self, params: PassedParams) -> bool:
        return params.after_seq is not None and self._feed.holds_after(params.after_seq, params.epoch)

    def _on_resumed(self, message: Answered, request: Request) -> None:
        if request not in self._resuming:
            return  # it has gone
        params = request.params
        assert isinstance(params, PassedParams)
        error = message.error
        if error is None and thread_of(message.result) is None:
            error = RpcError(ErrorCode.INTERNAL_ERROR, "the upstream's answer has no thread")
        if error is None:
            result = orjson.loads(message.result)
            if not self._is_attached:
                self._is_attached = True
                self._note_loaded(result)
        elif self._is_attached and error.code == ErrorCode.INVALID_REQUEST:
            # It has the thread, and has nothing stored of it: never used, or ephemeral.
            result = self._known_snapshot()
        else:
            self._resuming.remove(request)
            self._feed.refuse(request, error)
            self._do_deferred()
            return
        if message.ask.tag == "events" and not self._holds(params):  # they fell out of the log meanwhile
            self._ask("thread/resume", params.raw, request)
            return
        self._resuming.remove(request)
        after_seq = params.after_seq if message.ask.tag == "events" else None
        self._scene.add_open_items(result["thread"])
        self._seat.subscribe(request, lambda: result, after_seq)
        self._do_deferred()

    def _do_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for request in deferred:
            post(self._seat.actor_ref, request)

    def _on_attached(self, error: RpcError | None) -> None:
        waiting, self._waiting = self._waiting, []
        self._is_attached = error is None
        for request in waiting:
            if error is None:
                self._pass_on(request)
            else:
                self._feed.refuse(request, error)
                if request.method.name in ENDS_THREAD:
                    self._seat.stay()

    # Events

    def _on_resolved(self, params: bytes) -> None:
        try:
            upstream_id = msgspec.json.decode(params, type=_Resolved).request_id
        except (msgspec.DecodeError, msgspec.ValidationError):
            return
        prompt_id = self._open_prompts.pop(upstream_id, None)
        if prompt_id is not None:  # else it was a client's answer that ended it, and that has been told
            self._prompts.drop(prompt_id)

    def _fail(self, turn: RunningTurn) -> None:
        ids = {"threadId": self._id, "turnId": turn.id}
        for item in turn.items.values():
            item.cut()
            self._feed.notify("item/completed", {**ids, "completedAtMs": now_ms(), "item": item.json()})
        error = {"message": "the upstream app-server has ended", "codexErrorInfo": "other"}
        self._scene.status = {"type": "systemError"}
        status = {"threadId": self._id, "status": self._scene.status}
        self._feed.notify("thread/status/changed", status, to_everybody=True)
        self._feed.notify("error", {**ids, "error": error, "willRetry": False})
        self._feed.notify("turn/completed", {"threadId": self._id, "turn": turn.failed_json(error)})

    def _finish(self) -> None:
        if not self._has_finished:
            self._has_finished = True
            self._prompts.drop_all(with_hosts=True)
            self._seat.finish()

    def _note_loaded(self, result: JsonObject) -> None:
        """Note how the thread is, as the upstream has just loaded it: from now on its notifications tell."""
        thread = result["thread"]
        self._scene.take_snapshot(thread)
        self._known = {**result, "thread": {**thread, "turns": []}}

    def _known_snapshot(self) -> JsonObject:
        turn = self._scene.turn
        turns = [] if turn is None else [{"id": turn.id, "items": [], "status": "inProgress"}]
        return {**self._known, "thread": {**self._known["thread"], "status": self.status, "turns": turns}}
