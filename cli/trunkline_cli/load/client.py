"""One connection of the load: it takes the steps of its group, and reconnects when they say so."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from enum import Enum
from typing import Any, Protocol, TypeAlias

from trunkline_cli.load import model
from trunkline_cli.load.session import Session, Shared

__all__ = ["Client", "Lost", "Script", "TimedOut", "Wait", "Where"]


class Wait(Enum):
    """What a script waits for when it yields."""

    ANSWER = "answer"
    """The server's doing. Has a deadline, and is waited for even when the run is over."""
    MOMENT = "moment"
    """A time, a barrier, an event. Ends early when the run is over."""
    STAY = "stay"
    """The end of the run, and of everything under way."""


Script: TypeAlias = Generator[Wait, Any, None]
"""A client's steps being taken. It is sent what it waited for."""


class Lost(Exception):
    """The connection has ended, and it was not the script that ended it."""


class TimedOut(Exception):
    """What the script waits for did not come in time."""


class Where(Shared, Protocol):
    """What a client uses of its worker."""

    scenario: model.Scenario
    threads: dict[str, tuple[str, ...]]
    """Ids of the threads of each shared set."""
    over: bool
    """The duration is over: begin nothing new."""

    def arrive(self, client: Client, barrier: str, generation: int) -> None:
        """Resume the client when everybody has come to this barrier for the so-manieth time."""

    def take_slot(self, client: Client) -> bool:
        """Take a place among the handshakes under way.

        If False, the client is resumed with True when it has one, or with None if the run is over first.
        """

    def free_slot(self) -> None:
        """Give the place back."""

    def ended(self, client: Client) -> None:
        """The client's script has ended."""


