"""Two terminal clients and the SDK on one thread of the real `codex app-server`, behind the gateway."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from children import python_path
from cli.processes import PATIENCE_S
from codex_stand_in import CodexHome, app_server_command
from interop.sdk import sdk_client, start_thread
from interop.tui import CodexTerminal

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
QUESTION = "Would you like to run the following command?"
COMMAND = "echo from all > note"


def leave_it_to_others(_method: str, _params: dict[str, Any] | None) -> dict[str, Any]:
    """Answer a prompt with what is no answer: it stays open as long as somebody else may give one."""
    return {}


def new_place(place: Path, name: str) -> Path:
    (place / name).mkdir()
    return place / name


def test_two_terminals_and_the_sdk_share_a_thread_of_codex(
    codex_home: CodexHome, tmp_path: Path, port: int
) -> None:
    url = f"ws://127.0.0.1:{port}"
    upstream = shlex.join(app_server_command())
    work = new_place(tmp_path, "work")
    with sdk_client(
        "--listen", url, "--upstream", upstream, approve=leave_it_to_others, env=codex_home.environment()
    ) as sdk:
        thread = start_thread(sdk, cwd=str(work))
        thread.run("text all set")
        with (
            CodexTerminal(url, new_place(tmp_path, "one"), "resume", thread.id) as one,
            CodexTerminal(url, new_place(tmp_path, "two"), "resume", thread.id) as two,
        ):
            for terminal in (one, two):
                terminal.wait_for("• all set", "Ask Codex to do anything")

            # One starts a turn, and all see it.
            one.send(f"ask {COMMAND}")
            for terminal in (one, two):
                terminal.wait_for(QUESTION, COMMAND)
            asked = sdk.wait("item/commandExecution/requestApproval")
            turn_id = sdk.wait("turn/started", lambda params: params["turn"]["id"] == asked["turnId"])[
                "turn"
            ]["id"]

            # One approves, and all see it resolved.
            two.decide("y")
            for terminal in (one, two):
                terminal.wait_until(
                    lambda screen: QUESTION not in screen and "Worked for" in screen, "to go on"
                )
            sdk.wait("serverRequest/resolved")
            end = sdk.wait("turn/completed", lambda params: params["turn"]["id"] == turn_id)
            assert end["turn"]["status"] == "completed"
            assert (work / "note").read_text() == "from all\n"

            # One is killed, and the others go on.
            one.process.kill()
            one.wait_end()
            two.send("text still here")
            two.wait_for("• still here")
            said = sdk.wait("item/completed", lambda params: params["item"].get("text") == "still here")
            # What is sent before its end would steer this turn.
            sdk.wait("turn/completed", lambda params: params["turn"]["id"] == said["turnId"])
            assert thread.run("text and so am I").final_response == "and so am I"
            two.wait_for("• and so am I")


def test_the_example_of_the_page_runs_a_turn(codex_home: CodexHome, tmp_path: Path) -> None:
    source = (EXAMPLES / "shared_codex.py").read_text()
    program = tmp_path / "shared_codex.py"
    program.write_text(source.replace("ws://127.0.0.1:4510", "ws://127.0.0.1:0"))

    result = subprocess.run(
        [sys.executable, str(program), "text", "hello"],
        env={**codex_home.environment(), "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    join, response = result.stdout.splitlines()
    assert join.startswith("codex --remote ws://127.0.0.1:0 resume ")
    assert response == "hello"
