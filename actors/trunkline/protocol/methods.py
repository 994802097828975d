"""The table of methods: who answers each, with which params, and what it needs.

The one place a method is named on its way in. Adding a method is a row here and a handler in the
actor that answers it.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from trunkline.access import Scope
from trunkline.protocol import errors
from trunkline.protocol.params import (
    EmptyParams,
    ForkParams,
    InitializeParams,
    ItemsListParams,
    LoadedListParams,
    NameSetParams,
    Params,
    RevertParams,
    ThreadIdParams,
    ThreadListParams,
    ThreadReadParams,
    ThreadResumeParams,
    ThreadStartParams,
    TurnInterruptParams,
    TurnsListParams,
    TurnStartParams,
    TurnSteerParams,
    convert_params,
)
from trunkline.protocol.product import PRODUCT_METHODS
from trunkline.types import Json

__all__ = ["EXPERIMENTAL_NOTIFICATIONS", "METHODS", "Answerer", "Method", "check_experimental", "read_call"]


class Answerer(Enum):
    """Which actor answers a method."""

    CONNECTION = "connection"
    ROUTER = "router"
    THREAD = "thread"
    """The thread that the params name, found by the router."""
    HOST = "host"
    """No actor: a function of the host's."""


class Method(msgspec.Struct, frozen=True):
    """A method of the wire."""

    name: str
    params: type[Params]
    answerer: Answerer
    scope: Scope = Scope.ADMIN
    """What a connection needs to call it; `initialize` needs none. One that nobody has thought about
    needs the most."""
    subscribes: bool = False
    """Whether it makes the caller a subscriber of the thread."""
    starts_work: bool = False
    """Whether it is refused while the server drains."""
    experimental: bool = False
    """Whether it needs the capability `experimentalApi`."""
    experimental_fields: tuple[str, ...] = ()
    """Params that need it, unless they are null."""


_START_FIELDS = (
    "historyMode",
    "dynamicTools",
    "environments",
    "permissions",
    "runtimeWorkspaceRoots",
    "selectedCapabilityRoots",
    "multiAgentMode",
    "experimentalRawEvents",
    "allowProviderModelFallback",
    "projectId",
    "daybreakEnabled",
    "mockExperimentalField",
)
_RESUME_FIELDS = ("history", "path", "initialTurnsPage", "permissions", "runtimeWorkspaceRoots")
_FORK_FIELDS = ("beforeTurnId", "path", "permissions", "runtimeWorkspaceRoots", "attachToSource")
_LIST_FIELDS = ("parentThreadId", "ancestorThreadId", "attachedToThreadId", "projectId")
_TURN_FIELDS = (
    "collaborationMode",
    "environments",
    "permissions",
    "additionalContext",
    "runtimeWorkspaceRoots",
    "multiAgentMode",
    "responsesapiClientMetadata",
)

_ROWS = (
    Method("initialize", InitializeParams, Answerer.CONNECTION),
    Method("trunkline/status", EmptyParams, Answerer.CONNECTION, scope=Scope.ADMIN),
    Method(
        "mock/experimentalMethod", EmptyParams, Answerer.CONNECTION, scope=Scope.ATTACH, experimental=True
    ),
    Method(
        "thread/start",
        ThreadStartParams,
        Answerer.ROUTER,
        scope=Scope.DRIVE,
        subscribes=True,
        starts_work=True,
        experimental_fields=_START_FIELDS,
    ),
    Method(
        "thread/resume",
        ThreadResumeParams,
        Answerer.THREAD,
        scope=Scope.ATTACH,
        subscribes=True,
        starts_work=True,
        experimental_fields=_RESUME_FIELDS,
    ),
    Method(
        "thread/fork",
        ForkParams,
        Answerer.THREAD,
        scope=Scope.DRIVE,
        starts_work=True,
        experimental_fields=_FORK_FIELDS,
    ),
    Method(
        "thread/revert", RevertParams, Answerer.THREAD, scope=Scope.DRIVE, subscribes=True, starts_work=True
    ),
    Method("thread/archive", ThreadIdParams, Answerer.THREAD, scope=Scope.DRIVE),
    Method("thread/unarchive", ThreadIdParams, Answerer.THREAD, scope=Scope.DRIVE),
    Method("thread/delete", ThreadIdParams, Answerer.THREAD, scope=Scope.ADMIN),
    Method("thread/turns/list", TurnsListParams, Answerer.THREAD, scope=Scope.ATTACH),
    Method("thread/items/list", ItemsListParams, Answerer.THREAD, scope=Scope.ATTACH),
    Method("thread/unsubscribe", ThreadIdParams, Answerer.THREAD, scope=Scope.ATTACH),
    Method("thread/loaded/list", LoadedListParams, Answerer.ROUTER, scope=Scope.ATTACH),
    Method(
        "thread/list", ThreadListParams, Answerer.ROUTER, scope=Scope.ATTACH, experimental_fields=_LIST_FIELDS
    ),
    Method("thread/read", ThreadReadParams, Answerer.THREAD, scope=Scope.ATTACH),
    Method("thread/name/set", NameSetParams, Answerer.THREAD, scope=Scope.DRIVE),
    Method(
        "turn/start",
        TurnStartParams,
        Answerer.THREAD,
        scope=Scope.DRIVE,
        starts_work=True,
        experimental_fields=_TURN_FIELDS,
    ),
    Method("turn/steer", TurnSteerParams, Answerer.THREAD, scope=Scope.DRIVE),
    Method("turn/interrupt", TurnInterruptParams, Answerer.THREAD, scope=Scope.DRIVE),
    *(
        Method(
            product.name,
            EmptyParams,
            Answerer.CONNECTION,
            scope=Scope.ATTACH,
            experimental=product.experimental,
        )
        for product in PRODUCT_METHODS
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
"""Every method, by name."""

EXPERIMENTAL_NOTIFICATIONS = frozenset(
    {"thread/settings/updated", "thread/readState/changed", "thread/queue/changed", "project/changed"}
)
"""Notifications that only connections with `experimentalApi` are sent."""


def read_call(name: str, raw_params: Json) -> tuple[Method, Params]:
    """Find a method and check its params.

    Raises:
        RpcError: -32601 for a method that is not in the table, -32602 for params that do not fit.

    """
    method = METHODS.get(name)
    if method is None:
        raise errors.method_not_found(name)
    return method, convert_params(raw_params, method.params)


def check_experimental(method: Method, raw_params: Json) -> None:
    """Refuse what needs the capability `experimentalApi`, for a connection that has not got it.

    Raises:
        RpcError: -32600, naming the method, field or variant.

    """
    if method.experimental:
        raise errors.needs_experimental(method.name)
    if type(raw_params) is not dict:
        return
    for field in method.experimental_fields:
        if raw_params.get(field) is not None:
            raise errors.needs_experimental(f"{method.name}.{field}")
    if type(raw_params.get("approvalPolicy")) is dict:
        raise errors.needs_experimental("askForApproval.granular")
