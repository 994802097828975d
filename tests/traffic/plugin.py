"""Has everything that servers send in a test validated behind it, in this process and in its children.

A test fails if a server has sent what Codex cannot read. One in which that is meant to happen says so:
`@pytest.mark.beyond_codex("thread/closed", because="…")` names the methods, and fails if it does not happen.

Where the tests run in workers, each does that for its own tests and their children, and hands over its count.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import codex_models
from children import HOOKS, TRAFFIC
from traffic.checking import Checker, Unreadable
from traffic.reading import Recordings
from traffic.recording import Recorder
from traffic.tally import Tally
from traffic.tap import tap_servers

_SHOWN = 5
"""Unreadable messages that a failure shows."""

_HANDED_OVER = "traffic"
"""The tally of a worker, among what it hands over at its end."""

_HAS_PASSED = pytest.StashKey[bool]()


class Traffic:
    """What the servers of a run have sent: here, and in all children with an environment from here.

    Args:
        program: what this process is called where something bad was sent.

    """

    def __init__(self, program: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="traffic-"))
        self._recorder = Recorder(self._directory, program)
        self._recordings = Recordings(self._directory)
        self._patch = pytest.MonkeyPatch()
        self._patch.setenv(TRAFFIC, str(self._directory))
        self._patch.setenv("PYTHONPATH", str(HOOKS), prepend=os.pathsep)
        self._checker = Checker()
        tap_servers(self._recorder)

    @property
    def tally(self) -> Tally:
        """What was checked so far."""
        return self._checker.tally

    def take(self) -> list[Unreadable]:
        """Check what has been sent since the last time, and return what Codex cannot read."""
        self._recorder.begin()
        unreadable: list[Unreadable] = []
        for recording, records in self._recordings.read():
            unreadable += self._checker.check(recording, records)
        return unreadable

    def judge(self, item: pytest.Item, unreadable: Sequence[Unreadable]) -> None:
        """Fail a test in which something unreadable was sent, or was not although it says so."""
        mark = item.get_closest_marker("beyond_codex")
        meant: set[str] = set() if mark is None else set(mark.args)
        wrong = [each for each in unreadable if each.method not in meant]
        self.tally.meant += len(unreadable) - len(wrong)
        if wrong:
            pytest.fail("\n".join(map(str, wrong[:_SHOWN])), pytrace=False)
        missing = meant.difference(each.method for each in unreadable)
        has_passed = item.stash.get(_HAS_PASSED, False)
        if missing and has_passed:
            pytest.fail(f"marked as beyond Codex, which can read all of it: {sorted(missing)}", pytrace=False)

    def close(self) -> None:
        """Remove everything."""
        self._patch.undo()
        self._recorder.close()
        shutil.rmtree(self._directory)


_running: list[Traffic] = []
"""The traffic that is recorded, if any is: what an audit hook sees cannot be handed to it."""


_tallies: list[Tally] = []
"""What was checked, by each of the processes that ran tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record where tests run, if there is something to check by."""
    if codex_models.are_installed() and not _has_workers(config):
        _running.append(Traffic(" ".join(["pytest", *config.invocation_params.args])))
        sys.addaudithook(_see_child)


def _has_workers(config: pytest.Config) -> bool:
    return bool(config.getoption("dist", "no") != "no")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have what was checked counted, in this process or in the one that it works for."""
    for traffic in _running:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_HANDED_OVER] = traffic.tally.plain()
        else:
            _tallies.append(traffic.tally)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has counted. One that was lost hands nothing over, and fails the run."""
    handed_over = getattr(node, "workeroutput", {})
    if _HANDED_OVER in handed_over:
        _tallies.append(Tally.from_plain(handed_over[_HANDED_OVER]))


def pytest_unconfigure() -> None:
    """End the recording."""
    while _running:
        _running.pop().close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test has passed."""
    report = yield
    if report.when == "call":
        item.stash[_HAS_PASSED] = report.passed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Judge a test by what was sent in it, once all that it had running has ended."""
    unreadable: list[Unreadable] = []
    try:
        yield
    finally:
        for traffic in _running:
            unreadable = traffic.take()
    for traffic in _running:
        traffic.judge(item, unreadable)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was checked, by all processes together."""
    if codex_models.are_installed():
        terminalreporter.write_line(str(sum(_tallies, Tally())))
    else:
        terminalreporter.write_line("codex models: nothing is validated without the packages of [interop]")


def _see_child(event: str, arguments: tuple[Any, ...]) -> None:
    """Let no child run Python that cannot be tapped: its environment is not from `children`."""
    if event != "subprocess.Popen" or not _running:
        return
    _, command, _, given = arguments
    if _runs_python(command) and not _is_tapped(os.environ if given is None else given):
        raise AssertionError(f"a child whose servers would not be tapped: see `children`: {command}")


def _runs_python(command: Any) -> bool:
    parts = [command] if isinstance(command, str | bytes | os.PathLike) else command
    return any(sys.executable in os.fsdecode(part) for part in parts)


def _is_tapped(environment: Mapping[str, str]) -> bool:
    return TRAFFIC in environment and str(HOOKS) in environment.get("PYTHONPATH", "").split(os.pathsep)
