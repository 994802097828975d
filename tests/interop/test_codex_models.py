"""The check that everything passes which the servers of the tests send."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import codex_models
from children import ROOT, TRAFFIC, environment
from cli.processes import Server, run
from codex_models import check_message
from conftest import Serve
from gateway.upstreams import FAKE
from helpers import Client, Message
from houses import LocalHouse
from traffic.recording import SUFFIX
from transports.raw import TEXT, frame, request
from trunkline.local.conversation_engine import ConversationEngine
from wires import PATIENCE_S, WebSocketWire

pytestmark = pytest.mark.skipif(
    not codex_models.are_installed(), reason="needs the packages of the extra: pip install '.[interop]'"
)

AT = {"emittedAtMs": 1}
IDS = {"threadId": "t", "turnId": "u"}
MESSAGE_ITEM = {"type": "agentMessage", "id": "i", "text": "hello"}


def notification(method: str, **params: object) -> Message:
    return {"method": method, "params": params, **AT}


def prompt(method: str, **params: object) -> Message:
    return {"id": 0, "method": method, "params": params}


FITTING = [
    (notification("item/completed", **IDS, completedAtMs=1, item=MESSAGE_ITEM), ""),
    (prompt("item/fileChange/requestApproval", **IDS, itemId="i", startedAtMs=1), ""),
    ({"id": 1, "result": {"status": "unsubscribed"}}, "thread/unsubscribe"),
    ({"id": 1, "result": {"data": []}}, "collaborationMode/list"),
    ({"id": 1, "error": {"code": -32600, "message": "no"}}, "thread/read"),
]

BROKEN = [
    (notification("item/completed", **IDS, item=MESSAGE_ITEM), ""),
    (notification("item/forgotten", **IDS), ""),
    ({"method": "thread/closed", "params": {"threadId": 5}, **AT}, ""),
    (prompt("item/fileChange/requestApproval", **IDS, itemId="i"), ""),
    (prompt("item/lookTheOtherWay", **IDS), ""),
    ({"method": "thread/closed", **AT}, ""),
    ({"method": "item/fileChange/requestApproval", "id": 0}, ""),
    ({"method": 5, "params": {}, **AT}, ""),
    ({"id": 1}, "thread/unsubscribe"),
    ({"id": 1, "result": {"status": "gone"}}, "thread/unsubscribe"),
    ({"id": 1, "result": {"data": None}}, "collaborationMode/list"),
    ({"id": 1, "error": {"code": "-32600", "message": "no"}}, "thread/read"),
]


INITIALIZE = '{"id":1,"method":"initialize","params":{"clientInfo":{"name":"raw","version":"1"}}}'
START = '{"id":2,"method":"thread/start","params":{}}'


def recorded() -> list[Path]:
    return list(Path(os.environ[TRAFFIC]).glob(f"*{SUFFIX}"))


def connect(server: Server) -> Client:
    client = Client(WebSocketWire(server.url), "alice")
    client.initialize()
    return client


def read_until(sock: socket.socket, text: bytes) -> None:
    data = b""
    while text not in data:
        more = sock.recv(65_536)
        assert more, f"{text!r} is not in {data!r}"
        data += more


def what(case: object) -> str | None:
    return str(case.get("method", "answer")) if isinstance(case, dict) else None


@pytest.mark.parametrize(("message", "method"), FITTING, ids=what)
def test_a_message_that_codex_reads_passes(message: Message, method: str) -> None:
    check_message(message, [method] if method else [])


@pytest.mark.parametrize(("message", "method"), BROKEN, ids=what)
def test_a_message_that_codex_cannot_read_does_not_pass(message: Message, method: str) -> None:
    with pytest.raises(AssertionError, match=r"Codex|no notification"):
        check_message(message, [method] if method else [])


def test_a_notification_without_its_time_does_not_pass() -> None:
    message = notification("thread/closed", threadId="t")
    del message["emittedAtMs"]

    with pytest.raises(AssertionError, match="no time of emission"):
        check_message(message)


def test_an_answer_passes_if_it_fits_one_of_the_requests_of_its_id() -> None:
    answer = {"id": 1, "result": {"status": "unsubscribed"}}

    check_message(answer, ["thread/list", "thread/unsubscribe"])
    with pytest.raises(AssertionError):
        check_message(answer, ["thread/list"])


# What the servers of a test send is checked behind it: a test with this mark fails if nothing is found.

thoughtful = pytest.mark.beyond_codex(
    "thread/start", "thread/started", because="its server tells a status that Codex has not"
)
AGENT = ("--agent", "thoughtful:Thoughtful")
PLACE = (Path(__file__).parent,)


@pytest.fixture
def thoughtful_house(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> LocalHouse:
    monkeypatch.setattr(ConversationEngine, "_compute_status", lambda _: {"type": "thoughtful"})
    return serve()


@thoughtful
def test_what_this_process_sends_is_checked(thoughtful_house: LocalHouse) -> None:
    thoughtful_house.connect().start_thread()


@thoughtful
def test_so_is_what_it_sends_to_a_client_that_nobody_listens_at(thoughtful_house: LocalHouse) -> None:
    host, _, port = thoughtful_house.url.removeprefix("ws://").rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        client.sendall(request())
        for message in (INITIALIZE, START):
            client.sendall(frame(TEXT, message.encode()))
        read_until(client, b"thread/started")


@thoughtful
def test_so_is_what_it_hands_to_a_client_within_it(thoughtful_house: LocalHouse) -> None:
    with thoughtful_house.server.connect() as connection:
        connection.initialize("host").get(timeout=PATIENCE_S)
        connection.request("thread/start").get(timeout=PATIENCE_S)


@thoughtful
def test_so_is_what_a_child_sends() -> None:
    with Server(*AGENT, path=PLACE) as server:
        client = connect(server)
        client.start_thread()
        client.close()


@thoughtful
def test_so_is_what_a_child_has_sent_that_is_killed() -> None:
    with Server(*AGENT, path=PLACE) as server:
        client = connect(server)
        client.start_thread()
        server.kill()
        client.wait_closed()


@thoughtful
def test_so_is_what_a_child_sends_over_its_pipes() -> None:
    answers = run("serve", "--listen", "stdio://", *AGENT, stdin=f"{INITIALIZE}\n{START}\n", path=PLACE)

    assert "thread/started" in answers.stdout


@thoughtful
def test_so_is_what_a_command_is_sent_by_a_server_of_its_own() -> None:
    run("attach", *AGENT, stdin="text hello\n", path=PLACE)


def test_so_is_what_the_load_command_is_sent_by_a_process_of_its_own() -> None:
    shape = ("--connections", "3", "--duration", "100ms", "--workers", "1", "--quiet")
    before = set(recorded())

    run("load", "--embedded", "--scenario", "fanout", *shape)

    sent = b"".join(path.read_bytes() for path in set(recorded()) - before)
    assert b"item/agentMessage/delta" in sent


@pytest.mark.beyond_codex("thread/closed", because="the upstream tells of no thread")
def test_so_is_what_an_upstream_behind_the_gateway_sends(serve: Serve, tmp_path: Path) -> None:
    alice = serve(upstream=(sys.executable, str(FAKE), str(tmp_path))).connect()

    alice.request("fake/spoil")

    alice.wait("thread/closed")


THREE_TESTS = """
import subprocess, sys
import pytest
from helpers import Client
from trunkline.testing import running_server
from thoughtful import Thoughtful

