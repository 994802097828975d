"""A scripted agent: its turns do what a test says, when the test says so."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias

from trunkline.agents.base import Agent, Decision, Turn
from trunkline.errors import TurnInterrupted
from trunkline.testing.wires import PATIENCE_S

__all__ = ["Script", "ScriptedAgent", "ScriptedTurn"]

Script: TypeAlias = Callable[[Turn], object]
"""What an agent does in a turn, or a part of it. Runs on the agent's thread; what it raises ends the turn."""


class ScriptedAgent:
    """Makes agents whose turns are scripts: given beforehand, or led by the test step by step.

    Give it to a server as its agent. The turns of all the server's threads come to the one object.

    Args:
        *scripts: what the first turns do, one for each, in the order in which they begin.

    Examples:
        >>> agent = ScriptedAgent(lambda turn: turn.say("hello"))
        >>> with running_server(agent=agent) as server:
        ...     client = server.connect("alice")
        ...     thread_id = client.start_thread()
        ...     first = client.run_turn(thread_id, "anything")  # says hello, and ends
        ...     turn_id = client.start_turn(thread_id, "anything")
        ...     turn = agent.next_turn()  # the scripts are used up: this one does as it is told
        ...     turn.speak("wait", " for", " it")
        ...     turn.end()
        ...     second = client.wait_turn(turn_id)
        >>> first["status"], second["status"]
        ('completed', 'completed')

    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts: queue.SimpleQueue[Script] = queue.SimpleQueue()
        self._turns: queue.SimpleQueue[ScriptedTurn] = queue.SimpleQueue()
        for script in scripts:
            self._scripts.put(script)

    def __call__(self) -> Agent:
        """Make the agent of a thread: this object is an agent factory."""
        return _Agent(self._run_turn)

    def next_turn(self) -> ScriptedTurn:
        """Wait for a turn that has no script to begin, and lead it.

        Raises:
            AssertionError: none has begun within `PATIENCE_S` seconds.

        """
        try:
            return self._turns.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError("no turn has begun") from None

    def _run_turn(self, turn: Turn) -> None:
        try:
            script = self._scripts.get_nowait()
        except queue.Empty:
            led = ScriptedTurn(turn)
            self._turns.put(led)
            led.run()
        else:
            script(turn)


class ScriptedTurn:
    """A turn that a test leads. It lasts until `end`, or until it is interrupted.

    Args:
        turn: the agent's handle.

    Examples:
        >>> agent = ScriptedAgent()
        >>> with running_server(agent=agent) as server:
        ...     client = server.connect("alice")
        ...     turn_id = client.start_turn(client.start_thread(), "anything")
        ...     turn = agent.next_turn()
        ...     decision = turn.ask("make release")
        ...     client.decide(client.wait("item/commandExecution/requestApproval"), "decline")
        ...     decision.result(PATIENCE_S)
        ...     turn.end()
        <Decision.DECLINE: 'decline'>

    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        """The agent's handle, for what there is no method for here."""
        self.message_id = ""
        """The item that `speak` adds to; empty before there is one."""
        self._scripts: queue.SimpleQueue[Script | None] = queue.SimpleQueue()

    def do(self, script: Script) -> None:
        """Have the agent's thread call `script(turn)`, behind what it was told before. Never blocks."""
        self._scripts.put(script)

    def speak(self, *texts: str) -> None:
        """Add to the turn's one message, which is started with the first text.

        Waits, as an agent does, while the thread is too far behind.
        """
        if not self.message_id:
            self.message_id = self.turn.start_item("agentMessage", text="", phase=None)
        for text in texts:
            self.turn.add_delta(self.message_id, text)

    def ask(self, command: str) -> Future[Decision]:
        """Ask for an approval of a command, on a thread of its own; several may be open at once.

        Returns:
            What is decided, or `TurnInterrupted`.

        """
        decision: Future[Decision] = Future()

        def ask() -> None:
            try:
                decision.set_result(self.turn.command(command).ask_approval())
            except TurnInterrupted as error:
                decision.set_exception(error)

        threading.Thread(target=ask, name="trunkline-turn-asking", daemon=True).start()
        return decision

    def end(self) -> None:
        """Have the agent return, once it has done what it was told before."""
        self._scripts.put(None)

    def run(self) -> None:
        """Do what the test says until the end, or an interrupt. On the agent's thread."""
        with self.turn.on_interrupt(self.end):
            while (script := self._scripts.get()) is not None:
                script(self.turn)


class _Agent(Agent):
    def __init__(self, run_turn: Callable[[Turn], None]) -> None:
        self._run_turn = run_turn

    def run_turn(self, turn: Turn) -> None:
        self._run_turn(turn)
