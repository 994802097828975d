"""`trunkline load`: scripted load tests against any server that speaks the protocol."""

from __future__ import annotations

__all__ = ["load"]


def __getattr__(name: str) -> object:
    # The command brings click and the reports along, which a worker process has no use for.
    if name == "load":
        from trunkline_cli.load.command import load

        return load
    raise AttributeError(name)
