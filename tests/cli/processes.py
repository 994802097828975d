"""The commands as real child processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from children import environment

__all__ = ["PATIENCE_S", "Server", "command", "run"]

PATIENCE_S = 60.0
"""How long a test waits for what must come. No passing test comes near it."""


def command(*args: str) -> list[str]:
    """Return the command line of `trunkline` with these arguments."""
    return [sys.executable, "-m", "trunkline_cli", *args]


def run(
    *args: str, stdin: str = "", cwd: Path | None = None, path: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with text piped into it; it looks for modules in `path` first."""
    return subprocess.run(
        command(*args),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(*path),
        cwd=cwd,
        check=False,
    )


class Server:
    """`trunkline serve`. The `with` block ends it, and sees that it ends well.

    Args:
        args: of `trunkline serve`.
        port: where it listens; a free one if it is 0.
        announced: how many lines it says on its start; more listeners say more.
        path: where it looks for modules first.

    """

    def __init__(self, *args: str, port: int = 0, announced: int = 3, path: tuple[Path, ...] = ()) -> None:
        self._args = args
        self._environment = environment(*path)
        self._listen = f"ws://127.0.0.1:{port}"
        self._announced = announced
        self._logs = "--log-level" in args
        self.log = ""
        """What was written to standard error after the announcement; known after the `with` block."""
        self.expected = 0
        """How it is to end; a test that ends it in another way says so."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            command("serve", "--listen", self._listen, "--log-level", "error", *self._args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        assert self.process.stderr is not None
        self.announcement = [self.process.stderr.readline() for _ in range(self._announced)]
        self.url = self.announcement[0].removeprefix("listening on: ").strip()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, self.log = self.process.communicate(timeout=PATIENCE_S)
        if exc is None:
            assert self.process.returncode == self.expected
            assert self._logs or self.log == ""

    def stop(self) -> None:
        """End it in order, now."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it without a word."""
        self.expected = -signal.SIGKILL
        self.process.kill()
        self.process.wait(PATIENCE_S)
