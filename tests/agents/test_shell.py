from __future__ import annotations

import os
import resource
import signal
import threading
import tracemalloc
from pathlib import Path

import pytest

from agents.harness import Gate, Run, run, status_of
from trunkline.agents.events import ItemCompleted, ItemDelta, ItemStarted, PromptRaised
from trunkline.agents.shell import ShellAgent

# What a command's item tells


def test_a_command_is_one_item_with_its_output_and_exit_code(shell: ShellAgent, tmp_path: Path) -> None:
    done = run(shell, "echo hello", cwd=tmp_path)

    assert done.outcome == "completed"
    assert done.kinds == [ItemStarted, PromptRaised, ItemDelta, ItemCompleted]
    assert done.item["type"] == "commandExecution"
    assert done.item["command"] == "echo hello"
    assert done.item["cwd"] == str(tmp_path)
    assert done.item["aggregatedOutput"] == "hello\n"
    assert status_of(done) == ("completed", 0)
    assert done.item["durationMs"] >= 0


def test_a_command_runs_in_the_directory_of_the_thread(shell: ShellAgent, tmp_path: Path) -> None:
    assert run(shell, "pwd -P", cwd=tmp_path).streamed == f"{tmp_path.resolve()}\n"


def test_a_command_of_several_lines_is_one_script(shell: ShellAgent) -> None:
    assert run(shell, "for x in 1 2\ndo echo $x\ndone").streamed == "1\n2\n"


def test_a_command_may_begin_with_a_dash(shell: ShellAgent) -> None:
    done = run(shell, "-x echo")

    assert status_of(done) == ("failed", 127)


def test_a_command_that_exits_with_an_error_fails_and_the_turn_completes(shell: ShellAgent) -> None:
    done = run(shell, "exit 3")

    assert status_of(done) == ("failed", 3)
    assert done.outcome == "completed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_shell_that_a_signal_ends_has_128_and_its_number_as_exit_code(
    shell: ShellAgent, number: int
) -> None:
    assert status_of(run(shell, f"kill -{int(number)} $$")) == ("failed", 128 + number)


def test_stdout_and_stderr_are_one_output_in_order(shell: ShellAgent) -> None:
    done = run(shell, "echo 1; echo 2 >&2; echo 3; echo 4 >&2")

    assert done.item["aggregatedOutput"] == "1\n2\n3\n4\n"


def test_the_standard_input_is_empty_and_not_that_of_the_server(shell: ShellAgent) -> None:
    reader, writer = os.pipe()
    stdin = os.dup(0)
    os.dup2(reader, 0)
    try:
        os.write(writer, b"not for the command\n")
        done = run(shell, "cat; echo end")
    finally:
        os.dup2(stdin, 0)
        for fd in (reader, writer, stdin):
            os.close(fd)

    assert done.streamed == "end\n"


def test_a_command_without_output_has_none(shell: ShellAgent) -> None:
    done = run(shell, "true")

    assert done.item["aggregatedOutput"] is None
    assert ItemDelta not in done.kinds


@pytest.mark.parametrize("text", ["", "  \n\t", ()])
def test_an_input_without_text_runs_nothing_and_says_so(shell: ShellAgent, text: str | tuple[()]) -> None:
    done = run(shell, text)

    assert done.said == ["Nothing to run: the input has no text."]
    assert done.prompts == []
    assert done.outcome == "completed"


# Output


def test_output_streams_while_the_command_runs_without_waiting_for_a_newline(
    shell: ShellAgent, gate: Gate
) -> None:
    running = Run(shell, f"printf one; read x < {gate.path}; printf two").start()
    running.wait_for_output("one")
    assert ItemCompleted not in running.kinds
    gate.open()

    assert running.finish().deltas == ["one", "two"]


def test_a_character_that_is_split_between_two_reads_comes_out_whole(shell: ShellAgent, gate: Gate) -> None:
    running = Run(shell, rf"printf 'x\342\202'; read x < {gate.path}; printf '\254y'").start()
    running.wait_for_output("x")
    gate.open()

    assert running.finish().deltas == ["x", "€y"]


def test_characters_are_not_broken_at_the_borders_of_large_reads(shell: ShellAgent) -> None:
    done = run(shell, r"printf x; yes € | tr -d '\n' | head -c 300000")

    assert done.streamed == "x" + "€" * 100_000
    assert done.item["aggregatedOutput"] == done.streamed


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (r"a\377b", "a\N{REPLACEMENT CHARACTER}b"),
        (r"a\342\202", "a\N{REPLACEMENT CHARACTER}"),
        (r"\303(", "\N{REPLACEMENT CHARACTER}("),
        (r"\355\240\200", 3 * "\N{REPLACEMENT CHARACTER}"),
        (r"a\000b", "a\0b"),
    ],
)
def test_bytes_that_are_not_utf_8_are_replaced(shell: ShellAgent, output: str, text: str) -> None:
    assert run(shell, f"printf '{output}'").streamed == text


