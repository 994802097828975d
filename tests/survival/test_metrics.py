"""What an operator sees: metrics, and the server at a glance."""

from __future__ import annotations

import http.client
import re
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cli.processes import run
from conftest import Serve
from helpers import Message
from houses import LocalHouse
from trunkline import AppServer, Config, Limits
from trunkline.testing import ManualClock
from trunkline.transports.auth import AuthOptions
from trunkline.transports.entrances import EntranceOptions
from trunkline_cli.status import lines
from wires import PATIENCE_S

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def get(url: str, **headers: str) -> tuple[int, str]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", parts.path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def samples(text: str) -> dict[str, float]:
    """Return the value of each metric, with its labels as they are written."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def metrics_of(house: LocalHouse) -> dict[str, float]:
    status, text = get(house.url.replace("ws:", "http:") + "/metrics")
    assert status == 200
    return samples(text)


def until(fits: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do; behind a fence it is done soon."""
    deadline = time.monotonic() + PATIENCE_S
    while not fits():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_metrics_say_what_happened(serve: Serve, tmp_path: Path) -> None:
    house = serve(store=tmp_path / "threads.sqlite")
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    joined_at = bob.request("thread/resume", threadId=thread_id)["seq"]
    alice.run_turn(thread_id, "text hello")
    bob.wait("turn/completed")
    bob.refused("thread/read", threadId="not-an-id")
    bob.refused("of/a/stranger")
    bob.fence(thread_id)
    later = [event for event in bob.events_of(thread_id) if event["seq"] > joined_at]  # before: a broadcast
    events = len(alice.events_of(thread_id)) + len(later)
    house.lose(bob)

    seen = metrics_of(house)

    assert {
        "trunkline_ready": 1,
        "trunkline_connections": 1,
        "trunkline_connections_initialized": 1,
        "trunkline_connections_opened_total": 2,
        "trunkline_connections_closed_total{code=1006}": 1,
        "trunkline_subscriptions": 1,
        "trunkline_threads": 1,
        "trunkline_turns": 0,
        "trunkline_turns_ended_total{status=completed}": 1,
        "trunkline_requests_in_flight": 0,
        "trunkline_requests_total{method=initialize,result=ok}": 2,
        "trunkline_requests_total{method=thread/start,result=ok}": 1,
        "trunkline_requests_total{method=thread/resume,result=ok}": 1,
        "trunkline_requests_total{method=thread/read,result=-32600}": 1,
        "trunkline_requests_total{method=other,result=-32601}": 1,
        "trunkline_deliveries_total": events,
        "trunkline_mailbox_messages{actor=router}": 0,
    }.items() <= seen.items()
    assert seen["trunkline_store_commit_seconds_count"] >= 1
    assert 0 < seen["trunkline_store_commit_seconds_sum"] < PATIENCE_S
    assert seen["trunkline_flush_bytes_count"] >= 8
    assert seen["trunkline_flush_bytes_sum"] > 1000


def test_a_running_turn_and_a_request_under_way_are_seen(house: LocalHouse) -> None:
    alice = house.connect("alice")
    alice.start_turn(alice.start_thread(), "ask ls")
    alice.wait("item/commandExecution/requestApproval")
    alice.fence()
    assert metrics_of(house)["trunkline_turns"] == 1


def test_refusals_are_counted_by_reason(serve: Serve, tmp_path: Path) -> None:
    token = tmp_path / "watcher.token"
    token.write_text("secret-of-the-watcher-0123456789 attach\n")
    token.chmod(0o600)
    options = EntranceOptions(auth=AuthOptions(mode="capability-token", token_files=(token,)))
    server = AppServer(Config(listen=("ws://127.0.0.1:0",), entrances=options))
    server.start()
    try:
        url = server.listeners[0].url.replace("ws:", "http:") + "/metrics"
        assert get(url)[0] == 401
        assert get(url, Origin="https://evil.example")[0] == 403
        status, text = get(url, Authorization="Bearer secret-of-the-watcher-0123456789")
        assert status == 200
        seen = samples(text)
        assert seen["trunkline_refusals_total{reason=http401}"] == 1
        assert seen["trunkline_refusals_total{reason=http403}"] == 1
        assert "secret" not in text
    finally:
        server.stop(grace_s=0)


