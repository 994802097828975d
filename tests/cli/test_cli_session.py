from __future__ import annotations

import math

import pytest

from cli.fakes import THREAD, TURN, Stage
from trunkline_cli.client import Disconnected, Notification, ServerGone, ServerRequest
from trunkline_cli.console import InputEnded, Interrupt, Leave, Line

COMMAND = "item/commandExecution/requestApproval"
INPUT = "item/tool/requestUserInput"


@pytest.fixture
def stage() -> Stage:
    """A user at a terminal."""
    return Stage()


@pytest.fixture
def pipe() -> Stage:
    """A pipe."""
    return Stage(interactive=False)


# Opening


def test_a_thread_is_started_where_the_user_is() -> None:
    stage = Stage(opened=False, cwd="/home/me")
    assert stage.connection.requests == [(0, "thread/start", {"cwd": "/home/me"})]


def test_a_thread_that_is_named_is_resumed() -> None:
    stage = Stage(opened=False, thread_id=THREAD)
    assert stage.connection.requests == [(0, "thread/resume", {"threadId": THREAD})]


def test_how_others_join_is_one_line_to_be_copied(stage: Stage) -> None:
    assert f"join it with: trunkline attach ws://127.0.0.1:1 --thread {THREAD}\n" in stage.console.shown


def test_a_thread_that_cannot_be_opened_ends_the_session() -> None:
    stage = Stage(opened=False, thread_id="nope")
    stage.fail("thread not loaded: nope")
    assert stage.exit_code == 1
    assert stage.session.outcome is not None
    assert str(stage.session.outcome.error) == "cannot resume the thread: thread not loaded: nope (-32600)"


def test_a_running_turn_of_the_snapshot_goes_on() -> None:
    stage = Stage(opened=False, thread_id=THREAD)
    message = {"type": "agentMessage", "id": "m", "text": "Hel", "completedAtMs": None}
    stage.open({"id": TURN, "status": "inProgress", "items": [message]})
    stage.notify("item/agentMessage/delta", itemId="m", delta="lo")
    stage.notify("item/completed", item={**message, "text": "Hello"})
    assert stage.console.output == "Hello"
    stage.enter("more")
    assert stage.sent[-1] == "turn/steer"


def test_where_we_are_is_known_for_the_next_resume() -> None:
    stage = Stage(opened=False)
    assert stage.session.place is None
    stage.open(seq=4, epoch="e")
    stage.take(Notification("turn/started", {"threadId": THREAD, "turn": {"id": TURN}}, seq=5))
    stage.take(ServerRequest(1, COMMAND, {"threadId": THREAD, "turnId": TURN}, seq=6))
    assert stage.session.place is not None
    assert (stage.session.place.epoch, stage.session.place.seq) == ("e", 6)


# Turns


def test_a_line_is_a_turn(stage: Stage) -> None:
    stage.enter("ls -l")
    assert stage.sent[-1] == "turn/start"
    assert stage.last_params["threadId"] == THREAD
    assert stage.last_params["input"] == [{"type": "text", "text": "ls -l", "text_elements": []}]


def test_an_empty_line_is_nothing(stage: Stage) -> None:
    stage.enter("  ")
    assert stage.sent == ["thread/start"]


def test_what_we_typed_is_not_shown_again(stage: Stage) -> None:
    stage.start_turn("hello")
    client_id = stage.last_params["clientUserMessageId"]
    content = [{"type": "text", "text": "hello"}]
    item = {"type": "userMessage", "id": "u", "clientId": client_id, "content": content}
    stage.notify("item/started", item=item)
    assert "> hello" not in stage.console.shown
    stage.notify("item/started", item={**item, "id": "v", "clientId": None})
    assert "> hello" in stage.console.shown


def test_a_line_while_a_turn_runs_is_told_to_it(stage: Stage) -> None:
    stage.start_turn()
    stage.enter("faster")
    assert stage.sent[-1] == "turn/steer"
    assert stage.last_params["expectedTurnId"] == TURN


def test_a_line_goes_to_the_turn_of_another_client_too(stage: Stage) -> None:
    stage.notify("turn/started", turn={"id": TURN})
    stage.enter("faster")
    assert stage.sent[-1] == "turn/steer"


