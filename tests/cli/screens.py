"""A terminal with somebody at it: a child on a pseudo-terminal, and the screen as a person sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

from children import environment
from cli.processes import PATIENCE_S, command

__all__ = ["CTRL_C", "CTRL_D", "Terminal"]

CTRL_C = "\x03"
CTRL_D = "\x04"

# Makes the pseudo-terminal on standard input the controlling terminal, so that its Ctrl-C is a SIGINT.
_LOGIN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class _Screen(pyte.Screen):
    """A screen that answers, where it may."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], None] | None) -> None:
        super().__init__(columns, rows)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        if self._answer is not None:
            self._answer(data)


class Terminal:
    """`trunkline` with these arguments, or another program, on a terminal.

    Args:
        args: of `trunkline`.
        program: another program, with its arguments.
        is_talking: whether the terminal answers when it is asked what it is and where its cursor stands.
        columns: its width.
        rows: its height.
        env: added to the environment of the child.
        cwd: the child's directory.
        stdout: where the child's output goes, if not to the terminal.

    """

    def __init__(
        self,
        *args: str,
        program: Sequence[str] = (),
        is_talking: bool = False,
        columns: int = 100,
        rows: int = 40,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: int | None = None,
    ) -> None:
        self._screen = _Screen(columns, rows, self.type if is_talking else None)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self._ended = False
        self.raw = b""
        """All that was written to the terminal."""
        self._fd, child_fd = os.openpty()
        fcntl.ioctl(child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOGIN, *(program or command(*args))],
            stdin=child_fd,
            stdout=child_fd if stdout is None else stdout,
            stderr=child_fd,
            env=environment(**(env or {})),
            cwd=cwd,
            start_new_session=True,
        )
        os.close(child_fd)
        self._reader = threading.Thread(target=self._read, name="terminal")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        os.close(self._fd)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def enter(self, line: str) -> None:
        """Type a line, and press Enter."""
        self.type(f"{line}\r")

    def wait_for(self, *texts: str) -> str:
        """Wait until all of `texts` are on the screen. Returns the screen."""
        return self.wait_until(lambda screen: all(text in screen for text in texts), f"to show {texts}")

    def wait_until(self, holds: Callable[[str], bool], what: str) -> str:
        """Wait until `holds` of the screen. Returns the screen."""
        with self._changed:
            # What has ended changes no more: no need to wait for the rest of our patience.
            self._changed.wait_for(lambda: self._ended or holds(self._text()), PATIENCE_S)
            assert holds(self._text()), f"waited for the terminal {what}; it shows\n{self._text()}"
            return self._text()

    def wait_end(self) -> int:
        """Wait until the process has ended. Returns its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    @property
    def text(self) -> str:
        """What is on the screen."""
        with self._changed:
            return self._text()

    def _text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def _read(self) -> None:
        # A pseudo-terminal whose other end is closed fails with EIO on Linux, and ends on others.
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                with self._changed:
                    self.raw += data
                    self._stream.feed(data)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