class Client:
    """One connection of a group."""

    __slots__ = (
        "_deferred",
        "_has_slot",
        "_running",
        "_script",
        "_token",
        "answer",
        "awaited_event",
        "awaited_events",
        "awaited_turn",
        "barriers",
        "closing",
        "deadline",
        "finished",
        "group",
        "index",
        "is_first",
        "iteration",
        "lost_because",
        "number",
        "planned",
        "requests_sent",
        "rng",
        "seen",
        "session",
        "thread_id",
        "turn_id",
        "wait",
        "waiting_for",
        "where",
    )

    def __init__(self, where: Where, group: model.Group, index: int, number: int) -> None:
        self.where = where
        self.group = group
        self.index = index
        """Number within the group."""
        self.number = number
        """Number within the run."""
        self.rng = random.Random(f"{where.scenario.seed}/{group.name}/{index}")
        self.session: Session | None = None
        self.thread_id: str | None = None
        self.turn_id: str | None = None
        self.is_first = False
        """This is the first connection of its group that has its thread."""
        self.iteration = 0
        """Rounds of a `repeat` begun so far."""
        self.planned: float | None = None
        """The moment for which the next request was planned, in an open loop."""
        self.requests_sent = 0
        self.seen: dict[str, tuple[str, int]] = {}
        """Epoch and number of the last event received over earlier connections, by thread."""
        self.barriers: dict[str, int] = {}
        """How often this client has come to each barrier."""
        self.answer: model.Answer | None = None
        """How prompts are answered."""
        self.awaited_turn: str | None = None
        self.awaited_event: str | None = None
        self.awaited_events = 0
        self.closing = False
        """The connection is meant to end: the script ends it, or has given the server a reason to."""
        self.lost_because = ""
        """How the last connection ended."""
        self.wait: Wait | None = None
        self.waiting_for = ""
        self.deadline = 0.0
        """`time.monotonic()` at which waiting has been too long; 0 if it may last."""
        self.finished = False
        self._script: Script | None = None
        self._running = False
        self._deferred: Exception | None = None
        # Counts the waits, so that a timer of an earlier one can be told from that of this one.
        self._token = 0
        self._has_slot = False

    # The script

    def begin(self, script: Script) -> None:
        """Start to take the steps."""
        self._script = script
        self.resume(None)

    def resume(self, value: object) -> None:
        """Hand the script what it waited for, and run it to its next wait."""
        self._step(None, value)

    def fail(self, error: Exception) -> None:
        """Raise an error where the script waits; or at its next wait, if it is running."""
        if self._running:
            self._deferred = error
        else:
            self._step(error, None)

    def _step(self, error: Exception | None, value: object) -> None:
        script = self._script
        if script is None or self.finished:
            return
        self._running = True
        self._token += 1
        self.deadline = 0.0
        try:
            while True:
                self.wait = script.throw(error) if error is not None else script.send(value)
                error, self._deferred = self._deferred, None
                if error is None:
                    break
        except StopIteration:
            self.finished = True
            self.where.ended(self)
        finally:
            self._running = False

    def wake_at(self, moment: float) -> None:
        """Resume at a moment, unless something else has resumed the script before."""
        token = self._token
        self.where.loop.call_at(moment, lambda: self._wake(token))

    def _wake(self, token: int) -> None:
        if token == self._token:
            self.resume(None)

    def await_answer(self, what: str) -> Wait:
        """Say what is waited for, and begin to count the time for it. Yield the result."""
        self.waiting_for = what
        self.deadline = time.monotonic() + self.where.scenario.timeout
        return Wait.ANSWER

    def take_planned(self) -> float | None:
        """Return, once, the moment for which a request was planned."""
        planned, self.planned = self.planned, None
        return planned

    # The connection

    def connect(self, cut: int | None = None) -> None:
        """Begin to open a new connection; with `cut`, send only so much of the opening handshake."""
        self.closing = False
        self.thread_id = self.turn_id = self.answer = None
        self.session = Session(self.where, self, self.rng, self.requests_sent)
        self.session.peer.connect(self.group.receive_buffer, cut)

    def hold_slot(self) -> None:
        """Remember to give the place among the handshakes back."""
        self._has_slot = True

    def _free_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self.where.free_slot()

    def drop(self, *, reset: bool = False) -> None:
        """End the connection without a word to the server."""
        session, self.session = self.session, None
        if session is None:
            return
        self._free_slot()
        self._remember(session)
        if session.peer.is_open:
            self.where.interval.closed += 1
        session.end()
        session.peer.drop(reset=reset)

    def _remember(self, session: Session) -> None:
        """Keep what the next connection needs of one that has ended."""
        self.requests_sent = session.requests_sent
        for thread_id, subscription in session.subscriptions.items():
            if subscription.seq is not None and subscription.epoch is not None:
                self.seen[thread_id] = subscription.epoch, subscription.seq

    def on_open(self) -> None:
        """Part of `Driver`."""
        self._free_slot()
        self.where.interval.opened += 1
        self.resume(None)

    def on_lost(self, why: str) -> None:
        """Part of `Driver`."""
        session, self.session = self.session, None
        self.lost_because = why
        self._free_slot()
        interval = self.where.interval
        if session is not None:
            self._remember(session)
            if session.was_open:
                interval.closed += 1
        if self.closing:
            # If it is the script that runs, sending the close frame failed, and it sees that itself.
            if not self._running:
                self.resume(None)
            return
        (interval.expected if self.group.may_be_closed else interval.errors)[f"connection lost: {why}"] += 1
        self.fail(Lost(why))

    # The protocol

    def on_reply(self, reply: dict[str, Any]) -> None:
        """Part of `Driver`."""
        self.resume(reply)

    def on_event(self, method: str, message: dict[str, Any]) -> None:
        """Part of `Driver`."""
        if "id" in message:
            self._on_prompt(method, message)
        elif method == "turn/completed" and message["params"]["turn"]["id"] == self.awaited_turn:
            self.awaited_turn = None
            self.resume(message)
            return
        if method == self.awaited_event:
            self.awaited_events -= 1
            if not self.awaited_events:
                self.awaited_event = None
                self.resume(message)

    def _on_prompt(self, method: str, message: dict[str, Any]) -> None:
        policy = self.answer
        if policy is None or (policy.by == "one" and not self.is_first):
            return
        prompt = message["id"]
        result = _answer(policy, method, message["params"])
        session = self.session
        if session is None:
            return
        if policy.after:
            # The connection may be another one by then; the answer is for this one.
            self.where.loop.call_in(policy.after, lambda: session.answer(prompt, result))
        else:
            session.answer(prompt, result)


def _answer(policy: model.Answer, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result that answers a prompt; None for an error."""
    if policy.decision == "error":
        return None
    if method == "item/tool/requestUserInput":
        answer = {"answers": [policy.text]}
        return {"answers": {question["id"]: answer for question in params.get("questions", ())}}
    if method == "item/permissions/requestApproval":
        return {"permissions": {}, "scope": "turn"}
    if method.endswith("/requestApproval"):
        return {"decision": policy.decision}
    return None
