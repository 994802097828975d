"""The router of the gateway: as any other, but that the upstream starts, loads and lists the threads.

Accepts  what every router does; from the upstream: Adopt
Sends    what every router does; to the upstream: Ask; to threads: Adopted
"""

from __future__ import annotations

from trunkline.actor import handles, post
from trunkline.context import Context
from trunkline.gateway.messages import Adopt, Adopted, Ask
from trunkline.gateway.methods import PassedParams
from trunkline.gateway.thread import GatewayThread
from trunkline.messages import Ref, Request
from trunkline.router import Router
from trunkline.types import ThreadId

__all__ = ["GatewayRouter"]

_MAKES_THREAD = frozenset({"thread/start", "thread/fork", "thread/resume"})


class GatewayRouter(Router):
    """The one actor that knows every connection and every thread that is loaded here.

    Args:
        context: what the server's actors share.
        upstream: the actor that talks with the upstream.

    """

    def __init__(self, *, context: Context, upstream: Ref) -> None:
        super().__init__(context=context)
        self._upstream = upstream

    def _answer_itself(self, request: Request) -> None:
        params = request.params
        raw = params.raw if isinstance(params, PassedParams) else None
        name = request.method.name
        post(self._upstream, Ask(name, raw, request, makes_thread=name in _MAKES_THREAD))

    def _answer_unloaded(self, request: Request, thread_id: ThreadId) -> None:
        if request.method.name == "thread/unsubscribe":
            self._reply(request, {"status": "notLoaded"})
        else:
            self._answer_itself(request)

    @handles(Adopt)
    def _on_adopt(self, message: Adopt) -> None:
        thread_id, request = message.thread_id, message.request
        thread = GatewayThread.start(
            context=self._context, router=self.actor_ref, upstream=self._upstream, thread_id=thread_id
        )
        loaded = self._enter(thread_id, thread)
        peer = self._peers.get(request.connection_id)
        if peer is not None:
            peer.threads.add(thread_id)
            loaded.peers.add(request.connection_id)
        post(thread, Adopted(None if peer is None else request, message.result))
