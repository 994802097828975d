"""A `codex app-server` whose model is a local stand-in: for comparisons, and for tests of the gateway.

The stand-in speaks as much of the OpenAI Responses API (HTTP and server-sent events) as the app-server
uses, on loopback. What it streams is decided by the last user message, in the words of the `script`
agent: `say N M` (N deltas of M bytes), `text WORDS`, `sleep SECONDS`, `hold NAME` (until the test lets
go of that name), `halves NAME WORDS` (says them twice, and holds in between), `ask COMMAND` (a call of
the shell tool, which raises an approval), `fail WORDS`; a line that is none of these is said back.

The binary comes from the package `openai-codex-cli-bin`. Run as a program this prints the address of
a server, and its process id, and keeps it until it is interrupted; with `--home` it prints the directory
of a configuration for Codex (its CODEX_HOME) in which the stand-in is the model, and keeps that:

    python tests/codex_stand_in.py [--home]
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["CodexHome", "CodexServer", "StandInModel", "app_server_command", "codex_binary"]

JsonObject = dict[str, Any]

_PATIENCE_S = 30.0
_SHELL_TOOLS = ("exec_command", "shell_command", "shell")


def codex_binary() -> Path | None:
    """Return the path of the `codex` binary; None if its package is not installed."""
    try:
        package = importlib.import_module("codex_cli_bin")
    except ImportError:
        return None
    path: Path = package.bundled_codex_path()
    return path


def app_server_command() -> tuple[str, ...]:
    """Return the command of an app-server on its standard input and output. The package has to be there."""
    return (str(codex_binary()), "app-server", "--listen", "stdio://")


# The model


class StandInModel:
    """The Responses API on a free loopback port. A context manager."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="stand-in-model", daemon=True)

    @property
    def base_url(self) -> str:
        """What the app-server is told to use."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def let_go(self, name: str) -> None:
        """Let all responses go on that hold, or will, with this name."""
        self._server.held(name).set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.let_all_go()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    """Knows what holds."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: dict[str, threading.Event] = {}
        self._has_ended = False

    def held(self, name: str) -> threading.Event:
        event = self._held.setdefault(name, threading.Event())  # atomic
        if self._has_ended:
            event.set()
        return event

    def let_all_go(self) -> None:
        self._has_ended = True
        for event in list(self._held.values()):
            event.set()


class _Handler(BaseHTTPRequestHandler):
    """Answers `POST /v1/responses` with a stream, and everything else with 404."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.endswith("/responses"):
            self.send_error(404)
            return
        request: JsonObject = json.loads(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            assert isinstance(self.server, _Server)
            for data in _stream(request, self.server):
                self.wfile.write(data)
        except OSError:
            return  # the turn was interrupted

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name it has upstream
        pass


def _stream(request: JsonObject, server: _Server) -> Iterator[bytes]:
    """Go through the events that answer a request, encoded, many to a piece."""
    actions, answered = _conversation(request["input"])
    yield _event("response.created", response={"id": "resp_1"})
    # Each `ask` ends a response; the request that brings its output goes on after it.
    asks = 0
    for number, line in enumerate(actions):
        word, _, rest = line.strip().partition(" ")
        if word == "ask":
            asks += 1
            if asks > answered:
                yield _call(request, rest, f"call_{number}_{time.time_ns()}")
                break
        elif asks < answered:
            continue
        elif word == "sleep":
            time.sleep(float(rest))
        elif word == "hold":
            server.held(rest).wait()
        elif word == "halves":
            name, _, said = rest.partition(" ")
            *begun, middle, end = _message([said, said], f"msg_{time.time_ns()}", at_once=1)
            yield from begun
            server.held(name).wait()
            yield from (middle, end)
        elif word == "fail":
            yield _event(
                "response.failed",
                response={"id": "resp_1", "error": {"code": "invalid_prompt", "message": rest}},
            )
            return
        else:
            yield from _message(_deltas(word, rest, line), f"msg_{time.time_ns()}")
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    yield _event("response.completed", response={"id": "resp_1", "usage": usage})


def _conversation(items: list[JsonObject]) -> tuple[list[str], int]:
    """Return the lines of the last user message, and how many calls were answered since."""
    lines, answered = [""], 0
    for item in items:
        if item.get("type") == "message" and item.get("role") == "user":
            text = "".join(part.get("text", "") for part in item["content"])
            if not text.startswith("<"):  # what the app-server adds of its own: <environment_context> …
                lines, answered = text.splitlines() or [""], 0
        elif item.get("type") == "function_call_output":
            answered += 1
    return lines, answered


def _deltas(word: str, rest: str, line: str) -> list[str]:
    """Return the pieces of one agent message."""
    if word == "say" and (match := re.fullmatch(r"(\d+) (\d+)", rest.strip())):
        # Numbered, so that a piece that is lost, or comes twice, changes the text.
        size = int(match[2])
        return [f"{number:07d} ".ljust(size, "x")[:size] for number in range(int(match[1]))]
    return [rest if word == "text" else line]


def _message(deltas: list[str], item_id: str, at_once: int = 256) -> Iterator[bytes]:
    item = {"type": "message", "id": item_id, "role": "assistant"}
    yield _event("response.output_item.added", output_index=0, item={**item, "content": []})
    for start in range(0, len(deltas), at_once):
        yield b"".join(
            _event("response.output_text.delta", output_index=0, item_id=item_id, delta=delta)
            for delta in deltas[start : start + at_once]
        )
    content = [{"type": "output_text", "text": "".join(deltas)}]
    yield _event("response.output_item.done", output_index=0, item={**item, "content": content})


def _call(request: JsonObject, command: str, call_id: str) -> bytes:
    """Return the call of whichever shell tool the request offers."""
    offered = {tool.get("name") for tool in request.get("tools", ())}
    name = next((tool for tool in _SHELL_TOOLS if tool in offered), "shell")
    commands: dict[str, JsonObject] = {
        "exec_command": {"cmd": command},
        "shell_command": {"command": command},
        "shell": {"command": shlex.split(command)},
    }
    # Only what wants to leave the sandbox needs an approval.
    arguments: JsonObject = {
        **commands[name],
        "sandbox_permissions": "require_escalated",
        "justification": "the script asks",
    }
    item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments), "call_id": call_id}
    return _event("response.output_item.done", output_index=0, item=item)


def _event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


# The app-server


class CodexHome:
    """A CODEX_HOME whose model is the stand-in. A context manager.

    Args:
        approval_policy: `on-request` or `never`.

    """

    def __init__(self, approval_policy: str = "on-request") -> None:
        self._approval_policy = approval_policy
        self._model = StandInModel()
        self._directory = tempfile.TemporaryDirectory(prefix="codex-home-")

    @property
    def model(self) -> StandInModel:
        """The stand-in."""
        return self._model

    @property
    def path(self) -> Path:
        """The directory, with the configuration."""
        return Path(self._directory.name)

    def __enter__(self) -> Self:
        self._model.__enter__()
        self._configure()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._model.__exit__(None, None, None)
        self._directory.cleanup()

    def environment(self) -> dict[str, str]:
        """Return the environment of a `codex` process that uses this configuration.

        What it would fetch from elsewhere (plugins, updates) it looks for behind a proxy that is not there.
        The login shells that it starts find nothing of the developer's, which may take long, or wait for
        those of another test.
        """
        nowhere = "http://127.0.0.1:9"
        return {
            **os.environ,
            **dict.fromkeys(("CODEX_HOME", "HOME"), str(self.path)),
            "RUST_LOG": "warn",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }

    def _configure(self) -> None:
        (self.path / "config.toml").write_text(
            f"""\
