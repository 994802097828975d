"""A session whose connection is lost: what it sends again, what it shows again, and what not."""

from __future__ import annotations

import pytest

from cli.fakes import THREAD, TURN, Stage
from trunkline_cli.client import (
    ConnectFailed,
    Disconnected,
    Notification,
    Reply,
    RpcFailure,
    ServerGone,
    ServerRequest,
)
from trunkline_cli.console import InputEnded, Interrupt, Leave, Line, UserInput
from trunkline_cli.reconnect import GaveUp, NotBack, Reopened, TryFailed

COMMAND = "item/commandExecution/requestApproval"


def lose(stage: Stage, why: str = "it is a test", **members: bool) -> None:
    stage.take(Disconnected(ServerGone(why, **members)))


def come_back(stage: Stage, **members: object) -> None:
    """Connect again and answer the resume."""
    stage.take(Reopened(stage.connection))
    assert stage.sent[-1] == "thread/resume"
    stage.reply({"thread": {"id": THREAD, "turns": []}, "seq": 5, "epoch": "e", **members})


def at_5() -> Stage:
    """A session of event 5 of its thread."""
    stage = Stage(opened=False)
    stage.open(seq=5, epoch="e")
    return stage


def event(seq: int, method: str, **params: object) -> Notification:
    return Notification(method, {"threadId": THREAD, **params}, seq=seq)


def test_a_lost_connection_is_told_and_asked_for_again() -> None:
    stage = at_5()
    lose(stage)
    assert stage.reopened == [True]
    assert stage.console.shown.endswith(
        "the connection to the server is lost (it is a test); trying to get it back\n"
    )
    assert stage.console.prompt_text == "not connected (it is a test), Ctrl-C leaves > "
    stage.take(TryFailed(ConnectFailed("ws://x", "connection refused")))
    assert stage.console.prompt_text == "not connected (connection refused), Ctrl-C leaves > "


def test_the_thread_is_resumed_where_we_were() -> None:
    stage = at_5()
    lose(stage)
    stage.take(Reopened(stage.connection))
    assert stage.last_params == {"threadId": THREAD, "afterSeq": 5, "epoch": "e"}


def test_a_server_that_does_not_count_is_asked_for_the_thread_as_it_is() -> None:
    stage = at_5()
    stage.connection.counts_events = False
    lose(stage)
    stage.take(Reopened(stage.connection))
    assert stage.last_params == {"threadId": THREAD}


@pytest.mark.parametrize(
    ("seq", "said"), [(5, "no event was missed"), (6, "one missed event"), (9, "4 missed events")]
)
def test_it_says_how_many_events_were_missed(seq: int, said: str) -> None:
    stage = at_5()
    lose(stage)
    come_back(stage, seq=seq, delivery="events")
    assert stage.console.shown.endswith(f"connected again: {said}\n")
    assert stage.console.prompt_text == "> "


def test_what_everybody_is_told_before_the_resume_does_not_move_us() -> None:
    stage = at_5()
    lose(stage)
    stage.take(event(9, "thread/status/changed", status={"type": "idle"}))
    stage.take(Reopened(stage.connection))
    assert stage.last_params["afterSeq"] == 5


def test_a_prompt_that_is_sent_again_does_not_move_us_back() -> None:
    stage = at_5()
    stage.take(ServerRequest(1, COMMAND, {"threadId": THREAD, "turnId": TURN}, seq=3))
    lose(stage)
    stage.take(Reopened(stage.connection))
    assert stage.last_params["afterSeq"] == 5


def test_a_line_whose_answer_was_lost_is_not_sent_twice_if_it_came() -> None:
    stage = at_5()
    stage.enter("go")
    item = {"type": "userMessage", "id": "u", "clientId": stage.last_params["clientUserMessageId"]}
    lose(stage)
    come_back(stage, seq=7, delivery="events")
    assert stage.sent.count("turn/start") == 1  # not known yet
    stage.take(event(6, "turn/started", turn={"id": TURN}))
    stage.take(event(7, "item/started", item=item, turnId=TURN))
    assert stage.sent.count("turn/start") == 1
    assert stage.console.prompt_text == "running, Ctrl-C interrupts > "


def test_a_line_whose_answer_was_lost_is_found_in_a_snapshot() -> None:
    pipe = Stage(interactive=False)
    pipe.enter("go")
    item = {"type": "userMessage", "id": "u", "clientId": pipe.last_params["clientUserMessageId"]}
    lose(pipe)
    turn = {"id": TURN, "status": "failed", "items": [item], "error": {"message": "no luck"}}
    come_back(pipe, thread={"id": THREAD, "turns": [turn]}, delivery="snapshot")
    assert pipe.sent.count("turn/start") == 1
    assert "turn failed: no luck\n" in pipe.console.shown
    pipe.take(InputEnded())
    assert pipe.exit_code == 1  # it was ours


