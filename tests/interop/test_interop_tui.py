"""The Codex terminal client, on a terminal, attached to an agent of this server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Serve
from houses import LocalHouse, Puppets
from interop.tui import ESCAPE, SAID, CodexTerminal, needs_codex

pytestmark = needs_codex


@pytest.fixture
def terminal(house: LocalHouse, tmp_path: Path) -> Iterator[CodexTerminal]:
    """The client, ready to be typed into, at a server with the script agent."""
    with CodexTerminal(house.url, tmp_path) as terminal:
        terminal.wait_for("Ask Codex to do anything", "script default")
        yield terminal


def the_thread(house: LocalHouse) -> str:
    """Return the one thread that is loaded."""
    [thread_id] = house.connect("onlooker").request("thread/loaded/list")["data"]
    return str(thread_id)


def test_it_starts_and_ends_without_an_error(terminal: CodexTerminal) -> None:
    assert "rror" not in terminal.text

    assert terminal.leave() == 0


def test_it_shows_a_turn_while_it_streams(stage: LocalHouse, puppets: Puppets, tmp_path: Path) -> None:
    with CodexTerminal(stage.url, tmp_path) as terminal:
        terminal.wait_for("Ask Codex to do anything")
        terminal.send("tell me")
        play = puppets.next()
        play.do(lambda turn: play.speak("a first line\n"))
        screen = terminal.wait_for("a first line")
        assert "a last line" not in screen
        play.do(lambda turn: play.speak("a last line\n"))
        play.end()

        terminal.wait_for("a first line", "a last line", "Worked for")


def test_it_shows_an_approval_and_what_comes_of_accepting_it(terminal: CodexTerminal) -> None:
    terminal.send("ask make install")

    terminal.wait_for("Would you like to run the following command?", "$ make install")
    terminal.decide("y")

    terminal.wait_for("You approved codex to run make install", "pretended to run: make install")


def test_it_runs_no_command_that_is_not_accepted(serve: Serve, tmp_path: Path) -> None:
    house = serve(agent="shell", cwd=tmp_path)
    with CodexTerminal(house.url, tmp_path) as terminal:
        terminal.wait_for("Ask Codex to do anything")
        terminal.send("touch done")
        terminal.wait_for("Would you like to run the following command?", "$ touch done")
        terminal.decide("d")
        terminal.wait_for("Worked for")
    client = house.connect()
    [turn] = client.request("thread/read", threadId=the_thread(house), includeTurns=True)["thread"]["turns"]
    assert turn["items"][-1]["status"] == "declined"
    assert not (tmp_path / "done").exists()


def test_it_shows_the_file_change_that_is_to_be_approved(terminal: CodexTerminal) -> None:
    terminal.send("patch notes.txt")

    terminal.wait_for("Would you like to make the following edits?", "Added notes.txt (+1 -0)")
    terminal.decide("y")

    terminal.wait_for("Worked for")


def test_it_asks_what_the_agent_asks(terminal: CodexTerminal) -> None:
    terminal.send("question Which colour?")
    terminal.wait_for("Question 1/1", "Which colour?")
    terminal.type("blue")
    terminal.wait_for(f"{SAID}blue")
    terminal.type("\r")

    terminal.wait_for("• user_note: blue")


def test_escape_interrupts_the_turn(terminal: CodexTerminal, house: LocalHouse) -> None:
    terminal.send("sleep 1000")
    terminal.wait_for("esc to interrupt")
    terminal.type(ESCAPE)

    terminal.wait_for("interrupted")
    client = house.connect()
    thread = client.request("thread/read", threadId=the_thread(house), includeTurns=True)["thread"]
    assert [turn["status"] for turn in thread["turns"]] == ["interrupted"]


def test_it_shows_the_turns_of_another_client(terminal: CodexTerminal, house: LocalHouse) -> None:
    thread_id = the_thread(house)

    house.connect("bob").start_turn(thread_id, "text said by somebody else")

    terminal.wait_for(f"{SAID}text said by somebody else", "• said by somebody else")


def test_a_question_closes_when_another_client_has_answered_it(
    terminal: CodexTerminal, house: LocalHouse
) -> None:
    bob = house.connect("bob")
    bob.resume(thread_id := the_thread(house))
    bob.start_turn(thread_id, "ask make install")
    terminal.wait_for("Would you like to run the following command?")

    bob.decide(bob.wait("item/commandExecution/requestApproval"))

    screen = terminal.wait_for("pretended to run: make install")
    assert "Would you like" not in screen


def test_it_resumes_a_thread_with_what_was_said_in_it(house: LocalHouse, tmp_path: Path) -> None:
    bob = house.connect("bob")
    thread_id = bob.start_thread()
    bob.run_turn(thread_id, "text said before")

    with CodexTerminal(house.url, tmp_path, "resume", thread_id) as terminal:
        terminal.wait_for("• said before", "Ask Codex to do anything")
        bob.start_turn(thread_id, "text said after")

        terminal.wait_for("• said before", "• said after")
