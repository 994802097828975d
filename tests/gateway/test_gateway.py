"""The gateway, in front of an upstream that does what the test says."""

from __future__ import annotations

import pytest

from gateway.upstreams import Gateway
from helpers import PATIENCE_S, UNKNOWN_ID, Client, Message, text_input
from houses import LocalHouse
from trunkline import Notification, Prompt
from trunkline.messages import ThreadIdle
from trunkline.types import ThreadId

DELTA = "item/agentMessage/delta"
ELICITATION = "mcpServer/elicitation/request"
APPROVAL = "item/commandExecution/requestApproval"


def two(gateway: Gateway) -> tuple[Client, Client, str]:
    """Return two subscribers of a new thread, and its id."""
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    thread_id = alice.start_thread()
    bob.wait("thread/started")
    bob.resume(thread_id)
    return alice, bob, thread_id


def drive(client: Client, thread_id: str, text: str) -> Message:
    """Have the upstream do something in a thread, whatever runs."""
    return client.request("turn/start", threadId=thread_id, input=text_input(text))


def text_of(client: Client) -> str:
    """Return all the deltas that ever came, in a row."""
    return "".join(message["params"]["delta"] for message in client.arrived if message.get("method") == DELTA)


# Requests


def test_equal_ids_of_two_clients_get_each_their_own_answer(gateway: Gateway) -> None:
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    for client in (alice, bob):
        client.send({"id": 7, "method": "later/who", "params": {"name": client.name}})
        client.send({"id": "7", "method": "later/what", "params": {"name": client.name}})
    alice.request("fake/seen")
    bob.request("fake/seen")

    alice.request("fake/now")  # which answers them in the reverse order

    for client in (alice, bob):
        name = {"name": client.name}
        assert client.response(7)["result"] == {"method": "later/who", "params": name}
        assert client.response("7")["result"] == {"method": "later/what", "params": name}


@pytest.mark.parametrize(
    "params", [{}, {"a": [1, {"b": None}]}, [1, 2], "text", 5, {"threadId": 5}, {"threadId": None}]
)
def test_a_method_nobody_has_heard_of_passes_untouched(gateway: Gateway, params: object) -> None:
    alice = gateway.connect()
    alice.send({"id": 99, "method": "brand/new", "params": params})

    assert alice.response(99)["result"] == {"method": "brand/new", "params": params}


def test_params_that_are_absent_stay_absent(gateway: Gateway) -> None:
    alice = gateway.connect()
    alice.send({"id": 99, "method": "brand/new"})

    assert alice.response(99)["result"] == {"method": "brand/new"}


@pytest.mark.beyond_codex("thread/brandNew", because="it stands for one that a later Codex has")
def test_an_unknown_method_about_a_loaded_thread_passes_too(gateway: Gateway) -> None:
    alice, _, thread_id = two(gateway)

    result = alice.request("thread/brandNew", threadId=thread_id, more=1)

    assert result["params"] == {"threadId": thread_id, "more": 1}


def test_an_error_comes_back_with_its_code_and_its_data(gateway: Gateway) -> None:
    error = gateway.connect().refused("refuse/this")

    assert error == {"code": -32600, "message": "no", "data": {"why": "refuse/this"}}


