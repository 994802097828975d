"""The gateway's catalog: the upstream starts, loads, forks and lists the threads.

A plain object that belongs to the Router actor and is called by it alone.

Takes    Adopt, from the upstream
Sends    to the upstream: UseRouter, Ask
         to connections:  Reply
"""

from __future__ import annotations

from trunkline.actor import post
from trunkline.context import Context
from trunkline.engines import Desk, Engine, Handlers, Numbering, Seat
from trunkline.errors import RpcError
from trunkline.gateway.engine import GatewayEngine
from trunkline.gateway.messages import Adopt, Ask, UseRouter
from trunkline.gateway.methods import PassedParams
from trunkline.messages import Ref, Refuse, Reply, Request
from trunkline.protocol.ids import is_uuid, parse_uuid, uuid7
from trunkline.types import ThreadId

__all__ = ["GatewayCatalog"]

_MAKES_THREAD = frozenset({"thread/start", "thread/fork", "thread/resume"})


class GatewayCatalog:
    """The threads of the upstream.

    Args:
        desk: the server's router.
        upstream: the actor that talks with the upstream.
        context: what the server's actors share.

    """

    def __init__(self, *, desk: Desk, upstream: Ref, context: Context) -> None:
        self._desk = desk
        self._upstream = upstream
        self._context = context

    @property
    def handlers(self) -> Handlers:
        """What only it knows."""
        return {Adopt: self._on_adopt}

    def begin(self) -> None:
        """Let the upstream be started: from now on there is somebody to be told what it says."""
        post(self._upstream, UseRouter(self._desk.actor_ref))

    def thread_id(self, request: Request) -> ThreadId:
        """Return the thread that a request names. How ids look is the upstream's business."""
        assert isinstance(request.params, PassedParams)
        given = request.params.thread_id
        if is_uuid(given):
            return ThreadId(given)
        try:
            return ThreadId(parse_uuid(given))
        except ValueError:
            return ThreadId(given)

    def answer(self, request: Request) -> None:
        """Have the upstream answer."""
        assert isinstance(request.params, PassedParams)
        name = request.method.name
        makes_thread = name in _MAKES_THREAD
        if makes_thread:
            self._desk.check_room()
        post(self._upstream, Ask(name, request.params.raw, request, makes_thread=makes_thread))

    def answer_unloaded(self, request: Request, thread_id: ThreadId) -> None:
        """Have the upstream answer; a thread that is not loaded here has no subscribers to lose."""
        if request.method.name == "thread/unsubscribe":
            post(request.reply_to, Reply(request.id, {"status": "notLoaded"}))
        else:
            self.answer(request)

    def _on_adopt(self, message: Adopt) -> None:
        """Load the thread that the upstream has started or loaded."""
        if self._desk.is_loaded(message.thread_id):  # for somebody who asked at the same time
            self._pass_again(message.request, message.thread_id)
            return
        request = message.request if self._desk.is_connected(message.request) else None

        def make_engine(seat: Seat) -> Engine:
            return GatewayEngine(
                seat=seat,
                thread_id=message.thread_id,
                upstream=self._upstream,
                context=self._context,
                request=request,
                result=message.result,
            )

        self._desk.load(message.thread_id, Numbering(epoch=uuid7()), make_engine)
        self._desk.note_subscriber(message.request, message.thread_id)

    def _pass_again(self, request: Request, thread_id: ThreadId) -> None:
        # The answer that came is not used: events may have followed it that the thread has told already.
        try:
            self._desk.pass_to_thread(request, thread_id)
        except RpcError as error:
            post(request.reply_to, Refuse(request.id, error))
