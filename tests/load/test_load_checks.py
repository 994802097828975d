"""The checks: a server that keeps the rules passes, and one that breaks a rule is caught."""

from __future__ import annotations

import json

import pytest

from load.fakes import FakeServer, JsonObject, Peer, run

FANOUT = """
[[threads]]
name = "room"
[[groups]]
name = "subscribers"
connections = 3
steps = [{ do = "initialize" }, { do = "resume", threads = "room" }, { do = "begin" }, { do = "stay" }]
[[groups]]
name = "driver"
steps = [
  { do = "initialize" }, { do = "resume", threads = "room" }, { do = "begin" },
  { do = "repeat", times = 3, steps = [{ do = "turn", text = "say 20" }] },
]
"""
EVENTS_OF_A_TURN = 24

CALLS = """
[[groups]]
name = "callers"
connections = 2
steps = [
  { do = "initialize" },
  { do = "begin" },
  { do = "repeat", times = 5, steps = [{ do = "call", method = "thread/loaded/list" }] },
]
"""

LEAVING = """
[[threads]]
name = "room"
[[groups]]
name = "leaver"
steps = [
  { do = "initialize" }, { do = "resume", threads = "room" }, { do = "unsubscribe" }, { do = "begin" },
  { do = "stay" },
]
[[groups]]
name = "driver"
steps = [
  { do = "initialize" }, { do = "resume", threads = "room" }, { do = "begin" },
  { do = "turn", text = "say 3" },
]
"""

