"""Codex's Python SDK drives `trunkline serve --listen stdio://` in the place of `codex app-server`.

Here is what only the agents of this server can show; what it is good for at any: test_interop_sdk_both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop.sdk import (
    AgentMessageDeltaNotification,
    Codex,
    CodexClient,
    InvalidRequestError,
    Thread,
    UnknownNotification,
    closing_pipes,
    sdk_client,
    sdk_config,
    start_thread,
)


@pytest.fixture
def client() -> Iterator[CodexClient]:
    """The SDK with a server and its script agent."""
    with sdk_client("--agent", "script") as client:
        yield client


@pytest.fixture
def thread(client: CodexClient) -> Thread:
    """A thread of the script agent."""
    return start_thread(client)


class Reviewer:
    """An approval handler that always gives the same answer, and keeps what it was asked."""

    def __init__(self, result: dict[str, Any]) -> None:
        self._result = result
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        assert params is not None
        self.asked.append((method, params))
        return self._result


def test_the_first_example_of_the_sdk_runs_as_it_is_written() -> None:
    with Codex(sdk_config("--agent", "script")) as codex, closing_pipes(codex._client):
        thread = codex.thread_start()
        result = thread.run("text This is a project.")

    assert result.final_response == "This is a project."
    assert result.status.value == "completed"


def test_the_server_says_who_it_is_and_which_protocol_it_speaks() -> None:
    with Codex(sdk_config("--agent", "script")) as codex, closing_pipes(codex._client):
        metadata = codex.metadata

    assert metadata.serverInfo is not None
    assert metadata.serverInfo.name == "trunkline"
    # Older ones are refused the newer options before they are even sent.
    assert tuple(int(part) for part in (metadata.serverInfo.version or "").split(".")) >= (0, 151, 0)


def test_a_turn_gives_its_final_response_and_every_item(thread: Thread) -> None:
    result = thread.run("text first\nsay 3 9")

    assert result.final_response == "00000000 00000001 00000002 "
    assert [item.root.type for item in result.items] == ["userMessage", "agentMessage", "agentMessage"]
    assert result.duration_ms is not None


def test_a_turn_streams_the_pieces_of_what_is_said(thread: Thread) -> None:
    events = list(thread.turn("say 5 9").stream())

    payloads = [event.payload for event in events]
    pieces = [each.delta for each in payloads if isinstance(each, AgentMessageDeltaNotification)]
    assert pieces == [f"{number:08} " for number in range(5)]
    assert events[0].method == "turn/started"
    assert events[-1].method == "turn/completed"


def test_every_event_of_a_turn_is_of_a_kind_the_sdk_knows(thread: Thread) -> None:
    events = list(thread.turn("text hello\nask ls\npatch a.txt\nquestion why").stream())

    assert not [event.method for event in events if isinstance(event.payload, UnknownNotification)]


def test_an_interrupt_of_no_turn_is_an_invalid_request(thread: Thread) -> None:
    turn = thread.turn("text done")
    turn.run()

    with pytest.raises(InvalidRequestError, match="no active turn to interrupt"):
        turn.interrupt()


def test_a_thread_reads_back_what_was_said(thread: Thread) -> None:
    result = thread.run("text remember")

    read = thread.read(include_turns=True).thread

    assert read.turns[0].id == result.id
    assert [item.root for item in read.turns[0].items] == [item.root for item in result.items]


def test_a_thread_takes_a_name(thread: Thread) -> None:
    thread.set_name("  a good name ")

    assert thread.read().thread.name == "a good name"


def test_an_answer_that_is_none_refuses_when_there_is_nobody_else_to_ask(tmp_path: Path) -> None:
    with sdk_client("--agent", "shell", approve=Reviewer({})) as client:
        result = start_thread(client, cwd=str(tmp_path)).run("touch done")

    command = result.items[-1].root
    assert command.type == "commandExecution"
    assert command.status.value == "failed"
    assert not (tmp_path / "done").exists()


def test_the_handler_answers_a_question() -> None:
    reviewer = Reviewer({"answers": {"answer": {"answers": ["because"]}}})
    with sdk_client("--agent", "script", approve=reviewer) as client:
        result = start_thread(client).run("question why")

    assert [method for method, _ in reviewer.asked] == ["item/tool/requestUserInput"]
    assert result.final_response == "because"
