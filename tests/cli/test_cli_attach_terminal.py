"""`trunkline attach` on a terminal: children on pseudo-terminals, and what is to be seen there."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.processes import PATIENCE_S, Server
from cli.screens import CTRL_C, CTRL_D, Terminal

PROMPT = re.compile(r"^> *$", re.MULTILINE)
BUSY = "running, Ctrl-C interrupts >"


@contextmanager
def attached(*args: str, **options: object) -> Iterator[Terminal]:
    """A terminal whose session is ready for a line."""
    with Terminal("attach", *args, **options) as terminal:  # type: ignore[arg-type]
        terminal.wait_until(lambda screen: PROMPT.search(screen) is not None, "to be ready")
        yield terminal


def joining(terminal: Terminal) -> list[str]:
    """Return the arguments with which another terminal joins this one's thread, as it says itself."""
    match = re.search(
        r"join it with: trunkline attach (\S+) --thread (\S+)", terminal.text.replace("\n", " ")
    )
    assert match is not None, terminal.text
    return [match[1], "--thread", match[2]]


def test_a_line_is_approved_run_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with attached(cwd=tmp_path, columns=120) as terminal:
        terminal.enter("ls")
        terminal.wait_for("$ ls", "Allow? [y]es/")
        terminal.enter("y")
        terminal.wait_for("a file", "exit 0\n>")
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0


def test_who_refuses_sees_the_command_declined() -> None:
    with attached() as terminal:
        terminal.enter("touch /nowhere/x")
        terminal.wait_for("Allow?")
        terminal.enter("perhaps")
        terminal.wait_for("type y,")
        terminal.enter("n")
        terminal.wait_for("\ndeclined\n>")


def test_two_terminals_share_a_thread(tmp_path: Path) -> None:
    with attached(columns=130, cwd=tmp_path) as alice, attached(*joining(alice), columns=130) as bob:
        alice.enter("echo hello there")
        alice.wait_for("Allow?")
        bob.wait_for("> echo hello there\n$ echo hello there", "Allow?")
        bob.enter("y")
        for terminal in (alice, bob):
            terminal.wait_for("\nhello there\nexit 0\n>")
        assert "settled by another client" in alice.text
        assert "settled by another client" not in bob.text
        bob.enter("echo $((6 * 7))")
        alice.wait_for("> echo $((6 * 7))", "Allow?")
        alice.enter("y")
        bob.wait_for("settled by another client", "\n42\nexit 0\n>")


def test_who_joins_a_running_turn_sees_it_from_its_beginning(server: Server) -> None:
    with attached(server.url) as alice:
        alice.enter("text before")
        alice.wait_for("\nbefore\n>")
        # One turn of four lines: pasted, so that its newlines do not end it.
        alice.enter("\x1b[200~say 3 8\nask first\nask second\n\x1b[201~")
        alice.wait_for("Allow?")
        with attached_mid_turn(*joining(alice)) as bob:
            bob.wait_for("before", "> ask second", "000000000000000100000002", "$ first", "Allow?")
            bob.enter("a")
            bob.wait_for("$ second", "Allow?")
            alice.wait_for("settled by another client", "$ second", "Allow?")
            alice.enter("y")
            bob.wait_for("pretended to run: second\nexit 0\n>")


@contextmanager
def attached_mid_turn(*args: str) -> Iterator[Terminal]:
    with Terminal("attach", *args) as terminal:
        yield terminal


def test_ctrl_c_interrupts_the_turn_and_the_next_one_leaves(server: Server) -> None:
    with attached(server.url) as terminal:
        terminal.enter("sleep 1000")
        terminal.wait_for(BUSY)
        terminal.type(CTRL_C)
        terminal.wait_for("interrupting", "turn interrupted\n>")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 130


def test_a_second_ctrl_c_leaves_while_the_turn_still_runs(tmp_path: Path) -> None:
    # A command that does not end when it is told to keeps the turn running.
    with attached("--yes", cwd=tmp_path) as terminal:
        terminal.enter("trap '' TERM INT; echo deaf; while :; do sleep 1; done")
        terminal.wait_for("\ndeaf\n")
        terminal.type(CTRL_C)
        terminal.wait_for("interrupting; Ctrl-C again leaves")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 130


def test_who_is_impatient_leaves_no_command_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(held), attached("--yes", cwd=tmp_path) as terminal:
        terminal.enter("exec 3> held; trap '' TERM INT; echo deaf; while :; do sleep 1; done")
        terminal.wait_for("\ndeaf\n")
        while terminal.process.poll() is None:
            terminal.type(CTRL_C)
            with contextlib.suppress(subprocess.TimeoutExpired):
                terminal.process.wait(0.05)
        # A pipe ends when nobody holds it any more.
        assert select.select([held], [], [], PATIENCE_S)[0], "the command is still there"
        assert os.read(held, 1) == b""


def test_ctrl_c_clears_a_line_before_it_leaves(server: Server) -> None:
    with attached(server.url) as terminal:
        terminal.type("half a line")
        terminal.wait_for("> half a line")
        terminal.type(CTRL_C)
        terminal.wait_until(lambda screen: "half a line" not in screen, "to clear the line")
        terminal.type(CTRL_C)
        assert terminal.wait_end() == 130


