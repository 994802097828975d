from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from cli.processes import PATIENCE_S, Server
from trunkline_cli import logs


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """Every thread that a test causes ends with it."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(PATIENCE_S)  # it may be at its last line
    assert not any(thread.is_alive() for thread in left), f"threads left over: {left}"


@pytest.fixture(autouse=True)
def _logging_restored(_no_thread_left: None) -> Iterator[None]:
    """Put back what a test, or a command it runs in this process, configures, before threads are counted."""
    root = logging.getLogger()
    before = (
        root.handlers[:],
        root.level,
        [(name, logging.getLogger(name).level) for name in logs._OUR_LOGGERS],
    )
    yield
    for handler in set(root.handlers).difference(before[0]):
        handler.close()
    root.handlers[:], level, levels = before
    root.setLevel(level)
    for name, own in levels:
        logging.getLogger(name).setLevel(own)


@pytest.fixture
def server() -> Iterator[Server]:
    """A real server with the script agent, in a process of its own."""
    with Server("--agent", "script") as running:
        yield running