@pytest.mark.parametrize("delivery", ["events", "snapshot"])
def test_a_line_that_did_not_come_is_sent_again(delivery: str) -> None:
    stage = at_5()
    stage.enter("go")
    first = stage.last_params
    lose(stage)
    come_back(stage, delivery=delivery)
    assert stage.sent[-1] == "turn/start"
    assert stage.last_params == first


def test_a_steer_that_did_not_come_begins_a_turn_if_its_own_has_ended() -> None:
    stage = at_5()
    stage.start_turn()
    stage.enter("faster")
    lose(stage)
    come_back(stage, seq=6, delivery="events")
    stage.take(event(6, "turn/completed", turn={"id": TURN, "status": "completed"}))
    assert stage.sent[-1] == "turn/start"
    assert stage.last_params["input"][0]["text"] == "faster"


def test_what_is_typed_meanwhile_waits_for_all_that_was_missed() -> None:
    stage = at_5()
    lose(stage)
    stage.enter("go")
    assert "kept until the connection is back\n" in stage.console.shown
    come_back(stage, seq=6, delivery="events")
    stage.enter("on")
    assert "turn/start" not in stage.sent
    stage.take(event(6, "thread/name/updated", threadName="x"))
    texts = [
        params["input"][0]["text"] for _, method, params in stage.connection.requests if "turn" in method
    ]
    assert texts == ["go", "on"]


def test_a_message_that_is_too_long_for_the_server_is_not_sent_for_ever() -> None:
    pipe = Stage(interactive=False)
    pipe.enter("x" * 100)
    lose(pipe, "closed with 1009", was_too_big=True)
    assert "not sent: xxxxx" in pipe.console.shown
    come_back(pipe, delivery="snapshot")
    assert pipe.sent.count("turn/start") == 1
    pipe.take(InputEnded())
    assert pipe.exit_code == 1


def test_an_answer_that_may_be_lost_is_given_again() -> None:
    stage = at_5()
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.enter("y")
    lose(stage)
    come_back(stage, delivery="events")
    assert stage.connection.answers == [(7, {"decision": "accept"})] * 2
    stage.notify("serverRequest/resolved", requestId=7)
    lose(stage)
    come_back(stage, delivery="events")
    assert len(stage.connection.answers) == 2


def test_an_answer_is_not_given_to_another_prompt_of_the_same_number() -> None:
    stage = at_5()
    stage.start_turn()
    stage.ask(7, COMMAND)
    stage.enter("y")
    lose(stage)
    come_back(stage, delivery="snapshot")  # of a server that counts its prompts from the beginning
    stage.ask(7, COMMAND, command="rm y")
    assert len(stage.connection.answers) == 1
    assert stage.console.question is not None


def test_an_answer_that_is_given_meanwhile_is_not_taken() -> None:
    stage = at_5()
    stage.start_turn()
    stage.ask(7, COMMAND)
    key = stage.console.key
    lose(stage)
    assert stage.console.question is None
    stage.take(Line("y", key))
    assert stage.console.shown.endswith("not sent: you will be asked again\n")
    come_back(stage, delivery="events")
    assert stage.connection.answers == []
    assert stage.console.question is not None


def test_a_prompt_that_was_missed_and_settled_is_not_answered() -> None:
    pipe = Stage(interactive=False, allow_all=True, opened=False)
    pipe.open(seq=5, epoch="e")
    pipe.start_turn()
    lose(pipe)
    come_back(pipe, seq=7, delivery="events")
    pipe.take(ServerRequest(7, COMMAND, {"threadId": THREAD, "turnId": TURN}, seq=6))
    pipe.take(event(7, "serverRequest/resolved", requestId=7))
    assert pipe.connection.answers == []


def test_a_snapshot_shows_what_was_not_seen_and_no_more() -> None:
    stage = at_5()
    stage.start_turn()
    command = {"type": "commandExecution", "id": "c", "command": "ls", "status": "inProgress"}
    stage.notify("item/started", item=command)
    stage.notify("item/commandExecution/outputDelta", itemId="c", delta="one\n")
    lose(stage)
    done = {**command, "status": "completed", "exitCode": 0, "aggregatedOutput": "one\ntwo\n"}
    message = {"type": "agentMessage", "id": "m", "text": "three", "completedAtMs": None}
    turn = {"id": TURN, "status": "inProgress", "items": [done, message]}
    come_back(stage, thread={"id": THREAD, "turns": [turn]}, delivery="snapshot")
    stage.notify("item/agentMessage/delta", itemId="m", delta=" four")
    assert stage.console.output == "one\ntwo\nthree four"
    assert stage.console.shown.count("$ ls\n") == 1
    assert stage.console.shown.count("exit 0\n") == 1
    assert "connected again: a snapshot, as the events since then are not kept\n" in stage.console.shown


