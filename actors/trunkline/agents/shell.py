"""The shell agent: runs the turn's text with `/bin/sh -c`, once a subscriber has approved it.

How a command ends, whoever ends it: when its shell exits or the turn is interrupted, all that is left
of the command's process group is sent SIGTERM; once its output is closed, or after a short grace,
SIGKILL. So a command ends with its shell: a child that it left in the background is not waited for and
does not survive. Out of reach are processes that left the group (`setsid`) or belong to another user
(`sudo`): they are not waited for either.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from trunkline.agents.base import Agent, CommandItem, Decision, Turn, input_text
from trunkline.errors import TurnInterrupted

__all__ = ["ShellAgent"]

logger = logging.getLogger(__name__)

# What a pipe holds on Linux: one read takes all that has gathered while the last delta was emitted.
_CHUNK_BYTES = 64 * 1024

# How long a turn waits for what SIGKILL should end at once, before it leaves it to itself.
_REAP_TIMEOUT_S = 3.0

_Sink: TypeAlias = Callable[[str], None]
"""Takes a piece of a command's output. May wait; raises `TurnInterrupted` once the turn is."""


class ShellAgent(Agent):
    """Runs what it is told, as approved.

    Asks by the thread's approval policy: `untrusted` always; `on-request` unless the same command in
    the same directory was accepted for the session (a shell cannot tell a harmless command from
    another); `never` never. Input that is sent while a command runs is run after it, in the same turn.

    Args:
        max_kept_chars: how much of a command's output the completed item keeps: the beginning and the
            end, with a line between them that says how much is missing. All of it is streamed.
        kill_grace_s: how long a process has between SIGTERM and SIGKILL.

    """

    def __init__(self, *, max_kept_chars: int = 1024 * 1024, kill_grace_s: float = 1.0) -> None:
        self._max_kept_chars = max_kept_chars
        self._kill_grace_s = kill_grace_s
        self._accepted: set[tuple[str, Path]] = set()

    def run_turn(self, turn: Turn) -> None:
        """Run the input, and then what was sent meanwhile."""
        self._run(turn, turn.text)
        while (steer := turn.wait_steer(timeout_s=0)) is not None:
            self._run(turn, input_text(steer))

    def _run(self, turn: Turn, command: str) -> None:
        if not command.strip():
            turn.say("Nothing to run: the input has no text.")
            return
        item = turn.command(command)
        if self._is_approved(turn, item, command):
            self._execute(turn, item, command)

    def _is_approved(self, turn: Turn, item: CommandItem, command: str) -> bool:
        """Ask if need be. After a refusal the item is complete."""
        # The directory is part of what was approved: `rm -r build` is another act elsewhere.
        key = (command, turn.cwd)
        policy = turn.approval_policy
        if policy == "never" or (policy == "on-request" and key in self._accepted):
            return True
        decision = item.ask_approval(for_session=policy == "on-request")
        if decision is Decision.ACCEPT_FOR_SESSION:
            self._accepted.add(key)
        if decision.accepted:
            return True
        item.complete("failed" if decision is Decision.FAILED else "declined")
        if decision is Decision.CANCEL:
            raise TurnInterrupted
        return False

    def _execute(self, turn: Turn, item: CommandItem, command: str) -> None:
        kept = _Kept(self._max_kept_chars)

        def sink(text: str) -> None:
            kept.add(text)
            item.output(text)

        turn.check()  # an approval and an interrupt may come together: then nothing is started
        try:
            running = _Running(command, turn.cwd, self._kill_grace_s)
        except (OSError, ValueError, RuntimeError) as error:
            item.output(f"trunkline: {_why_not(error, turn.cwd)}\n")
            item.complete("failed")
            return
        exit_code = running.run(turn, sink)
        item.complete(
            "completed" if exit_code == 0 else "failed",
            exit_code,
            kept_output=kept.text() if kept.is_cut else None,
        )


