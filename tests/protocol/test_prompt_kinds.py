"""What an answer to each prompt must look like."""

from __future__ import annotations

import pytest

from trunkline.protocol.prompts import prompt_kind

COMMAND = "item/commandExecution/requestApproval"
FILE = "item/fileChange/requestApproval"
QUESTION = "item/tool/requestUserInput"
PERMISSIONS = "item/permissions/requestApproval"


@pytest.mark.parametrize("method", [COMMAND, FILE])
@pytest.mark.parametrize("decision", ["accept", "acceptForSession", "decline", "cancel"])
def test_a_decision_answers_an_approval(method: str, decision: str) -> None:
    result = {"decision": decision, "extra": 1}
    assert prompt_kind(method).read(result) == result


EXEC = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["ls"]}}
NETWORK = {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"action": "deny", "host": "x"}}}


@pytest.mark.parametrize("amendment", [EXEC, NETWORK])
def test_an_amendment_answers_the_approval_of_a_command_only(amendment: object) -> None:
    result = {"decision": amendment}
    assert prompt_kind(COMMAND).read(result) == result
    assert prompt_kind(FILE).read(result) is None


@pytest.mark.parametrize(
    "amendment",
    [
        {**EXEC, **NETWORK},
        {"acceptWithExecpolicyAmendment": None},
        {"acceptWithExecpolicyAmendment": {}},
        {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"action": "maybe", "host": "x"}}},
        {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"action": "allow"}}},
    ],
)
def test_an_amendment_that_is_not_one_whole_amendment_answers_nothing(amendment: object) -> None:
    assert prompt_kind(COMMAND).read({"decision": amendment}) is None


@pytest.mark.parametrize("method", [COMMAND, FILE])
@pytest.mark.parametrize(
    "result",
    [
        {},
        {"decision": None},
        {"decision": "Accept"},
        {"decision": "yes"},
        {"decision": {}},
        {"decision": {"other": {}}},
        {"decision": ["accept"]},
        {"answers": {}},
        [],
        None,
        "accept",
        True,
    ],
)
def test_anything_else_does_not_answer_an_approval(method: str, result: object) -> None:
    assert prompt_kind(method).read(result) is None


@pytest.mark.parametrize(
    "answers", [{}, {"a": {"answers": []}}, {"a": {"answers": ["x", "y"]}, "b": {"answers": [""]}}]
)
def test_lists_of_texts_by_question_answer_a_question(answers: object) -> None:
    assert prompt_kind(QUESTION).read({"answers": answers}) == {"answers": answers}


@pytest.mark.parametrize(
    "result", [{}, {"answers": []}, {"answers": {"a": "x"}}, {"answers": {"a": {"answers": [1]}}}]
)
def test_anything_else_does_not_answer_a_question(result: object) -> None:
    assert prompt_kind(QUESTION).read(result) is None


def test_another_prompt_is_answered_by_any_object() -> None:
    for method in (PERMISSIONS, "item/tool/call", "no/such"):
        assert prompt_kind(method).read({"x": 1}) == {"x": 1}
        assert prompt_kind(method).read([1]) is None


def test_the_flag_of_a_prompt_is_that_of_the_protocol() -> None:
    flags = {
        method: prompt_kind(method).flag
        for method in (COMMAND, FILE, PERMISSIONS, QUESTION, "item/tool/call")
    }
    assert flags == {
        COMMAND: "waitingOnApproval",
        FILE: "waitingOnApproval",
        PERMISSIONS: "waitingOnApproval",
        QUESTION: "waitingOnUserInput",
        "item/tool/call": None,
    }
