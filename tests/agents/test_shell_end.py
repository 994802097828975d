from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from agents.harness import PATIENCE_S, Gate, Run, leave_open, pids, run, status_of, wait_dead
from trunkline.agents import shell as shell_module
from trunkline.agents.events import ItemCompleted
from trunkline.agents.shell import ShellAgent

# Waits for a signal, and holds no output open meanwhile.
WAIT = "while :; do sleep 1000 >/dev/null 2>&1 & wait; done"

# A command ends with its shell


def test_a_background_child_that_holds_the_output_is_ended(shell: ShellAgent) -> None:
    done = run(shell, "sleep 1000 & echo $!")

    assert status_of(done) == ("completed", 0)
    wait_dead(*pids(done, 1))


def test_a_background_child_without_output_is_ended(shell: ShellAgent) -> None:
    done = run(shell, "sleep 1000 >/dev/null 2>&1 & echo $!")

    assert status_of(done) == ("completed", 0)
    wait_dead(*pids(done, 1))


def test_a_background_child_that_floods_is_ended(shell: ShellAgent) -> None:
    done = Run(shell, "yes &", on_delta=lambda _: None).finish()

    assert status_of(done) == ("completed", 0)


@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/null"])
def test_a_background_child_that_ignores_sigterm_is_ended(
    impatient: ShellAgent, gate: Gate, output: str
) -> None:
    command = (
        f"(trap '' TERM; echo > {gate.path}; exec sleep 1000) > {output} 2>&1 & echo $!; read x < {gate.path}"
    )
    done = run(impatient, command)

    assert status_of(done) == ("completed", 0)
    wait_dead(*pids(done, 1))


def test_the_last_words_of_a_background_child_are_kept(shell: ShellAgent, gate: Gate) -> None:
    child = f"trap 'echo bye; exit' TERM; echo ready; {WAIT}"
    running = Run(shell, f"({child}) & read x < {gate.path}; exit 5").start()
    running.wait_for_output("ready")
    gate.open()

    assert running.finish().streamed == "ready\nbye\n"
    assert status_of(running) == ("failed", 5)


def test_a_command_that_closes_its_output_goes_on_to_its_end(shell: ShellAgent, gate: Gate) -> None:
    running = Run(shell, f"echo one; exec >/dev/null 2>&1; read x < {gate.path}; exit 4").start()
    running.wait_for_output("one")
    gate.open()

    assert status_of(running.finish()) == ("failed", 4)


def test_a_process_that_left_the_group_is_not_waited_for(impatient: ShellAgent, tmp_path: Path) -> None:
    # The shell waits for the pid in the file, so the child has its session when the command ends.
    leaver = "setsid sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 1000'"
    done = run(impatient, rf"{leaver} & while ! test -e pid; do :; done; printf 'end\303'", cwd=tmp_path)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    assert status_of(done) == ("completed", 0)
    assert done.streamed == "end\N{REPLACEMENT CHARACTER}"


# Interrupts


def test_an_interrupt_ends_the_wait_for_an_approval(shell: ShellAgent, tmp_path: Path) -> None:
    running = Run(shell, "touch made", answer=leave_open, cwd=tmp_path).start()
    running.wait_for_prompt().interrupt().finish()

    assert running.outcome == "interrupted"
    assert not (tmp_path / "made").exists()


