"""`--embedded`: a server in a process of its own, for the length of a run, and what it leaves behind."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from trunkline_cli.load.worker import raise_descriptor_limit

__all__ = ["EmbeddedServer", "StartFailed"]

_START_S = 30.0
_STOP_S = 60.0
CLEANUP_S = 2.0
"""A connection that was closed is forgotten within this time."""


class StartFailed(Exception):
    """The server did not start; the text says why."""


class EmbeddedServer:
    """A server with the script agent. A context manager.

    It has its own process so that what is measured of it is of it alone, and what it leaves behind is
    not mixed up with what the load side has.

    Args:
        store: an SQLite file that may be there, or `memory`; None is a file that is removed afterwards.

    """

    def __init__(self, store: str | None = None) -> None:
        self.url = ""
        """Where it listens."""
        self.pid = 0
        self.left_over: list[str] = []
        """What was still there when it should have been gone; complete after `stop`."""
        # Spawned, not forked: a fork would take over the load side's descriptors.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, store), name="embedded-server", daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        kind, value = self._ask(None, _START_S)
        if kind != "ready":
            self._end()
            raise StartFailed(str(value))
        self.url, self.pid = value
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """See whether every connection is forgotten, stop the server, and see what it leaves. Idempotent."""
        if self._pipe.closed:
            return
        for question in ("connections", "stop"):
            _, left = self._ask(question, _STOP_S)
            self.left_over += left
        self._end()

    def _ask(self, question: str | None, patience_s: float) -> tuple[str, Any]:
        """Ask the process something and return the answer."""
        try:
            if question is not None:
                self._pipe.send(question)
            if self._pipe.poll(patience_s):
                answer: tuple[str, Any] = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            return "failed", [f"the server's process ended by itself: exit status {self._exit_status()}"]
        return "failed", [f"the server did not answer within {patience_s:.0f} s: {question or 'start'}"]

    def _exit_status(self) -> int | None:
        self._process.join(_START_S)
        return self._process.exitcode

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(_STOP_S)
        if self._process.is_alive():
            self.left_over.append("the server's process did not end")
            self._process.kill()
            self._process.join()
        self._process.close()


# In the server's process


def _serve(pipe: Pipe, store: str | None) -> None:
    """Be the server."""
    # A server that logs what a scenario provokes would only be in the way of the progress.
    logging.basicConfig(level=logging.ERROR, format="server: %(message)s")
    raise_descriptor_limit()
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Here and not above: the load side does without them.
    from trunkline.config import Config
    from trunkline.errors import TrunklineError
    from trunkline.server import AppServer
    from trunkline_cli.interpreter import set_up_for_server

    set_up_for_server()
    descriptors, threads = _descriptors(), set(threading.enumerate())
    with tempfile.TemporaryDirectory(prefix="trunkline-load-") as folder:
        config = Config(listen=("ws://127.0.0.1:0",), agent="script", store=_store(store, folder))
        try:
            server = AppServer(config)
            server.start()
        except TrunklineError as error:
            pipe.send(("failed", str(error)))
            return
        pipe.send(("ready", (server.listeners[0].url, os.getpid())))
        pipe.recv()
        pipe.send(("connections", _connections_left()))
        pipe.recv()
        server.stop()
        pipe.send(("stopped", _left(descriptors, threads)))


def _store(given: str | None, folder: str) -> Path | Literal["memory"]:
    if given == "memory":
        return "memory"
    return Path(folder) / "threads.sqlite3" if given is None else Path(given)


def _connections_left() -> list[str]:
    """Wait for every connection to be forgotten; return those that are not."""
    import pykka

    from trunkline.connection import Connection

    deadline = time.monotonic() + CLEANUP_S
    while (left := len(pykka.ActorRegistry.get_by_class(Connection))) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [f"{left} connections {CLEANUP_S:.0f} s after the last client left"] if left else []


def _left(descriptors: dict[int, str], threads: Iterable[threading.Thread]) -> list[str]:
    """Return what was not there before the server was made."""
    import pykka

    known = set(threads)
    left = [f"actor {ref}" for ref in pykka.ActorRegistry.get_all()]
    left += [f"thread {thread.name}" for thread in threading.enumerate() if thread not in known]
    left += [f"descriptor {fd}: {what}" for fd, what in _descriptors().items() if fd not in descriptors]
    return left


def _descriptors() -> dict[int, str]:
    """Return the open descriptors and what they are."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:  # the one that lists the directory
            continue
    return found
