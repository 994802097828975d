"""Random interleavings of turns, clients that come and go, reverts and restarts, against a plain model.

The model is a list of texts per turn. After every step, what each client has of a thread (its snapshot,
or what it had before it went away, and all events since) must be the model, and every client must have
seen the same events under the same numbers.
"""

from __future__ import annotations

import tempfile
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from helpers import Client, Message
from houses import LocalHouse, Play, Puppets, running_server
from routing.streams import check_unbroken

CLIENTS = 3
MOST_FORGOTTEN = 30
THREADS = 2


class Conversation:
    """What the model knows of a thread."""

    def __init__(self, thread_id: str, epoch: str, turns: list[tuple[str, str]]) -> None:
        self.thread_id = thread_id
        self.epoch = epoch
        self.turns = turns
        """Turn id and what the agent said in it, so far."""
        self.play: Play | None = None
        """The agent of the running turn."""
        self.events: dict[int, Message] = {}
        """Every event that any client was sent, by number."""


class View:
    """What a client has of a thread.

    Args:
        seq: the last event that is in it.
        texts: what the agent said, by turn.

    """

    def __init__(self, seq: int, texts: dict[str, str]) -> None:
        self.seq = seq
        self.texts = texts
        self._earlier = deque([(seq, dict(texts))], maxlen=MOST_FORGOTTEN)
        """What it was after each of the last events."""

    def take(self, message: Message) -> None:
        """Take in the next event."""
        self.seq = check_unbroken([message], self.seq)
        if message["method"] == "item/agentMessage/delta":
            turn_id = message["params"]["turnId"]
            self.texts[turn_id] = self.texts.get(turn_id, "") + message["params"]["delta"]
        self._earlier.append((self.seq, dict(self.texts)))

    def keep_turns(self, turn_ids: set[str]) -> None:
        """Drop all other turns; from now on this is the earliest that it was."""
        self.texts = {turn_id: text for turn_id, text in self.texts.items() if turn_id in turn_ids}
        self._earlier.clear()
        self._earlier.append((self.seq, dict(self.texts)))

    def forget(self, count: int) -> None:
        """Be what it was some events ago: a client may lose what it had not written down."""
        for _ in range(count % len(self._earlier)):
            self._earlier.pop()
        self.seq, texts = self._earlier[-1]
        self.texts = dict(texts)


