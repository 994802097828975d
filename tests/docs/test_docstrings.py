"""Everything public is documented, has an example that runs, and is in the reference."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

PACKAGES = ["trunkline", "trunkline.testing", "trunkline.aio"]

NAMES = [
    (package, name)
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
    if not name.startswith("_")
]

# Values and aliases have no docstring of their own at run time; the reference shows the one in the source.
OBJECTS = [
    pytest.param(value, id=f"{package}.{name}")
    for package, name in NAMES
    if inspect.isclass(value := getattr(importlib.import_module(package), name)) or inspect.isfunction(value)
]


def names_of_examples() -> dict[str, Any]:
    """What an example may use without saying where it is from."""
    modules = [importlib.import_module(package) for package in PACKAGES]
    return {name: getattr(module, name) for module in modules for name in module.__all__}


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class defines itself."""
    if inspect.isclass(value):
        for name, member in vars(value).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                yield name, member


@pytest.mark.parametrize("value", OBJECTS)
def test_it_says_what_it_is_and_so_does_each_of_its_methods(value: Any) -> None:
    assert value.__doc__
    assert [name for name, member in members(value) if not member.__doc__] == []


@pytest.mark.parametrize("value", OBJECTS)
def test_it_has_an_example_that_runs(value: Any) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    module = importlib.import_module(value.__module__)
    (test,) = finder.find(value, value.__name__, module=module, globs=names_of_examples())
    assert test.examples, f"{value.__name__} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    shown = set(
        re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in REFERENCE.glob("*.md")), re.M)
    )
    module: ModuleType = importlib.import_module(package)
    if package in shown:
        return  # with all that it exports
    missing = []
    for name in module.__all__:
        home = getattr(getattr(module, name), "__module__", package)
        if not name.startswith("_") and not {f"{package}.{name}", home} & shown:
            missing.append(name)
    assert not missing
