"""Pooled actors: Pykka actors that share a few worker threads.

`pykka.Actor` leaves three methods to implementors of a new kind of actor: the inbox, the future and
the start of the loop. A `PooledActor` fills them in so that an idle actor is a few objects instead
of an OS thread: when its inbox goes from empty to non-empty it is put on its dispatcher's run queue,
and one of the dispatcher's workers handles a batch of its messages.

What Pykka promises still holds: one message at a time, in order, `stop()`, `on_start`, `on_stop`,
`on_failure`, the registry, proxies and `ask`. What differs: which thread runs a handler is not
fixed, a handler that blocks holds up a worker, and a `SystemExit` in a handler ends that actor
alone instead of every actor of the process.
"""

from __future__ import annotations

import itertools
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from trunkline import registry

__all__ = ["Dispatcher", "PooledActor", "handles", "post"]

logger = logging.getLogger(__name__)

A = TypeVar("A", bound="PooledActor")
M = TypeVar("M")

MAX_BATCH = 256
"""Messages an actor may handle before it goes to the back of the run queue."""

MAX_OWN_RUNS = 1024
"""Actors a thread that lends a hand may run before it goes back to its own work."""


def post(ref: pykka.ActorRef[Any] | None, message: object) -> bool:
    """Tell `message` to `ref`; that it may have stopped meanwhile is ordinary. Any thread; never blocks.

    Returns:
        False if there is nobody to tell it to.

    Examples:
        >>> import pykka
        >>> class Printer(pykka.ThreadingActor):
        ...     def on_receive(self, message: object) -> None:
        ...         print(message)
        >>> printer = Printer.start()
        >>> post(printer, "hello")
        True
        >>> fence(printer)
        hello
        >>> printer.stop()
        True
        >>> post(printer, "anybody?"), post(None, "anybody?")
        (False, False)

    """
    # What `ActorRef.tell` does, without raising and catching: this is the hottest call there is.
    if ref is None or ref.actor_stopped.is_set():
        return False
    inbox = ref.actor_inbox
    # A message that waits in an envelope is one object more to make, and for the collector to look at.
    inbox.put(message if type(inbox) is _Inbox else Envelope(message))  # type: ignore[arg-type]
    return True


