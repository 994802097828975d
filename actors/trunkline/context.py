"""What the actors of one server share: nothing that changes, and nothing that waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pykka

from trunkline.actor import Dispatcher
from trunkline.agents.base import AgentFactory
from trunkline.config import Config
from trunkline.protocol.methods import Method, read_call
from trunkline.protocol.params import Params
from trunkline.timers import Timers
from trunkline.turns import TurnStarter
from trunkline.types import Json

__all__ = ["Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every actor when it is made."""

    config: Config
    dispatcher: Dispatcher
    timers: Timers
    starter: TurnStarter
    store: pykka.ActorRef[Any]
    """Told the messages of `store.base`."""
    store_is_durable: bool
    """Whether what it has committed outlives the process: then events wait for that."""
    agent_factory: AgentFactory
    agent_name: str
    """What threads report as their model unless a client names one."""
    connection_ids: Iterator[int]
    """From 1. `next` on an `itertools.count` is atomic, so it needs no lock."""
    prompt_ids: Iterator[int]
    """From 0, one count for the whole server: clients of the reference rely on integers."""
    read_call: Callable[[str, Json], tuple[Method, Params]] = read_call
    """Finds a method and checks its params: which methods there are is for what answers them to say."""
