"""What the actors of one server share: nothing that changes, and nothing that waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trunkline.actor import Dispatcher
from trunkline.admission import Slots
from trunkline.config import Config
from trunkline.log import Frames
from trunkline.metrics import Metrics
from trunkline.own_methods import OwnMethods
from trunkline.protocol.methods import Method
from trunkline.protocol.params import Params
from trunkline.publishing import ThreadHandle
from trunkline.timers import Timers
from trunkline.types import Json, JsonObject

__all__ = ["Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every actor when it is made."""

    config: Config
    dispatcher: Dispatcher
    timers: Timers
    agent_name: str
    """What threads report as their model unless a client names one."""
    connection_ids: Iterator[int]
    """From 1. `next` on an `itertools.count` is atomic, so it needs no lock."""
    prompt_ids: Iterator[int]
    """From 0, one count for the whole server: clients of the reference rely on integers."""
    request_slots: Slots
    """For the requests of all connections."""
    metrics: Metrics
    """What the actors count."""
    status: Callable[[], JsonObject]
    """Returns the server at a glance. Any thread; never blocks."""
    recent_frames: deque[Frames]
    """Holds the framed bytes of what threads sent out last. `extend` is atomic, so it needs no lock."""
    read_call: Callable[[str, Json], tuple[Method, Params]]
    """Finds a method and checks its params: which methods there are is for what answers them to say."""
    own_methods: OwnMethods
    """What the host answers itself."""
    thread_handle: Callable[[str], ThreadHandle]
    """Returns a thread for the host to publish into."""