def test_a_command_that_is_accepted_and_interrupted_at_once_is_not_started(
    shell: ShellAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", started.append)
    running = Run(shell, "true", answer=leave_open).start().wait_for_prompt()
    running.turn.interrupt()
    running.answer_open("accept").finish()

    assert running.outcome == "interrupted"
    assert started == []


def test_an_interrupt_while_the_shell_starts_ends_it(
    shell: ShellAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupt_first(thread: threading.Thread) -> None:
        if thread.name == "trunkline-reaper":
            running.interrupt()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupt_first)
    running = Run(shell, "sleep 1000")

    assert running.finish().outcome == "interrupted"


@pytest.mark.parametrize(
    "command",
    [
        "echo $$; exec sleep 1000",
        "echo $$; sleep 1000; echo after",
        "sleep 1000 & echo $!; wait",
        "sh -c 'echo $$; exec sleep 1000' | cat; echo after",
        "sleep 1000 & echo $!; exec >/dev/null 2>&1; sleep 1000",
    ],
)
def test_an_interrupt_ends_the_whole_group(shell: ShellAgent, command: str) -> None:
    running = Run(shell, command).start()
    left = pids(running, 1)
    running.interrupt().finish()

    assert running.outcome == "interrupted"
    assert ItemCompleted not in running.kinds
    wait_dead(*left)


@pytest.mark.parametrize(
    "command",
    [
        "trap '' TERM; echo $$; exec sleep 1000",
        "trap '' TERM; echo $$; sleep 1000",
        "trap '' TERM; sleep 1000 & echo $!; wait",
        "(trap '' TERM; sh -c 'echo $$; exec sleep 1000') & wait",
        "trap '' TERM; echo $$; exec >/dev/null 2>&1; sleep 1000",
    ],
)
def test_an_interrupt_ends_what_ignores_sigterm(impatient: ShellAgent, command: str) -> None:
    running = Run(impatient, command).start()
    left = pids(running, 1)
    running.interrupt().finish()

    assert running.outcome == "interrupted"
    wait_dead(*left)


@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/null"])
def test_an_interrupted_command_has_its_grace_to_clean_up(
    shell: ShellAgent, tmp_path: Path, output: str
) -> None:
    clean_up = "yes | head -c 1000000; touch cleaned; exit"
    command = f"trap '{clean_up}' TERM; echo ready; exec > {output} 2>&1; {WAIT}"
    running = Run(shell, command, cwd=tmp_path).start().wait_for_output("ready")
    running.interrupt().finish()

    assert (tmp_path / "cleaned").exists()
    assert running.streamed == "ready\n", "after the interrupt nothing is sent"


def test_the_wait_for_the_end_of_an_interrupted_command_does_not_spin(
    impatient: ShellAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []
    select = selectors.PollSelector.select

    def count(selector: selectors.PollSelector, timeout_s: float | None) -> Any:
        waits.append(timeout_s)
        return select(selector, timeout_s)

    monkeypatch.setattr(selectors.PollSelector, "select", count)
    running = Run(impatient, "trap '' TERM; echo ready; exec sleep 1000").start()
    running.wait_for_output("ready")
    running.interrupt().finish()

    assert len(waits) < 10


def test_an_interrupt_ends_a_flood(shell: ShellAgent) -> None:
    flooding = threading.Event()
    running = Run(shell, "yes", on_delta=lambda _: flooding.set()).start()
    assert flooding.wait(PATIENCE_S)
    running.interrupt().finish()

    assert running.outcome == "interrupted"


def test_an_interrupt_leaves_the_agent_fit_for_the_next_turn(shell: ShellAgent) -> None:
    running = Run(shell, "echo one; sleep 1000").start().wait_for_output("one")
    running.interrupt().finish()

    assert run(shell, "echo two").streamed == "two\n"


def test_a_shell_that_nothing_ends_is_left_to_itself(
    impatient: ShellAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = Run(impatient, "echo $$; exec sleep 1000").start()
    (pid,) = pids(running, 1)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "killpg", lambda pid, number: None)
        patch.setattr(shell_module, "_REAP_TIMEOUT_S", 0.05)
        running.interrupt().finish()
    reapers = [thread for thread in threading.enumerate() if thread.name == "trunkline-reaper"]
    os.kill(pid, signal.SIGKILL)
    for reaper in reapers:
        reaper.join(PATIENCE_S)

    assert running.outcome == "interrupted"
    assert len(reapers) == 1
    assert f"shell {pid} does not end" in caplog.text


def test_a_bug_in_the_thread_leaves_no_process(shell: ShellAgent) -> None:
    def fail(text: str) -> None:
        raise ZeroDivisionError

    running = Run(shell, "echo one; sleep 1000", on_delta=fail).finish()

    assert isinstance(running.error, ZeroDivisionError)


def test_a_system_that_cannot_wait_without_collecting_is_served_too(
    shell: ShellAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(os, "waitid")
        done = run(shell, "sleep 1000 & echo $!; exit 3")

    assert status_of(done) == ("failed", 3)
    wait_dead(*pids(done, 1))


# Many


def test_twenty_commands_at_once_do_not_mix() -> None:
    runs = [Run(ShellAgent(), f"seq {n} 3000; exit {n}").start() for n in range(20)]
    for number, running in enumerate(runs):
        running.finish()
        assert running.streamed == "".join(f"{line}\n" for line in range(number, 3001))
        assert running.item["exitCode"] == number


def test_twenty_commands_interrupted_at_once_leave_nothing() -> None:
    runs = [Run(ShellAgent(), "sleep 1000 & echo $!; wait").start() for _ in range(20)]
    left = [pid for running in runs for pid in pids(running, 1)]
    for running in runs:
        running.interrupt()

    assert [running.finish().outcome for running in runs] == ["interrupted"] * 20
    for pid in left:
        wait_dead(pid)
