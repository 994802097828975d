"""`trunkline serve` as a real child process."""

from __future__ import annotations

import contextlib
import http.client
import queue
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import orjson
import pytest

from children import environment
from cli.processes import PATIENCE_S, Server, command
from trunkline import AppServer, Config
from trunkline_cli.client import (
    Client,
    ClientError,
    Disconnected,
    Incoming,
    Notification,
    RpcFailure,
    ServerGone,
    ServerRequest,
)
from trunkline_cli.serve import CLIENT_GONE, _StopRequests
from trunkline_cli.wire import open_client


def ignore(_: Incoming) -> None:
    """Take a message and do nothing."""


def status_of(url: str) -> int:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    finally:
        connection.close()


def start_turn(client: Client, text: str) -> str:
    """Start a thread and a turn on it. Returns the thread's id."""
    thread_id = client.request("thread/start")["thread"]["id"]
    client.request("turn/start", {"threadId": thread_id, "input": [{"type": "text", "text": text}]})
    return str(thread_id)


def is_draining(client: Client, thread_id: str) -> bool:
    try:
        client.request("thread/resume", {"threadId": thread_id})
    except RpcFailure as failure:
        return "draining" in failure.message
    return False


def test_it_says_where_it_is_to_be_reached(server: Server) -> None:
    names, urls = zip(*(line.strip().split(": ", 1) for line in server.announcement), strict=True)
    assert names == ("listening on", "readyz", "healthz")
    assert urls[0].startswith("ws://127.0.0.1:")
    http_url = urls[0].replace("ws:", "http:")
    assert urls[1:] == (f"{http_url}/readyz", f"{http_url}/healthz")
    assert [status_of(url) for url in urls[1:]] == [200, 200]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with Server("--agent", "script") as server:
        messages: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
        with open_client(server.url, messages.put, opt_out=("thread/started",)) as client:
            client.request("thread/start")
            server.process.send_signal(number)
            last = messages.get(timeout=PATIENCE_S)
            while not isinstance(last, Disconnected):
                last = messages.get(timeout=PATIENCE_S)
            assert "closed with 1001" in str(last.error)
            assert server.process.wait(PATIENCE_S) == 0


def ends_of_turns(messages: list[Incoming]) -> list[str]:
    return [
        message.params["turn"]["status"]
        for message in messages
        if isinstance(message, Notification) and message.method == "turn/completed"
    ]


def sleep_and_drain(server: Server, client: Client) -> str:
    """Have a turn run that never ends, and the server draining. Returns the thread's id."""
    thread_id = start_turn(client, "sleep 1000")
    server.process.send_signal(signal.SIGTERM)
    while not is_draining(client, thread_id):
        pass  # the signal has not been taken yet
    return thread_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_grace_and_no_more(number: signal.Signals, tmp_path: Path) -> None:
    store = str(tmp_path / "threads.sqlite")
    messages: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
    with Server("--agent", "script", "--grace", "1000", "--store", store) as server:
        with open_client(server.url, messages.put) as client:
            thread_id = sleep_and_drain(server, client)
            server.process.send_signal(number)
            assert server.process.wait(PATIENCE_S) == 0
        came = [messages.get(timeout=PATIENCE_S)]
        while not isinstance(came[-1], Disconnected):
            came.append(messages.get(timeout=PATIENCE_S))
    assert "closed with 1001" in str(came[-1].error)
    assert ends_of_turns(came) == ["interrupted"]
    with Server("--store", store) as server, open_client(server.url, ignore) as client:
        thread = client.request("thread/read", {"threadId": thread_id, "includeTurns": True})["thread"]
        assert [turn["status"] for turn in thread["turns"]] == ["interrupted"], "what was told is kept"


DEAF_AGENT = """
import threading
from trunkline import Agent

class Deaf(Agent):
    def run_turn(self, turn):
        threading.Event().wait()
"""


def test_a_third_signal_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "deaf_agent.py").write_text(DEAF_AGENT)
    with Server("--agent", "deaf_agent:Deaf", "--grace", "1000", path=(tmp_path,)) as server:
        client = open_client(server.url, ignore)
        sleep_and_drain(server, client)
        while server.process.poll() is None:  # one that comes too soon after another is the same one
            server.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(0.05)
        assert server.process.returncode == -signal.SIGTERM
        server.expected = -signal.SIGTERM
        client.close()


def test_turns_that_end_within_the_grace_are_not_interrupted() -> None:
    messages: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
    with Server("--agent", "script", "--grace", "1000") as server:
        with open_client(server.url, messages.put) as client:
            thread_id = start_turn(client, "ask ls\ntext done")
            prompt = messages.get(timeout=PATIENCE_S)
            while not isinstance(prompt, ServerRequest):
                prompt = messages.get(timeout=PATIENCE_S)
            server.process.send_signal(signal.SIGTERM)
            while not is_draining(client, thread_id):
                pass
            client.respond(prompt.id, {"decision": "accept"})
            assert server.process.wait(PATIENCE_S) == 0
        came: list[Incoming] = []
        while not came or not isinstance(came[-1], Disconnected):
            came.append(messages.get(timeout=PATIENCE_S))
    assert ends_of_turns(came) == ["completed"]


