from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.harness import NEVER_S, Gate, nothing_left
from trunkline.agents.shell import ShellAgent


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def shell() -> ShellAgent:
    """An agent that a test cannot see the end of if it has to resort to SIGKILL."""
    return ShellAgent(kill_grace_s=NEVER_S)


@pytest.fixture
def impatient() -> ShellAgent:
    """An agent whose SIGKILL comes soon, for what does not end otherwise."""
    return ShellAgent(kill_grace_s=0.05)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    os.close(gate.fd)
