"""Methods about products that this server does not have: accounts, plugins, skills, hooks and such.

Clients made for the reference ask for them when they start, and some end if they are refused. Each is
answered here with the smallest truthful answer: there is none of it. What is not in this table and not
in `protocol.methods` is an unknown method.
"""

from __future__ import annotations

import msgspec

from trunkline.protocol import errors
from trunkline.protocol.params import ThreadStartParams
from trunkline.types import JsonObject

__all__ = ["PRODUCT_METHODS", "ProductMethod", "check_start", "product_answer"]


class ProductMethod(msgspec.Struct, frozen=True):
    """A method and what is always answered."""

    name: str
    answer: JsonObject
    experimental: bool = False
    """Whether it needs the capability `experimentalApi`."""


_NOTHING: JsonObject = {"data": [], "nextCursor": None}

_ROWS = (
    # Nobody logs in here: who may connect is for the transport to say.
    ProductMethod("account/read", {"account": None, "requiresOpenaiAuth": False}),
    ProductMethod("account/logout", {}),
    ProductMethod("account/rateLimits/read", {"rateLimits": {}}),
    ProductMethod(
        "account/bedrock/checkGovCloudRequirements",
        {"isGovCloud": False, "shouldWarn": False},
        experimental=True,
    ),
    ProductMethod("getAuthStatus", {"authMethod": None, "authToken": None, "requiresOpenaiAuth": False}),
    # The settings of the server are not a client's to read, and it is asked for no others.
    ProductMethod("config/read", {"config": {}, "origins": {}, "layers": None}),
    ProductMethod("configRequirements/read", {"requirements": None}),
    ProductMethod("experimentalFeature/list", _NOTHING),
    ProductMethod("permissionProfile/list", _NOTHING),
    ProductMethod("collaborationMode/list", {"data": []}, experimental=True),
    # What agents of the reference can be extended with.
    ProductMethod("app/list", _NOTHING),
    ProductMethod("hooks/list", {"data": []}),
    ProductMethod("mcpServerStatus/list", _NOTHING),
    ProductMethod("plugin/list", {"marketplaces": [], "marketplaceLoadErrors": [], "featuredPluginIds": []}),
    ProductMethod("plugin/installed", {"marketplaces": [], "marketplaceLoadErrors": []}),
    ProductMethod("skills/list", {"data": []}),
    # Of a thread, or of all threads, whichever they are.
    ProductMethod("thread/backgroundTerminals/list", _NOTHING, experimental=True),
    ProductMethod("thread/goal/get", {"goal": None}),
    ProductMethod("threadSection/list", _NOTHING),
)

_MODELS = "model/list"

PRODUCT_METHODS = (*_ROWS, ProductMethod(_MODELS, {}))
"""All of them."""

_ANSWERS = {method.name: method.answer for method in _ROWS}


def product_answer(method: str, agent_name: str) -> JsonObject | None:
    """Return the result of a product method; None if `method` is none.

    Args:
        method: its name.
        agent_name: what answers the turns here, which clients are shown as the one model there is.

    """
    return _model_list(agent_name) if method == _MODELS else _ANSWERS.get(method)


def check_start(params: ThreadStartParams) -> None:
    """Refuse a thread that is for a product.

    The terminal client has a model make up a title for its task: beside the first turns it starts a thread
    of its own for that, with instructions as its input. An agent would take them for its work, and a shell
    run them. The client does without a title.

    Raises:
        RpcError: the thread is to make up a title.

    """
    if params.thread_source == "thread_title":
        raise errors.invalid_request("titles are not supported: name the thread with thread/name/set")


def _model_list(agent_name: str) -> JsonObject:
    model = {
        "id": agent_name,
        "model": agent_name,
        "displayName": agent_name,
        "description": "the agent of this server",
        "hidden": False,
        "isDefault": True,
        "supportedReasoningEfforts": [],
        "defaultReasoningEffort": "medium",  # there has to be one
    }
    return {"data": [model], "nextCursor": None}
