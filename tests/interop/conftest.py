from __future__ import annotations

from collections.abc import Iterator

import pytest

from codex_stand_in import CodexHome, app_server_command, codex_binary
from houses import LocalHouse, running_server


@pytest.fixture
def codex_home() -> Iterator[CodexHome]:
    """A configuration of Codex whose model is the stand-in."""
    if codex_binary() is None:
        pytest.skip("needs the package openai-codex-cli-bin: pip install '.[interop]'")
    with CodexHome() as home:
        yield home


@pytest.fixture
def codex_house(codex_home: CodexHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHouse]:
    """A gateway to the real app-server, reached over WebSockets."""
    for name, value in codex_home.environment().items():
        monkeypatch.setenv(name, value)
    with running_server(upstream=app_server_command(), cwd=codex_home.path) as house:
        yield house  # it ends before its home does, into which the app-server writes
