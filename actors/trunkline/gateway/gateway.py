"""The gateway as a whole: what the server starts and stops."""

from __future__ import annotations

import importlib
import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from trunkline.context import Context
from trunkline.engines import Catalog, Desk, MakeCatalog
from trunkline.errors import ConfigError
from trunkline.gateway.catalog import GatewayCatalog
from trunkline.gateway.child import Child, Supervisor
from trunkline.gateway.methods import read_call
from trunkline.gateway.upstream import Upstream
from trunkline.messages import Ref
from trunkline.protocol.methods import Method
from trunkline.protocol.params import Params
from trunkline.stopping import stop_actor
from trunkline.types import Json

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
        self._supervisor = Supervisor()
        # The one that runs or ran last.
        self._child: Child | None = None

    @property
    def agent_name(self) -> str:
        """What the model is called where nobody else says."""
        return "codex"

    @property
    def store(self) -> None:
        """There is none: the upstream keeps its threads."""
        return

    def read_call(self, name: str, raw_params: Json) -> tuple[Method, Params]:
        """Find a method, whatever it is."""
        return read_call(name, raw_params)

    def start(self, context: Context) -> MakeCatalog:
        """Start the actor that talks with the upstream, which is started once the router has."""
        self._supervisor.start()
        self._upstream = upstream = Upstream.start(
            context=context, command=self._command, run_child=self._run
        )

        def make_catalog(desk: Desk) -> Catalog:
            return GatewayCatalog(desk=desk, upstream=upstream, context=context)

        return make_catalog

    @property
    def os_threads(self) -> tuple[threading.Thread, ...]:
        """None: no code of the host's runs on those it has, and the child ends them with itself."""
        return ()

    def stop(self, timeout_s: float) -> tuple[str, ...]:
        """Stop the actor, then the upstream: the end of its input, time, signals."""
        left = stop_actor(self._upstream, timeout_s)
        has_ended = self._child is None or self._child.stop(min(END_S, timeout_s))
        if not (self._supervisor.stop(timeout_s if has_ended else 0) and has_ended):
            logger.error("x upstream: something of it is left")
            return (*left, "upstream")
        return left

    def _run(self, child: Child) -> None:
        self._child = child
        self._supervisor.run(child)


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
