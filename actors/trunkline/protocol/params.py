"""The params of each method, checked when they come in.

A missing or null `params` is taken as `{}`, and null for an optional member as absent: the terminal
client sends nearly every member, most of them null. Members that this server does not use are not
declared and not checked.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from trunkline.protocol import errors
from trunkline.protocol.values import is_too_deep
from trunkline.types import Json, JsonObject

__all__ = [
    "ApprovalPolicyParam",
    "Capabilities",
    "ClientInfo",
    "EmptyParams",
    "ForkParams",
    "InitializeParams",
    "ItemsListParams",
    "LoadedListParams",
    "NameSetParams",
    "Params",
    "RevertParams",
    "ThreadIdParams",
    "ThreadListParams",
    "ThreadReadParams",
    "ThreadResumeParams",
    "ThreadStartParams",
    "TurnInterruptParams",
    "TurnStartParams",
    "TurnSteerParams",
    "TurnsListParams",
    "check_turn_input",
    "convert_params",
    "convert_to",
]

SandboxMode: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]
ApprovalPolicyParam: TypeAlias = Literal["untrusted", "on-request", "never"] | dict[Literal["granular"], Any]


class Params(msgspec.Struct, frozen=True, rename="camel"):
    """The root of all params."""


class EmptyParams(Params, frozen=True):
    """A method without params."""


class ClientInfo(Params, frozen=True):
    """Who the client says it is."""

    name: str
    version: str
    title: str | None = None


class Capabilities(Params, frozen=True):
    """What the client can do and does not want."""

    experimental_api: bool | None = None
    opt_out_notification_methods: list[str] | None = None
    """Exact names of notifications that this connection is not sent; unknown names are accepted."""


class InitializeParams(Params, frozen=True):
    """`initialize`."""

    client_info: ClientInfo
    capabilities: Capabilities | None = None


class ThreadIdParams(Params, frozen=True):
    """Methods that name a thread and nothing else."""

    thread_id: str


class ThreadStartParams(Params, frozen=True):
    """`thread/start`."""

    cwd: str | None = None
    model: str | None = None
    model_provider: str | None = None
    approval_policy: ApprovalPolicyParam | None = None
    approvals_reviewer: Literal["user", "auto_review", "guardian_subagent"] | None = None
    sandbox: SandboxMode | None = None
    config: JsonObject | None = None
    ephemeral: bool | None = None
    thread_source: str | None = None


class ThreadResumeParams(Params, frozen=True):
    """`thread/resume`."""

    thread_id: str
    exclude_turns: bool | None = None
    after_seq: int | None = None
    """Not in the reference: the last event of the thread that the client has; it wants those behind it."""
    epoch: str | None = None
    """Not in the reference: the thread's epoch when it got that event; required with `after_seq`."""
    cwd: str | None = None
    model: str | None = None
    approval_policy: ApprovalPolicyParam | None = None
    approvals_reviewer: Literal["user", "auto_review", "guardian_subagent"] | None = None
    sandbox: SandboxMode | None = None


class ThreadReadParams(Params, frozen=True):
    """`thread/read`."""

    thread_id: str
    include_turns: bool | None = None


class NameSetParams(Params, frozen=True):
    """`thread/name/set`."""

    thread_id: str
    name: str


class LoadedListParams(Params, frozen=True):
    """`thread/loaded/list`."""

    limit: int | None = None
    cursor: str | None = None


class ForkParams(Params, frozen=True):
    """`thread/fork`."""

    thread_id: str
    last_turn_id: str | None = None
    """The last turn that is copied; None copies all."""
    ephemeral: bool | None = None
    exclude_turns: bool | None = None
    cwd: str | None = None
    model: str | None = None
    approval_policy: ApprovalPolicyParam | None = None
    approvals_reviewer: Literal["user", "auto_review", "guardian_subagent"] | None = None
    sandbox: SandboxMode | None = None
    thread_source: str | None = None


class RevertParams(Params, frozen=True):
    """`thread/revert`."""

    thread_id: str
    before_turn_id: str
    """This turn and all later ones are dropped."""


class TurnsListParams(Params, frozen=True):
    """`thread/turns/list`."""

    thread_id: str
    limit: int | None = None
    cursor: str | None = None
    sort_direction: Literal["asc", "desc"] | None = None
    items_view: Literal["notLoaded", "summary", "full"] | None = None


class ItemsListParams(Params, frozen=True):
    """`thread/items/list`."""

    thread_id: str
    turn_id: str | None = None
    limit: int | None = None
    cursor: str | None = None
    sort_direction: Literal["asc", "desc"] | None = None