def test_invalid_bytes_are_replaced_across_reads(shell: ShellAgent, gate: Gate) -> None:
    running = Run(shell, rf"printf 'x\342\202'; read x < {gate.path}; printf 'y\303'").start()
    running.wait_for_output("x")
    gate.open()

    assert running.finish().streamed == "x\N{REPLACEMENT CHARACTER}y\N{REPLACEMENT CHARACTER}"


def test_output_up_to_the_limit_is_kept_whole() -> None:
    agent = ShellAgent(max_kept_chars=10)
    done = run(agent, "printf 12345; printf 67890")

    assert done.item["aggregatedOutput"] == "1234567890"


def test_output_over_the_limit_keeps_its_beginning_and_end_and_says_what_is_missing() -> None:
    agent = ShellAgent(max_kept_chars=10)
    done = run(agent, "printf abcde; printf -- ---; printf vwxyz")

    assert done.streamed == "abcde---vwxyz"
    assert done.item["aggregatedOutput"] == "abcde\n[... 3 characters left out ...]\nvwxyz"


def test_the_end_that_is_kept_is_the_end_however_the_output_comes_in_pieces(gate: Gate) -> None:
    agent = ShellAgent(max_kept_chars=4)
    script = "".join(f"printf {digit}; read x < {gate.path}; " for digit in "0123456789")
    running = Run(agent, script).start()
    for digit in "0123456789":
        running.wait_for_output(digit)
        gate.open()

    assert running.finish().deltas == list("0123456789")
    assert running.item["aggregatedOutput"] == "01\n[... 6 characters left out ...]\n89"


def test_huge_output_is_streamed_whole_and_kept_within_the_limit(shell: ShellAgent) -> None:
    streamed_chars = 0

    def count(text: str) -> None:
        nonlocal streamed_chars
        streamed_chars += len(text)

    running = Run(shell, "yes | head -c 50000000", on_delta=count)
    tracemalloc.start()
    try:
        running.finish()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert streamed_chars == 50_000_000
    assert status_of(running) == ("completed", 0)
    kept = running.item["aggregatedOutput"]
    assert kept.startswith("y\ny\n")
    assert "[... 48951424 characters left out ...]" in kept
    assert kept.endswith("y\ny\n")
    assert len(kept) < 1024 * 1024 + 100
    assert peak_bytes < 20_000_000


# What cannot be started


def test_a_directory_that_does_not_exist_fails_the_item_and_says_so(
    shell: ShellAgent, tmp_path: Path
) -> None:
    done = run(shell, "ls", cwd=tmp_path / "nowhere")

    assert status_of(done) == ("failed", None)
    assert done.streamed == f"trunkline: cannot run in {tmp_path}/nowhere: No such file or directory\n"
    assert done.outcome == "completed"


def test_a_directory_that_is_a_file_fails_the_item_and_says_so(shell: ShellAgent, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(shell, "ls", cwd=tmp_path / "file")

    assert status_of(done) == ("failed", None)
    assert done.streamed == f"trunkline: cannot run in {tmp_path}/file: Not a directory\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo \0", "embedded null byte"),
        ("echo " + 300_000 * "x", "Argument list too long"),
    ],
)
def test_a_command_that_no_shell_can_be_given_fails_the_item(
    shell: ShellAgent, command: str, why: str
) -> None:
    done = run(shell, command)

    assert status_of(done) == ("failed", None)
    assert done.streamed.startswith("trunkline: cannot run this: ")
    assert why in done.streamed
    assert done.outcome == "completed"


def test_out_of_descriptors_fails_the_item_and_the_next_command_runs(shell: ShellAgent) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(4):
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + spare, hard))
        try:
            done = run(shell, "true")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert done.streamed == "trunkline: cannot run this: Too many open files\n"
        assert status_of(done) == ("failed", None)

    assert status_of(run(shell, "true")) == ("completed", 0)


def test_out_of_threads_fails_the_item_and_ends_the_shell(
    shell: ShellAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse_reaper(thread: threading.Thread) -> None:
        if thread.name == "trunkline-reaper":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_reaper)
    done = run(shell, "sleep 1000")

    assert status_of(done) == ("failed", None)
    assert done.streamed == "trunkline: cannot run this: can't start new thread\n"
