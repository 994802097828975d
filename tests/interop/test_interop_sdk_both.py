"""What Codex's Python SDK is good for, at agents of this server and, through the gateway, at Codex itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from codex_stand_in import CodexHome, app_server_command, codex_binary
from interop.sdk import (
    AgentMessageDeltaNotification,
    ApprovalHandler,
    CodexClient,
    ItemCompletedNotification,
    Notification,
    Thread,
    TurnCompletedNotification,
    TurnHandle,
    UnknownNotification,
    sdk_client,
    start_thread,
)


class InProcess:
    """The agents of this server, and a store that outlives it."""

    endless = "steered"
    """A turn that ends when it is steered or interrupted, and says what it was steered to."""

    def __init__(self, place: Path) -> None:
        self._store = str(place / "threads.sqlite")

    def client(
        self, approve: ApprovalHandler | None = None, agent: str = "script"
    ) -> AbstractContextManager[CodexClient]:
        """Start a server, and a client of it."""
        return sdk_client("--agent", agent, "--store", self._store, approve=approve)

    def run(self, command: str) -> str:
        """Return the turn that runs a command, for the agent `shell`."""
        return command

    def steered(self) -> None:
        """Go on: the turn has been steered."""


class Behind:
    """Codex's app-server, and its threads."""

    endless = "hold on"

    def __init__(self, home: CodexHome) -> None:
        self._home = home

    def client(
        self, approve: ApprovalHandler | None = None, agent: str = ""
    ) -> AbstractContextManager[CodexClient]:
        command = shlex.join(app_server_command())
        return sdk_client("--upstream", command, approve=approve, env=self._home.environment())

    def run(self, command: str) -> str:
        return f"ask {command}"

    def steered(self) -> None:
        self._home.model.let_go("on")


@pytest.fixture(params=["in-process", "gateway"], scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InProcess | Behind]:
    """A server of each kind in turn."""
    if request.param == "in-process":
        yield InProcess(tmp_path_factory.mktemp("store"))
    elif codex_binary() is None:
        pytest.skip("needs the package openai-codex-cli-bin: pip install '.[interop]'")
    else:
        with CodexHome() as home:
            yield Behind(home)


@pytest.fixture(scope="module")
def client(server: InProcess | Behind) -> Iterator[CodexClient]:
    with server.client() as client:
        yield client


@pytest.fixture
def thread(client: CodexClient) -> Thread:
    return start_thread(client)


