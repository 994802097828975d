"""What is run by several workers, and what in the process of whoever runs it by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import pytest_xdist_auto_num_workers

FOLDER = str(Path(__file__).parent)


def asked_for(*args: str, capture: str = "fd") -> Any:
    return SimpleNamespace(args=args, getoption={"capture": capture}.get)


def test_folders_are_for_as_many_workers_as_fit() -> None:
    assert pytest_xdist_auto_num_workers(asked_for(FOLDER, f"{FOLDER}/cli")) is None


@pytest.mark.parametrize("args", [(__file__,), (f"{__file__}::test_one",), (FOLDER, __file__)])
def test_what_is_named_is_run_in_one_process(args: tuple[str, ...]) -> None:
    assert pytest_xdist_auto_num_workers(asked_for(*args)) == 0


def test_what_is_not_to_be_captured_is_run_in_one_process() -> None:
    assert pytest_xdist_auto_num_workers(asked_for(FOLDER, capture="no")) == 0
