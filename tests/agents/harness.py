"""Runs an agent's turn and records it, in the place of a thread's actor."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self, TypeAlias

from trunkline.agents.base import Agent, ApprovalPolicy, Turn
from trunkline.agents.events import (
    Answer,
    ItemCompleted,
    ItemDelta,
    ItemStarted,
    PromptRaised,
    TurnEvent,
)
from trunkline.errors import TurnInterrupted
from trunkline.types import JsonObject, ThreadId, TurnId

PATIENCE_S = 30.0
"""Longer than any passing test waits."""

NEVER_S = 1000.0
"""A grace so long that a test that waits for its end fails."""

AnswerWith: TypeAlias = Callable[[PromptRaised], Answer | None]
"""Answers a prompt; None leaves it open."""

Outcome: TypeAlias = Literal["completed", "interrupted", "failed"]


def decide(decision: str) -> AnswerWith:
    """Answer approvals with `decision`."""
    return lambda prompt: Answer("result", {"decision": decision})


accept = decide("accept")


def leave_open(prompt: PromptRaised) -> None:
    """Leave prompts open."""


def refuse(prompt: PromptRaised) -> Answer:
    """Answer with an error, as far as the agent can tell."""
    return Answer("refused")


def user_says(*answers: str) -> AnswerWith:
    """Answer the one question of a prompt."""

    def answer(prompt: PromptRaised) -> Answer:
        (question,) = prompt.params["questions"]
        return Answer("result", {"answers": {question["id"]: {"answers": list(answers)}}})

    return answer


def text_input(text: str) -> list[JsonObject]:
    """Return `text` as a user input."""
    return [{"type": "text", "text": text, "text_elements": []}]


class Run:
    """One turn of an agent, on an OS thread of its own; what it emits is recorded."""

    def __init__(
        self,
        agent: Agent,
        given: str | Sequence[JsonObject],
        *,
        answer: AnswerWith = accept,
        cwd: Path = Path("/"),
        policy: ApprovalPolicy = "untrusted",
        on_delta: Callable[[str], None] | None = None,
    ) -> None:
        self.events: list[TurnEvent] = []
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.answer = answer
        self._agent = agent
        self._on_delta = on_delta
        self._open_prompts: list[PromptRaised] = []
        self._changed = threading.Condition()
        self.turn = Turn(
            thread_id=ThreadId("thread"),
            turn_id=TurnId("turn"),
            input=text_input(given) if isinstance(given, str) else given,
            history=(),
            cwd=cwd,
            approval_policy=policy,
            emit=self._emit,
        )
        self._thread = threading.Thread(target=self._run, name="agent under test", daemon=True)

    # Driving it.

    def start(self) -> Self:
        self._thread.start()
        return self

    def finish(self) -> Self:
        """Run to the end, or wait for it."""
        if self._thread.ident is None:
            self._thread.start()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the turn does not end"
        return self

    def interrupt(self) -> Self:
        """Interrupt as the thread's actor does: tell the turn, drop the open prompts."""
        self.turn.interrupt()
        return self.drop_open()

    def drop_open(self) -> Self:
        with self._changed:
            dropped, self._open_prompts = self._open_prompts, []
        for prompt in dropped:
            prompt.reply(Answer("dropped"))
        return self

    def answer_open(self, decision: str) -> Self:
        """Answer the approval prompt that was left open."""
        with self._changed:
            (prompt,) = self._open_prompts
            self._open_prompts = []
        prompt.reply(Answer("result", {"decision": decision}))
        return self

    def wait_for(self, is_met: Callable[[Run], bool]) -> Self:
        """Wait until what was recorded meets a condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: is_met(self), PATIENCE_S), self.events
        return self

    def wait_for_output(self, text: str) -> Self:
        """Wait until the deltas together contain `text`."""
        return self.wait_for(lambda run: text in run.streamed)

    def wait_for_prompt(self) -> Self:
        return self.wait_for(lambda run: bool(run.prompts))

    # What was recorded.

    @property
    def kinds(self) -> list[type[TurnEvent]]:
        return [type(event) for event in self.events]

    @property
    def deltas(self) -> list[str]:
        return [text for event in self.events if isinstance(event, ItemDelta) for text in event.texts]

    @property
    def streamed(self) -> str:
        return "".join(self.deltas)

    @property
    def prompts(self) -> list[PromptRaised]:
        return [event for event in self.events if isinstance(event, PromptRaised)]

    @property
    def items(self) -> list[JsonObject]:
        """The items as the thread makes them: as started, plus deltas, plus changes."""
        items: dict[str, JsonObject] = {}
        for event in self.events:
            match event:
                case ItemStarted():
                    items[event.item["id"]] = dict(event.item)
                case ItemDelta():
                    item = items[event.item_id]
                    member = "aggregatedOutput" if item["type"] == "commandExecution" else "text"
                    item[member] = (item[member] or "") + "".join(event.texts)
                case ItemCompleted():
                    items[event.item_id].update(event.changes)
                case _:
                    pass
        return list(items.values())

    @property
    def item(self) -> JsonObject:
        """The only item."""
        (item,) = self.items
        return item

    @property
    def said(self) -> list[str]:
        """The texts of the agent messages that were completed."""
        completed = {event.item_id for event in self.events if isinstance(event, ItemCompleted)}
        return [
            item["text"] for item in self.items if item["type"] == "agentMessage" and item["id"] in completed
        ]

    # On the agent's thread.

    def _run(self) -> None:
        try:
            self._agent.run_turn(self.turn)
            self.outcome = "completed"
        except TurnInterrupted:
            self.outcome = "interrupted"
        except BaseException as error:  # the test is to see it
            self.outcome = "failed"
            self.error = error
        with self._changed:
            self._changed.notify_all()

    def _emit(self, event: TurnEvent) -> None:
        if isinstance(event, ItemDelta) and self._on_delta is not None:
            for text in event.texts:
                self._on_delta(text)
            return
        if isinstance(event, PromptRaised):
            self._raise_prompt(event)
            return
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def _raise_prompt(self, prompt: PromptRaised) -> None:
        answer = self.answer(prompt)
        with self._changed:
            # A prompt that comes after the interrupt is dropped at once.
            if answer is None and self.turn.is_interrupted:
                answer = Answer("dropped")
            if answer is None:
                self._open_prompts.append(prompt)
            self.events.append(prompt)
            self._changed.notify_all()
        if answer is not None:
            prompt.reply(answer)


def run(
    agent: Agent,
    given: str | Sequence[JsonObject],
    *,
    answer: AnswerWith = accept,
    cwd: Path = Path("/"),
    policy: ApprovalPolicy = "untrusted",
) -> Run:
    """Run one turn to its end."""
    return Run(agent, given, answer=answer, cwd=cwd, policy=policy).finish()


def status_of(done: Run) -> tuple[object, object]:
    """Return how the only item, a command, ended."""
    return done.item["status"], done.item["exitCode"]


def pids(running: Run, count: int) -> list[int]:
    """Wait for a command to write `count` process ids, a line each, and return them."""
    running.wait_for(lambda run: run.streamed.count("\n") >= count)
    return [int(line) for line in running.streamed.split("\n")[:count]]


class Gate:
    """Holds a command at `read x < PATH` until the test opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR)

    def open(self) -> None:
        os.write(self.fd, b"\n")


def wait_dead(pid: int) -> None:
    """Wait until the process has ended; who collects it does not matter."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable, _, _ = select.select([fd], [], [], PATIENCE_S)
        assert readable, f"process {pid} lives"
    finally:
        os.close(fd)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that the block leaves no descriptor, no OS thread and no child process, dead or alive."""
    fds, threads = _fds(), set(threading.enumerate())
    yield
    assert _fds() == fds
    assert set(threading.enumerate()) <= threads
    try:
        left = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    raise AssertionError(f"a child process is left: {left or 'alive'}")


def _fds() -> set[str]:
    """The open descriptors, without the one that listing them takes."""
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if _is_open(int(fd.name))}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
