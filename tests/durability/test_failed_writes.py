"""What cannot be written is shown to nobody: the thread ends, the server goes on, and what was kept stays."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from children import environment
from conftest import Serve
from durability.processes import Process
from helpers import Client, text_input
from trunkline import StartError
from trunkline.store import schema
from wires import PATIENCE_S

REASONS = ("disk I/O error", "database or disk is full")
LARGE = "text " + "x" * 500_000


def told_types(client: Client, thread_id: str) -> list[str]:
    """Return the ids of the items that a client was told are completed."""
    return [
        message["params"]["item"]["id"]
        for message in client.events_of(thread_id)
        if message["method"] == "item/completed"
    ]


def kept_items(client: Client, thread_id: str) -> list[str]:
    page = client.request("thread/items/list", threadId=thread_id, limit=100)
    return [entry["item"]["id"] for entry in page["data"]]


def run_into_failure(client: Client, thread_id: str) -> str:
    """Run turns until the thread cannot be kept any more, and return what the client is told."""
    while True:
        client.begin("turn/start", threadId=thread_id, input=[{"type": "text", "text": LARGE}])
        message = client.wait_for(
            lambda message: message.get("method") in ("turn/completed", "thread/closed"), "an end"
        )
        if message["method"] == "thread/closed":
            client.wait("thread/status/changed", threadId=thread_id, status={"type": "systemError"})
            text: str = client.wait("warning", threadId=thread_id)["params"]["message"]
            return text


def check_a_full_disk(process: Process, fill: Callable[[], None], make_room: Callable[[], None]) -> None:
    alice, _ = process.connect("alice")
    thread_id, other_id = alice.start_thread(), alice.start_thread()
    alice.run_turn(thread_id, "text before")
    alice.run_turn(other_id, "text before")

    fill()
    said = run_into_failure(alice, thread_id)
    assert any(reason in said for reason in REASONS), said
    # An answer that promises something waits until it is kept, or is an error.
    error = alice.refused("thread/archive", threadId=other_id)
    assert error["code"] == -32603
    assert any(error["message"] == f"the thread cannot be stored: {reason}" for reason in REASONS)
    alice.request("thread/list")

    make_room()
    told = told_types(alice, thread_id)
    answer = alice.request("thread/resume", threadId=thread_id)
    assert answer["thread"]["status"]["type"] in ("idle", "notLoaded")
    kept = kept_items(alice, thread_id)
    assert kept[: len(told)] == told, "what was told as completed is not kept"
    alice.run_turn(thread_id, "text after")
    alice.request("thread/archive", threadId=other_id)
    assert [thread["id"] for thread in alice.request("thread/list")["data"]] == [thread_id]
    alice.close()
    log = process.stop()
    assert "Traceback" not in log
    assert "x" * 100 not in log


def test_a_full_disk_ends_the_thread_and_the_server_recovers(tmp_path: Path) -> None:
    """The disk is full for as long as the process may write no larger file."""
    store = tmp_path / "threads.sqlite"
    process = Process(store)
    pid, most = process.child.pid, resource.RLIM_INFINITY

    def fill() -> None:
        size = Path(f"{store}-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))

    def make_room() -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))

    check_a_full_disk(process, fill, make_room)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only somebody who may mount has a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_without_space_ends_the_thread_and_the_server_recovers(small_disk: Path) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    check_a_full_disk(Process(small_disk / "threads.sqlite"), fill, filler.unlink)


def test_a_full_disk_at_the_start_is_an_error_of_one_line(small_disk: Path) -> None:
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    said = refusal(small_disk / "threads.sqlite")
    assert "full" in said


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another_process(store: Path) -> Iterator[None]:
    """Keep everybody else from writing."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder, holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        yield


def test_a_locked_store_holds_back_what_it_promises_until_it_is_free(serve: Serve, tmp_path: Path) -> None:
    store = tmp_path / "threads.sqlite"
    house = serve(store=store)
    alice = house.connect()
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text before")
    with held_by_another_process(store):
        told = told_types(alice, thread_id)
        turn_id = alice.start_turn(thread_id, "text waits")
        assert alice.request("thread/loaded/list")["data"] == [thread_id]
        assert told_types(alice, thread_id) == told
    assert alice.wait_turn(turn_id)["status"] == "completed"
    assert kept_items(alice, thread_id) == told_types(alice, thread_id)


