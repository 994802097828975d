"""The upstream as a child process, on an edge of OS threads that may wait for its pipes.

The child is in a process group of its own, so that a Ctrl-C at our terminal is ours to pass on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Child", "Supervisor"]

logger = logging.getLogger(__name__)

READ_BYTES = 262_144

LOG_BYTES = 2_000
"""What of a line of the child's standard error is logged."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\^_])")
"""Control sequences, and other escapes of two letters (ECMA-48, 5.3 and 5.4)."""

TERM_S = 2.0
"""Seconds that a child has after SIGTERM."""


class Child:
    """One run of the upstream.

    Args:
        command: the program and its arguments.
        on_lines: called with lines the child wrote, on a thread that may wait; it may block.
        on_ended: called once, with the reason, when the child has ended or could not be started.
        env: added to our environment.

    """

    def __init__(
        self,
        command: Sequence[str],
        on_lines: Callable[[tuple[bytes, ...]], None],
        on_ended: Callable[[str], None],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._on_lines = on_lines
        self._on_ended = on_ended
        self._env = {**os.environ, **(env or {})}
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_closed_output = threading.Event()
        self._has_ended = threading.Event()

    def put(self, data: bytes) -> None:
        """Write to the child's standard input, in order. Any thread; never blocks."""
        self._outgoing.put(data)

    def end_input(self) -> None:
        """Close the child's standard input behind what was put. Any thread; never blocks."""
        self._outgoing.put(None)

    def kill(self) -> None:
        """End the child at once, and what it has started. Any thread; never blocks."""
        self._signal(signal.SIGKILL)

    def stop(self, timeout_s: float) -> bool:
        """Give the child the end of its input and `timeout_s` seconds, then signals. Blocks.

        Returns:
            Whether it has ended.

        """
        self.end_input()
        if not self._has_ended.wait(timeout_s):
            logger.warning("x upstream: it does not end; it is sent SIGTERM")
            self._signal(signal.SIGTERM)
            if not self._has_ended.wait(TERM_S):
                self.kill()
        return self._has_ended.wait(TERM_S)

    def run(self) -> None:
        """Start the child, and return when it has ended. For the supervisor's thread; call it once."""
        reason = "it could not be started"
        try:
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._env,
                start_new_session=True,
            )
            reason = self._attend(process)
        except OSError as error:
            reason = f"it could not be started: {error}"
        except Exception:
            logger.exception("x upstream: its reader has failed")
            self.kill()
        finally:
            self._has_ended.set()
            self._on_ended(reason)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

    def _attend(self, process: subprocess.Popen[bytes]) -> str:
        """Read until the child ends; return how it did."""
        helpers = [
            threading.Thread(target=target, args=(process,), name=f"trunkline-upstream-{name}", daemon=True)
            for name, target in (("stdin", self._write), ("stderr", self._log), ("end", self._await_end))
        ]
        for helper in helpers:
            helper.start()
        self._read(process)
        self._has_closed_output.set()
        # Its output has ended: it is ending, or it closed the pipe and has nothing more to say to us.
        try:
            code = process.wait(TERM_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = process.wait()
        self._outgoing.put(None)
        for helper in helpers:
            helper.join(TERM_S)
        return f"it has ended with {code}"

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            parts: list[bytes] = []
            while data := os.read(stdout.fileno(), READ_BYTES):
                head, newline, tail = data.rpartition(b"\n")
                if not newline:  # in the middle of a long line
                    parts.append(data)
                    continue
                lines = b"".join([*parts, head]).split(b"\n")
                parts = [tail] if tail else []
                self._on_lines(tuple(lines))

    def _await_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        # What it has started may live on and hold its output, and could be taken for it for ever.
        if not self._has_closed_output.wait(TERM_S):
            self.kill()

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        # What is written when the child has gone is lost with it; its end is told by the reader.
        with contextlib.suppress(OSError, ValueError):
            while (data := self._outgoing.get()) is not None:
                process.stdin.write(data)
                if self._outgoing.empty():
                    process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stderr:
            for line in stderr:
                text = _plain(line[:LOG_BYTES])
                if text:
                    logger.info("= upstream: %s", text)


class Supervisor:
    """The thread on which children run, one after another."""

    def __init__(self) -> None:
        self._children: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="trunkline-upstream", daemon=True)

    def start(self) -> None:
        """Start to take children. Call it once, on an edge: it waits for its thread to run."""
        self._thread.start()

    def run(self, child: Child) -> None:
        """Run a child, once those before it have ended. Any thread; never blocks."""
        self._children.put(child)

    def stop(self, timeout_s: float) -> bool:
        """Take no more children. Returns whether the thread has ended; blocks."""
        self._children.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (child := self._children.get()) is not None:
            child.run()


def _plain(line: bytes) -> str:
    """Return a line without what would colour a terminal, or do worse to it."""
    text = _ESCAPES.sub("", line.decode("utf-8", "replace")).strip()
    return "".join(letter if letter.isprintable() or letter == "\t" else " " for letter in text)
