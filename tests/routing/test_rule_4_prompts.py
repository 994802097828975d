"""Rule 4: a prompt goes to every subscriber, and the first answer of one that was sent it counts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import pytest

from helpers import Client, Message, methods
from houses import House, LocalHouse, Puppets, in_parallel
from trunkline import Decision, TurnInterrupted
from trunkline.asked import MAX_UNREAD_ANSWERS
from trunkline.messages import PromptAnswer
from wires import PATIENCE_S

APPROVAL = "item/commandExecution/requestApproval"
RESOLVED = "serverRequest/resolved"
ACCEPT = {"decision": "accept"}
RACES = 60


def ask(client: Client) -> tuple[str, str, Message]:
    """Start a thread and a turn that asks for an approval; return thread, turn and prompt."""
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "ask ls\ntext done")
    return thread_id, turn_id, client.wait(APPROVAL)


def assert_open(client: Client, thread_id: str) -> None:
    """Check that no prompt has been settled since the last look."""
    assert RESOLVED not in methods(client.drain(thread_id))


def item_status(client: Client, turn_id: str) -> str:
    """Wait for the end of the turn and return how its command ended."""
    client.wait_turn(turn_id)
    (status,) = (
        message["params"]["item"]["status"]
        for message in client.arrived
        if message.get("method") == "item/completed"
        and message["params"]["turnId"] == turn_id
        and message["params"]["item"]["type"] == "commandExecution"
    )
    assert isinstance(status, str)
    return status


def test_every_subscriber_is_asked_and_the_first_answer_counts(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "ask ls\nquestion more?")
    prompt = alice.wait(APPROVAL)
    assert bob.wait(APPROVAL) == prompt

    bob.decide(prompt)
    for client in (alice, bob):
        assert client.wait(RESOLVED)["params"] == {"threadId": thread_id, "requestId": prompt["id"]}
    alice.decide(prompt, "cancel")  # too late
    bob.decide(prompt, "cancel")  # repeated

    question = alice.wait("item/tool/requestUserInput")
    assert question["id"] != prompt["id"]
    alice.fence(thread_id)
    alice.answer(question["id"], {"answers": {"answer": {"answers": ["no"]}}})
    assert item_status(alice, turn_id) == "completed"
    bob.wait_turn(turn_id)
    for client in (alice, bob):
        assert methods(client.arrived).count(RESOLVED) == 2
        assert methods(client.arrived).count(APPROVAL) == 1


def test_an_approval_is_told_in_the_order_of_the_protocol(any_house: House) -> None:
    client = any_house.connect()
    thread_id, turn_id, prompt = ask(client)
    client.decide(prompt)
    client.wait_turn(turn_id)

    told = client.events_of(thread_id)
    start = next(i for i, each in enumerate(told) if each.get("method") == APPROVAL)
    assert methods(told[start - 2 : start + 5]) == [
        "item/started",
        "thread/status/changed",
        APPROVAL,
        RESOLVED,
        "thread/status/changed",
        "item/commandExecution/outputDelta",
        "item/completed",
    ]
    waiting, settled = told[start - 1]["params"]["status"], told[start + 2]["params"]["status"]
    assert waiting == {"type": "active", "activeFlags": ["waitingOnApproval"]}
    assert settled == {"type": "active", "activeFlags": []}
    assert prompt["params"]["itemId"] == told[start - 2]["params"]["item"]["id"]


def test_prompts_are_numbered_from_zero_over_all_threads(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    assert [ask(client)[2]["id"] for client in (alice, bob, alice)] == [0, 1, 2]


@pytest.mark.parametrize("wrong", [lambda number: str(number), lambda number: number + 1, lambda number: -1])
def test_an_answer_under_another_id_is_ignored(house: LocalHouse, wrong: Callable[[int], object]) -> None:
    client = house.connect()
    thread_id, turn_id, prompt = ask(client)

    client.answer(wrong(prompt["id"]), {"decision": "decline"})

    assert_open(client, thread_id)
    client.decide(prompt)
    assert item_status(client, turn_id) == "completed"


def test_an_answer_from_one_that_was_never_asked_is_ignored(any_house: House) -> None:
    alice, stranger, subscriber = (any_house.connect(name) for name in ("alice", "stranger", "subscriber"))
    uninitialized = any_house.open("uninitialized")
    subscriber.start_thread()  # of another thread
    thread_id, turn_id, prompt = ask(alice)
    for client in (stranger, subscriber, uninitialized):
        client.decide(prompt, "decline")
        client.send({"id": prompt["id"], "error": {"code": -1, "message": "no"}})
    stranger.fence(thread_id)
    subscriber.fence(thread_id)
    uninitialized.initialize()

    assert_open(alice, thread_id)
    alice.decide(prompt)
    assert item_status(alice, turn_id) == "completed"


def test_an_answer_that_is_ignored_is_logged(house: LocalHouse, caplog: pytest.LogCaptureFixture) -> None:
    alice, stranger = house.connect("alice"), house.connect("stranger")
    thread_id, turn_id, prompt = ask(alice)

    with caplog.at_level(logging.INFO, logger="trunkline"):
        stranger.decide(prompt, "decline")
        stranger.fence(thread_id)
        alice.decide(prompt)
        alice.wait_turn(turn_id)
        alice.decide(prompt, "decline")
        alice.fence(thread_id)

    ignored = [record for record in caplog.records if record.getMessage().endswith("is ignored")]
    assert len(ignored) == 2
    assert len({vars(record)["connectionId"] for record in ignored}) == 2
    assert not any("decline" in record.getMessage() for record in caplog.records)


def test_an_answer_that_was_sent_before_its_prompt_is_ignored(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    for number in range(5):
        client.answer(number, {"decision": "decline"})
    client.fence(thread_id)

    turn_id = client.start_turn(thread_id, "ask ls")

    client.decide(client.wait(APPROVAL))
    assert item_status(client, turn_id) == "completed"


def test_one_that_unsubscribed_before_the_prompt_cannot_answer_it(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    bob.request("thread/unsubscribe", threadId=thread_id)
    turn_id = alice.start_turn(thread_id, "ask ls")
    prompt = alice.wait(APPROVAL)

    bob.decide(prompt, "decline")
    bob.fence(thread_id)

    assert APPROVAL not in methods(bob.arrived)
    assert_open(alice, thread_id)
    alice.decide(prompt)
    assert item_status(alice, turn_id) == "completed"


def test_one_that_has_unsubscribed_may_still_answer_what_it_was_sent(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "ask ls")
    prompt = bob.wait(APPROVAL)
    bob.request("thread/unsubscribe", threadId=thread_id)
    bob.drain(thread_id)

    bob.decide(prompt)

    assert item_status(alice, turn_id) == "completed"
    assert RESOLVED not in methods(bob.drain(thread_id))


def test_a_prompt_outlives_a_subscriber_that_leaves(house: LocalHouse) -> None:
    alice, bob, carol = (house.connect(name) for name in ("alice", "bob", "carol"))
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    carol.resume(thread_id)

    house.lose(carol)
    alice.request("thread/unsubscribe", threadId=thread_id)

    bob.wait(APPROVAL)
    assert_open(bob, thread_id)
    bob.decide(prompt)
    assert item_status(bob, turn_id) == "completed"


def test_a_prompt_without_subscribers_waits_for_the_next_one(house: LocalHouse) -> None:
    alice = house.connect("alice")
    thread_id, turn_id, prompt = ask(alice)
    house.lose(alice)

    bob = house.connect("bob")
    thread = bob.resume(thread_id)
    assert thread["status"]["activeFlags"] == ["waitingOnApproval"]
    assert bob.wait(APPROVAL) == prompt
    bob.decide(prompt)
    assert item_status(bob, turn_id) == "completed"


def test_a_prompt_that_is_raised_with_nobody_there_waits_for_the_first_one(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    alice.start_turn(thread_id, "play")
    play = puppets.next()
    stage.lose(alice)

    decision = play.ask("ls")
    bob.wait("thread/status/changed", status={"type": "active", "activeFlags": ["waitingOnApproval"]})
    bob.resume(thread_id)
    bob.decide(bob.wait(APPROVAL), "acceptForSession")

    assert decision.result(PATIENCE_S) is Decision.ACCEPT_FOR_SESSION
    play.end()
    bob.wait("turn/completed")


def network_rule(action: str) -> Message:
    """Return the decision that makes a rule for a host."""
    rule = {"action": action, "host": "example.org"}
    return {"applyNetworkPolicyAmendment": {"network_policy_amendment": rule}}


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        ("accept", "completed"),
        ("acceptForSession", "completed"),
        ({"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["ls"]}}, "completed"),
        (network_rule("allow"), "completed"),
        (network_rule("deny"), "declined"),
        ("decline", "declined"),
    ],
)
def test_a_decision_settles_an_approval(any_house: House, decision: object, status: str) -> None:
    client = any_house.connect()
    _, turn_id, prompt = ask(client)
    client.answer(prompt["id"], {"decision": decision})
    assert item_status(client, turn_id) == status
    assert client.arrived[-1]["params"]["turn"]["status"] == "completed"


def test_cancel_ends_the_turn_as_interrupted(any_house: House) -> None:
    client = any_house.connect()
    _, turn_id, prompt = ask(client)
    client.decide(prompt, "cancel")
    assert item_status(client, turn_id) == "declined"
    assert client.arrived[-1]["params"]["turn"]["status"] == "interrupted"


@pytest.mark.parametrize("data", [None, {"reason": "turnTransition"}])
def test_an_error_as_the_answer_refuses_and_the_turn_goes_on(any_house: House, data: object) -> None:
    # The reference lets the turn hang if the client's error has this reason.
    client = any_house.connect()
    thread_id, turn_id, prompt = ask(client)
    client.send({"id": prompt["id"], "error": {"code": -32000, "message": "no", "data": data}})
    client.wait(RESOLVED, threadId=thread_id, requestId=prompt["id"])
    assert item_status(client, turn_id) == "failed"
    assert client.arrived[-1]["params"]["turn"]["status"] == "completed"


@pytest.mark.parametrize("misfit", [{}, {"decision": "maybe"}, {"decision": {}}, {"decision": 1}, [], None])
def test_an_answer_that_does_not_fit_refuses_if_nobody_else_can_answer(
    house: LocalHouse, misfit: object
) -> None:
    client = house.connect()
    _, turn_id, prompt = ask(client)
    client.answer(prompt["id"], misfit)
    assert item_status(client, turn_id) == "failed"


def test_an_answer_that_does_not_fit_does_not_speak_for_the_others(house: LocalHouse) -> None:
    alice, robot = house.connect("alice"), house.connect("robot")
    thread_id = alice.start_thread()
    robot.resume(thread_id)
    turn_id = alice.start_turn(thread_id, "ask ls")

    prompt = robot.wait(APPROVAL)
    for _ in range(2):
        robot.answer(prompt["id"], {})
    robot.fence(thread_id)

    alice.wait(APPROVAL)
    assert_open(alice, thread_id)
    alice.decide(prompt)
    assert item_status(alice, turn_id) == "completed"


def test_one_whose_answer_did_not_fit_may_answer_again(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    alice.answer(prompt["id"], {})
    alice.decide(prompt)
    assert item_status(alice, turn_id) == "completed"


def test_when_all_have_answered_something_that_does_not_fit_it_is_refused(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    for client in (alice, bob):
        client.answer(prompt["id"], {})
    assert item_status(alice, turn_id) == "failed"


def test_one_that_streams_answers_does_not_fill_the_inbox_of_the_thread(
    house: LocalHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    arrived = []
    with monkeypatch.context() as patch:  # the thread says nothing of them, as if it had read none

        def put_off(answer: PromptAnswer, _answerers: object) -> bool:
            arrived.append(answer)
            return False

        patch.setattr(house.thread(thread_id).prompts, "answer", put_off)
        for _ in range(3 * MAX_UNREAD_ANSWERS):
            alice.answer(prompt["id"], {})
        alice.fence(thread_id)

    assert len(arrived) == MAX_UNREAD_ANSWERS
    assert [record.name for record in caplog.records if "too often" in record.getMessage()] == [
        "trunkline.asked"
    ]
    bob.decide(prompt)
    assert item_status(bob, turn_id) == "completed"


def test_each_answer_that_does_not_fit_makes_room_for_another_and_is_logged_once(
    house: LocalHouse, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    for _ in range(2 * MAX_UNREAD_ANSWERS):
        alice.answer(prompt["id"], {})
        alice.fence(thread_id)

    alice.decide(prompt)

    assert item_status(alice, turn_id) == "completed"
    assert len([record for record in caplog.records if "does not fit" in record.getMessage()]) == 1


@pytest.mark.parametrize("leave", ["thread/unsubscribe", "close"])
def test_an_answer_that_does_not_fit_refuses_once_the_others_have_left(house: LocalHouse, leave: str) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    alice.answer(prompt["id"], {})
    assert_open(alice, thread_id)

    if leave == "close":
        house.lose(bob)
    else:
        bob.request(leave, threadId=thread_id)

    alice.wait(RESOLVED, requestId=prompt["id"])
    assert item_status(alice, turn_id) == "failed"


def test_one_that_leaves_does_not_settle_what_another_can_still_answer(house: LocalHouse) -> None:
    alice, bob, carol = (house.connect(name) for name in ("alice", "bob", "carol"))
    thread_id, turn_id, prompt = ask(alice)
    bob.resume(thread_id)
    carol.resume(thread_id)
    alice.answer(prompt["id"], {})
    alice.fence(thread_id)

    house.lose(carol)
    bob.fence(thread_id)

    assert_open(alice, thread_id)
    bob.decide(bob.wait(APPROVAL))
    assert item_status(alice, turn_id) == "completed"


def test_a_question_is_answered_and_waits_with_a_flag_of_its_own(any_house: House) -> None:
    client = any_house.connect()
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "question which one?")
    prompt = client.wait("item/tool/requestUserInput")
    (question,) = prompt["params"]["questions"]
    assert question["question"] == "which one?"
    client.wait("thread/status/changed", status={"type": "active", "activeFlags": ["waitingOnUserInput"]})

    client.answer(prompt["id"], {"answers": {question["id"]: {"answers": ["this", "that"]}}})

    assert [item["text"] for item in client.wait_turn(turn_id)["items"]] == ["this, that"]


def test_a_file_change_is_asked_for(any_house: House) -> None:
    client = any_house.connect()
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "patch a.txt")
    prompt = client.wait("item/fileChange/requestApproval")
    item = client.wait_for(lambda m: m.get("params", {}).get("item", {}).get("type") == "fileChange")
    assert item["params"]["item"]["changes"][0]["path"] == "a.txt"
    client.decide(prompt)
    done = client.wait("item/completed", turnId=turn_id)
    while done["params"]["item"]["type"] != "fileChange":
        done = client.wait("item/completed", turnId=turn_id)
    assert done["params"]["item"]["status"] == "completed"
    client.wait_turn(turn_id)


def test_several_prompts_may_be_open_and_are_settled_each_on_its_own(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    decisions = {command: play.ask(command) for command in ("one", "two", "three")}
    prompts = {}
    for _ in decisions:
        prompt = alice.wait(APPROVAL)
        prompts[prompt["params"]["command"]] = prompt
    alice.decide(prompts["two"], "decline")
    assert decisions["two"].result(PATIENCE_S) is Decision.DECLINE

    bob.resume(thread_id)
    again = [bob.wait(APPROVAL) for _ in range(2)]
    assert sorted(again, key=lambda prompt: prompt["seq"]) == again
    assert {prompt["params"]["command"] for prompt in again} == {"one", "three"}
    bob.decide(prompts["three"])
    bob.decide(prompts["one"])

    assert decisions["one"].result(PATIENCE_S) is decisions["three"].result(PATIENCE_S) is Decision.ACCEPT
    play.end()
    bob.wait_turn(turn_id)


def test_an_interrupt_drops_the_prompt_and_a_late_answer_is_ignored(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id, turn_id, prompt = ask(alice)

    assert bob.request("turn/interrupt", threadId=thread_id, turnId=turn_id) == {}

    assert alice.wait_turn(turn_id)["status"] == "interrupted"
    alice.wait(RESOLVED, threadId=thread_id, requestId=prompt["id"])
    order = [each for each in alice.drain(thread_id) if each.get("method") == "thread/status/changed"]
    assert order[-1]["params"]["status"] == {"type": "idle"}
    alice.decide(prompt)
    alice.expect_nothing(thread_id)
    assert alice.run_turn(thread_id, "text next")["status"] == "completed"


def test_an_open_prompt_keeps_nothing_of_a_connection_that_is_gone(house: LocalHouse) -> None:
    # One that unsubscribes may still answer, so the thread remembers it, but not once it is gone.
    alice = house.connect("alice")
    thread_id, _, _ = ask(alice)
    for number in range(3):
        bob = house.connect(f"bob {number}")
        bob.resume(thread_id)
        bob.request("thread/unsubscribe", threadId=thread_id)
        house.lose(bob)
    alice.fence(thread_id)

    (prompt,) = house.thread(thread_id).prompts._open.values()
    assert prompt.left == {}


def test_of_answers_at_the_same_moment_exactly_one_counts(stage: LocalHouse, puppets: Puppets) -> None:
    clients = [stage.connect(f"client {index}") for index in range(4)]
    thread_id = clients[0].start_thread()
    for client in clients[1:]:
        client.resume(thread_id)
    clients[0].start_turn(thread_id, "play")
    play = puppets.next()

    for _ in range(RACES):
        decision = play.ask("ls")
        prompts = [client.wait(APPROVAL) for client in clients]
        answers: list[Message] = [{"result": {"decision": each}} for each in ("accept", "decline", "cancel")]
        answers.append({"error": {"code": 1, "message": "no"}})
        in_parallel(
            *(
                partial(client.send, {"id": prompt["id"], **answer})
                for client, prompt, answer in zip(clients, prompts, answers, strict=True)
            )
        )
        assert decision.result(PATIENCE_S) in Decision
        for client in clients:
            client.wait(RESOLVED, threadId=thread_id, requestId=prompts[0]["id"])
    play.end()
    for client in clients:
        client.wait("turn/completed")
        client.fence(thread_id)
        assert methods(client.arrived).count(RESOLVED) == RACES


def test_an_answer_and_an_interrupt_at_the_same_moment_end_the_turn_once(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    for _ in range(RACES):
        turn_id = alice.start_turn(thread_id, "play")
        play = puppets.next()
        decision = play.ask("ls")
        prompt = alice.wait(APPROVAL)
        in_parallel(
            partial(alice.decide, prompt),
            partial(bob.request, "turn/interrupt", threadId=thread_id, turnId=turn_id),
        )
        assert alice.wait_turn(turn_id)["status"] == "interrupted"
        assert settled(decision) in (Decision.ACCEPT, None)
        alice.wait(RESOLVED, threadId=thread_id, requestId=prompt["id"])
    alice.fence(thread_id)
    assert methods(alice.arrived).count(RESOLVED) == RACES
    assert methods(alice.arrived).count("turn/completed") == RACES


def settled(decision: Future[Decision]) -> Decision | None:
    """Return what came of asking; None if the turn was interrupted."""
    try:
        return decision.result(PATIENCE_S)
    except TurnInterrupted:
        return None


def test_answers_and_subscribers_that_come_and_go_at_once_leave_no_turn_hanging(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    for _ in range(RACES):
        decision = play.ask("ls")
        prompt = alice.wait(APPROVAL)
        in_parallel(
            partial(alice.decide, prompt),
            lambda: bob.request("thread/resume", threadId=thread_id, excludeTurns=True),
        )
        assert decision.result(PATIENCE_S) is Decision.ACCEPT
        alice.wait(RESOLVED, threadId=thread_id, requestId=prompt["id"])
        bob.request("thread/unsubscribe", threadId=thread_id)
        told = bob.drain(thread_id)
        # Joined before the answer: the prompt and its end. After it: neither.
        assert methods(told).count(APPROVAL) == methods(told).count(RESOLVED)
    play.end()
    assert alice.wait_turn(turn_id)["status"] == "completed"
