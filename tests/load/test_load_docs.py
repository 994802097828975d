"""The documentation is about this program: its examples can be run, and it leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from trunkline_cli.load import model
from trunkline_cli.load.command import load
from trunkline_cli.load.parse import _STEPS, builtin_names, load_scenario, parse_scenario

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "load.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
AROUND = '[[threads]]\nname = "agents"\ncount = 2\n[[groups]]\nname = "g"\n'


def parse(example: str) -> model.Scenario:
    """Read an example: a whole scenario, or the steps of a group."""
    whole = example if example.startswith("name") else f'name = "example"\n{AROUND}{example}'
    # The example of `by = "one"` stands beside threads picked at random in no file.
    return parse_scenario(whole, "docs/load.md")


def test_every_example_can_be_read_and_every_step_has_one() -> None:
    shown = set()
    for example in EXAMPLES:
        for group in parse(example).groups:
            shown |= {type(step) for step in model.walk(group.steps)}

    assert shown == set(_STEPS.values())


def test_every_option_and_every_built_in_scenario_is_described() -> None:
    options = set(re.findall(r"--[a-z-]+", CliRunner().invoke(load, ["--help"]).output)) - {"--help"}

    assert [option for option in sorted(options) if f"`{option}" not in PAGE] == []
    assert [name for name in builtin_names() if f"| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize("path", sorted((DOCS / "scenarios").glob("*.toml")), ids=lambda path: path.name)
def test_the_scenarios_beside_the_documentation_can_be_read(path: Path) -> None:
    assert load_scenario(str(path)).name == path.stem


def test_the_first_example_is_the_file_of_its_name() -> None:
    told, kept = parse(EXAMPLES[0]), load_scenario(str(DOCS / "scenarios" / "team.toml"))

    assert told.groups == kept.groups
    assert told.thresholds == kept.thresholds
