"""What an answer to a prompt of the upstream must have, at least.

What its members may be is for the upstream to say: a newer one may know decisions that trunkline does
not. But an answer that has none of them is that of a client which answers whatever it does not know with
`{}`, and that must not speak for those who can decide.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.protocol.prompts import PromptKind

__all__ = ["upstream_prompt"]


class _Decision(msgspec.Struct):
    decision: Any


class _Answers(msgspec.Struct):
    answers: Any


class _Permissions(msgspec.Struct):
    permissions: Any


class _Elicited(msgspec.Struct):
    action: Any


class _ToolResult(msgspec.Struct, rename="camel"):
    content_items: Any


_RESULTS: dict[str, type] = {
    "item/commandExecution/requestApproval": _Decision,
    "item/fileChange/requestApproval": _Decision,
    "applyPatchApproval": _Decision,
    "execCommandApproval": _Decision,
    "item/tool/requestUserInput": _Answers,
    "item/permissions/requestApproval": _Permissions,
    "mcpServer/elicitation/request": _Elicited,
    "item/tool/call": _ToolResult,
}


def upstream_prompt(method: str) -> PromptKind:
    """Return what is known of a prompt of the upstream; the answer to an unknown one may be any object.

    The upstream tells the status of its threads itself.
    """
    return PromptKind(None, _RESULTS.get(method))
