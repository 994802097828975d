"""What the threads of one server need besides its `Context` to have agents run their turns."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.agents.base import AgentFactory
from trunkline.messages import Ref
from trunkline.starter import TurnStarter

__all__ = ["Workshop"]


@dataclass(frozen=True, slots=True)
class Workshop:
    """Handed to every engine and to the catalog when they are made."""

    agent_factory: AgentFactory
    starter: TurnStarter
    store: Ref
    """Told the messages of `store.base`."""
    run_id: str
    """Names this run of the server."""
    store_is_durable: bool
    """Whether what it has committed outlives the process: then events wait for that."""
