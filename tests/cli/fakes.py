"""Stand-ins: a console and a connection that write down what they are told, and a server as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from cli.processes import PATIENCE_S
from trunkline_cli.client import (
    Incoming,
    JsonObject,
    Notification,
    Reply,
    RequestId,
    RpcFailure,
    ServerGone,
    ServerRequest,
)
from trunkline_cli.console import Line, UserInput
from trunkline_cli.outcome import Options
from trunkline_cli.reconnect import Reopening
from trunkline_cli.session import Session
from trunkline_cli.text import Palette

__all__ = ["THREAD", "TURN", "FakeConnection", "FakeConsole", "Stage", "fake_server", "handshake"]

THREAD = "0190a000-0000-7000-8000-000000000001"
TURN = "0190a000-0000-7000-8000-00000000000a"


class FakeConsole:
    """A `Console` that nobody sits at. `shown` is what there would be to see, in order."""

    def __init__(self, *, interactive: bool = True) -> None:
        self.interactive = interactive
        self.output = ""
        """What `write` was told, on its own."""
        self.shown = ""
        self.question: str | None = None
        self.key: object = None
        self.is_secret = False
        self.prompt_text = ""
        self.lines_wanted = 0

    def write(self, text: str) -> None:
        self.output += text
        self.shown += text

    def break_line(self) -> None:
        if self.shown and not self.shown.endswith("\n"):
            self.shown += "\n"

    def note(self, text: str) -> None:
        self.break_line()
        self.shown += f"{text}\n"

    def prompt(self, text: str) -> None:
        self.prompt_text = text

    def ask(self, question: str, key: object, *, secret: bool = False) -> None:
        self.question, self.key, self.is_secret = question, key, secret

    def stop_asking(self) -> None:
        self.question = self.key = None

    def want_line(self) -> None:
        self.lines_wanted += 1

    def run(self, put: Callable[[UserInput], None]) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


class FakeConnection:
    """What the session has sent, in order."""

    def __init__(self) -> None:
        self.requests: list[tuple[RequestId, str, JsonObject]] = []
        self.answers: list[tuple[RequestId, JsonObject]] = []
        self.refusals: list[tuple[RequestId, int]] = []
        self.is_gone = False
        self.counts_events = True

    def send(self, method: str, params: JsonObject | None = None) -> RequestId:
        if self.is_gone:
            raise ServerGone("it is a test")
        self.requests.append((len(self.requests), method, params or {}))
        return len(self.requests) - 1

    def respond(self, request_id: RequestId, result: JsonObject) -> None:
        self.answers.append((request_id, result))

    def refuse(self, request_id: RequestId, code: int, message: str) -> None:
        self.refusals.append((request_id, code))


class Stage:
    """A session between the two, with the thread open unless `opened` says otherwise."""

    def __init__(self, *, interactive: bool = True, opened: bool = True, **options: Any) -> None:
        self.console = FakeConsole(interactive=interactive)
        self.connection = FakeConnection()
        self.reopened: list[bool] = []
        """One for each time that another connection was asked for: whether the thread was open."""
        self.session = Session(
            self.connection,
            self.reopened.append,
            self.console,
            Palette(is_on=False),
            Options(url="ws://127.0.0.1:1", **options),
        )
        self.session.begin()
        if opened:
            self.open()

    def open(self, *turns: JsonObject, **members: Any) -> None:
        """Answer the request that starts or resumes the thread."""
        self.reply({"thread": {"id": THREAD, "cwd": "/srv", "turns": list(turns)}, **members})

    def take(self, *messages: Incoming | UserInput | Reopening) -> None:
        for message in messages:
            self.session.handle(message)

    def enter(self, text: str) -> None:
        """Enter a line in reply to whatever is asked."""
        self.take(Line(text, self.console.key))

    def reply(self, result: JsonObject, index: int = -1) -> None:
        """Answer the session's last request, or another one."""
        self.take(Reply(self.connection.requests[index][0], result))

    def fail(self, message: str, index: int = -1) -> None:
        """Answer the session's last request, or another one, with an error."""
        self.take(Reply(self.connection.requests[index][0], {}, RpcFailure(-32600, message)))

    def notify(self, method: str, **params: Any) -> None:
        self.take(Notification(method, {"threadId": THREAD, **params}))

    def ask(self, request_id: RequestId, method: str, **params: Any) -> None:
        params = {"threadId": THREAD, "turnId": TURN, "itemId": "item", **params}
        self.take(ServerRequest(request_id, method, params))

    def start_turn(self, text: str = "go", turn_id: str = TURN) -> None:
        """Enter a line and have the server accept and begin the turn."""
        self.enter(text)
        self.reply({"turn": {"id": turn_id}})
        self.notify("turn/started", turn={"id": turn_id})

    def end_turn(self, status: str = "completed", turn_id: str = TURN, **members: Any) -> None:
        self.notify("turn/completed", turn={"id": turn_id, "status": status, **members})

    @property
    def sent(self) -> list[str]:
        """The methods that were requested."""
        return [method for _, method, _ in self.connection.requests]

    @property
    def last_params(self) -> JsonObject:
        return self.connection.requests[-1][2]

    @property
    def exit_code(self) -> int | None:
        """How the session ended; None if it has not."""
        return None if self.session.outcome is None else self.session.outcome.exit_code


def handshake(connection: ServerConnection) -> None:
    """Answer `initialize`, and take `initialized`."""
    request = orjson.loads(connection.recv())
    assert request["method"] == "initialize"
    connection.send(orjson.dumps({"id": request["id"], "result": {"userAgent": "fake/1"}}).decode())
    assert orjson.loads(connection.recv()) == {"method": "initialized"}


@contextmanager
def fake_server(talk: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """Run a WebSocket server that does `talk` with each client. Yields its URL."""

    def handler(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):  # the client has heard enough
            talk(connection)

    with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever, name="fake-server")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(PATIENCE_S)
