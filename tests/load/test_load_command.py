"""The command as a process, against a real server and on its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from children import environment
from load.fakes import FakeServer, run, running, worker_thread
from load.steps import do, group
from load.test_load_checks import FANOUT, Selective
from trunkline.config import Config
from trunkline.server import AppServer
from trunkline_cli.load import embedded, proc
from trunkline_cli.load.command import load as load_command
from trunkline_cli.load.parse import builtin_names, builtin_text, load_scenario, parse_scenario
from trunkline_cli.load.run import Settings, run_load

PATIENCE_S = 60


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "trunkline_cli", "load", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def load(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def test_a_run_with_a_server_of_its_own_leaves_nothing_behind(tmp_path: Path) -> None:
    status, out, err = load(
        *("--embedded", "--scenario", "approvals", "--duration", "300ms", "--workers", "2"),
        *("--json", str(tmp_path / "result.json"), "--html", str(tmp_path / "result.html")),
        *("--threshold", "prompt count > 0", "--threshold", "server memory per connection < 1MB"),
    )

    assert (status, out.splitlines()[-1]) == (0, "passed"), out + err
    told = json.loads((tmp_path / "result.json").read_bytes())
    assert told["leftOver"] == []
    assert told["server"]["cpuSeconds"] > 0
    assert told["connections"]["opened"] == 80
    assert "<svg" in (tmp_path / "result.html").read_text()


@pytest.mark.parametrize("store", ["memory", "threads.sqlite3"])
def test_the_server_of_a_run_keeps_threads_where_it_is_told(tmp_path: Path, store: str) -> None:
    where = store if store == "memory" else str(tmp_path / store)
    shape = ("--scenario", "fanout", "--connections", "3", "--duration", "100ms", "--workers", "1")

    status, out, err = load("--embedded", "--store", where, *shape)

    assert (status, out.splitlines()[-1]) == (0, "passed"), out + err
    assert [path.name for path in tmp_path.glob("*.sqlite3")] == ([] if store == "memory" else [store])


def test_a_missed_threshold_is_the_exit_status() -> None:
    with running(FakeServer()) as fake:
        scenario = ("--scenario", "requests", "--connections", "2", "--duration", "100ms", "--quiet")
        status, out, err = load(fake.url, *scenario, "--threshold", "requests < 1")

    assert status == 1
    assert "FAIL  requests < 1" in out
    assert err == ""


def test_a_broken_promise_is_the_exit_status(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(f'name = "test"\nduration = "200ms"\n{FANOUT}')
    with running(Selective()) as fake:
        status, out, _ = load(fake.url, "--scenario", str(path), "--json", "-")

    assert status == 1
    assert json.loads(out)["breaches"]["order"]["count"] == 1


def test_an_interrupt_ends_the_run_early_with_the_table() -> None:
    under_way = threading.Event()

    class Watching(FakeServer):
        def on_thread_loaded_list(self, peer: object, request: object) -> None:
            super().on_thread_loaded_list(peer, request)  # type: ignore[arg-type]
            under_way.set()

    with running(Watching()) as fake:
        process = start(fake.url, "--scenario", "requests", "--connections", "2", "--duration", "1h")
        assert under_way.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0
    assert "(ended early)" in out
    assert out.endswith("passed\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("ws://127.0.0.1:1",), 1, "cannot connect to ws://127.0.0.1:1: Connection refused"),
        (("http://127.0.0.1:1",), 1, "or unix://PATH, got 'http://127.0.0.1:1'"),
        ((), 2, "Say either where the server is"),
        (("ws://127.0.0.1:1", "--embedded"), 2, "Say either where the server is"),
        (("ws://127.0.0.1:1", "--store", "memory"), 2, "--store is for --embedded"),
        (("--embedded", "--store", "/dev/null/x"), 1, "/dev/null/x"),
        (("--embedded", "--scenario", "nowhere"), 1, "nowhere: neither a built-in scenario"),
        (("--embedded", "--duration", "long"), 1, "expected a time such as 250ms, 10s or 2m, got 'long'"),
        (("--embedded", "--threshold", "fast"), 1, "such as 'request p99 < 50ms'"),
        (("--embedded", "--connections", "1"), 1, "this scenario needs at least 2"),
        (("ws://127.0.0.1:1", "--server-pid", "99999999"), 1, "there is no process 99999999 to watch"),
        (("ws://127.0.0.1:1", "--header", "X"), 2, "--header: expected NAME:VALUE, got 'X'"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], status: int, message: str) -> None:
    result = CliRunner().invoke(load_command, arguments)

    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert message in result.stderr


def test_a_built_in_scenario_can_be_had_as_a_file_to_begin_with() -> None:
    result = CliRunner().invoke(load_command, ["--scenario", "churn", "--show"])

    assert result.exit_code == 0
    assert result.stdout == builtin_text("churn")
    assert parse_scenario(result.stdout, "x") == load_scenario("churn")


# Against the real server


@pytest.fixture
def server() -> Iterator[AppServer]:
    with AppServer(Config(listen=("ws://127.0.0.1:0",), agent="script")) as running_server:
        yield running_server


@pytest.mark.parametrize("name", [name for name in builtin_names() if name != "idle"])
def test_every_built_in_scenario_passes_against_this_server(server: AppServer, name: str) -> None:
    text = builtin_text(name).replace('duration = "10s"', 'duration = "400ms"')
    # A thousand threads with ten thousand connections are a run of its own.
    scenario = parse_scenario(text.replace("= 1000\n", "= 4\n").replace("= 9000\n", "= 36\n"), name)

    result = run_load(scenario, Settings(server.listeners[0].url), worker_thread)

    assert result.passed, (result.errors, result.breaches)
    assert not result.errors


# Parts


def test_what_a_server_leaves_behind_is_found() -> None:
    descriptors, threads = embedded._descriptors(), list(threading.enumerate())
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    read, write = os.pipe()
    try:
        left = embedded._left(descriptors, threads)
    finally:
        release.set()
        thread.join()
        os.close(read)
        os.close(write)

    assert "thread forgotten" in left
    assert [entry.partition(": ")[0] for entry in left if entry.startswith("descriptor")] == [
        f"descriptor {read}",
        f"descriptor {write}",
    ]


def test_a_worker_that_dies_makes_the_result_incomplete() -> None:
    def dying(job: object, control: object) -> threading.Thread:
        return threading.Thread(target=control.close)  # type: ignore[attr-defined]

    with running(FakeServer()) as fake:
        scenario = parse_scenario('name = "test"\n' + group(do("initialize")), "test")
        result = run_load(scenario, Settings(fake.url), dying)

    assert result.missing == ["worker 0 died, with what it had not reported yet"]
    assert not result.passed


def test_two_workers_share_the_connections() -> None:
    result = run(FakeServer(), group(do("initialize"), "connections = 5"), workers=2)

    assert result.connections == 5
    assert result.workers == 2


def test_the_descriptors_of_a_process_are_counted_as_they_are() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; os.pipe(), os.pipe(); print(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()  # the pipes are open
        found = proc.sample(child.pid)
        listed = list(Path(f"/proc/{child.pid}/fd").iterdir())
        child.communicate(b"\n")

    assert found is not None
    assert found.descriptors == len(listed) == 7
    assert proc.sample(child.pid) is None
