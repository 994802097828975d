"""An attached session: one thread of one server, seen and steered by one user.

Owns what the client knows of its thread: the running turn, the open prompts, which turns are ours. It waits
for nothing and draws nothing: messages from the server and from the user go into `handle`, one at a time, on
one thread; requests go to the connection, whose answers come back as messages, and text to the console.

Accepts  Incoming (client.py), UserInput (console.py)
Sends    requests and answers, to the connection; text and questions, to the console
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from trunkline_cli.client import (
    ClientError,
    Disconnected,
    Incoming,
    Notification,
    Reply,
    RequestId,
    RpcFailure,
    ServerGone,
    ServerRequest,
)
from trunkline_cli.console import Console, InputEnded, Interrupt, Leave, Line, UserInput
from trunkline_cli.exits import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK
from trunkline_cli.prompts import Approval, NotUnderstood, Prompt, Questions, read_prompt
from trunkline_cli.render import Renderer
from trunkline_cli.text import Palette, visible

__all__ = ["NotOpened", "Options", "Outcome", "Place", "Session", "ThreadGone"]

JsonObject: TypeAlias = dict[str, Any]

METHOD_NOT_FOUND = -32601


class Connection(Protocol):
    """What the session needs of a `Client`."""

    def send(self, method: str, params: JsonObject | None = None) -> RequestId: ...
    def respond(self, request_id: RequestId, result: JsonObject) -> None: ...
    def refuse(self, request_id: RequestId, code: int, message: str) -> None: ...


class NotOpened(ClientError):
    """The server does not give us the thread."""

    def __init__(self, verb: str, failure: RpcFailure) -> None:
        super().__init__(verb, failure)
        self.verb = verb
        """What was tried: `start` or `resume`."""
        self.failure = failure

    def __str__(self) -> str:
        return f"cannot {self.verb} the thread: {self.failure}"


class ThreadGone(ClientError):
    """The thread is not there any more."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how
        """`closed`, `archived` or `deleted`."""

    def __str__(self) -> str:
        return f"the thread was {self.how} by the server or another client"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about a session."""

    url: str
    """Where the server is, for others to attach."""
    thread_id: str | None = None
    """The thread to resume; None starts one."""
    allow_all: bool = False
    """Whether every approval is given without asking."""
    cwd: str | None = None
    """The working directory of a new thread; None leaves it to the server."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended."""

    exit_code: int
    error: ClientError | None = None
    """What to say about it."""


@dataclass(slots=True)
class Place:
    """How far we are in a thread's events: what a server needs to be told to send the ones after."""

    thread_id: str
    epoch: str | int | None = None
    seq: int | None = None


