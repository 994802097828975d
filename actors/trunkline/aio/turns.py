"""The handle of an agent that is a coroutine: a `Turn` whose waits are awaited.

What may wait runs on the turn's own OS thread, or, where somebody has to answer, on one of its own; the
loop is told when it is done. So the loop never waits, and order is that of the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

from trunkline.agents.base import (
    AgentMessage,
    ApprovalPolicy,
    CommandItem,
    Decision,
    FileChangeItem,
    Question,
    Turn,
)
from trunkline.agents.events import Answer
from trunkline.types import JsonObject, ThreadId, TurnId

__all__ = ["AsyncCommandItem", "AsyncFileChangeItem", "AsyncMessage", "AsyncTurn", "Calls"]

T = TypeVar("T")

MAX_POSTED = 64
"""Pieces of text after which a coroutine waits until the thread has taken them."""


class _Call(Generic[T]):
    """A call that a coroutine waits for."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()

    def run(self) -> None:
        """Make the call, and tell the loop. On any other thread."""
        try:
            result = self._function()
        except BaseException as error:
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, result)

    def _tell(self, settle: Callable[..., None], outcome: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle, outcome)

    def _succeed(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Calls:
    """Where a coroutine leaves what the turn's OS thread is to call, in order."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._posted = 0  # since the coroutine last waited
        self.error: BaseException | None = None
        """What a call raised that was posted; none behind it is made."""

    async def make(self, function: Callable[[], T]) -> T:
        """Have `function` called, and wait for what it returns or raises. On the loop."""
        self._posted = 0
        call = _Call(partial(self._checked, function))
        self._calls.put(call.run)
        return await call.future

    async def post(self, function: Callable[[], object]) -> None:
        """Have `function` called, and wait only now and then. What it raises is raised by a later call.

        A hand-over to a thread and back costs more than most of what is called here.
        """
        self._posted += 1
        self._calls.put(partial(self._call_posted, function))
        if self._posted >= MAX_POSTED:
            await self.make(lambda: None)  # behind all of them

    def run(self) -> None:
        """Make the calls until the end. On the turn's OS thread; blocks."""
        while (call := self._calls.get()) is not None:
            call()

    def end(self) -> None:
        """Have `run` return. Any thread; never blocks."""
        self._calls.put(None)

    def _call_posted(self, function: Callable[[], object]) -> None:
        if self.error is None:
            try:
                function()
            except BaseException as error:
                self.error = error

    def _checked(self, function: Callable[[], T]) -> T:
        if self.error is not None:
            raise self.error
        return function()


async def _make_apart(function: Callable[[], T]) -> T:
    """Have a call that waits for a client made on a thread of its own, so that the turn can go on."""
    call = _Call(function)
    threading.Thread(target=call.run, name="trunkline-turn-asking", daemon=True).start()
    return await call.future


class AsyncTurn:
    """The handle with which a coroutine works on a turn: what `Turn` is to an agent that may block.

    Everything is for the loop's thread. A method that emits waits while the thread is too far behind its
    subscribers. When the turn is interrupted the coroutine's task is cancelled: let `CancelledError` pass,
    or clean up and raise it again. To wait, use `asyncio.sleep`.

    Several tasks of one turn may use it at once, if the coroutine ends them before it returns.

    Examples:
        >>> async def answer(turn: AsyncTurn) -> None:
        ...     async with turn.message() as message:
        ...         for word in turn.text.split():
        ...             await message.write(word + " ")
        ...     answers = await turn.ask_user([Question("more", "More", "Go on?", (("yes", ""), ("no", "")))])
        ...     if answers.get("more") == ("yes",):
        ...         await turn.say("there is no more")
        >>> server = AsyncAppServer(agent=answer)

    """

    def __init__(self, turn: Turn, calls: Calls) -> None:
        self._turn = turn
        self._calls = calls

    @property
    def thread_id(self) -> ThreadId:
        """The thread whose turn it is."""
        return self._turn.thread_id

    @property
    def turn_id(self) -> TurnId:
        """The turn."""
        return self._turn.turn_id

    @property
    def input(self) -> tuple[JsonObject, ...]:
        """The user input as the wire has it, a list of `{"type": "text", …}` and such."""
        return self._turn.input

    @property
    def text(self) -> str:
        """The text parts of the input, one to a line."""
        return self._turn.text

    @property
    def history(self) -> Sequence[JsonObject]:
        """The completed items of the turns before this one, oldest first, read-only."""
        return self._turn.history

    @property
    def cwd(self) -> Path:
        """The thread's working directory; it need not exist."""
        return self._turn.cwd

    @property
    def approval_policy(self) -> ApprovalPolicy:
        """When the agent should ask before it acts."""
        return self._turn.approval_policy

    @property
    def is_interrupted(self) -> bool:
        """Whether the turn has been interrupted. Any thread."""
        return self._turn.is_interrupted

    async def say(self, text: str) -> None:
        """Send one whole agent message."""
        await self._calls.make(lambda: self._turn.say(text))

    def message(self, *, phase: str | None = None) -> AsyncMessage:
        """Return an agent message to be written in an `async with` block, which starts and completes it."""
        return AsyncMessage(self._turn, self._calls, phase)

    async def command(self, command: str, *, cwd: Path | None = None) -> AsyncCommandItem:
        """Start a `commandExecution` item; `cwd` is the turn's unless given."""
        return AsyncCommandItem(
            await self._calls.make(lambda: self._turn.command(command, cwd=cwd)), self._calls
        )

    async def file_change(self, changes: Sequence[JsonObject]) -> AsyncFileChangeItem:
        """Start a `fileChange` item with `changes` of the form `{"path", "kind": {"type"}, "diff"}`."""
        return AsyncFileChangeItem(
            await self._calls.make(lambda: self._turn.file_change(changes)), self._calls
        )

    async def start_item(self, type: str, **members: object) -> str:  # noqa: A002  # the wire's word
        """Start an item of any type, with its members named as the wire names them, and return its id."""
        return await self._calls.make(lambda: self._turn.start_item(type, **members))

    async def add_delta(self, item_id: str, text: str) -> None:
        """Add text to an open `agentMessage` or `plan`, or output to an open `commandExecution`."""
        await self._calls.post(lambda: self._turn.add_delta(item_id, text))

    async def complete_item(self, item_id: str, **changes: object) -> None:
        """Complete an open item, setting `changes` on it."""
        await self._calls.make(lambda: self._turn.complete_item(item_id, **changes))

    async def ask(self, method: str, params: JsonObject) -> Answer:
        """Send a prompt to the thread's subscribers and wait for the answer, however long it takes."""
        return await _make_apart(lambda: self._turn.ask(method, params))

    async def ask_user(self, questions: Sequence[Question]) -> dict[str, tuple[str, ...]]:
        """Ask the user one or more questions, and wait.

        Returns:
            The answers by question id; empty if the client could not or would not answer.

        """
        return await _make_apart(lambda: self._turn.ask_user(questions))

    async def wait_steer(self, timeout_s: float | None = None) -> tuple[JsonObject, ...] | None:
        """Wait for input that is sent while the turn runs, and take it. One at a time.

        Returns:
            The input; None if `timeout_s` seconds passed first.

        """
        return await _make_apart(lambda: self._turn.wait_steer(timeout_s))


class AsyncMessage:
    """An agent message that is being written, in an `async with` block.

    Examples:
        >>> async def answer(turn: AsyncTurn) -> None:
        ...     async with turn.message() as message:
        ...         await message.write("one ")
        ...         await message.write("two")
        >>> server = AsyncAppServer(agent=answer)

    """

    def __init__(self, turn: Turn, calls: Calls, phase: str | None) -> None:
        self._turn = turn
        self._calls = calls
        self._phase = phase
        self._message: AgentMessage | None = None

    @property
    def item_id(self) -> str:
        """The item's id, known inside the block."""
        return self._begun.item_id

    async def write(self, text: str) -> None:
        """Send a piece of the message."""
        message = self._begun
        await self._calls.post(lambda: message.write(text))

    async def __aenter__(self) -> Self:
        self._message = await self._calls.make(lambda: self._turn.message(phase=self._phase))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an exception the thread completes the item with the text so far, when the turn ends.
        if exc_type is None:
            await self._calls.make(self._begun.complete)

    @property
    def _begun(self) -> AgentMessage:
        if self._message is None:
            raise RuntimeError("a message is written inside its `async with` block")
        return self._message


class AsyncCommandItem:
    """A `commandExecution` item: the command, whether it may run, its output, its end.

    Examples:
        >>> async def answer(turn: AsyncTurn) -> None:
        ...     item = await turn.command("make release")
        ...     decision = await item.ask_approval(reason="the tests are green")
        ...     if decision.accepted:
        ...         await item.output("released")
        ...         await item.complete("completed", 0)
        ...     else:
        ...         await item.complete("declined")
        >>> server = AsyncAppServer(agent=answer)

    """

    def __init__(self, item: CommandItem, calls: Calls) -> None:
        self._item = item
        self._calls = calls
        self.item_id = item.item_id

    async def ask_approval(self, *, reason: str | None = None, for_session: bool = True) -> Decision:
        """Ask the subscribers whether the command may run, and wait for the first answer.

        Args:
            reason: why it is asked, for the user.
            for_session: whether `acceptForSession` is offered.

        """
        return await _make_apart(lambda: self._item.ask_approval(reason=reason, for_session=for_session))

    async def output(self, text: str) -> None:
        """Send a piece of the command's output."""
        await self._calls.post(lambda: self._item.output(text))

    async def complete(
        self, status: Literal["completed", "failed", "declined"], exit_code: int | None = None
    ) -> None:
        """End the item: how, and with which exit code, None if the command did not run."""
        await self._calls.make(lambda: self._item.complete(status, exit_code))


class AsyncFileChangeItem:
    """A `fileChange` item: the changes, and whether they may be made.

    Examples:
        >>> async def answer(turn: AsyncTurn) -> None:
        ...     item = await turn.file_change([{"path": "a.txt", "kind": {"type": "add"}, "diff": "+hello"}])
        ...     decision = await item.ask_approval()
        ...     await item.complete("completed" if decision.accepted else "declined")
        >>> server = AsyncAppServer(agent=answer)

    """

    def __init__(self, item: FileChangeItem, calls: Calls) -> None:
        self._item = item
        self._calls = calls
        self.item_id = item.item_id

    async def ask_approval(self, *, reason: str | None = None, grant_root: Path | None = None) -> Decision:
        """Ask the subscribers whether the changes may be made, and wait for the first answer."""
        return await _make_apart(lambda: self._item.ask_approval(reason=reason, grant_root=grant_root))

    async def complete(self, status: Literal["completed", "failed", "declined"]) -> None:
        """End the item."""
        await self._calls.make(lambda: self._item.complete(status))
