from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agents.harness import (
    PATIENCE_S,
    AnswerWith,
    Run,
    decide,
    leave_open,
    refuse,
    run,
    text_input,
    user_says,
)
from trunkline.agents.events import Answer, ItemCompleted, ItemDelta, ItemStarted, PromptRaised
from trunkline.agents.script import ScriptAgent
from trunkline.errors import TurnFailed


@pytest.fixture
def agent() -> ScriptAgent:
    return ScriptAgent()


# The script as a whole


@pytest.mark.parametrize("text", [(), "", "\n\n", "  \r\n"])
def test_an_empty_script_completes_without_an_item(agent: ScriptAgent, text: str | tuple[()]) -> None:
    done = run(agent, text)

    assert done.outcome == "completed"
    assert done.events == []


def test_a_line_that_is_no_action_is_said_back(agent: ScriptAgent) -> None:
    assert run(agent, "hello there").said == ["hello there"]


def test_actions_are_done_in_the_order_of_their_lines(agent: ScriptAgent) -> None:
    done = run(agent, "text one\ntwo\n\nsay 1 3\r\n  text four")

    assert done.said == ["one", "two", " ab", "four"]
    assert done.outcome == "completed"


def test_every_text_part_of_the_input_is_part_of_the_script(agent: ScriptAgent) -> None:
    parts = [*text_input("text one"), {"type": "image", "url": "text two"}, *text_input("text three")]

    assert Run(agent, parts).finish().said == ["one", "three"]


@pytest.mark.parametrize(
    "line",
    [
        "say",
        "say x",
        "say 1",
        "say 1 2 3",
        "say -1 5",
        "say 1.5 5",
        "say 1_0 5",
        "say \u0661 5",
        "say 100000000 1",
        "say 1 1048577",
        "text",
        "sleep",
        "sleep soon",
        "sleep -1",
        "sleep nan",
        "sleep inf",
        "sleep 1e3",
        "sleep 1000001",
        "ask",
        "patch",
        "question",
        "steered now",
        "fail",
        "SAY 1 1",
        "say\t1 1",
        "saying 1 1",
    ],
)
def test_an_action_whose_arguments_do_not_fit_is_said_back(agent: ScriptAgent, line: str) -> None:
    done = run(agent, line)

    assert done.said == [line]
    assert done.outcome == "completed"


# say, text


def test_say_sends_its_deltas_as_one_message(agent: ScriptAgent) -> None:
    done = run(agent, "say 3 5")

    assert done.kinds == [ItemStarted, ItemDelta, ItemCompleted]
    assert done.item["type"] == "agentMessage"
    assert [len(delta) for delta in done.deltas] == [5, 5, 5]


def test_deltas_with_room_for_it_carry_their_index(agent: ScriptAgent) -> None:
    done = run(agent, "say 12 8")
    wide = run(agent, "say 2 12")

    assert done.deltas == [f"{index:08}" for index in range(12)]
    assert wide.deltas == ["00000000 abc", "00000001 abc"]


@pytest.mark.parametrize("size", [8, 40, 70])
@pytest.mark.parametrize("count", [1023, 1024, 1025, 3000])
def test_however_many_deltas_there_are_each_is_the_one_of_its_index(
    agent: ScriptAgent, count: int, size: int
) -> None:
    done = run(agent, f"say {count} {size}")

    filler = (" abcdefghijklmnopqrstuvwxyz" * 3)[: size - 8]
    assert done.deltas == [f"{index:08}{filler}" for index in range(count)]
    assert done.item["text"] == "".join(done.deltas)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 65_536, 1_048_576])
def test_a_delta_has_exactly_the_bytes_asked_for_in_utf_8_and_in_json(agent: ScriptAgent, size: int) -> None:
    (delta,) = run(agent, f"say 1 {size}").deltas

    assert len(delta.encode()) == size
    assert delta.isascii()
    assert delta.isprintable()
    assert not set(delta) & set('"\\')


def test_say_without_deltas_is_an_empty_message(agent: ScriptAgent) -> None:
    done = run(agent, "say 0 10")

    assert done.kinds == [ItemStarted, ItemCompleted]
    assert done.said == [""]


