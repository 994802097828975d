from __future__ import annotations

from pathlib import Path

import pytest

from agents.harness import (
    AnswerWith,
    Gate,
    Run,
    accept,
    decide,
    leave_open,
    refuse,
    run,
    status_of,
    text_input,
)
from trunkline.agents.base import ApprovalPolicy
from trunkline.agents.events import Answer, PromptRaised
from trunkline.agents.shell import ShellAgent

for_session = decide("acceptForSession")


def test_nothing_runs_before_the_approval(shell: ShellAgent, tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(prompt: PromptRaised) -> Answer | None:
        seen.append((tmp_path / "made").exists())
        return accept(prompt)

    run(shell, "touch made", answer=look, cwd=tmp_path)

    assert seen == [False]
    assert (tmp_path / "made").exists()


def test_the_prompt_names_the_item_the_command_and_the_directory(shell: ShellAgent, tmp_path: Path) -> None:
    done = run(shell, "true", cwd=tmp_path)

    (prompt,) = done.prompts
    assert prompt.method == "item/commandExecution/requestApproval"
    assert prompt.params["itemId"] == done.item["id"]
    assert prompt.params["command"] == "true"
    assert prompt.params["cwd"] == str(tmp_path)


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (decide("decline"), "declined", "completed"),
        (decide("cancel"), "declined", "interrupted"),
        (refuse, "failed", "completed"),
    ],
)
def test_a_command_that_is_not_accepted_does_not_run(
    shell: ShellAgent, tmp_path: Path, answer: AnswerWith, status: str, outcome: str
) -> None:
    done = run(shell, "touch made", answer=answer, cwd=tmp_path)

    assert status_of(done) == (status, None)
    assert done.outcome == outcome
    assert not (tmp_path / "made").exists()


def test_a_declined_command_has_no_duration(shell: ShellAgent) -> None:
    assert run(shell, "true", answer=decide("decline")).item["durationMs"] is None


def asked(
    shell: ShellAgent, policy: ApprovalPolicy, answer: AnswerWith, *commands: str, cwd: Path = Path("/")
) -> int:
    """Run commands, a turn each, and return how many prompts there were."""
    return sum(
        len(run(shell, command, answer=answer, policy=policy, cwd=cwd).prompts) for command in commands
    )


def test_untrusted_asks_every_time(shell: ShellAgent) -> None:
    assert asked(shell, "untrusted", for_session, "true", "true", "true") == 3


def test_untrusted_does_not_offer_to_accept_for_the_session(shell: ShellAgent) -> None:
    untrusted = run(shell, "true", policy="untrusted").prompts[0].params["availableDecisions"]
    on_request = run(shell, "true", policy="on-request").prompts[0].params["availableDecisions"]

    assert untrusted == ["accept", "decline", "cancel"]
    assert on_request == ["accept", "acceptForSession", "decline", "cancel"]


def test_on_request_does_not_ask_again_for_what_was_accepted_for_the_session(shell: ShellAgent) -> None:
    assert asked(shell, "on-request", for_session, "true", "true", "true") == 1


def test_on_request_asks_again_for_what_was_accepted_once(shell: ShellAgent) -> None:
    assert asked(shell, "on-request", accept, "true", "true") == 2


def test_on_request_asks_for_any_other_command(shell: ShellAgent) -> None:
    assert asked(shell, "on-request", for_session, "true", "true ", "true; true") == 3


def test_on_request_asks_for_the_same_command_in_another_directory(shell: ShellAgent, tmp_path: Path) -> None:
    assert asked(shell, "on-request", for_session, "true") == 1
    assert asked(shell, "on-request", for_session, "true", cwd=tmp_path) == 1


def test_on_request_asks_on_another_thread(shell: ShellAgent) -> None:
    assert asked(shell, "on-request", for_session, "true") == 1
    assert asked(ShellAgent(), "on-request", for_session, "true") == 1


def test_an_amendment_accepts_for_the_session(shell: ShellAgent) -> None:
    amendment = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["true"]}}

    def amend(prompt: PromptRaised) -> Answer:
        return Answer("result", {"decision": amendment})

    assert asked(shell, "on-request", amend, "true", "true") == 1


def test_never_runs_without_asking(shell: ShellAgent) -> None:
    done = run(shell, "echo hello", answer=leave_open, policy="never")

    assert done.prompts == []
    assert done.streamed == "hello\n"


# Input that comes while a command runs


def test_input_that_comes_meanwhile_is_asked_for_and_run_afterwards(shell: ShellAgent, gate: Gate) -> None:
    running = Run(shell, f"echo one; read x < {gate.path}").start()
    running.wait_for_output("one")
    running.turn.steer(text_input("echo two"))
    running.turn.steer(text_input("echo three"))
    gate.open()
    running.finish()

    assert [item["aggregatedOutput"] for item in running.items] == ["one\n", "two\n", "three\n"]
    assert [prompt.params["command"] for prompt in running.prompts][1:] == ["echo two", "echo three"]


def test_a_declined_command_does_not_keep_the_next_from_running(shell: ShellAgent) -> None:
    running = Run(shell, "echo one", answer=leave_open).start().wait_for_prompt()
    running.turn.steer(text_input("echo two"))
    running.answer = accept
    running.answer_open("decline").finish()

    assert [item["status"] for item in running.items] == ["declined", "completed"]


def test_a_cancelled_command_is_the_last_one(shell: ShellAgent) -> None:
    running = Run(shell, "echo one", answer=leave_open).start().wait_for_prompt()
    running.turn.steer(text_input("echo two"))
    running.answer_open("cancel").finish()

    assert len(running.items) == 1
    assert running.outcome == "interrupted"