def test_what_is_answered_here_does_not_reach_the_upstream(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    assert bob.request("thread/unsubscribe", threadId=thread_id) == {"status": "unsubscribed"}
    assert bob.request("thread/unsubscribe", threadId=thread_id) == {"status": "notSubscribed"}
    assert bob.request("thread/unsubscribe", threadId=UNKNOWN_ID) == {"status": "notLoaded"}
    assert bob.refused("initialize", clientInfo={"name": "x", "version": "1"})["code"] == -32600

    seen = alice.request("fake/seen")["seen"]

    assert seen.count("initialize") == 1
    assert "thread/unsubscribe" not in seen


def test_a_request_before_the_handshake_does_not_reach_the_upstream(gateway: Gateway) -> None:
    early = gateway.house.open("early")
    assert early.refused("brand/new")["message"] == "Not initialized"

    assert "brand/new" not in gateway.connect().request("fake/seen")["seen"]


# Events


def test_the_events_of_a_thread_reach_its_subscribers_only(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    carol = gateway.connect("carol")

    alice.run_turn(thread_id, "say 3 9")
    bob.wait("turn/completed")

    assert text_of(alice) == text_of(bob) == "0000000 x0000001 x0000002 x"
    assert set(carol.methods()) | {m["method"] for m in carol.drain(thread_id) if "method" in m} <= {
        "thread/status/changed"
    }


def test_the_events_of_a_thread_are_numbered_the_same_for_all(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)

    alice.run_turn(thread_id, "say 3 9")
    bob.wait("turn/completed")

    seen = [[(m["seq"], m["method"]) for m in client.events_of(thread_id)] for client in (alice, bob)]
    assert seen[0][-len(seen[1]) :] == seen[1]
    assert [seq for seq, _ in seen[0]] == list(range(1, len(seen[0]) + 1))


def test_a_notification_of_no_thread_reaches_everybody_who_is_initialized(gateway: Gateway) -> None:
    alice, bob = gateway.connect("alice"), gateway.connect("bob")
    early = gateway.house.open("early")

    alice.request("fake/shout")

    alice.wait("skills/changed")
    bob.wait("skills/changed")
    assert early.refused("fake/seen")["message"] == "Not initialized"
    assert not early.methods()


def test_an_opt_out_holds_for_its_connection_only(gateway: Gateway) -> None:
    alice = gateway.connect("alice", optOutNotificationMethods=[DELTA])
    thread_id = alice.start_thread()
    bob = gateway.connect("bob")
    bob.resume(thread_id)

    alice.run_turn(thread_id, "say 3 9")
    bob.wait("turn/completed")

    assert text_of(alice) == ""
    assert text_of(bob) != ""


def test_a_large_message_reaches_everybody_whole(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)

    alice.run_turn(thread_id, f"say 1 {4 * 1024 * 1024}")
    bob.wait("turn/completed")

    assert len(text_of(alice)) == 4 * 1024 * 1024
    assert text_of(alice) == text_of(bob)


def test_a_client_in_the_process_is_told_the_same(gateway: Gateway) -> None:
    alice, _, thread_id = two(gateway)
    with gateway.house.server.connect() as host:
        host.initialize("host").get(timeout=PATIENCE_S)
        resumed = host.request("thread/resume", {"threadId": thread_id}).get(timeout=PATIENCE_S)
        echo = host.request("brand/new", {"a": [1]}).get(timeout=PATIENCE_S)
        drive(alice, thread_id, "ask rm")
        said = []
        while True:
            delivery = host.receive(PATIENCE_S)
            if isinstance(delivery, Prompt):
                assert delivery.params["command"] == "rm"
                delivery.answer({"decision": "accept"})
            elif isinstance(delivery, Notification) and delivery.method == DELTA:
                said.append(delivery.params["delta"])
            elif isinstance(delivery, Notification) and delivery.method == "turn/completed":
                break

    assert resumed["thread"]["id"] == thread_id
    assert echo == {"method": "brand/new", "params": {"a": [1]}}
    assert "".join(said) == '{"decision": "accept"}'


def test_what_operators_see_holds_for_threads_of_the_upstream(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    alice.run_turn(thread_id, "say 3 9")
    bob.wait("turn/completed")
    alice.request("turn/start", threadId=thread_id, input=text_input("begin a talk"))
    alice.fence(thread_id)
    gateway.house.settle()

    status = gateway.house.server.status()

    assert status["turns"] == {"running": 1, "ended": {"completed": 1}}
    assert (status["threads"]["loaded"], status["subscriptions"]) == (1, 2)
    assert status["deliveries"] >= len(bob.events_of(thread_id)) * 2


# Joining


def test_one_who_joins_in_mid_stream_has_snapshot_and_rest_and_nothing_twice(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    drive(alice, thread_id, "begin one ")
    carol = gateway.connect("carol")

    thread = carol.resume(thread_id)
    drive(alice, thread_id, "more two")
    drive(alice, thread_id, "end")
    carol.wait("turn/completed")

    [item] = thread["turns"][-1]["items"]
    assert (item["type"], item["text"]) == ("agentMessage", "one ")
    assert text_of(carol) == "two"
    bob.wait("turn/completed")
    assert text_of(bob) == "one two"


def test_a_thread_that_was_never_used_can_be_joined(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)  # the upstream has nothing stored of it, and refuses

    assert len(gateway.asked("thread/resume")) == 1
    alice.run_turn(thread_id, "say 1 9")
    bob.wait("turn/completed")


def test_a_thread_that_nobody_has_is_refused_as_the_upstream_does(gateway: Gateway) -> None:
    error = gateway.connect().refused("thread/resume", threadId=UNKNOWN_ID)

    assert error["message"] == f"no rollout found for thread id {UNKNOWN_ID}"


def test_one_who_comes_back_gets_what_was_missed(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    answer = bob.request("thread/resume", threadId=thread_id)
    gateway.house.lose(bob)
    alice.run_turn(thread_id, "say 3 9")

    again = gateway.connect("bob again")
    result = again.request("thread/resume", threadId=thread_id, afterSeq=answer["seq"], epoch=answer["epoch"])
    again.wait("turn/completed")

    assert result["delivery"] == "events"
    assert text_of(again) == text_of(alice)
    assert "afterSeq" not in gateway.asked("thread/resume")[-1]["params"]


def test_two_who_load_a_thread_at_once_both_get_everything_once(gateway: Gateway) -> None:
    alice, _, thread_id = two(gateway)
    alice.run_turn(thread_id, "say 1 9")
    gateway.kill()  # so that it is loaded nowhere
    for client in gateway.house.clients:
        gateway.house.lose(client)
    bob, carol = gateway.connect("bob"), gateway.connect("carol")
    gateway.request_when_up(bob, "fake/seen")
    asked = [client.begin("thread/resume", threadId=thread_id) for client in (bob, carol)]
    turn = drive_when_loaded(bob, asked[0], thread_id)
    carol.response(asked[1])

    bob.wait_turn(turn)
    carol.wait_turn(turn)

    assert text_of(bob) == text_of(carol) == "0000000 x0000001 x"


def drive_when_loaded(client: Client, resume: int, thread_id: str) -> str:
    assert "result" in client.response(resume)
    turn_id: str = drive(client, thread_id, "say 2 9")["turn"]["id"]
    return turn_id


def test_a_connection_that_closes_while_it_resumes_is_no_subscriber(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    alice.run_turn(thread_id, "say 1 9")
    carol = gateway.connect("carol")
    (gateway.place / "hold").touch()
    carol.begin("thread/resume", threadId=thread_id)
    carol.fence()
    gateway.house.lose(carol)
    alice.request("fake/now")

    alice.fence(thread_id)
    feed = gateway.house.thread(thread_id).feed
    assert feed.subscriber_count == 2
    bob.fence(thread_id)


def test_an_answer_of_the_upstream_that_has_no_thread_is_an_error_and_harms_nobody(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    (gateway.place / "odd").touch()

    error = gateway.connect("carol").refused("thread/resume", threadId=thread_id)

    assert error == {"code": -32603, "message": "the upstream's answer has no thread"}
    alice.run_turn(thread_id, "say 1 9")
    bob.wait("turn/completed")


def test_an_unsubscribe_behind_a_resume_that_is_not_answered_ends_that(gateway: Gateway) -> None:
    alice, _, thread_id = two(gateway)
    alice.run_turn(thread_id, "say 1 9")
    carol = gateway.connect("carol")
    (gateway.place / "hold").touch()
    resume = carol.begin("thread/resume", threadId=thread_id)
    unsubscribe = carol.begin("thread/unsubscribe", threadId=thread_id)
    carol.fence()

    alice.request("fake/now")

    assert carol.response(resume)["result"]["thread"]["id"] == thread_id
    assert carol.response(unsubscribe)["result"] == {"status": "unsubscribed"}
    assert gateway.house.thread(thread_id).feed.subscriber_count == 2


# Prompts


def test_a_prompt_goes_to_every_subscriber_and_the_first_answer_goes_back(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    drive(alice, thread_id, "ask rm")
    asked, same = alice.wait(APPROVAL), bob.wait(APPROVAL)
    assert asked["id"] == same["id"]

    bob.decide(same)
    alice.wait("serverRequest/resolved", requestId=asked["id"])
    alice.decide(asked, "decline")
    alice.wait("turn/completed")
    bob.wait("turn/completed")

    assert text_of(alice) == '{"decision": "accept"}'
    assert alice.methods().count("serverRequest/resolved") == 1
    assert bob.methods().count("serverRequest/resolved") == 1


def test_an_answer_without_anything_does_not_speak_for_those_who_can_decide(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    drive(alice, thread_id, "elicit a form")
    prompt, same = alice.wait(ELICITATION), bob.wait(ELICITATION)

    alice.answer(prompt["id"], {})
    alice.fence(thread_id)
    bob.answer(same["id"], {"action": "accept", "content": {}})

    bob.wait("turn/completed")
    assert text_of(bob) == '{"action": "accept", "content": {}}'


def test_a_decision_that_only_the_upstream_knows_goes_back_to_it(gateway: Gateway) -> None:
    alice, _, thread_id = two(gateway)
    drive(alice, thread_id, "ask rm")

    alice.decide(alice.wait(APPROVAL), "acceptOnTuesdays")

    alice.wait("turn/completed")
    assert text_of(alice) == '{"decision": "acceptOnTuesdays"}'


def test_a_client_that_refuses_a_prompt_has_the_upstream_told_so(gateway: Gateway) -> None:
    alice, _, thread_id = two(gateway)
    drive(alice, thread_id, "ask rm")
    prompt = alice.wait(APPROVAL)

    alice.send({"id": prompt["id"], "error": {"code": -32000, "message": "no"}})

    alice.wait("turn/completed")
    assert text_of(alice) == '"refused"'


def test_a_prompt_whose_last_subscriber_has_left_waits_for_the_next_one(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    drive(alice, thread_id, "ask rm")
    prompt = bob.wait(APPROVAL)
    for client in (alice, bob):
        gateway.house.lose(client)

    carol = gateway.connect("carol")
    carol.resume(thread_id)  # which has the upstream repeat it
    again = carol.wait(APPROVAL)
    carol.decide(again)
    carol.wait("turn/completed")

    assert again["id"] == prompt["id"]
    assert carol.methods().count(APPROVAL) == 1


def test_a_prompt_that_the_upstream_drops_is_resolved(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)

    alice.run_turn(thread_id, "withdraw")

    prompt = bob.wait(APPROVAL)
    bob.wait("serverRequest/resolved", requestId=prompt["id"])
    assert alice.methods().count("serverRequest/resolved") == 1


def test_a_prompt_of_a_thread_that_nobody_has_waits_for_somebody(gateway: Gateway) -> None:
    alice = gateway.connect()
    thread_id = alice.request("fake/spawn")["threadId"]

    alice.resume(thread_id)
    alice.decide(alice.wait(APPROVAL))

    alice.wait("turn/completed", threadId=thread_id)
    assert text_of(alice) == '{"decision": "accept"}'


# The end of threads


def test_a_thread_that_nobody_needs_is_unsubscribed_from_at_the_upstream(gateway: Gateway) -> None:
    _, _, thread_id = two(gateway)
    thread = gateway.house.thread(thread_id).actor_ref
    for client in gateway.house.clients:
        gateway.house.lose(client)

    # As the thread does when its delay is over.
    gateway.house.router.actor_ref.tell(ThreadIdle(ThreadId(thread_id)))

    assert thread.actor_stopped.wait(PATIENCE_S)
    assert gateway.connect("carol").request("fake/seen")["seen"].count("thread/unsubscribe") == 1


def test_an_archived_thread_leaves_its_subscribers(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)
    alice.run_turn(thread_id, "say 1 9")
    gateway.house.server.thread(thread_id).prompt("poll/which")
    prompt = bob.wait("poll/which")

    assert alice.request("thread/archive", threadId=thread_id) == {}

    bob.wait("thread/archived")
    assert bob.wait("serverRequest/resolved")["params"]["requestId"] == prompt["id"]
    assert bob.request("thread/unsubscribe", threadId=thread_id) == {"status": "notLoaded"}


def test_a_thread_that_could_not_be_archived_goes_on(gateway: Gateway) -> None:
    alice, bob, thread_id = two(gateway)

    assert "no rollout" in alice.refused("thread/archive", threadId=thread_id)["message"]

    alice.run_turn(thread_id, "say 1 9")
    bob.wait("turn/completed")


# A host's own


def test_a_host_publishes_into_a_thread_of_the_upstreams_and_answers_methods_of_its_own(
    house: LocalHouse,
) -> None:
    house.server.method("acme/name")(lambda call: {"caller": call.client_name})
    alice = house.connect("alice")
    thread_id = alice.start_thread()
    thread = house.server.thread(thread_id)
    seq = thread.publish("acme/said", {"text": "hello"}).get(timeout=PATIENCE_S)
    said = alice.wait("acme/said")
    assert (said["seq"], said["params"]) == (seq, {"threadId": thread_id, "text": "hello"})
    asked = thread.prompt("acme/ask")
    alice.answer(alice.wait("acme/ask")["id"], {"answer": "yes"})
    assert asked.get(timeout=PATIENCE_S) == {"answer": "yes"}
    assert alice.request("acme/name") == {"caller": "alice"}
