"""The turns of a thread, as an attached client stands to them.

Owns which one runs, which are ours, and what was said to them and has not arrived.

A plain object that belongs to one session and is called by it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trunkline_cli.client import Reply, RpcFailure
from trunkline_cli.console import Console
from trunkline_cli.outbox import Outbox, Typed
from trunkline_cli.text import Palette, shorten, visible

__all__ = ["Turns"]

JsonObject: TypeAlias = dict[str, Any]

SUBJECT_CHARS = 60
"""What is told of a line that can be seen in full elsewhere."""


class Turns:
    """Starts, steers and interrupts turns.

    Args:
        console: where it is said what was refused, or could not be sent.
        palette: with what colours.
        send: sends a request, and has its answer given to a function.
        go_on: called when something that was asked for has come to nothing.

    """

    def __init__(
        self,
        console: Console,
        palette: Palette,
        send: Callable[[str, JsonObject, Callable[[Reply], None]], None],
        go_on: Callable[[], None],
    ) -> None:
        self._console = console
        self._palette = palette
        self._send = send
        self._go_on = go_on
        self.thread_id = ""
        """Known once the thread is open."""
        self.running: str | None = None
        """The turn that runs, ours or another client's."""
        self.last_ended = ""
        """The turn that ended last."""
        self.ours: set[str] = set()
        """The turns to which something was said here."""
        self.is_interrupting = False
        self.has_failed = False
        """Whether a turn of ours did not complete, or something was not taken."""
        self.outbox = Outbox()

    @property
    def is_busy(self) -> bool:
        """Whether a turn is running, or what was typed is about to begin one."""
        return self.running is not None or len(self.outbox) > 0

    def say(self, message: Typed) -> None:
        """Send what was typed: to the running turn, or as a new one."""
        message.was_sent = True
        params = {
            "threadId": self.thread_id,
            "input": [{"type": "text", "text": message.text, "text_elements": []}],
            "clientUserMessageId": message.id,
        }
        if (turn_id := self.running) is None:
            self._send("turn/start", params, lambda reply: self._on_accepted(message, reply))
            return

        def on_steered(reply: Reply) -> None:
            if reply.failure is None:
                self.outbox.arrived(message.id)
                self.ours.add(str(reply.result.get("turnId")))
            elif self.running != turn_id:
                # The turn ended while the steer was on its way: what was said begins the next one.
                self.say(message)
            else:
                self._on_refused(message, reply.failure)

        self._send("turn/steer", {**params, "expectedTurnId": turn_id}, on_steered)

    def note_own(self, item: JsonObject, turn_id: str) -> None:
        """Note a message of ours that is on the thread, of which we may not have been told that it is."""
        if item.get("type") == "userMessage" and self.outbox.arrived(item.get("clientId")):
            self.ours.add(turn_id)

    def ended(self, turn: JsonObject) -> bool:
        """Note the end of a turn. Returns whether it was to be interrupted."""
        self.last_ended = str(turn.get("id"))
        if turn.get("status") != "completed" and self.last_ended in self.ours:
            self.has_failed = True
        if self.last_ended == self.running:
            self.running = None
        was_interrupting, self.is_interrupting = self.is_interrupting, False
        return was_interrupting

    def interrupt(self) -> None:
        """Interrupt the turn that is running."""
        turn_id = self.running

        def on_reply(reply: Reply) -> None:
            # If the turn has ended by itself, that it is not there is no news.
            if reply.failure is not None and self.running == turn_id:
                self.is_interrupting = False
                self._console.note(self._palette.bad(visible(str(reply.failure))))

        self._send("turn/interrupt", {"threadId": self.thread_id, "turnId": turn_id}, on_reply)

    def give_up_sent(self) -> None:
        """Forget what was sent and may not have come, and say so."""
        self.tell_not_sent(self.outbox.drop_sent())

    def tell_not_sent(self, messages: list[Typed]) -> None:
        """Say what was not sent."""
        for message in messages:
            subject = visible(shorten(message.text, SUBJECT_CHARS))
            self._console.note(self._palette.bad(f"not sent: {subject}"))

    def _on_accepted(self, message: Typed, reply: Reply) -> None:
        if reply.failure is not None:
            self._on_refused(message, reply.failure)
            return
        self.outbox.arrived(message.id)
        # The answer comes before the turn's events, so the turn cannot have ended already.
        self.running = str((reply.result.get("turn") or {}).get("id"))
        self.ours.add(self.running)
        if self.is_interrupting:
            self.interrupt()

    def _on_refused(self, message: Typed, failure: RpcFailure) -> None:
        self.outbox.arrived(message.id)
        self.has_failed = True
        self.is_interrupting = False
        self._console.note(self._palette.bad(visible(str(failure))))
        self._go_on()
