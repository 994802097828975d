from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedding.hosts import Inbox
from trunkline import AppServer


@pytest.fixture
def server() -> Iterator[AppServer]:
    """A server without a listener, with the script agent."""
    with AppServer(agent="script", unload_after_s=None) as server:
        yield server


@pytest.fixture
def inbox() -> Inbox:
    """What a client was given."""
    return Inbox()
