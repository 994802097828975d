"""An attached session: one thread of one server, seen and steered by one user.

Owns what the client knows of its thread: the running turn, which turns are ours, and how far in the thread's
events we are. It waits for nothing and draws nothing: messages from the server and from the user go into
`handle`, one at a time, on one thread; requests go to the connection, whose answers come back as messages,
and text to the console.

A connection that is lost is got back by a `Reconnector`. Until the thread is resumed, and the events that
were missed have come, the session takes what the user types and sends nothing.

Accepts  Incoming (client.py), UserInput (console.py), Reopening (reconnect.py)
Sends    requests and answers, to the connection; text and questions, to the console
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from trunkline.protocol.errors import ErrorCode
from trunkline_cli.asking import Asking
from trunkline_cli.client import (
    ClientError,
    Connection,
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
from trunkline_cli.outcome import NotOpened, NotResumed, Options, Outcome, Place, ThreadGone
from trunkline_cli.reconnect import GaveUp, Reopened, Reopening, TryFailed
from trunkline_cli.render import Renderer
from trunkline_cli.text import Palette, visible
from trunkline_cli.turns import Turns

__all__ = ["Session"]

JsonObject: TypeAlias = dict[str, Any]

_SAID_FOR_A_WHILE = ("is closing; retry", "already has an active writer")
"""Parts of errors of `thread/resume` that pass: the thread is being unloaded, or the server before the one
that answers has it still."""


class _State(Enum):
    """Where the session stands to its thread."""

    OPENING = 1
    """The server has not answered the request that starts or resumes it."""
    LIVE = 2
    """Its events come as they happen."""
    AWAY = 3
    """The connection is lost, or there is a new one on which the thread is not resumed."""
    CATCHING_UP = 4
    """It is resumed, and events come that were missed."""


class Session:
    """The state of an attached session. Call `begin`, then `handle` until there is an `outcome`.

    Args:
        connection: to the server, with the handshake done.
        reopen: has a lost connection replaced, and says later, by a message, what came of that. It is told
            whether the thread was open on the lost one.
        console: the user's side.
        palette: with what colours.
        options: what the command line says.

    """

    def __init__(
        self,
        connection: Connection,
        reopen: Callable[[bool], None],
        console: Console,
        palette: Palette,
        options: Options,
    ) -> None:
        self._connection = connection
        self._reopen = reopen
        self._console = console
        self._palette = palette
        self._options = options
        self.outcome: Outcome | None = None
        self._state = _State.OPENING
        # None while it has never been open.
        self._place: Place | None = None
        # The last event that was missed: with it we have caught up.
        self._caught_up_at = 0
        # What the server asked in the events that were missed, and nobody has answered in them.
        self._missed: dict[RequestId, ServerRequest] = {}
        # What to do with the answers that are still to come.
        self._on_reply: dict[RequestId, Callable[[Reply], None]] = {}
        self._turns = Turns(console, palette, self._send, self._go_on)
        self._renderer = Renderer(console, palette, self._turns.outbox.own_ids)
        # The turn whose error has been shown; it comes twice, alone and with the end of the turn.
        self._told_error_of = ""
        self._asking = Asking(
            console,
            palette,
            self._send_answer,
            is_shown=self._renderer.knows,
            is_ours=self._turns.ours.__contains__,
            allow_all=options.allow_all,
        )
        # Why there is no connection.
        self._why_away = ""
        # For a pipe: whether a line has been asked for, and whether there are no more.
        self._reading = False
        self._input_ended = False

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

    def handle(self, message: Incoming | UserInput | Reopening) -> None:
        """Take one message."""
        # Noticed by writing; the reason comes with the `Disconnected` that is on its way.
        with contextlib.suppress(ServerGone):
            self._dispatch(message)

    def _dispatch(self, message: Incoming | UserInput | Reopening) -> None:
        match message:
            case Notification() | ServerRequest():
                self._on_event(message)
            case Reply():
                if (on_reply := self._on_reply.pop(message.id, None)) is not None:
                    on_reply(message)
            case Disconnected():
                self._on_lost(message.error)
            case Reopened():
                self._on_reopened(message.connection)
            case TryFailed():
                self._why_away = str(getattr(message.error, "why", message.error))
            case GaveUp():
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
        if self.outcome is not None:
            return
        if self._state is _State.AWAY:
            self._turns.tell_not_sent(list(self._turns.outbox))
        self.outcome = Outcome(exit_code, error)

    # The thread

    def _on_opened(self, reply: Reply) -> None:
        if reply.failure is not None:
            verb = "start" if self._options.thread_id is None else "resume"
            self._finish(EXIT_FAILURE, NotOpened(verb, reply.failure))
            return
        self._state = _State.LIVE
        thread = self._take_place(reply.result)
        self._introduce(thread)
        self._show_turns(thread.get("turns") or [])
        self._go_on()

    def _take_place(self, result: JsonObject) -> JsonObject:
        """Take our place in the thread's events from an answer with a snapshot. Returns the thread."""
        thread: JsonObject = result.get("thread") or {}
        self._place = Place(str(thread.get("id")), result.get("epoch"), result.get("seq"))
        self._turns.thread_id = self._place.thread_id
        return thread

    def _introduce(self, thread: JsonObject) -> None:
        thread_id = visible(str(thread.get("id")))
        said = "resumed" if self._options.thread_id is not None else "started"
        # All of it on one line each: the second is to be copied as it stands.
        self._note_dim(f"thread {thread_id} {said} in {visible(str(thread.get('cwd') or '?'))}")
        self._note_dim(f"join it with: trunkline attach {self._options.url} --thread {thread_id}")
        if self._console.interactive:
            self._note_dim("Ctrl-C interrupts a turn, or leaves; Ctrl-D leaves")

    def _show_turns(self, turns: list[JsonObject]) -> None:
        """Show the turns of the first snapshot: those that are over in brief, the running one in full."""
        running = [turn for turn in turns if turn.get("status") == "inProgress"]
        over = [turn for turn in turns if turn not in running]
        if over:
            self._turns.last_ended = str(over[-1].get("id"))
        if self._console.interactive:
            self._renderer.history(over)
        for turn in running:
            self._show_running(turn)

    def _show_running(self, turn: JsonObject) -> None:
        self._turns.running = str(turn.get("id"))
        for item in turn.get("items") or ():
            self._renderer.caught_up(item)

    def _on_event(self, message: Notification | ServerRequest) -> None:
        """Take an event of the thread. Until it is open, events are in the answer that opens it."""
        params = message.params
        thread_id = params.get("threadId") or (params.get("thread") or {}).get("id")
        place = self._place
        if place is None or thread_id != place.thread_id or self._state is _State.AWAY:
            return
        if message.seq is not None:
            # A prompt that is sent again has its old number.
            place.seq = message.seq if place.seq is None else max(place.seq, message.seq)
        if isinstance(message, Notification):
            self._on_notification(message)
        elif self._state is _State.LIVE:
            self._asking.take_request(message)
        else:
            self._missed[message.id] = message
        if self._state is _State.CATCHING_UP and (place.seq or 0) >= self._caught_up_at:
            self._on_caught_up()

    def _on_notification(self, message: Notification) -> None:
        params = message.params
        match message.method:
            case "item/started":
                self._turns.note_own(params.get("item") or {}, str(params.get("turnId")))
                self._renderer.started(params.get("item") or {})
            case "item/completed":
                self._renderer.completed(params.get("item") or {})
            case "item/agentMessage/delta" | "item/plan/delta" | "item/commandExecution/outputDelta":
                self._renderer.delta(str(params.get("itemId")), str(params.get("delta") or ""))
            case "turn/started":
                self._turns.running = str((params.get("turn") or {}).get("id"))
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
        self._asking.drop(turn_id)
        self._renderer.turn_ended()
        status = turn.get("status")
        if status != "completed" and (status != "failed" or self._told_error_of != turn_id):
            self._console.note(self._renderer.turn_ending(turn))
        if self._turns.ended(turn) and not self._console.interactive:
            self._finish(EXIT_INTERRUPTED)
        self._go_on()

    # What the user does

    def _on_line(self, line: Line) -> None:
        self._reading = False
        if line.answers is not None:
            self._asking.take_line(line)
        elif line.text.strip():
            self._say(line.text)
        else:
            self._go_on()

    def _say(self, text: str) -> None:
        """Send what was typed, or keep it until that can be done."""
        if self._place is None:
            self._note_dim("not yet: the thread is not open")
            return
        message = self._turns.outbox.add(text)
        if self._state is _State.LIVE:
            self._turns.say(message)
        elif self._state is _State.AWAY:
            self._note_dim("kept until the connection is back")

    def _on_interrupt(self) -> None:
        turns = self._turns
        if not turns.is_busy or turns.is_interrupting or self._state is _State.AWAY:
            self._finish(EXIT_INTERRUPTED)
            return
        turns.is_interrupting = True
        self._note_dim("interrupting; Ctrl-C again leaves")
        if turns.running is not None and self._state is _State.LIVE:
            turns.interrupt()

    def _go_on(self) -> None:
        """Take the next step of a session that is not told each step: the next line, or the end."""
        if self._console.interactive:
            if self._input_ended:
                self._finish(EXIT_OK)
        elif self._place is not None and not self._turns.is_busy:
            if self._input_ended:
                has_failed = self._turns.has_failed or self._asking.has_failed
                self._finish(EXIT_FAILURE if has_failed else EXIT_OK)
            elif not self._reading:
                self._reading = True
                self._console.want_line()

    # What the server asks

    def _send_answer(self, prompt_id: RequestId, result: JsonObject | None) -> None:
        """Answer a prompt; None refuses it."""
        if result is None:
            self._connection.refuse(prompt_id, ErrorCode.METHOD_NOT_FOUND, "this client cannot answer that")
        else:
            self._connection.respond(prompt_id, result)

    def _on_resolved(self, request_id: RequestId | None) -> None:
        if request_id is None:
            return
        self._missed.pop(request_id, None)
        if self._asking.settled(request_id) and not self._turns.is_interrupting:
            self._note_dim("settled by another client")

    # Coming back

    def _on_lost(self, error: ServerGone) -> None:
        if self._place is None or error.is_final or self._options.patience_s <= 0:
            self._finish(EXIT_FAILURE, error)
            return
        if self._state is not _State.AWAY:
            why = visible(error.why)
            self._note_dim(f"the connection to the server is lost ({why}); trying to get it back")
        if error.was_too_big:
            self._turns.has_failed = True
            self._turns.give_up_sent()
        was_open, self._state = self._state is not _State.AWAY, _State.AWAY
        self._why_away = error.why
        self._on_reply.clear()
        self._missed.clear()
        self._asking.hold()
        self._reopen(was_open)

    def _on_reopened(self, connection: Connection) -> None:
        assert self._place is not None
        self._connection = connection
        params: JsonObject = {"threadId": self._place.thread_id}
        if connection.counts_events and self._place.seq is not None and self._place.epoch is not None:
            params |= {"afterSeq": self._place.seq, "epoch": self._place.epoch}
        self._send("thread/resume", params, self._on_resumed)

    def _on_resumed(self, reply: Reply) -> None:
        assert self._place is not None
        if reply.failure is not None:
            self._on_not_resumed(reply.failure)
            return
        if reply.result.get("delivery") == "events":
            self._caught_up_at = int(reply.result.get("seq") or 0)
            missed = self._caught_up_at - (self._place.seq or 0)
            self._note_dim(f"connected again: {_missed_events(missed)}")
        else:
            missed = 0
            self._note_dim("connected again: a snapshot, as the events since then are not kept")
            self._asking.forget()
            self._show_missed(self._take_place(reply.result).get("turns") or [])
        self._state = _State.CATCHING_UP
        if missed <= 0:
            self._on_caught_up()

    def _on_not_resumed(self, failure: RpcFailure) -> None:
        assert self._place is not None
        is_passing = failure.code == ErrorCode.OVERLOADED or any(
            text in failure.message for text in _SAID_FOR_A_WHILE
        )
        reason = failure.data.get("reason") if isinstance(failure.data, dict) else None
        if is_passing or reason == "serverShuttingDown":
            self._why_away = failure.message
            self._reopen(False)
        else:
            self._finish(EXIT_FAILURE, NotResumed(self._place.thread_id, failure))

    def _show_missed(self, turns: list[JsonObject]) -> None:
        """Show what a snapshot has that we have not seen, and take over what it says."""
        ids = [str(turn.get("id")) for turn in turns]
        last = self._turns.last_ended
        new = turns[ids.index(last) + 1 :] if last in ids else turns
        running = self._turns.running
        lost = running if running not in ids else None
        if lost is not None:
            self._on_turn_completed({"id": lost, "status": "interrupted"})
        for turn in new:
            for item in turn.get("items") or ():
                self._turns.note_own(item, str(turn.get("id")))
        # At a terminal other clients' turns that are over in brief; else all that has not been written.
        ours = {running, *self._turns.ours}
        whole = [turn for turn in new if not self._console.interactive or turn.get("id") in ours]
        brief = [turn for turn in new if turn not in whole and turn.get("status") != "inProgress"]
        for turn in whole:
            self._show_running(turn)
            if turn.get("status") != "inProgress":
                self._on_turn_completed(turn)
        self._renderer.history(brief)
        for turn in new:
            if turn.get("status") == "inProgress" and turn not in whole:
                self._show_running(turn)
        if brief:
            self._turns.last_ended = str(brief[-1].get("id"))

    def _on_caught_up(self) -> None:
        """Go on live: send what could not be sent, and ask what could not be asked."""
        self._state = _State.LIVE
        if self._turns.is_interrupting:
            self._turns.give_up_sent()
        missed, self._missed = self._missed, {}
        self._asking.go_on()
        for request in missed.values():
            self._asking.take_request(request)
        if self._turns.is_interrupting and not self._interrupt_again():
            return
        for message in self._turns.outbox:
            self._turns.say(message)
        self._go_on()

    def _interrupt_again(self) -> bool:
        """Interrupt what was to be interrupted. Returns whether the session goes on."""
        if self._turns.running is not None:
            self._turns.interrupt()
            return True
        self._turns.is_interrupting = False  # it had not begun
        if not self._console.interactive:
            self._finish(EXIT_INTERRUPTED)
        return self._console.interactive

    # What the user sees

    def _note_dim(self, text: str) -> None:
        self._console.note(self._palette.dim(text))

    def _show_prompt(self) -> None:
        if self._place is None:
            return
        if self._state is _State.AWAY:
            hint = f"not connected ({visible(self._why_away)}), Ctrl-C leaves "
        else:
            hint = "running, Ctrl-C interrupts " if self._turns.is_busy else ""
        self._console.prompt(f"{self._palette.dim(hint)}> ")


def _missed_events(number: int) -> str:
    if number <= 0:
        return "no event was missed"
    return f"{number} missed events" if number > 1 else "one missed event"
