"""Settings: one frozen object, made once.

The options of `trunkline serve` are the only other place where a setting is named.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from trunkline.agents.base import AgentLike
from trunkline.errors import ConfigError
from trunkline.protocol.envelope import MAX_JSON_DEPTH
from trunkline.transports.entrances import EntranceOptions

__all__ = ["Config", "Limits", "Settings", "SettingsButAgent"]

KIB = 1024
MIB = 1024 * KIB

READABLE_DEPTH = 1_024
"""Levels of JSON that orjson reads; it refuses deeper ones, whatever they are."""


def fitting_workers() -> int:
    """Return how many threads for actors suit the processors that this process may use: 2, or 1 for up to 2.

    While one of two is in the operating system, sending, the other has the GIL. But where they have to share
    a processor with whoever reads, the one that has the GIL is made to wait for it.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 if usable > 2 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client or thread may take of the server.

    Examples:
        >>> limits = Limits(max_requests_in_flight=16, log_bytes=64 * 1024 * 1024)
        >>> server = AppServer(Config(limits=limits))

    """

    max_connections: int = 10_000
    """Connections over sockets, of all listeners; who comes when there are so many gets a 503."""
    max_connections_per_address: int = 1_000
    """The same for one remote IP address (of IPv6: for one /64). Those of this machine are not counted."""
    max_message_bytes: int = 16 * MIB
    """Longest message a client may send; over it the connection is closed with 1009."""
    max_json_depth: int = MAX_JSON_DEPTH
    """Levels of arrays and objects in a message, up to 1,024; deeper ones are answered with -32600."""
    handshake_timeout_s: float = 10.0
    """Seconds from a connect to the end of the HTTP request; over it the answer is 408."""
    initialize_timeout_s: float = 30.0
    """Seconds that a client on a socket has for `initialize`; over it the connection is closed with 1008."""
    ping_interval_s: float = 20.0
    """Seconds after which a socket from which nothing has come is sent a ping. 0 sends none."""
    ping_timeout_s: float = 40.0
    """Seconds after such a ping in which nothing may come, and nothing be taken, until the connection is
    closed with 1013."""
    max_requests_in_flight: int = 128
    """Requests of one connection that may be under way; more are refused with -32001."""
    max_requests_in_all: int = 16_384
    """Requests of all connections that may be under way; more are refused with -32001."""
    max_subscriptions: int = 4_096
    """Threads that one connection may be subscribed to; a request for more is refused with -32600."""
    max_threads: int = 10_000
    """Threads that may be loaded; a request that would load one more is refused with -32001."""
    max_unsent_bytes: int = 32 * MIB
    """Bytes that may wait for a connection's socket besides the events of its subscriptions, which wait in
    the thread's log; those of subscriptions that were ended or replaced count, less the largest of these.
    At half of it the connection is sent a `warning`, over it it is closed with 1013."""
    stall_timeout_s: float = 60.0
    """Seconds in which a connection with unsent output may take nothing at all; after half of it the
    connection is sent a `warning`, after all of it it is closed with 1013."""
    log_events: int = 65_536
    """Events that a thread keeps for subscribers that are behind."""
    log_bytes: int = 16 * MIB
    """Bytes of events that a thread keeps for the same."""
    stored_event_bytes: int = MIB
    """Bytes of events that stay in the store with a thread that is not loaded: the newest ones, for clients
    that come back after it was unloaded or the server was started anew."""
    snapshot_bytes: int = 8 * MIB
    """Bytes of items in the answer to a resume or read; the newest ones, and where the older ones are."""
    max_unconfirmed_events: int = 1_024
    """Events and prompts of a host's that one thread may not have confirmed; more are refused. Their bytes
    may be an eighth of `log_bytes`."""
    inbox_high_water: int = 2_048
    """Events of a turn that may wait for its thread before its agent waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a server is set up.

    Raises:
        ConfigError: a value is out of its range.

    Examples:
        >>> config = Config(listen=("ws://127.0.0.1:4500",), agent="script", unload_after_s=None)
        >>> Config(workers=0)
        Traceback (most recent call last):
            ...
        trunkline.errors.ConfigError: workers must be 1 or more, not 0

    """

    listen: tuple[str, ...] = ()
    """Listen URLs: `stdio://`, `ws://IP:PORT`, `wss://IP:PORT`, `unix://PATH`, `off`. Empty is `off`:
    in-process connections only."""
    entrances: EntranceOptions = field(default_factory=EntranceOptions)
    """Who may come in over a socket."""
    agent: AgentLike = "shell"
    """What answers turns: `shell`, `script`, `package.module:Class`; a class, of which each thread gets an
    object of its own; a function that makes them; or an object that answers the turns of all threads, on
    several OS threads at once. None for no agent: threads then take no turns, only what is published."""
    upstream: tuple[str, ...] = ()
    """A program that is an app-server on its standard input and output, and its arguments: it is started
    as a child and answers in the place of agents here. Empty for none."""
    cwd: Path | None = None
    """Working directory of threads that do not name one; None is the process's."""
    store: Path | Literal["memory"] = "memory"
    """Where threads are kept: an SQLite file, or for as long as the process lives."""
    unload_after_s: float | None = 60.0
    """Seconds without subscriber and activity after which a thread is unloaded; 0 is at once, None never."""
    interrupt_grace_s: float = 5.0
    """Seconds an interrupted agent has to return; after that its turn is ended without it."""
    turn_timeout_s: float | None = None
    """Seconds a turn may take, those in which it waits for the answer to a prompt left out; after that it
    is interrupted and ends as failed. None sets no limit."""
    prompt_timeout_s: float | None = None
    """Seconds a prompt may be open; after that the server refuses it itself. None waits for ever."""
    prompt_without_subscriber: Literal["wait", "refuse"] = "wait"
    """What becomes of a prompt while nobody is subscribed: it waits for somebody, or is refused at once."""
    workers: int = field(default_factory=fitting_workers)
    """OS threads that run the actors, 1 or more. They share the GIL: more than 2 are rarely faster, and 2
    only where there are more than 2 processors, which is when they are the default."""
    method_workers: int = 4
    """OS threads that run the handlers of a host's own methods, 1 or more. They start with the first one."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if isinstance(self.listen, str):
            raise ConfigError(f'listen must be a tuple of URLs, such as ("{self.listen}",)')
        if isinstance(self.store, str) and self.store != "memory":
            raise ConfigError(f'store must be a pathlib.Path or "memory", not "{self.store}"')
        if isinstance(self.cwd, str):
            raise ConfigError(f'cwd must be a pathlib.Path, not "{self.cwd}"')
        for name in ("workers", "method_workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.unload_after_s is not None and self.unload_after_s < 0:
            raise ConfigError(f"unload_after_s must be 0 or more, not {self.unload_after_s}")
        if self.interrupt_grace_s < 0:
            raise ConfigError(f"interrupt_grace_s must be 0 or more, not {self.interrupt_grace_s}")
        for name in ("turn_timeout_s", "prompt_timeout_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be more than 0, not {value}")
        for name in self.limits.__slots__:
            value = getattr(self.limits, name)
            if value < 0 or (value == 0 and name != "ping_interval_s"):
                raise ConfigError(f"{name} must be more than 0, not {value}")
        if self.limits.max_json_depth > READABLE_DEPTH:
            raise ConfigError(
                f"max_json_depth must be {READABLE_DEPTH} or less, not {self.limits.max_json_depth}"
            )


class SettingsButAgent(TypedDict, total=False):
    """The settings of a `Config`, as arguments, for those who take other agents as well."""

    listen: tuple[str, ...]
    entrances: EntranceOptions
    upstream: tuple[str, ...]
    cwd: Path | None
    store: Path | Literal["memory"]
    unload_after_s: float | None
    interrupt_grace_s: float
    turn_timeout_s: float | None
    prompt_timeout_s: float | None
    prompt_without_subscriber: Literal["wait", "refuse"]
    workers: int
    method_workers: int
    limits: Limits


class Settings(SettingsButAgent, total=False):
    """The settings of a `Config`, as arguments."""

    agent: AgentLike
