"""What the process that runs a load and its workers tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trunkline_cli.load import wire
from trunkline_cli.load.model import Scenario
from trunkline_cli.load.stats import Interval, Phase

__all__ = [
    "Arrived",
    "Finish",
    "FromWorker",
    "Job",
    "Over",
    "Release",
    "Report",
    "Settle",
    "Settled",
    "Stop",
    "ToWorker",
]


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker has to do: the connections whose number is `index`, modulo `workers`."""

    scenario: Scenario
    target: wire.Target
    threads: dict[str, tuple[str, ...]]
    """Ids of the threads of each shared set."""
    index: int
    workers: int
    headers: tuple[tuple[str, str], ...] = ()


# To a worker


@dataclass(frozen=True, slots=True)
class Release:
    """Everybody has come to a barrier."""

    barrier: str
    generation: int
    phase: Phase | None
    """The phase that begins with it."""


@dataclass(frozen=True, slots=True)
class Over:
    """The duration is over: begin nothing new."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Everything under way has ended. Say how far each thread has come."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Whoever stays may leave, as soon as it has received what somebody has."""

    last_events: dict[str, int]
    """By thread id: the highest number that any connection has received."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End now."""


ToWorker: TypeAlias = Release | Over | Settle | Finish | Stop


# From a worker


@dataclass(frozen=True, slots=True)
class Arrived:
    """Connections have come to a barrier, or have ended and never will."""

    barrier: str
    generation: int
    arrived: int = 0
    ended: int = 0
    """Connections that ended having come to it `generation` times."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to `Settle`."""

    last_events: dict[str, int]
    """By thread id: the highest number that a connection of this worker has received."""


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last one, and how things stand."""

    interval: Interval
    open_connections: int
    busy: int
    """Connections that wait for an answer."""
    finished: bool
    """Every connection has taken its last step. The last report."""


FromWorker: TypeAlias = Arrived | Report | Settled
