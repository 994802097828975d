"""What answers the clients of a server, as the server sees it: it starts it, and stops it.

For the actors it is a catalog, and an engine for each thread: see `trunkline.engines`.
"""

from __future__ import annotations

import threading
from typing import Protocol

from trunkline.context import Context
from trunkline.engines import MakeCatalog
from trunkline.messages import Ref
from trunkline.protocol.methods import Method
from trunkline.protocol.params import Params
from trunkline.types import Json

__all__ = ["Backend"]


class Backend(Protocol):
    """Agents of this process, or another app-server. Made with the server, and started once.

    Its methods, but for `read_call`, are for the thread that starts and stops the server, and may block.
    """

    @property
    def agent_name(self) -> str:
        """What threads report as their model unless a client names one."""
        ...

    @property
    def store(self) -> Ref | None:
        """The actor that keeps the threads; None before the start, and if there is none."""
        ...

    def read_call(self, name: str, raw_params: Json) -> tuple[Method, Params]:
        """Find a method and check its params. Any thread; never blocks.

        Raises:
            RpcError: there is no such method, or the params do not fit.

        """
        ...

    def start(self, context: Context) -> MakeCatalog:
        """Start what the catalog and the engines need.

        Raises:
            StartError: it cannot come up; `stop` is called all the same.

        """
        ...

    @property
    def os_threads(self) -> tuple[threading.Thread, ...]:
        """The OS threads on which code of the host's may run, or that must end with the server."""
        ...

    def stop(self, timeout_s: float) -> tuple[str, ...]:
        """Stop all of it, once the router and the threads have stopped.

        Returns:
            What has not ended, actors and processes, as a log calls it.

        """
        ...
