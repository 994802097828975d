"""What a log says, and what it never says: whatever clients send stays out of it."""

from __future__ import annotations

import ast
import logging
import socket
from pathlib import Path

import pytest

from conftest import Serve
from transports.raw import TEXT, frame
from trunkline.transports.auth import AuthOptions
from trunkline.transports.entrances import EntranceOptions
from wires import PATIENCE_S, WebSocketWire

ACTORS = Path(__file__).parents[2] / "actors" / "trunkline"

SECRET = "hunter2-swordfish"
"""A word that is in everything that a client sends in the test."""


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("trunkline", "trunkline_cli"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def said(caplog: pytest.LogCaptureFixture) -> str:
    """Return all that was logged, fields and tracebacks included."""
    fields = "\n".join(str(vars(record)) for record in caplog.records)
    return f"{caplog.text}\n{fields}"


def test_nothing_that_a_client_sends_is_in_the_log(
    serve: Serve, everything: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    house = serve(store=tmp_path / "threads.sqlite")
    alice = house.open("alice")
    alice.request(
        "initialize", clientInfo={"name": "alice", "title": SECRET, "version": SECRET}, capabilities=None
    )
    thread_id = alice.start_thread(cwd=f"/{SECRET}", config={SECRET: SECRET}, baseInstructions=SECRET)
    alice.request("thread/name/set", threadId=thread_id, name=SECRET)
    turn_id = alice.start_turn(thread_id, f"text {SECRET}\nask echo {SECRET}\nquestion {SECRET}?")
    alice.answer(alice.wait("item/commandExecution/requestApproval")["id"], {"decision": {SECRET: SECRET}})
    prompt = alice.wait("item/tool/requestUserInput")
    alice.answer(prompt["id"], {"answers": {"answer": {"answers": [SECRET]}}})
    alice.wait_turn(turn_id)
    alice.run_turn(thread_id, f"fail {SECRET}")
    for method in ("thread/resume", "thread/read", "turn/interrupt", "turn/steer", "thread/fork"):
        alice.refused(method, threadId=SECRET)
    alice.refused(SECRET)
    alice.refused("thread/list", cursor=SECRET)
    alice.send({"method": SECRET, "params": {SECRET: SECRET}})
    alice.send({"id": 99, "result": SECRET})
    alice.send({"id": SECRET, "error": {"code": 1, "message": SECRET}})
    for text in (SECRET, f'{{"{SECRET}"', f'["{SECRET}"]', f'{{"id":{{"{SECRET}":1}},"method":1}}'):
        alice.send_text(text)
    alice.fence(thread_id)
    assert isinstance(alice.wire, WebSocketWire)
    alice.wire.socket.sendall(frame(TEXT, SECRET.encode() + b"\xff"))
    assert alice.wait_closed().code == 1007
    assert house.known[0].stopped.wait(PATIENCE_S)

    assert "closed with" in everything.text
    assert SECRET not in said(everything)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {SECRET}"},
        {"Authorization": f"Basic {SECRET}"},
        {"Origin": f"https://{SECRET}.example"},
        {"Cookie": SECRET},
    ],
)
def test_no_credential_is_in_the_log(
    serve: Serve, everything: pytest.LogCaptureFixture, tmp_path: Path, headers: dict[str, str]
) -> None:
    token = tmp_path / "owner.token"
    token.write_text("the-right-one-of-32-characters-or-so\n")
    token.chmod(0o600)
    auth = AuthOptions(mode="capability-token", token_files=(token,))
    house = serve(entrances=EntranceOptions(auth=auth))
    host, port = house.url.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), 30) as sock:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        sock.sendall("\r\n".join([f"GET /{SECRET} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())
        assert sock.recv(100).startswith((b"HTTP/1.1 401", b"HTTP/1.1 403"))
    assert SECRET not in said(everything)
    assert "the-right-one" not in said(everything)


def _calls() -> list[tuple[str, ast.Call]]:
    found = []
    for path in sorted(ACTORS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "logger"
                and node.func.attr in {"debug", "info", "warning", "error", "exception"}
            ):
                found.append((f"{path.relative_to(ACTORS)}:{node.lineno}", node))
    return found


@pytest.mark.parametrize(("place", "call"), _calls(), ids=[place for place, _ in _calls()])
def test_a_line_about_a_connection_thread_or_turn_has_its_id_as_a_field(place: str, call: ast.Call) -> None:
    text = ast.unparse(call)
    given = [keyword for keyword in call.keywords if keyword.arg == "extra"]
    if any(what in text for what in ("connection %s", "thread %s", "turn %s")):
        assert given, f"{place} names ids in its text and gives none as fields"


def test_a_connection_can_be_followed_through_the_log_by_its_field(
    serve: Serve, everything: pytest.LogCaptureFixture
) -> None:
    house = serve()
    alice = house.connect("alice")
    house.lose(alice)
    about = [record.getMessage() for record in everything.records if vars(record).get("connectionId") == 1]
    assert "open" in about[0]
    assert "closed with 1006" in about[-1]