def test_while_it_stops_it_is_not_ready_and_lets_nobody_in() -> None:
    with Server("--agent", "script", "--grace", "1000") as server, open_client(server.url, ignore) as client:
        ready, health = (line.split()[1] for line in server.announcement[1:])
        assert (status_of(ready), status_of(health)) == (200, 200)
        sleep_and_drain(server, client)
        assert (status_of(ready), status_of(health)) == (503, 200)
        with pytest.raises(ClientError, match="503"):
            open_client(server.url, ignore)
        assert client.request("thread/loaded/list")["data"], "who is in is still served"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


def test_logs_are_json_on_request() -> None:
    with Server("--log-level", "info", "--log-format", "json") as server:
        open_client(server.url, ignore).close()
    records = [orjson.loads(line) for line in server.log.splitlines()]
    assert any("open" in record["message"] for record in records)
    assert {"time", "level", "logger", "message"} <= set(records[0])


class LineWire:
    """A `Wire` over the standard streams of a child: one JSON text a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin: IO[str] = process.stdin
        self._stdout: IO[str] = process.stdout

    def send(self, text: str) -> None:
        self._stdin.write(f"{text}\n")
        self._stdin.flush()

    def receive(self) -> str:
        line = self._stdout.readline()
        if not line:
            raise ServerGone("end of input")
        return line

    def close(self) -> None:
        self._stdin.close()
        self._process.wait(PATIENCE_S)


@contextmanager
def stdio_server(*args: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("serve", "--log-level", "error", *args),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_stdio_is_the_default_and_ends_with_its_client() -> None:
    messages: list[Incoming] = []
    with stdio_server("--agent", "script") as process:
        with Client(LineWire(process), messages.append) as client:
            client.initialize("test", "1")
            start_turn(client, "text hello")
        assert process.returncode == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_stdio_interrupts_what_is_running_when_its_client_goes() -> None:
    with stdio_server("--agent", "script") as process:
        with Client(LineWire(process), ignore) as client:
            client.initialize("test", "1")
            start_turn(client, "sleep 1000")
        assert process.returncode == 0


def test_stdio_and_a_socket_can_be_served_together() -> None:
    with stdio_server("--agent", "script", "--listen", "stdio://", "--listen", "ws://127.0.0.1:0") as process:
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("listening on: ").strip()
        with Client(LineWire(process), ignore) as client:
            client.initialize("test", "1")
            thread_id = client.request("thread/start")["thread"]["id"]
            with open_client(url, ignore) as other:
                assert other.request("thread/loaded/list")["data"] == [thread_id]
        assert process.returncode == 0


def test_several_sockets_lead_to_the_same_threads() -> None:
    with Server("--agent", "script", "--listen", "ws://[::1]:0") as server:
        assert server.process.stderr is not None
        other_url = server.process.stderr.readline().removeprefix("listening on: ").strip()
        assert other_url.startswith("ws://[::1]:")
        for _ in range(2):  # the health URLs
            server.process.stderr.readline()
        with open_client(server.url, ignore) as one, open_client(other_url, ignore) as other:
            thread_id = one.request("thread/start")["thread"]["id"]
            assert other.request("thread/loaded/list")["data"] == [thread_id]


def test_a_server_that_listens_nowhere_has_clients_in_its_process_only() -> None:
    with AppServer(Config(listen=("off",), agent="script")) as server, server.connect() as client:
        assert list(server.listeners) == []
        client.initialize("test").get(timeout=PATIENCE_S)
        assert client.request("thread/loaded/list").get(timeout=PATIENCE_S)["data"] == []


def test_no_thread_keeps_the_interpreter_for_long_and_the_collector_seldom_looks_at_everything(
    tmp_path: Path,
) -> None:
    (tmp_path / "teller.py").write_text(
        "import gc, sys\n"
        "from trunkline import Agent\n"
        "class Teller(Agent):\n"
        "    def run_turn(self, turn):\n"
        "        turn.say(f'{sys.getswitchinterval():g} {gc.get_threshold()[0]}')\n"
    )
    messages: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
    server = Server("--agent", "teller:Teller", "--store", "memory", path=(tmp_path,))
    with server, open_client(server.url, messages.put) as client:
        start_turn(client, "")
        told: Incoming | None = None
        while not isinstance(told, Notification) or told.method != "item/agentMessage/delta":
            told = messages.get(timeout=PATIENCE_S)

    assert told.params["delta"] == "0.0005 5000"


def test_an_agent_is_found_by_the_name_of_its_class(tmp_path: Path) -> None:
    (tmp_path / "parrots.py").write_text(
        "from trunkline import Agent\n"
        "class Parrot(Agent):\n"
        "    def run_turn(self, turn):\n"
        "        with turn.message() as message:\n"
        "            message.write(f'{turn.text}, {turn.text}')\n"
    )
    result = subprocess.run(
        command("attach", "--agent", "parrots:Parrot"),
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment(tmp_path),
        check=False,
    )
    assert (result.stdout, result.returncode) == ("hello, hello\n", 0)


@pytest.fixture
def _no_nohup() -> Iterator[None]:
    """Have SIGHUP end a process, also in a run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_no_nohup")
def test_no_reason_to_stop_is_missed_before_somebody_waits_for_it() -> None:
    with _StopRequests() as stop_requests:
        signal.raise_signal(signal.SIGHUP)
        stop_requests.put_client_gone()
        assert [stop_requests.wait(), stop_requests.wait()] == [signal.SIGHUP, CLIENT_GONE]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
