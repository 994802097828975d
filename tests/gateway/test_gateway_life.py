"""The gateway's upstream as a process: how it starts, dies, comes back and is stopped."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from cli.processes import run
from conftest import Serve
from gateway.upstreams import FAKE, Gateway
from helpers import Client, text_input
from houses import actors
from trunkline import AppServer, Config
from trunkline.errors import ConfigError
from trunkline.gateway.upstream import Upstream
from trunkline.testing import ManualClock
from watchdog import Watchdog
from wires import PATIENCE_S

APPROVAL = "item/commandExecution/requestApproval"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def used_thread(gateway: Gateway, client: Client) -> str:
    """Return a thread that the upstream has stored."""
    thread_id = client.start_thread()
    client.run_turn(thread_id, "say 1 9")
    return thread_id


def test_a_running_turn_fails_when_the_upstream_dies(gateway: Gateway) -> None:
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    thread_id = used_thread(gateway, alice)
    bob.resume(thread_id)

    alice.request("turn/start", threadId=thread_id, input=text_input("die"))

    for client in (alice, bob):
        item = client.wait_for(
            lambda m: m.get("method") == "item/completed" and m["params"]["item"]["text"] == "half a mess"
        )
        assert item["params"]["threadId"] == thread_id
        assert item["params"]["item"]["completedAtMs"] is not None
        error = client.wait("error")["params"]["error"]
        assert error["message"] == "the upstream app-server has ended"
        turn = client.wait_for(
            lambda m: m.get("method") == "turn/completed" and m["params"]["turn"]["status"] == "failed"
        )["params"]["turn"]
        assert turn["error"] == error
    assert bob.wait("thread/status/changed", status={"type": "systemError"})


def test_open_prompts_are_resolved_when_the_upstream_dies(gateway: Gateway) -> None:
    alice = gateway.connect()
    thread_id = used_thread(gateway, alice)
    alice.start_turn(thread_id, "ask rm")
    prompt = alice.wait(APPROVAL)

    gateway.kill()

    alice.wait("serverRequest/resolved", requestId=prompt["id"])
    alice.wait("error")


def test_what_was_asked_is_refused_when_the_upstream_dies(gateway: Gateway) -> None:
    alice = gateway.connect()
    alice.request("fake/seen")
    asked = alice.begin("later/never")

    gateway.kill()

    error = alice.response(asked)["error"]
    assert error["code"] == -32001
    assert error["data"] == {"codexErrorInfo": "server_overloaded"}  # which the SDK takes as worth a retry


def test_a_loaded_thread_goes_on_in_the_next_upstream(gateway: Gateway) -> None:
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    thread_id = used_thread(gateway, alice)
    bob.resume(thread_id)
    bob.drain(thread_id)

    gateway.kill()
    gateway.request_when_up(alice, "fake/seen")
    alice.start_turn(thread_id, "say 2 9")  # nobody resumes: that is for the gateway to do

    bob.wait("turn/completed", threadId=thread_id)
    assert len(gateway.pids()) == 2
    assert gateway.asked("thread/resume")[-1]["params"] == {"threadId": thread_id, "excludeTurns": True}


def test_a_thread_that_the_next_upstream_has_not_is_refused_with_its_words(gateway: Gateway) -> None:
    alice = gateway.connect()
    thread_id = alice.start_thread()  # never used, and so nowhere stored

    gateway.kill()
    gateway.request_when_up(alice, "fake/seen")

    error = alice.refused("turn/start", threadId=thread_id, input=text_input("say 1 9"))
    assert error["message"] == f"no rollout found for thread id {thread_id}"


def test_a_connection_outlives_many_upstreams(gateway: Gateway) -> None:
    alice = gateway.connect()
    for count in range(1, 4):
        gateway.request_when_up(alice, "fake/seen")
        assert len(gateway.pids()) == count
        pending = alice.begin("later/never")
        gateway.kill()
        assert alice.response(pending)["error"]["code"] == -32001


def test_the_upstream_is_given_the_end_of_its_input_when_the_server_stops(
    serve: Serve, gateway: Gateway
) -> None:
    gateway.connect().request("fake/seen")

    gateway.house.server.stop(grace_s=0)

    assert (gateway.place / "ended").exists()
    assert not is_alive(gateway.pids()[-1])


def test_an_upstream_that_does_not_heed_that_gets_a_signal(
    serve: Serve, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.gateway.gateway.END_S", 0.1)
    house = serve(upstream=(sys.executable, str(FAKE), str(place), "deaf"))
    gateway = Gateway(house, place)
    gateway.connect().request("fake/seen")

    house.server.stop(grace_s=0)

    assert not is_alive(gateway.pids()[-1])
    assert not (place / "ended").exists()


def test_an_upstream_whose_own_child_holds_its_output_has_died_all_the_same(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.gateway.child.TERM_S", 0.1)
    alice = gateway.connect()
    thread_id = used_thread(gateway, alice)

    alice.request("turn/start", threadId=thread_id, input=text_input("orphan"))

    alice.wait("error", threadId=thread_id)
    gateway.request_when_up(alice, "fake/seen")
    assert len(gateway.pids()) == 2


def test_an_upstream_that_refuses_to_be_initialized_is_tried_again(serve: Serve, place: Path) -> None:
    house = serve(upstream=(sys.executable, str(FAKE), str(place), "shy"))
    gateway, alice = Gateway(house, place), house.connect()
    deadline = time.monotonic() + PATIENCE_S

    assert alice.refused("fake/seen")["code"] == -32001

    while len(gateway.pids()) < 2:
        assert alice.refused("fake/seen")["code"] == -32001
        assert time.monotonic() < deadline


def test_an_upstream_that_keeps_ending_is_started_again_less_and_less_often(
    serve: Serve, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", logger="trunkline.gateway.upstream")
    clock = ManualClock()
    house = serve(upstream=(sys.executable, str(FAKE), str(place), "shy"), clock=clock)
    [upstream] = actors(Upstream)
    for started, delay_s in enumerate((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0), start=1):
        deadline = time.monotonic() + PATIENCE_S
        while sum("it has ended" in message for message in caplog.messages) < started:
            assert time.monotonic() < deadline
            house.settle()
        house.settle()
        clock.advance(delay_s - 0.01)
        house.settle()
        assert upstream._generation == started
        clock.advance(0.02)
        house.settle()
        assert upstream._generation == started + 1


def test_no_handler_waits_while_the_upstream_dies_and_comes_back(
    watchdog: Watchdog, gateway: Gateway
) -> None:
    alice = gateway.connect()
    thread_id = used_thread(gateway, alice)
    for count in range(1, 3):
        alice.start_turn(thread_id, "ask rm")
        alice.decide(alice.wait(APPROVAL))
        alice.wait("turn/completed", threadId=thread_id)
        gateway.kill()
        gateway.request_when_up(alice, "fake/seen")
        assert len(gateway.pids()) == count + 1
    assert not watchdog.seen


def test_a_turn_that_runs_when_the_server_stops_is_interrupted(gateway: Gateway) -> None:
    alice = gateway.connect()
    thread_id = used_thread(gateway, alice)
    alice.start_turn(thread_id, "begin a long talk")
    alice.fence(thread_id)

    gateway.house.server.stop(grace_s=0)

    assert alice.wait_for(
        lambda m: m.get("method") == "turn/completed" and m["params"]["turn"]["status"] == "interrupted"
    )


def test_codex_does_not_go_with_another_upstream() -> None:
    with pytest.raises(ConfigError, match="does not go with another one"):
        AppServer(Config(agent="codex", upstream=(sys.executable,)))


def test_a_program_that_is_not_there_is_a_setting_that_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="there is no program `/no/such/program`"):
        AppServer(Config(upstream=("/no/such/program",)))


@pytest.mark.parametrize("command", ["", "/no/such/program app-server", "'"])
def test_serve_refuses_an_upstream_that_cannot_be_run(command: str) -> None:
    result = run("serve", "--listen", "off", "--upstream", command)

    assert result.returncode == 2
    assert "--upstream" in result.stderr


def test_an_upstream_that_cannot_be_started_is_tried_again(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / "not-really"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    alice = serve(upstream=(str(program),)).connect()

    error = alice.refused("thread/loaded/list")

    assert (error["code"], error["message"]) == (
        -32001,
        "The upstream app-server is not running; retry later.",
    )


def test_the_standard_error_of_the_upstream_goes_to_the_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trunkline.gateway.child")
    alice = gateway.connect()
    alice.request("fake/complain", text="\x1b[31mERROR\x1b[0m it \x07rings\x1b[2J")

    gateway.house.server.stop(grace_s=0)  # behind which all of it has been read

    assert "= upstream: ERROR it  rings" in caplog.messages


def test_a_ctrl_c_at_our_terminal_is_not_the_upstreams(gateway: Gateway) -> None:
    gateway.connect().request("fake/seen")

    assert os.getpgid(gateway.pids()[-1]) != os.getpgid(0)
