"""What the values of options and arguments stand for.

Callbacks for click. They are called with the default, too, and with what comes from the
environment. A value that does not fit is a mistake of the caller's, which ends the command with 2.
"""

from __future__ import annotations

import ipaddress
import shlex
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import platformdirs

from trunkline.agents.registry import load_agent
from trunkline.errors import ConfigError, ListenUrlError
from trunkline.gateway.gateway import Gateway, codex_command
from trunkline.transports.listen import parse_listen_url

__all__ = [
    "FC",
    "check_agent",
    "check_listen_urls",
    "check_server_url",
    "check_store",
    "check_upstream",
    "default_store",
    "is_local",
    "setting",
]

FC = TypeVar("FC", bound=Callable[..., Any])


def check_agent(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """See that there is the agent that is named, and that it can be made."""
    try:
        if value == "codex":
            codex_command()
        else:
            load_agent(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error
    return value


def check_upstream(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a command line as a shell would, and see that there is the program."""
    if value is None:
        return ()
    try:
        command = tuple(shlex.split(value))
        if not command:
            raise click.BadParameter("a command is expected")
        Gateway(command)
    except (ValueError, ConfigError) as error:
        raise click.BadParameter(str(error)) from error
    return command


def check_listen_urls(
    _ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """See that each URL is one that a server can listen at."""
    for url in value:
        try:
            parse_listen_url(url)
        except ListenUrlError as error:
            raise click.BadParameter(str(error)) from error
    return value


def check_server_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """See that the URL is one of a server: `ws://HOST:PORT`, `wss://HOST:PORT` or `unix://PATH`."""
    if value is None:
        return None
    try:
        parts = urllib.parse.urlsplit(value)
        if parts.scheme == "unix":
            is_fine = value != "unix://"
        else:
            is_fine = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or brackets that do not match
        is_fine = False
    if not is_fine:
        raise click.BadParameter(
            f"`{value}` is not the URL of a server; expected `ws://HOST:PORT`, "
            "`wss://HOST:PORT` or `unix://PATH`"
        )
    return value


def is_local(url: str) -> bool:
    """Whether what is sent to a server at `url` stays on this machine."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "unix" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def setting(name: str, *names: str, **attributes: Any) -> Callable[[FC], FC]:
    """Return an option that is also taken from the environment, and says so in the help.

    Args:
        name: such as `--unload-after`, which is `TRUNKLINE_UNLOAD_AFTER` in the environment.
        names: other names, as of `click.option`: one without dashes is the parameter's.
        attributes: of `click.option`.

    """
    variable = "TRUNKLINE_" + name.removeprefix("--").replace("-", "_").upper()
    attributes.setdefault("show_default", True)
    return click.option(name, *names, envvar=variable, show_envvar=True, **attributes)


def check_store(_context: click.Context, _option: click.Parameter, value: str) -> Path | Literal["memory"]:
    """Read `--store`: `memory`, or the path of a file."""
    return "memory" if value == "memory" else Path(value)


def default_store() -> str:
    """Return the store of `trunkline serve` unless it is told: a file of the user's."""
    return str(platformdirs.user_data_path("trunkline", appauthor=False) / "threads.sqlite")
