from __future__ import annotations

from collections.abc import Iterator

import pytest

from trunkline import AppServer, Config


@pytest.fixture
def server() -> Iterator[AppServer]:
    """A server without a listener, with the script agent."""
    with AppServer(Config(agent="script", unload_after_s=None)) as server:
        yield server