def test_what_is_typed_while_a_turn_runs_goes_to_it(server: Server) -> None:
    with attached(server.url) as terminal:
        terminal.enter("steered")
        terminal.wait_for(BUSY)
        terminal.enter("left a bit")
        terminal.wait_for("> left a bit\nleft a bit\n>")


def test_output_does_not_garble_what_is_being_typed(server: Server) -> None:
    with attached(server.url, columns=130) as alice, attached(*joining(alice), columns=130) as bob:
        bob.type("half a line")
        bob.wait_for("> half a line")
        alice.enter("say 200 40")
        bob.wait_for("00000199", "\n> half a line")
        bob.type(", the rest")
        bob.wait_for("\n> half a line, the rest")
        bob.type("\x15")  # Ctrl-U
        bob.wait_until(lambda screen: PROMPT.search(screen) is not None, "to clear the line")
        assert "half a line" not in bob.text


def test_a_question_in_between_keeps_what_was_being_typed(server: Server) -> None:
    with attached(server.url, columns=130) as alice, attached(*joining(alice), columns=130) as bob:
        bob.type("a draft")
        bob.wait_for("> a draft")
        alice.enter("ask rm")
        bob.wait_until(lambda screen: screen.endswith("Allow? [y]es/[a]lways/[n]o/[c]ancel"), "to ask")
        assert "a draft" not in bob.text
        alice.wait_for("Allow?")
        alice.enter("n")
        bob.wait_for("declined\n> a draft")


def test_a_question_of_the_agents_is_answered(server: Server) -> None:
    with attached(server.url) as terminal:
        terminal.enter("question What is your name?")
        terminal.wait_for("What is your name?", "Answer:")
        terminal.enter("Ada")
        terminal.wait_for("Answer: Ada\nAda\n>")


def test_a_line_that_has_not_ended_is_shown_as_it_grows(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with attached("--yes", columns=60, cwd=tmp_path) as terminal:
        terminal.enter("printf 'one, '; cat fifo")
        terminal.wait_for(f"\none,\n{BUSY}")
        with fifo.open("w") as writer:
            writer.write("two, ")
            writer.flush()
            terminal.wait_for(f"\none, two,\n{BUSY}")
            writer.write(f"{'x' * 100}\nlast")
        terminal.wait_for(f"one, two, {'x' * 50}\n{'x' * 50}\nlast\nexit 0\n>")


def test_a_line_longer_than_the_screen_is_shown_to_its_end(server: Server) -> None:
    with attached(server.url, columns=40, rows=12) as terminal:
        terminal.enter("say 30 40")
        terminal.wait_for("00000029", "\n>")
        rows = [row for row in terminal.text.split("\n") if row.startswith("000000")]
        assert [int(row[:8]) for row in rows] == list(range(30 - len(rows), 30))


def test_what_acts_on_a_terminal_is_not_let_through(tmp_path: Path) -> None:
    with attached("--yes", cwd=tmp_path) as terminal:
        terminal.enter(r"printf '\033]0;title\007\033[2J\033[1;1Hleft\n50%%\r100%%\n'")
        terminal.wait_for("\nleft\n100%\nexit 0\n>")
        assert b"\x1b[2J" not in terminal.raw
        assert b"\x1b]0;title" not in terminal.raw


def test_colours_are_for_those_who_want_them(server: Server) -> None:
    with attached(server.url) as terminal:
        terminal.enter("fail no luck")
        terminal.wait_for("turn failed: no luck")
        assert b"\x1b[31mturn failed" in terminal.raw
    with attached(server.url, env={"NO_COLOR": "1"}) as terminal:
        terminal.enter("fail no luck")
        terminal.wait_for("turn failed: no luck")
        assert b"\x1b[31m" not in terminal.raw


def test_a_dumb_terminal_is_served_without_an_editor() -> None:
    with Terminal("attach", env={"TERM": "dumb"}) as terminal:
        terminal.wait_for("Ctrl-D leaves")
        terminal.enter("echo one; sleep 1000")
        terminal.wait_for("$ echo one", "Allow?")
        terminal.enter("y")
        terminal.wait_for("\none")
        terminal.type(CTRL_C)
        terminal.wait_for("turn interrupted")
        assert b"\x1b" not in terminal.raw
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0


def test_output_can_be_piped_while_somebody_types(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output:
        terminal = Terminal("attach", server.url, stdout=output.fileno())
    with terminal:
        terminal.wait_for("Ctrl-D leaves")
        terminal.enter("ask rm")
        terminal.wait_for("$ rm", "Allow?")
        terminal.enter("y")
        terminal.wait_for("exit 0")
        terminal.type(CTRL_D)
        assert terminal.wait_end() == 0
    assert (tmp_path / "out").read_text() == "pretended to run: rm\n"


def test_a_server_that_dies_is_one_line_and_the_terminal_is_as_before() -> None:
    with (
        Server("--agent", "script") as server,
        attached(server.url, "--reconnect-for", "0", columns=120) as terminal,
    ):
        server.kill()
        assert terminal.wait_end() == 1
        assert terminal.text.split("\n")[-1].startswith("Error: the connection to the server is lost: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_in_order(server: Server, number: signal.Signals, code: int) -> None:
    with attached(server.url) as terminal:
        terminal.process.send_signal(number)
        assert terminal.process.wait(PATIENCE_S) == code
