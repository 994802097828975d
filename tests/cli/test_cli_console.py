from __future__ import annotations

import io
import os
import pty
import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import pytest

from cli.processes import PATIENCE_S
from trunkline_cli.console import InputEnded, Line, PlainConsole, UserInput


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Running:
    """A plain console whose `run` runs, what it has put, and the other end of its input."""

    def __init__(self, console: PlainConsole, messages: queue.SimpleQueue[UserInput], write_fd: int) -> None:
        self.console = console
        self._messages = messages
        self._write_fd: int | None = write_fd

    def next(self) -> UserInput:
        return self._messages.get(timeout=PATIENCE_S)

    def type(self, data: bytes) -> None:
        assert self._write_fd is not None
        os.write(self._write_fd, data)

    def hang_up(self) -> None:
        assert self._write_fd is not None
        os.close(self._write_fd)
        self._write_fd = None

    def is_silent(self) -> bool:
        return self._messages.empty()


@contextmanager
def running(stdin: TextIO, write_fd: int) -> Iterator[Running]:
    console = PlainConsole(stdin, io.StringIO(), io.StringIO())
    messages: queue.SimpleQueue[UserInput] = queue.SimpleQueue()
    thread = threading.Thread(target=console.run, args=(messages.put,))
    thread.start()
    result = Running(console, messages, write_fd)
    try:
        yield result
    finally:
        console.stop()
        thread.join(PATIENCE_S)
        with ExitStack() as stack:
            stack.callback(stdin.close)
            if result._write_fd is not None:
                result.hang_up()


@pytest.fixture
def pipe() -> Iterator[Running]:
    read_fd, write_fd = os.pipe()
    with running(os.fdopen(read_fd), write_fd) as result:
        yield result


@pytest.fixture
def dumb_terminal() -> Iterator[Running]:
    master_fd, slave_fd = pty.openpty()
    with running(os.fdopen(slave_fd), master_fd) as result:
        yield result


def screen(*, is_terminal: bool) -> tuple[PlainConsole, io.StringIO, io.StringIO]:
    """A console that shows on two streams, and reads nothing."""
    stdout = FakeTerminal() if is_terminal else io.StringIO()
    stderr = io.StringIO()
    with open(os.devnull) as stdin:  # noqa: PTH123  # a descriptor is all that is needed of it
        return PlainConsole(stdin, stdout, stderr), stdout, stderr


def test_the_lines_of_a_pipe_come_when_they_are_wanted(pipe: Running) -> None:
    assert not pipe.console.interactive
    pipe.type(b"one\ntwo\r\nlast")
    pipe.hang_up()
    pipe.console.want_line()
    assert pipe.next() == Line("one")
    assert pipe.is_silent()
    pipe.console.want_line()
    assert pipe.next() == Line("two")
    pipe.console.want_line()
    assert pipe.next() == Line("last")
    pipe.console.want_line()
    assert pipe.next() == InputEnded()


def test_a_line_that_comes_in_pieces_is_one_line(pipe: Running) -> None:
    pipe.console.want_line()
    for byte in "żółw\n".encode():
        pipe.type(bytes([byte]))
    assert pipe.next() == Line("żółw")


def test_bytes_that_are_no_utf_8_are_replaced(pipe: Running) -> None:
    pipe.console.want_line()
    pipe.type(b"a\xffb\n")
    assert pipe.next() == Line("a\ufffdb")


def test_an_empty_pipe_ends(pipe: Running) -> None:
    pipe.hang_up()
    pipe.console.want_line()
    assert pipe.next() == InputEnded()


def test_a_console_that_waits_for_input_can_be_stopped(pipe: Running) -> None:
    pipe.console.want_line()  # and the fixture stops it


def test_a_user_at_a_terminal_types_when_they_like(dumb_terminal: Running) -> None:
    assert dumb_terminal.console.interactive
    dumb_terminal.type(b"one\ntwo\n")
    assert dumb_terminal.next() == Line("one")
    assert dumb_terminal.next() == Line("two")


def test_a_line_answers_the_question_before_it_and_the_next_does_not(dumb_terminal: Running) -> None:
    dumb_terminal.console.ask("Allow? ", 7)
    dumb_terminal.type(b"y\n")
    assert dumb_terminal.next() == Line("y", 7)
    dumb_terminal.type(b"z\n")
    assert dumb_terminal.next() == Line("z")


def test_ctrl_d_on_a_terminal_is_the_end(dumb_terminal: Running) -> None:
    dumb_terminal.type(b"\x04")
    assert dumb_terminal.next() == InputEnded()


def test_output_into_a_pipe_stays_as_it_came() -> None:
    console, stdout, stderr = screen(is_terminal=False)
    console.note("$ ls")
    console.write("\x1b[31ma\r\nb")
    console.note("exit 0")
    assert stdout.getvalue() == "\x1b[31ma\r\nb"
    assert stderr.getvalue() == "$ ls\nexit 0\n"


def test_a_line_of_output_is_ended_before_another_begins() -> None:
    console, stdout, _ = screen(is_terminal=False)
    console.break_line()
    console.write("a")
    console.break_line()
    console.break_line()
    console.write("b\n")
    console.break_line()
    assert stdout.getvalue() == "a\nb\n"


def test_on_a_terminal_notes_do_not_continue_output_and_nothing_acts() -> None:
    console, stdout, stderr = screen(is_terminal=True)
    console.write("\x1b[2Jhalf a line")
    console.note("exit 0")
    assert stdout.getvalue() == "half a line\n"
    assert stderr.getvalue() == "exit 0\n"


def test_a_question_without_an_answer_gets_its_line_ended() -> None:
    console, _, stderr = screen(is_terminal=True)
    console.stop_asking()
    console.ask("Allow? ", 1)
    console.stop_asking()
    console.stop_asking()
    assert stderr.getvalue() == "Allow? \n"


def test_a_secret_says_that_it_will_be_seen() -> None:
    console, _, stderr = screen(is_terminal=True)
    console.ask("Answer: ", 1, secret=True)
    assert "visible" in stderr.getvalue()
