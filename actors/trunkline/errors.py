"""Every exception of the library, under one root.

    TrunklineError
     +-- ConfigError            a setting or argument does not fit (we refuse to start)
     |    +-- ListenUrlError    a listen URL does not fit
     +-- StartError             a part could not come up (an address in use, a file not readable)
     +-- ServerStopped          the server was asked for something after stop()
     +-- RpcError               a request failed and is answered with an error (see protocol.errors)
     +-- Overloaded             a host publishes faster than a thread's subscribers read
     +-- PromptRefused          a host's prompt was answered by nobody who agreed to answer
     +-- Disconnected           an in-process connection ended before a request of it was answered
     +-- WouldDeadlock          a thread of the server's was about to wait for what it has to bring itself
     +-- TurnInterrupted        raised inside an agent whose turn was interrupted
     +-- TurnFailed             raised by an agent to end its turn as failed, with a reason for the client

Exceptions hold facts and make their text from them.
"""

from __future__ import annotations

from trunkline.types import Json

__all__ = [
    "ConfigError",
    "Disconnected",
    "ListenUrlError",
    "Overloaded",
    "PromptRefused",
    "RpcError",
    "ServerStopped",
    "StartError",
    "TrunklineError",
    "TurnFailed",
    "TurnInterrupted",
    "WouldDeadlock",
]


class TrunklineError(Exception):
    """The root of the library's exceptions.

    Examples:
        >>> try:
        ...     AppServer().connect()
        ... except TrunklineError as error:
        ...     print(type(error).__name__, error)
        ServerStopped the server is not running

    """


class ConfigError(TrunklineError):
    """A setting does not fit; nothing was started.

    Examples:
        >>> Config(interrupt_grace_s=-1)
        Traceback (most recent call last):
            ...
        trunkline.errors.ConfigError: interrupt_grace_s must be 0 or more, not -1

    """


class ListenUrlError(ConfigError):
    """A listen URL does not fit; nothing was started.

    Examples:
        >>> try:
        ...     AppServer(Config(listen=("http://127.0.0.1:80",)))
        ... except ListenUrlError as error:
        ...     print(error.url)
        http://127.0.0.1:80

    """

    def __init__(self, url: str, accepted: str) -> None:
        super().__init__(url, accepted)
        self.url = url
        self.accepted = accepted

    def __str__(self) -> str:
        return f"unsupported --listen URL `{self.url}`; expected {self.accepted}"


class StartError(TrunklineError):
    """A part of the server could not come up, for a reason outside the program.

    Examples:
        >>> with running_server() as first:
        ...     second = AppServer(Config(listen=(first.url,)))
        ...     try:
        ...         second.start()
        ...     except StartError as error:
        ...         print("Address already in use" in str(error))
        True

    """


class ServerStopped(TrunklineError):
    """The server has been stopped, or was never started.

    Examples:
        >>> AppServer().connect()
        Traceback (most recent call last):
            ...
        trunkline.errors.ServerStopped: the server is not running

    """


class RpcError(TrunklineError):
    """A request failed. Its `code`, `message` and `data` are what the client is sent.

    Examples:
        >>> with AppServer() as server, server.connect() as connection:
        ...     try:
        ...         connection.request("thread/list").get(timeout=PATIENCE_S)
        ...     except RpcError as error:
        ...         print(error.code, error.message)
        -32600 Not initialized

    """

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Overloaded(TrunklineError):
    """So much that was published into a thread is not confirmed that no more is taken for now.

    Examples:
        >>> limits = Limits(max_unconfirmed_events=1)
        >>> with AppServer(agent=None, limits=limits) as server, server.connect() as connection:
        ...     _ = connection.initialize("my-host").get(timeout=PATIENCE_S)
        ...     thread_id = connection.request("thread/start").get(timeout=PATIENCE_S)["thread"]["id"]
        ...     thread = server.thread(thread_id)
        ...     try:
        ...         for number in range(1000):  # without waiting for any
        ...             _ = thread.publish("acme/said", {"number": number})
        ...     except Overloaded:
        ...         print("slower, please")
        slower, please

    """

    def __init__(self, thread_id: str, unconfirmed: int) -> None:
        super().__init__(thread_id, unconfirmed)
        self.thread_id = thread_id
        self.unconfirmed = unconfirmed
        """Events that are not confirmed, about."""

    def __str__(self) -> str:
        return f"thread {self.thread_id} takes no more for now: {self.unconfirmed} events are not confirmed"


