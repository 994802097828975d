"""What each step does, seen from the server."""

from __future__ import annotations

import threading

import pytest

from load.fakes import FakeServer, JsonObject, Peer, run
from load.steps import CALL, RESUME, ROOM, Witness, do, group, repeat, requests_of


def test_initialize_connects_and_says_what_is_opted_out_of() -> None:
    fake = Witness()

    result = run(fake, group(do("initialize", 'opt_out = ["thread/started"], experimental = false')))

    capabilities = requests_of(fake, "initialize")[-1]["capabilities"]
    assert capabilities == {"experimentalApi": False, "optOutNotificationMethods": ["thread/started"]}
    assert result.connections == 1
    assert result.passed


def test_a_thread_of_ones_own_is_started_and_its_id_filled_in() -> None:
    fake = Witness()
    steps = (
        do("initialize")
        + do("start", 'params = { cwd = "/srv" }')
        + do("turn", 'text = "hello {connection}"')
    )

    result = run(
        fake, group(steps + do("call", 'method = "thread/loaded/list", params = { x = ["{thread}"] }'))
    )

    assert requests_of(fake, "thread/start") == [{"cwd": "/srv"}]
    assert requests_of(fake, "turn/start")[0]["input"][0]["text"] == "hello 0"
    assert requests_of(fake, "thread/loaded/list") == [{"x": ["thread-1"]}]
    assert not result.errors


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ('pick = "round-robin"', ["thread-1", "thread-2", "thread-3", "thread-1", "thread-2"]),
        ('pick = "index", index = 1', ["thread-2"] * 5),
    ],
)
def test_threads_of_a_set_are_picked_in_turn_or_by_index(pick: str, expected: list[str]) -> None:
    fake = Witness()
    text = '[[threads]]\nname = "rooms"\ncount = 3\n' + group(
        do("initialize") + do("resume", f'threads = "rooms", {pick}'), "connections = 5"
    )

    run(fake, text)

    assert sorted(params["threadId"] for params in requests_of(fake, "thread/resume")) == sorted(expected)


def picks(seed: int) -> list[str]:
    fake = Witness()
    text = '[[threads]]\nname = "rooms"\ncount = 50\n' + group(
        repeat("times = 8", do("initialize") + do("resume", 'threads = "rooms", pick = "random"'))
    )
    run(fake, text.replace("[[threads]]", f"seed = {seed}\n[[threads]]", 1))
    return [params["threadId"] for params in requests_of(fake, "thread/resume")]


def test_the_same_seed_picks_the_same_threads_and_another_others() -> None:
    assert picks(1) == picks(1) != picks(2)


def test_shared_threads_are_prepared_and_nobody_stays_subscribed() -> None:
    fake = Witness()

    run(fake, '[[threads]]\nname = "rooms"\ncount = 2\nprepare = "text hi"\n' + group(do("initialize")))

    made = ["thread/start", "turn/start", "thread/unsubscribe"]
    assert fake.methods()[1:7] == made * 2


def test_a_clean_close_carries_its_code_and_a_drop_carries_no_close_frame() -> None:
    fake = Witness()

    result = run(
        fake,
        group(
            do("initialize") + do("close", "code = 4001") + do("initialize") + do("drop") + do("initialize")
        ),
    )

    assert sorted(code for code, _ in fake.ends if code) == [
        1000,
        1006,
        1006,
        4001,
    ]  # with the one before the run
    assert (result.connections, result.errors) == (3, {})


