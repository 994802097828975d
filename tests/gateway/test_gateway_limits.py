"""Limits, time limits and scopes hold for threads of the upstream as for any."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Serve
from gateway.upstreams import FAKE
from helpers import Client, text_input
from houses import LocalHouse
from trunkline import Limits
from trunkline.testing import ManualClock
from trunkline.transports.auth import AuthOptions
from trunkline.transports.entrances import EntranceOptions
from wires import WebSocketWire

APPROVAL = "item/commandExecution/requestApproval"
DELTA = "item/agentMessage/delta"

Front = Callable[..., LocalHouse]


@pytest.fixture
def front(serve: Serve, place: Path) -> Front:
    """Puts servers with settings of the test's choice in front of the fake upstream."""
    return lambda **settings: serve(upstream=(sys.executable, str(FAKE), str(place)), **settings)


def said(client: Client) -> str:
    return "".join(message["params"]["delta"] for message in client.arrived if message.get("method") == DELTA)


def test_a_subscriber_that_does_not_read_falls_out_and_holds_up_nobody(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    house = front(limits=Limits(log_bytes=512 * 1024))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    slow = Client(WebSocketWire(house.url, receive_buffer_bytes=4096), "slow")
    house.clients.append(slow)
    slow.initialize()
    slow.resume(thread_id)

    for _ in range(50):  # none of them more than who reads may be behind
        alice.run_turn(thread_id, "say 50 4000")

    assert len(said(alice)) == 50 * 50 * 4000
    assert house.thread(thread_id).feed.subscriber_count == 1
    assert any("too far behind in thread" in message for message in caplog.messages)


def test_requests_over_the_limit_are_refused_while_the_upstream_is_at_the_others(front: Front) -> None:
    alice = front(limits=Limits(max_requests_in_flight=3)).connect()
    waiting = [alice.begin("later/one") for _ in range(3)]

    error = alice.refused("later/one")

    assert error["code"] == -32001
    assert not [message for message in alice.arrived if message.get("id") in waiting]


def test_a_prompt_that_nobody_answers_in_time_is_refused(front: Front) -> None:
    clock = ManualClock()
    house = front(clock=clock, prompt_timeout_s=300.0)
    alice = house.connect()
    thread_id = alice.start_thread()
    alice.request("turn/start", threadId=thread_id, input=text_input("ask rm"))
    prompt = alice.wait(APPROVAL)

    clock.advance(300.0)

    resolved = alice.wait("serverRequest/resolved", requestId=prompt["id"])
    assert resolved["params"]["reason"] == "nobody answered within 300 s"
    alice.wait("turn/completed")
    assert said(alice) == '"refused"'


def test_a_prompt_is_refused_at_once_if_nobody_is_to_be_waited_for(front: Front) -> None:
    house = front(prompt_without_subscriber="refuse")
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    answer = alice.request("thread/unsubscribe", threadId=thread_id)
    assert answer == {"status": "unsubscribed"}

    bob.request("turn/start", threadId=thread_id, input=text_input("ask rm"))

    bob.wait("thread/status/changed", threadId=thread_id, status={"type": "idle"})
    again = bob.request("thread/resume", threadId=thread_id, afterSeq=0, epoch=epoch_of(house, thread_id))
    assert again["delivery"] == "events"
    bob.wait("turn/completed")
    assert said(bob) == '"refused"'


def epoch_of(house: LocalHouse, thread_id: str) -> str:
    return house.thread(thread_id).feed.epoch


def test_who_may_watch_watches_and_no_more(front: Front, tmp_path: Path) -> None:
    files = []
    for scope in ("attach", "drive", "admin"):
        files.append(tmp_path / scope)
        files[-1].write_text(f"secret-{scope} {scope}")
        files[-1].chmod(0o600)
    auth = AuthOptions(mode="capability-token", token_files=tuple(files))
    house = front(entrances=EntranceOptions(auth=auth))

    def join(scope: str) -> Client:
        wire = WebSocketWire(house.url, headers={"Authorization": f"Bearer secret-{scope}"})
        house.clients.append(client := Client(wire, scope))
        client.initialize()
        return client

    watcher, driver, admin = join("attach"), join("drive"), join("admin")
    thread_id = driver.start_thread()
    watcher.resume(thread_id)
    driver.request("turn/start", threadId=thread_id, input=text_input("ask rm"))
    watcher.decide(watcher.wait(APPROVAL))  # which does not count
    refusals = [
        watcher.refused("turn/start", threadId=thread_id, input=text_input("say 1 9")),
        watcher.refused("thread/resume", threadId=thread_id, sandbox="danger-full-access"),
        driver.refused("command/brandNew", command=["true"]),
    ]
    driver.decide(driver.wait(APPROVAL), "decline")
    watcher.wait("turn/completed")

    assert [each["data"] for each in refusals] == [
        {"missingScope": scope} for scope in ("drive", "drive", "admin")
    ]
    assert said(watcher) == '{"decision": "decline"}'
    assert "seen" in admin.request("fake/seen")
