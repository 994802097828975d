"""A client that tests speak through: sends, waits for what it expects, and says what came instead."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

from trunkline.testing.wires import PATIENCE_S, Wire, WireClosed
from trunkline.transports.base import Closed

__all__ = ["UNKNOWN_ID", "Client", "Message", "methods", "shorten", "text_input", "thread_of"]

Message: TypeAlias = dict[str, Any]
"""A message as it came over the wire."""

UNKNOWN_ID = "01900000-0000-7000-8000-000000000000"
"""A UUID that names no thread."""

_SHOWN = 12
"""Messages that a failure shows."""


def text_input(text: str) -> list[Message]:
    """Return `text` as the input of a turn.

    Examples:
        >>> text_input("hello")
        [{'type': 'text', 'text': 'hello'}]

    """
    return [{"type": "text", "text": text}]


def shorten(message: object, limit: int = 200) -> str:
    """Return a message as one line that can be read.

    Examples:
        >>> shorten({"method": "acme/said", "params": {"text": "x" * 1000}}, 60)
        '{"method": "acme/said", "params": {"text … xxxxxxxxxxxxxxxxx"}}'

    """
    text = json.dumps(message, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 20]} … {text[-20:]}"


def thread_of(message: Message) -> str | None:
    """Return the thread that a notification or prompt is about.

    Examples:
        >>> thread_of({"method": "turn/started", "params": {"threadId": "t", "turn": {}}})
        't'

    """
    params = message.get("params", {})
    thread_id: str | None = params["thread"]["id"] if "thread" in params else params.get("threadId")
    return thread_id


class Client:
    """One connection, for one test thread.

    What arrives is kept twice: in `arrived`, all of it; and unread, until somebody waits for it or
    drains it. Waiting takes the first unread message that fits and leaves the others in their order.

    Whatever waits does so for `PATIENCE_S` seconds, and fails then, or at once when the connection is
    closed, with an `AssertionError` that names the client, what it waited for and what came instead.

    Args:
        wire: the connection.
        name: what failures call it.

    Examples:
        >>> with running_server() as server:
        ...     alice = server.connect("alice")
        ...     thread_id = alice.start_thread()
        ...     turn = alice.run_turn(thread_id, "text hello")
        ...     delta = alice.wait("item/agentMessage/delta", threadId=thread_id)
        ...     alice.refused("turn/start", threadId=UNKNOWN_ID, input=[])["code"]
        -32600
        >>> turn["status"], delta["params"]["delta"]
        ('completed', 'hello')

    """

    watch: ClassVar[Callable[[Message, Iterable[str]], None] | None] = None
    """Called with everything that any client receives, and the methods that it may be the answer to; may
    raise. For a check of every message of a test run, such as against a schema."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.wire = wire
        self.name = name
        self.arrived: list[Message] = []
        self.unread: list[Message] = []
        self.closed: Closed | None = None
        self._ids = itertools.count(1)
        # The methods that were asked for, by request id: `5` and `"5"` are two.
        self._asked: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"<Client {self.name}>"

    # Sending.

    def send(self, message: object) -> None:
        """Send any JSON."""
        if isinstance(message, dict) and "id" in message and "method" in message:
            self._asked.setdefault(json.dumps(message["id"]), []).append(message["method"])
        self.wire.send(json.dumps(message))

    def send_text(self, text: str) -> None:
        """Send any text."""
        self.wire.send(text)

    def begin(self, method: str, **params: object) -> int:
        """Send a request and return its id; `response` waits for the answer."""
        request_id = next(self._ids)
        self.send({"id": request_id, "method": method, "params": params})
        return request_id

    def answer(self, prompt_id: object, result: object) -> None:
        """Answer a prompt."""
        self.send({"id": prompt_id, "result": result})

    def decide(self, prompt: Message, decision: str = "accept") -> None:
        """Answer an approval."""
        self.answer(prompt["id"], {"decision": decision})

    # Asking.

    def response(self, request_id: object) -> Message:
        """Wait for the response or error to a request of ours."""
        return self.wait_for(
            lambda message: (
                "method" not in message
                and message["id"] == request_id
                and type(message["id"]) is type(request_id)
            ),
            f"the answer to {request_id!r}",
        )

    def request(self, method: str, **params: object) -> Message:
        """Send a request and return its result."""
        response = self.response(self.begin(method, **params))
        if "result" not in response:
            raise AssertionError(f"{self.name}: {method} was refused: {response['error']}")
        result: Message = response["result"]
        return result

    def refused(self, method: str, **params: object) -> Message:
        """Send a request and return the error it is refused with."""
        response = self.response(self.begin(method, **params))
        if "error" not in response:
            raise AssertionError(f"{self.name}: {method} was not refused: {shorten(response)}")
        error: Message = response["error"]
        return error

    def initialize(self, **capabilities: object) -> Message:
        """Do the handshake, and return the answer; a capability that is None is left out."""
        result = self.request(
            "initialize",
            clientInfo={"name": self.name, "version": "1"},
            capabilities={key: value for key, value in capabilities.items() if value is not None} or None,
        )
        self.send({"method": "initialized"})
        return result

    def start_thread(self, **params: object) -> str:
        """Start a thread, see its `thread/started`, and return its id."""
        thread_id: str = self.request("thread/start", **params)["thread"]["id"]
        self.wait("thread/started")
        return thread_id

    def resume(self, thread_id: str) -> Message:
        """Subscribe to a thread and return it."""
        thread: Message = self.request("thread/resume", threadId=thread_id)["thread"]
        return thread

    def start_turn(self, thread_id: str, text: str) -> str:
        """Start a turn and return its id."""
        turn_id: str = self.request("turn/start", threadId=thread_id, input=text_input(text))["turn"]["id"]
        return turn_id

    def run_turn(self, thread_id: str, text: str) -> Message:
        """Run a turn to its end and return it as `turn/completed` has it. For subscribers."""
        turn_id = self.start_turn(thread_id, text)
        return self.wait_turn(turn_id)

    def wait_turn(self, turn_id: str) -> Message:
        """Wait for the end of a turn, and return it. What it streamed stays unread."""
        message = self.wait_for(
            lambda message: (
                message.get("method") == "turn/completed" and message["params"]["turn"]["id"] == turn_id
            ),
            f"the end of turn {turn_id}",
        )
        turn: Message = message["params"]["turn"]
        return turn

    # Waiting.

    def wait(self, method: str, **members: object) -> Message:
        """Wait for a notification or prompt, with these members in its params."""
        return self.wait_for(
            lambda message: (
                message.get("method") == method
                and all(message["params"].get(key) == value for key, value in members.items())
            ),
            f"{method} {members}" if members else method,
        )

    def wait_for(self, fits: Callable[[Message], bool], what: str = "a message that fits") -> Message:
        """Wait for the first unread message that fits, and take it."""
        deadline = time.monotonic() + PATIENCE_S
        start = 0
        while True:
            for index in range(start, len(self.unread)):
                if fits(self.unread[index]):
                    return self.unread.pop(index)
            start = len(self.unread)
            try:
                self._receive(deadline - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"{self.name}: {what} did not come; {self._account()}") from None
            except WireClosed as error:
                raise AssertionError(
                    f"{self.name}: {what} did not come: closed with {tuple(error.closed)}; {self._account()}"
                ) from None

    def fence(self, *thread_ids: str) -> None:
        """Return once everything is here that the server had for us before this call.

        A round trip through each of the threads (their events are in front of its answer), then one
        through the router (broadcasts, and what was relayed).
        """
        for thread_id in thread_ids:
            self.request("thread/read", threadId=thread_id)
        self.request("thread/loaded/list")

    def drain(self, *thread_ids: str) -> list[Message]:
        """Take everything unread, behind a fence."""
        self.fence(*thread_ids)
        unread, self.unread = self.unread, []
        return unread

    def expect_nothing(self, *thread_ids: str) -> None:
        """Prove that nothing is unread, behind a fence."""
        left = self.drain(*thread_ids)
        if left:
            shown = [shorten(message) for message in left]
            raise AssertionError(f"{self.name} was sent what it should not have been: {shown}")

    def wait_closed(self) -> Closed:
        """Read to the end of the connection and return how it was closed."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._receive(deadline - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"{self.name}: not closed; {self._account()}") from None
            except WireClosed as error:
                return error.closed

    def close(self) -> None:
        """Close the connection politely."""
        self.wire.close()

    # What arrived.

    def events_of(self, thread_id: str) -> list[Message]:
        """Return everything that ever arrived and is numbered in a thread: events and prompts."""
        return [message for message in self.arrived if "seq" in message and thread_of(message) == thread_id]

    def methods(self) -> list[str]:
        """Return the methods of all that ever arrived unasked."""
        return [message["method"] for message in self.arrived if "method" in message]

    def _receive(self, timeout_s: float) -> None:
        if timeout_s <= 0:
            raise TimeoutError
        try:
            texts = self.wire.receive(timeout_s)
        except WireClosed as error:
            self.closed = error.closed
            raise
        messages = [json.loads(text) for text in texts]
        self.arrived += messages
        self.unread += messages
        if Client.watch is not None:
            for message in messages:
                Client.watch(message, self._asked.get(json.dumps(message.get("id")), ()))

    def _account(self) -> str:
        shown = [f"\n  {shorten(message)}" for message in self.unread[-_SHOWN:]]
        more = f" (the last {_SHOWN})" if len(self.unread) > _SHOWN else ""
        return f"{len(self.unread)} unread{more} of {len(self.arrived)}:{''.join(shown) or ' nothing'}"


def methods(messages: Iterable[Message]) -> list[str]:
    """Return the methods of messages, answers left out.

    Examples:
        >>> methods([{"method": "turn/started", "params": {}}, {"id": 1, "result": {}}])
        ['turn/started']

    """
    return [message["method"] for message in messages if "method" in message]
