"""The environment of child processes: every child of a test is given one that is made here.

A server in a child is tapped as one in this process is (see `traffic`), by what its environment says. A
child that is started in any other environment fails the test: see `traffic.plugin`.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["HOOKS", "ROOT", "TRAFFIC", "environment", "python_path"]

ROOT = Path(__file__).parent.parent

HOOKS = Path(__file__).parent / "traffic" / "hooks"
"""What Python runs in a child before anything else."""

TRAFFIC = "TESTS_TRAFFIC"
"""The variable that names the directory in which children record their traffic; unset, they do not."""

_DEVELOPERS = ("TRUNKLINE_", "NO_COLOR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""What is not handed on; the last, as hundreds of children would each compile all that they import."""


def python_path(*first: Path | str) -> str:
    """Return a `PYTHONPATH` with the code under test, the tap, and before them what is said."""
    return os.pathsep.join(map(str, (*first, HOOKS, ROOT / "actors", ROOT / "cli")))


def environment(*first: Path | str, **variables: str) -> dict[str, str]:
    """Return the environment of a child, with nothing that the developer has set for the code under test.

    Args:
        first: where Python looks for modules before it does for ours.
        variables: more of it, or in place of what is in it.

    """
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(_DEVELOPERS)},
        "PYTHONPATH": python_path(*first),
        "TERM": "xterm-256color",
        "TRUNKLINE_STORE": "memory",  # no file of theirs
        **variables,
    }
