"""Fixtures for pytest; the only module here that needs it.

In a `conftest.py`: `pytest_plugins = ["trunkline.testing.fixtures"]`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

import pykka
import pytest

from trunkline.testing.serving import RunningServer, running_server
from trunkline.testing.wires import PATIENCE_S

__all__ = ["Serve", "nothing_left", "serve"]

Serve: TypeAlias = Callable[..., RunningServer]
"""Starts a server; takes what `running_server` takes."""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers with settings of the test's choice, which run until it ends."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_server(**settings))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail the test if it leaves an actor of this process, or an OS thread of the library."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and _is_ours(thread)]
    for thread in left:
        thread.join(PATIENCE_S)
    alive = [thread.name for thread in left if thread.is_alive()]
    running = pykka.ActorRegistry.get_all()
    for ref in running:  # so that one test's failure is not the next one's too
        pykka.ActorRegistry.unregister(ref)
    if alive:
        raise AssertionError(f"OS threads are left: {alive}")
    if running:
        raise AssertionError(f"actors are left: {[str(ref) for ref in running]}")


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("trunkline") or "Actor" in thread.name
