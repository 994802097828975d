from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import Serve
from gateway.upstreams import FAKE, Gateway
from houses import LocalHouse


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the fake upstream keeps its threads."""
    place = tmp_path / "upstream"
    place.mkdir()
    return place


@pytest.fixture
def house(serve: Serve, place: Path) -> LocalHouse:
    """A server in front of the fake upstream, reached over WebSockets."""
    return serve(upstream=(sys.executable, str(FAKE), str(place)))


@pytest.fixture
def gateway(house: LocalHouse, place: Path) -> Gateway:
    """The same, and what can be known of the upstream."""
    return Gateway(house, place)
