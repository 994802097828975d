"""The Connection actor: one client's session.

Owns what the client said of itself, what it is subscribed to, its requests in flight and what is on
its way out (`Outgoing`). Reads messages, answers `initialize` and what is asked about products, passes
requests to the router, and sends what comes back; it alone sends to its link. It knows no thread but
those the client is subscribed to, as somebody to give bytes back to.

Accepts  Received, LinkDrained, InputEnded, LinkClosed, from its link
         Reply, Refuse, Subscribed, Unsubscribed, PromptEnded, PromptMisfit, Deliver, Broadcast,
         FellBehind, Close
Sends    to the router:  ConnectionOpened, ConnectionInitialized, Request, ConnectionClosed
         to threads:     Progress, PromptAnswer
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar

from trunkline.access import Scope
from trunkline.actor import PooledActor, handles, post
from trunkline.admission import Admission
from trunkline.asked import Asked
from trunkline.context import Context
from trunkline.errors import Disconnected, RpcError
from trunkline.log import Chunk, Event
from trunkline.messages import (
    Broadcast,
    Close,
    ConnectionClosed,
    ConnectionInitialized,
    ConnectionOpened,
    Deliver,
    FellBehind,
    InputEnded,
    LinkClosed,
    LinkDrained,
    PromptAnswer,
    PromptEnded,
    PromptMisfit,
    PushNotification,
    Received,
    Ref,
    Refuse,
    Reply,
    Request,
    Subscribed,
    Unsubscribed,
    Warn,
)
from trunkline.outgoing import Outgoing, Slow, StallDue, Window
from trunkline.own_methods import Call
from trunkline.protocol import errors
from trunkline.protocol.envelope import (
    IncomingNotification,
    IncomingRequest,
    IncomingResponse,
    MalformedMessage,
    encode_error,
    encode_notification,
    encode_result,
    now_ms,
    parse,
)
from trunkline.protocol.methods import (
    EXPERIMENTAL_NOTIFICATIONS,
    Answerer,
    Method,
    check_experimental,
)
from trunkline.protocol.params import ClientInfo, InitializeParams
from trunkline.protocol.product import product_answer
from trunkline.protocol.server_info import server_json
from trunkline.status import STATUS_METHOD
from trunkline.transports.base import Link
from trunkline.transports.closes import BUG, NORMAL, SILENT, STOPPING, TOO_SLOW, Ending
from trunkline.types import ConnectionId, Json, RequestId, ThreadId

__all__ = ["Connection"]

logger = logging.getLogger(__name__)


class _State(Enum):
    """Where a connection is in its life. It goes one way, and may leave out steps."""

    OPENED = 1
    """The client may send `initialize` and nothing else; it is sent nothing but answers."""
    INITIALIZED = 2
    """Requests are taken, and events are sent."""
    CLOSING = 3
    """No more requests are taken; what is under way is answered, then the link is closed."""
    CLOSED = 4
    """The link is gone, or going."""


class Connection(PooledActor):
    """One client's connection: the rules of a session, and how a client is sent bytes.

    `InProcessSession` sends one in this process what it is, by the same rules: it overrides what forms an
    output.

    Args:
        context: what the server's actors share.
        router: the server's router.
        link: the transport connection.
        connection_id: its id.
        on_input_done: called once when the client sends no more and everything it asked is answered;
            must not block. None closes the link.

    """

    _is_in_process: ClassVar[bool] = False
    """Whether its client is in this process and takes events as they are."""

    def __init__(
        self,
        *,
        context: Context,
        router: Ref,
        link: Link,
        connection_id: ConnectionId,
        on_input_done: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(dispatcher=context.dispatcher)
        # CPython shares the names of 30 attributes at most among all connections: one more, with those of
        # every actor, and each idle connection takes 1.3 KB more.
        self._context = context
        self._limits = context.config.limits
        self._read_call = context.read_call
        self._router = router
        self._link = link
        self._framing = link.framing
        # What the client may do: settled where it came in. An enum is slow to look up, so that is done once.
        self._access = link.access
        self._may_answer = Scope.DRIVE in self._access.scopes
        self._id = connection_id
        self._on_input_done = on_input_done
        self._is_input_done = False
        self._state = _State.OPENED
        self._close_with = NORMAL
        self._admission = Admission(self._limits, context.request_slots)
        self._metrics = context.metrics
        self._outgoing = Outgoing(
            connection_id=connection_id,
            connection=self.actor_ref,
            link=link,
            join=self._join,
            limits=self._limits,
            timers=context.timers,
            metrics=context.metrics,
        )
        self._subscriptions: dict[ThreadId, Window] = {}
        # Prompts this connection was sent and that have not ended.
        self._prompts = Asked(connection_id)
        # Notifications that are left out: opt-outs, and experimental ones.
        self._unwanted: frozenset[str] = EXPERIMENTAL_NOTIFICATIONS
        self._is_experimental = False
        # Who the client says it is; None before `initialize`.
        self._client: ClientInfo | None = None

    def on_start(self) -> None:
        """Tell the router that the connection is there."""
        try:
            self._metrics.mine.opened += 1
            if not post(self._router, ConnectionOpened(self._id, self.actor_ref, self._link.is_remote)):
                self.stop()  # the server has ended
            name = self._access.named(self._link.name)
            logger.info("= connection %s: open, %s", self._id, name, extra=self._ids)
        except BaseException:
            self.on_failure(None, None, None)  # after a failure here it is not called
            raise

    def on_batch_end(self) -> None:
        """Send what the batch produced."""
        self._flush()
        is_asked_to_end = self._is_input_done or self._state is _State.CLOSING
        if is_asked_to_end and self._admission.in_flight == 0 and not self._outgoing:
            self._finish()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the link: this client has met a bug of ours, and nobody else shall."""
        self._link.close(*BUG)
        self._leave()

    def on_stop(self) -> None:
        """Leave nothing behind, whoever stopped the actor."""
        self._link.close(*STOPPING)
        self._leave()

    def on_undelivered(self, message: Any) -> None:
        """Tell who waits that the connection has ended."""
        if isinstance(message, PushNotification):
            message.taken.fail(self._disconnected())

    # From the link

    @handles(Received)
    def _on_received(self, message: Received) -> None:
        for text in message.texts:
            # What a client sent before it went away and nobody has begun is not begun: JSON-RPC gives
            # no promise, and the reference does the same.
            if not self._takes_requests:
                break
            try:
                self._on_text(text)
            except MalformedMessage as malformed:
                self._send_error(malformed.id, malformed.error)
        self._outgoing.note_consumed(len(message.texts))

    @handles(LinkDrained)
    def _on_link_drained(self, _message: LinkDrained) -> None:
        """Go on sending: the end of the batch does."""

    @handles(InputEnded)
    def _on_input_ended(self, _message: InputEnded) -> None:
        self._is_input_done = True

    @handles(LinkClosed)
    def _on_link_closed(self, message: LinkClosed) -> None:
        logger.info("= connection %s: closed with %s", self._id, message.closed.code, extra=self._ids)
        self._metrics.closed(message.closed.code)
        if message.closed.reason == SILENT.reason:
            self._metrics.was_slow("ping")
        self._leave()
        self.stop()

    @property
    def _takes_requests(self) -> bool:
        return self._link.is_open and self._state.value < _State.CLOSING.value

    def _on_text(self, text: str) -> None:
        message = parse(text, self._limits.max_json_depth)
        if isinstance(message, IncomingRequest):
            self._on_request(message)
        elif isinstance(message, IncomingResponse):
            self._on_response(message)
        else:
            self._on_notification(message)

    def _on_request(self, message: IncomingRequest) -> None:
        try:
            method, params = self._read_call(message.method, message.params)
            if method.answerer is Answerer.CONNECTION and isinstance(params, InitializeParams):
                self._initialize(message.id, params)
                self._metrics.mine.answered[method.name] += 1
                return
            if self._state is _State.OPENED:
                raise errors.invalid_request("Not initialized")
            if method.scope not in self._access.scopes:
                raise errors.forbidden(method.scope.value)
            if not self._is_experimental:
                check_experimental(method, message.params)
            if method.answerer is Answerer.CONNECTION:
                self._answer_here(message.id, method)
                self._metrics.mine.answered[method.name] += 1
                return
            self._admission.begin(message.id, method, params, self._subscriptions)
        except RpcError as error:
            self._metrics.failed(message.method, error)
            self._send_error(message.id, error)
            return
        if method.answerer is Answerer.HOST:
            self._begin_call(message.id, method, params)
            return
        request = Request(
            connection_id=self._id,
            reply_to=self.actor_ref,
            id=message.id,
            method=method,
            params=params,
            is_in_process=self._is_in_process,
            may_answer=self._may_answer,
        )
        if not post(self._router, request):
            self._on_refuse(Refuse(message.id, errors.draining()))

    def _answer_here(self, request_id: RequestId, method: Method) -> None:
        context = self._context
        is_status = method.name == STATUS_METHOD
        result = context.status() if is_status else product_answer(method.name, context.agent_name)
        if result is None:
            raise errors.method_not_found(method.name)
        self._send_result(request_id, result)

    def _begin_call(self, request_id: RequestId, method: Method, params: Any) -> None:
        """Have a function of the host's answer; it tells a `Reply` or a `Refuse`."""
        assert self._client is not None
        call = Call(
            method=method.name,
            connection_id=self._id,
            connection=self.actor_ref,
            client=self._client,
            access=self._access,
            thread=self._context.thread_handle,
        )
        try:
            self._context.own_methods.begin(method, params, call, request_id, self.actor_ref)
        except RpcError as error:
            self._on_refuse(Refuse(request_id, error))

    def _on_response(self, message: IncomingResponse) -> None:
        thread = None
        if self._state is not _State.OPENED and isinstance(message.id, int):
            thread = self._prompts.thread_of(message.id)
        if thread is None or not isinstance(message.id, int):
            text = "x connection %s: an answer to nothing it was asked is ignored"
            logger.info(text, self._id, extra=self._ids)
            return
        if not self._may_answer:
            # There is no request of the client's that this would answer: hence the null id.
            self._send_error(None, errors.forbidden(Scope.DRIVE.value))
            return
        if self._prompts.take_answer(message.id):
            who = self._access.named(self._link.name)
            answer = PromptAnswer(self._id, self.actor_ref, message.id, message.result, message.failed, who)
            post(thread, answer)

    def _on_notification(self, _message: IncomingNotification) -> None:
        # `initialized` asks for nothing, and a client's other notifications are not known here.
        logger.debug("< connection %s: a notification is ignored", self._id, extra=self._ids)

    # The handshake

    def _initialize(self, request_id: RequestId, params: InitializeParams) -> None:
        if self._state is not _State.OPENED:
            raise errors.invalid_request("Already initialized")
        name = params.client_info.name
        if not all(character == "\t" or " " <= character <= "~" for character in name):
            raise errors.invalid_request(
                f"Invalid clientInfo.name: '{name}'. Must be a valid HTTP header value."
            )
        capabilities = params.capabilities
        if capabilities is not None:
            self._is_experimental = bool(capabilities.experimental_api)
            hidden = frozenset() if self._is_experimental else EXPERIMENTAL_NOTIFICATIONS
            self._unwanted = hidden.union(capabilities.opt_out_notification_methods or ())
        self._client = params.client_info
        self._state = _State.INITIALIZED
        self._send_result(request_id, server_json(params.client_info))
        # Broadcasts come through the router, and so behind this answer.
        post(self._router, ConnectionInitialized(self._id, self._unwanted))
        logger.debug("= connection %s: initialized", self._id, extra=self._ids)

    # Answers

    @handles(Reply)
    def _on_reply(self, message: Reply) -> None:
        self._metrics.mine.answered[self._admission.end(message.request_id)] += 1
        self._send_result(message.request_id, message.result)

    @handles(Refuse)
    def _on_refuse(self, message: Refuse) -> None:
        self._metrics.failed(self._admission.end(message.request_id), message.error)
        self._send_error(message.request_id, message.error)

    @handles(Subscribed)
    def _on_subscribed(self, message: Subscribed) -> None:
        earlier = self._subscriptions.get(message.thread_id)
        if earlier is None:
            self._metrics.mine.subscriptions += 1
        self._subscriptions[message.thread_id] = Window(message.thread, message.generation)
        if earlier is not None:
            self._end_window(earlier)
        self._on_reply(message.reply)
        for prompt_id, event in message.prompts:
            self._prompts.add(prompt_id, message.thread)
            if event is not None:
                self._put_prompt(message.thread_id, event)

    @handles(Unsubscribed)
    def _on_unsubscribed(self, message: Unsubscribed) -> None:
        subscription = self._subscriptions.get(message.thread_id)
        is_newer = message.generation is not None and (
            subscription is not None and subscription.generation > message.generation
        )
        if subscription is not None and not is_newer:
            self._metrics.mine.subscriptions -= 1
            del self._subscriptions[message.thread_id]
            self._end_window(subscription)
            if message.generation is None:  # the thread has ended, and with it what it asked
                self._prompts.thread_ended(subscription.thread)
        if message.reply is not None:
            self._on_reply(message.reply)

    def _end_window(self, window: Window) -> None:
        self._outgoing.end_window(window)
        if self._outgoing.has_excess:
            self._flush()  # the batch may end many of them

    @handles(PromptEnded)
    def _on_prompt_ended(self, message: PromptEnded) -> None:
        self._prompts.ended(message.prompt_id)

    @handles(PromptMisfit)
    def _on_prompt_misfit(self, message: PromptMisfit) -> None:
        self._prompts.misfitted(message.prompt_id)

    # Events

    @handles(Deliver)
    def _on_deliver(self, message: Deliver) -> None:
        subscription = self._subscriptions.get(message.thread_id)
        if subscription is None:
            return
        self._outgoing.deliver(message, self._unwanted, subscription)
        for chunk in message.chunks:
            if chunk.prompts or chunk.resolved:
                self._note_prompts(chunk, subscription.thread)

    @handles(Broadcast)
    def _on_broadcast(self, message: Broadcast) -> None:
        if message.thread_id not in self._subscriptions:
            self._outgoing.put(message.chunk.framed(self._framing, self._unwanted))

    @handles(Warn)
    def _on_warn(self, message: Warn) -> None:
        self._warn(message.text, message.thread_id)

    @handles(PushNotification)
    def _on_push_notification(self, message: PushNotification) -> None:
        if message.method not in self._unwanted:
            self._send_notification(message.method, message.params)
        self._outgoing.note_pushed(message.taken)

    @handles(FellBehind)
    def _on_fell_behind(self, message: FellBehind) -> None:
        ids = {**self._ids, "threadId": message.thread_id}
        logger.warning("x connection %s: too far behind in thread %s", self._id, message.thread_id, extra=ids)
        self._close_slow("log")

    @handles(Close)
    def _on_close(self, message: Close) -> None:
        if self._state.value < _State.CLOSING.value:
            self._state = _State.CLOSING
            self._close_with = message.ending

    def _put_prompt(self, thread_id: ThreadId, event: Event) -> None:
        """Send a prompt that was open when the client subscribed."""
        self._outgoing.put(self._framing.frame(event.encode()))

    def _note_prompts(self, chunk: Chunk, thread: Ref) -> None:
        for part in chunk.parts:
            if not isinstance(part, Event):
                continue
            if part.prompt_id is not None:
                self._prompts.add(part.prompt_id, thread)
            elif part.resolves is not None:
                self._prompts.ended(part.resolves)

    # Out

    def _send_result(self, request_id: RequestId, result: Json) -> None:
        self._send(encode_result(request_id, result))

    def _send_error(self, request_id: RequestId | None, error: RpcError) -> None:
        self._send(encode_error(request_id, error))

    def _send_notification(self, method: str, params: Json) -> None:
        """Send what is no thread's event."""
        self._send(encode_notification(method, params, now_ms()))

    def _send(self, payload: bytes) -> None:
        self._outgoing.put(self._framing.frame(payload))

    @staticmethod
    def _join(outputs: Sequence[Any]) -> Any:
        """Make one output of several."""
        return b"".join(outputs)

    def _flush(self) -> None:
        """Hand the link what it takes, and see whether it takes enough."""
        slow = self._outgoing.flush()
        if slow is not None:
            self._on_unread(slow)

    def _on_unread(self, slow: Slow) -> None:
        if slow is Slow.WARN:
            self._warn("this connection leaves too much unread and will be closed if that goes on", None)
        else:
            logger.warning("x connection %s: it leaves too much unread", self._id, extra=self._ids)
            self._close_slow("unsent")

    @handles(StallDue)
    def _on_stall_due(self, message: StallDue) -> None:
        slow = self._outgoing.stall_due(message)
        if slow is Slow.WARN:
            self._warn("this connection takes nothing and will be closed if that goes on", None)
        elif slow is Slow.CLOSE:
            logger.warning("x connection %s: it takes nothing any more", self._id, extra=self._ids)
            self._close_slow("stall")

    def _warn(self, text: str, thread_id: ThreadId | None) -> None:
        if "warning" not in self._unwanted and self._state is _State.INITIALIZED:
            self._send_notification("warning", {"threadId": thread_id, "message": text})

    @property
    def _ids(self) -> dict[str, int]:
        """What a line of the log is about."""
        return {"connectionId": self._id}

    # The end

    def _finish(self) -> None:
        if self._state is _State.CLOSING:
            self._close(self._close_with)
            return
        self._is_input_done = False
        if self._on_input_done is None:
            self._close(NORMAL)
        else:
            self._on_input_done()

    def _close_slow(self, at: str) -> None:
        if self._state is not _State.CLOSED:
            self._metrics.was_slow(at)
        self._close(TOO_SLOW)

    def _close(self, ending: Ending) -> None:
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSED
            self._outgoing.close()
            self._link.close(*ending)

    def _leave(self) -> None:
        """Forget everything and have everybody forget this connection. Idempotent."""
        self._state = _State.CLOSED
        self._admission.abandon()
        self._metrics.mine.subscriptions -= len(self._subscriptions)
        self._subscriptions.clear()
        self._prompts.clear()
        self._outgoing.abandon(self._disconnected())
        post(self._router, ConnectionClosed(self._id))

    def _disconnected(self) -> Disconnected:
        return Disconnected(*self._close_with)
