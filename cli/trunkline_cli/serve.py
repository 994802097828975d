"""`trunkline serve`: a server as a process of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TypeAlias

import click

from trunkline.config import Config
from trunkline.server import AppServer
from trunkline.transports.listen import ACCEPTED
from trunkline_cli import logs
from trunkline_cli.logs import LogFormat
from trunkline_cli.options import check_agent, check_listen_urls

__all__ = ["serve"]

STOP_GRACE_S = 10.0
"""How long running turns may take to end once the server is told to stop."""

_StopRequests: TypeAlias = queue.SimpleQueue[int | None]
"""Signals to stop by, and None for the end of the client on stdio."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.command(short_help="Run a server.")
@click.option(
    "--listen",
    metavar="URL",
    multiple=True,
    default=("stdio://",),
    show_default=True,
    envvar="TRUNKLINE_LISTEN",
    show_envvar=True,
    callback=check_listen_urls,
    help=f"Where to be reached: {ACCEPTED.replace('`', '')}. May be given several times.",
)
@click.option(
    "--agent",
    metavar="NAME",
    default="shell",
    show_default=True,
    envvar="TRUNKLINE_AGENT",
    show_envvar=True,
    callback=check_agent,
    help="What answers turns: shell, script or package.module:Class.",
)
@click.option(
    "--log-level",
    type=click.Choice(logs.LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    envvar="TRUNKLINE_LOG_LEVEL",
    show_envvar=True,
    help="How much to log, to standard error.",
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    envvar="TRUNKLINE_LOG_FORMAT",
    show_envvar=True,
    help="Log lines for people, or one JSON object a line.",
)
@click.option(
    "--unload-after",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    envvar="TRUNKLINE_UNLOAD_AFTER",
    show_envvar=True,
    help="When to unload a thread without subscribers and activity.",
)
def serve(
    listen: tuple[str, ...], agent: str, log_level: str, log_format: LogFormat, unload_after: float
) -> None:
    """Run a server until it is told to stop.

    SIGTERM, SIGINT and SIGHUP end it in order; a second SIGTERM or SIGINT at once. A server on stdio:// also
    ends when its client closes standard input.
    """
    logs.configure(log_level, log_format)
    server = AppServer(Config(listen=listen, agent=agent, unload_after_s=unload_after))
    with _stop_requests() as stop_requests:
        server.start()
        grace_s = STOP_GRACE_S
        try:
            _announce(server)
            if _wait(server, stop_requests) is None:
                grace_s = 0  # nobody is left for whom a turn would have to end well
        finally:
            server.stop(grace_s=grace_s)


def _announce(server: AppServer) -> None:
    """Say where the server is to be reached. Programs read these lines to learn the port."""
    for listener in server.listeners:
        click.echo(f"listening on: {listener.url}", err=True)
        click.echo(f"readyz: {listener.ready_url}", err=True)
        click.echo(f"healthz: {listener.health_url}", err=True)


def _wait(server: AppServer, stop_requests: _StopRequests) -> int | None:
    """Wait until the client on stdio has gone, or somebody wants the server to stop.

    Returns:
        The number of the signal; None if the client has gone.

    """

    def watch() -> None:
        server.wait_closed()
        stop_requests.put(None)

    # The main thread waits for one thing, which signals and the server's own end both put something into.
    threading.Thread(target=watch, name="trunkline-watch", daemon=True).start()
    return stop_requests.get()


@contextlib.contextmanager
def _stop_requests() -> Iterator[_StopRequests]:
    """Turn the first signal into a request to stop. A second one ends the process at once."""
    requests: _StopRequests = queue.SimpleQueue()
    seen: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        if seen and number != signal.SIGHUP:  # a terminal that closes may say so more than once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        seen.append(number)
        # Putting into a SimpleQueue is safe here, even if it interrupts another put.
        requests.put(number)

    # What is ignored on purpose stays ignored: `nohup` does that with SIGHUP.
    wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
