from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cli.processes import Server


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """Every thread that a test causes ends with it."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not left, f"threads left over: {left}"


@pytest.fixture
def server() -> Iterator[Server]:
    """A real server with the script agent, in a process of its own."""
    with Server("--agent", "script") as running:
        yield running
