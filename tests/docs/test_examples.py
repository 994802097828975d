"""The examples are complete programs: each runs as it stands, and prints what it is said to."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

PRINTED = {
    "asyncio_host": r"""
ann: one two three completed
ben: one two three completed
""",
}
"""What the examples print that are run as programs, as patterns."""


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_it_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(DOCS / "examples" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.fullmatch(PRINTED[name].lstrip("\n"), printed), printed


@pytest.mark.parametrize(
    ("page", "name"), [("agents.md", "packer"), ("asyncio.md", "asyncio_host")], ids=lambda name: name
)
def test_a_page_shows_its_example_as_it_is(page: str, name: str) -> None:
    source = (DOCS / "examples" / f"{name}.py").read_text()
    assert f"```python\n{source}```\n" in (DOCS / page).read_text()
