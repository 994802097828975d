from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from websockets.sync.server import ServerConnection

from children import environment
from cli.fakes import fake_server, handshake
from cli.processes import PATIENCE_S, command
from trunkline.version import VERSION
from trunkline_cli.main import main
from trunkline_cli.threads import table


def invoke(*args: str, **env: str) -> Result:
    return CliRunner().invoke(main, args, prog_name="trunkline", env=env)


def test_the_version_is_the_packages() -> None:
    assert invoke("--version").output == f"trunkline, version {VERSION}\n"


@pytest.mark.parametrize("args", [(), ("attach",), ("serve",), ("threads",)])
def test_help_has_a_line_for_everything(args: tuple[str, ...]) -> None:
    result = invoke(*args, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: {' '.join(('trunkline', *args))}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("serve", "--listen", "http://x"), "unsupported --listen URL `http://x`; expected `stdio://`"),
        (("serve", "--listen", "ws://localhost:1"), "invalid websocket --listen URL `ws://localhost:1`"),
        (("serve", "--agent", "nobody"), "unknown agent `nobody`; expected `script`, `shell`"),
        (("serve", "--log-level", "loud"), "'loud' is not one of 'debug', 'info'"),
        (("serve", "--log-format", "xml"), "'xml' is not one of 'text', 'json'"),
        (("serve", "--unload-after", "-1"), "-1.0 is not in the range x>=0"),
        (("attach", "localhost:1"), "`localhost:1` is not the URL of a server; expected `ws://HOST:PORT`"),
        (("attach", "ws://x:port"), "`ws://x:port` is not the URL of a server"),
        (("attach", "ws://x:1", "--agent", "script"), "--agent is for a server of our own"),
        (("attach", "--thread", "t"), "--thread needs the URL of the server"),
        (("threads",), "Missing argument 'URL'"),
        (("threads", "http://x"), "`http://x` is not the URL of a server"),
    ],
)
def test_bad_usage_is_said_and_exits_2(args: tuple[str, ...], message: str) -> None:
    result = invoke(*args)
    assert message in result.stderr
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUNKLINE_LISTEN", "stdio:// nonsense"),
        ("TRUNKLINE_AGENT", "nobody"),
        ("TRUNKLINE_LOG_LEVEL", "loud"),
        ("TRUNKLINE_LOG_FORMAT", "xml"),
        ("TRUNKLINE_UNLOAD_AFTER", "soon"),
    ],
)
def test_every_option_of_serve_comes_from_the_environment_too(name: str, value: str) -> None:
    result = invoke("serve", **{name: value})
    assert result.exit_code == 2
    assert value.split()[-1] in result.stderr


def test_a_refused_connection_is_one_line_and_exits_1() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    result = invoke("threads", url)
    assert result.stderr == f"Error: cannot connect to {url}: connection refused\n"
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_server_that_cannot_start_is_one_line_and_exits_1() -> None:
    result = invoke("serve", "--listen", "ws://192.0.2.1:1")
    assert result.stderr.startswith("Error: refusing to start non-loopback websocket listener 192.0.2.1:1")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 1


def test_a_port_that_is_taken_is_one_line_and_exits_1() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        result = invoke("serve", "--listen", f"ws://127.0.0.1:{listener.getsockname()[1]}")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 1


# threads


def answering(
    answers: Callable[[str, dict[str, Any]], dict[str, Any] | None],
) -> Callable[[ServerConnection], None]:
    """A server that answers requests by method and params; None is an error."""

    def talk(connection: ServerConnection) -> None:
        handshake(connection)
        for text in connection:
            request = orjson.loads(text)
            result = answers(request["method"], request["params"])
            error = {"error": {"code": -32600, "message": "thread not loaded"}}
            members = error if result is None else {"result": result}
            connection.send(orjson.dumps({"id": request["id"], **members}).decode())

    return talk


THREADS: dict[str, dict[str, Any]] = {
    "a": {"id": "a", "status": {"type": "idle"}, "subscriberCount": 12, "name": None, "preview": "ls\n-l"},
    "b": {
        "id": "b",
        "status": {"type": "active", "activeFlags": ["waitingOnApproval"]},
        "name": "build",
        "preview": "make",
        "cwd": "/srv",
    },
}


def two_threads(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Two pages of one thread each, and one thread that has gone since."""
    if method == "thread/loaded/list":
        if params["cursor"] is None:
            return {"data": ["a", "gone"], "nextCursor": "a"}
        return {"data": ["b"], "nextCursor": None}
    thread = THREADS.get(params["threadId"])
    return None if thread is None else {"thread": thread}


def test_threads_are_listed_in_columns() -> None:
    with fake_server(answering(two_threads)) as url:
        result = invoke("threads", url)
    assert result.stdout.splitlines() == [
        "THREAD  STATUS                      CLIENTS  NAME",
        "a       idle                        12       ls…",
        "b       active (waitingOnApproval)  -        build",
    ]
    assert result.exit_code == 0


def test_threads_are_listed_as_json() -> None:
    with fake_server(answering(two_threads)) as url:
        result = invoke("threads", url, "--json")
    first, second = orjson.loads(result.stdout)
    assert first == {**THREADS["a"], "cwd": None}
    assert second == {**THREADS["b"], "subscriberCount": None}


def test_no_threads_is_nothing_for_programs_and_a_word_for_people() -> None:
    empty = answering(lambda _, __: {"data": [], "nextCursor": None})
    with fake_server(empty) as url:
        result = invoke("threads", url)
        assert (result.stdout, result.stderr) == ("", "no threads loaded\n")
        assert invoke("threads", url, "--json").stdout == "[]\n"


def test_the_last_column_takes_what_a_terminal_leaves() -> None:
    rows = [("a" * 36, "idle", "1", "x" * 100)]
    assert [len(line) for line in table(rows, 80)] == [59, 80]
    assert [len(line) for line in table(rows, 10)][1] == 36 + 2 + 6 + 2 + 7 + 2 + 20
    assert [len(line) for line in table(rows, None)][1] == 155


def test_ctrl_c_while_it_is_still_being_loaded_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    result = subprocess.run(
        command("attach"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(tmp_path),
        check=False,
    )
    assert (result.returncode, result.stderr) == (130, "")
