"""`trunkline attach` whose connection is lost: cut cables, killed servers, and what comes back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from children import environment
from cli.cables import Cable
from cli.processes import PATIENCE_S, Server, command
from cli.screens import CTRL_C, Terminal

READY = re.compile(r"^> *$", re.MULTILINE)
ASKED = re.compile(r"Allow\? \S+$")
LOST = "the connection to the server is lost"
AWAY = "not connected ("


@contextmanager
def attached(*args: str) -> Iterator[Terminal]:
    """A wide terminal whose session is ready for a line."""
    with Terminal("attach", *args, columns=140) as terminal:
        terminal.wait_until(lambda screen: READY.search(screen) is not None, "to be ready")
        yield terminal


@contextmanager
def piped(*args: str) -> Iterator[subprocess.Popen[str]]:
    """An attach that reads from a pipe."""
    process = subprocess.Popen(
        command("attach", *args),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def feed(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def wait_error(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to a line that holds `text`."""
    assert process.stderr is not None
    while text not in (line := process.stderr.readline()):
        assert line, f"no line with {text!r}"
    return line


def thread_of(terminal: Terminal) -> str:
    match = re.search(r"--thread (\S+)", terminal.text)
    assert match is not None
    return match[1]


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    """Options for servers that keep their threads in a file."""
    return ["--store", str(tmp_path / "threads.sqlite")]


# A connection that is cut


def test_a_turn_goes_on_where_it_was_with_the_events_that_were_missed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Server() as server, Cable(server.url) as cable, attached(cable.url, "--yes") as terminal:
        terminal.enter(f"echo one; cat {fifo}; echo three")
        terminal.wait_for("\none\n")
        cable.cut()
        terminal.wait_for(f"{LOST} (it broke off without a word); trying to get it back", AWAY)
        fifo.write_text("two\n")
        cable.mend()
        screen = terminal.wait_for("connected again: ", "\ntwo\nthree\nexit 0\n>")
        assert re.search(r"connected again: (\d+ missed events|one missed event)\n", screen)
        assert screen.count("\none\n") == 1
        assert "snapshot" not in screen


def test_a_question_that_was_open_is_asked_again(server: Server) -> None:
    with Cable(server.url) as cable, attached(cable.url) as terminal:
        terminal.enter("ask rm")
        terminal.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
        cable.cut()
        terminal.wait_for(AWAY)
        assert "Allow?" not in terminal.text
        cable.mend()
        terminal.wait_for("connected again: no event was missed")
        terminal.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
        terminal.enter("y")
        terminal.wait_for("pretended to run: rm\nexit 0\n>")


def test_a_question_that_was_settled_meanwhile_is_not_asked_again(server: Server) -> None:
    with Cable(server.url) as cable, attached(cable.url) as alice:
        alice.enter("ask rm")
        alice.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
        with Terminal("attach", server.url, "--thread", thread_of(alice)) as bob:
            bob.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
            cable.cut()
            alice.wait_for(AWAY)
            bob.enter("y")
            bob.wait_for("pretended to run: rm")
        cable.mend()
        screen = alice.wait_for("missed events", "settled by another client", "exit 0\n>")
        assert "Allow?" not in screen


def test_a_question_that_came_meanwhile_is_asked(server: Server) -> None:
    with Cable(server.url) as cable, attached(cable.url) as alice:
        with attached(server.url, "--thread", thread_of(alice)) as bob:
            cable.cut()
            alice.wait_for(AWAY)
            bob.enter("ask first")
            bob.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
            bob.enter("n")
            bob.wait_for("declined")
            bob.enter("ask second")
            bob.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
        cable.mend()
        alice.wait_for("$ first", "declined", "$ second")
        alice.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
        alice.enter("y")
        screen = alice.wait_for("pretended to run: second")
        assert screen.count("Allow?") == 1


def test_lines_that_were_typed_meanwhile_are_sent_then_once_and_in_order(server: Server) -> None:
    with Cable(server.url) as cable, attached(cable.url) as terminal:
        cable.cut()
        terminal.wait_for(AWAY)
        for word in ("one", "two"):
            terminal.enter(f"text {word}")
            terminal.wait_for(f"> text {word}\nkept until the connection is back")
        cable.mend()
        screen = terminal.wait_for("connected again: ", "\none\n", "\ntwo\n>")
        assert screen.index("\none\n") < screen.index("\ntwo\n")
        assert screen.count("\none\n") == screen.count("\ntwo\n") == 1


def test_ctrl_c_ends_the_wait_and_says_what_was_not_sent(server: Server) -> None:
    with Cable(server.url) as cable, attached(cable.url) as terminal:
        cable.cut()
        terminal.wait_for(AWAY)
        terminal.enter("rm -r everything")
        terminal.wait_for("kept until")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 130
        assert terminal.text.endswith("\nnot sent: rm -r everything")


