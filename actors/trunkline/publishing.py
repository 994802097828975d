"""A thread as a host sees it: somewhere to publish into."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from trunkline.actor import post
from trunkline.errors import Overloaded, ServerStopped
from trunkline.futures import Future
from trunkline.messages import Publish, RaisePrompt, Ref
from trunkline.protocol.own_names import check_own_name, check_prompt_name
from trunkline.protocol.values import measure, plain_object
from trunkline.transports.serial import Tally
from trunkline.types import JsonObject, ThreadId

__all__ = ["ThreadHandle", "ThreadHandles"]


class ThreadHandle:
    """A thread of a server, for the host to publish into. Made by `AppServer.thread`.

    Every method may be called from any thread, actor or asyncio task, and none blocks.

    Examples:
        >>> with AppServer(agent=None) as server, server.connect() as connection:
        ...     _ = connection.initialize("my-host").get(timeout=PATIENCE_S)
        ...     thread_id = connection.request("thread/start").get(timeout=PATIENCE_S)["thread"]["id"]
        ...     thread = server.thread(thread_id)
        ...     for text in ("hello", "and bye"):
        ...         _ = thread.publish("acme/said", {"text": text}).get(timeout=PATIENCE_S)
        ...     _ = connection.request("thread/loaded/list").get(timeout=PATIENCE_S)  # behind what it is sent
        ...     connection.close()
        ...     came = [delivery for delivery in connection if isinstance(delivery, Notification)]
        >>> [notification.params["text"] for notification in came if notification.method == "acme/said"]
        ['hello', 'and bye']

    """

    def __init__(
        self,
        thread_id: ThreadId,
        router: Ref,
        max_events: int,
        max_bytes: int,
        brought_by: tuple[threading.Thread, ...] = (),
    ) -> None:
        self.id = thread_id
        self._brought_by = brought_by
        self._router = router
        self._max_events = max_events
        self._max_bytes = max_bytes
        # Published and not yet confirmed.
        self._events = Tally()
        self._bytes = Tally()

    def __repr__(self) -> str:
        return f"<ThreadHandle {self.id}>"

    @property
    def unconfirmed(self) -> int:
        """Events and prompts whose futures are not done, about."""
        return self._events.value

    def publish(self, method: str, params: object = None) -> Future[int]:
        """Publish a notification to all subscribers of the thread.

        It is an event like any other: numbered, kept in the thread's log for those who are behind or come
        back, and in one order for all. What one thread publishes comes in the order of its calls.

        Args:
            method: a name of the host's own, `vendor/name`, such as `acme/said`. What begins with
                `thread/`, `turn/`, `item/` and such is the protocol's.
            params: an object (a dict, struct or dataclass); None is an empty one. It is copied. Clients are
                sent it with the thread's id as `threadId`.

        Returns:
            The number of the event, once the thread has published it and its subscribers are not too far
            behind: to wait for that, or to do the next one in its callback, is to go no faster than they
            do. Or it raises `RpcError` if the thread is not loaded, `ServerStopped` if the server has ended.

        Raises:
            Overloaded: so much that was published is not confirmed that no more is taken. Nothing was
                published. Wait for the future of an earlier call.
            TypeError: `params` cannot be written as a JSON object.
            ValueError: `method` is no name of one's own.

        """
        check_own_name(method)
        future: Future[int] = Future(self._brought_by)
        body = self._admit(params, future)
        self._tell(Publish(self.id, method, body, future), future)
        return future

    def prompt(
        self, method: str, params: object = None, *, timeout_s: float | None = None
    ) -> Future[JsonObject]:
        """Ask the subscribers of the thread something. The first answer counts.

        It is open until somebody has answered, whatever turns come and go meanwhile, and is sent to
        those who subscribe while it is. While one is open the thread is not unloaded.

        Args:
            method: a name of the host's own, or one of the protocol's prompts such as
                `item/tool/requestUserInput`, whose answers are checked. What clients require those to say
                of their place (`turnId`, `itemId`) is put in where `params` do not say it.
            params: as with `publish`.
            timeout_s: seconds after which the server refuses it itself, more than 0. None sets no limit but
                `Config.prompt_timeout_s`.

        Returns:
            The answer: an object. Or it raises `PromptRefused` if a client or the server refused it, or the
            thread has ended; `RpcError` and `ServerStopped` as with `publish`.

        Raises:
            Overloaded: as with `publish`.
            TypeError: as with `publish`.
            ValueError: `method` is neither, or `timeout_s` is not more than 0.

        """
        check_prompt_name(method)
        if timeout_s is not None and timeout_s <= 0:
            raise ValueError(f"timeout_s must be more than 0, not {timeout_s:g}")
        future: Future[JsonObject] = Future(self._brought_by)
        body = self._admit(params, future)
        self._tell(RaisePrompt(self.id, method, body, timeout_s, future), future)
        return future

    def _admit(self, params: object, future: Future[Any]) -> JsonObject:
        """Return a copy of `params`, which count until `future` is done."""
        body = plain_object(params)
        body.pop("threadId", None)  # the thread says that itself
        size = measure(body)
        # One is always taken, however large: or it never would be.
        if self._events.value and (
            self._events.value >= self._max_events or self._bytes.value + size > self._max_bytes
        ):
            raise Overloaded(self.id, self._events.value)
        self._events.add(1)
        self._bytes.add(size)

        def release(_: Future[Any]) -> None:
            self._events.add(-1)
            self._bytes.add(-size)

        future.add_done_callback(release)
        return body

    def _tell(self, message: Publish | RaisePrompt, future: Future[Any]) -> None:
        if not post(self._router, message):
            future.fail(ServerStopped("the server is not running"))


class ThreadHandles:
    """One handle for each thread for as long as somebody has it: what is unconfirmed counts for all.

    Args:
        make: makes the handle of a thread.

    """

    def __init__(self, make: Callable[[ThreadId], ThreadHandle]) -> None:
        self._make = make
        self._handles: weakref.WeakValueDictionary[ThreadId, ThreadHandle] = weakref.WeakValueDictionary()

    def get(self, thread_id: ThreadId) -> ThreadHandle:
        """Return the handle of a thread. Any thread; never blocks.

        Two who ask for the first time at the same moment may get one each; then what is unconfirmed
        counts for each.
        """
        handle = self._handles.get(thread_id)
        if handle is None:
            handle = self._handles[thread_id] = self._make(thread_id)
        return handle