class Lives(RuleBasedStateMachine):
    """Clients and threads that live at random."""

    store: str

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.puppets = Puppets()
        self.path = Path(folder, "threads.sqlite") if self.store == "sqlite" else "memory"
        self.house = self._start_server()
        self.clients = [self.house.connect(f"client {number}") for number in range(CLIENTS)]
        self.is_away = [False] * CLIENTS
        self.threads: list[Conversation] = []
        # What each client has of each thread it is subscribed to, or was when it went away.
        self.views: list[dict[str, View]] = [{} for _ in range(CLIENTS)]
        # How many of the messages that arrived at a client have been taken in.
        self.taken = [0] * CLIENTS

    def teardown(self) -> None:
        for thread in self.threads:
            if thread.play is not None:
                thread.play.end()
        for number, client in enumerate(self.clients):
            if not self.is_away[number]:
                self.house.lose(client)
        self.stack.close()

    # What clients do.

    numbers = st.integers(0, CLIENTS - 1)
    places = st.integers(0, 5)

    @precondition(lambda self: len(self.threads) < THREADS)
    @rule(number=numbers)
    def start_thread(self, number: int) -> None:
        client = self._present(number)
        answer = client.request("thread/start")
        thread = Conversation(answer["thread"]["id"], answer["epoch"], [])
        self.threads.append(thread)
        self._begin_view(number, thread, answer)

    @precondition(lambda self: self.threads)
    @rule(number=numbers, place=places)
    def subscribe(self, number: int, place: int) -> None:
        thread = self._thread(place)
        self._settle()
        answer = self._present(number).request("thread/resume", threadId=thread.thread_id)
        assert answer["delivery"] == "snapshot"
        self._begin_view(number, thread, answer)

    @precondition(lambda self: self.threads)
    @rule(number=numbers, place=places)
    def unsubscribe(self, number: int, place: int) -> None:
        thread = self._thread(place)
        client = self._present(number)
        client.fence(thread.thread_id)
        self._take_in(number)
        status = client.request("thread/unsubscribe", threadId=thread.thread_id)["status"]
        was_subscribed = self.views[number].pop(thread.thread_id, None) is not None
        assert status == ("unsubscribed" if was_subscribed else "notSubscribed")

    @rule(number=numbers, forgotten=st.integers(0, MOST_FORGOTTEN))
    def go_away(self, number: int, forgotten: int) -> None:
        """Be cut off, and forget some of what came last."""
        client = self._present(number)
        self._take_in(number)
        for view in self.views[number].values():
            view.forget(forgotten)
        self.house.lose(client)
        self.is_away[number] = True

    @rule(number=numbers)
    def come_back(self, number: int) -> None:
        self._present(number)

    @precondition(lambda self: self.threads)
    @rule(number=numbers, place=places)
    def start_turn(self, number: int, place: int) -> None:
        thread = self._thread(place)
        if thread.play is None:
            turn_id = self._present(number).start_turn(thread.thread_id, "x")
            thread.play = self.puppets.next()
            thread.turns.append((turn_id, ""))

    @precondition(lambda self: self.threads)
    @rule(place=places, texts=st.lists(st.sampled_from(["a", "bc", "def"]), min_size=1, max_size=20))
    def speak(self, place: int, texts: list[str]) -> None:
        thread = self._thread(place)
        if thread.play is not None:
            thread.play.speak(*texts)
            turn_id, said = thread.turns[-1]
            thread.turns[-1] = (turn_id, said + "".join(texts))

    @precondition(lambda self: self.threads)
    @rule(place=places)
    def end_turn(self, place: int) -> None:
        thread = self._thread(place)
        if thread.play is not None:
            thread.play.end()
            thread.play = None
            # The turn has ended when another one could begin; a rule may depend on that.
            self._wait_idle(thread)

    @precondition(lambda self: self.threads)
    @rule(number=numbers, place=places, turn=places)
    def revert(self, number: int, place: int, turn: int) -> None:
        thread = self._thread(place)
        if thread.play is None and thread.turns:
            self._settle()
            index = turn % len(thread.turns)
            client = self._present(number)
            answer = client.request(
                "thread/revert", threadId=thread.thread_id, beforeTurnId=thread.turns[index][0]
            )
            del thread.turns[index:]
            left = {turn_id for turn_id, _ in thread.turns}
            for views in self.views:
                view = views.get(thread.thread_id)
                if view is not None:
                    view.keep_turns(left)
            if thread.thread_id not in self.views[number]:
                self._take_in(number, until=answer)
                self.views[number][thread.thread_id] = View(answer["seq"], dict(thread.turns))

    @precondition(lambda self: self.threads)
    @rule(number=numbers, place=places)
    def fork(self, number: int, place: int) -> None:
        thread = self._thread(place)
        if thread.play is None:
            client = self._present(number)
            answer = client.request("thread/fork", threadId=thread.thread_id)
            copied = {turn["id"]: _said(turn) for turn in answer["thread"]["turns"]}
            assert copied == dict(thread.turns)
            client.request("thread/delete", threadId=answer["thread"]["id"])

    @precondition(lambda self: self.store == "sqlite")
    @rule()
    def restart(self) -> None:
        """Stop the server and start another: turns that run are interrupted, and all clients are away."""
        self._settle()
        for number, client in enumerate(self.clients):
            if not self.is_away[number]:
                self.house.lose(client)
                self.is_away[number] = True
        self.server.close()
        self.house = self._start_server()
        self.threads = [thread for thread in self.threads if thread.turns]  # others were never kept
        loader = self.house.connect("loader")  # the rules want threads that are loaded
        for thread in self.threads:
            thread.play = None
            loader.resume(thread.thread_id)
        loader.fence()
        self.house.lose(loader)
        left = {thread.thread_id for thread in self.threads}
        self.views = [{key: view for key, view in each.items() if key in left} for each in self.views]

    # What must hold.

    @invariant()
    def every_client_has_what_the_model_has(self) -> None:
        self._settle()
        for number in range(CLIENTS):
            if self.is_away[number]:
                continue
            for thread in self.threads:
                view = self.views[number].get(thread.thread_id)
                if view is not None:
                    said = {key: text for key, text in view.texts.items() if text}
                    assert said == {key: text for key, text in thread.turns if text}

    # How it is done.

    def _start_server(self) -> LocalHouse:
        self.server = self.stack.enter_context(ExitStack())
        return self.server.enter_context(
            running_server(agent=self.puppets, store=self.path, unload_after_s=None)
        )

    def _present(self, number: int) -> Client:
        """Return a client, which comes back first if it is away, and resumes where it was."""
        if not self.is_away[number]:
            return self.clients[number]
        self.is_away[number] = False
        client = self.clients[number] = self.house.connect(f"client {number}")
        self.taken[number] = 0
        epochs = {thread.thread_id: thread.epoch for thread in self.threads}
        for thread_id, view in self.views[number].items():
            answer = client.request(
                "thread/resume", threadId=thread_id, afterSeq=view.seq, epoch=epochs[thread_id]
            )
            assert answer["delivery"] == "events"
        return client

    def _thread(self, place: int) -> Conversation:
        return self.threads[place % len(self.threads)]

    def _wait_idle(self, thread: Conversation) -> None:
        client = next(
            (self.clients[n] for n in range(CLIENTS) if not self.is_away[n]), None
        ) or self._present(0)
        while client.request("thread/read", threadId=thread.thread_id)["thread"]["status"]["type"] != "idle":
            pass

    def _settle(self) -> None:
        """Have every client take in everything that there is for it."""
        for number, client in enumerate(self.clients):
            if not self.is_away[number]:
                client.fence(*(thread.thread_id for thread in self.threads))
                self._take_in(number)

    def _begin_view(self, number: int, thread: Conversation, answer: Message) -> None:
        self._take_in(number, until=answer)
        texts = {turn["id"]: _said(turn) for turn in answer["thread"]["turns"]}
        self.views[number][thread.thread_id] = View(answer["seq"], texts)

    def _take_in(self, number: int, until: Message | None = None) -> None:
        client = self.clients[number]
        end = len(client.arrived) if until is None else _place_of(client, until)
        for message in client.arrived[self.taken[number] : end]:
            self._take_one(number, message)
        self.taken[number] = max(end, self.taken[number])

    def _take_one(self, number: int, message: Message) -> None:
        if "seq" not in message:
            return
        params = message["params"]
        thread_id = params.get("threadId") or params["thread"]["id"]
        thread = next((each for each in self.threads if each.thread_id == thread_id), None)
        if thread is None:
            return  # a fork, which is gone
        assert thread.events.setdefault(message["seq"], message) == message, "two events of one number"
        view = self.views[number].get(thread_id)
        if view is None:
            assert not message["method"].startswith(("turn/", "item/")), "an event of a thread it left"
            return
        view.take(message)
        if message["method"] == "thread/reverted":  # the event does not say what is left: look
            view.keep_turns({turn_id for turn_id, _ in thread.turns})


def _said(turn: Message) -> str:
    return "".join(item["text"] for item in turn["items"] if item["type"] == "agentMessage")


def _place_of(client: Client, answer: Message) -> int:
    return next(index for index, message in enumerate(client.arrived) if message.get("result") is answer)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_whatever_happens_every_client_has_what_the_model_has(store: str) -> None:
    machine = type("LivesOver" + store, (Lives,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
