"""The methods of the gateway: those that trunkline has to know something of, and every other."""

from __future__ import annotations

from trunkline.access import Scope
from trunkline.protocol.methods import METHODS, Answerer, Method
from trunkline.protocol.methods import read_call as read_own_call
from trunkline.protocol.params import Params
from trunkline.status import STATUS_METHOD
from trunkline.types import Json

__all__ = ["PassedParams", "read_call"]

_STARTS = frozenset({"thread/start", "thread/fork"})
"""Answered with a thread that is not loaded here yet."""

_PRIVATE = {
    "account/logout": Scope.ADMIN,
    "account/read": Scope.DRIVE,
    "config/read": Scope.DRIVE,
    "getAuthStatus": Scope.DRIVE,
}
"""What is nothing here and is the user's own at the upstream."""

_WATCHING = frozenset({"threadId", "excludeTurns", "afterSeq", "epoch"})
"""What a resume may have that changes nothing of the thread."""


class PassedParams(Params, frozen=True):
    """Params that are the upstream's business."""

    raw: Json
    """As they came; None if there were none."""
    thread_id: str = ""
    """The thread they name."""
    after_seq: int | None = None
    epoch: str | None = None
    """Of `thread/resume`: see `ThreadResumeParams`."""


def read_call(name: str, raw_params: Json) -> tuple[Method, Params]:
    """Find a method, whatever it is: one that trunkline has never heard of is for the upstream.

    Raises:
        RpcError: -32602, for the params of a method that is answered here.

    """
    if name in ("initialize", STATUS_METHOD):
        return read_own_call(name, raw_params)
    known = METHODS.get(name)
    thread_id = raw_params.get("threadId") if type(raw_params) is dict else None
    names = thread_id if type(thread_id) is str and name not in _STARTS else ""
    method = Method(
        name,
        PassedParams,
        Answerer.THREAD if names else Answerer.ROUTER,
        scope=_scope(name, raw_params),
        subscribes=name == "thread/resume",
        starts_work=known is not None and known.starts_work,
        experimental=known is not None and known.experimental,
        experimental_fields=() if known is None else known.experimental_fields,
    )
    if name == "thread/resume" and names:
        return method, _read_resume(raw_params)
    return method, PassedParams(raw_params, names)


def _scope(name: str, raw_params: Json) -> Scope:
    """Return what a connection needs: for a method that trunkline has never heard of the most there is."""
    known = METHODS.get(name)
    if known is None:
        return Scope.ADMIN
    params = raw_params if type(raw_params) is dict else {}
    if name == "getAuthStatus" and params.get("includeToken"):
        return Scope.ADMIN
    if name == "thread/resume" and any(params[key] is not None for key in params.keys() - _WATCHING):
        return Scope.DRIVE  # the upstream takes settings from it
    return _PRIVATE.get(name, known.scope)


def _read_resume(raw_params: Json) -> Params:
    """Take out what only trunkline knows."""
    raw = dict(raw_params)
    after_seq, epoch = raw.pop("afterSeq", None), raw.pop("epoch", None)
    return PassedParams(
        raw,
        raw["threadId"],
        after_seq if type(after_seq) is int else None,
        epoch if type(epoch) is str else None,
    )
