from __future__ import annotations

from typing import Any

import pytest

from trunkline_cli.client import ServerRequest
from trunkline_cli.prompts import Approval, NotUnderstood, Questions, read_prompt
from trunkline_cli.text import Palette

PLAIN = Palette(is_on=False)


def approval(**params: Any) -> Approval:
    prompt = read_prompt(ServerRequest(1, "item/commandExecution/requestApproval", params), PLAIN)
    assert isinstance(prompt, Approval)
    return prompt


def questions(*items: dict[str, Any]) -> Questions:
    request = ServerRequest(1, "item/tool/requestUserInput", {"questions": list(items)})
    prompt = read_prompt(request, PLAIN)
    assert isinstance(prompt, Questions)
    return prompt


@pytest.mark.parametrize(
    ("line", "decision"),
    [
        ("y", "accept"),
        ("yes", "accept"),
        (" Y ", "accept"),
        ("a", "acceptForSession"),
        ("always", "acceptForSession"),
        ("n", "decline"),
        ("no", "decline"),
        ("c", "cancel"),
        ("cancel", "cancel"),
    ],
)
def test_an_approval_is_answered_by_letter_or_word(line: str, decision: str) -> None:
    assert approval().take(line) == {"decision": decision}


@pytest.mark.parametrize("line", ["", "maybe", "yesterday", "yn", "1"])
def test_nothing_else_approves_anything(line: str) -> None:
    with pytest.raises(NotUnderstood, match="type y, a, n or c"):
        approval().take(line)


def test_an_approval_offers_what_the_server_lists() -> None:
    prompt = approval(availableDecisions=["accept", {"acceptWithExecpolicyAmendment": {}}, "cancel"])
    assert prompt.question() == "Allow? [y]es/[c]ancel "
    with pytest.raises(NotUnderstood, match="type y or c"):
        prompt.take("n")


@pytest.mark.parametrize("hint", [None, [], ["somethingNew"]])
def test_an_approval_offers_everything_where_the_list_says_nothing(hint: object) -> None:
    assert approval(availableDecisions=hint).question() == "Allow? [y]es/[a]lways/[n]o/[c]ancel "


def test_a_command_that_cannot_be_seen_yet_is_shown_with_its_reason() -> None:
    prompt = approval(command="rm\x1b[2K x\nls", reason="outside\nthe sandbox")
    assert prompt.details(item_is_shown=False) == ("$ rm\\x1b[2K x\n  ls\n  why: outside\\nthe sandbox")
    assert prompt.details(item_is_shown=True) == "  why: outside\\nthe sandbox"


def test_a_free_question_takes_any_line() -> None:
    prompt = questions({"id": "q", "header": "Name", "question": "What is it called?", "options": None})
    assert prompt.details(item_is_shown=False) == "? Name\n  What is it called?"
    assert prompt.question() == "Answer: "
    assert prompt.take(" trunk ") == {"answers": {"q": {"answers": ["trunk"]}}}


def test_a_choice_takes_a_number_or_a_label_and_nothing_else() -> None:
    options = [{"label": "Red", "description": "like roses"}, {"label": "Blue", "description": ""}]
    question = {"id": "q", "header": "", "question": "Which?", "options": options}
    prompt = questions(question)
    assert prompt.details(item_is_shown=False) == "  Which?\n  1. Red  like roses\n  2. Blue"
    assert prompt.question() == "Answer [1-2]: "
    for line in ("0", "3", "green", ""):
        with pytest.raises(NotUnderstood, match="a number from 1 to 2"):
            prompt.take(line)
    assert prompt.take("2") == {"answers": {"q": {"answers": ["Blue"]}}}
    assert questions(question).take("red") == {"answers": {"q": {"answers": ["Red"]}}}
    assert questions({**question, "isOther": True}).take("green") == {
        "answers": {"q": {"answers": ["green"]}}
    }


def test_several_questions_are_asked_one_after_the_other() -> None:
    prompt = questions(
        {"id": "a", "question": "First?"}, {"id": "b", "question": "Second?", "isSecret": True}
    )
    assert not prompt.is_secret
    assert prompt.take("1") is None
    assert prompt.is_secret
    assert "Second?" in prompt.details(item_is_shown=False)
    # What is secret is taken as it is typed.
    assert prompt.take(" 2 ") == {"answers": {"a": {"answers": ["1"]}, "b": {"answers": [" 2 "]}}}


def test_what_a_person_cannot_answer_is_no_prompt() -> None:
    assert read_prompt(ServerRequest(1, "item/tool/call", {}), PLAIN) is None
