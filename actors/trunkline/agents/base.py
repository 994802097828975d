"""What an agent is, and the handle with which it works on a turn.

An agent answers turns. Its one method runs on an OS thread of its own, so it may block: it is one of
the edges. Everything it does goes through its `Turn`, which turns calls into events for the thread's
actor and waits where the agent has to wait.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

from trunkline.agents.checks import check_event
from trunkline.agents.events import (
    Answer,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    PromptRaised,
    TurnEvent,
)
from trunkline.agents.questions import Decision, Question, question_json, read_decision, refusal_json
from trunkline.clock import Clock
from trunkline.errors import TurnInterrupted
from trunkline.protocol.even_texts import EvenTexts, join, pack
from trunkline.protocol.ids import uuid7
from trunkline.types import JsonObject, ThreadId, TurnId

__all__ = [
    "Agent",
    "AgentFactory",
    "AgentLike",
    "AgentMessage",
    "ApprovalPolicy",
    "CommandItem",
    "Decision",
    "FileChangeItem",
    "Question",
    "Turn",
    "input_text",
]

ApprovalPolicy: TypeAlias = Literal["untrusted", "on-request", "never"]
"""When a thread's agent asks before it acts: always; when it thinks it should; never."""


class Agent(ABC):
    """Answers the turns of one thread, one at a time. Made by an `AgentFactory` when a thread is loaded.

    Examples:
        >>> class Parrot(Agent):
        ...     def run_turn(self, turn: Turn) -> None:
        ...         turn.say(turn.text)
        >>> with running_server(agent=Parrot) as server:
        ...     client = server.connect("alice")
        ...     turn_id = client.start_turn(client.start_thread(), "hello")
        ...     client.wait("item/agentMessage/delta")["params"]["delta"]
        'hello'

    """

    @abstractmethod
    def run_turn(self, turn: Turn) -> None:
        """Run one turn to its end. Has an OS thread to itself until it returns; may block.

        Return, and the turn is `completed`. Raise `TurnFailed` with a reason and it is `failed`; any
        other exception fails it too, is logged with its traceback, and the clients are told its type
        only. `TurnInterrupted`, raised by the handle once the turn is interrupted, may pass through.
        Items that are still open at the end are completed by the thread.
        """


_GROUP_TEXTS = 1024
_GROUP_CHARS = 16 * 1024
"""What of many deltas is told at once."""

AgentFactory: TypeAlias = Callable[[], Agent]
"""Makes the agent of one thread: an `Agent` class, or any function without arguments."""

AgentLike: TypeAlias = str | AgentFactory | Agent | None
"""What a server can be given as its agent: see `Config.agent`."""


