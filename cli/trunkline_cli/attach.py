"""`trunkline attach`: a person, or a pipe, at a thread.

The main thread waits for the user, the client's thread for the server, and both put what they get into one
inbox; the session takes it from there on a thread of its own. So nothing of the session is shared.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import click
from click.core import ParameterSource

from trunkline.config import Config
from trunkline.server import AppServer
from trunkline_cli import logs
from trunkline_cli.client import Client, Incoming
from trunkline_cli.console import Console, Interrupt, Leave, PlainConsole, UserInput
from trunkline_cli.credential import find_token, token_setting
from trunkline_cli.options import check_agent, check_server_url, setting
from trunkline_cli.outcome import Options, Outcome
from trunkline_cli.reconnect import Reconnector, Reopening
from trunkline_cli.session import Session
from trunkline_cli.text import Palette, wants_colour
from trunkline_cli.wire import open_client

__all__ = ["attach"]

MAX_INBOX = 1000
"""Messages of the server that may wait for the session; then the connection is not read any further, and what
is behind waits at the server, in the log that all of the thread's clients share."""

# What another process or the system tells us, and what we make of it. Ctrl-C is a key in the line editor,
# and a signal everywhere else.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Message: TypeAlias = Incoming | UserInput | Reopening

PIPE_PATIENCE_S = 60.0
"""How long a pipe tries to get a lost connection back. A user sees that there is none, and leaves; a script
would wait for ever for a server that is gone for good."""


@click.command(short_help="Talk to a thread, from a terminal or a pipe.")
@click.argument("url", required=False, callback=check_server_url)
@click.option("--thread", "thread_id", metavar="ID", help="Resume this thread instead of starting one.")
@click.option("--yes", "allow_all", is_flag=True, help="Allow whatever needs approval, without asking.")
@token_setting
@setting(
    "--reconnect-for",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=None,
    show_default=f"for ever at a terminal, {PIPE_PATIENCE_S:g} from a pipe",
    help="For how long to try to get a lost connection back; 0 does not try.",
)
@setting(
    "--agent",
    metavar="NAME",
    default="shell",
    callback=check_agent,
    help="The agent of our own server: shell, script or package.module:Class.",
)
@click.pass_context
def attach(
    ctx: click.Context,
    url: str | None,
    thread_id: str | None,
    token_file: Path | None,
    reconnect_for: float | None,
    agent: str,
    *,
    allow_all: bool,
) -> None:
    """Attach to a thread of the server at URL; without URL, of a server in this process.

    Starts a thread, or resumes the one named, and shows what happens on it, whoever makes it happen. A
    line that you enter is a turn, or goes to the turn that is running. Ctrl-C interrupts the turn, or leaves
    if there is none; Ctrl-D leaves.

    A connection that is lost is got back, and the thread goes on where it was.

    From a pipe each line is a turn, one after the other: echo ls | trunkline attach --yes
    """
    if url is not None and ctx.get_parameter_source("agent") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--agent is for a server of our own; the one at URL has its agent.")
    if url is None and ctx.get_parameter_source("token_file") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--token-file needs the URL of the server that asks for the token.")
    if url is None and thread_id is not None:
        raise click.UsageError("--thread needs the URL of the server that has the thread.")
    palette = Palette(is_on=wants_colour(sys.stdout if _has_editor() else sys.stderr))
    console = _console(palette)
    logs.configure("error", handler=_ConsoleHandler(console))
    if reconnect_for is None:
        reconnect_for = math.inf if console.interactive else PIPE_PATIENCE_S
    if url is not None:
        options = Options(
            url=url,
            thread_id=thread_id,
            token_file=token_file,
            allow_all=allow_all,
            patience_s=reconnect_for,
        )
        outcome = _attach(options, console, palette)
    else:
        with _own_server(agent) as own_url:
            # Its threads work where we are; a server elsewhere has directories of its own.
            options = Options(
                url=own_url, allow_all=allow_all, cwd=_current_directory(), patience_s=reconnect_for
            )
            outcome = _attach(options, console, palette)
    if outcome.error is not None:
        raise outcome.error
    ctx.exit(outcome.exit_code)


