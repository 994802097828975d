"""Rule 2: events and prompts reach a thread's subscribers, all of them, in one order, none twice."""

from __future__ import annotations

from helpers import Message, methods
from houses import House, LocalHouse, Puppets
from routing.streams import check_unbroken

BROADCASTS = {"thread/started", "thread/status/changed", "thread/name/updated", "thread/closed"}

PLAIN_TURN = [
    "thread/status/changed",
    "turn/started",
    "item/started",
    "item/completed",
    "item/started",
    "item/agentMessage/delta",
    "item/completed",
    "thread/status/changed",
    "turn/completed",
]


def test_a_thread_that_starts_is_told_to_everybody_and_to_the_starter_behind_the_answer(
    any_house: House,
) -> None:
    alice, bob, carol = (any_house.connect(name) for name in ("alice", "bob", "carol"))

    thread_id = alice.request("thread/start")["thread"]["id"]

    for client in (alice, bob, carol):
        started = client.wait("thread/started")["params"]["thread"]
        assert (started["id"], started["status"], started["turns"]) == (thread_id, {"type": "idle"}, [])
    places = [message.get("method", "answer") for message in alice.arrived if "userAgent" not in str(message)]
    assert places == ["answer", "thread/started"]


def test_a_plain_turn_is_told_in_the_order_of_the_protocol(any_house: House) -> None:
    client = any_house.connect()
    thread_id = client.start_thread()
    client.drain(thread_id)

    turn_id = client.start_turn(thread_id, "text hello")
    client.wait_turn(turn_id)

    turn = client.arrived[-len(PLAIN_TURN) - 1 :]
    assert "result" in turn[0]
    assert methods(turn) == PLAIN_TURN
    active, started, _, user, begun, delta, said, idle, completed = (each["params"] for each in turn[1:])
    assert active["status"] == {"type": "active", "activeFlags": []}
    assert started["turn"]["id"] == completed["turn"]["id"] == turn_id
    assert user["item"]["content"] == [{"type": "text", "text": "text hello", "text_elements": []}]
    assert (begun["item"]["text"], delta["delta"], said["item"]["text"]) == ("", "hello", "hello")
    assert begun["startedAtMs"] <= said["completedAtMs"]
    assert idle["status"] == {"type": "idle"}
    assert completed["turn"]["status"] == "completed"
    assert [item["text"] for item in completed["turn"]["items"]] == ["hello"]


def test_every_subscriber_gets_the_same_events_in_the_same_order(any_house: House) -> None:
    starter = any_house.connect("starter")
    thread_id = starter.start_thread()
    others = [any_house.connect(f"subscriber {index}") for index in range(7)]
    for other in others:
        other.resume(thread_id)

    turn_id = starter.start_turn(thread_id, "say 300 8\ntext one\ntext two")

    for client in (starter, *others):
        client.wait_turn(turn_id)
    events = starter.events_of(thread_id)
    check_unbroken(events, 0)
    for other in others:
        assert other.events_of(thread_id) == events[-len(other.events_of(thread_id)) :]
        assert methods(other.events_of(thread_id)) == methods(events[1:])  # all but thread/started


