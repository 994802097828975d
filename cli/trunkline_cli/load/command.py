"""The command `trunkline load`."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import click
import msgspec

from trunkline_cli.load import model, table
from trunkline_cli.load.blocking import Refused
from trunkline_cli.load.parse import ScenarioError, builtin_names, load_scenario, parse_seconds
from trunkline_cli.load.run import Settings, run_load
from trunkline_cli.load.thresholds import judge, parse_threshold

__all__ = ["load"]

FAILED = 1
"""Exit status of a run that broke a promise or missed a threshold."""


@click.command()
@click.argument("url", required=False)
@click.option("--scenario", default="fanout", help=f"{', '.join(builtin_names())}; or a TOML file.")
@click.option("--connections", type=click.IntRange(1), help="Connections in all, instead of the scenario's.")
@click.option("--duration", help="Length of the measured time, such as 30s or 2m.")
@click.option("--seed", type=int, help="For everything that is drawn at random.")
@click.option("--workers", type=click.IntRange(1), help="Processes. [default: half of the processors]")
@click.option("--threshold", multiple=True, help="A condition, such as 'request p99 < 50ms'.")
@click.option("--server-pid", type=int, help="Watch this process's CPU and memory.")
def load(**options: Any) -> None:
    """Put load on the app-server at URL, and check what it does."""
    try:
        scenario = _scenario(options)
        if options["url"] is None:
            raise click.UsageError("a URL is needed, such as ws://127.0.0.1:4500")
        settings = Settings(
            url=options["url"],
            workers=options["workers"] or max(1, (os.cpu_count() or 1) // 2),
            server_pid=options["server_pid"],
        )
        result = run_load(scenario, settings)
    except (ScenarioError, Refused, ValueError) as error:
        raise click.ClickException(str(error)) from error
    result.verdicts = [judge(threshold, result) for threshold in scenario.thresholds]
    click.echo(table.render(result), nl=False)
    if not result.passed:
        sys.exit(FAILED)


def _scenario(options: dict[str, Any]) -> model.Scenario:
    """Read the scenario and apply what the command line says differently."""
    scenario = load_scenario(options["scenario"])
    changes: dict[str, Any] = {}
    if options["duration"] is not None:
        changes["duration"] = parse_seconds(_number_or_text(options["duration"]))
    if options["seed"] is not None:
        changes["seed"] = options["seed"]
    if options["threshold"]:
        given = tuple(parse_threshold(text) for text in options["threshold"])
        changes["thresholds"] = (*scenario.thresholds, *given)
    if options["connections"] is not None:
        changes["groups"] = _scaled(scenario.groups, options["connections"])
    return msgspec.structs.replace(scenario, **changes)


def _number_or_text(text: str) -> float | str:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text


def _scaled(groups: tuple[model.Group, ...], connections: int) -> tuple[model.Group, ...]:
    """Share `connections` out to the groups that are not fixed, in the proportion they have."""
    fixed = sum(group.connections for group in groups if group.fixed)
    others = sum(group.connections for group in groups if not group.fixed)
    if not others:
        raise ScenarioError("every group of this scenario is fixed: --connections changes nothing")
    left, scaled = connections - fixed, []
    for group in groups:
        if group.fixed:
            scaled.append(group)
            continue
        share = max(1, round(left * group.connections / others)) if others else left
        left, others = left - share, others - group.connections
        scaled.append(msgspec.structs.replace(group, connections=share))
    return tuple(scaled)
