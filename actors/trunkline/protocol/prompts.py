"""Prompts: the requests that the server sends to clients, and what an answer must look like."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from trunkline.types import Json, JsonObject

__all__ = ["PROMPTS", "USER_INPUT", "PromptKind", "prompt_kind"]

USER_INPUT = "item/tool/requestUserInput"

Flag: TypeAlias = Literal["waitingOnApproval", "waitingOnUserInput"]
"""What the status of a thread says while a prompt is open."""


class _ExecAmendment(msgspec.Struct):
    execpolicy_amendment: list[str]


class _NetworkRule(msgspec.Struct):
    action: Literal["allow", "deny"]
    host: str


class _NetworkAmendment(msgspec.Struct):
    network_policy_amendment: _NetworkRule


class _Amendment(msgspec.Struct, rename="camel"):
    """A decision that is to become a rule: exactly one of them."""

    accept_with_execpolicy_amendment: _ExecAmendment | msgspec.UnsetType = msgspec.UNSET
    apply_network_policy_amendment: _NetworkAmendment | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        given = [self.accept_with_execpolicy_amendment, self.apply_network_policy_amendment]
        if given.count(msgspec.UNSET) != 1:
            raise ValueError("not one amendment")


class _CommandApproval(msgspec.Struct):
    decision: Literal["accept", "acceptForSession", "decline", "cancel"] | _Amendment


class _FileChangeApproval(msgspec.Struct):
    decision: Literal["accept", "acceptForSession", "decline", "cancel"]


class _QuestionAnswer(msgspec.Struct):
    answers: list[str]


class _UserInput(msgspec.Struct):
    answers: dict[str, _QuestionAnswer]


class PromptKind(msgspec.Struct, frozen=True):
    """A server request."""

    flag: Flag | None
    """The active flag of the thread while one is open."""
    result: type | None
    """What a result must look like; None takes any object."""

    def read(self, result: Json) -> JsonObject | None:
        """Return `result` if it answers the prompt, else None."""
        if type(result) is not dict:
            return None
        if self.result is None:
            return result
        try:
            msgspec.convert(result, self.result)
        except msgspec.ValidationError:
            return None
        return result


_KINDS = {
    "item/commandExecution/requestApproval": PromptKind("waitingOnApproval", _CommandApproval),
    "item/fileChange/requestApproval": PromptKind("waitingOnApproval", _FileChangeApproval),
    "item/permissions/requestApproval": PromptKind("waitingOnApproval", None),
    USER_INPUT: PromptKind("waitingOnUserInput", _UserInput),
}
PROMPTS = frozenset(_KINDS)
"""The protocol's prompts."""

_OTHER = PromptKind(None, None)


def prompt_kind(method: str) -> PromptKind:
    """Return what is known of a server request; an unknown one sets no flag and takes any object."""
    return _KINDS.get(method, _OTHER)