def test_an_answer_that_promises_something_waits_until_it_is_kept(serve: Serve, tmp_path: Path) -> None:
    store = tmp_path / "threads.sqlite"
    house = serve(store=store)
    alice = house.connect()
    named, archived, deleted, reverted, forked = (alice.start_thread() for _ in range(5))
    for thread_id in (named, archived, deleted, forked):
        alice.run_turn(thread_id, "text hello")
    turn_id = alice.run_turn(reverted, "text hello")["id"]
    with held_by_another_process(store):
        requests = [
            alice.begin("thread/name/set", threadId=named, name="new"),
            alice.begin("thread/archive", threadId=archived),
            alice.begin("thread/delete", threadId=deleted),
            alice.begin("thread/revert", threadId=reverted, beforeTurnId=turn_id),
            alice.begin("thread/fork", threadId=forked),
        ]
        alice.request("thread/loaded/list")
        assert not [message for message in alice.arrived if message.get("id") in requests]
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as reader:
            assert reader.execute("SELECT count(*) FROM threads").fetchone() == (5,)
    for request in requests:
        assert "result" in alice.response(request)
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as reader:
        rows = reader.execute("SELECT id, name, is_archived FROM threads ORDER BY id").fetchall()
        fork = rows.pop()
        assert rows == [(named, "new", 0), (archived, None, 1), (reverted, None, 0), (forked, None, 0)]
        assert fork[1:] == (None, 0)
        assert reader.execute("SELECT count(*) FROM turns WHERE thread_id = ?", (reverted,)).fetchone() == (
            0,
        )


def test_a_store_that_stays_locked_ends_the_thread(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_S", 0.1)
    store = tmp_path / "threads.sqlite"
    house = serve(store=store)
    alice = house.connect()
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text before")
    with held_by_another_process(store):
        assert "database is locked" in run_into_failure(alice, thread_id)
        error = alice.refused("thread/name/set", threadId=thread_id, name="new")
        assert error == {"code": -32603, "message": "the thread cannot be stored: database is locked"}
    told = told_types(alice, thread_id)
    turns = alice.request("thread/resume", threadId=thread_id)["thread"]["turns"]
    assert [item["id"] for turn in turns for item in turn["items"]] == told
    alice.run_turn(thread_id, "text after")


def test_a_store_that_is_locked_at_the_start_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_S", 0.1)
    store = tmp_path / "threads.sqlite"
    with contextlib.closing(schema.open_writer(store)):
        pass
    with held_by_another_process(store), pytest.raises(StartError, match="another program holds it"):
        schema.open_writer(store)


def refusal(store: Path) -> str:
    """Start a server that must refuse its store, as somebody without the rights of root."""
    command = [sys.executable, "-m", "trunkline_cli", "serve", "--listen", "ws://127.0.0.1:0"]
    child = subprocess.run(
        [*command, "--store", str(store)],
        env=environment(),
        preexec_fn=Process.obey_permissions,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert child.returncode == 1
    assert child.stderr.count("\n") == 1, child.stderr
    assert str(store) in child.stderr
    return child.stderr


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_be_written_is_refused_and_left_as_it_is(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "folder"
    store = folder / "threads.sqlite"
    schema.open_writer(store).close()
    for file in folder.iterdir():
        if file != store:
            file.unlink()
    before = store.read_bytes()
    target = store if what == "file" else folder
    target.chmod(0o400 if what == "file" else 0o500)
    try:
        assert "writable" in refusal(store)
    finally:
        target.chmod(0o700)
    assert store.read_bytes() == before


def test_a_file_that_is_damaged_under_a_running_server_costs_no_more_than_what_is_in_it(
    serve: Serve, tmp_path: Path
) -> None:
    store = tmp_path / "threads.sqlite"
    house = serve(store=store, unload_after_s=0)
    alice = house.connect()
    thread_id = alice.start_thread()
    for _ in range(20):
        alice.run_turn(thread_id, "text " + "x" * 3000)
    alice.request("thread/unsubscribe", threadId=thread_id)
    alice.wait("thread/closed")
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with store.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (store.stat().st_size - 4096))

    for method in ("thread/resume", "thread/read", "thread/items/list", "thread/turns/list"):
        error = alice.refused(method, threadId=thread_id)
        assert error == {"code": -32603, "message": "Internal error"}
    assert alice.refused("thread/list") == {"code": -32603, "message": "Internal error"}
    # What the writer still has in memory may go on for a while; either way there is an end.
    alice.begin("turn/start", threadId=alice.start_thread(), input=text_input("text hello"))
    alice.wait_for(lambda message: message.get("method") in ("turn/completed", "thread/closed"), "an end")
    bob = house.connect("bob")  # the server lives, and threads that are not stored do too
    bob.run_turn(bob.start_thread(ephemeral=True), "text hello")
