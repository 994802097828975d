"""The backends there are: agents of this process, and another app-server."""

from __future__ import annotations

from trunkline.backend import Backend
from trunkline.config import Config
from trunkline.errors import ConfigError
from trunkline.gateway.gateway import Gateway, codex_command
from trunkline.local.backend import LocalBackend

__all__ = ["make_backend"]


def make_backend(config: Config) -> Backend:
    """Return what answers clients, as a server is set up.

    Raises:
        ConfigError: there is no such agent, or no such program, or it is to be both.

    """
    if config.agent == "codex":
        if config.upstream:
            raise ConfigError("agent `codex` is an upstream itself: it does not go with another one")
        return Gateway(codex_command())
    return Gateway(config.upstream) if config.upstream else LocalBackend(config)
