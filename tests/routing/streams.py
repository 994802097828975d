"""What a subscriber must have seen of a thread: every event once, in order, and the whole of each text."""

from __future__ import annotations

from collections.abc import Iterable

from helpers import Client, Message, shorten, thread_of

__all__ = ["Copy", "check_unbroken", "counted"]

_DELTAS = ("item/agentMessage/delta", "item/commandExecution/outputDelta")


def counted(start: int, stop: int) -> list[str]:
    """Return the texts of deltas that can be told apart."""
    return [f"{index:08}" for index in range(start, stop)]


def check_unbroken(events: Iterable[Message], after: int) -> int:
    """Check that numbered events follow on `after` without gap or repeat; return the last number."""
    last = after
    for event in events:
        assert event["seq"] == last + 1, f"after event {last} came {shorten(event)}"
        last = event["seq"]
    return last


class Copy:
    """A client's copy of a thread's items: begun with a snapshot, kept up with events."""

    def __init__(self, answer: Message) -> None:
        self.seq: int = answer["seq"]
        """The last event that is in it."""
        self.thread_id: str = answer["thread"]["id"]
        self.texts: dict[str, str] = {}
        """The text of each item."""
        self.completed: set[str] = set()
        self.ended_turns: set[str] = set()
        for turn in answer["thread"]["turns"]:
            if turn["status"] != "inProgress":
                self.ended_turns.add(turn["id"])
            for item in turn["items"]:
                self._take_item(item, is_complete=item["completedAtMs"] is not None)

    def take(self, events: Iterable[Message]) -> None:
        """Take in what came behind the snapshot; only its own events, each the next."""
        for event in events:
            assert thread_of(event) == self.thread_id
            self.seq = check_unbroken([event], self.seq)
            self._take_one(event["method"], event["params"])

    def take_all(self, client: Client, answer_id: int) -> None:
        """Take in all that came to `client` behind the answer that this copy began with."""
        start = next(
            index
            for index, message in enumerate(client.arrived)
            if message.get("id") == answer_id and "method" not in message
        )
        self.take(
            message
            for message in client.arrived[start:]
            # A prompt that was sent again has its old number.
            if message.get("seq", 0) > self.seq and thread_of(message) == self.thread_id
        )

    def _take_one(self, method: str, params: Message) -> None:
        if method == "item/started":
            assert params["item"]["id"] not in self.texts, "an item that was in the snapshot starts again"
            self._take_item(params["item"], is_complete=False)
        elif method in _DELTAS:
            assert params["itemId"] not in self.completed, "a delta of an item that is complete"
            self.texts[params["itemId"]] += params["delta"]
        elif method == "item/completed":
            item = params["item"]
            assert self.texts[item["id"]] == _text(item), "the completed item is not what was streamed"
            self._take_item(item, is_complete=True)
        elif method == "turn/completed":
            self.ended_turns.add(params["turn"]["id"])

    def _take_item(self, item: Message, *, is_complete: bool) -> None:
        self.texts[item["id"]] = _text(item)
        if is_complete:
            self.completed.add(item["id"])


def _text(item: Message) -> str:
    return item.get("text") or item.get("aggregatedOutput") or ""