class Session:
    """The state of an attached session. Call `begin`, then `handle` until there is an `outcome`."""

    def __init__(self, connection: Connection, console: Console, palette: Palette, options: Options) -> None:
        self._connection = connection
        self._console = console
        self._palette = palette
        self._options = options
        self.outcome: Outcome | None = None
        # None until the server has answered the request that starts or resumes the thread.
        self._place: Place | None = None
        # What to do with the answers that are still to come.
        self._on_reply: dict[RequestId, Callable[[Reply], None]] = {}
        # Client ids of our own messages, which the user has seen when typing them.
        self._own_messages: set[str] = set()
        self._renderer = Renderer(console, palette, self._own_messages)
        # The running turn, ours or another client's. `_starting` counts our requests for one that
        # have not been answered.
        self._turn: str | None = None
        self._starting = 0
        self._own_turns: set[str] = set()
        self._interrupting = False
        # The turn whose error has been shown; it comes twice, alone and with the end of the turn.
        self._told_error_of = ""
        # Prompts that nobody has answered, oldest first, and the one that the user is being asked.
        self._open: dict[RequestId, Prompt] = {}
        self._asking: Prompt | None = None
        # For a pipe: whether a line has been asked for, whether there are no more, whether all went well.
        self._reading = False
        self._input_ended = False
        self._has_failed = False

    @property
    def place(self) -> Place | None:
        """How far we are in the thread's events; None before it is open."""
        return self._place

    def begin(self) -> None:
        """Start the thread, or resume it."""
        if self._options.thread_id is None:
            params = {} if self._options.cwd is None else {"cwd": self._options.cwd}
            self._send("thread/start", params, self._on_opened)
        else:
            self._send("thread/resume", {"threadId": self._options.thread_id}, self._on_opened)

    def handle(self, message: Incoming | UserInput) -> None:
        """Take one message."""
        # Noticed by writing; the reason comes with the `Disconnected` that is on its way.
        with contextlib.suppress(ServerGone):
            self._dispatch(message)

    def _dispatch(self, message: Incoming | UserInput) -> None:
        match message:
            case Notification():
                self._on_notification(message)
            case ServerRequest():
                self._on_server_request(message)
            case Reply():
                if (on_reply := self._on_reply.pop(message.id, None)) is not None:
                    on_reply(message)
            case Disconnected():
                self._finish(EXIT_FAILURE, message.error)
            case Line():
                self._on_line(message)
            case Interrupt():
                self._on_interrupt()
            case InputEnded():
                self._input_ended = True
                self._reading = False
                self._go_on()
            case Leave():
                self._finish(message.exit_code)
        self._show_prompt()

    def _send(self, method: str, params: JsonObject, on_reply: Callable[[Reply], None]) -> None:
        # The answer is a message like others, so it cannot come before this has returned.
        self._on_reply[self._connection.send(method, params)] = on_reply

    def _finish(self, exit_code: int, error: ClientError | None = None) -> None:
        if self.outcome is None:
            self.outcome = Outcome(exit_code, error)

    # The thread

    def _on_opened(self, reply: Reply) -> None:
        if reply.failure is not None:
            verb = "start" if self._options.thread_id is None else "resume"
            self._finish(EXIT_FAILURE, NotOpened(verb, reply.failure))
            return
        result = reply.result
        thread: JsonObject = result.get("thread") or {}
        self._place = Place(str(thread.get("id")), result.get("epoch"), result.get("seq"))
        self._introduce(thread)
        self._show_turns(thread.get("turns") or [])
        self._go_on()

    def _introduce(self, thread: JsonObject) -> None:
        thread_id = visible(str(thread.get("id")))
        said = "resumed" if self._options.thread_id is not None else "started"
        # All of it on one line each: the second is to be copied as it stands.
        self._note_dim(f"thread {thread_id} {said} in {visible(str(thread.get('cwd') or '?'))}")
        self._note_dim(f"join it with: trunkline attach {self._options.url} --thread {thread_id}")
        if self._console.interactive:
            self._note_dim("Ctrl-C interrupts a turn, or leaves; Ctrl-D leaves")

    def _show_turns(self, turns: list[JsonObject]) -> None:
        running = [turn for turn in turns if turn.get("status") == "inProgress"]
        if self._console.interactive:
            self._renderer.history([turn for turn in turns if turn not in running])
        for turn in running:
            self._turn = str(turn.get("id"))
            for item in turn.get("items") or ():
                is_open = item.get("status") == "inProgress" or item.get("completedAtMs", 0) is None
                self._renderer.started(item) if is_open else self._renderer.completed(item)

    def _on_notification(self, message: Notification) -> None:
        params = message.params
        thread_id = params.get("threadId") or (params.get("thread") or {}).get("id")
        if self._place is None or thread_id != self._place.thread_id:
            return
        if message.seq is not None:
            self._place.seq = message.seq
        match message.method:
            case "item/started":
                self._renderer.started(params.get("item") or {})
            case "item/completed":
                self._renderer.completed(params.get("item") or {})
            case "item/agentMessage/delta" | "item/plan/delta" | "item/commandExecution/outputDelta":
                self._renderer.delta(str(params.get("itemId")), str(params.get("delta") or ""))
            case "turn/started":
                self._turn = str((params.get("turn") or {}).get("id"))
            case "turn/completed":
                self._on_turn_completed(params.get("turn") or {})
            case "serverRequest/resolved":
                self._on_resolved(params.get("requestId"))
            case "error":
                self._on_error(params)
            case "warning":
                self._console.note(self._palette.bad(f"warning: {visible(str(params.get('message')))}"))
            case "thread/name/updated":
                self._note_dim(f"the thread is now called {visible(str(params.get('threadName')))}")
            case "thread/archived" | "thread/deleted" | "thread/closed":
                self._finish(EXIT_FAILURE, ThreadGone(message.method.removeprefix("thread/")))
            case _:
                pass  # a kind of news that has no place on this screen

    def _on_error(self, params: JsonObject) -> None:
        text = str((params.get("error") or {}).get("message"))
        if params.get("willRetry"):
            self._note_dim(f"trying again: {visible(text)}")
        else:
            self._told_error_of = str(params.get("turnId"))
            self._console.note(self._renderer.error(text))

    def _on_turn_completed(self, turn: JsonObject) -> None:
        turn_id = str(turn.get("id"))
        self._drop_prompts(turn_id)
        self._renderer.turn_ended()
        if turn.get("status") != "completed":
            self._has_failed = self._has_failed or turn_id in self._own_turns
            if turn.get("status") != "failed" or self._told_error_of != turn_id:
                self._console.note(self._renderer.turn_ending(turn))
        if turn_id == self._turn:
            self._turn = None
        was_interrupting, self._interrupting = self._interrupting, False
        if was_interrupting and not self._console.interactive:
            self._finish(EXIT_INTERRUPTED)
        self._go_on()

    # What the user does

    def _on_line(self, line: Line) -> None:
        self._reading = False
        if line.answers is not None:
            self._on_answer(line)
        elif line.text.strip():
            self._say(line.text)
        else:
            self._go_on()

    def _say(self, text: str) -> None:
        """Send what was typed: to the running turn, or as a new one."""
        if self._place is None:
            self._note_dim("not yet: the thread is not open")
            return
        message_id = str(uuid.uuid4())
        self._own_messages.add(message_id)
        params = {
            "threadId": self._place.thread_id,
            "input": [{"type": "text", "text": text, "text_elements": []}],
            "clientUserMessageId": message_id,
        }
        if self._turn is None:
            self._start_turn(params)
            return

        def on_steered(reply: Reply) -> None:
            if reply.failure is None:
                self._own_turns.add(str(reply.result.get("turnId")))
            elif self._turn != params["expectedTurnId"]:
                # The turn ended while the steer was on its way: what was said begins the next one.
                self._start_turn({name: params[name] for name in params if name != "expectedTurnId"})
            else:
                self._on_refused(reply.failure)

        params["expectedTurnId"] = self._turn
        self._send("turn/steer", params, on_steered)

    def _start_turn(self, params: JsonObject) -> None:
        self._starting += 1
        self._send("turn/start", params, self._on_turn_accepted)

    def _on_turn_accepted(self, reply: Reply) -> None:
        self._starting -= 1
        if reply.failure is not None:
            self._on_refused(reply.failure)
            return
        # The answer comes before the turn's events, so the turn cannot have ended already.
        self._turn = str((reply.result.get("turn") or {}).get("id"))
        self._own_turns.add(self._turn)
        if self._interrupting:
            self._send_interrupt()

    def _on_refused(self, failure: RpcFailure) -> None:
        self._has_failed = True
        self._interrupting = False
        self._console.note(self._palette.bad(visible(str(failure))))
        self._go_on()

    def _on_interrupt(self) -> None:
        is_busy = self._turn is not None or self._starting > 0
        if not is_busy or self._interrupting:
            self._finish(EXIT_INTERRUPTED)
            return
        self._interrupting = True
        self._note_dim("interrupting; Ctrl-C again leaves")
        if self._turn is not None:
            self._send_interrupt()

    def _send_interrupt(self) -> None:
        assert self._place is not None
        turn_id = self._turn

        def on_reply(reply: Reply) -> None:
            # If the turn has ended by itself, that it is not there is no news.
            if reply.failure is not None and self._turn == turn_id:
                self._interrupting = False
                self._console.note(self._palette.bad(visible(str(reply.failure))))

        self._send("turn/interrupt", {"threadId": self._place.thread_id, "turnId": turn_id}, on_reply)

    def _go_on(self) -> None:
        """Take the next step of a session that is not told each step: the next line, or the end."""
        if self._console.interactive:
            if self._input_ended:
                self._finish(EXIT_OK)
        elif self._place is not None and self._turn is None and self._starting == 0:
            if self._input_ended:
                self._finish(EXIT_FAILURE if self._has_failed else EXIT_OK)
            elif not self._reading:
                self._reading = True
                self._console.want_line()

    # What the server asks

    def _on_server_request(self, request: ServerRequest) -> None:
        if self._place is None or request.params.get("threadId") != self._place.thread_id:
            return
        if request.seq is not None:
            self._place.seq = request.seq
        if request.id in self._open:
            return  # sent again to those who resume
        prompt = read_prompt(request, self._palette)
        if isinstance(prompt, Approval) and self._options.allow_all:
            self._connection.respond(request.id, {"decision": "accept"})
            self._note_dim(f"allowed by --yes: {prompt.subject}")
        elif prompt is None or (isinstance(prompt, Questions) and prompt.is_empty):
            self._on_unanswerable(request)
        elif self._console.interactive:
            self._open[request.id] = prompt
            self._ask_next()
        else:
            self._decline(prompt)

    def _on_unanswerable(self, request: ServerRequest) -> None:
        # The first answer settles a prompt for all, so a client that cannot answer leaves it to the others;
        # but a pipe has nobody who could do something about a turn that waits for ever.
        if not self._console.interactive and request.params.get("turnId") in self._own_turns:
            self._connection.refuse(request.id, METHOD_NOT_FOUND, "this client cannot answer that")
        else:
            self._note_dim(f"left to other clients: {visible(request.method)}")

    def _decline(self, prompt: Prompt) -> None:
        """Answer for a pipe, where nobody can be asked."""
        if prompt.turn_id not in self._own_turns:
            self._note_dim("left to other clients: a prompt of a turn that is not ours")
            return
        self._has_failed = True
        if isinstance(prompt, Approval):
            self._connection.respond(prompt.id, {"decision": "decline"})
            text = (
                f"declined {prompt.subject}: nobody can be asked without a terminal; --yes allows everything"
            )
        else:
            self._connection.respond(prompt.id, {"answers": {}})
            text = "a question was left without an answer: nobody can be asked without a terminal"
        self._console.note(self._palette.bad(text))

    def _ask_next(self) -> None:
        """Ask the user the oldest open prompt, unless one is being asked."""
        if self._asking is None and self._open:
            self._asking = next(iter(self._open.values()))
            self._ask()

    def _ask(self) -> None:
        assert self._asking is not None
        item_id = getattr(self._asking, "item_id", "")
        details = self._asking.details(item_is_shown=self._renderer.knows(item_id))
        if details:
            self._console.note(details)
        self._console.ask(self._asking.question(), self._asking.id, secret=self._asking.is_secret)

    def _on_answer(self, line: Line) -> None:
        prompt = self._asking
        if prompt is None or line.answers != prompt.id:
            self._note_dim("too late: that was settled")
            return
        try:
            result = prompt.take(line.text)
        except NotUnderstood as error:
            self._note_dim(str(error))
            self._console.ask(prompt.question(), prompt.id, secret=prompt.is_secret)
            return
        if result is None:
            self._ask()
            return
        self._connection.respond(prompt.id, result)
        self._stop_asking(prompt)

    def _on_resolved(self, request_id: RequestId | None) -> None:
        prompt = None if request_id is None else self._open.get(request_id)
        if prompt is None:
            return  # our own answer, or a prompt that we were never sent
        self._stop_asking(prompt)
        if not self._interrupting:
            self._note_dim("settled by another client")

    def _drop_prompts(self, turn_id: str) -> None:
        for prompt in [prompt for prompt in self._open.values() if prompt.turn_id == turn_id]:
            self._stop_asking(prompt)

    def _stop_asking(self, prompt: Prompt) -> None:
        del self._open[prompt.id]
        if prompt is self._asking:
            self._asking = None
            self._console.stop_asking()
            self._ask_next()

    # What the user sees

    def _note_dim(self, text: str) -> None:
        self._console.note(self._palette.dim(text))

    def _show_prompt(self) -> None:
        if self._place is None:
            return
        is_busy = self._turn is not None or self._starting > 0
        hint = self._palette.dim("running, Ctrl-C interrupts ") if is_busy else ""
        self._console.prompt(f"{hint}> ")
