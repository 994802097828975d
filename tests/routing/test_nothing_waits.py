"""The one rule: actors never wait.

A watchdog stands beside the running actors while a mixed load is on them. It notes every call of a
primitive that waits, made on a thread that is in a handler; and every handler that does not come back.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time

import pykka
import pytest

from helpers import Client
from houses import LocalHouse, in_parallel
from trunkline.actor import Dispatcher, PooledActor, handles
from watchdog import Watchdog


def live(house: LocalHouse, name: str, seed: int) -> None:
    """Be a client that does a bit of everything, among others who do, and leaves at any moment."""
    dice = random.Random(seed)
    for life in range(4):
        client = house.connect(f"{name} {life}")
        own = client.start_thread()
        threads = [own, *client.request("thread/loaded/list")["data"]]
        for _ in range(12):
            act(client, dice, dice.choice(threads))
        client.wire.cut()


def act(client: Client, dice: random.Random, thread_id: str) -> None:
    """Do something to a thread; that it is refused is as good."""
    done = dice.randrange(8)
    if done < 3:
        text = dice.choice(["say 200 20", "ask something", "question why", "text hello", "fail now"])
        turn = [{"type": "text", "text": text}]
        client.begin("turn/start", threadId=thread_id, input=turn)
    elif done == 3:
        client.response(client.begin("thread/resume", threadId=thread_id))
    elif done == 4:
        client.response(client.begin("thread/unsubscribe", threadId=thread_id))
    elif done == 5:
        for message in client.unread:
            if "id" in message and "method" in message:
                client.decide(message)
    elif done == 6:
        for _ in range(150):  # more than may be in flight
            client.begin("thread/loaded/list")
    else:
        client.response(client.begin("thread/fork", threadId=thread_id))


def test_no_handler_waits_under_a_mixed_load(watchdog: Watchdog, house: LocalHouse) -> None:
    in_parallel(*(lambda number=number: live(house, f"client {number}", number) for number in range(6)))
    house.wait_gone()
    assert watchdog.handled > 1000
    assert not watchdog.seen, "\n".join(watchdog.seen[:3])


class _Waiter(PooledActor):
    """What must not be."""

    @handles(str)
    def _on_wait(self, how: str) -> None:
        if how == "sleep":
            time.sleep(0)
        elif how == "event":
            threading.Event().wait(0)
        elif how == "ask":
            with contextlib.suppress(pykka.Timeout):
                self.actor_ref.ask("nothing", timeout=0)


@pytest.mark.parametrize(
    ("how", "what"), [("sleep", "time.sleep"), ("event", "Event.wait"), ("ask", "ThreadingFuture.get")]
)
def test_the_watchdog_sees_a_handler_that_waits(watchdog: Watchdog, how: str, what: str) -> None:
    dispatcher = Dispatcher()
    dispatcher.start()
    actor = _Waiter.start(dispatcher=dispatcher)
    actor.ask(how, timeout=10)
    actor.stop(timeout=10)
    dispatcher.stop()
    assert any(f"_Waiter called {what}" in seen for seen in watchdog.seen)


def test_fifty_clients_with_ten_requests_in_flight_each_get_every_answer(house: LocalHouse) -> None:
    clients = [house.connect(f"client {number}") for number in range(50)]
    thread_id = clients[0].start_thread()

    def ask(client: Client) -> None:
        for _ in range(10):
            ids = [client.begin("thread/loaded/list") for _ in range(5)]
            ids += [client.begin("thread/read", threadId=thread_id) for _ in range(5)]
            for request_id in ids:
                assert "result" in client.response(request_id)

    in_parallel(*(lambda client=client: ask(client) for client in clients))
