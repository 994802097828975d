"""What an attached session is told to do, and how it can end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from trunkline_cli.client import ClientError, RpcFailure
from trunkline_cli.text import visible

__all__ = ["NotOpened", "NotResumed", "Options", "Outcome", "Place", "ThreadGone"]


class NotOpened(ClientError):
    """The server does not give us the thread."""

    def __init__(self, verb: str, failure: RpcFailure) -> None:
        super().__init__(verb, failure)
        self.verb = verb
        """What was tried: `start` or `resume`."""
        self.failure = failure

    def __str__(self) -> str:
        return f"cannot {self.verb} the thread: {self.failure}"


class NotResumed(ClientError):
    """The server is there again, and the thread is not."""

    def __init__(self, thread_id: str, failure: RpcFailure) -> None:
        super().__init__(thread_id, failure)
        self.thread_id = thread_id
        self.failure = failure

    def __str__(self) -> str:
        return f"the server is back, but thread {visible(self.thread_id)} is not: {self.failure}"


class ThreadGone(ClientError):
    """The thread is not there any more."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how
        """`closed`, `archived` or `deleted`."""

    def __str__(self) -> str:
        return f"the thread was {self.how} by the server or another client"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about a session."""

    url: str
    """Where the server is, for others to attach."""
    thread_id: str | None = None
    """The thread to resume; None starts one."""
    token_file: Path | None = None
    """Where the token for the server is, if it is not in the environment."""
    allow_all: bool = False
    """Whether every approval is given without asking."""
    cwd: str | None = None
    """The working directory of a new thread; None leaves it to the server."""
    patience_s: float = math.inf
    """How many seconds to try to get a lost connection back; 0 does not try."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended."""

    exit_code: int
    error: ClientError | None = None
    """What to say about it."""


@dataclass(slots=True)
class Place:
    """How far we are in a thread's events: what a server needs to be told to send the ones after."""

    thread_id: str
    epoch: str | int | None = None
    seq: int | None = None