def test_a_steer_that_comes_too_late_begins_the_next_turn(stage: Stage) -> None:
    stage.start_turn()
    stage.enter("faster")
    steer = stage.last_params
    stage.end_turn()
    stage.fail("no active turn to steer")
    assert stage.sent[-1] == "turn/start"
    assert stage.last_params["input"] == steer["input"]
    assert "expectedTurnId" not in stage.last_params


def test_a_steer_that_is_refused_for_another_reason_is_told(stage: Stage) -> None:
    stage.start_turn()
    stage.enter("faster")
    stage.fail("cannot steer a review turn")
    assert "cannot steer a review turn (-32600)\n" in stage.console.shown
    assert stage.sent[-1] == "turn/steer"


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ({"status": "completed"}, ""),
        ({"status": "interrupted"}, "turn interrupted\n"),
        ({"status": "failed", "error": {"message": "no\nluck"}}, "turn failed: no\\nluck\n"),
    ],
)
def test_a_turn_says_how_it_ended_unless_it_completed(
    stage: Stage, end: dict[str, object], shown: str
) -> None:
    stage.start_turn()
    before = stage.console.shown
    stage.notify("turn/completed", turn={"id": TURN, **end})
    assert stage.console.shown == before + shown
    assert stage.console.prompt_text == "> "


def test_an_error_is_told_once(stage: Stage) -> None:
    stage.start_turn()
    error = {"message": "no luck"}
    stage.notify("error", turnId=TURN, error={"message": "Reconnecting"}, willRetry=True)
    stage.notify("error", turnId=TURN, error=error, willRetry=False)
    stage.end_turn("failed", error=error)
    assert stage.console.shown.count("trying again: Reconnecting") == 1
    assert stage.console.shown.count("no luck") == 1


def test_other_threads_are_none_of_our_business(stage: Stage) -> None:
    before = stage.console.shown
    other = {"threadId": "other", "turnId": "t", "turn": {"id": "t"}, "item": {"type": "x"}}
    stage.take(Notification("turn/started", other), Notification("item/started", other))
    stage.take(Notification("thread/started", {"thread": {"id": "other"}}), ServerRequest(1, COMMAND, other))
    assert stage.console.shown == before
    assert stage.console.question is None
    stage.enter("ls")
    assert stage.sent[-1] == "turn/start"


@pytest.mark.parametrize("method", ["thread/closed", "thread/archived", "thread/deleted"])
def test_a_thread_that_goes_away_ends_the_session(stage: Stage, method: str) -> None:
    stage.notify(method)
    assert stage.exit_code == 1
    assert stage.session.outcome is not None
    assert method.removeprefix("thread/") in str(stage.session.outcome.error)


# Interrupting and leaving


def test_ctrl_c_interrupts_the_turn(stage: Stage) -> None:
    stage.start_turn()
    stage.take(Interrupt())
    assert stage.sent[-1] == "turn/interrupt"
    assert stage.last_params == {"threadId": THREAD, "turnId": TURN}
    stage.reply({})
    stage.end_turn("interrupted")
    assert stage.exit_code is None


def test_ctrl_c_before_the_turn_has_an_id_interrupts_it_once_it_has(stage: Stage) -> None:
    stage.enter("go")
    stage.take(Interrupt())
    assert stage.sent[-1] == "turn/start"
    stage.reply({"turn": {"id": TURN}})
    assert stage.sent[-1] == "turn/interrupt"


def test_a_second_ctrl_c_leaves(stage: Stage) -> None:
    stage.start_turn()
    stage.take(Interrupt(), Interrupt())
    assert stage.exit_code == 130


def test_ctrl_c_with_no_turn_leaves(stage: Stage) -> None:
    stage.take(Interrupt())
    assert stage.exit_code == 130


def test_ctrl_c_before_the_thread_is_open_leaves() -> None:
    stage = Stage(opened=False)
    stage.take(Interrupt())
    assert stage.exit_code == 130


def test_an_interrupt_of_a_turn_that_has_just_ended_is_no_news(stage: Stage) -> None:
    stage.start_turn()
    stage.take(Interrupt())
    stage.end_turn()
    before = stage.console.shown
    stage.fail("no active turn to interrupt")
    assert stage.console.shown == before
    stage.take(Interrupt())
    assert stage.exit_code == 130