class Dispatcher:
    """A small pool of OS threads that run the actors which have something to do.

    Another thread may lend a hand: one that calls `run_own` now and then runs the actors that it woke
    itself, and those that these wake in turn. For a thread that reads sockets this saves two hand-overs
    of the interpreter lock for every request; what it leaves over goes to the workers.

    Args:
        workers: number of threads, 1 or more.
        name: the threads are called `<name>-worker-0` and so on.

    Examples:
        >>> class Greeter(PooledActor):
        ...     def on_receive(self, message: str) -> str:
        ...         return f"hello {message}"
        >>> dispatcher = Dispatcher(workers=1, name="example")
        >>> dispatcher.start()
        >>> greeters = [Greeter.start(dispatcher=dispatcher) for _ in range(1000)]
        >>> greeters[999].ask("you")
        'hello you'
        >>> for greeter in greeters:
        ...     _ = greeter.stop()
        >>> dispatcher.stop()
        True

    """

    def __init__(self, *, workers: int = 2, name: str = "trunkline") -> None:
        self._ready: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # On a thread that lends a hand: `runs`, the deque of what it woke.
        self._own = threading.local()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-worker-{index}", daemon=True)
            for index in range(workers)
        ]

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The worker threads."""
        return tuple(self._threads)

    @property
    def queued(self) -> int:
        """Runs that wait for a worker. Any thread; by the time it is known it may have changed."""
        return self._ready.qsize()

    @property
    def queued_own(self) -> int:
        """Runs that the calling thread keeps for itself; 0 for one that does not lend a hand."""
        return len(getattr(self._own, "runs", ()))

    def start(self) -> None:
        """Start the worker threads. Call it once."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Let the workers finish what is queued, then end them. May be called from any other thread.

        Args:
            timeout_s: seconds to wait for them; None waits for ever.

        Returns:
            True if every thread has ended.

        """
        for _ in self._threads:
            self._ready.put(None)
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(None if ends is None else max(ends - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def schedule(self, run: Callable[[], None]) -> None:
        """Have `run` called soon. It must not raise. Any thread may call this."""
        own = getattr(self._own, "runs", None)
        if own is None:
            self._ready.put(run)
        else:
            own.append(run)

    def run_own(self) -> None:
        """Run what this thread has scheduled since the last call, and from now on keep that for this.

        Call it on the thread that lends a hand, each time before it waits.
        """
        own = getattr(self._own, "runs", None)
        if own is None:
            self._own.runs = deque()
            return
        for _ in range(MAX_OWN_RUNS):
            if not own:
                return
            own.popleft()()
        while own:
            self._ready.put(own.popleft())

    def _work(self) -> None:
        get = self._ready.get
        while (run := get()) is not None:
            run()
            del run  # it holds its actor, and the next one may be long in coming


# `next` on it is atomic, so it needs no lock.
_inbox_numbers = itertools.count()


class _Inbox:
    """An unbounded FIFO that wakes its actor when it goes from empty to non-empty.

    There is no lock. `_idle` holds one token while the actor is not scheduled; `list.pop` is atomic,
    so of all who find the actor idle exactly one gets the token and schedules it. The actor puts the
    token back when it has found the inbox empty, and looks once more after that: a message that came
    in between is either seen by this look or by the sender who finds the token.
    """

    __slots__ = ("_idle", "_run", "_schedule", "messages", "number")

    def __init__(self) -> None:
        self.number = next(_inbox_numbers)
        """The actor's place in the order in which actors are made; see `registry`."""
        self.messages: deque[Any] = deque()
        """What waits: in an `Envelope` if it came through Pykka (`tell`, `ask`), bare if it was posted."""
        self._idle: list[None] = []
        self._schedule: Callable[[Callable[[], None]], None] | None = None
        self._run: Callable[[], None] | None = None

    def bind(self, schedule: Callable[[Callable[[], None]], None], run: Callable[[], None]) -> None:
        """Connect the inbox to its actor, and schedule that for the first time."""
        self._schedule = schedule
        self._run = run
        schedule(run)

    def put(self, message: Any, /) -> None:
        self.messages.append(message)
        if self._idle:
            self._wake()

    def get(self) -> Envelope[Any]:
        """Return the next message. Raises `queue.Empty` where Pykka's own inbox would wait."""
        try:
            message = self.messages.popleft()
        except IndexError:
            raise queue.Empty from None
        return message if type(message) is Envelope else Envelope(message)

    def empty(self) -> bool:
        return not self.messages

    def release(self) -> None:
        """Give the token back; schedule again if a message came meanwhile."""
        self._idle.append(None)
        if self.messages:
            self._wake()

    def reschedule(self) -> None:
        """Go to the back of the run queue, keeping the token."""
        assert self._schedule is not None
        assert self._run is not None
        self._schedule(self._run)

    def _wake(self) -> None:
        try:
            self._idle.pop()
        except IndexError:
            return
        self.reschedule()


_HANDLES = "_trunkline_handles"


def handles(message_type: type[M]) -> Callable[[Callable[[A, M], Any]], Callable[[A, M], Any]]:
    """Mark a method of a `PooledActor` as the handler of messages of exactly `message_type`.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Deposit:
        ...     amount: int
        >>> @dataclass(frozen=True)
        ... class Balance:
        ...     pass
        >>> class Account(PooledActor):
        ...     balance = 0
        ...
        ...     @handles(Deposit)
        ...     def _on_deposit(self, message: Deposit) -> None:
        ...         self.balance += message.amount
        ...
        ...     @handles(Balance)
        ...     def _on_balance(self, message: Balance) -> int:
        ...         return self.balance
        >>> dispatcher = Dispatcher(name="example")
        >>> dispatcher.start()
        >>> account = Account.start(dispatcher=dispatcher)
        >>> account.tell(Deposit(5))
        >>> account.ask(Balance())
        5
        >>> account.stop() and dispatcher.stop()
        True

    """

    def mark(method: Callable[[A, M], Any]) -> Callable[[A, M], Any]:
        setattr(method, _HANDLES, message_type)
        return method

    return mark


