"""What clients have seen completed is there after `kill -9`, and no event number is used twice.

`KILL_ROUNDS=100` in the environment kills more often than the ordinary run does.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from durability.processes import Process
from wires import PATIENCE_S, WireClosed

ROUNDS = int(os.environ.get("KILL_ROUNDS", "6"))
CLIENTS = 3
SCRIPT = "say 40 30\ntext done\nsay 15 20"


class Witness(threading.Thread):
    """A client that runs turns until the server is gone, and keeps what it was sent."""

    def __init__(self, process: Process, number: int, enough: threading.Semaphore) -> None:
        super().__init__(name=f"witness {number}")
        self.client, self.wire = process.connect(self.name)
        started = self.client.request("thread/start")
        self.thread_id: str = started["thread"]["id"]
        self.epoch: str = started["epoch"]
        self._enough = enough
        # A thread is kept from its first turn on.
        self.client.run_turn(self.thread_id, "text begin")

    def run(self) -> None:
        with contextlib.suppress(WireClosed, OSError, AssertionError):
            while True:
                self.client.run_turn(self.thread_id, SCRIPT)
                self._enough.release()

    @property
    def last_seq(self) -> int:
        return max(int(message["seq"]) for message in self.client.events_of(self.thread_id))

    def completed(self) -> Iterator[tuple[str, bytes]]:
        """Go through the completed items: id, and bytes as they were sent."""
        for text in self.wire.texts:
            message = orjson.loads(text)
            if message.get("method") == "item/completed":
                yield message["params"]["item"]["id"], text.encode()

    def ended_turns(self) -> list[str]:
        return [
            message["params"]["turn"]["id"]
            for message in self.client.arrived
            if message.get("method") == "turn/completed"
        ]


def run_until_killed(store: Path, dice: random.Random) -> list[Witness]:
    """Have clients run turns, and kill the server at a moment that the dice choose."""
    process = Process(store)
    enough = threading.Semaphore(0)
    witnesses = [Witness(process, number, enough) for number in range(CLIENTS)]
    for witness in witnesses:
        witness.start()
    for _ in range(dice.randint(3, 25)):
        assert enough.acquire(timeout=PATIENCE_S)
    process.kill()
    for witness in witnesses:
        witness.join(PATIENCE_S)
        witness.client.wire.cut()
    return witnesses


def stored_payloads(store: Path, thread_id: str) -> dict[str, bytes]:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        rows = connection.execute("SELECT id, payload FROM items WHERE thread_id = ?", (thread_id,))
        return dict(rows.fetchall())


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_what_a_client_saw_completed_outlives_a_kill(tmp_path: Path, seed: int) -> None:
    store = tmp_path / "threads.sqlite"
    witnesses = run_until_killed(store, random.Random(seed))

    for witness in witnesses:
        payloads = stored_payloads(store, witness.thread_id)
        for item_id, sent in witness.completed():
            assert item_id in payloads, f"{item_id} was sent as completed and is not kept"
            assert payloads[item_id] in sent, f"{item_id} is not kept as it was sent"

    process = Process(store)
    try:
        for witness in witnesses:
            check_comes_back(process, witness)
    finally:
        process.kill()


def check_comes_back(process: Process, witness: Witness) -> None:
    client, _ = process.connect("survivor")
    answer = client.request(
        "thread/resume", threadId=witness.thread_id, afterSeq=witness.last_seq, epoch=witness.epoch
    )
    # The deltas after the last commit are gone, and the answer must not pretend otherwise.
    assert answer["delivery"] == "snapshot"
    assert answer["epoch"] == witness.epoch
    assert answer["seq"] >= witness.last_seq, "a number is used twice"
    statuses = {turn["id"]: turn["status"] for turn in answer["thread"]["turns"]}
    assert "inProgress" not in statuses.values()
    for turn_id in witness.ended_turns():
        assert statuses[turn_id] == "completed"
    client.run_turn(witness.thread_id, "text and on")
    client.close()


def test_a_turn_that_ran_at_the_kill_is_interrupted_with_its_completed_items(tmp_path: Path) -> None:
    store = tmp_path / "threads.sqlite"
    process = Process(store)
    client, _ = process.connect("alice")
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "text first\nask something")
    client.wait("item/commandExecution/requestApproval")
    process.kill()
    client.wire.cut()

    process = Process(store)
    try:
        client, _ = process.connect("bob")
        turn = client.request("thread/resume", threadId=thread_id)["thread"]["turns"][-1]
        assert (turn["id"], turn["status"]) == (turn_id, "interrupted")
        assert [item["type"] for item in turn["items"]] == ["userMessage", "agentMessage"]
        client.close()
    finally:
        process.kill()


def test_an_orderly_restart_misses_nothing(tmp_path: Path) -> None:
    """The count goes on where it was, so that a client who saw everything is told that it did."""
    store = tmp_path / "threads.sqlite"
    process = Process(store)
    client, _ = process.connect("alice")
    started = client.request("thread/start")
    thread_id = started["thread"]["id"]
    client.run_turn(thread_id, "text hello")
    client.request("thread/unsubscribe", threadId=thread_id)
    process.child.terminate()
    process.child.wait(PATIENCE_S)
    client.wire.cut()
    last_seq = max(message["seq"] for message in client.arrived if "seq" in message)

    again = Process(store)
    try:
        client, _ = again.connect("alice")
        answer = client.request(
            "thread/resume", threadId=thread_id, afterSeq=last_seq, epoch=started["epoch"]
        )
        # One event since: that the thread is loaded.
        assert (answer["delivery"], answer["seq"]) == ("events", last_seq + 1)
        assert client.wait("thread/status/changed")["seq"] == last_seq + 1
        client.close()
    finally:
        again.kill()
        assert process.child.stderr is not None
        process.child.stderr.close()


def test_two_servers_share_a_file_and_a_thread_has_one_writer(tmp_path: Path) -> None:
    store = tmp_path / "threads.sqlite"
    first, second = Process(store), Process(store)
    try:
        alice, _ = first.connect("alice")
        bob, _ = second.connect("bob")
        thread_id = alice.start_thread()
        alice.run_turn(thread_id, "text hello")

        assert bob.request("thread/read", threadId=thread_id)["thread"]["preview"] == "text hello"
        error = bob.refused("thread/resume", threadId=thread_id)
        assert error["message"] == f"thread {thread_id} already has an active writer"

        first.kill()
        assert bob.request("thread/resume", threadId=thread_id)["thread"]["id"] == thread_id
        bob.close()
        alice.wire.cut()
    finally:
        first.kill()
        second.kill()
