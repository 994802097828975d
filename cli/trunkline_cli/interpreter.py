"""How CPython runs a process that is a server and nothing else. A host that embeds one keeps its settings."""

from __future__ import annotations

import gc
import sys

__all__ = ["set_up_for_server"]

_COLLECTION = (5_000, 10, 20)
"""Thresholds of the garbage collector. By its own it looks at everything, a second or two with ten thousand
connections on a slow machine, for each quarter that comes to what is kept. With these it does so rarely;
the cycles that closed connections are part of come to some 35 MB meanwhile."""

_SWITCH_S = 0.0005
"""Seconds after which a thread that wants the interpreter gets it from one that keeps it. The I/O loop lets
go of it with each read, and while others compute it waits so long to have it back: with CPython's 5 ms, ten
thousand connections that vanished in the middle of a thousand turns were forgotten after 5 s, not after 1."""


def set_up_for_server() -> None:
    """Set what is said above, for the whole process."""
    gc.set_threshold(*_COLLECTION)
    sys.setswitchinterval(_SWITCH_S)