def test_the_same_script_gives_the_same_content(agent: ScriptAgent) -> None:
    script = "say 3 40\ntext x\nask y\npatch z"
    texts = [[item.get("text") or item.get("changes") for item in run(agent, script).items] for _ in "ab"]

    assert texts[0] == texts[1]


def test_an_interrupt_cuts_off_say(agent: ScriptAgent) -> None:
    interrupted_at: list[int] = []
    running = Run(agent, "say 99999999 10", on_delta=lambda _: None)

    def count(text: str) -> None:
        interrupted_at.append(int(text[:8]))
        if len(interrupted_at) == 5:
            running.interrupt()

    running._on_delta = count
    running.finish()

    assert running.outcome == "interrupted"
    # What was told at once with the delta that it came at is told, and nothing after that.
    assert interrupted_at == list(range(1024))
    assert ItemCompleted not in running.kinds


def test_text_says_a_line_that_would_be_an_action(agent: ScriptAgent) -> None:
    assert run(agent, "text sleep 1000").said == ["sleep 1000"]


# sleep


def test_sleep_goes_on_when_it_is_over(agent: ScriptAgent) -> None:
    assert run(agent, "sleep 0\nsleep 0.01\ntext awake").said == ["awake"]


def test_an_interrupt_ends_a_sleep(agent: ScriptAgent) -> None:
    running = Run(agent, "text sleeping\nsleep 1000\ntext awake").start()
    running.wait_for(lambda run: ItemCompleted in run.kinds)
    running.interrupt().finish()

    assert running.outcome == "interrupted"
    assert running.said == ["sleeping"]


def test_a_script_that_emits_nothing_can_be_interrupted(agent: ScriptAgent) -> None:
    running = Run(agent, "\n" * 100_000)
    running.turn.interrupt()

    assert running.finish().outcome == "interrupted"


# ask


def test_a_command_is_started_before_its_prompt_and_completed_after_it(agent: ScriptAgent) -> None:
    done = run(agent, "ask rm -r build")

    assert done.kinds == [ItemStarted, PromptRaised, ItemDelta, ItemCompleted]
    assert isinstance(done.events[0], ItemStarted)
    assert done.events[0].item["status"] == "inProgress"
    (prompt,) = done.prompts
    assert prompt.method == "item/commandExecution/requestApproval"
    assert prompt.params["itemId"] == done.item["id"]
    assert prompt.params["command"] == "rm -r build"


@pytest.mark.parametrize("decision", ["accept", "acceptForSession"])
def test_an_accepted_command_completes_with_exit_code_0_and_names_itself(
    agent: ScriptAgent, decision: str
) -> None:
    done = run(agent, "ask rm -r build\ntext next", answer=decide(decision))

    assert done.items[0]["status"] == "completed"
    assert done.items[0]["exitCode"] == 0
    assert done.items[0]["durationMs"] >= 0
    assert "rm -r build" in done.items[0]["aggregatedOutput"]
    assert done.said == ["next"]


def test_an_amendment_accepts_a_command(agent: ScriptAgent) -> None:
    amendment = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["ls"]}}
    done = run(agent, "ask ls", answer=lambda _: Answer("result", {"decision": amendment}))

    assert done.item["status"] == "completed"


@pytest.mark.parametrize("line", ["ask ls", "patch a.txt"])
def test_a_declined_item_is_declined_and_the_turn_goes_on(agent: ScriptAgent, line: str) -> None:
    done = run(agent, f"{line}\ntext next", answer=decide("decline"))

    assert done.items[0]["status"] == "declined"
    assert done.said == ["next"]
    assert done.outcome == "completed"
    assert done.items[0].get("exitCode") is None
    assert done.items[0].get("durationMs") is None


@pytest.mark.parametrize("line", ["ask ls", "patch a.txt"])
def test_a_cancelled_item_is_declined_and_the_turn_ends_interrupted(agent: ScriptAgent, line: str) -> None:
    done = run(agent, f"{line}\ntext next", answer=decide("cancel"))

    assert done.item["status"] == "declined"
    assert done.outcome == "interrupted"


@pytest.mark.parametrize("line", ["ask ls", "patch a.txt"])
def test_an_item_whose_prompt_failed_is_failed_and_the_turn_goes_on(agent: ScriptAgent, line: str) -> None:
    done = run(agent, f"{line}\ntext next", answer=refuse)

    assert done.items[0]["status"] == "failed"
    assert done.said == ["next"]
    assert done.outcome == "completed"