class Turn:
    """The handle an agent works with. Made by the thread; one for each turn.

    Unless said otherwise a method is for the agent's own threads, and raises `TurnInterrupted` once
    the turn has been interrupted. Methods that emit wait while the thread is too far behind, and raise
    `TurnFailed` for what cannot be written as JSON, such as a text with a lone surrogate: nothing was told
    then, and the turn fails unless the agent catches it.

    Examples:
        >>> def answer(turn: Turn) -> None:
        ...     with turn.message() as message:
        ...         for word in turn.text.split():
        ...             turn.sleep(0.001)  # ends at once when the turn is interrupted
        ...             message.write(word)
        >>> with running_server(agent=ScriptedAgent(answer)) as server:
        ...     client = server.connect("alice")
        ...     client.run_turn(client.start_thread(), "one two")["status"]
        'completed'

    """

    def __init__(
        self,
        *,
        thread_id: ThreadId,
        turn_id: TurnId,
        input: Sequence[JsonObject],  # noqa: A002  # the wire's word
        history: Sequence[JsonObject],
        cwd: Path,
        approval_policy: ApprovalPolicy,
        emit: Callable[[TurnEvent], None],
        clock: Clock | None = None,
    ) -> None:
        self.thread_id = thread_id
        self.turn_id = turn_id
        self.input = tuple(input)
        """The user input as the wire has it, a list of `{"type": "text", …}` and such."""
        self.history = history
        """The completed items of the turns before this one, oldest first, read-only."""
        self.cwd = cwd
        """The thread's working directory; it need not exist."""
        self.approval_policy = approval_policy
        self._emit = emit
        self._clock = clock or Clock()
        self._interrupted = threading.Event()
        # Inputs that came while the turn was running; None wakes a waiter after an interrupt.
        self._steers: queue.SimpleQueue[tuple[JsonObject, ...] | None] = queue.SimpleQueue()
        # What `interrupt` calls. Appended to and removed from by the agent's threads, copied by the actor's.
        self._interrupt_callbacks: list[Callable[[], None]] = []

    @property
    def text(self) -> str:
        """The text parts of the input, one to a line."""
        return input_text(self.input)

    @property
    def is_interrupted(self) -> bool:
        """Whether the turn has been interrupted. Any thread; never raises."""
        return self._interrupted.is_set()

    def check(self) -> None:
        """Raise `TurnInterrupted` if the turn has been interrupted."""
        if self._interrupted.is_set():
            raise TurnInterrupted

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`, or until the turn is interrupted."""
        self.wait_interrupted(seconds)
        self.check()

    def wait_interrupted(self, timeout_s: float | None = None) -> bool:
        """Wait until the turn is interrupted; never raises.

        Returns:
            False if `timeout_s` seconds passed first.

        """
        if timeout_s is None:
            return self._interrupted.wait()
        deadline = self._clock.monotonic() + timeout_s
        while not self._interrupted.wait(self._clock.nap_s(deadline)):
            if self._clock.monotonic() >= deadline:
                return False
        return True

    @contextmanager
    def on_interrupt(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` if the turn is interrupted while the `with` block runs, or before it.

        For an agent that waits for something that an interrupt does not end by itself, such as a pipe.
        `callback` runs on the thread that interrupts: it must neither block nor raise. It may be called
        twice, and, in a race, just after the block has ended.
        """
        self._interrupt_callbacks.append(callback)
        try:
            # Registered first, looked at second: an interrupt between the two is not missed.
            if self._interrupted.is_set():
                callback()
            yield
        finally:
            self._interrupt_callbacks.remove(callback)

    def wait_steer(self, timeout_s: float | None = None) -> tuple[JsonObject, ...] | None:
        """Wait for input that is sent while the turn runs, and take it.

        Returns:
            The input; None if `timeout_s` seconds passed first.

        """
        self.check()
        deadline = None if timeout_s is None else self._clock.monotonic() + timeout_s
        while True:
            try:
                steer = self._steers.get(timeout=None if deadline is None else self._clock.nap_s(deadline))
            except queue.Empty:
                if deadline is not None and self._clock.monotonic() >= deadline:
                    return None
            else:
                self.check()
                return steer

    # Items

    def start_item(self, type: str, **members: object) -> str:  # noqa: A002  # the wire's word
        """Start an item of any type, with its members named as the wire names them.

        Returns:
            The item's id, made here unless `members` brings an `id`, which no other item of the turn has.

        """
        item_id = str(members.pop("id", None) or uuid7())
        self.emit(ItemStarted(self.turn_id, {"type": type, "id": item_id, **members}))
        return item_id

    def add_delta(self, item_id: str, text: str) -> None:
        """Add text to an open `agentMessage` or `plan`, or output to an open `commandExecution`."""
        self.emit(ItemDelta(self.turn_id, item_id, (text,), text))

    def add_deltas(self, item_id: str, texts: Iterable[str]) -> None:
        """Do the same with many texts: to clients each is a delta of its own.

        They are told in groups, which costs much less. So an iterable that takes its time holds back what
        it has given.
        """
        if isinstance(texts, EvenTexts):
            for start in range(0, len(texts), _GROUP_TEXTS):
                self._add_group(item_id, texts[start : start + _GROUP_TEXTS])
            return
        left = iter(texts)
        while group := tuple(islice(left, _GROUP_TEXTS)):
            self._add_group(item_id, group)

    def _add_group(self, item_id: str, texts: Sequence[str]) -> None:
        joined = join(texts)
        if len(texts) == 1 or len(joined) <= _GROUP_CHARS:
            self.emit(ItemDelta(self.turn_id, item_id, pack(texts, joined), joined))
        else:
            half = len(texts) // 2
            self._add_group(item_id, texts[:half])
            self._add_group(item_id, texts[half:])

    def complete_item(self, item_id: str, **changes: object) -> None:
        """Complete an open item, setting `changes` on it. Its `type` and `id` stay what they are."""
        self.emit(ItemCompleted(self.turn_id, item_id, changes))

    def emit(self, event: TurnEvent) -> None:
        """Tell the thread `event`.

        Raises:
            TurnFailed: it cannot be written as JSON, or lacks what a thread goes by. Nothing was told.

        """
        if self._interrupted.is_set():
            raise TurnInterrupted
        check_event(event)
        self._emit(event)

    def message(self, *, phase: str | None = None) -> AgentMessage:
        """Start an agent message. Use it in a `with` block, or call `complete()`."""
        return AgentMessage(self, phase)

    def say(self, text: str) -> None:
        """Send one whole agent message."""
        with self.message() as message:
            message.write(text)

    def command(self, command: str, *, cwd: Path | None = None) -> CommandItem:
        """Start a `commandExecution` item; `cwd` is the turn's unless given."""
        return CommandItem(self, command, cwd or self.cwd)

    def file_change(self, changes: Sequence[JsonObject]) -> FileChangeItem:
        """Start a `fileChange` item with `changes` of the form `{"path", "kind": {"type"}, "diff"}`."""
        return FileChangeItem(self, changes)

    # Prompts

    def ask(self, method: str, params: JsonObject) -> Answer:
        """Send a prompt to the thread's subscribers and wait for the answer, however long it takes.

        Raises:
            TurnInterrupted: the turn was interrupted before anybody answered.

        """
        box: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.emit(PromptRaised(self.turn_id, method, params, box.put))
        answer = box.get()
        if answer.kind == "dropped":
            self.interrupt()
            raise TurnInterrupted
        return answer

    def ask_user(self, questions: Sequence[Question]) -> dict[str, tuple[str, ...]]:
        """Ask the user one or more questions, and wait.

        Returns:
            The answers by question id; empty if the client could not or would not answer.

        """
        answer = self.ask(
            "item/tool/requestUserInput",
            {
                "itemId": str(uuid7()),
                "questions": [question_json(question) for question in questions],
                "isBlocking": True,
                "autoResolutionMs": None,
            },
        )
        answers = (answer.result or {}).get("answers", {})
        return {key: tuple(value["answers"]) for key, value in answers.items()}

    # For the thread's actor: none of these blocks or raises.

    def interrupt(self) -> None:
        """Interrupt the turn. Any thread; never blocks."""
        self._interrupted.set()
        self._steers.put(None)
        for callback in tuple(self._interrupt_callbacks):
            callback()

    def take_unread(self) -> tuple[JsonObject, ...]:
        """Take the input that was sent while the turn ran and that the agent has not taken. Never blocks."""
        unread: list[JsonObject] = []
        while True:
            try:
                unread.extend(self._steers.get_nowait() or ())
            except queue.Empty:
                return tuple(unread)

    def steer(self, input: Sequence[JsonObject]) -> None:  # noqa: A002  # the wire's word
        """Hand more input to the running turn. Any thread; never blocks."""
        self._steers.put(tuple(input))


