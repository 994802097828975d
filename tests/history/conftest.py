from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from conftest import Serve
from houses import LocalHouse


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Literal["memory"]:
    """Each kind of store: what clients see of one they see of the other."""
    return "memory" if request.param == "memory" else tmp_path / "threads.sqlite"


@pytest.fixture
def kept(serve: Serve, store: Path | Literal["memory"]) -> LocalHouse:
    """A server that unloads a thread as soon as nobody needs it."""
    return serve(store=store, unload_after_s=0)


@pytest.fixture
def loaded(serve: Serve, store: Path | Literal["memory"]) -> LocalHouse:
    """A server that unloads no thread."""
    return serve(store=store, unload_after_s=None)
