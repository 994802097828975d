"""The pages lead somewhere, and what they show of Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))

RUN = ["testing.md"]
"""Pages whose Python is run as it stands: test functions are called, and anything else has happened then."""

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """Return what a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = _FENCED.sub("", page.read_text())
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCED.sub("", page.read_text())):
        if "://" in link:
            continue
        target, _, place = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link} is not there"
        if place:
            assert place in anchors(path), f"{link}: there is no such heading"


@pytest.mark.parametrize("name", ["actors.md", "embedding.md"])
def test_the_programs_of_a_page_run(name: str) -> None:
    programs = _PYTHON.findall((ROOT / "docs" / name).read_text())
    assert programs
    for program in programs:
        exec(compile(program, name, "exec"), {"__name__": name})


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_page_runs(name: str) -> None:
    blocks = _PYTHON.findall((ROOT / "docs" / name).read_text())
    names: dict[str, Any] = {"__name__": name}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    tests = [value for key, value in names.items() if key.startswith("test_")]
    for test in tests:
        test()
    assert tests
