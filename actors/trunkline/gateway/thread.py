"""The actor of a thread whose turns the upstream runs.

Accepts  what every loaded thread does; from the router: Adopted; from the upstream: Notified, Prompted,
         Answered, Lost
Sends    what every loaded thread does; to the upstream: Ask, ThreadHere, ThreadGone, Unheard,
         PromptSettled
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.actor import handles, post
from trunkline.context import Context
from trunkline.gateway.engine import GatewayEngine
from trunkline.gateway.messages import Adopted, Answered, Lost, Notified, Prompted, PromptSettled, Unheard
from trunkline.loaded import LoadedThread
from trunkline.messages import Ref, Request, StillLoaded
from trunkline.types import JsonObject, ThreadId

__all__ = ["GatewayThread"]


class GatewayThread(LoadedThread):
    """One loaded thread of the upstream.

    Args:
        context: what the server's actors share.
        router: the server's router.
        upstream: the actor that talks with the upstream.
        thread_id: the thread's id, which is the upstream's own.

    """

    _engine: GatewayEngine

    def __init__(self, *, context: Context, router: Ref, upstream: Ref, thread_id: ThreadId) -> None:
        super().__init__(context=context, router=router, thread_id=thread_id)
        self._upstream = upstream
        self._engine = GatewayEngine(
            seat=self,
            thread=self.actor_ref,
            thread_id=thread_id,
            upstream=upstream,
            feed=self._feed,
            prompts=self._prompts,
        )

    def on_undelivered(self, message: Any) -> None:
        """Deal with what came too late."""
        if isinstance(message, Notified):
            post(self._upstream, Unheard(message.method, message.params))
        elif isinstance(message, Prompted):
            post(self._upstream, PromptSettled(message.generation, message.id, None, is_refused=True))
        elif isinstance(message, Answered):
            if message.ask.request is not None:
                super().on_undelivered(message.ask.request)
        elif isinstance(message, Adopted):
            super().on_undelivered(message.request)
        else:
            super().on_undelivered(message)

    # From the router and the upstream

    @handles(Adopted)
    def _on_adopted(self, message: Adopted) -> None:
        self._engine.begin(message.request, message.result)

    @handles(Notified)
    def _on_notified(self, message: Notified) -> None:
        self._engine.on_notified(message)

    @handles(Prompted)
    def _on_prompted(self, message: Prompted) -> None:
        self._engine.on_prompted(message)

    @handles(Answered)
    def _on_answered(self, message: Answered) -> None:
        self._engine.on_answered(message)

    @handles(Lost)
    def _on_lost(self, _message: Lost) -> None:
        self._engine.on_lost()

    # For the engine

    def subscribe(
        self, request: Request, snapshot: Callable[[], JsonObject], after_seq: int | None = None
    ) -> None:
        """Make the caller a subscriber and answer it."""
        self._subscribe(request, snapshot, after_seq)

    def stay(self) -> None:
        """Tell the router that the thread goes on."""
        post(self._router, StillLoaded(self._id))

    def finish(self) -> None:
        """End the thread here, behind everything published."""
        self._finish()
