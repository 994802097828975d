from __future__ import annotations

from pathlib import Path

import click
import pytest

from trunkline_cli.attach import attach
from trunkline_cli.serve import serve
from trunkline_cli.threads import threads

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


@pytest.mark.parametrize("command", [attach, serve, threads])
def test_the_page_names_every_option_and_its_variable(command: click.Command) -> None:
    text = PAGE.read_text()
    for option in command.params:
        if isinstance(option, click.Option):
            assert f"`{option.opts[0]}" in text, option.opts
            assert option.envvar is None or f"`{option.envvar}`" in text, option.envvar
