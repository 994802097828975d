"""The command `trunkline load`."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import orjson

from trunkline_cli.credential import find_token, token_setting
from trunkline_cli.load import html, model, table
from trunkline_cli.load.blocking import Refused
from trunkline_cli.load.embedded import EmbeddedServer, StartFailed
from trunkline_cli.load.parse import (
    ScenarioError,
    builtin_names,
    builtin_text,
    load_scenario,
    parse_seconds,
)
from trunkline_cli.load.progress import Progress
from trunkline_cli.load.report import as_json
from trunkline_cli.load.result import Result
from trunkline_cli.load.run import Settings, run_load
from trunkline_cli.load.thresholds import judge, parse_threshold
from trunkline_cli.load.worker import raise_descriptor_limit

__all__ = ["load"]

FAILED = 1
"""Exit status of a run that broke a promise or missed a threshold."""


@click.command(short_help="Put load on a server, and check what it does.")
@click.argument("url", required=False)
@click.option(
    "--scenario",
    metavar="NAME|FILE",
    default="fanout",
    show_default=True,
    help=f"A TOML file, or one of {', '.join(builtin_names())}.",
)
@click.option(
    "--embedded", is_flag=True, help="Start a server for the run, and see that nothing is left of it."
)
@click.option(
    "--store",
    metavar="FILE|memory",
    help="Where the --embedded server keeps threads.  [default: a file for the run]",
)
@click.option("--connections", type=click.IntRange(1), help="Connections in all, instead of the scenario's.")
@click.option("--duration", metavar="TIME", help="Length of the measured time, such as 30s or 2m.")
@click.option("--seed", type=int, help="For everything that is drawn at random.")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: half of the processors]")
@click.option(
    "--threshold", metavar="CONDITION", multiple=True, help="Such as 'request p99 < 50ms'. Repeatable."
)
@click.option("--server-pid", type=int, metavar="PID", help="Watch this process's CPU and memory.")
@token_setting
@click.option("--header", metavar="NAME:VALUE", multiple=True, help="For the opening handshake. Repeatable.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False), help="Write the result here; - is stdout."
)
@click.option("--html", "html_file", type=click.Path(dir_okay=False), help="Write a page with plots here.")
@click.option("--show", is_flag=True, help="Print the scenario's file and do nothing.")
@click.option("--quiet", is_flag=True, help="No progress.")
def load(**options: Any) -> None:
    """Put load on the app-server at URL, and check what it does.

    A scenario says who connects and what they do. While it runs, everything that is received is checked;
    at the end there is a table. The exit status is 1 if a promise was broken or a threshold was missed.
    Ctrl-C ends the run early, with the table for what was done.
    """
    try:
        if options["show"]:
            click.echo(_text(options["scenario"]), nl=False)
            return
        scenario = _scenario(options)
        result = _run(scenario, options)
    except (ScenarioError, Refused, StartFailed, ValueError) as error:
        raise click.ClickException(str(error)) from error
    result.verdicts = [judge(threshold, result) for threshold in scenario.thresholds]
    _report(result, options)
    if not result.passed:
        sys.exit(FAILED)


def _run(scenario: model.Scenario, options: dict[str, Any]) -> Result:
    """Run the scenario, on a server of its own if that is wanted."""
    if (options["url"] is None) != options["embedded"]:
        raise click.UsageError("Say either where the server is, such as ws://127.0.0.1:4500, or --embedded.")
    if options["store"] is not None and not options["embedded"]:
        raise click.UsageError("--store is for --embedded: a server that runs has its own.")
    raise_descriptor_limit()
    progress = Progress(sys.stderr)
    with contextlib.ExitStack() as stack:
        url, pid = options["url"], options["server_pid"]
        server = stack.enter_context(EmbeddedServer(options["store"])) if options["embedded"] else None
        if server is not None:
            url, pid = server.url, server.pid
        token = find_token(url, options["token_file"])
        bearer = () if token is None else (("Authorization", f"Bearer {token}"),)
        settings = Settings(
            url=url,
            workers=options["workers"] or max(1, (os.cpu_count() or 1) // 2),
            server_pid=pid,
            headers=(*bearer, *(_header(text) for text in options["header"])),
            on_progress=None if options["quiet"] else progress.show,
        )
        try:
            result = run_load(scenario, settings)
        finally:
            progress.end()
        if server is not None:
            server.stop()
            result.left_over = server.left_over
    return result


def _report(result: Result, options: dict[str, Any]) -> None:
    """Write the result wherever it is wanted."""
    as_bytes = orjson.dumps(as_json(result), option=orjson.OPT_INDENT_2) + b"\n"
    if options["json_file"] == "-":
        click.echo(as_bytes, nl=False)
    else:
        click.echo(table.render(result), nl=False)
    try:
        if options["json_file"] not in (None, "-"):
            Path(options["json_file"]).write_bytes(as_bytes)
        if options["html_file"] is not None:
            Path(options["html_file"]).write_text(html.page(result), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from error


def _scenario(options: dict[str, Any]) -> model.Scenario:
    """Read the scenario and apply what the command line says differently."""
    scenario = load_scenario(options["scenario"])
    changes: dict[str, Any] = {}
    if options["duration"] is not None:
        changes["duration"] = _duration(options["duration"])
    if options["seed"] is not None:
        changes["seed"] = options["seed"]
    if options["threshold"]:
        given = tuple(parse_threshold(text) for text in options["threshold"])
        changes["thresholds"] = (*scenario.thresholds, *given)
    if options["connections"] is not None:
        changes["groups"] = scale(scenario.groups, options["connections"])
    return msgspec.structs.replace(scenario, **changes)


def _text(name: str) -> str:
    """Return the file of a scenario."""
    if name in builtin_names():
        return builtin_text(name)
    load_scenario(name)
    return Path(name).read_text(encoding="utf-8")


def _duration(text: str) -> model.Seconds:
    return parse_seconds(float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or "\n" in value or "\r" in value:
        raise click.UsageError(f"--header: expected NAME:VALUE, got {text!r}")
    return name, value.strip()


def scale(groups: tuple[model.Group, ...], connections: int) -> tuple[model.Group, ...]:
    """Share `connections` out to the groups that are not fixed, in the proportion they have.

    Raises:
        ScenarioError: there is no such group, or too few connections for one each.

    """
    fixed = sum(group.connections for group in groups if group.fixed)
    others = [group for group in groups if not group.fixed]
    if not others:
        raise ScenarioError("every group of this scenario is fixed: --connections changes nothing")
    left, weight = connections - fixed, sum(group.connections for group in others)
    if left < len(others):
        raise ScenarioError(
            f"--connections {connections}: this scenario needs at least {fixed + len(others)}"
        )
    scaled = []
    for group in groups:
        share = group.connections
        if not group.fixed:
            others = others[1:]
            share = min(max(1, round(left * group.connections / weight)), left - len(others))
            left, weight = left - share, weight - group.connections
        scaled.append(msgspec.structs.replace(group, connections=share))
    return tuple(scaled)
