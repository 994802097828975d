"""The testing kit says what came instead, leads turns, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trunkline.testing.client as client_module
from children import environment
from trunkline import AppServer, Config, ConfigError, Decision, TurnInterrupted
from trunkline.testing import Client, RunningServer, ScriptedAgent, Wire, WireClosed, running_server
from trunkline.testing.client import Message
from trunkline.transports.base import Closed


@pytest.fixture(params=["websocket", "in-process"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server(transport=request.param) as running:
        yield running


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.05)


class _Canned:
    """A wire on which messages lie, and then nothing more comes, or the end."""

    def __init__(self, *texts: str, closed: Closed | None = None) -> None:
        self._texts = list(texts)
        self._closed = closed

    def send(self, text: str) -> None: ...

    def receive(self, timeout_s: float) -> list[str]:
        if self._texts:
            return [self._texts.pop(0)]
        if self._closed is not None:
            raise WireClosed(self._closed)
        raise TimeoutError

    def close(self) -> None: ...

    def cut(self) -> None: ...


def canned(*texts: str, closed: Closed | None = None) -> Client:
    wire: Wire = _Canned(*texts, closed=closed)
    return Client(wire, "alice")


def test_who_watches_is_shown_all_that_clients_receive_and_what_it_may_answer(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str | None, tuple[str, ...]]] = []

    def watch(message: Message, answers: Iterable[str]) -> None:
        seen.append((message.get("method"), tuple(answers)))

    monkeypatch.setattr(Client, "watch", staticmethod(watch))
    alice = server.connect("alice")
    alice.run_turn(alice.start_thread(), "text hello")

    assert {(None, ("initialize",)), (None, ("turn/start",)), ("item/completed", ())} <= set(seen)


@pytest.mark.usefixtures("_impatient")
def test_a_wait_in_vain_names_who_waited_for_what_and_what_came() -> None:
    client = canned('{"method": "turn/started", "params": {"threadId": "t"}}', '{"id": 7, "result": {}}')
    with pytest.raises(AssertionError) as caught:
        client.wait("turn/completed", threadId="t")
    assert str(caught.value) == (
        "alice: turn/completed {'threadId': 't'} did not come; 2 unread of 2:\n"
        '  {"method": "turn/started", "params": {"threadId": "t"}}\n'
        '  {"id": 7, "result": {}}'
    )


@pytest.mark.usefixtures("_impatient")
def test_a_failure_shows_the_newest_messages_each_shortened() -> None:
    said = '{"method": "acme/said", "params": {"text": "%d%s"}}'
    texts = [said % (number, "x" * 900) for number in range(40)]
    with pytest.raises(AssertionError) as caught:
        canned(*texts).wait("turn/completed")
    lines = str(caught.value).split("\n")
    assert lines[0].endswith("40 unread (the last 12) of 40:")
    assert '"39x' in lines[-1]
    assert len(lines) == 13
    assert max(map(len, lines)) < 220


def test_a_connection_that_is_closed_ends_a_wait_at_once_and_says_how() -> None:
    client = canned(closed=Closed(1013, "too slow"))
    with pytest.raises(AssertionError, match=r"did not come: closed with \(1013, 'too slow'\)"):
        client.wait("turn/completed")
    assert client.closed == Closed(1013, "too slow")


def test_a_wait_takes_what_fits_and_leaves_the_rest_in_order(server: RunningServer) -> None:
    client = server.connect("alice")
    thread_id = client.start_thread()
    client.run_turn(thread_id, "text one")
    before = len(client.unread)
    client.wait("item/agentMessage/delta")
    assert len(client.unread) == before - 1
    seqs = [message["seq"] for message in client.unread if "seq" in message]
    assert seqs == sorted(seqs)


def test_a_refusal_and_a_result_are_not_taken_for_each_other(server: RunningServer) -> None:
    client = server.connect("alice")
    with pytest.raises(AssertionError, match=r"alice: thread/resume was refused: .*no rollout"):
        client.request("thread/resume", threadId=client_module.UNKNOWN_ID)
    with pytest.raises(AssertionError, match="alice: thread/list was not refused"):
        client.refused("thread/list")


def test_what_should_not_have_come_is_shown(server: RunningServer) -> None:
    client = server.connect("alice")
    client.drain()
    client.expect_nothing()
    thread_id = client.request("thread/start")["thread"]["id"]
    with pytest.raises(AssertionError, match="thread/started"):
        client.expect_nothing(thread_id)


def test_every_message_of_a_run_can_be_looked_at(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[Any, tuple[str, ...]]] = []
    monkeypatch.setattr(Client, "watch", lambda message, asked: looked.append((message, tuple(asked))))
    client = server.connect("alice")
    assert looked[0][1] == ("initialize",)
    assert [message for message, _ in looked] == client.arrived


def test_the_first_turns_run_the_scripts_and_the_next_ones_are_led() -> None:
    agent = ScriptedAgent(lambda turn: turn.say("one"), lambda turn: turn.say("two"))
    with running_server(agent=agent) as server:
        client = server.connect("alice")
        thread_id = client.start_thread()
        for text in ("one", "two"):
            client.run_turn(thread_id, "")
            assert client.wait("item/agentMessage/delta")["params"]["delta"] == text
        turn_id = client.start_turn(thread_id, "")
        turn = agent.next_turn()
        turn.speak("three")
        turn.do(lambda handle: handle.say("and more"))
        turn.end()
        assert client.wait_turn(turn_id)["status"] == "completed"


def test_a_prompt_of_a_turn_that_is_interrupted_says_so() -> None:
    agent = ScriptedAgent()
    with running_server(agent=agent) as server:
        client = server.connect("alice")
        thread_id = client.start_thread()
        turn_id = client.start_turn(thread_id, "")
        turn = agent.next_turn()
        first, second = turn.ask("ls"), turn.ask("df")
        prompts = [client.wait("item/commandExecution/requestApproval") for _ in range(2)]
        client.decide(next(prompt for prompt in prompts if prompt["params"]["command"] == "ls"))
        assert first.result(30) is Decision.ACCEPT
        client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)
        with pytest.raises(TurnInterrupted):
            second.result(30)


def test_a_turn_that_does_not_begin_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.testing.agents.PATIENCE_S", 0.01)
    with pytest.raises(AssertionError, match="no turn has begun"):
        ScriptedAgent().next_turn()


def test_a_server_of_ones_own_making_runs_for_a_block_and_leaves_nothing() -> None:
    before = threading.active_count()
    server = AppServer(Config(listen=("ws://127.0.0.1:0",), agent="script"))
    with RunningServer(server) as running:
        client = running.connect("alice")
        assert running.clients == [client]
        assert running.report is None
    assert running.report is not None
    assert running.report.is_clean
    assert threading.active_count() == before


def test_a_setting_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="workers"):
        running_server(workers=0)


def test_neither_the_library_nor_the_kit_imports_pytest() -> None:
    code = "import sys, trunkline, trunkline.testing, trunkline.aio; sys.exit('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60)
    assert done.returncode == 0


def test_the_library_alone_loads_neither_the_kit_nor_asyncio_code() -> None:
    code = "import sys, trunkline; sys.exit(bool({'trunkline.testing', 'trunkline.aio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60)
    assert done.returncode == 0


FIXTURES = """
import threading
import pytest
from trunkline.testing.fixtures import nothing_left, serve

servers = []

def test_a_server_runs_and_is_stopped(nothing_left, serve):
    server = serve(unload_after_s=None)
    assert server.connect("alice").start_thread()

def test_what_is_left_fails_the_test(nothing_left):
    from trunkline import AppServer, Config
    servers.append(AppServer(Config(agent="script")))
    servers[0].start()

def test_the_end():
    servers[0].stop(grace_s=0)
"""


def test_the_fixtures_stop_servers_and_fail_a_test_that_leaves_something(tmp_path: Path) -> None:
    (tmp_path / "test_host.py").write_text(FIXTURES)
    (tmp_path / "conftest.py").write_text(
        "import trunkline.testing.fixtures\ntrunkline.testing.fixtures.PATIENCE_S = 0.05\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env=environment(),
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert "OS threads are left: ['trunkline" in done.stdout, done.stdout
    assert "3 passed, 1 error" in done.stdout, done.stdout
