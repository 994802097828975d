"""Scenario files: what is read, and that an error names the member that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline_cli.load import model
from trunkline_cli.load.command import scale
from trunkline_cli.load.parse import (
    ScenarioError,
    builtin_names,
    load_scenario,
    parse_scenario,
    parse_seconds,
)

HEAD = 'name = "x"\n'
GROUP = '[[groups]]\nname = "g"\n'


def test_the_scenarios_of_the_issue_are_built_in() -> None:
    assert {"fanout", "requests", "churn", "approvals", "slow-reader", "mixed"} <= set(builtin_names())


@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_scenario_can_be_read_and_is_called_what_its_file_is(name: str) -> None:
    scenario = load_scenario(name)

    assert scenario.name == name
    assert scenario.description


def test_a_file_is_read_with_its_defaults() -> None:
    scenario = parse_scenario(HEAD + GROUP + 'steps = [{ do = "pause", for = "250ms" }]', "x.toml")

    assert scenario.duration == 10.0
    assert scenario.groups[0].connections == 1
    assert scenario.groups[0].steps == (model.Pause(duration=model.Seconds(0.25)),)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("10s", 10), ("1.5m", 90), ("1h", 3600), (3, 3), (0.5, 0.5)]
)
def test_times_may_have_units(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("value", ["10", "ten", "-1s", -1, True, "", None, "5 parsecs", "1s2"])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a time such as"):
        parse_seconds(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1", "name: Expected `str`, got `int`"),
        ("", "Object missing required field `name`"),
        (HEAD + "colour = 1\n" + GROUP, "Object contains unknown field `colour`"),
        (HEAD, "groups: a scenario needs at least one group"),
        (HEAD + "groups = 3", "groups: expected a list of tables, got 3"),
        (HEAD + "groups = [3]", "groups[0]: expected a table, got 3"),
        (
            HEAD + 'duration = "soon"\n' + GROUP,
            "duration: expected a time such as 250ms, 10s or 2m, got 'soon'",
        ),
        (HEAD + GROUP, "groups[0] (g).steps: a group needs at least one step"),
        (HEAD + GROUP + "connections = 0", "groups[0] (g).connections: Expected `int` >= 1"),
        (HEAD + GROUP + "conections = 1", "groups[0] (g): Object contains unknown field `conections`"),
        (HEAD + GROUP + "steps = [{}]", "groups[0] (g).steps[0].do: expected one of answer, barrier,"),
        (HEAD + GROUP + 'steps = [{ do = "dance" }]', "got 'dance'"),
        (
            HEAD + GROUP + 'steps = [{ do = "start" }, { do = "pause" }]',
            "groups[0] (g).steps[1] (pause): Object missing required field `for`",
        ),
        (
            HEAD + GROUP + 'steps = [{ do = "repeat", steps = [{ do = "turn", text = 1 }] }]',
            "groups[0] (g).steps[0] (repeat).steps[0] (turn).text: Expected `str`, got `int`",
        ),
        (
            HEAD + GROUP + 'steps = [{ do = "repeat", rate = 0, steps = [{ do = "begin" }] }]',
            "groups[0] (g).steps[0] (repeat).rate: Expected `float` > 0.0",
        ),
        (
            HEAD + GROUP + 'steps = [{ do = "repeat" }]',
            "groups[0] (g): repeat.steps: a repeat needs at least one step",
        ),
        (
            HEAD + GROUP + 'steps = [{ do = "resume", threads = "rooms" }]',
            "groups[0] (g): resume.threads: there is no set 'rooms' (there are: none)",
        ),
        (
            HEAD
            + '[[threads]]\nname = "a"\n'
            + GROUP
            + 'steps = [{ do = "resume", threads = "a", pick = "index", index = 1 }]',
            "groups[0] (g): resume.index: 'a' has only 1 threads",
        ),
        (
            HEAD
            + '[[threads]]\nname = "a"\n'
            + GROUP
            + 'steps = [{ do = "answer", by = "one" }, { do = "resume", threads = "a", pick = "random" }]',
            "groups[0] (g): answer.by: 'one' cannot be told with threads picked at random",
        ),
        (HEAD + 2 * (GROUP + 'steps = [{ do = "begin" }]\n'), "groups: there are several called 'g'"),
        (HEAD + 'thresholds = ["fast"]\n' + GROUP, "thresholds[0]: expected METRIC"),
        (
            HEAD + '[[threads]]\nname = "a"\ncount = "b"\n' + GROUP,
            "threads[0].count: Expected `int`, got `str`",
        ),
        ("name =", "Invalid value"),
    ],
)
def test_an_error_names_the_file_and_the_member(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "x.toml")

    assert str(caught.value).startswith("x.toml: ")
    assert message in str(caught.value)


def test_a_scenario_that_is_nowhere_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        ScenarioError, match=r"nowhere: neither a built-in scenario \(approvals, .*No such file"
    ):
        load_scenario(str(tmp_path / "nowhere"))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_scenario(str(path))


def sizes(connections: int, *groups: tuple[int, bool]) -> list[int]:
    made = [
        model.Group(name=str(number), steps=(), connections=count, fixed=fixed)
        for number, (count, fixed) in enumerate(groups)
    ]
    return [group.connections for group in scale(tuple(made), connections)]


@pytest.mark.parametrize("connections", [3, 7, 100, 9999])
def test_connections_are_shared_out_whole(connections: int) -> None:
    scaled = sizes(connections, (1, True), (60, False), (30, False))

    assert sum(scaled) == connections
    assert scaled[0] == 1
    assert min(scaled) >= 1


def test_connections_are_shared_out_in_proportion() -> None:
    assert sizes(901, (1, True), (60, False), (30, False)) == [1, 600, 300]


@pytest.mark.parametrize(
    ("connections", "groups"), [(5, ((8, True),)), (2, ((1, True), (5, False), (5, False)))]
)
def test_connections_that_cannot_be_shared_out_are_refused(
    connections: int, groups: tuple[tuple[int, bool], ...]
) -> None:
    with pytest.raises(ScenarioError):
        sizes(connections, *groups)