class PooledActor(pykka.Actor):
    """An actor that runs on a dispatcher's worker threads.

    A subclass marks its handlers with `handles`, or overrides `on_receive`. A handler must not
    block: it would hold up a worker and every actor that waits for it.

    Args:
        dispatcher: whose workers run this actor.

    Examples:
        >>> class Counter(PooledActor):
        ...     def __init__(self, dispatcher: Dispatcher) -> None:
        ...         super().__init__(dispatcher=dispatcher)
        ...         self.count = 0
        ...
        ...     def add(self, number: int) -> int:
        ...         self.count += number
        ...         return self.count
        >>> dispatcher = Dispatcher(name="example")
        >>> dispatcher.start()
        >>> counter = Counter.start(dispatcher).proxy()
        >>> counter.add(2).get(), counter.add(3).get(), counter.count.get()
        (2, 5, 5)
        >>> counter.actor_ref.stop() and dispatcher.stop()
        True

    """

    _handlers: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {
            getattr(method, _HANDLES): method
            for method in vars(cls).values()
            if getattr(method, _HANDLES, None) is not None
        }
        cls._handlers = {**cls._handlers, **own}

    def __init__(self, *, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher
        self._inbox: _Inbox = self.actor_inbox  # type: ignore[assignment]  # made by _create_actor_inbox
        self._is_set_up = False

    @staticmethod
    def _create_actor_inbox() -> Any:
        return _Inbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        self._inbox.bind(self._dispatcher.schedule, self._run)

    @property
    def inbox_depth(self) -> int:
        """Messages that wait in the inbox. Any thread may read it."""
        return len(self._inbox.messages)

    def on_receive(self, message: Any) -> Any:
        """Pass `message` to the handler of its type; one that has none is logged and dropped."""
        handler = self._handlers.get(type(message))
        if handler is None:
            logger.warning("x %s: no handler for a %s", self, type(message).__name__)
            return None
        return handler(self, message)

    def on_batch_end(self) -> None:
        """Run code after a batch of messages, such as flushing what they produced.

        Called on the worker thread, as a handler is; an exception ends the actor as in a handler.
        Not called once the actor has stopped.
        """

    def on_undelivered(self, message: Any) -> None:
        """Run code for a message that was told to the actor and that it will not handle: it has stopped.

        Called on the worker thread, after `on_stop` or `on_failure`. An `ask` among them is answered
        with `pykka.ActorDeadError` besides.
        """

    def _run(self) -> None:
        """Handle one batch. Runs on a worker, never on two at once, and never raises."""
        if not self._is_set_up:
            self._is_set_up = True
            self._guarded(self.on_start, is_hook=True)
        messages = self._inbox.messages
        has_stopped = self.actor_stopped.is_set
        count = 0
        while count < MAX_BATCH and messages and not has_stopped():
            count += 1
            message = messages.popleft()
            if type(message) is Envelope:
                if message.reply_to is not None:
                    self._answer(message)
                    continue
                message = message.message
            # BaseException: a SystemExit ends this actor, not the worker and not the process's actors.
            try:
                self._handle_receive(message)
            except BaseException:
                self._fail(is_hook=False)
        if not has_stopped():
            self._guarded(self.on_batch_end)
        if has_stopped():
            self._drop_messages()
            self._inbox.release()
        elif messages:
            self._inbox.reschedule()
        else:
            self._inbox.release()

    def _handle_receive(self, message: Any) -> Any:
        # Pykka looks through its own kinds of message first; nearly all that come are not of those.
        if type(message) in self._handlers:
            return self.on_receive(message)
        return super()._handle_receive(message)

    def _answer(self, envelope: Envelope[Any]) -> None:
        """Handle an `ask`: what it raises goes to the asker, and the actor lives."""
        reply_to = envelope.reply_to
        assert reply_to is not None
        try:
            reply_to.set(self._handle_receive(envelope.message))
        except Exception:
            logger.info("x %s: exception returned to the asker", self, exc_info=True)
            reply_to.set_exception()
        except BaseException:
            reply_to.set_exception()
            self._fail(is_hook=False)

    def _drop_messages(self) -> None:
        """Answer what is left in the inbox, and so whatever is still to come."""
        messages = self._inbox.messages
        while messages:
            message = messages.popleft()
            if type(message) is Envelope:
                if message.reply_to is not None:
                    self._answer_dead(message)
                message = message.message
            self._guarded(self.on_undelivered, message, is_hook=True)

    def _answer_dead(self, envelope: Envelope[Any]) -> None:
        """Answer an `ask` as Pykka does for an actor that has stopped."""
        assert envelope.reply_to is not None
        if isinstance(envelope.message, _ActorStop):
            envelope.reply_to.set(None)
        else:
            error = pykka.ActorDeadError(f"{self.actor_ref} stopped before handling the message")
            envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))

    def _guarded(self, call: Callable[..., Any], *args: Any, is_hook: bool = False) -> None:
        try:
            call(*args)
        except BaseException:
            self._fail(is_hook=is_hook)

    def _fail(self, *, is_hook: bool) -> None:
        """End the actor because of the exception being handled."""
        exc_info = sys.exc_info()
        self._handle_failure(*exc_info)
        if is_hook:  # as in Pykka: a failing on_start calls neither hook
            return
        try:
            self.on_failure(*exc_info)
        except BaseException:
            self._handle_failure(*sys.exc_info())

    def _stop(self) -> None:
        # As in Pykka, with BaseException guarded as well.
        registry.unregister(self.actor_ref, self._inbox.number)
        self.actor_stopped.set()
        try:
            self.on_stop()
        except BaseException:
            self._handle_failure(*sys.exc_info())