def test_a_connection_that_the_server_closes_is_an_error_with_the_servers_reason() -> None:
    class Closing(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            peer.ws.close(1013, "too slow")

    steps = do("initialize") + CALL

    assert run(Closing(), group(steps)).errors == {"connection lost: close 1013 too slow": 1}
    result = run(Closing(), group(steps, "may_be_closed = true"))
    assert (result.errors, result.expected) == ({}, {"connection lost: close 1013 too slow": 1})


def test_a_round_that_begins_with_connecting_survives_the_loss_of_the_connection() -> None:
    class Closing(FakeServer):
        calls = 0

        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            self.calls += 1
            if self.calls == 2:
                peer.ws.close(1011)
            else:
                super().on_thread_loaded_list(peer, request)

    fake = Closing()

    result = run(fake, group(repeat("times = 4", do("initialize") + CALL)))

    assert fake.calls == 4
    assert result.errors.total() == 1


def test_a_barrier_is_passed_together() -> None:
    order: list[str] = []

    class Ordered(FakeServer):
        def on_request(self, peer: Peer, request: JsonObject) -> None:
            if request["method"].startswith("x/"):
                order.append(request["method"])
            super().on_request(peer, request)

    call = 'method = "x/{}", expect_error = true'
    text = (
        group(
            do("initialize")
            + do("call", call.format(1))
            + do("barrier", 'name = "b"')
            + do("call", call.format(2))
        )
    ).replace('name = "g"', 'name = "g"\nconnections = 4')
    late = group(
        do("pause", 'for = "50ms"')
        + do("initialize")
        + do("call", call.format(1))
        + do("barrier", 'name = "b"')
    ).replace('"g"', '"late"')

    result = run(Ordered(), text + late)

    assert order == ["x/1"] * 5 + ["x/2"] * 4
    assert result.errors == {}
    assert result.expected == {"x/1: -32601 no x/…": 5, "x/2: -32601 no x/…": 4}


def test_a_result_where_an_error_is_expected_is_an_error() -> None:
    steps = do("initialize") + do("call", 'method = "thread/loaded/list", expect_error = true')

    assert run(FakeServer(), group(steps)).errors == {
        "thread/loaded/list: a result where an error was expected": 1
    }


def test_waiting_ends_with_the_notification_even_if_it_is_a_delta() -> None:
    fake = Witness()
    steps = do("initialize") + do("start") + do("turn", 'text = "say 20", wait = "nothing"')
    steps += do("wait", 'method = "item/agentMessage/delta", count = 20') + do("call", 'method = "x"')

    result = run(fake, group(steps.replace('method = "x"', 'method = "thread/loaded/list"')), duration="5s")

    assert result.window_s < 5
    assert not result.errors
    assert fake.methods()[-1] == "thread/loaded/list"


def test_waiting_for_what_does_not_come_is_an_error() -> None:
    steps = do("initialize") + do("wait", 'method = "thread/started"')

    result = run(FakeServer(), group(steps), timeout="1s")  # to connect may take some

    assert result.errors == {"no answer in time: thread/started": 1}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", {"result": {"decision": "accept"}}),
        ('decision = "decline"', {"result": {"decision": "decline"}}),
        ('decision = "error"', {"error": {"code": -32000, "message": "declined by the load test"}}),
        ('decision = "cancel", after = "10ms"', {"result": {"decision": "cancel"}}),
    ],
)
def test_prompts_are_answered_as_the_scenario_says(answer: str, expected: JsonObject) -> None:
    answers: list[JsonObject] = []

    class Listening(FakeServer):
        def on_answer(self, peer: Peer, answer: JsonObject) -> None:
            answers.append(answer)
            super().on_answer(peer, answer)

    steps = do("initialize") + do("answer", answer) + do("start") + do("turn", 'text = "ask"')

    assert run(Listening(), group(steps)).passed
    assert answers == [{"id": 0, **expected}]


def test_only_one_of_the_subscribers_answers_if_it_says_so() -> None:
    answers: list[Peer] = []

    class Listening(FakeServer):
        def on_answer(self, peer: Peer, answer: JsonObject) -> None:
            answers.append(peer)
            super().on_answer(peer, answer)

    text = '[[threads]]\nname = "rooms"\ncount = 2\n' + group(
        do("initialize")
        + do("answer", 'by = "one"')
        + do("resume", 'threads = "rooms"')
        + do("begin")
        + do("stay"),
        "connections = 6",
    )
    asking = do("initialize") + do("resume", 'threads = "rooms"') + do("begin")
    asking += repeat("times = 3", do("turn", 'text = "ask"'))
    text += group(asking, "connections = 2").replace('"g"', '"askers"')

    assert run(Listening(), text).passed
    assert len(answers) == 2 * 3


def test_questions_are_answered_with_the_text() -> None:
    answers: list[JsonObject] = []

    class Asking(FakeServer):
        def on_turn_start(self, peer: Peer, request: JsonObject) -> None:
            peer.reply(request, {"turn": {"id": "turn-1"}})
            self.prompts[0] = request["params"]["threadId"], "turn-1"
            params = {"turnId": "turn-1", "questions": [{"id": "q1"}, {"id": "q2"}]}
            self.publish(request["params"]["threadId"], "item/tool/requestUserInput", params, prompt=0)

        def on_answer(self, peer: Peer, answer: JsonObject) -> None:
            answers.append(answer["result"])
            super().on_answer(peer, answer)

    steps = do("initialize") + do("answer", 'text = "blue"') + do("start") + do("turn", 'text = "?"')

    assert run(Asking(), group(steps)).passed
    assert answers == [{"answers": {"q1": {"answers": ["blue"]}, "q2": {"answers": ["blue"]}}}]


