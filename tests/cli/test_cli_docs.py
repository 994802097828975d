from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import pytest

from trunkline import Limits
from trunkline_cli.attach import attach
from trunkline_cli.serve import serve
from trunkline_cli.status import status
from trunkline_cli.threads import threads
from trunkline_cli.token import token

DOCS = Path(__file__).parents[2] / "docs"
LIMITS = {field.name for field in dataclasses.fields(Limits)}


@pytest.mark.parametrize("command", [attach, serve, status, threads, token])
def test_the_page_names_every_option_and_its_variable(command: click.Command) -> None:
    text = (DOCS / "commands.md").read_text()
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in LIMITS:
            assert f"`{option.opts[0]}" in text, option.opts
            assert option.envvar is None or f"`{option.envvar}`" in text, option.envvar


def test_every_limit_is_an_option_and_on_its_page_with_its_default() -> None:
    text = (DOCS / "limits.md").read_text()
    options = {option.name: option for option in serve.params}
    no_options = {"snapshot_bytes", "inbox_high_water", "max_unconfirmed_events"}
    assert no_options < LIMITS
    for name in LIMITS - no_options:
        option = options[name]
        assert isinstance(option, click.Option)
        default = getattr(Limits(), name)
        assert option.default == default
        assert f"| `{option.opts[0]} {option.metavar}` | `{name}` | {default:.0f} |" in text, name