class ThreadListParams(Params, frozen=True):
    """`thread/list`."""

    limit: int | None = None
    cursor: str | None = None
    sort_key: Literal["created_at", "updated_at", "recency_at", "section_position"] | None = None
    sort_direction: Literal["asc", "desc"] | None = None
    archived: bool | None = None
    cwd: str | list[str] | None = None
    search_term: str | None = None
    source_kinds: list[Json] | None = None
    model_providers: list[str] | None = None
    section_id: str | None = None


class _TextInput(Params, frozen=True, tag="text"):
    text: str


class _ImageInput(Params, frozen=True, tag="image"):
    url: str


class _LocalImageInput(Params, frozen=True, tag="localImage"):
    path: str


class _AudioInput(Params, frozen=True, tag="audio"):
    pass


class _LocalAudioInput(Params, frozen=True, tag="localAudio"):
    path: str


class _SkillInput(Params, frozen=True, tag="skill"):
    name: str
    path: str


class _MentionInput(Params, frozen=True, tag="mention"):
    name: str
    path: str


_UserInput: TypeAlias = (
    _TextInput | _ImageInput | _LocalImageInput | _AudioInput | _LocalAudioInput | _SkillInput | _MentionInput
)


class _WithInput(Params, frozen=True):
    """Params with user input; `input` is given on as it came, once its shape has been checked."""

    def __post_init__(self) -> None:
        # dec: msgspec turns a ValueError in here into one that names the place.
        _check_input(self.input)  # type: ignore[attr-defined]


class TurnStartParams(_WithInput, frozen=True):
    """`turn/start`."""

    thread_id: str
    input: list[JsonObject]
    cwd: str | None = None
    model: str | None = None
    approval_policy: ApprovalPolicyParam | None = None
    approvals_reviewer: Literal["user", "auto_review", "guardian_subagent"] | None = None
    sandbox_policy: JsonObject | None = None
    client_user_message_id: str | None = None
    output_schema: JsonObject | None = None
    """The form that the answer of the turn must have; the agents of this server take none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_can_be_sent(self.sandbox_policy, "sandboxPolicy")


class TurnSteerParams(_WithInput, frozen=True):
    """`turn/steer`."""

    thread_id: str
    expected_turn_id: str
    input: list[JsonObject]
    client_user_message_id: str | None = None


class TurnInterruptParams(Params, frozen=True):
    """`turn/interrupt`."""

    thread_id: str
    turn_id: str


P = TypeVar("P", bound=Params)


def convert_params(raw: Json, params_type: type[P]) -> P:
    """Check the `params` member of a request.

    Raises:
        RpcError: -32602, with a text that names the member and says what is wrong with it.

    """
    converted: P = convert_to(raw, params_type)
    return converted


def convert_to(raw: Json, params_type: Any) -> Any:
    """Do the same with a type of any kind: a dataclass, a typed dictionary."""
    if raw is None:
        raw = {}
    elif type(raw) is not dict:
        raise errors.invalid_params("`params` must be an object")
    try:
        return msgspec.convert(raw, params_type)
    except msgspec.ValidationError as error:
        raise errors.invalid_params(_explain(str(error))) from None


def check_turn_input(params: TurnStartParams | TurnSteerParams) -> None:
    """Refuse what is well formed and cannot be taken.

    Raises:
        RpcError: the input is too long, or the answer is to have a form that the client gives.

    """
    chars = sum(len(part["text"]) for part in params.input if part.get("type") == "text")
    if chars > errors.MAX_INPUT_CHARS:
        raise errors.input_too_long(chars)
    if isinstance(params, TurnStartParams) and params.output_schema is not None:
        raise errors.invalid_request("outputSchema is not supported: the agent answers in a form of its own")


def _check_input(parts: list[JsonObject]) -> None:
    for index, part in enumerate(parts):
        try:
            msgspec.convert(part, _UserInput)
        except msgspec.ValidationError as error:
            text, _, place = str(error).partition(" - at `$")
            raise ValueError(f"{text} - at `$.input[{index}]{place.rstrip('`')}`") from None
        _check_can_be_sent(part, f"input[{index}]")


def _check_can_be_sent(value: Json, place: str) -> None:
    """Refuse what can be read but not be written again, inside the messages that others are sent."""
    if is_too_deep(value):
        raise ValueError(f"nested too deeply - at `$.{place}`")


_PLACE = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<path>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]+)`")


def _explain(text: str) -> str:
    """Put msgspec's words in the order: which member, what is wrong."""
    place = _PLACE.match(text)
    what, path = (place["what"], place["path"]) if place else (text, "")
    missing = _MISSING.match(what)
    if missing:
        return f"missing field `{path + '.' if path else ''}{missing['name']}`"
    return f"`{path}`: {what}" if path else what
