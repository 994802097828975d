"""A client that comes back says what it saw last, and misses nothing, and gets nothing twice."""

from __future__ import annotations

from conftest import Serve
from helpers import Client, Message
from houses import LocalHouse, Puppets
from routing.streams import check_unbroken
from trunkline import Limits


def begin(client: Client) -> Message:
    return client.request("thread/start")


def events_behind(client: Client, answer: Message, thread_id: str) -> list[Message]:
    """Return the events that came behind an answer."""
    place = next(index for index, message in enumerate(client.arrived) if message.get("result") is answer)
    return [message for message in client.arrived[place:] if message in client.events_of(thread_id)]


def test_a_client_that_was_away_gets_exactly_what_it_missed(house: LocalHouse) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    started = begin(alice)
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    bob.resume(thread_id)
    alice.run_turn(thread_id, "text seen")
    last = alice.events_of(thread_id)[-1]["seq"]
    house.lose(alice)
    bob.run_turn(thread_id, "say 50 20\ntext missed")

    again = house.connect("alice again")
    answer = again.request("thread/resume", threadId=thread_id, afterSeq=last, epoch=epoch)
    bob.run_turn(thread_id, "text live")
    again.wait("turn/completed")
    again.wait("turn/completed")

    assert (answer["delivery"], answer["thread"]["turns"]) == ("events", [])
    events = again.events_of(thread_id)
    assert check_unbroken(events, last) == bob.events_of(thread_id)[-1]["seq"]
    assert events == bob.events_of(thread_id)[-len(events) :]


def test_every_place_in_the_log_can_be_come_back_to(house: LocalHouse) -> None:
    alice = house.connect("alice")
    started = begin(alice)
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    alice.run_turn(thread_id, "say 30 20")
    all_events = alice.events_of(thread_id)
    bob = house.connect("bob")
    for after in range(len(all_events) + 1):
        bob.drain(thread_id)
        before = len(bob.events_of(thread_id))
        bob.request("thread/resume", threadId=thread_id, afterSeq=after, epoch=epoch)
        bob.request("thread/unsubscribe", threadId=thread_id)
        replayed = bob.events_of(thread_id)[before:]
        # Unsubscribing at once may cut a replay short, but never makes a hole in it.
        assert replayed == all_events[after : after + len(replayed)]


def test_a_long_message_is_kept_once_and_told_again_as_it_was(house: LocalHouse) -> None:
    alice = house.connect("alice")
    started = begin(alice)
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    alice.run_turn(thread_id, "say 500 100")
    events = alice.events_of(thread_id)

    bob = house.connect("bob")
    bob.request("thread/resume", threadId=thread_id, afterSeq=events[0]["seq"] - 1, epoch=epoch)
    bob.wait("turn/completed")

    assert bob.events_of(thread_id) == events
    house.settle()
    feed = house.thread(thread_id).feed
    item, turn = (event for event in feed.newest_after(0, 10**9) if event.size > 50_000)
    assert (item.payload, turn.payload) == (None, None)
    assert item.params["item"].data is turn.params["turn"]["items"][0].data
    assert item.params["item"].lean() is item.params["item"]


def test_another_epoch_gets_a_snapshot(house: LocalHouse) -> None:
    alice = house.connect("alice")
    started = begin(alice)
    thread_id = started["thread"]["id"]
    alice.run_turn(thread_id, "text hello")
    for epoch in ("other", None):
        answer = alice.request("thread/resume", threadId=thread_id, afterSeq=1, epoch=epoch)
        assert answer["delivery"] == "snapshot"
        assert len(answer["thread"]["turns"]) == 1


def test_a_number_that_is_not_there_gets_a_snapshot(house: LocalHouse) -> None:
    alice = house.connect("alice")
    started = begin(alice)
    for after in (-1, 1000):
        answer = alice.request(
            "thread/resume", threadId=started["thread"]["id"], afterSeq=after, epoch=started["epoch"]
        )
        assert answer["delivery"] == "snapshot"


def test_what_has_fallen_out_of_the_log_is_a_snapshot_and_never_a_part(serve: Serve) -> None:
    house = serve(limits=Limits(log_events=20))
    alice = house.connect("alice")
    started = begin(alice)
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    for _ in range(6):
        alice.run_turn(thread_id, "text filling the log")
    deliveries = set()
    last = alice.events_of(thread_id)[-1]["seq"]
    for after in range(last + 1):
        bob = house.connect(f"bob {after}")
        answer = bob.request("thread/resume", threadId=thread_id, afterSeq=after, epoch=epoch)
        deliveries.add(answer["delivery"])
        bob.fence(thread_id)
        events = bob.events_of(thread_id)
        if answer["delivery"] == "events":
            assert check_unbroken(events, after) == last
        else:
            assert events == []
            assert len(answer["thread"]["turns"]) == 6
        bob.close()
    assert deliveries == {"events", "snapshot"}


def test_a_prompt_that_was_seen_is_not_sent_again_and_can_be_answered(house: LocalHouse) -> None:
    alice = house.connect("alice")
    started = begin(alice)
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    turn_id = alice.start_turn(thread_id, "ask something")
    prompt = alice.wait("item/commandExecution/requestApproval")
    house.lose(alice)

    again = house.connect("alice again")
    again.request("thread/resume", threadId=thread_id, afterSeq=prompt["seq"], epoch=epoch)
    again.fence(thread_id)
    assert again.events_of(thread_id) == []
    again.decide(prompt)
    assert again.wait_turn(turn_id)["status"] == "completed"


def test_a_prompt_that_was_missed_comes_among_the_events_once(house: LocalHouse) -> None:
    alice = house.connect("alice")
    started = begin(alice)
    thread_id, epoch = started["thread"]["id"], started["epoch"]
    turn_id = alice.start_turn(thread_id, "ask something")
    alice.wait("item/commandExecution/requestApproval")

    bob = house.connect("bob")
    bob.request("thread/resume", threadId=thread_id, afterSeq=0, epoch=epoch)
    prompt = bob.wait("item/commandExecution/requestApproval")
    bob.fence(thread_id)
    assert check_unbroken(bob.events_of(thread_id), 0) == prompt["seq"]
    bob.decide(prompt)
    assert bob.wait_turn(turn_id)["status"] == "completed"


def test_initialize_says_that_it_can_be_done(house: LocalHouse) -> None:
    assert house.open("alice").initialize()["threadSequence"] is True


def test_a_large_history_comes_in_parts(serve: Serve, puppets: Puppets) -> None:
    house = serve(agent=puppets, limits=Limits(snapshot_bytes=20_000))
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    for _ in range(10):
        turn_id = alice.start_turn(thread_id, "x")
        play = puppets.next()
        play.speak("y" * 5000)
        play.end()
        alice.wait_turn(turn_id)

    answer = alice.request("thread/resume", threadId=thread_id)

    items = [item["id"] for turn in answer["thread"]["turns"] for item in turn["items"]]
    cursor = answer["olderItemsCursor"]
    while cursor is not None:
        page = alice.request(
            "thread/items/list", threadId=thread_id, cursor=cursor, sortDirection="desc", limit=3
        )
        items = [entry["item"]["id"] for entry in page["data"]][::-1] + items
        cursor = page["nextCursor"]
    told = [
        message["params"]["item"]["id"]
        for message in alice.events_of(thread_id)
        if message["method"] == "item/completed"
    ]
    assert items == told