def test_one_who_is_not_subscribed_gets_what_is_for_everybody_and_nothing_else(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()

    turn_id = alice.start_turn(thread_id, "ask ls\ntext hello")
    alice.decide(alice.wait("item/commandExecution/requestApproval"))
    alice.wait_turn(turn_id)

    def for_everybody(events: list[Message]) -> list[Message]:
        return [event for event in events if event["method"] in BROADCASTS]

    assert bob.drain(thread_id) == for_everybody(alice.events_of(thread_id))
    assert methods(bob.events_of(thread_id)) == ["thread/started"] + ["thread/status/changed"] * 4


def test_a_turn_started_by_one_who_is_not_subscribed_runs_and_does_not_subscribe(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()

    turn_id = bob.start_turn(thread_id, "text hello")

    assert alice.wait_turn(turn_id)["status"] == "completed"
    bob.fence(thread_id)
    assert set(bob.methods()) <= BROADCASTS
    assert bob.request("thread/unsubscribe", threadId=thread_id) == {"status": "notSubscribed"}


def test_a_connection_that_is_not_initialized_is_sent_nothing(any_house: House) -> None:
    alice = any_house.connect("alice")
    stranger = any_house.open("stranger")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "ask ls")
    alice.decide(alice.wait("item/commandExecution/requestApproval"))
    alice.wait_turn(turn_id)
    alice.fence(thread_id)

    assert stranger.refused("thread/loaded/list")["message"] == "Not initialized"
    assert len(stranger.arrived) == 1


def test_threads_do_not_mix(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    of_alice, of_bob = alice.start_thread(), bob.start_thread()

    turns = [alice.start_turn(of_alice, "say 200 8"), bob.start_turn(of_bob, "say 200 8")]

    alice.wait_turn(turns[0])
    bob.wait_turn(turns[1])
    for client, own, foreign in ((alice, of_alice, of_bob), (bob, of_bob, of_alice)):
        client.fence(of_alice, of_bob)
        check_unbroken(client.events_of(own), 0)
        assert {event["method"] for event in client.events_of(foreign)} <= BROADCASTS


def test_one_connection_may_subscribe_to_several_threads(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    threads = [alice.start_thread() for _ in range(3)]
    for thread_id in threads:
        bob.resume(thread_id)

    turns = [alice.start_turn(thread_id, "say 50 8") for thread_id in threads]

    for thread_id, turn_id in zip(threads, turns, strict=True):
        bob.wait_turn(turn_id)
        assert check_unbroken(bob.events_of(thread_id)[1:], 1) > 50


def test_an_opt_out_holds_for_its_connection_only(any_house: House) -> None:
    names = ["item/agentMessage/delta", "thread/status/changed", "no/such/notification"]
    alice = any_house.connect("alice")
    bob = any_house.connect("bob", optOutNotificationMethods=names)
    thread_id = alice.start_thread()
    bob.resume(thread_id)

    turn_id = alice.start_turn(thread_id, "say 20 8")

    bob.wait_turn(turn_id)
    alice.wait_turn(turn_id)
    wanted = [event for event in alice.events_of(thread_id) if event["method"] not in names]
    assert bob.events_of(thread_id) == wanted
    assert set(names[:2]) <= set(alice.methods())


def test_an_opt_out_of_what_is_for_everybody_holds_without_a_subscription(any_house: House) -> None:
    alice = any_house.connect("alice")
    bob = any_house.connect("bob", optOutNotificationMethods=["thread/started"])
    thread_id = alice.start_thread()
    alice.request("thread/name/set", threadId=thread_id, name="x")
    bob.fence(thread_id)
    assert bob.methods() == ["thread/name/updated"]


def test_an_opt_out_counts_exact_names_and_never_hides_prompts(any_house: House) -> None:
    names = [
        "item",
        "item/",
        "ITEM/STARTED",
        "item/commandExecution/requestApproval",
        "serverRequest/resolved",
    ]
    client = any_house.connect(optOutNotificationMethods=names)
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "ask ls")

    client.decide(client.wait("item/commandExecution/requestApproval"))

    client.wait_turn(turn_id)
    assert "item/started" in client.methods()
    assert "serverRequest/resolved" not in client.methods()


def test_notifications_carry_their_time_and_prompts_and_answers_do_not(any_house: House) -> None:
    client = any_house.connect()
    thread_id = client.start_thread()
    turn_id = client.start_turn(thread_id, "ask ls")
    client.decide(client.wait("item/commandExecution/requestApproval"))
    client.wait_turn(turn_id)
    for message in client.arrived:
        is_notification = "method" in message and "id" not in message
        assert isinstance(message.get("emittedAtMs"), int) == is_notification
        assert ("seq" in message) == ("method" in message)


def test_a_subscription_is_not_made_by_looking(stage: LocalHouse, puppets: Puppets) -> None:
    alice, bob = stage.connect("alice"), stage.connect("bob")
    thread_id = alice.start_thread()
    turn_id = alice.start_turn(thread_id, "")
    play = puppets.next()

    bob.request("thread/read", threadId=thread_id, includeTurns=True)
    bob.request("thread/list")
    bob.request("thread/name/set", threadId=thread_id, name="x")
    play.speak("hello")
    play.end()

    alice.wait_turn(turn_id)
    bob.fence(thread_id)
    assert set(bob.methods()) <= BROADCASTS
