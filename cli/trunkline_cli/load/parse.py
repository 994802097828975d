"""Scenario files: TOML in, `Scenario` out, or an error that names the member that is wrong."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from trunkline_cli.load import model
from trunkline_cli.load.model import Group, Repeat, Scenario, Seconds, Step, ThreadSet, walk
from trunkline_cli.load.thresholds import parse_threshold

__all__ = ["ScenarioError", "builtin_names", "builtin_text", "load_scenario", "parse_scenario"]

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")

_STEPS: dict[str, type[msgspec.Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(model.Step)
}


class ScenarioError(ValueError):
    """A scenario that cannot be used."""


def parse_seconds(value: object) -> Seconds:
    """Read a length of time.

    Raises:
        ValueError: it is neither a number of seconds nor a number with a unit, or it is negative.

    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return Seconds(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a time such as 250ms, 10s or 2m, got {value!r}")
    return Seconds(float(match[1]) * _UNITS[match[2]])


def load_scenario(name: str) -> Scenario:
    """Read a built-in scenario by its name, or a scenario file by its path.

    Raises:
        ScenarioError: there is none, or it cannot be used.

    """
    if name in builtin_names():
        return parse_scenario(builtin_text(name), name)
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(builtin_names())
        raise ScenarioError(
            f"{name}: neither a built-in scenario ({known}) nor a file that can be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{name}: not UTF-8: {error}") from error
    return parse_scenario(text, name)


def builtin_names() -> tuple[str, ...]:
    """Names of the scenarios that come with the command."""
    folder = resources.files("trunkline_cli.load") / "scenarios"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def builtin_text(name: str) -> str:
    """Return the file of a built-in scenario."""
    return (resources.files("trunkline_cli.load") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")


def parse_scenario(text: str, source: str) -> Scenario:
    """Read a scenario.

    Args:
        text: the TOML.
        source: where it comes from, for error messages.

    Raises:
        ScenarioError: it cannot be used; the text names the source and the member.

    """
    try:
        document = tomllib.loads(text)
        scenario = _scenario(document)
        _check(scenario)
    except (tomllib.TOMLDecodeError, ScenarioError) as error:
        raise ScenarioError(f"{source}: {error}") from error
    return scenario


def _scenario(document: dict[str, Any]) -> Scenario:
    groups = tuple(_group(raw, f"groups[{index}]") for index, raw in _tables(document, "groups", ""))
    threads = tuple(
        _convert(raw, ThreadSet, f"threads[{index}]") for index, raw in _tables(document, "threads", "")
    )
    raw_thresholds = _convert(document.get("thresholds", []), tuple[str, ...], "thresholds")
    thresholds = []
    for index, raw in enumerate(raw_thresholds):
        try:
            thresholds.append(parse_threshold(raw))
        except ValueError as error:
            raise ScenarioError(f"thresholds[{index}]: {error}") from error
    rest = {key: value for key, value in document.items() if key not in ("groups", "threads", "thresholds")}
    scenario = _convert({**rest, "groups": []}, Scenario, "")
    return msgspec.structs.replace(scenario, groups=groups, threads=threads, thresholds=tuple(thresholds))


def _group(raw: dict[str, Any], where: str) -> Group:
    name = raw.get("name")
    label = f"{where} ({name})" if isinstance(name, str) else where
    group = _convert({**raw, "steps": []}, Group, label)
    return msgspec.structs.replace(group, steps=_steps(raw, label))


def _steps(raw: dict[str, Any], where: str) -> tuple[Step, ...]:
    return tuple(_step(step, f"{where}.steps[{index}]") for index, step in _tables(raw, "steps", where))


def _step(raw: dict[str, Any], where: str) -> Step:
    name = raw.get("do")
    kind = _STEPS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ScenarioError(f"{where}.do: expected one of {', '.join(sorted(_STEPS))}; got {name!r}")
    label = f"{where} ({name})"
    if kind is Repeat:
        repeat = _convert({**raw, "steps": []}, Repeat, label)
        return msgspec.structs.replace(repeat, steps=_steps(raw, label))
    step: Step = _convert(raw, kind, label)  # type: ignore[assignment]  # `kind` is one of the union
    return step


def _tables(raw: dict[str, Any], key: str, where: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the list of tables under `key`, numbered; an absent one is empty."""
    value = raw.get(key, [])
    label = f"{where}.{key}" if where else key
    if not isinstance(value, list):
        raise ScenarioError(f"{label}: expected a list of tables, got {value!r}")
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise ScenarioError(f"{label}[{index}]: expected a table, got {entry!r}")
    return list(enumerate(value))


def _convert(raw: object, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(raw, type=kind, dec_hook=_dec_hook)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.connections`": put the member first, under its full name.
        text, _, path = str(error).partition(" - at `$")
        member = where + path.rstrip("`")
        raise ScenarioError(f"{member.lstrip('.')}: {text}" if member else text) from error


def _dec_hook(kind: type, value: object) -> object:
    if kind is Seconds:
        return parse_seconds(value)
    raise NotImplementedError(kind)  # as msgspec asks of a hook: it then names the type itself


def _check(scenario: Scenario) -> None:
    """Check what no single member shows."""
    if not scenario.groups:
        raise ScenarioError("groups: a scenario needs at least one group")
    for kind, names in (
        ("groups", [group.name for group in scenario.groups]),
        ("threads", [threads.name for threads in scenario.threads]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise ScenarioError(f"{kind}: there are several called {name!r}")
    for index, group in enumerate(scenario.groups):
        _check_group(scenario, group, f"groups[{index}] ({group.name})")


def _check_group(scenario: Scenario, group: Group, where: str) -> None:
    if not group.steps:
        raise ScenarioError(f"{where}.steps: a group needs at least one step")
    sets = {threads.name: threads for threads in scenario.threads}
    for step in walk(group.steps):
        if isinstance(step, model.Resume) and step.threads is not None:
            if step.threads not in sets:
                known = ", ".join(sets) or "none"
                raise ScenarioError(
                    f"{where}: resume.threads: there is no set {step.threads!r} (there are: {known})"
                )
            if step.pick == "index" and step.index >= sets[step.threads].count:
                raise ScenarioError(
                    f"{where}: resume.index: {step.threads!r} has only {sets[step.threads].count} threads"
                )
        if isinstance(step, Repeat) and not step.steps:
            raise ScenarioError(f"{where}: repeat.steps: a repeat needs at least one step")
    picks = {step.pick for step in walk(group.steps) if isinstance(step, model.Resume)}
    by_one = any(isinstance(step, model.Answer) and step.by == "one" for step in walk(group.steps))
    if by_one and "random" in picks:
        raise ScenarioError(f"{where}: answer.by: 'one' cannot be told with threads picked at random")