class AgentMessage:
    """An agent message that is being written.

    Examples:
        >>> def answer(turn: Turn) -> None:
        ...     with turn.message() as message:
        ...         message.write("one ")
        ...         message.write("two")
        >>> agent = ScriptedAgent(answer)

    """

    def __init__(self, turn: Turn, phase: str | None) -> None:
        self._turn = turn
        self.item_id = turn.start_item("agentMessage", text="", phase=phase)

    def write(self, text: str) -> None:
        """Send a piece of the message."""
        self._turn.add_delta(self.item_id, text)

    def complete(self) -> None:
        """End the message."""
        self._turn.complete_item(self.item_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an exception the thread completes the item with the text so far, when the turn ends.
        if exc_type is None:
            self.complete()


class CommandItem:
    """A `commandExecution` item: the command, whether it may run, its output, its end.

    Examples:
        >>> def release(turn: Turn) -> None:
        ...     item = turn.command("make release")
        ...     if item.ask_approval(reason="the tests are green").accepted:
        ...         item.output("released")
        ...         item.complete("completed", 0)
        ...     else:
        ...         item.complete("declined")
        >>> with running_server(agent=ScriptedAgent(release)) as server:
        ...     client = server.connect("alice")
        ...     turn_id = client.start_turn(client.start_thread(), "")
        ...     client.decide(client.wait("item/commandExecution/requestApproval"))
        ...     client.wait("item/commandExecution/outputDelta")["params"]["delta"]
        'released'

    """

    def __init__(self, turn: Turn, command: str, cwd: Path) -> None:
        self._turn = turn
        self._command = command
        self._cwd = str(cwd)
        self._started = time.monotonic()
        self._refusal: JsonObject = {}
        self.item_id = turn.start_item(
            "commandExecution",
            command=command,
            cwd=self._cwd,
            status="inProgress",
            commandActions=[{"type": "unknown", "command": command}],
            source="agent",
            processId=None,
            aggregatedOutput=None,
            exitCode=None,
            durationMs=None,
        )

    def ask_approval(self, *, reason: str | None = None, for_session: bool = True) -> Decision:
        """Ask the subscribers whether the command may run, and wait for the first answer.

        Args:
            reason: why it is asked, for the user.
            for_session: whether `acceptForSession` is offered. It is only a hint: a client may send it
                all the same.

        """
        decisions = ["accept", "acceptForSession", "decline", "cancel"]
        if not for_session:
            decisions.remove("acceptForSession")
        answer = self._turn.ask(
            "item/commandExecution/requestApproval",
            {
                "itemId": self.item_id,
                "kind": "command",
                "command": self._command,
                "cwd": self._cwd,
                "reason": reason,
                "availableDecisions": decisions,
            },
        )
        # Running may take long to begin: what counts as the duration is from the approval on.
        self._started = time.monotonic()
        self._refusal = refusal_json(answer)
        return read_decision(answer)

    def output(self, text: str) -> None:
        """Send a piece of the command's output."""
        self._turn.add_delta(self.item_id, text)

    def complete(
        self,
        status: Literal["completed", "failed", "declined"],
        exit_code: int | None = None,
        *,
        kept_output: str | None = None,
    ) -> None:
        """End the item. A command that was declined never ran, and has no exit code and no duration.

        Args:
            status: how it ended.
            exit_code: as shells report it; None if the command did not run.
            kept_output: what the item keeps as `aggregatedOutput`, for an agent that limits it; None for
                the sum of what was given to `output`.

        """
        duration = None if status == "declined" else round((time.monotonic() - self._started) * 1000)
        kept = {} if kept_output is None else {"aggregatedOutput": kept_output}
        self._turn.complete_item(
            self.item_id, status=status, exitCode=exit_code, durationMs=duration, **kept, **self._refusal
        )


class FileChangeItem:
    """A `fileChange` item: the changes, and whether they may be made.

    Examples:
        >>> def write(turn: Turn) -> None:
        ...     item = turn.file_change([{"path": "a.txt", "kind": {"type": "add"}, "diff": "hello"}])
        ...     item.complete("completed" if item.ask_approval().accepted else "declined")
        >>> with running_server(agent=ScriptedAgent(write)) as server:
        ...     client = server.connect("alice")
        ...     turn_id = client.start_turn(client.start_thread(), "")
        ...     client.decide(client.wait("item/fileChange/requestApproval"), "decline")
        ...     client.wait_turn(turn_id)["status"]
        'completed'

    """

    def __init__(self, turn: Turn, changes: Sequence[JsonObject]) -> None:
        self._turn = turn
        self._refusal: JsonObject = {}
        self.item_id = turn.start_item("fileChange", changes=list(changes), status="inProgress")

    def ask_approval(self, *, reason: str | None = None, grant_root: Path | None = None) -> Decision:
        """Ask the subscribers whether the changes may be made, and wait for the first answer."""
        answer = self._turn.ask(
            "item/fileChange/requestApproval",
            {
                "itemId": self.item_id,
                "reason": reason,
                "grantRoot": None if grant_root is None else str(grant_root),
            },
        )
        self._refusal = refusal_json(answer)
        return read_decision(answer)

    def complete(self, status: Literal["completed", "failed", "declined"]) -> None:
        """End the item."""
        self._turn.complete_item(self.item_id, status=status, **self._refusal)


def input_text(input: Sequence[JsonObject]) -> str:  # noqa: A002  # the wire's word
    """Return the text parts of a user input, one to a line."""
    return "\n".join(part["text"] for part in input if part.get("type") == "text")