def test_a_turn_that_the_server_has_lost_is_over() -> None:
    pipe = Stage(interactive=False)
    pipe.start_turn()
    lose(pipe)
    come_back(pipe, delivery="snapshot")
    assert "turn interrupted\n" in pipe.console.shown
    pipe.take(InputEnded())
    assert pipe.exit_code == 1


def test_turns_of_others_are_told_in_brief_at_a_terminal_and_in_full_to_a_pipe() -> None:
    text = "".join(f"{number}\n" for number in range(20))
    turn = {"id": "t2", "status": "completed", "items": [{"type": "agentMessage", "id": "m", "text": text}]}
    seen = {"id": TURN, "status": "completed", "items": [{"type": "agentMessage", "id": "l", "text": "seen"}]}
    for interactive, shown in ((True, "… 12 more lines\n"), (False, text)):
        stage = Stage(interactive=interactive)
        stage.start_turn()
        stage.end_turn()
        lose(stage)
        come_back(stage, thread={"id": THREAD, "turns": [seen, turn]}, delivery="snapshot")
        assert stage.console.shown.endswith(shown)
        assert "seen" not in stage.console.shown


def test_ctrl_c_before_the_loss_is_not_forgotten() -> None:
    stage = at_5()
    stage.start_turn()
    stage.take(Interrupt())
    lose(stage)
    come_back(stage, delivery="events")
    assert stage.sent[-1] == "turn/interrupt"
    assert stage.exit_code is None


def test_ctrl_c_before_the_loss_holds_for_a_line_that_did_not_come() -> None:
    pipe = Stage(interactive=False)
    pipe.enter("go")
    pipe.take(Interrupt())
    lose(pipe)
    come_back(pipe, delivery="snapshot")
    assert pipe.sent.count("turn/start") == 1
    assert pipe.exit_code == 130


@pytest.mark.parametrize(
    ("failure", "is_passing"),
    [
        (RpcFailure(-32001, "Server overloaded; retry later."), True),
        (
            RpcFailure(-32600, f"thread {THREAD} is closing; retry thread/resume after the thread is closed"),
            True,
        ),
        (RpcFailure(-32600, f"thread {THREAD} already has an active writer"), True),
        (RpcFailure(-32600, "Server is draining", {"reason": "serverShuttingDown"}), True),
        (RpcFailure(-32600, f"no rollout found for thread id {THREAD}"), False),
        (RpcFailure(-32603, "Internal error"), False),
    ],
)
def test_a_resume_that_fails_is_tried_again_if_that_can_help(
    failure: RpcFailure, *, is_passing: bool
) -> None:
    stage = at_5()
    lose(stage)
    stage.take(Reopened(stage.connection))
    stage.take(Reply(stage.connection.requests[-1][0], {}, failure))
    assert stage.reopened == ([True, False] if is_passing else [True])
    assert stage.exit_code == (None if is_passing else 1)


def test_a_loss_before_the_resume_is_one_loss() -> None:
    stage = at_5()
    lose(stage)
    stage.take(Reopened(stage.connection))
    lose(stage)
    assert stage.reopened == [True, False]
    assert stage.console.shown.count("is lost") == 1


def test_who_leaves_is_told_what_was_not_sent() -> None:
    stage = at_5()
    lose(stage)
    stage.enter("rm x")
    stage.take(Interrupt())
    assert stage.exit_code == 130
    assert stage.console.shown.endswith("not sent: rm x\n")


@pytest.mark.parametrize(("message", "code"), [(Interrupt(), 130), (InputEnded(), 0), (Leave(143), 143)])
def test_whatever_ends_a_session_ends_the_wait(message: UserInput, code: int) -> None:
    stage = at_5()
    stage.start_turn()
    lose(stage)
    stage.take(message)
    assert stage.exit_code == code


def test_what_ends_the_attempts_ends_the_session() -> None:
    stage = at_5()
    lose(stage)
    stage.take(GaveUp(NotBack(60, ConnectFailed("ws://x", "connection refused"))))
    assert stage.exit_code == 1
    assert stage.session.outcome is not None
    assert str(stage.session.outcome.error) == (
        "the connection was lost and not to be had again within 60 s: "
        "cannot connect to ws://x: connection refused"
    )
