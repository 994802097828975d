"""The examples are complete programs: each runs as it stands, and prints what it is said to."""

from __future__ import annotations

import json
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from children import environment
from trunkline import AppServer
from trunkline.testing import PATIENCE_S, Client, WebSocketWire

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"

PRINTED = {
    "asyncio_host": r"""
ann: one two three completed
ben: one two three completed
""",
    "chat_room": r"""
ann heard \['ann: nobody here yet', 'ann: hello from ann', 'ben: hello from ben', 'eve: hello from eve'\]
ben heard \['ann: hello from ann', 'ben: hello from ben', 'eve: hello from eve'\]
eve heard \['ann: hello from ann', 'ben: hello from ben', 'eve: hello from eve'\]
""",
    "host_actors": r"""
df -h: accept
rm -rf /: decline
turn completed
""",
    "own_methods": r"""
{'number': 1, 'article': 'bolts', 'count': 2}
refused: out of stock \(-32010\)
refused: .*count.* \(-32602\)
6 left
closed after 1 orders
bolts 1
nuts 5
""",
}
"""What the examples print that are run as programs, as patterns."""


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_it_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.fullmatch(PRINTED[name].lstrip("\n"), printed), printed


@pytest.mark.parametrize(
    ("page", "name"), [("agents.md", "packer"), ("asyncio.md", "asyncio_host")], ids=lambda name: name
)
def test_a_page_shows_its_example_as_it_is(page: str, name: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text()
    assert f"```python\n{source}```\n" in (ROOT / "docs" / page).read_text()


def test_every_example_is_on_its_page() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    missing = [path.name for path in EXAMPLES.glob("*.py") if f"](examples/{path.name})" not in page]
    assert not missing


def test_strangers_meet_in_the_chat_room_and_hear_only_it() -> None:
    room = subprocess.Popen(
        [sys.executable, EXAMPLES / "chat_room.py", "--listen", "ws://127.0.0.1:0"],
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    clients = []
    with room:
        try:
            assert room.stdout is not None
            said = re.fullmatch(r"room (\S+) at (\S+)\n", room.stdout.readline())
            assert said is not None
            for name in ("ann", "ben"):
                client = Client(WebSocketWire(said[2]), name)
                clients.append(client)
                client.initialize()
                client.request("thread/resume", threadId=said[1])
            clients[0].request("chat/say", room=said[1], text="hello")
            for client in clients:
                heard = client.wait("chat/said", threadId=said[1])
                assert heard["params"] == {"threadId": said[1], "who": "ann", "text": "hello"}
            error = clients[1].refused("turn/start", threadId=said[1], input=[])
            assert error["code"] == -32600
            room.send_signal(signal.SIGINT)
            assert room.wait(PATIENCE_S) == 0
            assert [client.wait_closed().code for client in clients] == [1001, 1001]
        finally:
            room.kill()
            for client in clients:
                client.wire.cut()


@pytest.fixture
def web() -> Iterator[FlaskClient]:
    program = runpy.run_path(str(EXAMPLES / "flask_app.py"))
    with AppServer(agent="script") as server:
        yield program["create_app"](server).test_client()


def events_until(web: FlaskClient, thread_id: str, method: str) -> list[dict[str, Any]]:
    """Read a thread's events, as a browser would, until one with this method."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["method"] != method:
        after = events[-1]["seq"] if events else 0
        more = web.get(f"/threads/{thread_id}/events?after={after}").json
        assert more, "the long poll ended without an event"
        for event in more:
            events.append(event)
            if event["method"] == method:
                break
    return events


def test_the_router_works_inside_a_flask_program(web: FlaskClient) -> None:
    thread_id = web.post("/threads").json["id"]  # type: ignore[index]
    assert web.post(f"/threads/{thread_id}/turns", json={"text": "ask ls"}).json["status"] == "inProgress"  # type: ignore[index]
    prompt = events_until(web, thread_id, "item/commandExecution/requestApproval")[-1]
    assert prompt["params"]["command"] == "ls"
    assert web.post(f"/prompts/{prompt['prompt']}", json={"decision": "accept"}).status_code == 200

    events = events_until(web, thread_id, "turn/completed")

    assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[-1]["seq"] + 1))
    assert events[-1]["params"]["turn"]["status"] == "completed"
    assert web.post(f"/prompts/{prompt['prompt']}", json={"decision": "accept"}).status_code == 404


def test_a_refusal_is_an_http_error_in_the_flask_program(web: FlaskClient) -> None:
    answer = web.post("/threads/01900000-0000-7000-8000-000000000000/turns", json={"text": "hello"})
    assert answer.status_code == 400
    assert "thread not found" in json.dumps(answer.json)


def test_flask_finds_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", EXAMPLES / "flask_app.py", "routes"],
        env=environment(),
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "/threads/<thread_id>/events" in done.stdout
