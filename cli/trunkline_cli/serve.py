"""`trunkline serve`: a server as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

import click

from trunkline.config import Config
from trunkline.server import AppServer
from trunkline.transports.listen import ACCEPTED
from trunkline_cli import logs
from trunkline_cli.entrance import entrance_settings, take_entrances
from trunkline_cli.interpreter import set_up_for_server
from trunkline_cli.limits import limit_settings, take_limits
from trunkline_cli.logs import LogFormat
from trunkline_cli.options import (
    check_agent,
    check_listen_urls,
    check_store,
    check_upstream,
    default_store,
    setting,
)

__all__ = ["serve"]

STOP_S = 30.0
"""Seconds that a stop may take behind the grace."""

SIGNALS_IN_ORDER = 2
"""The first begins to stop, the second ends the grace. The third has its usual effect."""

CLIENT_GONE = 0
"""No signal has this number."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.command(short_help="Run a server.")
@setting(
    "--listen",
    metavar="URL",
    multiple=True,
    default=("stdio://",),
    callback=check_listen_urls,
    help=f"Where to be reached: {ACCEPTED.replace('`', '')}. May be given several times.",
)
@setting(
    "--agent",
    metavar="NAME",
    default="shell",
    callback=check_agent,
    help="What answers turns: shell, script, package.module:Class, or codex, which is "
    "`--upstream 'codex app-server'`.",
)
@setting(
    "--upstream",
    metavar="COMMAND",
    default=None,
    callback=check_upstream,
    help="An app-server on its standard input and output, to be put in front of; in the place of --agent.",
)
@setting(
    "--store",
    metavar="PATH",
    default=default_store,
    show_default="a file of yours",
    callback=check_store,
    help="Where threads are kept: an SQLite file, or `memory` for as long as the server runs.",
)
@setting(
    "--unload-after",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    help="When to unload a thread without subscribers and activity.",
)
@setting(
    "--turn-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    show_default="never",
    help="When to end a turn as failed; the time in which it waits for a client does not count.",
)
@setting(
    "--prompt-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    show_default="never",
    help="When to refuse a prompt that nobody has answered.",
)
@setting(
    "--prompt-without-subscriber",
    type=click.Choice(["wait", "refuse"]),
    default="wait",
    help="What becomes of a prompt with nobody attached.",
)
@setting(
    "--grace",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    help="How long running turns may take to end once the server is told to stop.",
)
@limit_settings
@entrance_settings
@setting(
    "--log-level",
    type=click.Choice(logs.LEVELS, case_sensitive=False),
    default="info",
    help="How much to log, to standard error.",
)
@setting(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    help="Log lines for people, or one JSON object a line.",
)
def serve(log_level: str, log_format: LogFormat, grace: float, **settings: Any) -> None:
    """Run a server until it is told to stop.

    SIGTERM, SIGINT and SIGHUP end it in order; a second SIGTERM or SIGINT ends the grace, a third one the
    process. A server on stdio:// also ends when its client closes standard input.
    """
    logs.configure(log_level, log_format)
    set_up_for_server()
    server = AppServer(_config(entrances=take_entrances(settings), **settings))
    with _StopRequests() as stop_requests:
        server.start()
        watch = threading.Thread(target=_watch, args=(server, stop_requests), name="trunkline-watch")
        watch.start()
        grace_s = grace
        try:
            _announce(server)
            if stop_requests.wait() == CLIENT_GONE:
                grace_s = 0  # nobody is left for whom a turn would have to end well
        finally:
            with _hurried_by(stop_requests, server):
                server.stop(grace_s=grace_s, timeout_s=grace_s + STOP_S)
            watch.join()


def _config(
    *, unload_after: float, turn_timeout: float | None, prompt_timeout: float | None, **settings: Any
) -> Config:
    return Config(
        unload_after_s=unload_after,
        turn_timeout_s=turn_timeout,
        prompt_timeout_s=prompt_timeout,
        limits=take_limits(settings),
        **settings,  # those that have the same name here and there
    )


def _announce(server: AppServer) -> None:
    """Say where the server is to be reached. Programs read these lines to learn the port."""
    with contextlib.suppress(OSError):  # nobody listens
        _say_where(server)


def _say_where(server: AppServer) -> None:
    for listener in server.listeners:
        click.echo(f"listening on: {listener.url}", err=True)
        if listener.ready_url is not None:
            click.echo(f"readyz: {listener.ready_url}", err=True)
            click.echo(f"healthz: {listener.health_url}", err=True)
    if server.metrics_url is not None:
        click.echo(f"metrics: {server.metrics_url}", err=True)


def _watch(server: AppServer, stop_requests: _StopRequests) -> None:
    """Wait for the end of the client on stdio, or of the server."""
    server.wait_closed()
    stop_requests.put_client_gone()


@contextlib.contextmanager
def _hurried_by(stop_requests: _StopRequests, server: AppServer) -> Iterator[None]:
    """Let a further signal end the grace, while the main thread waits in `stop`."""
    is_over = threading.Event()

    def watch() -> None:
        while stop_requests.wait() == CLIENT_GONE:
            if is_over.is_set():
                return
        server.stop(grace_s=0)

    thread = threading.Thread(target=watch, name="trunkline-hurry")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        stop_requests.put_client_gone()
        thread.join()


class _StopRequests:
    """Why the server should stop: a signal, or that its client has gone. One thread at a time waits for it.

    A byte in a pipe for each. The interpreter itself writes those of signals, in the C handler: a main
    thread that waits for anything else can miss a signal that comes just before it begins to wait.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)  # what `set_wakeup_fd` wants
        self._before: dict[int, Any] = {}
        self._wakeup_fd_before = -1
        self._signals = 0

    def __enter__(self) -> Self:
        # What is ignored on purpose stays ignored: `nohup` does that with SIGHUP.
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._wakeup_fd_before = signal.set_wakeup_fd(self._write_fd)
        self._before = {number: signal.signal(number, self._on_signal) for number in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_fd_before)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def wait(self) -> int:
        """Wait for the next reason to stop: the number of a signal, or `CLIENT_GONE`."""
        return os.read(self._read_fd, 1)[0]

    def put_client_gone(self) -> None:
        """Say that the client has gone. Any thread."""
        os.write(self._write_fd, bytes([CLIENT_GONE]))

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        for number in self._before:
            if number == signal.SIGHUP:  # a terminal that closes may say so more than once
                signal.signal(number, signal.SIG_IGN)
            elif self._signals >= SIGNALS_IN_ORDER:
                signal.signal(number, signal.SIG_DFL)
