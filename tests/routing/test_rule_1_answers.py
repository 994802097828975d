"""Rule 1: a response or error goes to the connection that asked, and to no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from helpers import UNKNOWN_ID, Client, text_input
from houses import House, LocalHouse, in_parallel

CONNECTIONS = 50
IN_FLIGHT = 10
ROUNDS = 4


def test_the_same_id_on_two_connections_gives_each_its_own_answer(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    bob.wait("thread/started")
    alice.send({"id": 77, "method": "thread/read", "params": {"threadId": thread_id}})
    bob.send({"id": 77, "method": "thread/loaded/list"})

    assert alice.response(77)["result"]["thread"]["id"] == thread_id
    assert bob.response(77)["result"]["data"] == [thread_id]
    alice.expect_nothing()
    bob.expect_nothing()


def test_an_error_reaches_nobody_else(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")

    assert alice.refused("thread/resume", threadId=UNKNOWN_ID)["code"] == -32600

    alice.expect_nothing()
    bob.expect_nothing()


@pytest.mark.parametrize("request_id", [0, -1, 2**63, 2**64 - 1, -(2**63), "", "5", "a b", "Zoë", "1e3"])
def test_an_id_comes_back_exactly_as_it_was_sent(house: LocalHouse, request_id: int | str) -> None:
    client = house.connect()
    client.send({"id": request_id, "method": "thread/loaded/list"})
    assert client.response(request_id)["result"] == {"data": [], "nextCursor": None}


def test_a_number_and_the_same_number_as_text_are_two_ids(house: LocalHouse) -> None:
    client = house.connect()
    client.send({"id": 5, "method": "thread/loaded/list"})
    client.send({"id": "5", "method": "thread/read", "params": {"threadId": UNKNOWN_ID}})

    assert "result" in client.response(5)
    assert "error" in client.response("5")


def test_an_id_that_is_used_twice_at_once_is_answered_twice(house: LocalHouse) -> None:
    client = house.connect()
    for _ in range(2):
        client.send({"id": 5, "method": "thread/loaded/list"})
    client.response(5)
    client.response(5)
    client.expect_nothing()


def test_the_answer_to_a_request_on_somebody_elses_thread_comes_to_the_asker_alone(any_house: House) -> None:
    alice, bob = any_house.connect("alice"), any_house.connect("bob")
    thread_id = alice.start_thread()
    bob.wait("thread/started")

    turn_id = bob.start_turn(thread_id, "text hello")

    alice.wait_turn(turn_id)
    assert all("id" not in message for message in alice.drain(thread_id))


def test_many_connections_with_many_requests_in_flight_get_every_answer_once(house: LocalHouse) -> None:
    # Each connection has a thread with a name of its own: an answer that went astray would tell.
    clients = [house.connect(f"client {index}") for index in range(CONNECTIONS)]
    in_parallel(*(_keep_busy(client) for client in clients))
    for client in clients:
        assert not [message for message in client.unread if "method" not in message]
        client.fence()


def _keep_busy(client: Client) -> Callable[[], None]:
    def run() -> None:
        thread_id = client.start_thread(cwd=f"/{client.name}")
        for _ in range(ROUNDS):
            asked = [
                client.begin("thread/read", threadId=thread_id)
                if number % 2
                else client.begin("thread/name/set", threadId=thread_id, name=client.name)
                for number in range(IN_FLIGHT)
            ]
            for number, request_id in enumerate(asked):
                result = client.response(request_id)["result"]
                if number % 2:
                    assert result["thread"]["id"] == thread_id
                    assert result["thread"]["cwd"] == f"/{client.name}"
                else:
                    assert result == {}

    return run


def test_pipelined_requests_over_the_limit_are_refused_and_every_id_is_answered_once(
    house: LocalHouse,
) -> None:
    alice, bob = house.connect("alice"), house.connect("bob")
    thread_id = alice.start_thread()
    bob.wait("thread/started")
    asked = [alice.begin("thread/read", threadId=thread_id) for _ in range(300)]
    bob.request("thread/read", threadId=thread_id)

    answers = [alice.response(request_id) for request_id in asked]

    errors = [answer["error"] for answer in answers if "error" in answer]
    assert len(errors) < len(asked)
    for error in errors:
        assert error == {
            "code": -32001,
            "message": "Server overloaded; retry later.",
            "data": {"codexErrorInfo": "server_overloaded"},
        }
    alice.expect_nothing()
    bob.expect_nothing()


def test_a_client_whose_requests_were_refused_can_go_on(house: LocalHouse) -> None:
    client = house.connect()
    thread_id = client.start_thread()
    for request_id in [client.begin("thread/read", threadId=thread_id) for _ in range(300)]:
        client.response(request_id)
    turn = client.request("turn/start", threadId=thread_id, input=text_input("text on we go"))["turn"]
    assert client.wait_turn(turn["id"])["status"] == "completed"
