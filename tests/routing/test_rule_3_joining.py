"""Rule 3: start and resume subscribe; snapshot and live events together are the whole, and nothing twice."""

from __future__ import annotations

import random
from collections.abc import Callable

from conftest import Serve
from helpers import Client, Message, methods
from houses import House, LocalHouse, Play, Puppets, in_parallel
from routing.streams import Copy, check_unbroken, counted
from trunkline import Limits

JOINERS = 6
JOINS = 60


def begin_turn(client: Client, puppets: Puppets, thread_id: str) -> tuple[str, Play]:
    turn_id = client.start_turn(thread_id, "play")
    return turn_id, puppets.next()


def join(client: Client, thread_id: str, **params: object) -> tuple[int, Copy]:
    """Resume a thread; return the request's id and the copy that the answer begins."""
    request_id = client.begin("thread/resume", threadId=thread_id, **params)
    return request_id, Copy(client.response(request_id)["result"])


def test_a_snapshot_in_mid_stream_and_the_deltas_behind_it_are_the_whole_text(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id, play = begin_turn(alice, puppets, thread_id)
    play.speak(*counted(0, 10))
    for _ in range(10):
        alice.wait("item/agentMessage/delta")

    request_id, copy = join(bob, thread_id)
    assert copy.texts[play.message_id] == "".join(counted(0, 10))
    assert play.message_id not in copy.completed
    play.speak(*counted(10, 20))
    play.turn.complete_item(play.message_id)
    play.end()

    bob.wait_turn(turn_id)
    copy.take_all(bob, request_id)
    assert copy.texts[play.message_id] == "".join(counted(0, 20))
    assert play.message_id in copy.completed
    assert methods(bob.events_of(thread_id)).count("item/agentMessage/delta") == 10
    assert "item/started" not in methods(bob.events_of(thread_id))


def test_a_snapshot_shows_a_running_turn_and_its_open_items(stage: LocalHouse, puppets: Puppets) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id, play = begin_turn(alice, puppets, thread_id)
    command = play.turn.command("make")
    command.output("one\n")
    alice.wait("item/commandExecution/outputDelta")

    thread = bob.resume(thread_id)

    assert thread["status"] == {"type": "active", "activeFlags": []}
    (turn,) = thread["turns"]
    assert (turn["id"], turn["status"], turn["itemsView"]) == (turn_id, "inProgress", "full")
    user, item = turn["items"]
    assert (user["type"], user["content"][0]["text"]) == ("userMessage", "play")
    assert (item["status"], item["aggregatedOutput"], item["completedAtMs"]) == ("inProgress", "one\n", None)
    command.output("two\n")
    command.complete("completed", 0)
    assert bob.wait("item/completed")["params"]["item"]["aggregatedOutput"] == "one\ntwo\n"


def test_an_open_prompt_is_sent_to_a_joiner_behind_the_answer_and_to_nobody_again(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    alice.start_turn(thread_id, "ask ls")
    prompt = alice.wait("item/commandExecution/requestApproval")
    bob.drain(thread_id)
    alice.drain(thread_id)

    thread = bob.resume(thread_id)

    assert thread["status"] == {"type": "active", "activeFlags": ["waitingOnApproval"]}
    assert thread["turns"][0]["items"][1]["id"] == prompt["params"]["itemId"]
    assert bob.drain(thread_id) == [prompt]
    assert "method" not in bob.arrived[-4]  # the answer to thread/resume
    alice.expect_nothing(thread_id)


def test_a_connection_that_resumes_again_is_subscribed_once_and_gets_open_prompts_again(
    any_house: House,
) -> None:
    client = any_house.connect()
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "ask ls")
    prompt = client.wait("item/commandExecution/requestApproval")

    for _ in range(2):
        client.drain(thread_id)
        client.resume(thread_id)
        assert client.wait("item/commandExecution/requestApproval") == prompt
        client.expect_nothing(thread_id)
    client.decide(prompt)

    client.wait_turn(turn_id)
    again = [event for event in client.events_of(thread_id) if event != prompt]
    numbers = [event["seq"] for event in again]
    assert numbers == sorted(set(numbers))
    assert client.request("thread/unsubscribe", threadId=thread_id)["status"] == "unsubscribed"
    assert client.request("thread/unsubscribe", threadId=thread_id)["status"] == "notSubscribed"


def test_what_is_over_is_in_the_snapshot_and_not_told_again(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    for text in ("text one", "text two"):
        alice.run_turn(thread_id, text)
    bob.drain(thread_id)

    thread = bob.resume(thread_id)

    said = [[item["text"] for item in turn["items"][1:]] for turn in thread["turns"]]
    assert said == [["one"], ["two"]]
    assert [turn["status"] for turn in thread["turns"]] == ["completed"] * 2
    bob.expect_nothing(thread_id)


def test_a_joiner_may_do_without_the_turns(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    alice.run_turn(thread_id, "text one")
    answer = bob.request("thread/resume", threadId=thread_id, excludeTurns=True)
    assert answer["thread"]["turns"] == []
    assert answer["thread"]["preview"] == "text one"


def test_a_thread_without_a_turn_can_be_joined(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread(ephemeral=True)
    assert bob.resume(thread_id)["turns"] == []
    turn_id = alice.start_turn(thread_id, "text hello")
    bob.wait_turn(turn_id)


def test_resuming_right_behind_an_unsubscribe_misses_nothing(stage: LocalHouse, puppets: Puppets) -> None:
    # The answer to the unsubscribe goes through the router and may come behind that to the resume.
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id, play = begin_turn(alice, puppets, thread_id)
    bob.resume(thread_id)
    resumes = []
    for _ in range(300):
        bob.begin("thread/unsubscribe", threadId=thread_id)
        resumes.append(bob.begin("thread/resume", threadId=thread_id, excludeTurns=True))
        play.speak("x")
        bob.response(resumes[-1])
    play.end()

    bob.wait_turn(turn_id)
    check_pieces(bob, thread_id, resumes)


def check_pieces(client: Client, thread_id: str, resumes: list[int]) -> None:
    """Check that behind each answer to a resume the events go on from its number."""
    last = None
    for message in client.arrived:
        if message.get("id") in resumes and "method" not in message:
            last = message["result"]["seq"]
        elif last is not None and "seq" in message:
            last = check_unbroken([message], last)
    assert client.arrived[-1]["method"] == "turn/completed"


def test_joiners_at_any_moment_of_a_stream_miss_nothing_and_get_nothing_twice(
    stage: LocalHouse, puppets: Puppets
) -> None:
    alice = stage.connect("alice")
    thread_id = alice.start_thread()
    turn_id, play = begin_turn(alice, puppets, thread_id)
    finals: list[Copy] = []
    joiners = [stage.connect(f"joiner {index}") for index in range(JOINERS)]

    in_parallel(
        lambda: speak_until(alice, play, lambda: len(finals) == JOINERS),
        *(joining(joiner, thread_id, random.Random(index), finals) for index, joiner in enumerate(joiners)),
    )

    alice.wait_turn(turn_id)
    whole = streamed(alice)
    assert [copy.texts[play.message_id] for copy in finals] == [whole] * JOINERS
    assert all(play.message_id in copy.completed for copy in finals)


def speak_until(client: Client, play: Play, is_done: Callable[[], bool]) -> None:
    """Speak as fast as one subscriber reads, until all is done; then end the turn."""
    spoken = 0
    while not is_done():
        play.speak(*counted(spoken, spoken + 20))
        spoken += 20
        for _ in range(20):
            client.wait("item/agentMessage/delta")
    play.end()


def joining(client: Client, thread_id: str, dice: random.Random, finals: list[Copy]) -> Callable[[], None]:
    """Join again and again, each time for some events; stay the last time."""

    def run() -> None:
        for _ in range(JOINS):
            request_id, copy = join(client, thread_id)
            for _ in range(dice.randrange(40)):
                client.wait("item/agentMessage/delta")
            client.request("thread/unsubscribe", threadId=thread_id)
            copy.take_all(client, request_id)
            client.arrived.clear()
            client.unread.clear()
        request_id, copy = join(client, thread_id)
        finals.append(copy)
        client.wait("turn/completed")
        copy.take_all(client, request_id)

    return run


def streamed(client: Client) -> str:
    """Return what the deltas that a client was sent add up to."""
    return "".join(
        message["params"]["delta"]
        for message in client.arrived
        if message.get("method") == "item/agentMessage/delta"
    )


def test_a_client_that_comes_back_gets_exactly_what_it_missed(stage: LocalHouse, puppets: Puppets) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id, play = begin_turn(alice, puppets, thread_id)
    request_id, copy = join(bob, thread_id)
    epoch = bob.request("thread/resume", threadId=thread_id)["epoch"]
    play.speak(*counted(0, 10))
    for _ in range(5):
        bob.wait("item/agentMessage/delta")
    copy.take_all(bob, request_id)
    stage.lose(bob)
    play.speak(*counted(10, 20))
    for _ in range(20):
        alice.wait("item/agentMessage/delta")

    carol = stage.connect("carol")
    answer = carol.request("thread/resume", threadId=thread_id, afterSeq=copy.seq, epoch=epoch)
    play.end()
    carol.wait_turn(turn_id)

    assert (answer["delivery"], answer["thread"]["turns"]) == ("events", [])
    copy.take(carol.events_of(thread_id))
    assert copy.texts[play.message_id] == "".join(counted(0, 20))


def test_one_whose_place_is_no_longer_kept_gets_a_snapshot(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets, limits=Limits(log_events=10))
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    answer = bob.request("thread/resume", threadId=thread_id)
    place = {"afterSeq": answer["seq"], "epoch": answer["epoch"]}
    house.lose(bob)
    turn_id, play = begin_turn(alice, puppets, thread_id)
    for text in counted(0, 30):
        play.speak(text)
        alice.wait("item/agentMessage/delta")

    carol = house.connect("carol")
    request_id, copy = join(carol, thread_id, **place)
    play.speak(*counted(30, 40))
    play.end()
    carol.wait_turn(turn_id)

    copy.take_all(carol, request_id)
    assert copy.texts[play.message_id] == "".join(counted(0, 40))
    assert carol.request("thread/resume", threadId=thread_id, **place)["delivery"] == "snapshot"


def test_a_place_under_another_epoch_means_nothing(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    client.run_turn(thread_id, "text hello")
    answer: Message = client.request("thread/resume", threadId=thread_id)
    for place in (
        {"afterSeq": 1, "epoch": "another"},
        {"afterSeq": 1},
        {"afterSeq": answer["seq"] + 1, "epoch": answer["epoch"]},
        {"afterSeq": -1, "epoch": answer["epoch"]},
    ):
        again = client.request("thread/resume", threadId=thread_id, **place)
        assert (again["delivery"], len(again["thread"]["turns"])) == ("snapshot", 1)
