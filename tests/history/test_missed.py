"""What a client missed is told again after its thread was unloaded, and after the server was started anew."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers import Client, Message
from history.test_after_seq import events_behind
from houses import LocalHouse, Puppets, running_server
from routing.streams import check_unbroken
from trunkline import Limits


def come_back(
    house: LocalHouse, name: str, thread_id: str, after_seq: int, epoch: str
) -> tuple[Client, Message]:
    client = house.connect(name)
    return client, client.request("thread/resume", threadId=thread_id, afterSeq=after_seq, epoch=epoch)


def check_every_place(house: LocalHouse, thread_id: str, epoch: str, told: list[Message], since: int) -> None:
    """Come back to each place: from `since` on there are exactly the events, before it a snapshot."""
    watcher, answer = come_back(house, "watcher", thread_id, told[-1]["seq"], epoch)
    assert answer["delivery"] == "events"
    for after in range(told[-1]["seq"] + 1):
        client, answer = come_back(house, f"after {after}", thread_id, after, epoch)
        assert answer["epoch"] == epoch
        client.fence(thread_id)
        events = events_behind(client, answer, thread_id)
        if after < since:
            assert (answer["delivery"], events) == ("snapshot", [])
        else:
            assert answer["delivery"] == "events"
            check_unbroken(events, after)
            assert events[: len(told) - after] == told[after:], "not the same events, byte for byte"
        client.close()
    # It goes on live.
    watcher.run_turn(thread_id, "text live")
    check_unbroken(watcher.events_of(thread_id), told[-1]["seq"])


def test_events_are_told_again_after_the_thread_was_unloaded(kept: LocalHouse) -> None:
    alice = kept.connect("alice")
    started = alice.request("thread/start")
    thread_id = started["thread"]["id"]
    alice.run_turn(thread_id, "say 5 5\ntext done")
    turn_id = alice.start_turn(thread_id, "ask something\ntext allowed")
    alice.decide(alice.wait("item/commandExecution/requestApproval"))
    alice.wait_turn(turn_id)
    bob = kept.connect("bob")  # is told the thread's last events, which are for everybody
    alice.request("thread/unsubscribe", threadId=thread_id)
    bob.wait("thread/closed")
    alice.fence()
    check_every_place(kept, thread_id, started["epoch"], alice.events_of(thread_id), since=0)


def test_events_are_told_again_after_a_restart(tmp_path: Path) -> None:
    with successive(tmp_path) as servers:
        alice = servers.start().connect("alice")
        started = alice.request("thread/start")
        thread_id = started["thread"]["id"]
        alice.run_turn(thread_id, "say 5 5\ntext done")
        alice.fence(thread_id)
        told = alice.events_of(thread_id)
        check_every_place(servers.start(), thread_id, started["epoch"], told, since=0)


def test_events_that_cannot_be_read_are_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "threads.sqlite"
    with running_server(store=path) as house:
        alice = house.connect("alice")
        started = alice.request("thread/start")
        thread_id = started["thread"]["id"]
        alice.run_turn(thread_id, "text kept")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("UPDATE events SET data = x'c1'").rowcount

    with running_server(store=path) as house:
        last_seq = alice.events_of(thread_id)[-1]["seq"]
        client, answer = come_back(house, "bob", thread_id, last_seq - 1, started["epoch"])
        assert answer["delivery"] == "snapshot"
        client.run_turn(thread_id, "text goes on")


def test_a_prompt_of_another_run_is_not_told_again(tmp_path: Path) -> None:
    """Its id may be that of another prompt by now: who missed it gets a snapshot."""
    with successive(tmp_path) as servers:
        alice = servers.start().connect("alice")
        started = alice.request("thread/start")
        thread_id = started["thread"]["id"]
        turn_id = alice.start_turn(thread_id, "ask something\ntext allowed")
        alice.decide(alice.wait("item/commandExecution/requestApproval"))
        alice.wait_turn(turn_id)
        alice.fence(thread_id)
        resolved = alice.wait("serverRequest/resolved")["seq"]
        told = alice.events_of(thread_id)
        check_every_place(servers.start(), thread_id, started["epoch"], told, since=resolved)


def test_no_more_events_are_stored_than_there_is_room_for(tmp_path: Path) -> None:
    limits = Limits(stored_event_bytes=3_000)
    with successive(tmp_path, limits=limits) as servers:
        alice = servers.start().connect("alice")
        started = alice.request("thread/start")
        thread_id = started["thread"]["id"]
        deliveries: list[str] = []
        for _ in range(2):
            alice.run_turn(thread_id, "say 30 5")
            alice.fence(thread_id)
            last = alice.events_of(thread_id)[-1]["seq"]
            house = servers.start()
            for back in (0, 3, 30):
                client, answer = come_back(house, f"{back}", thread_id, last - back, started["epoch"])
                client.fence(thread_id)
                deliveries.append(answer["delivery"])
                if answer["delivery"] == "events":
                    check_unbroken(events_behind(client, answer, thread_id), last - back)
            alice = client
        assert deliveries == ["events", "events", "snapshot"] * 2


def test_who_has_seen_everything_is_told_when_that_was_not_all(stage: LocalHouse, puppets: Puppets) -> None:
    """A turn that is cut off with its thread has ended without an event: there must be a snapshot."""
    alice = stage.connect("alice")
    started = alice.request("thread/start")
    thread_id = started["thread"]["id"]
    alice.start_turn(thread_id, "x")
    puppets.next().speak("hello")
    alice.wait("item/agentMessage/delta")
    alice.fence(thread_id)
    last = alice.events_of(thread_id)[-1]["seq"]

    stage.thread(thread_id).actor_ref.stop()

    _, answer = come_back(stage, "again", thread_id, last, started["epoch"])
    assert answer["delivery"] == "snapshot"
    assert answer["thread"]["turns"][-1]["status"] == "interrupted"
    assert answer["seq"] > last


class Successive:
    """Servers on one store, one after the other."""

    def __init__(self, stack: contextlib.ExitStack, settings: dict[str, Any]) -> None:
        self._outer = stack
        self._settings = settings
        self._stack = contextlib.ExitStack()

    def start(self) -> LocalHouse:
        """Stop the server that runs, and start the next."""
        self._stack.close()
        self._stack = self._outer.enter_context(contextlib.ExitStack())
        return self._stack.enter_context(running_server(**self._settings))


@contextlib.contextmanager
def successive(folder: Path, **settings: Any) -> Iterator[Successive]:
    """Have servers on a store in this folder; the last one is stopped at the end."""
    with contextlib.ExitStack() as stack:
        yield Successive(stack, {"store": folder / "threads.sqlite", **settings})
