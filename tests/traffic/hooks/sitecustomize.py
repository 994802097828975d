"""Python runs this at the start of every child of the tests: it taps the servers that the child will have.

It waits until one can be made: nearly every child is none, and shall not take longer to start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_SERVER = "trunkline.server"


class _Finder:
    """Finds the module of the server, once, and has the tap installed behind it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _SERVER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_tap(module: ModuleType) -> None:
                execute(module)
                _tap()

            spec.loader.exec_module = execute_and_tap  # type: ignore[method-assign]
        return spec


def _tap() -> None:
    from pathlib import Path

    tests = str(Path(__file__).parents[2])
    sys.path.append(tests)
    try:
        from traffic.recording import Recorder
        from traffic.tap import tap_servers
    finally:
        sys.path.remove(tests)
    tap_servers(Recorder(Path(os.environ["TESTS_TRAFFIC"]), " ".join(sys.argv)))


if "TESTS_TRAFFIC" in os.environ:
    sys.meta_path.insert(0, _Finder())
