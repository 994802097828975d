"""One connection's side of the protocol: requests and their answers, subscriptions, and the checks.

Takes frames apart, knows which answers are outstanding and which threads are subscribed to, and
counts a breach for everything that must not happen. What the connection is there for, the script
decides (`client`, `script`).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from trunkline_cli.load import wire
from trunkline_cli.load.deltas import Deltas
from trunkline_cli.load.peer import Peer, Surroundings
from trunkline_cli.load.pending import OVERLOADED, Pending, error_kind
from trunkline_cli.load.read import Buffer, Read
from trunkline_cli.load.stats import SLOW_DELIVERY
from trunkline_cli.load.subscription import DELTA, Subscription, is_for_subscribers
from trunkline_cli.load.threadlog import ThreadLog

__all__ = ["Driver", "Session", "Shared"]

# An answer that succeeded, told by its first bytes: its result is only parsed if somebody wants it.
_RESULT = re.compile(rb'\{"id":(\d+),"result":')
_MARK = re.compile(rb"@(\d{19})@")
_IDS_PER_CONNECTION = 1 << 24


class Shared(Surroundings, Protocol):
    """What a session uses of its worker."""

    logs: dict[str, ThreadLog]
    """By thread id."""
    latency_from_mark: bool


class Driver(Protocol):
    """Whoever uses a session."""

    number: int
    """Number of the connection in the whole run."""

    def on_open(self) -> None:
        """The connection is open."""

    def on_reply(self, reply: dict[str, Any]) -> None:
        """An answer that was waited for has come: `{"result": …}` or `{"error": …}`."""

    def on_event(self, method: str, message: dict[str, Any]) -> None:
        """A notification or a prompt has come; not called for deltas."""

    def on_lost(self, why: str) -> None:
        """The connection is gone."""


class Session:
    """From one connect to the end of that connection."""

    __slots__ = (
        "_close_frame",
        "_deltas",
        "_driver",
        "_every_delta",
        "_following",
        "_fragments",
        "_latency_name",
        "_now_ms",
        "_number_requests",
        "_pending",
        "_reads_slowly",
        "_where",
        "answers_pings",
        "peer",
        "provoked",
        "strict",
        "subscriptions",
        "was_open",
    )

    def __init__(self, where: Shared, driver: Driver, rng: random.Random, first_request: int) -> None:
        self._where = where
        self._driver = driver
        self.peer = Peer(where, self, rng)
        self.subscriptions: dict[str, Subscription] = {}
        self.strict = True
        """False once notifications were opted out of."""
        self.answers_pings = True
        self._reads_slowly = False
        self._latency_name = "delivery"
        self.provoked: set[str] = set()
        """Ids of texts that were wrong on purpose: errors with these, or without an id, are in order."""
        self.was_open = False
        """The connection was open, whether or not it still is."""
        self._pending: dict[int, Pending] = {}
        # Ids are unique in the whole run: an answer that went to the wrong connection has an id
        # that was never used there.
        self._number_requests = driver.number * _IDS_PER_CONNECTION + first_request
        self._fragments: bytearray | None = None
        self._close_frame: str | None = None
        # The thread whose log the next bytes are compared with.
        self._following: Subscription | None = None
        # The agent message whose deltas are taken in without a look at each: the last one seen.
        self._deltas: Deltas | None = None
        self._every_delta = False
        self._now_ms = 0.0

    @property
    def requests_sent(self) -> int:
        """Requests so far, those of earlier sessions of the connection included."""
        return self._number_requests % _IDS_PER_CONNECTION

    @property
    def outstanding(self) -> int:
        """Requests that are not answered."""
        return len(self._pending)

    def read_slowly(self, slowly: bool) -> None:
        """Take note that this client is slow on purpose, or no longer.

        What it has not received yet, and when it receives it, says nothing about the server then.
        """
        self._reads_slowly = slowly
        if slowly:
            self._latency_name = SLOW_DELIVERY  # to the end: what it reads later was sent long before

    @property
    def reads_slowly(self) -> bool:
        """Whether this client is slow on purpose."""
        return self._reads_slowly

    def tell_deltas(self, wanted: bool) -> None:
        """Tell the driver of deltas too, or no longer."""
        self._every_delta = wanted
        self._deltas = None

    # To the server

    def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        since: float | None = None,
        awaited: bool = True,
        expect_error: bool = False,
        insists: bool = False,
        effect: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Send a request.

        Args:
            method: its method.
            params: its params.
            since: the moment from which its latency counts; now, if not given.
            awaited: tell the driver of its answer.
            expect_error: an error is what is wanted.
            insists: the driver asks again if the server is overloaded.
            effect: called with the result before anything after it is read.

        """
        self._number_requests += 1
        self._pending[self._number_requests] = Pending(
            method, time.monotonic() if since is None else since, awaited, expect_error, insists, effect
        )
        self._send({"id": self._number_requests, "method": method, "params": params})

    def notify(self, method: str) -> None:
        """Send a notification without params."""
        self._send({"method": method})

    def answer(self, prompt: int | str, result: dict[str, Any] | None) -> None:
        """Answer a prompt; with an error if `result` is None."""
        if result is None:
            error = {"code": -32000, "message": "declined by the load test"}
            self._send({"id": prompt, "error": error})
        else:
            self._send({"id": prompt, "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        self.peer.send(wire.client_frame(wire.TEXT, orjson.dumps(message)))

    def subscribe(self, thread_id: str, seq: int | None, epoch: str | None = None) -> None:
        """Take note that this connection is subscribed to a thread, from event `seq` + 1 on."""
        known = self.subscriptions.get(thread_id)
        if known is not None and known.active:
            return
        log = self._where.logs.get(thread_id)
        if log is None:
            log = self._where.logs[thread_id] = ThreadLog()
        log.readers += 1
        subscription = Subscription(thread_id, log, strict=self.strict)
        subscription.seq, subscription.epoch = seq, epoch
        self.subscriptions[thread_id] = subscription

    def unsubscribe(self, thread_id: str) -> None:
        """Take note that no event of a thread may come any more."""
        subscription = self.subscriptions.get(thread_id)
        if subscription is not None and subscription.active:
            subscription.end()
            self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        if self._following is subscription:
            self._following = None
        subscription.log.readers -= 1
        if not subscription.log.readers:
            self._where.logs.pop(subscription.thread_id, None)

    # From the socket

    def on_open(self) -> None:
        """Part of `Owner`."""
        self.was_open = True
        self._driver.on_open()

    def on_lost(self, why: str) -> None:
        """Part of `Owner`."""
        self.end()
        self._driver.on_lost(self._close_frame or why)

    def end(self) -> None:
        """Forget the subscriptions: the connection is gone, or will be in a moment."""
        for subscription in self.subscriptions.values():
            if subscription.active:
                subscription.end()
                self._leave(subscription)

    def on_data(self, data: Buffer, begin: int, end: int) -> int:
        """Part of `Owner`: take the frames in `data` apart."""
        self._now_ms = time.time() * 1000
        read = Read(data, end, self._now_ms, self._where.interval, self._latency_name)
        position = begin
        while True:
            if self._following is not None:
                position = self._follow(self._following, read, position)
            if self._deltas is not None:
                position = self._deltas.take(read, position)
            if end - position < 2:
                break
            length = data[position + 1]
            start = position + 2
            if length > 125:
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[position + 2 : start])
            stop = start + length
            if stop > end:
                break
            first = data[position]
            if first == 0x81:
                self._on_text(data, position, start, stop)
            else:
                self._on_other_frame(first, bytes(data[start:stop]))
            position = stop
            if not self.peer.is_open:
                break
        return position

    def _follow(self, subscription: Subscription, read: Read, position: int) -> int:
        """Take the frames from `position` on that are in the thread's log. Returns where they end."""
        log = subscription.log
        number = subscription.seq
        if number is None or number + 1 >= log.next or self._every_delta:
            return position
        after, size = log.match(number + 1, memoryview(read.data)[position : read.end])
        if size:
            subscription.seq = after - 1
            read.interval.deliveries += after - number - 1
            if not self._where.latency_from_mark:
                log.record(read, number + 1, after)
        return position + size

    def _on_other_frame(self, first: int, payload: bytes) -> None:
        """Deal with anything but a text in one frame."""
        opcode = first & 0x0F
        if opcode == wire.PING:
            if self.answers_pings:
                self.peer.send(wire.client_frame(wire.PONG, payload))
        elif opcode == wire.CLOSE:
            code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
            reason = payload[2:].decode("utf-8", "replace")
            self._close_frame = f"close {code} {reason}".strip()
            self.peer.send_close(code if code != 1005 else 1000)
        elif opcode in (0x0, wire.TEXT):
            if opcode == wire.TEXT:
                self._fragments = bytearray()
            if self._fragments is None:
                self._breach("framing", "a continuation frame without a beginning")
                return
            self._fragments += payload
            if first & 0x80:
                text, self._fragments = bytes(self._fragments), None
                self._on_text(text, 0, 0, len(text))
        elif opcode != wire.PONG:
            self._breach("framing", f"a frame with opcode {opcode}")

    def _on_text(self, data: Buffer, frame: int, start: int, stop: int) -> None:
        """Deal with the message at `start`, whose frame begins at `frame`."""
        match = _RESULT.match(data, start)
        if match is not None:
            self._on_result(int(match[1]), bytes(data[start:stop]))
            return
        message = self._known(data, frame, stop)
        try:
            message = message or orjson.loads(data[start:stop])
        except orjson.JSONDecodeError as error:
            self._breach("framing", f"a text that is not JSON: {error}")
            return
        if not isinstance(message, dict):
            self._breach(
                "framing", f"a text that is no message: {bytes(data[start : min(stop, start + 200)])!r}"
            )
            return
        method = message.get("method")
        if method is None:
            self._on_error(message)
            return
        self._where.interval.deliveries += 1
        try:
            self._check(method, message, data, frame, start, stop)
        except (KeyError, TypeError, AttributeError) as error:
            self._breach("framing", f"a {method} that lacks what it must have: {error!r}")
            return
        if method != DELTA or self._every_delta:
            self._driver.on_event(method, message)

    def _known(self, data: Buffer, frame: int, stop: int) -> dict[str, Any] | None:
        """Return what a frame says if it is the thread's next one, and another connection has read it."""
        following = self._following
        if following is None or following.seq is None:
            return None
        return following.log.find(following.seq + 1, data, frame, stop)

    def _check(
        self, method: str, message: dict[str, Any], data: Buffer, frame: int, start: int, stop: int
    ) -> None:
        """Check a notification or a prompt. What it lacks raises what looking for that raises."""
        self._record_latency(message, data, start, stop)
        params = message.get("params") or {}
        thread_id = params["thread"]["id"] if method == "thread/started" else params.get("threadId")
        if thread_id is None:
            if is_for_subscribers(method):
                raise KeyError("threadId")
            return
        subscription = self.subscriptions.get(thread_id)
        if subscription is None or not subscription.active:
            self._check_foreign(method, message, subscription)
            return
        self._on_thread_event(subscription, message, memoryview(data)[frame:stop])
        if method == DELTA and not (self._every_delta or self._where.latency_from_mark):
            self._deltas = Deltas.recognize(subscription, message, data[start:stop])

    def _record_latency(self, message: dict[str, Any], data: Buffer, start: int, stop: int) -> None:
        where = self._where
        if where.latency_from_mark:
            mark = _MARK.search(data, start, stop)
            if mark is not None and message["method"] == DELTA:
                where.interval.record(self._latency_name, int(self._now_ms * 1000 - int(mark[1]) / 1000))
            return
        emitted = message.get("emittedAtMs")
        if emitted is not None:
            where.interval.record(self._latency_name, int((self._now_ms - emitted) * 1000))

    def _on_result(self, number: int, text: bytes) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:
            self._breach(
                "response", f"a response to {number}, which this connection did not ask: {text[:200]!r}"
            )
            return
        interval = self._where.interval
        interval.requests += 1
        interval.record(pending.method, int((time.monotonic() - pending.since) * 1_000_000))
        if pending.expect_error:
            interval.errors[f"{pending.method}: a result where an error was expected"] += 1
        if pending.effect is not None:
            pending.effect(orjson.loads(text)["result"])
        if pending.awaited:
            self._driver.on_reply({"result": text})

    def _on_error(self, message: dict[str, Any]) -> None:
        """Deal with an error, or with a result that is not written as ours writes it."""
        number = message.get("id")
        if "result" in message and isinstance(number, int):
            self._on_result(number, orjson.dumps(message))
            return
        error = message.get("error")
        interval = self._where.interval
        pending = self._pending.pop(number, None) if isinstance(number, int) else None
        if pending is None or not isinstance(error, dict):
            if isinstance(error, dict) and (number is None or number in self.provoked):
                errors = interval.expected if self.provoked else interval.errors
                errors[f"for no request: {error_kind(error)}"] += 1
            else:
                self._breach("response", f"a response that this connection did not ask for: {message}")
            return
        interval.requests += 1
        interval.refused += 1
        interval.record(pending.method, int((time.monotonic() - pending.since) * 1_000_000))
        is_expected = pending.expect_error or (pending.insists and error.get("code") == OVERLOADED)
        errors = interval.expected if is_expected else interval.errors
        errors[f"{pending.method}: {error_kind(error)}"] += 1
        if pending.awaited:
            self._driver.on_reply({"error": error})

    # Checks

    def _on_thread_event(self, subscription: Subscription, message: dict[str, Any], raw: memoryview) -> None:
        """Check an event of a thread this connection is subscribed to, and keep its log."""
        method, params, seq = message["method"], message["params"], message.get("seq")
        prompt = message.get("id")
        if prompt is not None:
            if not subscription.raise_prompt(prompt, params.get("turnId", ""), self._now_ms):
                return
            if seq is not None and subscription.seq is not None and seq <= subscription.seq:
                # A resume sends the open prompts again, with the numbers they had.
                return
        if seq is not None:
            self._complain(subscription, subscription.take_number(seq))
            self._keep(subscription, seq, message, raw)
        elif prompt is None:
            self._complain(subscription, subscription.take_text(method, params))
        if method == DELTA:
            return
        if method == "turn/completed":
            subscription.complete_turn(params["turn"]["id"])
        elif method == "serverRequest/resolved":
            self._on_resolved(subscription, params["requestId"])
        elif method == "turn/started":
            self.check_prompts(subscription)

    def _keep(self, subscription: Subscription, seq: int, message: dict[str, Any], raw: memoryview) -> None:
        """Keep a numbered event in its thread's log, for the other subscribers in this worker."""
        log = subscription.log
        if log.readers < 2:
            return
        if seq >= log.next:
            stop = message["method"] != DELTA or (
                self._where.latency_from_mark and _MARK.search(raw) is not None
            )
            kept = bytes(raw)
            log.add(seq, kept, message.get("emittedAtMs", 0), stop=stop)
            if stop:
                log.add_large(seq, kept, message)
        self._following = subscription

    def behind(self, last_events: dict[str, int]) -> list[Subscription]:
        """Return the subscriptions that lack an event which another connection has received."""
        if self._reads_slowly:
            return []
        return [
            subscription
            for subscription in self.subscriptions.values()
            if subscription.active
            and subscription.seq is not None
            and subscription.strict
            and subscription.seq < last_events.get(subscription.thread_id, 0)
        ]

    def count_missing(self, last_events: dict[str, int]) -> None:
        """Count what other connections have received, and this one has not, as missing."""
        for subscription in self.behind(last_events):
            last = last_events[subscription.thread_id]
            what = f"received up to event {subscription.seq}, others up to {last}"
            self._breach("missing", f"thread {subscription.thread_id}: {what}")

    def _on_resolved(self, subscription: Subscription, prompt: int | str) -> None:
        raised_ms = subscription.raised_ms(prompt)
        if raised_ms is not None:
            self._where.interval.record("prompt", int((self._now_ms - raised_ms) * 1000))
        self._complain(subscription, subscription.resolve_prompt(prompt))

    def check_prompts(self, subscription: Subscription) -> None:
        """Count the prompts that should have been resolved by now, and were not."""
        for prompt in subscription.overdue_prompts():
            self._breach("prompt", f"thread {subscription.thread_id}: prompt {prompt} was never resolved")

    def _complain(self, subscription: Subscription, what: str | None) -> None:
        if what is not None:
            check = "prompt" if what.startswith("prompt") else "order"
            self._breach(check, f"thread {subscription.thread_id}: {what}")

    def _check_foreign(self, method: str, message: dict[str, Any], subscription: Subscription | None) -> None:
        """Check an event of a thread this connection is not subscribed to."""
        if "id" not in message and not is_for_subscribers(method):
            return
        thread_id = message["params"]["threadId"]
        if subscription is None:
            self._breach("foreign", f"{method} of thread {thread_id}, never subscribed to")
        else:
            self._breach("unsubscribed", f"{method} of thread {thread_id} after unsubscribing")

    def _breach(self, check: str, example: str) -> None:
        self._where.interval.breach(check, f"connection {self._driver.number}: {example}")