class _Running:
    """A shell that runs a command, and the process group that it leads.

    Made and used by the agent's thread. A second thread, the reaper, waits for the shell to exit and
    collects it; the agent's thread waits for output, the exit and an interrupt, all in one `select`.
    """

    def __init__(self, command: str, cwd: Path, kill_grace_s: float) -> None:
        """Start the shell.

        Raises:
            OSError: no such directory, out of processes or descriptors, command too long.
            ValueError: the command has a character that no command can have (NUL).
            RuntimeError: out of threads.

        """
        self._kill_grace_s = kill_grace_s
        self._exited = threading.Event()
        # Until this is set the dead shell is kept as a zombie, so that the number of its group cannot
        # come to stand for another one while we still send signals to it.
        self._may_reap = threading.Event()
        self._wake = _Wake()
        try:
            self._process = _start(command, cwd)
        except BaseException:
            self._wake.close()
            raise
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._selector = selectors.PollSelector()
        self._selector.register(self._wake.fd, selectors.EVENT_READ)
        self._selector.register(self._stdout.fileno(), selectors.EVENT_READ)
        self._output_open = True
        # A daemon: a process that not even SIGKILL ends must not keep the server from ending.
        self._reaper = threading.Thread(target=self._reap, name="trunkline-reaper", daemon=True)
        try:
            self._reaper.start()
        except BaseException:
            self._abandon()
            raise

    def run(self, turn: Turn, sink: _Sink) -> int | None:
        """Pass the output to `sink` until the command is over, and leave nothing of it behind.

        Returns:
            The exit code, 128 + N after signal N; None if the shell could not be killed.

        Raises:
            TurnInterrupted: the turn was interrupted; the command has been killed.

        """
        try:
            with turn.on_interrupt(self._wake.set):
                self._pump(sink, lambda: self._exited.is_set() or turn.is_interrupted)
            turn.check()
        except BaseException:
            self._end(_discard)
            raise
        self._end(sink)
        code = self._process.returncode
        return 128 - code if code is not None and code < 0 else code

    def _pump(self, sink: _Sink, is_done: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Pass output to `sink` until `is_done()`, or for `timeout_s` seconds."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not is_done():
            rest_s = None if deadline is None else deadline - time.monotonic()
            if rest_s is not None and rest_s <= 0:
                return
            for key, _ in self._selector.select(rest_s):
                if key.fd == self._wake.fd:
                    self._wake.clear()
                else:
                    self._read(sink)

    def _read(self, sink: _Sink) -> None:
        data = os.read(self._stdout.fileno(), _CHUNK_BYTES)
        if not data:
            self._selector.unregister(self._stdout.fileno())
            self._output_open = False
        if text := self._decoder.decode(data, final=not data):
            sink(text)

    def _is_over(self) -> bool:
        return self._exited.is_set() and not self._output_open

    def _end(self, sink: _Sink) -> None:
        """End what is left of the group, while its last output goes to `sink`."""
        try:
            self._signal(signal.SIGTERM)
            self._pump(sink, self._is_over, self._kill_grace_s)
            if self._output_open and (text := self._decoder.decode(b"", final=True)):
                sink(text)
        finally:
            self._signal(signal.SIGKILL)
            self._close()

    def _signal(self, signal_number: signal.Signals) -> None:
        # Nobody left to signal, or nobody who is ours: both are as good as done.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal_number)

    def _close(self) -> None:
        self._may_reap.set()
        self._reaper.join(_REAP_TIMEOUT_S)
        if self._reaper.is_alive():
            logger.warning("shell %d does not end; it is left to itself", self._process.pid)
        self._release()

    def _release(self) -> None:
        self._selector.close()
        self._stdout.close()
        self._wake.close()

    def _abandon(self) -> None:
        """Undo the start, without a reaper."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._release()

    def _reap(self) -> None:
        """Tell of the shell's exit, and collect it when that is allowed. The reaper's thread."""
        _wait_exit(self._process)
        self._exited.set()
        self._wake.set()
        self._may_reap.wait()
        self._process.wait()


class _Wake:
    """Ends a `select` from another thread."""

    def __init__(self) -> None:
        self.fd, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # Against a `set` that comes late and would write to whatever has the descriptor's number then.
        # Nobody waits while holding it.
        self._lock = threading.Lock()
        self._is_closed = False

    def set(self) -> None:
        """Make `fd` readable. Any thread; never blocks or raises."""
        with self._lock:
            if not self._is_closed:
                with suppress(BlockingIOError):  # full: it is readable
                    os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Make `fd` wait for the next `set`."""
        os.read(self.fd, 512)

    def close(self) -> None:
        """Close both ends; `set` does nothing from now on."""
        with self._lock:
            self._is_closed = True
            os.close(self._writer)
            os.close(self.fd)


class _Kept:
    """The beginning and the end of a text of any length."""

    def __init__(self, max_chars: int) -> None:
        self._half = max(1, max_chars // 2)
        self._head = io.StringIO()
        self._tail = io.StringIO()
        self._total = 0

    def add(self, text: str) -> None:
        """Add a piece."""
        room = max(0, self._half - self._total)
        self._total += len(text)
        self._head.write(text[:room])
        self._tail.write(text[room:])
        # Cut back only when it has doubled: a piece costs what it is long, not what is kept.
        if self._tail.tell() > 2 * self._half:
            last = self._tail.getvalue()[-self._half :]
            self._tail = io.StringIO()
            self._tail.write(last)

    @property
    def is_cut(self) -> bool:
        """Whether something is left out of `text()`."""
        return self._total > 2 * self._half

    def text(self) -> str:
        """Return what is kept, and between its parts how much is not."""
        tail = self._tail.getvalue()[-self._half :]
        missing = self._total - 2 * self._half
        middle = f"\n[... {missing} characters left out ...]\n" if self.is_cut else ""
        return self._head.getvalue() + middle + tail


def _start(command: str, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", "--", command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        close_fds=True,
        start_new_session=True,
    )


def _wait_exit(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has exited, and leave it to be collected."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13; there it is collected at once
        process.wait()
        return
    # Another part of the host may have collected it, or may have SIGCHLD ignored.
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _discard(_: str) -> None:
    pass


def _why_not(error: Exception, cwd: Path) -> str:
    if not isinstance(error, OSError):
        return f"cannot run this: {error}"
    if error.filename == cwd:
        return f"cannot run in {cwd}: {error.strerror}"
    return f"cannot run this: {error.strerror}"