@pytest.mark.parametrize("line", ["ask ls", "patch a.txt", "question why"])
def test_an_interrupt_ends_the_wait_for_an_answer(agent: ScriptAgent, line: str) -> None:
    running = Run(agent, f"{line}\ntext next", answer=leave_open).start()
    running.wait_for_prompt().interrupt().finish()

    assert running.outcome == "interrupted"
    assert ItemCompleted not in running.kinds


# patch


def test_a_file_change_is_started_before_its_prompt_and_completed_after_it(
    agent: ScriptAgent, tmp_path: Path
) -> None:
    done = run(agent, "patch a file.txt", cwd=tmp_path)

    assert done.kinds == [ItemStarted, PromptRaised, ItemCompleted]
    assert done.item["status"] == "completed"
    (change,) = done.item["changes"]
    assert change["path"] == "a file.txt"
    assert change["kind"] == {"type": "add"}
    assert isinstance(change["diff"], str)
    (prompt,) = done.prompts
    assert prompt.method == "item/fileChange/requestApproval"
    assert prompt.params["itemId"] == done.item["id"]
    assert list(tmp_path.iterdir()) == [], "nothing is written"


# question


def test_a_question_is_asked_and_its_answer_said(agent: ScriptAgent) -> None:
    done = run(agent, "question Which one?", answer=user_says("the red one"))

    (prompt,) = done.prompts
    assert prompt.method == "item/tool/requestUserInput"
    assert [question["question"] for question in prompt.params["questions"]] == ["Which one?"]
    assert done.said == ["the red one"]


def test_several_answers_to_a_question_are_said_together(agent: ScriptAgent) -> None:
    assert run(agent, "question Which?", answer=user_says("red", "blue")).said == ["red, blue"]


@pytest.mark.parametrize("answer", [refuse, user_says(), user_says("")])
def test_a_question_without_an_answer_says_so(agent: ScriptAgent, answer: AnswerWith) -> None:
    done = run(agent, "question Which?", answer=answer)

    assert done.said == ["no answer"]
    assert done.outcome == "completed"


# steered


def test_steered_waits_for_a_steer_and_says_it(agent: ScriptAgent) -> None:
    running = Run(agent, "text ready\nsteered\ntext next").start()
    running.wait_for(lambda run: ItemCompleted in run.kinds)
    running.turn.steer(text_input("to the left"))
    running.finish()

    assert running.said == ["ready", "to the left", "next"]


def test_each_steered_takes_one_steer_in_order(agent: ScriptAgent) -> None:
    running = Run(agent, "steered\nsteered")
    running.turn.steer(text_input("one"))
    running.turn.steer(text_input("two"))

    assert running.finish().said == ["one", "two"]


def test_a_steer_without_text_is_said_to_be_one(agent: ScriptAgent) -> None:
    running = Run(agent, "steered")
    running.turn.steer([{"type": "image", "url": "x"}])

    assert running.finish().said == ["steered without text"]


def test_an_interrupt_ends_the_wait_for_a_steer(agent: ScriptAgent) -> None:
    running = Run(agent, "text ready\nsteered").start()
    running.wait_for(lambda run: ItemCompleted in run.kinds)
    running.interrupt().finish()

    assert running.outcome == "interrupted"


# fail


def test_fail_ends_the_turn_as_failed_with_its_words(agent: ScriptAgent) -> None:
    done = run(agent, "text one\nfail out of luck\ntext two")

    assert done.outcome == "failed"
    assert isinstance(done.error, TurnFailed)
    assert str(done.error) == "out of luck"
    assert done.said == ["one"]


# Many


def test_twenty_turns_at_once_do_not_mix() -> None:
    barrier = threading.Barrier(20)

    def meet(prompt: PromptRaised) -> Answer:
        barrier.wait(PATIENCE_S)
        return Answer("result", {"decision": "accept"})

    runs = [Run(ScriptAgent(), f"ask {n}\nsay 1000 10\ntext {n}", answer=meet).start() for n in range(20)]
    for number, running in enumerate(runs):
        running.finish()
        assert running.deltas[1:-1] == [f"{index:08} a" for index in range(1000)]
        assert running.said[-1] == str(number)