class PromptRefused(TrunklineError):
    """A prompt of the host's has ended without an answer. The text says why.

    Examples:
        >>> with AppServer(agent=None) as server, server.connect() as connection:
        ...     _ = connection.initialize("my-host").get(timeout=PATIENCE_S)
        ...     thread_id = connection.request("thread/start").get(timeout=PATIENCE_S)["thread"]["id"]
        ...     answer = server.thread(thread_id).prompt("acme/ask", {"what": "tea?"})
        ...     for delivery in connection:
        ...         if isinstance(delivery, Prompt):
        ...             delivery.refuse()
        ...             break
        ...     try:
        ...         answer.get(timeout=PATIENCE_S)
        ...     except PromptRefused as error:
        ...         print(type(error).__name__)
        PromptRefused

    """


class Disconnected(TrunklineError):
    """An in-process connection has ended. Whether the request was carried out is not known.

    Examples:
        >>> with AppServer() as server:
        ...     connection = server.connect()
        ...     connection.close()
        ...     try:
        ...         connection.request("thread/list").get(timeout=PATIENCE_S)
        ...     except Disconnected as error:
        ...         print(error.code)
        1000

    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """As in `Closed`."""
        self.reason = reason

    def __str__(self) -> str:
        return f"the connection was closed with {int(self.code)}{f': {self.reason}' if self.reason else ''}"


class TurnInterrupted(TrunklineError):
    """The turn was interrupted. Raised inside an agent; let it pass, or clean up and return.

    Examples:
        >>> class Patient(Agent):
        ...     def run_turn(self, turn: Turn) -> None:
        ...         try:
        ...             turn.sleep(1000.0)
        ...         except TurnInterrupted:
        ...             print("clean up")
        ...             raise
        >>> with running_server(agent=Patient) as server:
        ...     client = server.connect("alice")
        ...     thread_id = client.start_thread()
        ...     turn_id = client.start_turn(thread_id, "")
        ...     _ = client.request("turn/interrupt", threadId=thread_id, turnId=turn_id)
        ...     client.wait_turn(turn_id)["status"]
        clean up
        'interrupted'

    """


class TurnFailed(TrunklineError):
    """Raise this in an agent to end the turn as failed. The text is sent to the clients.

    Examples:
        >>> def fail(turn: Turn) -> None:
        ...     raise TurnFailed("the model is not there")
        >>> with running_server(agent=ScriptedAgent(fail)) as server:
        ...     client = server.connect("alice")
        ...     client.run_turn(client.start_thread(), "")["error"]["message"]
        'the model is not there'

    """


class WouldDeadlock(TrunklineError):
    """Code that runs on a thread of the server's wanted to wait for something that this thread has to bring.

    In a delivery function or a future's callback use `Future.add_done_callback`.

    Examples:
        >>> came: Future[str] = Future()
        >>> def on_delivery(delivery: Delivery) -> None:
        ...     if isinstance(delivery, Notification):
        ...         try:
        ...             connection.request("thread/list").get()
        ...         except WouldDeadlock as error:
        ...             came.set(str(error))
        >>> with AppServer(agent=None) as server, server.connect(on_delivery) as connection:
        ...     _ = connection.initialize("my-host")
        ...     _ = connection.request("thread/start")
        ...     came.get(timeout=PATIENCE_S)
        'this thread brings what it would wait for: use add_done_callback'

    """

    def __str__(self) -> str:
        return "this thread brings what it would wait for: use add_done_callback"
