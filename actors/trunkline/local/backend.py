"""Agents of this process, and the store: what the server starts and stops."""

from __future__ import annotations

import threading

from trunkline.agents.registry import agent_factory
from trunkline.config import Config
from trunkline.context import Context
from trunkline.engines import Catalog, Desk, MakeCatalog
from trunkline.local.catalog import LocalCatalog
from trunkline.local.workshop import Workshop
from trunkline.messages import Ref
from trunkline.protocol.ids import uuid7
from trunkline.protocol.methods import Method, read_call
from trunkline.protocol.params import Params
from trunkline.starter import TurnStarter
from trunkline.stopping import stop_actor
from trunkline.store.sqlite import SqliteStore
from trunkline.types import Json

__all__ = ["LocalBackend"]


class LocalBackend:
    """What runs turns here, and keeps threads.

    Args:
        config: how the server is set up.

    Raises:
        ConfigError: there is no such agent.

    """

    def __init__(self, config: Config) -> None:
        agent = config.agent
        self._agent_factory = agent_factory(agent)
        self._starter = TurnStarter()
        self.store: Ref | None = None
        """The actor that keeps the threads; None before the start."""
        self.agent_name = agent if isinstance(agent, str) else "none" if agent is None else "agent"
        """What threads report as their model unless a client names one."""

    def read_call(self, name: str, raw_params: Json) -> tuple[Method, Params]:
        """Find a method and check its params."""
        return read_call(name, raw_params)

    def start(self, context: Context) -> MakeCatalog:
        """Start the store, and what starts turns."""
        self._starter.start()
        path = context.config.store
        self.store = store = SqliteStore.start(None if path == "memory" else path)
        workshop = Workshop(
            self._agent_factory, self._starter, store, uuid7(), store_is_durable=path != "memory"
        )

        def make_catalog(desk: Desk) -> Catalog:
            return LocalCatalog(desk=desk, context=context, workshop=workshop)

        return make_catalog

    @property
    def os_threads(self) -> tuple[threading.Thread, ...]:
        """Those of the turns, and what starts them."""
        return self._starter.threads

    def stop(self, timeout_s: float) -> tuple[str, ...]:
        """Stop both."""
        left = stop_actor(self.store, timeout_s)
        self._starter.stop(timeout_s)
        return left
