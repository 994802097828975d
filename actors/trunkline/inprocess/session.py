"""The actor of a client in this process: the rules of every connection, and nothing encoded.

Accepts  what every Connection does but Received; from the client: HostCall, HostAnswer
Sends    what every Connection does; to its link: parcels of events. Answers settle futures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from trunkline.actor import handles
from trunkline.connection import Connection
from trunkline.errors import Disconnected, RpcError
from trunkline.futures import Future
from trunkline.inprocess.link import ANSWER_SIZE, Addressed, InProcessLink, Parcel, Settle
from trunkline.log import Chunk, Event
from trunkline.messages import Broadcast, Deliver, HostAnswer, HostCall
from trunkline.protocol.envelope import IncomingRequest, IncomingResponse, now_ms
from trunkline.protocol.values import given, measure
from trunkline.transports.base import Closed, Framing
from trunkline.types import Json, RequestId, ThreadId

__all__ = ["InProcessSession"]


class InProcessSession(Connection):
    """One in-process client's connection. Takes the arguments of `Connection`, and a `InProcessLink`."""

    _is_in_process: ClassVar[bool] = True
    _link: InProcessLink

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._futures: dict[RequestId, Future[Json]] = {}
        # The answers of the batch. They are settled in their turn among the events, and at the end of the
        # batch if the client is too slow for that: it may be waiting for just this answer.
        self._answers: list[Settle] = []

    def on_batch_end(self) -> None:
        """Hand over what the batch produced."""
        super().on_batch_end()
        self._settle()

    def on_undelivered(self, message: Any) -> None:
        """Answer what came too late."""
        super().on_undelivered(message)
        if isinstance(message, HostCall):
            message.future.fail(self._disconnected())

    @handles(HostCall)
    def _on_host_call(self, message: HostCall) -> None:
        if not self._takes_requests:
            message.future.fail(self._disconnected())
            return
        self._futures[message.id] = message.future
        self._on_request(IncomingRequest(message.id, message.method, message.params))

    @handles(HostAnswer)
    def _on_host_answer(self, message: HostAnswer) -> None:
        self._on_response(IncomingResponse(message.prompt_id, message.result, message.result is None))

    # Out

    def _send_result(self, request_id: RequestId, result: Json) -> None:
        future = self._futures.pop(request_id, None)
        if future is not None:
            self._put_answer(Settle(future, given(result), None))

    def _send_error(self, request_id: RequestId | None, error: RpcError) -> None:
        future = None if request_id is None else self._futures.pop(request_id, None)
        if future is not None:
            self._put_answer(Settle(future, None, error))

    def _put_answer(self, answer: Settle) -> None:
        self._answers.append(answer)
        self._outgoing.put(Parcel((answer,), ANSWER_SIZE))

    def _send_notification(self, method: str, params: Json) -> None:
        event = Event(0, method, None, measure(params), params, now_ms())
        self._outgoing.put(Parcel((Addressed(None, event),), event.size))

    @handles(Deliver)
    def _on_deliver(self, message: Deliver) -> None:
        chunks: Any = tuple([_Addressing(chunk, message.thread_id) for chunk in message.chunks])
        super()._on_deliver(Deliver(message.thread_id, chunks, message.size, message.frames))

    @handles(Broadcast)
    def _on_broadcast(self, message: Broadcast) -> None:
        chunk: Any = _Addressing(message.chunk, message.thread_id)
        super()._on_broadcast(Broadcast(message.thread_id, chunk, message.frames))

    def _put_prompt(self, thread_id: ThreadId, event: Event) -> None:
        self._outgoing.put(Parcel((Addressed(thread_id, event),), event.size))

    @staticmethod
    def _join(outputs: Sequence[Parcel]) -> Parcel:
        items = tuple([item for parcel in outputs for item in parcel.items])
        return Parcel(items, sum([parcel.size for parcel in outputs]))

    # The end

    def _leave(self) -> None:
        super()._leave()
        self._settle()
        futures, self._futures = self._futures, {}
        for future in futures.values():
            future.fail(self._disconnected())

    def _settle(self) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            answer.settle()

    def _disconnected(self) -> Disconnected:
        closed = self._link.closed or Closed(*self._close_with)
        return Disconnected(closed.code, closed.reason)


class _Addressing:
    """A chunk that becomes a parcel where others become bytes: their hot path knows nothing of it."""

    __slots__ = ("_chunk", "_thread_id", "first_seq", "last_seq", "parts", "prompts", "resolved")

    def __init__(self, chunk: Chunk, thread_id: ThreadId) -> None:
        self._chunk = chunk
        self._thread_id = thread_id
        self.parts = chunk.parts
        self.first_seq = chunk.first_seq
        self.last_seq = chunk.last_seq
        self.prompts = chunk.prompts
        self.resolved = chunk.resolved

    def framed(self, _framing: Framing, unwanted: frozenset[str]) -> Parcel:
        """Return the events that are wanted."""
        events: Sequence[Event] = self._chunk.events
        size = self._chunk.size
        if not unwanted.isdisjoint(self._chunk.methods):
            events = [
                event for event in events if event.prompt_id is not None or event.method not in unwanted
            ]
            size = sum([event.size for event in events])
        return Parcel(tuple([Addressed(self._thread_id, event) for event in events]), size)
