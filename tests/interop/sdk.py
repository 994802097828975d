"""Codex's Python SDK at the pipes of `trunkline serve`, as somebody would use it who has only the SDK.

Whatever imports this module is skipped where the package `openai-codex` is not installed.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import pytest

from children import python_path
from cli.processes import PATIENCE_S

pytest.importorskip("openai_codex", reason="needs the package openai-codex: pip install '.[interop]'")

from openai_codex import Codex, CodexConfig, InvalidRequestError, Thread, TurnHandle
from openai_codex.client import CodexClient
from openai_codex.generated.v2_all import (
    AgentMessageDeltaNotification,
    ItemCompletedNotification,
    TurnCompletedNotification,
)
from openai_codex.models import Notification, UnknownNotification

__all__ = [
    "AgentMessageDeltaNotification",
    "ApprovalHandler",
    "Codex",
    "CodexClient",
    "InvalidRequestError",
    "ItemCompletedNotification",
    "KeepingClient",
    "Notification",
    "Thread",
    "TurnCompletedNotification",
    "TurnHandle",
    "UnknownNotification",
    "closing_pipes",
    "sdk_client",
    "sdk_config",
    "start_thread",
]


class KeepingClient(CodexClient):
    """The SDK's client, which keeps what it reads."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._arrived: list[dict[str, Any]] = []
        self._has_more = threading.Condition()

    def wait(self, method: str, holds: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """Wait for a notification or prompt whose params fit, or find it among those that have come."""
        with self._has_more:
            found = self._has_more.wait_for(lambda: self._find(method, holds), PATIENCE_S)
            assert found is not None, f"{method} did not come; {[m.get('method') for m in self._arrived]}"
            return found

    def _find(self, method: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        fitting = (m["params"] for m in self._arrived if m.get("method") == method and holds(m["params"]))
        return next(fitting, None)

    def _read_message(self) -> dict[str, Any]:
        message = super()._read_message()
        with self._has_more:
            self._arrived.append(message)
            self._has_more.notify_all()
        return message


ApprovalHandler: TypeAlias = Callable[[str, dict[str, Any] | None], dict[str, Any]]
"""Is called with the method and the params of a prompt, and returns the result."""


def sdk_config(*arguments: str, env: Mapping[str, str] | None = None) -> CodexConfig:
    """Return what the SDK needs to start `trunkline serve` in the place of `codex app-server`."""
    command = (sys.executable, "-m", "trunkline_cli", "serve", "--listen", "stdio://", *arguments)
    return CodexConfig(launch_args_override=command, env={**(env or {}), "PYTHONPATH": python_path()})


@contextlib.contextmanager
def closing_pipes(client: CodexClient) -> Iterator[None]:
    """Close the pipes to the server at the end, and see that it ended well: the SDK does neither."""
    process = client._proc
    assert process is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield
        finally:
            client.close()  # first of all: a pipe that is being read cannot be closed
    # The SDK ends its server in two ways at once: the end of input, and a SIGTERM that may find the
    # server gone but for its interpreter.
    assert process.returncode in (0, -signal.SIGTERM), f"the server ended with {process.returncode}"


@contextlib.contextmanager
def sdk_client(
    *arguments: str, approve: ApprovalHandler | None = None, env: Mapping[str, str] | None = None
) -> Iterator[KeepingClient]:
    """Run a server, with these arguments, and the SDK's client that has done the handshake with it."""
    client = KeepingClient(sdk_config(*arguments, env=env), approve)
    with client, closing_pipes(client):
        client.initialize()
        yield client


def start_thread(client: CodexClient, **params: object) -> Thread:
    """Start a thread with these params of `thread/start`."""
    return Thread(client, client.thread_start(params).thread.id)  # type: ignore[arg-type]  # its JSON is a closed type