def test_ctrl_d_leaves_with_a_turn_running(stage: Stage) -> None:
    stage.start_turn()
    stage.take(InputEnded())
    assert stage.exit_code == 0


def test_a_signal_leaves_with_its_number(stage: Stage) -> None:
    stage.take(Leave(143))
    assert stage.exit_code == 143


@pytest.mark.parametrize(
    ("is_final", "patience_s"), [(True, math.inf), (False, 0.0)], ids=["of no use", "not wanted"]
)
def test_a_connection_that_is_not_to_be_got_back_ends_the_session_with_its_reason(
    *, is_final: bool, patience_s: float
) -> None:
    stage = Stage(patience_s=patience_s)
    stage.start_turn()
    stage.take(Disconnected(ServerGone("closed with 1002", is_final=is_final)))
    assert stage.exit_code == 1
    assert stage.session.outcome is not None
    assert str(stage.session.outcome.error) == "the connection to the server is lost: closed with 1002"
    assert stage.reopened == []


def test_a_connection_that_is_lost_before_the_thread_is_open_ends_the_session() -> None:
    stage = Stage(opened=False)
    stage.take(Disconnected(ServerGone("closed with 1001")))
    assert stage.exit_code == 1
    assert stage.reopened == []


def test_a_connection_that_is_lost_while_we_write_waits_for_its_reason(stage: Stage) -> None:
    stage.connection.is_gone = True
    stage.enter("ls")
    assert stage.exit_code is None


# Prompts


def test_an_approval_is_asked_and_answered(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND, command="rm x", availableDecisions=None)
    assert stage.console.question == "Allow? [y]es/[a]lways/[n]o/[c]ancel "
    assert "$ rm x\n" in stage.console.shown
    stage.enter("maybe")
    assert "type y, a, n or c\n" in stage.console.shown
    assert stage.connection.answers == []
    stage.enter("y")
    assert stage.connection.answers == [(7, {"decision": "accept"})]
    assert stage.console.question is None


