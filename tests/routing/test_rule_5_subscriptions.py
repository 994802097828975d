"""Rule 5: an unsubscribe and a close end that connection's subscriptions and nothing else."""

from __future__ import annotations

import threading

import pytest

from helpers import PATIENCE_S, UNKNOWN_ID, methods
from houses import House, LocalHouse, Puppets
from routing.streams import Copy, check_unbroken, counted
from routing.test_rule_2_fanout import BROADCASTS


def test_an_unsubscribe_has_three_outcomes_and_refuses_what_is_no_id(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()

    assert bob.request("thread/unsubscribe", threadId=thread_id) == {"status": "notSubscribed"}
    assert alice.request("thread/unsubscribe", threadId=thread_id) == {"status": "unsubscribed"}
    assert alice.request("thread/unsubscribe", threadId=thread_id) == {"status": "notSubscribed"}
    assert alice.request("thread/unsubscribe", threadId=UNKNOWN_ID) == {"status": "notLoaded"}
    error = alice.refused("thread/unsubscribe", threadId="no id")
    assert (error["code"], error["message"][:18]) == (-32600, "invalid thread id:")


def test_one_that_has_unsubscribed_gets_what_is_for_everybody_and_nothing_else(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)
    bob.request("thread/unsubscribe", threadId=thread_id)
    bob.drain(thread_id)
    alice.drain(thread_id)

    alice.run_turn(thread_id, "say 20 8")

    told = bob.drain(thread_id)
    assert methods(told) == ["thread/status/changed"] * 2
    assert told == [event for event in alice.events_of(thread_id)[1:] if event["method"] in BROADCASTS]


def test_an_unsubscribe_ends_one_subscription_of_several(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    left, kept = alice.start_thread(), alice.start_thread()
    for thread_id in (left, kept):
        bob.resume(thread_id)

    bob.request("thread/unsubscribe", threadId=left)

    for thread_id in (left, kept):
        alice.run_turn(thread_id, "say 20 8")
    bob.fence(left, kept)
    check_unbroken(bob.events_of(kept)[1:], 1)
    assert methods(bob.events_of(kept)).count("turn/completed") == 1
    assert set(methods(bob.events_of(left))) <= BROADCASTS


def test_a_close_ends_its_subscriptions_and_no_other(house: LocalHouse) -> None:
    alice, bob, carol = (house.connect(name) for name in ("alice", "bob", "carol"))
    threads = [alice.start_thread() for _ in range(3)]
    for thread_id in threads:
        bob.resume(thread_id)
        carol.resume(thread_id)

    house.lose(bob)

    for thread_id in threads:
        assert alice.request("thread/read", threadId=thread_id)["thread"]["subscriberCount"] == 2
        alice.run_turn(thread_id, "say 20 8")
        carol.wait("turn/completed", threadId=thread_id)
        check_unbroken(carol.events_of(thread_id)[1:], 1)


@pytest.mark.parametrize("politely", [True, False])
def test_a_close_ends_the_subscription_however_it_comes(house: LocalHouse, politely: bool) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.resume(thread_id)

    house.lose(bob, politely=politely)

    assert alice.request("thread/read", threadId=thread_id)["thread"]["subscriberCount"] == 1


def test_the_listener_lives_from_the_first_subscription_to_the_end_of_the_last(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    thread = house.thread(thread_id)
    bob.resume(thread_id)
    listener = thread.feed.listener

    alice.request("thread/unsubscribe", threadId=thread_id)
    assert thread.feed.listener is listener is not None
    house.lose(bob)
    alice.fence(thread_id)
    assert thread.feed.listener is None
    alice.resume(thread_id)
    assert thread.feed.listener is not None


@pytest.mark.parametrize("by_closing", [True, False])
def test_a_turn_goes_on_without_subscribers_and_its_result_is_there(
    stage: LocalHouse, puppets: Puppets, by_closing: bool
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    play = puppets.next()
    play.speak(*counted(0, 10))
    alice.wait("item/agentMessage/delta")

    if by_closing:
        stage.lose(alice)
    else:
        alice.request("thread/unsubscribe", threadId=thread_id)
    play.speak(*counted(10, 20))
    play.end()
    bob.wait("thread/status/changed", status={"type": "idle"})

    copy = Copy(bob.request("thread/resume", threadId=thread_id))
    assert copy.texts[play.message_id] == "".join(counted(0, 20))
    assert copy.ended_turns == {turn_id}


def test_one_can_leave_and_come_back_as_often_as_it_likes(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    for number in range(20):
        thread = bob.resume(thread_id)
        assert len(thread["turns"]) == number
        alice.run_turn(thread_id, f"text {number}")
        bob.wait("turn/completed")
        assert bob.request("thread/unsubscribe", threadId=thread_id)["status"] == "unsubscribed"
        bob.drain(thread_id)


@pytest.mark.parametrize("comes_back", [False, True])
def test_an_unsubscribe_does_not_overtake_a_revert(
    stage: LocalHouse, puppets: Puppets, comes_back: bool
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "play")
    release = threading.Event()
    puppets.next().do(lambda _: release.wait(PATIENCE_S))
    asked = [
        bob.begin("thread/revert", threadId=thread_id, beforeTurnId=turn_id),
        bob.begin("thread/unsubscribe", threadId=thread_id),
    ]
    if comes_back:
        asked.append(bob.begin("thread/resume", threadId=thread_id))
    bob.fence(thread_id)
    assert not [message for message in bob.arrived if message.get("id") in asked]

    release.set()

    answers = [bob.response(request_id)["result"] for request_id in asked]
    assert answers[1] == {"status": "unsubscribed"}
    thread = alice.request("thread/read", threadId=thread_id)["thread"]
    assert thread["subscriberCount"] == 1 + comes_back