model = "stand-in"
model_provider = "stand-in"
approval_policy = "{self._approval_policy}"
sandbox_mode = "read-only"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.stand-in]
name = "stand-in"
base_url = "{self._model.base_url}"
wire_api = "responses"
requires_openai_auth = false
request_max_retries = 0
stream_max_retries = 0
""",
            encoding="utf-8",
        )


class CodexServer:
    """A `codex app-server` on a free loopback port, with a stand-in for its model. A context manager.

    Args:
        binary: the `codex` executable.
        approval_policy: `on-request` or `never`.

    """

    def __init__(self, binary: Path, approval_policy: str = "on-request") -> None:
        self._binary = binary
        self._home = CodexHome(approval_policy)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._address: list[str] = []
        self._ready = threading.Event()
        self.log: list[str] = []
        """The last lines of its standard error."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._address[0]

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def home(self) -> Path:
        """Its CODEX_HOME, with the configuration: for another `codex` process with the same model."""
        return self._home.path

    def environment(self) -> dict[str, str]:
        """Return the environment of a `codex` process that uses this configuration."""
        return self._home.environment()

    def __enter__(self) -> Self:
        self._home.__enter__()
        self._process = subprocess.Popen(
            [str(self._binary), "app-server", "--listen", "ws://127.0.0.1:0"],
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, name="codex-log", daemon=True)
        self._reader.start()
        self._ready.wait(_PATIENCE_S)
        if not self._address:
            self.__exit__(None, None, None)
            raise RuntimeError("codex app-server did not start:\n" + "\n".join(self.log))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()
        self._home.__exit__(None, None, None)

    def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log = [*self.log[-200:], line.rstrip()]
            match = re.search(r"ws://[\d.]+:\d+", line)
            if match is not None and not self._address:
                self._address.append(match[0])
                self._ready.set()
        self._ready.set()


def main() -> None:
    """Keep a server, or a configuration, until interrupted."""
    binary = codex_binary()
    with ExitStack() as stack:
        if "--home" in sys.argv[1:]:
            print(stack.enter_context(CodexHome()).path, flush=True)
        elif binary is None:
            sys.exit("openai-codex-cli-bin is not installed")
        else:
            server = stack.enter_context(CodexServer(binary))
            print(f"{server.url} {server.pid}", flush=True)
        signal.sigwait([signal.SIGINT, signal.SIGTERM])


if __name__ == "__main__":
    main()