def test_a_prompt_that_another_client_answers_is_asked_no_more(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    key = stage.console.key
    stage.notify("serverRequest/resolved", requestId=7)
    assert stage.console.question is None
    assert "settled by another client\n" in stage.console.shown
    stage.take(Line("y", key))
    assert stage.connection.answers == []
    assert stage.console.shown.endswith("too late: that was settled\n")


def test_our_own_answer_is_not_told_as_another_clients(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.enter("y")
    stage.notify("serverRequest/resolved", requestId=7)
    assert "another client" not in stage.console.shown


def test_prompts_are_asked_one_after_the_other(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND, command="first")
    stage.ask(8, COMMAND, command="second")
    assert "second" not in stage.console.shown
    stage.enter("y")
    assert "$ second\n" in stage.console.shown
    stage.enter("n")
    assert stage.connection.answers == [(7, {"decision": "accept"}), (8, {"decision": "decline"})]


def test_an_answer_does_not_go_to_the_question_after_it(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.ask(8, COMMAND)
    key = stage.console.key
    stage.notify("serverRequest/resolved", requestId=7)
    stage.take(Line("y", key))
    assert stage.connection.answers == []
    assert stage.console.question is not None


def test_a_line_that_was_typed_before_the_question_does_not_answer_it(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.take(Line("y"))
    assert stage.connection.answers == []
    assert stage.sent[-1] == "turn/steer"


def test_a_prompt_that_is_sent_again_is_asked_once(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.ask(7, COMMAND)
    stage.enter("y")
    assert stage.connection.answers == [(7, {"decision": "accept"})]
    assert stage.console.question is None


def test_the_prompts_of_a_turn_end_with_it(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.take(Interrupt())
    stage.notify("serverRequest/resolved", requestId=7)
    stage.end_turn("interrupted")
    assert stage.console.question is None
    assert "another client" not in stage.console.shown


def test_a_turn_that_ends_before_its_prompts_takes_them_along(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.end_turn("interrupted")
    stage.notify("serverRequest/resolved", requestId=7)
    assert stage.console.question is None
    assert "another client" not in stage.console.shown


def test_questions_are_asked_one_after_the_other(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(
        7, INPUT, questions=[{"id": "a", "question": "A?"}, {"id": "b", "question": "B?", "isSecret": True}]
    )
    assert not stage.console.is_secret
    stage.enter("1")
    assert stage.console.is_secret
    stage.enter("2")
    assert stage.connection.answers == [(7, {"answers": {"a": {"answers": ["1"]}, "b": {"answers": ["2"]}}})]


def test_yes_allows_without_asking() -> None:
    stage = Stage(allow_all=True)
    stage.start_turn()
    stage.ask(7, COMMAND, command="rm x")
    assert stage.connection.answers == [(7, {"decision": "accept"})]
    assert stage.console.question is None
    stage.ask(8, INPUT, questions=[{"id": "a", "question": "A?"}])
    assert stage.console.question == "Answer: "


def test_what_we_cannot_answer_is_left_to_others(stage: Stage) -> None:
    stage.start_turn()
    stage.ask(7, "item/tool/call")
    stage.ask(8, INPUT, questions=[])
    assert stage.connection.answers == []
    assert stage.connection.refusals == []
    assert "left to other clients: item/tool/call\n" in stage.console.shown


# A pipe


def test_the_lines_of_a_pipe_are_turns_one_after_the_other(pipe: Stage) -> None:
    assert pipe.console.lines_wanted == 1
    pipe.start_turn("one")
    pipe.notify("thread/status/changed", status={"type": "idle"})
    assert pipe.console.lines_wanted == 1
    pipe.end_turn()
    assert pipe.console.lines_wanted == 2
    pipe.start_turn("two", "t2")
    pipe.end_turn(turn_id="t2")
    pipe.take(InputEnded())
    assert pipe.sent == ["thread/start", "turn/start", "turn/start"]
    assert pipe.exit_code == 0


def test_empty_lines_of_a_pipe_are_passed_over(pipe: Stage) -> None:
    pipe.enter("")
    assert pipe.console.lines_wanted == 2
    assert pipe.sent == ["thread/start"]


def test_a_pipe_waits_for_a_turn_that_is_running_when_it_comes() -> None:
    pipe = Stage(interactive=False, opened=False, thread_id=THREAD)
    pipe.open({"id": "other", "status": "inProgress", "items": []})
    assert pipe.console.lines_wanted == 0
    pipe.end_turn(turn_id="other", status="failed")
    assert pipe.console.lines_wanted == 1
    pipe.take(InputEnded())
    assert pipe.exit_code == 0  # it was not ours


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_pipe_with_a_turn_that_did_not_complete_fails_at_its_end(pipe: Stage, status: str) -> None:
    pipe.start_turn()
    pipe.end_turn(status)
    assert pipe.console.lines_wanted == 2
    pipe.take(InputEnded())
    assert pipe.exit_code == 1


def test_a_turn_that_is_refused_fails_the_pipe(pipe: Stage) -> None:
    pipe.enter("go")
    pipe.fail("Server is draining; retry after reconnecting")
    pipe.take(InputEnded())
    assert pipe.exit_code == 1


def test_a_pipe_declines_what_it_cannot_ask_and_fails(pipe: Stage) -> None:
    pipe.start_turn()
    pipe.ask(7, COMMAND, command="rm x")
    assert pipe.connection.answers == [(7, {"decision": "decline"})]
    assert (
        "declined rm x: nobody can be asked without a terminal; --yes allows everything\n"
        in pipe.console.shown
    )
    pipe.ask(8, INPUT, questions=[{"id": "a", "question": "A?"}])
    assert pipe.connection.answers[-1] == (8, {"answers": {}})
    pipe.end_turn()
    pipe.take(InputEnded())
    assert pipe.exit_code == 1


def test_a_pipe_leaves_the_prompts_of_other_clients_turns_alone(pipe: Stage) -> None:
    pipe.notify("turn/started", turn={"id": TURN})
    pipe.ask(7, COMMAND)
    assert pipe.connection.answers == []


def test_a_pipe_refuses_what_it_cannot_answer_so_that_the_turn_can_end(pipe: Stage) -> None:
    pipe.start_turn()
    pipe.ask(7, "item/tool/call")
    assert pipe.connection.refusals == [(7, -32601)]


def test_ctrl_c_ends_a_pipe_once_its_turn_has_ended(pipe: Stage) -> None:
    pipe.start_turn()
    pipe.take(Interrupt())
    assert pipe.exit_code is None
    pipe.end_turn("interrupted")
    assert pipe.exit_code == 130
