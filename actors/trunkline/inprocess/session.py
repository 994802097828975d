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
from trunkline.messages import HostAnswer, HostCall
from trunkline.protocol.envelope import IncomingRequest, IncomingResponse, now_ms
from trunkline.protocol.values import given, measure
from trunkline.transports.base import Closed
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
        self._put(Parcel((answer,), ANSWER_SIZE))

    def _send_notification(self, method: str, params: Json) -> None:
        event = Event(0, method, None, measure(params), params, now_ms())
        self._put(Parcel((Addressed(None, event),), event.size))

    def _form(self, chunk: Chunk, thread_id: ThreadId) -> Parcel:
        if self._unwanted.isdisjoint(chunk.methods):
            return Parcel(tuple([Addressed(thread_id, event) for event in chunk.events]), chunk.size)
        unwanted = self._unwanted
        wanted = [
            event for event in chunk.events if event.prompt_id is not None or event.method not in unwanted
        ]
        return Parcel(
            tuple([Addressed(thread_id, event) for event in wanted]), sum([event.size for event in wanted])
        )

    def _join(self, outputs: Sequence[Parcel]) -> Parcel:
        if len(outputs) == 1:
            return outputs[0]
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
