"""Methods of a host's own: which there are, what their params must be, and the threads that run them.

An edge: a handler may block. It never runs on an actor's turn.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec
import pykka

from trunkline.access import Access, Scope
from trunkline.actor import Dispatcher, post
from trunkline.errors import ConfigError, Disconnected, RpcError, ServerStopped
from trunkline.futures import Future
from trunkline.messages import PushNotification, Ref, Refuse, Reply
from trunkline.protocol import errors
from trunkline.protocol.envelope import encode_error
from trunkline.protocol.methods import Answerer, Method
from trunkline.protocol.own_names import check_own_name
from trunkline.protocol.params import ClientInfo, EmptyParams, convert_to
from trunkline.protocol.values import plain, plain_object
from trunkline.publishing import ThreadHandle
from trunkline.types import ConnectionId, Json, RequestId

__all__ = ["Call", "Handler", "OwnMethod", "OwnMethods"]

logger = logging.getLogger(__name__)

MAX_UNTAKEN = 64
"""Notifications of one call that its client may not have taken before `Call.notify` waits."""


class Call:
    """One request of a method of the host's own: who calls, and how to speak to it meanwhile.

    Made by the server, and handed to the handler. Its attributes may be read on any thread.

    Examples:
        >>> def count(call: Call) -> str:
        ...     for number in range(3):
        ...         call.notify("acme/counted", {"number": number})
        ...     return f"{call.client_name} has been told"
        >>> with AppServer(agent=None) as server, server.connect() as connection:
        ...     _ = server.method("acme/count")(count)
        ...     _ = connection.initialize("my-host").get(timeout=PATIENCE_S)
        ...     print(connection.request("acme/count").get(timeout=PATIENCE_S))
        ...     connection.close()
        ...     [delivery.params["number"] for delivery in connection if isinstance(delivery, Notification)]
        my-host has been told
        [0, 1, 2]

    """

    def __init__(
        self,
        *,
        method: str,
        connection_id: ConnectionId,
        connection: Ref,
        client: ClientInfo,
        access: Access,
        thread: Callable[[str], ThreadHandle],
    ) -> None:
        self.method = method
        """The name under which it was called."""
        self.connection_id = connection_id
        """The caller's connection: counted from 1, never used again."""
        self.client_name = client.name
        """What the client said it is, in `initialize`."""
        self.client_version = client.version
        self.who = access.who
        """What the client's credential calls its holder; empty if there is none."""
        self.scopes = access.scopes
        """What the client may do."""
        self._connection = connection
        self._thread = thread
        self._untaken: deque[Future[None]] = deque()

    @property
    def is_open(self) -> bool:
        """Whether the caller is still there. What is returned to one that is not goes nowhere."""
        return not self._connection.actor_stopped.is_set()

    def notify(self, method: str, params: object = None) -> None:
        """Send the caller, and nobody else, a notification. Waits while the caller is too far behind.

        They come in the order of the calls, before the answer. They belong to no thread, and have no
        number: who was not there has missed them. For the handler's own thread, or another that may wait.

        Args:
            method: a name of the host's own, `vendor/name`.
            params: an object (a dict, struct or dataclass); None is an empty one.

        Raises:
            Disconnected: the caller has gone. A handler may let it pass.
            TypeError: `params` cannot be written as a JSON object.
            ValueError: `method` is no name of one's own.

        """
        check_own_name(method)
        taken: Future[None] = Future()
        if not post(self._connection, PushNotification(method, plain_object(params), taken)):
            raise Disconnected(1006, "")
        self._untaken.append(taken)
        while self._untaken and (len(self._untaken) > MAX_UNTAKEN or self._untaken[0].is_done):
            self._untaken.popleft().get()

    def thread(self, thread_id: str) -> ThreadHandle:
        """Return a thread to publish into: see `AppServer.thread`."""
        return self._thread(thread_id)


Handler: TypeAlias = Callable[[Call], object] | Callable[[Call, Any], object]
"""Answers a method: see `AppServer.method`."""


class OwnMethod(Method, frozen=True, kw_only=True):
    """A method of the host's own."""

    handler: Callable[..., object]
    takes: Any
    """The type of its params; None if the handler takes none."""


