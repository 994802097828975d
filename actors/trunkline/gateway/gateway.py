"""The gateway as a whole: what the server starts and stops."""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pykka

from trunkline.actor import post
from trunkline.context import Context
from trunkline.errors import ConfigError
from trunkline.gateway.child import Child
from trunkline.gateway.messages import UseRouter
from trunkline.gateway.router import GatewayRouter
from trunkline.gateway.upstream import Upstream
from trunkline.messages import Ref

__all__ = ["Gateway", "codex_command"]

logger = logging.getLogger(__name__)

END_S = 5.0
"""Seconds that the upstream has to end once its input has ended."""


class Gateway:
    """An upstream app-server, and the actors that talk with it.

    Args:
        command: the program and its arguments.

    Raises:
        ConfigError: there is no such program.

    """

    def __init__(self, command: Sequence[str]) -> None:
        if shutil.which(command[0]) is None:
            raise ConfigError(f"upstream: there is no program `{command[0]}`")
        self._command = tuple(command)
        self._upstream: Ref | None = None
        self._child: Child | None = None

    def start(self, context: Context) -> Ref:
        """Start the actors and the upstream; returns the router, at once."""
        self._upstream = Upstream.start(context=context, command=self._command, on_child=self._keep)
        router = GatewayRouter.start(context=context, upstream=self._upstream)
        post(self._upstream, UseRouter(router))
        return router

    def stop(self, timeout_s: float) -> None:
        """Stop the actor, then the upstream: the end of its input, time, signals. Blocks."""
        if self._upstream is None:
            return
        try:
            self._upstream.stop(block=True, timeout=timeout_s)
        except pykka.Timeout:
            logger.error("x server: %s has not stopped", self._upstream)
        if self._child is not None and not self._child.stop(END_S):
            logger.error("x upstream: something of it is left")

    def _keep(self, child: Child) -> None:
        self._child = child


def codex_command() -> tuple[str, ...]:
    """Return the command of `codex app-server`: of the `codex` on the path, or of openai-codex-cli-bin.

    Raises:
        ConfigError: there is neither.

    """
    program: str | Path | None = shutil.which("codex")
    if program is None:
        try:
            program = importlib.import_module("codex_cli_bin").bundled_codex_path()
        except (ImportError, FileNotFoundError):
            raise ConfigError(
                "agent `codex`: there is no `codex` on the path, nor the package openai-codex-cli-bin"
            ) from None
    return (str(program), "app-server", "--listen", "stdio://")