def test_one_that_sends_what_cannot_be_read():
    with running_server(agent=Thoughtful) as server:
        server.connect().request("thread/start")

@pytest.mark.beyond_codex("thread/list", because="it once was")
def test_one_that_is_marked_for_nothing():
    with running_server() as server:
        server.connect().request("thread/list")

def test_one_whose_child_would_not_be_seen():
    subprocess.run([sys.executable, "-c", ""], env={}, check=True)
"""


@thoughtful
@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_fails_that_sends_what_cannot_be_read_or_says_so_of_what_can_or_hides_a_child(
    tmp_path: Path, workers: int
) -> None:
    (tmp_path / "test_three.py").write_text(THREE_TESTS)
    settings = (
        "-p",
        "traffic.plugin",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "setup.cfg"),
        f"-n{workers}",
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, f"--rootdir={tmp_path}", str(tmp_path)],
        env=environment(ROOT / "tests", *PLACE),
        cwd=tmp_path,
        timeout=PATIENCE_S,
        capture_output=True,
        text=True,
        check=False,
    )

    said = done.stdout
    assert "1 failed, 2 passed, 2 errors" in said, said
    assert re.search(r"^Codex cannot read .*thoughtful", said, re.M), said
    assert "marked as beyond Codex, which can read all of it: ['thread/list']" in said
    assert "AssertionError: a child whose servers would not be tapped" in said
    [summary] = re.findall(r"^codex models: .*", said, re.M)
    senders = workers or 1  # each of the workers runs one of the two tests that send something
    assert summary.startswith(f"codex models: 5 messages of 2 kinds from {senders} processes, 2 unreadable")