class Reviewer:
    """An approval handler that declines what touches, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        assert params is not None
        self.asked.append((method, params["command"]))
        return {"decision": "decline" if "touch" in params["command"] else "accept"}


def test_a_turn_gives_its_final_response_and_every_item(thread: Thread) -> None:
    result = thread.run("text first\ntext second")

    assert result.final_response == "second"
    assert result.status.value == "completed"
    assert [item.root.type for item in result.items] == ["userMessage", "agentMessage", "agentMessage"]


def test_a_turn_streams_what_is_said(thread: Thread) -> None:
    events = list(thread.turn("say 50 9").stream())

    payloads = [event.payload for event in events]
    pieces = [each.delta for each in payloads if isinstance(each, AgentMessageDeltaNotification)]
    read = thread.read(include_turns=True).thread.turns[0].items[-1].root
    assert len(pieces) == 50
    assert read.type == "agentMessage"
    assert "".join(pieces) == read.text
    assert events[-1].method == "turn/completed"
    assert not [event.method for event in events if isinstance(event.payload, UnknownNotification)]


def test_a_turn_that_fails_raises_with_the_reason(thread: Thread) -> None:
    with pytest.raises(RuntimeError, match="out of paper"):
        thread.run("fail out of paper")

    assert thread.run("text again").final_response == "again"


def test_an_interrupted_turn_ends_as_interrupted(server: InProcess | Behind, thread: Thread) -> None:
    turn, events = begin(thread, server.endless)

    turn.interrupt()

    end = list(events)[-1].payload
    assert isinstance(end, TurnCompletedNotification)
    assert end.turn.status.value == "interrupted"


def test_a_steer_reaches_the_turn_that_runs(server: InProcess | Behind, thread: Thread) -> None:
    turn, events = begin(thread, server.endless)

    steered = turn.steer("to the left")
    server.steered()

    assert steered.turn_id == turn.id
    said = [
        event.payload.item.root for event in events if isinstance(event.payload, ItemCompletedNotification)
    ]
    assert said[-1].type == "agentMessage"
    assert said[-1].text == "to the left"


def begin(thread: Thread, text: str) -> tuple[TurnHandle, Iterator[Notification]]:
    """Start a turn; return it, and what comes of it once it can be steered: Codex may take a moment."""
    turn = thread.turn(text)
    events = turn.stream()
    for event in events:
        if event.method == "item/completed":  # what the user said
            break
    return turn, events


def test_a_thread_is_resumed_in_a_second_process(server: InProcess | Behind) -> None:
    with server.client() as client:
        thread_id = start_thread(client).id
        before = Thread(client, thread_id).run("text said before")

    with server.client() as client:
        resumed = client.thread_resume(thread_id).thread
        assert [turn.id for turn in resumed.turns] == [before.id]
        thread = Thread(client, thread_id)
        after = thread.run("text said after")
        turns = thread.read(include_turns=True).thread.turns

    assert after.final_response == "said after"
    assert [turn.id for turn in turns] == [before.id, after.id]


def test_threads_are_listed_with_what_was_asked_first(client: CodexClient) -> None:
    threads = [start_thread(client) for _ in range(2)]
    for number, thread in enumerate(threads):
        thread.run(f"text number {number}")

    listed = client.thread_list({}).data

    assert {(each.id, each.preview) for each in listed} >= {
        (thread.id, f"text number {number}") for number, thread in enumerate(threads)
    }


def test_a_fork_goes_its_own_way_with_what_was_said_before(client: CodexClient, thread: Thread) -> None:
    thread.run("text before")
    fork = Thread(client, client.thread_fork(thread.id).thread.id)
    fork.run("text after")

    assert previews(fork) == ["text before", "text after"]
    assert previews(thread) == ["text before"]


def previews(thread: Thread) -> list[str]:
    """Return what the user said in each turn."""
    turns = thread.read(include_turns=True).thread.turns
    return [text_of(turn.items[0].root) for turn in turns]


def text_of(item: Any) -> str:
    text: str = item.content[0].root.text
    return text


def test_an_archived_thread_is_listed_apart_and_comes_back(client: CodexClient, thread: Thread) -> None:
    thread.run("text keep this")

    client.thread_archive(thread.id)

    assert thread.id not in [each.id for each in client.thread_list({}).data]
    assert [each.id for each in client.thread_list({"archived": True}).data] == [thread.id]
    client.thread_unarchive(thread.id)
    client.thread_resume(thread.id)
    assert thread.run("text and go on").final_response == "and go on"


def test_the_handler_is_asked_and_what_it_accepts_is_run(server: InProcess | Behind, tmp_path: Path) -> None:
    reviewer = Reviewer()
    with server.client(reviewer, agent="shell") as client:
        thread = start_thread(client, cwd=str(tmp_path))
        [accepted] = commands(thread.run(server.run("echo approved > note; cat note")).items)
        [declined] = commands(thread.run(server.run("touch done")).items)

    assert [method for method, _ in reviewer.asked] == ["item/commandExecution/requestApproval"] * 2
    assert [command.status.value for command in (accepted, declined)] == ["completed", "declined"]
    assert (accepted.exit_code, accepted.aggregated_output) == (0, "approved\n")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def commands(items: list[Any]) -> list[Any]:
    return [item.root for item in items if item.root.type == "commandExecution"]