ASKING = """
[[threads]]
name = "room"
[[groups]]
name = "approvers"
connections = 2
steps = [
  { do = "initialize" }, { do = "answer" }, { do = "resume", threads = "room" }, { do = "begin" },
  { do = "stay" },
]
[[groups]]
name = "asker"
steps = [
  { do = "initialize" }, { do = "resume", threads = "room" }, { do = "begin" },
  { do = "repeat", times = 3, steps = [{ do = "turn", text = "ask" }] },
  { do = "stay" },
]
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("numbered", [True, False])
def test_a_server_that_keeps_the_rules_passes(numbered: bool, workers: int) -> None:
    fake = FakeServer()
    fake.numbered = numbered

    result = run(fake, FANOUT, workers)

    assert result.passed
    assert not result.errors
    # A worker may hear of the beginning later than the other, and have received something by then.
    deliveries = sum(interval.deliveries for interval in result.phases.values())
    assert deliveries == 4 * 3 * EVENTS_OF_A_TURN


def test_every_delivery_has_a_latency() -> None:
    result = run(FakeServer(), FANOUT)

    assert result.measured.latencies["delivery"].total == result.measured.deliveries


class Selective(FakeServer):
    """Does something else with one event, for one client that did not start the turn."""

    nth = 10

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def on_turn_start(self, peer: Peer, request: JsonObject) -> None:
        # Who came first is chance: the first is to be one that starts no turns.
        self.subscribers[request["params"]["threadId"]].sort(key=lambda each: each is peer)
        super().on_turn_start(peer, request)

    def deliver(self, peer: Peer, message: JsonObject) -> None:
        if peer is self.subscribers[message["params"]["threadId"]][0] and self.is_meant(message):
            self.seen += 1
            if self.seen == self.nth:
                self.misdeliver(peer, message)
                return
        peer.send(message)

    def is_meant(self, message: JsonObject) -> bool:
        return bool(message["method"] == "item/agentMessage/delta")

    def misdeliver(self, peer: Peer, message: JsonObject) -> None:
        """Leave it out."""


class Repeating(Selective):
    def misdeliver(self, peer: Peer, message: JsonObject) -> None:
        peer.send(message)
        peer.send(message)


class Swapping(Selective):
    """Sends an event after the one that follows it."""

    kept: JsonObject | None = None

    def deliver(self, peer: Peer, message: JsonObject) -> None:
        super().deliver(peer, message)
        if self.kept not in (None, message) and peer is self.subscribers["thread-1"][0]:
            assert self.kept is not None
            peer.send(self.kept)
            self.kept = None

    def misdeliver(self, peer: Peer, message: JsonObject) -> None:
        self.kept = message


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("breaking", [Selective, Repeating, Swapping])
def test_a_gap_a_repeat_or_a_wrong_order_is_caught(breaking: type[FakeServer], numbered: bool) -> None:
    fake = breaking()
    fake.numbered = numbered

    result = run(fake, FANOUT)

    assert not result.passed
    assert "order" in result.breaches
    assert "thread-1" in result.breaches["order"].example


def test_an_event_that_another_subscriber_got_as_the_last_one_is_missed() -> None:
    class Forgetful(Selective):
        nth = 3

        def is_meant(self, message: JsonObject) -> bool:
            return bool(message["method"] == "turn/completed")

    result = run(Forgetful(), FANOUT)

    assert result.breaches["missing"].count == 1
    assert "received up to event 71, others up to 72" in result.breaches["missing"].example


def test_an_event_of_a_thread_that_was_never_subscribed_to_is_caught() -> None:
    class Leaky(FakeServer):
        def publish(
            self, thread_id: str, method: str, params: JsonObject, *, prompt: int | None = None
        ) -> None:
            super().publish(thread_id, method, params, prompt=prompt)
            for peer in self.everybody:
                if peer not in self.subscribers[thread_id]:
                    peer.send({"method": method, "params": {"threadId": thread_id, **params}})

    stranger = (
        '[[groups]]\nname = "stranger"\nsteps = [{ do = "initialize" }, { do = "begin" }, { do = "stay" }]\n'
    )
    result = run(Leaky(), FANOUT + stranger)

    assert not result.passed
    assert set(result.breaches) == {"foreign"}
    assert "never subscribed to" in result.breaches["foreign"].example


def test_what_is_for_everybody_may_reach_everybody() -> None:
    class Open(FakeServer):
        def complete(self, thread_id: str, turn_id: str) -> None:
            super().complete(thread_id, turn_id)
            for peer in self.everybody:
                peer.send({"method": "thread/status/changed", "params": {"threadId": thread_id}})

    stranger = (
        '[[groups]]\nname = "stranger"\nsteps = [{ do = "initialize" }, { do = "begin" }, { do = "stay" }]\n'
    )

    assert run(Open(), FANOUT + stranger).passed


def test_an_event_after_unsubscribing_is_caught() -> None:
    class Clinging(FakeServer):
        def on_thread_unsubscribe(self, peer: Peer, request: JsonObject) -> None:
            peer.reply(request, {"status": "unsubscribed"})

    result = run(Clinging(), LEAVING)

    assert not result.passed
    assert set(result.breaches) == {"unsubscribed"}
    assert "turn/started of thread thread-1" in result.breaches["unsubscribed"].example


def test_leaving_a_thread_that_goes_on_is_no_breach() -> None:
    assert run(FakeServer(), LEAVING).passed


def test_a_response_that_went_to_another_connection_is_caught() -> None:
    class Confused(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            for each in self.everybody:  # also to the one that asked, so that nobody waits
                super().on_thread_loaded_list(each, request)

    result = run(Confused(), CALLS)

    assert not result.passed
    assert "did not ask" in result.breaches["response"].example


def test_a_second_response_to_one_request_is_caught() -> None:
    class Eager(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            super().on_thread_loaded_list(peer, request)
            super().on_thread_loaded_list(peer, request)

    result = run(Eager(), CALLS)

    # The last one of each client may come when it has what it asked for and has left.
    assert 8 <= result.breaches["response"].count <= 10


def test_prompts_that_are_answered_and_resolved_pass() -> None:
    result = run(FakeServer(), ASKING)

    assert result.passed
    assert result.measured.latencies["prompt"].total == 3 * 3


def test_a_prompt_that_is_never_resolved_is_caught() -> None:
    class Silent(FakeServer):
        def publish(
            self, thread_id: str, method: str, params: JsonObject, *, prompt: int | None = None
        ) -> None:
            if method != "serverRequest/resolved":
                super().publish(thread_id, method, params, prompt=prompt)

    result = run(Silent(), ASKING)

    assert not result.passed
    assert set(result.breaches) == {"prompt"}
    assert result.breaches["prompt"].count == 3 * 3
    assert "never resolved" in result.breaches["prompt"].example


def test_a_prompt_that_is_resolved_twice_is_caught() -> None:
    class Stammering(FakeServer):
        def publish(
            self, thread_id: str, method: str, params: JsonObject, *, prompt: int | None = None
        ) -> None:
            super().publish(thread_id, method, params, prompt=prompt)
            if method == "serverRequest/resolved":
                super().publish(thread_id, method, params)

    result = run(Stammering(), ASKING)

    assert "resolved twice" in result.breaches["prompt"].example


def test_a_text_that_is_not_json_is_caught() -> None:
    class Babbling(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            peer.ws.send('{"method": ')
            super().on_thread_loaded_list(peer, request)

    assert "not JSON" in run(Babbling(), CALLS).breaches["framing"].example


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("[]", "no message"),
        ('{"method":"item/agentMessage/delta","params":{"delta":"x"}}', "threadId"),
        ('{"method":"thread/started","params":{"thread":null}}', "a thread/started that lacks"),
        ('{"method":"turn/completed","params":{}}', "threadId"),
        ('{"method":"item/started","params":[]}', "a item/started that lacks"),
    ],
)
def test_a_message_without_what_it_must_have_is_a_breach_and_the_run_goes_on(text: str, example: str) -> None:
    class Forgetful(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            peer.ws.send(text)
            super().on_thread_loaded_list(peer, request)

    result = run(Forgetful(), CALLS)

    assert example in result.breaches["framing"].example
    assert result.measured.requests == 2 * 5


def test_a_delta_that_names_no_item_is_a_breach_and_the_run_goes_on() -> None:
    class Forgetful(FakeServer):
        def deliver(self, peer: Peer, message: JsonObject) -> None:
            params = {key: value for key, value in message["params"].items() if key != "itemId"}
            # Without numbers too: it is then that an item's deltas are compared with its text.
            super().deliver(peer, {"method": message["method"], "params": params})

    assert "itemId" in run(Forgetful(), FANOUT).breaches["framing"].example


def test_an_event_in_two_frames_is_an_event() -> None:
    class Fragmenting(FakeServer):
        def deliver(self, peer: Peer, message: JsonObject) -> None:
            text = json.dumps(message, separators=(",", ":"))
            peer.ws.send([text[:50], text[50:]])

    result = run(Fragmenting(), FANOUT)

    assert result.passed
    assert result.measured.deliveries == 4 * 3 * EVENTS_OF_A_TURN


def test_an_error_is_counted_by_its_kind_without_its_particulars() -> None:
    class Refusing(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            message = f"no thread {request['id']} 0190aaaa-1111-7222-8333-444444444444"
            peer.send({"id": request["id"], "error": {"code": -32600, "message": message}})

    result = run(Refusing(), CALLS)

    assert result.errors == {"thread/loaded/list: -32600 no thread … …": 10}


def test_an_answer_that_does_not_come_is_an_error() -> None:
    class Mute(FakeServer):
        def on_thread_loaded_list(self, peer: Peer, request: JsonObject) -> None:
            pass

    result = run(Mute(), CALLS, timeout="1s")

    assert result.errors == {"no answer in time: thread/loaded/list": 2}