class OwnMethods:
    """The host's methods by name, and the threads that run their handlers.

    Args:
        workers: how many threads. They start with the first method.

    """

    def __init__(self, workers: int) -> None:
        self._methods: dict[str, OwnMethod] = {}
        self._pool = Dispatcher(workers=workers, name="trunkline-method")
        # One token, which whoever has to start the threads takes.
        self._start_token: list[None] = []
        self._is_draining = False

    @property
    def pool(self) -> Dispatcher:
        """The threads."""
        return self._pool

    def add(self, name: str, handler: Handler, scope: Scope) -> None:
        """Add a method. Any thread; clients may call it at once.

        Raises:
            ConfigError: the name, or the handler, will not do.

        """
        try:
            check_own_name(name)
            takes = _params_type(handler)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"method `{name}`: {error}") from error
        method = OwnMethod(name, EmptyParams, Answerer.HOST, scope=scope, handler=handler, takes=takes)
        if self._methods.setdefault(name, method) is not method:
            raise ConfigError(f"method `{name}`: there is one of that name")
        self._start_pool()

    def read_call(self, name: str, raw_params: Json) -> tuple[Method, Any] | None:
        """Find a method and check its params; None if it is none of the host's. Any thread.

        Raises:
            RpcError: -32602, the params do not fit.

        """
        method = self._methods.get(name)
        if method is None:
            return None
        takes = dict[str, Any] if method.takes is None else method.takes
        return method, convert_to(raw_params, takes)

    def start(self) -> None:
        """Allow the threads to start. Call it once."""
        self._start_token.append(None)
        self._start_pool()

    def drain(self) -> None:
        """Refuse further calls. Any thread; never blocks."""
        self._is_draining = True

    def stop(self, timeout_s: float) -> bool:
        """End the threads once the handlers that run have returned. For any other thread.

        Returns:
            Whether they have ended within `timeout_s` seconds.

        """
        self._is_draining = True
        self._start_token.clear()
        return self._pool.stop(timeout_s)

    def begin(self, method: Method, params: Any, call: Call, request_id: RequestId, connection: Ref) -> None:
        """Have a handler called, and its answer told to `connection`. Never blocks.

        Raises:
            RpcError: no further calls are taken.

        """
        assert isinstance(method, OwnMethod)
        if self._is_draining:
            raise errors.draining()
        arguments = (call,) if method.takes is None else (call, params)
        self._pool.schedule(partial(_run, method, arguments, partial(_answer, connection, request_id)))

    def _start_pool(self) -> None:
        if not self._methods:
            return
        try:
            self._start_token.pop()
        except IndexError:
            return
        self._pool.start()


_Answer: TypeAlias = Callable[[str, Callable[[], object]], None]
"""Answers a method by its name with what a function returns or raises."""


def _run(method: OwnMethod, arguments: tuple[Any, ...], answer: _Answer) -> None:
    """Call a handler, on a thread that may wait."""
    try:
        result = method.handler(*arguments)
    except BaseException as error:  # also a SystemExit: a handler ends its call and nothing else
        answer(method.name, partial(_raise, error))
        return
    later: Any = result
    if isinstance(result, concurrent.futures.Future) or (
        isinstance(result, Future) and not result.is_derived
    ):
        later.add_done_callback(lambda future: answer(method.name, _outcome(future)))
    elif isinstance(result, pykka.Future):
        answer(method.name, result.get)  # Pykka's own call nobody back: this thread waits
    else:
        answer(method.name, lambda: result)


def _outcome(future: Any) -> Callable[[], object]:
    return future.result if isinstance(future, concurrent.futures.Future) else future.get


def _raise(error: BaseException) -> None:
    raise error


def _answer(connection: Ref, request_id: RequestId, name: str, outcome: Callable[[], object]) -> None:
    """Tell a connection what came of a call."""
    try:
        result = plain(outcome())
    except RpcError as error:
        post(connection, Refuse(request_id, _writable(error, name)))
    except (Disconnected, ServerStopped):  # there is nobody to answer, or soon will not be
        post(connection, Refuse(request_id, errors.draining()))
    except BaseException:
        logger.exception("x method %s: its handler failed", name)
        post(connection, Refuse(request_id, errors.internal()))
    else:
        post(connection, Reply(request_id, result))


def _writable(error: RpcError, name: str) -> RpcError:
    """Return a handler's error, or another one if a connection could not write it."""
    try:
        encode_error(None, error)
    except Exception as failure:  # without its traceback: that has the error's own text in it
        logger.error("x method %s: its handler's error cannot be written as JSON: %s", name, failure)
        return errors.internal()
    return error


def _params_type(handler: object) -> Any:
    """Return the type of the params that a handler takes; None if it takes none.

    Raises:
        TypeError: it is no handler. The text says what is wrong.

    """
    if not callable(handler):
        raise TypeError(f"a handler is a function, not of type {type(handler).__name__}")
    function = handler if inspect.isroutine(handler) else handler.__call__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("its handler is a coroutine, and there is no event loop here: see trunkline.aio")
    if inspect.isgeneratorfunction(function):
        raise TypeError("its handler is a generator: it sends what it has to say with `call.notify`")
    try:
        parameters = list(inspect.signature(handler, eval_str=True).parameters.values())
    except NameError as error:
        raise TypeError(f"an annotation of its handler cannot be read here: {error}") from error
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in parameters if each.kind in positional]
    needed = [each for each in parameters if each.default is each.empty and each.kind is each.KEYWORD_ONLY]
    if needed or not 1 <= len(taken) <= 2:
        raise TypeError("its handler must take the call, and the params or nothing more")
    return None if len(taken) == 1 else _checked(taken[1])


def _checked(parameter: inspect.Parameter) -> Any:
    takes = parameter.annotation
    if takes is parameter.empty:
        raise TypeError(f"`{parameter.name}` of its handler has no type: that is what params are checked by")
    try:
        is_object = _is_object(msgspec.inspect.type_info(takes))
    except (NameError, TypeError) as error:
        raise TypeError(f"params cannot be checked by the type of `{parameter.name}`: {error}") from error
    if not is_object:
        kinds = "a struct, dataclass, TypedDict or dict"
        raise TypeError(f"params are objects: the type of `{parameter.name}` must be {kinds}")
    return takes


def _is_object(info: msgspec.inspect.Type) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return all(_is_object(each) for each in info.types)
    return isinstance(info, _OBJECTS)


_OBJECTS = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.DictType,
    msgspec.inspect.AnyType,
)
