"""The user's side of an attached session: where text is shown, and where lines come from.

A `Console` has one edge that waits for the user, `run`, on the main thread; what it reads it puts into
the session's inbox as messages. The session, on a thread of its own, calls the other methods. There are two
kinds: `PlainConsole` here, for pipes and for terminals without a line editor, and the one in `terminal.py`.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TextIO, TypeAlias

from trunkline_cli.text import Cleaner

__all__ = ["Console", "InputEnded", "Interrupt", "Leave", "Line", "PlainConsole", "UserInput"]

READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Line:
    """The user entered a line; a pasted text may hold newlines."""

    text: str
    answers: object = None
    """The key of the question that stood before the line when it was entered; None if none did."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The user pressed Ctrl-C."""


@dataclass(frozen=True, slots=True)
class InputEnded:
    """There is nothing more to read: Ctrl-D, or the end of the pipe."""


@dataclass(frozen=True, slots=True)
class Leave:
    """We are told to go, by a signal."""

    exit_code: int


UserInput: TypeAlias = Line | Interrupt | InputEnded | Leave
"""All that a console puts into the inbox."""


class Console(Protocol):
    """What the session knows of the user's side. Any thread may call these; `write` may wait for it."""

    @property
    def interactive(self) -> bool:
        """Whether there is somebody who can be asked."""
        ...

    def write(self, text: str) -> None:
        """Show a piece of what the agent says or a command prints. It need not end a line."""
        ...

    def break_line(self) -> None:
        """See to it that whatever is written next begins a line."""
        ...

    def note(self, text: str) -> None:
        """Show a line, or lines, about the session. `text` is ours: it may bring colours."""
        ...

    def prompt(self, text: str) -> None:
        """Set what stands before the line that the user types while nothing is asked."""
        ...

    def ask(self, question: str, key: object, *, secret: bool = False) -> None:
        """Have the next line be the answer to `question`; not shown while it is typed if `secret`.

        `key` comes back with the line: whoever types while questions come and go does not answer
        one that they had not seen.
        """
        ...

    def stop_asking(self) -> None:
        """Forget the question, and bring back what the user was typing before it."""
        ...

    def want_line(self) -> None:
        """Ask for one more line of a pipe. A user at a terminal types when they like."""
        ...

    def run(self, put: Callable[[UserInput], None]) -> None:
        """Read until `stop`. For the main thread."""
        ...

    def stop(self) -> None:
        """Have `run` return. Idempotent."""
        ...


class PlainConsole:
    """Lines in, text out, without any editing: for pipes, files and dumb terminals.

    What the agent says goes to standard output as it came; what is about the session goes to standard
    error. Lines of a pipe are read one at a time, when they are wanted, so that what was not run
    is left in the pipe and not in our memory.
    """

    def __init__(self, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
        self._fd = stdin.fileno()
        self._stdout = stdout
        self._stderr = stderr
        self._interactive = stdin.isatty()
        self._cleaner = Cleaner() if stdout.isatty() else None
        self._in_line = False
        self._wanted = self._interactive
        self._asking: object = None
        self._stopped = False
        # A byte in this pipe wakes the thread that waits for the input: `_wanted` or `_stopped` has changed.
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)

    @property
    def interactive(self) -> bool:
        """Whether standard input is a terminal."""
        return self._interactive

    def write(self, text: str) -> None:
        """Write to standard output."""
        shown = text if self._cleaner is None else self._cleaner.feed(text)
        if shown:
            self._stdout.write(shown)
            self._stdout.flush()
            self._in_line = not shown.endswith("\n")

    def break_line(self) -> None:
        """End the line on standard output, if one was begun."""
        if self._in_line:
            self._in_line = False
            self._stdout.write("\n")
            self._stdout.flush()

    def note(self, text: str) -> None:
        """Write to standard error."""
        # Where both are the same screen, a note must not continue a line of output; in a pipe
        # the output is to stay as it came.
        if self._cleaner is not None:
            self.break_line()
        self._stderr.write(f"{text}\n")
        self._stderr.flush()

    def prompt(self, text: str) -> None:
        """Nothing: without an editor to keep it at the bottom, a prompt is lost among the output."""

    def ask(self, question: str, key: object, *, secret: bool = False) -> None:
        """Write the question to standard error; the next line that is typed answers it."""
        if self._cleaner is not None:
            self.break_line()
        self._asking = key
        warning = "(your answer will be visible) " if secret else ""
        self._stderr.write(f"{question}{warning}")
        self._stderr.flush()

    def stop_asking(self) -> None:
        """End the line with the question, unless an answer did."""
        if self._asking is not None:
            self._asking = None
            self._stderr.write("\n")
            self._stderr.flush()

    def want_line(self) -> None:
        """Read one more line of the pipe."""
        if not self._interactive:
            self._wanted = True
            os.write(self._wake_in, b"w")

    def stop(self) -> None:
        """Have `run` return."""
        self._stopped = True
        os.write(self._wake_in, b"s")

    def run(self, put: Callable[[UserInput], None]) -> None:
        """Read lines until `stop`."""
        with self._woken_by_signals():
            self._read_lines(put)

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """Have signals end the wait for input.

        Their handlers run in the main thread once it is not waiting; one that comes just before the wait
        begins would go unnoticed until the next line. The interpreter writes this byte by itself.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._wake_in)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def _read_lines(self, put: Callable[[UserInput], None]) -> None:
        lines = _Lines(self._fd)
        while not self._stopped:
            if self._wanted and (message := lines.take()) is not None:
                self._wanted = self._interactive and not isinstance(message, InputEnded)
                put(self._answered(message) if isinstance(message, Line) else message)
                continue
            # The pipe that wakes us is never at its end, so this waits for the input or for a change.
            sources = [self._wake_out, *([self._fd] if self._wanted else [])]
            ready, _, _ = select.select(sources, [], [])
            if self._wake_out in ready:
                os.read(self._wake_out, READ_BYTES)
            if self._fd in ready:
                lines.read()

    def _answered(self, line: Line) -> Line:
        key, self._asking = self._asking, None
        return Line(line.text, key)


class _Lines:
    """The lines of a file descriptor.

    Read from the descriptor and not through `sys.stdin`, whose buffer a `select` cannot see into, and
    whose lock a thread that still reads would hold when the interpreter ends.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""
        self._ended = False

    def read(self) -> None:
        """Read once what is there."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except OSError:  # the terminal has gone away
            data = b""
        self._ended = not data
        self._text += self._decoder.decode(data, final=self._ended)

    def take(self) -> Line | InputEnded | None:
        """Return the next line or the end; None if more has to be read first."""
        line, newline, rest = self._text.partition("\n")
        if newline:
            self._text = rest
            return Line(line.removesuffix("\r"))
        if not self._ended:
            return None
        if line:
            self._text = ""
            return Line(line)
        return InputEnded()
