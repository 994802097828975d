"""What a connection knows of one thread it is, or was, subscribed to, and what must hold for it."""

from __future__ import annotations

import zlib
from collections import deque
from typing import Any

from trunkline_cli.load.threadlog import ThreadLog

__all__ = ["DELTA", "Subscription", "is_for_subscribers"]

DELTA = "item/agentMessage/delta"

_FOR_SUBSCRIBERS = ("item/", "turn/", "serverRequest/", "error", "thread/tokenUsage/", "thread/compacted")


def is_for_subscribers(method: str) -> bool:
    """Whether this notification goes to a thread's subscribers only. Those to everybody may come any time."""
    return method.startswith(_FOR_SUBSCRIBERS)


class Subscription:
    """One thread, seen from one connection."""

    __slots__ = (
        "_due_prompts",
        "_prompts",
        "_resolved",
        "active",
        "checksums",
        "epoch",
        "last_turn_completed",
        "log",
        "seq",
        "strict",
        "thread_id",
    )

    def __init__(self, thread_id: str, log: ThreadLog, *, strict: bool) -> None:
        self.thread_id = thread_id
        self.log = log
        self.active = True
        """False once the answer to `thread/unsubscribe` was read."""
        self.seq: int | None = None
        """Number of the last event; None if it is not known, or if the server does not number them."""
        self.epoch: str | None = None
        """What the numbers belong to; None if the server does not say."""
        self.strict = strict
        """False if the connection opted out of notifications: then numbers may be missing."""
        self.last_turn_completed: str | None = None
        # Open prompts: id to turn id, and to the time at which it was received.
        self._prompts: dict[int | str, tuple[str, float]] = {}
        # Prompts that are still open though their turn has ended: `resolved` has to come.
        self._due_prompts: set[int | str] = set()
        self._resolved: deque[int | str] = deque(maxlen=64)
        self.checksums: dict[str, int] = {}
        """Without numbers the order is checked by content: item id to the CRC-32 of its text so far."""

    def take_number(self, seq: int) -> str | None:
        """Take note of an event's number. Returns what is wrong with it, if something is."""
        if self.seq is None:  # the answer to `thread/resume` did not say where the thread stands
            self.seq = seq
            return None
        expected = self.seq + 1
        if seq == expected or (seq > expected and not self.strict):
            self.seq = seq
            return None
        what = "gap" if seq > expected else "repeat"
        self.seq = max(seq, self.seq)
        return f"{what}: expected event {expected}, got {seq}"

    def take_text(self, method: str, params: dict[str, Any]) -> str | None:
        """Check the order of a message's deltas by its completed text, where events have no numbers.

        Returns:
            What is wrong, if something is.

        """
        if method == DELTA:
            item = params["itemId"]
            if item in self.checksums:
                self.checksums[item] = zlib.crc32(params["delta"].encode(), self.checksums[item])
        elif method == "item/started":
            if params["item"]["type"] == "agentMessage":
                self.checksums[params["item"]["id"]] = zlib.crc32(params["item"].get("text", "").encode())
        elif method == "item/completed":
            known = self.checksums.pop(params["item"]["id"], None)
            if known is not None and known != zlib.crc32(params["item"].get("text", "").encode()):
                return "gap: the deltas of an item do not make up its completed text"
        return None

    def raise_prompt(self, prompt: int | str, turn_id: str, now_ms: float) -> bool:
        """Take note of a prompt. Returns False if it is known already, as after a second resume."""
        if prompt in self._prompts:
            return False
        self._prompts[prompt] = turn_id, now_ms
        return True

    def raised_ms(self, prompt: int | str) -> float | None:
        """Return when an open prompt was received, in Unix milliseconds; None if it is not open."""
        known = self._prompts.get(prompt)
        return None if known is None else known[1]

    def end(self) -> None:
        """Take note that the subscription has ended."""
        self.active = False
        self._prompts.clear()

    def resolve_prompt(self, prompt: int | str) -> str | None:
        """Take note of `serverRequest/resolved`. Returns what is wrong, if something is."""
        self._due_prompts.discard(prompt)
        if self._prompts.pop(prompt, None) is None and prompt in self._resolved:
            return f"prompt {prompt} was resolved twice"
        self._resolved.append(prompt)
        return None

    def complete_turn(self, turn_id: str) -> None:
        """Take note of `turn/completed`. Its prompts may be resolved just before or just after it."""
        self.last_turn_completed = turn_id
        self._due_prompts.update(prompt for prompt, (turn, _) in self._prompts.items() if turn == turn_id)

    def overdue_prompts(self) -> list[int | str]:
        """Return, once, prompts that can no longer be resolved in time. Ask at a turn's start, or at last."""
        overdue = [prompt for prompt in self._due_prompts if prompt in self._prompts]
        for prompt in overdue:
            del self._prompts[prompt]
        self._due_prompts.clear()
        return overdue