def test_an_open_loop_keeps_its_rate_and_counts_latency_from_the_planned_moment() -> None:
    first = threading.Event()

    class Stalling(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            # Answers nothing until the tenth request is there: a closed loop would never send it.
            self.waiting = [*getattr(self, "waiting", []), (peer, request)]
            if len(self.waiting) == 10:
                for each in self.waiting:
                    super().on_thread_loaded_list(*each)
                first.set()

    rounds = repeat("rate = 200, times = 10", do("call", 'method = "thread/loaded/list", wait = false'))

    # What starts a thread is answered behind them.
    result = run(Stalling(), group(do("initialize") + rounds + do("start")), duration="5s")

    assert first.is_set()
    latency = result.measured.latencies["thread/loaded/list"]
    assert latency.total == 10
    # The first was planned nine rounds of 5 ms before the last one.
    assert latency.max >= 45_000
    assert result.measured.planned_sends == 10


def test_a_closed_loop_that_is_late_counts_from_the_planned_moment_too() -> None:
    release = threading.Event()

    class Slow(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            release.wait(0.05)  # never set: each answer takes as long as five rounds
            super().on_thread_loaded_list(peer, request)

    result = run(Slow(), group(do("initialize") + repeat("rate = 100, times = 5", CALL)), duration="5s")

    # The last is planned for 40 ms after the first and is answered after 250 ms.
    assert result.measured.latencies["thread/loaded/list"].max >= 200_000
    assert result.measured.late_sends == 0


def test_latency_can_count_from_the_senders_own_mark() -> None:
    class Echoing(FakeServer):
        def on_turn_start(self, peer: Peer, request: JsonObject) -> None:
            thread_id, text = request["params"]["threadId"], request["params"]["input"][0]["text"]
            peer.reply(request, {"turn": {"id": "turn-1"}})
            for delta in ("nothing", text):
                self.publish(
                    thread_id, "item/agentMessage/delta", {"turnId": "turn-1", "itemId": "i", "delta": delta}
                )
            self.complete(thread_id, "turn-1")

    text = (
        'latency_from = "mark"\n'
        + ROOM
        + group(
            do("initialize") + do("resume", 'threads = "room"') + do("begin") + do("stay"), "connections = 3"
        )
    )
    text += group(
        do("initialize") + do("resume", 'threads = "room"') + do("begin") + do("turn", 'text = "{mark}"')
    ).replace('"g"', '"driver"')

    result = run(Echoing(), text)

    assert result.passed
    assert result.measured.latencies["delivery"].total == 4
    assert result.measured.deliveries == 4 * 3


def test_steering_and_interrupting_name_the_turn_that_was_started() -> None:
    class Obedient(FakeServer):
        def on_turn_start(self, peer: Peer, request: JsonObject) -> None:
            peer.reply(request, {"turn": {"id": "turn-9"}})

        def on_turn_steer(self, peer: Peer, request: JsonObject) -> None:
            peer.reply(request, {"turnId": "turn-9"})

        def on_turn_interrupt(self, peer: Peer, request: JsonObject) -> None:
            peer.reply(request, {})

    fake = Obedient()
    steps = do("initialize") + do("start") + do("turn", 'text = "x", wait = "answer"')

    assert not run(fake, group(steps + do("steer", 'text = "left"') + do("interrupt"))).errors
    assert requests_of(fake, "turn/steer")[0]["expectedTurnId"] == "turn-9"
    assert requests_of(fake, "turn/interrupt") == [{"threadId": "thread-1", "turnId": "turn-9"}]


def test_a_request_without_which_the_rest_makes_no_sense_ends_the_connection() -> None:
    class Refusing(FakeServer):
        def on_thread_start(self, peer: Peer, request: JsonObject) -> None:
            peer.send({"id": request["id"], "error": {"code": -32600, "message": "no"}})

    fake = Refusing()

    result = run(fake, group(do("initialize") + do("start") + do("turn", 'text = "x"')))

    assert result.errors == {"thread/start: -32600 no": 1}
    assert requests_of(fake, "turn/start") == []


def test_a_server_that_is_overloaded_is_asked_again_later() -> None:
    class Overloaded(FakeServer):
        refusals = 3

        def on_request(self, peer: Peer, request: JsonObject) -> None:
            if request["method"] in ("thread/start", "thread/loaded/list") and self.refusals:
                self.refusals -= 1
                peer.send({"id": request["id"], "error": {"code": -32001, "message": "overloaded"}})
            else:
                super().on_request(peer, request)

    result = run(
        Overloaded(), group(do("initialize") + do("start") + do("turn", 'text = "x"')), duration="5s"
    )
    assert (result.errors, result.expected) == ({}, {"thread/start: -32001 overloaded": 3})
    assert result.measured.latencies["turn"].total == 1

    # A call is what is measured: it is not sent again.
    assert run(Overloaded(), group(do("initialize") + 4 * CALL)).errors.total() == 3


def test_a_server_that_stays_overloaded_is_an_error() -> None:
    class Overloaded(FakeServer):
        def on_thread_start(self, peer: Peer, request: JsonObject) -> None:
            peer.send({"id": request["id"], "error": {"code": -32001, "message": "overloaded"}})

    result = run(Overloaded(), group(do("initialize") + do("start")), timeout="1s")

    assert result.errors == {"thread/start: overloaded to the end": 1}


# Ways to fail to connect


def test_a_server_that_refuses_the_upgrade_is_an_error_with_its_status() -> None:
    class Picky(FakeServer):
        connections = 0

        def accept(self) -> bool:
            self.connections += 1
            return self.connections == 1  # the one that looks whether there is a server

    result = run(Picky(), group(do("connect")))

    assert result.errors == {"connection lost: handshake: HTTP/1.1 503 Service Unavailable": 1}


def test_a_connection_is_counted_once_however_it_ends() -> None:
    steps = do("initialize") + do("drop", "reset = true") + do("connect") + do("close")

    result = run(FakeServer(), group(steps))

    opened = sum(interval.opened for interval in result.phases.values())
    closed = sum(interval.closed for interval in result.phases.values())
    assert (opened, closed) == (2, 2)


class Remembering(FakeServer):
    """Keeps every event, and sends those after a number on a resume. Cuts a client off in mid-turn, once."""

    def __init__(self, skip: int = 0) -> None:
        super().__init__()
        self.events: list[JsonObject] = []
        self.skip = skip

    def publish(self, thread_id: str, method: str, params: JsonObject, *, prompt: int | None = None) -> None:
        event = {"method": method, "params": {"threadId": thread_id, **params}, "seq": len(self.events) + 1}
        self.events.append(event)
        self.seqs[thread_id] = len(self.events)
        for peer in list(self.subscribers[thread_id]):
            peer.send(event)

    def on_thread_resume(self, peer: Peer, request: JsonObject) -> None:
        thread_id, after = request["params"]["threadId"], request["params"].get("afterSeq")
        self.subscribers[thread_id].append(peer)
        if after is None:
            peer.reply(request, {**self.position(thread_id), "delivery": "snapshot"})
            return
        assert request["params"]["epoch"] == "e"
        peer.reply(request, {**self.position(thread_id), "delivery": "events"})
        for event in self.events[after + self.skip :]:
            peer.send(event)


RECONNECTING = (
    ROOM
    + group(
        do("initialize")
        + RESUME
        + do("begin")
        + do("wait", 'method = "item/agentMessage/delta", count = 5')
        + do("drop")
        + do("barrier", 'name = "gone"')
        + do("barrier", 'name = "done"')
        + do("initialize")
        + do("resume", 'threads = "room", after_last = true')
        + do("barrier", 'name = "back"')
        + do("stay")
    )
    + group(
        do("initialize")
        + RESUME
        + do("begin")
        + do("turn", 'text = "say 10"')
        + do("barrier", 'name = "gone"')
        + do("turn", 'text = "say 20"')
        + do("barrier", 'name = "done"')
        + do("barrier", 'name = "back"')
        + do("turn", 'text = "say 5"')
    ).replace('"g"', '"driver"')
)


def test_a_client_that_comes_back_for_what_it_missed_has_it_all_and_nothing_twice() -> None:
    result = run(Remembering(), RECONNECTING)

    assert result.passed
    assert not result.errors
    assert not result.expected


@pytest.mark.parametrize(("skip", "what"), [(1, "gap"), (-1, "repeat")])
def test_what_is_lost_or_comes_twice_across_a_reconnect_is_caught(skip: int, what: str) -> None:
    result = run(Remembering(skip), RECONNECTING)

    assert f": {what}: expected event" in result.breaches["order"].example


def test_a_snapshot_in_place_of_the_events_is_told_apart() -> None:
    class Forgetful(Remembering):
        def on_thread_resume(self, peer: Peer, request: JsonObject) -> None:
            request["params"].pop("afterSeq", None)
            super().on_thread_resume(peer, request)

    result = run(Forgetful(), RECONNECTING)

    assert result.passed
    assert result.expected == {"thread/resume: a snapshot, as events were no longer kept": 1}
