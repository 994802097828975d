"""Servers and runs for the measurements of docs/performance.md: a fresh server for each, by process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_stand_in import CodexServer, codex_binary

__all__ = ["Target", "codex", "embedded", "load", "ours"]

JsonObject = dict[str, Any]

ROOTS = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOTS / root) for root in ("actors", "cli"))}
SERVE = ["--agent", "script", "--log-level", "error"]
LOAD = ["--workers", "1", "--quiet", "--json", "-"]
TRUNKLINE = [sys.executable, "-m", "trunkline_cli"]


@dataclass(frozen=True)
class Target:
    """A server that runs."""

    url: str
    pid: int


@contextmanager
def ours(store: str | None = None) -> Iterator[Target]:
    """Run `trunkline serve --agent script` with its defaults.

    Args:
        store: its `--store`; None is an SQLite file of its own.

    """
    with tempfile.TemporaryDirectory() as folder:
        store = store or str(Path(folder) / "threads.sqlite3")
        process = subprocess.Popen(
            [*TRUNKLINE, "serve", "--listen", "ws://127.0.0.1:0", *SERVE, "--store", store],
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            match = re.search(r"ws://\S+", process.stderr.readline())
            if match is None:
                raise RuntimeError("trunkline serve did not say where it listens")
            yield Target(match[0], process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@contextmanager
def codex() -> Iterator[Target]:
    """Run `codex app-server` with a stand-in for its model."""
    binary = codex_binary()
    if binary is None:
        raise RuntimeError("openai-codex-cli-bin is not installed")
    with CodexServer(binary) as server:
        yield Target(server.url, server.pid)


def load(target: Target, scenario: str, *arguments: str) -> JsonObject:
    """Run `trunkline load` against a server and return its result.

    Args:
        target: the server.
        scenario: the name of a built-in scenario, or the text of one.
        arguments: more for the command line.

    """
    return _load([target.url, "--server-pid", str(target.pid)], scenario, arguments)


def embedded(scenario: str, *arguments: str) -> JsonObject:
    """Run `trunkline load --embedded` and return its result."""
    return _load(["--embedded"], scenario, arguments)


def _load(where: list[str], scenario: str, arguments: tuple[str, ...]) -> JsonObject:
    with tempfile.TemporaryDirectory() as folder:
        if "\n" in scenario:
            path = Path(folder) / "scenario.toml"
            path.write_text(scenario, encoding="utf-8")
            scenario = str(path)
        process = subprocess.run(
            [*TRUNKLINE, "load", *where, "--scenario", scenario, *LOAD, *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if not process.stdout:
        raise RuntimeError(f"the run failed with exit status {process.returncode}")
    result: JsonObject = json.loads(process.stdout)
    for problem in ("errors", "breaches", "leftOver", "incomplete"):
        if result[problem]:
            print(f"  {result['scenario']['name']}: {problem}: {result[problem]}", file=sys.stderr)
    if not result["loadSide"]["keptUp"]:
        print(f"  {result['scenario']['name']}: the load side could not keep up", file=sys.stderr)
    return result