@contextlib.contextmanager
def _own_server(agent: str) -> Iterator[str]:
    """Run a server in this process, on a free port that only this machine reaches. Yields its URL."""
    server = AppServer(Config(listen=("ws://127.0.0.1:0",), agent=agent))
    server.start()
    try:
        yield server.listeners[0].url
    finally:
        with _signals(lambda _: None):  # or one more Ctrl-C would leave a command behind that is being ended
            server.stop(grace_s=0)  # who leaves does not wait for the turn


class _Inbox:
    """What waits for the session. Any thread puts; the session takes.

    One queue for all, so that everything has one order; but only what the server sends is held back when the
    session is behind. What the user does is never held back: the thread that draws waits for nobody.
    """

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[tuple[_Message, bool]] = queue.SimpleQueue()
        self._room = threading.Semaphore(MAX_INBOX)
        self._is_closed = False

    def put(self, message: UserInput | Reopening) -> None:
        """Put what the user did, or what became of a lost connection.

        Never blocks; a signal handler may call it.
        """
        self._messages.put((message, False))

    def put_incoming(self, message: Incoming) -> None:
        """Put what the server sent, once there is room."""
        self._room.acquire()
        if self._is_closed:
            self._room.release()
        else:
            self._messages.put((message, True))

    def take(self) -> _Message:
        """Wait for the next message."""
        message, is_incoming = self._messages.get()
        if is_incoming:
            self._room.release()
        return message

    def close(self) -> None:
        """Drop what is still to come, and let go of the thread that waits for room."""
        self._is_closed = True
        self._room.release()


def _attach(options: Options, console: Console, palette: Palette) -> Outcome:
    """Run a session to its end."""
    inbox = _Inbox()

    def connect() -> Client:
        # Looked up each time: one that expires may have been renewed meanwhile.
        bearer = find_token(options.url, options.token_file)
        return open_client(options.url, inbox.put_incoming, bearer=bearer)

    with (
        contextlib.closing(Reconnector(connect, inbox.put, options.patience_s)) as reconnector,
        contextlib.closing(inbox),  # before the client, whose thread may be waiting for room
        _signals(inbox.put),
    ):
        session = Session(reconnector.client, reconnector.reopen, console, palette, options)
        return _run(session, inbox, console)


def _run(session: Session, inbox: _Inbox, console: Console) -> Outcome:
    """Run the session on a thread of its own, and the console on this one."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            session.begin()
            while session.outcome is None:
                session.handle(inbox.take())
        except BaseException as error:
            failures.append(error)  # raised again where it can be seen
        finally:
            console.stop()

    worker = threading.Thread(target=work, name="trunkline-session", daemon=True)
    worker.start()
    console.run(inbox.put)
    worker.join()
    if failures:
        raise failures[0]
    assert session.outcome is not None
    return session.outcome


@contextlib.contextmanager
def _signals(put: Callable[[UserInput], None]) -> Iterator[None]:
    """Turn signals into messages."""

    def on_signal(number: int, _: FrameType | None) -> None:
        # Putting into a SimpleQueue is safe here, even if it interrupts another put.
        put(Interrupt() if number == signal.SIGINT else Leave(128 + number))

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_editor() -> bool:
    """Whether we are on a terminal on which a line can be edited while text scrolls by above it."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


def _console(palette: Palette) -> Console:
    if not _has_editor():
        return PlainConsole(sys.stdin, sys.stdout, sys.stderr)
    from trunkline_cli.terminal import TerminalConsole  # heavy, and only for terminals

    return TerminalConsole(palette)


def _current_directory() -> str | None:
    """Return where we are; None if that directory is gone, or its name is no text that JSON can say."""
    try:
        directory = str(Path.cwd())
        directory.encode()
    except (FileNotFoundError, UnicodeEncodeError):
        return None
    return directory


class _ConsoleHandler(logging.Handler):
    """Shows the log of our own server among the session's lines, where it does not garble them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.note(self.format(record))
        except Exception:
            self.handleError(record)