def test_a_connection_that_is_lost_again_and_again_comes_back(server: Server) -> None:
    with Cable(server.url) as cable, attached(cable.url) as terminal:
        for number in range(2):
            cable.cut()
            terminal.wait_for(AWAY)
            cable.mend()
            terminal.wait_until(lambda screen: READY.search(screen) is not None, "to be ready")
            terminal.enter(f"text word {number}")
            terminal.wait_for(f"\nword {number}\n>")


# A server that ends


def test_a_server_that_is_restarted_has_the_thread_still(store: list[str], port: int) -> None:
    with Server("--agent", "script", *store, port=port) as first, attached(first.url) as terminal:
        terminal.enter("text before")
        terminal.wait_for("\nbefore\n>")
        first.stop()
        terminal.wait_for(f"{LOST} (closed with 1001, server is stopping; reconnect in 5 s and resume)", AWAY)
        with Server("--agent", "script", *store, port=port):
            terminal.wait_for("connected again: one missed event")  # the thread is loaded again
            terminal.enter("text after")
            screen = terminal.wait_for("\nafter\n>")
            assert screen.count("\nbefore\n") == 1


def test_a_server_that_is_killed_in_a_turn_gives_a_snapshot_of_it(store: list[str], port: int) -> None:
    with Server("--agent", "script", *store, port=port) as first, attached(first.url) as terminal:
        terminal.enter("\x1b[200~text kept\nask rm\n\x1b[201~")
        terminal.wait_until(lambda screen: ASKED.search(screen) is not None, "to ask")
        first.kill()
        terminal.wait_for(LOST, AWAY)
        with Server("--agent", "script", *store, port=port):
            terminal.wait_for("connected again: a snapshot,", "\nturn interrupted\n>")
            terminal.enter("text after")
            screen = terminal.wait_for("\nafter\n>")
            assert screen.count("\nkept\n") == 1
            assert "Allow?" not in screen


def test_a_thread_that_went_with_its_server_is_one_line(port: int) -> None:
    with Server("--agent", "script", port=port) as first, attached(first.url) as terminal:
        terminal.enter("text before")
        terminal.wait_for("\nbefore\n>")
        thread_id = thread_of(terminal)
        first.kill()
        terminal.wait_for(AWAY)
        with Server("--agent", "script", port=port):
            assert terminal.wait_end() == 1
        _, _, last = terminal.text.replace("\n", "").partition("Error: ")
        assert last.startswith(f"the server is back, but thread {thread_id} is not: no rollout found ")


# A pipe


def test_a_pipe_gets_every_byte_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Server() as server, Cable(server.url) as cable, piped(cable.url, "--yes") as process:
        feed(process, f"echo one; cat {fifo}; echo three\necho four\n")
        assert read_line(process) == "one\n"
        cable.cut()
        wait_error(process, LOST)
        fifo.write_text("two\n")
        cable.mend()
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        assert process.stdout.read() == "two\nthree\nfour\n"
        assert process.wait(PATIENCE_S) == 0


def test_a_pipe_goes_on_with_its_next_line_over_a_kill(store: list[str], port: int) -> None:
    with Server("--agent", "script", *store, port=port) as first, piped(first.url) as process:
        feed(process, "text one\n")
        assert read_line(process) == "one\n"
        first.kill()
        wait_error(process, LOST)
        feed(process, "text two\n")
        with Server("--agent", "script", *store, port=port):
            assert read_line(process) == "two\n"
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE_S) == 0


def test_a_pipe_whose_turn_was_cut_by_a_kill_says_so_and_exits_1(
    store: list[str], tmp_path: Path, port: int
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Server(*store, port=port) as first, piped(first.url, "--yes") as process:
        feed(process, f"echo begun; read line < {fifo}\necho after\n")
        assert read_line(process) == "begun\n"
        first.kill()
        with Server(*store, port=port):
            assert process.stdin is not None
            process.stdin.close()
            assert read_line(process) == "after\n"
            assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        assert "\nturn interrupted\n" in process.stderr.read()
    with contextlib.suppress(OSError):  # the command outlives a server that is killed; now it ends
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def test_a_pipe_gives_up_in_the_end() -> None:
    with Server("--agent", "script") as server, piped(server.url, "--reconnect-for", "0.1") as process:
        feed(process, "text one\n")
        assert read_line(process) == "one\n"
        server.kill()
        assert process.wait(PATIENCE_S) == 1
        assert process.stderr is not None
        last = process.stderr.read().splitlines()[-1]
        assert last == (
            "Error: the connection was lost and not to be had again within 0.1 s: "
            f"cannot connect to {server.url}: connection refused"
        )


def test_a_signal_ends_the_wait_of_a_pipe() -> None:
    with Server("--agent", "script") as server, piped(server.url) as process:
        feed(process, "text one\n")
        assert read_line(process) == "one\n"
        server.kill()
        wait_error(process, LOST)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 143
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
