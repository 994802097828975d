"""`trunkline attach` with a pipe for its input, as a real child process."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from children import environment
from cli.processes import PATIENCE_S, Server, command, run


def test_a_listing_is_all_there_is_on_standard_output(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    result = run("attach", "--yes", stdin="ls\n", cwd=tmp_path)
    assert (result.stdout, result.returncode) == ("a\nb\n", 0)
    started, join, *rest = result.stderr.splitlines()
    assert started.endswith(f" started in {tmp_path}")
    assert join.startswith("join it with: trunkline attach ws://127.0.0.1:")
    assert " --thread " in join
    assert rest == ["$ ls", "allowed by --yes: ls", "exit 0"]


def test_the_output_of_a_command_stays_as_it_is() -> None:
    result = run("attach", "--yes", stdin="printf 'no\\033[31m newline'")
    assert (result.stdout, result.returncode) == ("no\x1b[31m newline", 0)


def test_each_line_is_a_turn_one_after_the_other(tmp_path: Path) -> None:
    lines = ["printf one > file", "", "cat file", "rm file; echo two"]
    result = run("attach", "--yes", stdin="\n".join(lines), cwd=tmp_path)
    assert (result.stdout, result.returncode) == ("one\ntwo\n", 0)


def test_no_lines_are_no_turns() -> None:
    result = run("attach")
    assert (result.stdout, result.returncode) == ("", 0)


def test_a_failed_turn_is_told_and_exits_1_at_the_end() -> None:
    result = run("attach", "--agent", "script", stdin="fail no luck\ntext hi\n")
    assert (result.stdout, result.returncode) == ("hi\n", 1)
    assert result.stderr.splitlines()[-1] == "turn failed: no luck"


def test_a_command_that_fails_is_the_commands_business() -> None:
    result = run("attach", "--yes", stdin="exit 3\n")
    assert result.returncode == 0
    assert result.stderr.splitlines()[-1] == "exit 3"


def test_without_yes_an_approval_is_declined_and_told() -> None:
    result = run("attach", stdin="touch /nowhere/file\n")
    assert (result.stdout, result.returncode) == ("", 1)
    assert "declined touch /nowhere/file: nobody can be asked without a terminal" in result.stderr


def test_a_question_gets_no_answer() -> None:
    result = run("attach", "--agent", "script", stdin="question who?\n")
    assert (result.stdout, result.returncode) == ("no answer\n", 1)


def test_a_pipe_can_go_to_a_server_and_come_back_to_its_thread(server: Server) -> None:
    first = run("attach", server.url, stdin="text one\n")
    thread_id = first.stderr.split()[1]
    again = run("attach", server.url, "--thread", thread_id, stdin="text two\n")
    assert (first.stdout, again.stdout) == ("one\n", "two\n")
    listed = run("threads", server.url)
    assert listed.stdout.splitlines()[1].split() == [thread_id, "idle", "0", "text", "one"]


def test_a_thread_that_is_not_there_is_one_line(server: Server) -> None:
    result = run("attach", server.url, "--thread", "0190a000-0000-7000-8000-000000000001")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: cannot resume the thread: ")
    assert result.stderr.count("\n") == 1


def test_a_refused_connection_is_one_line() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    result = run("attach", url)
    assert (result.stdout, result.returncode) == ("", 1)
    assert result.stderr == f"Error: cannot connect to {url}: connection refused\n"


def test_a_server_that_dies_is_one_line() -> None:
    with (
        Server("--agent", "script") as server,
        piped("attach", server.url, "--reconnect-for", "0") as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("text here\n")
        process.stdin.flush()
        assert process.stdout.readline() == "here\n"
        server.kill()
        process.wait(PATIENCE_S)  # its input is still open
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("Error: the connection to the server is lost: ")


def piped(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*args),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_pipe_with_its_number(number: signal.Signals, code: int) -> None:
    with piped("attach", "--yes") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("echo started; sleep 1000\necho not this\n")
        process.stdin.flush()
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert (output, process.returncode) == ("", code)
    assert "Traceback" not in errors


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_empty(closed: str) -> None:
    result = in_shell(f"echo 'text hello' | {{ exec {closed}; $TRUNKLINE attach --agent script; }}")
    assert result.returncode == 0
    assert result.stdout == ("hello\n" if closed == "2>&-" else "")
    assert "Traceback" not in result.stderr


def test_a_disk_that_is_full_is_one_line() -> None:
    result = in_shell("echo 'text hello' | $TRUNKLINE attach --agent script > /dev/full")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: cannot write the output: No space left on device"
    assert "Traceback" not in result.stderr


def test_a_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    result = in_shell("rmdir $PWD; echo 'text hello' | $TRUNKLINE attach --agent script", tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: cannot start the thread: "
        "the server's working directory is gone, and no `cwd` given (-32600)\n"
    )


def test_a_directory_whose_name_is_no_text_is_one_line(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    directory.mkdir()
    result = in_shell("echo 'text hello' | $TRUNKLINE attach --agent script", directory)
    assert result.returncode == 1
    assert result.stderr == (
        "Error: cannot start the thread: "
        "the server's working directory is one whose name is no text, and no `cwd` given (-32600)\n"
    )


def in_shell(script: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script of `sh`, in which `$TRUNKLINE` is the command."""
    return subprocess.run(
        ["/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(TRUNKLINE=shlex.join(command())),
        cwd=cwd,
        check=False,
    )


def test_a_reader_that_has_seen_enough_is_no_error_of_ours() -> None:
    with piped("attach", "--yes") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("echo first; yes\n")
        process.stdin.flush()
        assert process.stdout.readline() == "first\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
