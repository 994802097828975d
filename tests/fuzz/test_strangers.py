"""The short form of the fuzz run over sockets; the long one is `python tests/fuzz/run.py sockets`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fuzz.machine import house_for_strangers, quiet_log
from helpers import Client

SHORT = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # what chance finds is for the long run
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_hostile_clients_harm_nobody_but_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "watch", None)  # what they ask for is not what Codex would
    with quiet_log(), house_for_strangers() as strangers:
        run_state_machine_as_test(strangers, settings=SHORT)
