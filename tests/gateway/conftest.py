from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import codex_models
from conftest import Serve
from gateway.upstreams import FAKE, Gateway
from helpers import Client, Message
from houses import LocalHouse


@pytest.fixture(autouse=True)
def _what_the_fake_invents_is_not_codexs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check what comes through as everywhere, but for the answers to methods that only the fake has."""

    def check(message: Message, answers: Iterable[str]) -> None:
        codex_models.check_message(message, [each for each in answers if codex_models.has_model(each)])

    if Client.watch is not None:
        monkeypatch.setattr(Client, "watch", staticmethod(check))


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