def test_the_metrics_may_have_a_port_of_their_own(serve: Serve) -> None:
    house = serve(entrances=EntranceOptions(metrics_listen="127.0.0.1:0"))
    url = house.server.metrics_url
    assert url is not None
    status, text = get(url)
    assert (status, samples(text)["trunkline_connections"]) == (200, 0)
    assert get(url.removesuffix("/metrics"))[0] == 404
    assert [listening.url for listening in house.server.listeners] == [house.url]


def test_two_servers_in_one_process_count_apart(serve: Serve) -> None:
    one, other = serve(), serve()
    one.connect("alice").start_thread()
    assert metrics_of(one)["trunkline_threads"] == 1
    assert metrics_of(other)["trunkline_threads"] == 0
    assert "trunkline_requests_total{method=thread/start,result=ok}" not in metrics_of(other)


def test_a_slow_consumer_is_counted_by_what_it_was_slow_at(serve: Serve) -> None:
    clock = ManualClock()
    house = serve(clock=clock, limits=Limits(ping_interval_s=10.0, ping_timeout_s=10.0))
    house.connect("silent")
    alice = house.connect("alice")
    for _ in range(1000):  # a second each
        if house.server.status()["slowConsumers"]:
            break
        clock.advance(1.0)
        alice.request("thread/loaded/list")  # who sends is left alone
    assert house.server.status()["slowConsumers"] == {"ping": 1}


def test_subscriptions_come_back_to_none(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    first, second = alice.start_thread(), alice.start_thread()
    for thread_id in (first, second, second):
        bob.resume(thread_id)
    assert house.server.status()["subscriptions"] == 4
    bob.request("thread/unsubscribe", threadId=first)
    bob.request("thread/unsubscribe", threadId=first)
    assert house.server.status()["subscriptions"] == 3
    alice.request("thread/archive", threadId=alice.start_thread())
    house.lose(bob)
    alice.run_turn(second, "text kept")
    alice.request("thread/delete", threadId=second)
    alice.wait("thread/deleted")
    alice.fence()
    house.lose(alice)
    assert house.server.status()["subscriptions"] == 0


def test_the_status_is_a_request_as_well_and_a_command(house: LocalHouse) -> None:
    alice = house.connect("alice")
    alice.start_thread()
    answer: Message = alice.request("trunkline/status")
    assert answer["threads"] == {"loaded": 1}
    assert answer["requests"]["answered"]["thread/start"] == {"ok": 1}
    assert {"router", "connection", "thread", "store"} == answer["mailboxes"].keys()

    shown = run("status", house.url)

    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^threads +1 loaded$", shown.stdout, re.MULTILINE)
    assert re.search(r"^connections +2 of 2 that came in$", shown.stdout, re.MULTILINE)
    assert [name for name, _ in lines(answer)] == [
        re.split("  +", line, maxsplit=1)[0].strip() for line in shown.stdout.splitlines()
    ]
    assert run("status", house.url, "--json").stdout.startswith("{")


def test_the_page_names_every_metric(serve: Serve, tmp_path: Path) -> None:
    house = serve(store=tmp_path / "threads.sqlite")
    client = house.connect()
    client.run_turn(client.start_thread(), "text hello")
    page = PAGE.replace("`, `_", "`, `trunkline_connections_")
    for name in {re.sub("_(bucket|count|sum)?({.*)?$", "", name) for name in metrics_of(house)}:
        bare = re.sub("_(bucket|count|sum)$", "", name.partition("{")[0])
        assert re.search(rf"`{bare}(\{{.*?\}})?`", page), bare
    for member in house.server.status():
        assert f"`{member}" in PAGE or member == "version", member
