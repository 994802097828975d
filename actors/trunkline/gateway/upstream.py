"""The Upstream actor: the one connection to the child, which carries all clients.

Gives each request an id of its own and brings the answer back; tells threads what the upstream says of
them, in its order; keeps the child running. It knows no client and no subscription.

Accepts  Lines, ChildEnded, from the child
         Ask, from the router and from threads; ThreadHere, ThreadGone, Unheard, PromptSettled, from threads,
         and Prompted that one of them could not take any more
Sends    to threads:     Notified, Prompted, Answered, Lost
         to the router:  Adopt, Broadcast
         to connections: Reply, Refuse
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from types import TracebackType

import orjson

from trunkline.actor import PooledActor, handles, post
from trunkline.context import Context
from trunkline.errors import RpcError
from trunkline.gateway.child import Child
from trunkline.gateway.messages import (
    Adopt,
    Answered,
    Ask,
    ChildEnded,
    Lines,
    Lost,
    Notified,
    Prompted,
    PromptSettled,
    ThreadGone,
    ThreadHere,
    Unheard,
    UseRouter,
)
from trunkline.gateway.wire import (
    BROADCASTS,
    Incoming,
    encode_refusal,
    encode_request,
    encode_response,
    read_line,
    rpc_error,
    thread_of,
)
from trunkline.log import Event
from trunkline.messages import Broadcast, Message, Ref, Refuse, Reply
from trunkline.protocol.envelope import encode_notification, now_ms
from trunkline.protocol.errors import overloaded
from trunkline.turns import Gate
from trunkline.types import ThreadId
from trunkline.version import VERSION

__all__ = ["Upstream"]

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.25
MOST_DELAY_S = 10.0
"""How long a child that has ended is not started again: this, doubled each time, up to that."""

SETTLED_S = 30.0
"""A child that has run for so long is started again as if it were the first."""

INITIALIZE_S = 60.0
"""How long a child may take to answer `initialize`."""

LOOK_AGAIN_S = 0.01


class _Restart(Message, frozen=True):
    """The delay is over."""


class _InitializeOverdue(Message, frozen=True):
    """A child has had its time to answer `initialize`."""

    generation: int


class _LookAgain(Message, frozen=True):
    """See whether the threads have caught up."""


class Upstream(PooledActor):
    """The upstream app-server.

    Args:
        context: what the server's actors share.
        command: the program to run and its arguments.
        run_child: has a child run on an edge; must not block.

    """

    def __init__(
        self, *, context: Context, command: Sequence[str], run_child: Callable[[Child], None]
    ) -> None:
        super().__init__(dispatcher=context.dispatcher)
        self._timers = context.timers
        self._high_water = context.config.limits.inbox_high_water
        self._keeps_prompts = context.config.prompt_without_subscriber == "wait"
        self._command = tuple(command)
        self._router: Ref | None = None
        self._run_child = run_child
        # The one that runs or ran last.
        self._child: Child | None = None
        # Numbers the children. What an earlier one still says is of no account.
        self._generation = 0
        limits = context.config.limits
        self._gate = Gate(self._inbox.messages.__len__, limits.inbox_high_water, limits.log_bytes // 4)
        self._is_ready = False  # initialized
        self._started_at = 0.0
        self._delay_s = FIRST_DELAY_S
        self._ids = itertools.count(1)
        self._asked: dict[int, Ask] = {}
        # What came before the child was initialized.
        self._unsent: list[Ask] = []
        # The threads that are loaded here.
        self._threads: dict[ThreadId, Ref] = {}
        # What was said of threads that the router is about to load: they are told once they are there.
        self._held: dict[ThreadId, list[Message]] = {}
        # Threads that were told something lately, or had too much to do when that was looked at last.
        self._behind: set[Ref] = set()

    def on_batch_end(self) -> None:
        """Have the child's reader wait while a thread is too far behind."""
        self._behind = {thread for thread in self._behind if _depth(thread) > self._high_water}
        self._gate.set_held(bool(self._behind))
        if self._behind:
            self._timers.tell_later(LOOK_AGAIN_S, self.actor_ref, _LookAgain())

    def on_stop(self) -> None:
        """Let the child end: whoever stops this waits for it."""
        self._end()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the child end, as nobody hears it any more."""
        self._end()

    def _end(self) -> None:
        self._gate.open_for_good()
        if self._child is not None:
            self._child.end_input()
        self._refuse_all()
        for thread in self._threads.values():
            post(thread, Lost())

    # The child

    @handles(UseRouter)
    def _on_use_router(self, message: UseRouter) -> None:
        self._router = message.router
        self._start_child()

    def _start_child(self) -> None:
        self._generation += 1
        generation, ref, gate = self._generation, self.actor_ref, self._gate
        self._started_at = self._timers.clock.monotonic()

        def on_lines(lines: tuple[bytes, ...]) -> None:  # on the child's reader
            gate.wait_open(sum(map(len, lines)))
            post(ref, Lines(generation, lines))

        def on_ended(reason: str) -> None:
            post(ref, ChildEnded(generation, reason))

        self._child = Child(self._command, on_lines, on_ended)
        self._run_child(self._child)
        params = {
            "clientInfo": {"name": "trunkline", "title": "trunkline", "version": VERSION},
            "capabilities": {"experimentalApi": True},
        }
        self._child.put(encode_request(0, "initialize", params))
        self._timers.tell_later(INITIALIZE_S, self.actor_ref, _InitializeOverdue(generation))

    @handles(_InitializeOverdue)
    def _on_initialize_overdue(self, message: _InitializeOverdue) -> None:
        if message.generation == self._generation and not self._is_ready:
            self._give_up(f"it has not answered `initialize` within {INITIALIZE_S:g} s")

    def _give_up(self, reason: str) -> None:
        """End a child that is no use; the next one may be."""
        logger.error("x upstream: %s", reason)
        assert self._child is not None
        self._child.kill()

    @handles(ChildEnded)
    def _on_child_ended(self, message: ChildEnded) -> None:
        if message.generation != self._generation:
            return
        logger.error("x upstream: %s", message.reason)
        self._is_ready = False
        if self._timers.clock.monotonic() - self._started_at > SETTLED_S:
            self._delay_s = FIRST_DELAY_S
        self._refuse_all()
        for thread in self._threads.values():
            post(thread, Lost())
        for held in self._held.values():
            held.append(Lost())
        self._timers.tell_later(self._delay_s, self.actor_ref, _Restart())
        self._delay_s = min(self._delay_s * 2, MOST_DELAY_S)

    @handles(_Restart)
    def _on_restart(self, _message: _Restart) -> None:
        logger.info("= upstream: it is started again")
        self._start_child()

    @handles(_LookAgain)
    def _on_look_again(self, _message: _LookAgain) -> None:
        """Nothing: the end of the batch looks."""

    # To the child

    @handles(Ask)
    def _on_ask(self, ask: Ask) -> None:
        if self._is_ready:
            self._send(ask)
        elif self._generation > 1 or self._child is None:
            self._refuse(ask, _not_running())
        else:
            self._unsent.append(ask)

    def _send(self, ask: Ask) -> None:
        assert self._child is not None
        request_id = next(self._ids)
        self._asked[request_id] = ask
        self._child.put(encode_request(request_id, ask.method, ask.params))

    @handles(PromptSettled)
    def _on_prompt_settled(self, message: PromptSettled) -> None:
        if message.generation != self._generation or self._child is None:
            return
        if message.is_refused:
            self._child.put(encode_refusal(message.id, "refused"))
        else:
            self._child.put(encode_response(message.id, message.result))

    @handles(ThreadHere)
    def _on_thread_here(self, message: ThreadHere) -> None:
        self._threads[message.thread_id] = message.thread
        for held in self._held.pop(message.thread_id, ()):
            post(message.thread, held)

    @handles(ThreadGone)
    def _on_thread_gone(self, message: ThreadGone) -> None:
        if self._threads.get(message.thread_id) is message.thread:
            del self._threads[message.thread_id]

    # From the child

    @handles(Lines)
    def _on_lines(self, message: Lines) -> None:
        if message.generation != self._generation:
            return
        for line in message.lines:
            incoming = read_line(line)
            if incoming is None:
                if line.strip():
                    logger.warning("x upstream: a line of %d bytes is no message", len(line))
            elif incoming.method and incoming.id is None:
                self._on_notification(incoming)
            elif incoming.method:
                self._on_prompt(incoming)
            else:
                self._on_response(incoming)

    def _on_notification(self, incoming: Incoming) -> None:
        thread_id = thread_of(incoming.params)
        params = bytes(incoming.params) or b"null"
        if thread_id is not None and self._tell(thread_id, Notified(incoming.method, params)):
            return
        if thread_id is None or incoming.method in BROADCASTS:
            self._broadcast(incoming.method, params)

    @handles(Unheard)
    def _on_unheard(self, message: Unheard) -> None:
        if message.method in BROADCASTS:
            self._broadcast(message.method, message.params)

    def _broadcast(self, method: str, params: bytes) -> None:
        payload = encode_notification(method, orjson.Fragment(params), now_ms())
        event = Event(0, method, payload, len(payload), to_everybody=True)
        # Of no thread that is loaded here: so nobody is subscribed, and nobody leaves it out.
        post(self._router, Broadcast.of(ThreadId(""), event))

    def _on_prompt(self, incoming: Incoming) -> None:
        assert incoming.id is not None
        thread_id = thread_of(incoming.params)
        prompted = Prompted(self._generation, incoming.id, incoming.method, bytes(incoming.params))
        if thread_id is None or not self._tell(thread_id, prompted):
            self._on_unasked(prompted)

    @handles(Prompted)
    def _on_unasked(self, message: Prompted) -> None:
        if message.generation != self._generation or self._child is None:
            return
        thread_id = thread_of(message.params)
        if thread_id is not None and self._keeps_prompts:
            # The upstream asks again when somebody resumes the thread.
            ids = {"threadId": thread_id}
            logger.info("= upstream: %s waits: nobody has thread %s", message.method, thread_id, extra=ids)
            return
        logger.warning("x upstream: nobody can be asked %s", message.method)
        self._child.put(encode_refusal(message.id, "no client is attached that could answer"))

    def _on_response(self, incoming: Incoming) -> None:
        if incoming.id == 0:
            self._on_initialized(incoming)
            return
        ask = self._asked.pop(incoming.id, None) if isinstance(incoming.id, int) else None
        if ask is None:
            logger.warning("x upstream: an answer to nothing it was asked: %r", incoming.id)
        elif incoming.error:
            self._refuse(ask, rpc_error(incoming.error))
        else:
            self._answer_ask(ask, bytes(incoming.result) or b"null")

    def _on_initialized(self, incoming: Incoming) -> None:
        if incoming.error:
            self._give_up(f"it refuses to be initialized: {rpc_error(incoming.error).message}")
            return
        assert self._child is not None
        self._child.put(encode_request(None, "initialized", None))
        self._is_ready = True
        logger.info("= upstream: ready")
        unsent, self._unsent = self._unsent, []
        for ask in unsent:
            self._send(ask)

    # Answers

    def _answer_ask(self, ask: Ask, result: bytes) -> None:
        request = ask.request
        if ask.reply_to is not None:
            post(ask.reply_to, Answered(ask, result))
        elif request is None:
            return
        elif ask.makes_thread and (thread_id := thread_of(result)) is not None:
            if thread_id not in self._threads:
                self._held.setdefault(thread_id, [])
            post(self._router, Adopt(request, thread_id, result))
        else:
            post(request.reply_to, Reply(request.id, orjson.Fragment(result)))

    def _refuse(self, ask: Ask, error: RpcError) -> None:
        if ask.reply_to is not None:
            post(ask.reply_to, Answered(ask, b"", error))
        elif ask.request is not None:
            post(ask.request.reply_to, Refuse(ask.request.id, error))

    def _refuse_all(self) -> None:
        asks = [*self._asked.values(), *self._unsent]
        self._asked.clear()
        self._unsent.clear()
        for ask in asks:
            self._refuse(ask, _not_running())

    def _tell(self, thread_id: ThreadId, message: Message) -> bool:
        """Tell a thread, now or once it is there; tell whether it is or will be."""
        thread = self._threads.get(thread_id)
        if thread is not None:
            post(thread, message)
            self._behind.add(thread)
            return True
        held = self._held.get(thread_id)
        if held is not None:
            held.append(message)
            return True
        return False


def _not_running() -> RpcError:
    """Return an error that the SDK takes as worth a retry."""
    error = overloaded()
    return RpcError(error.code, "The upstream app-server is not running; retry later.", error.data)


def _depth(thread: Ref) -> int:
    return len(thread.actor_inbox.messages)  # type: ignore[attr-defined]  # a pooled actor's
