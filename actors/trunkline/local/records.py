"""Records of threads: made for a new thread, changed by a client's settings, copied for a fork."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from trunkline.agents.base import ApprovalPolicy
from trunkline.protocol.ids import uuid7
from trunkline.protocol.params import (
    ApprovalPolicyParam,
    ForkParams,
    ThreadResumeParams,
    ThreadStartParams,
    TurnStartParams,
)
from trunkline.store.base import ThreadRecord
from trunkline.types import JsonObject, ThreadId

__all__ = ["changed_record", "fork_record", "ignored_settings", "new_record"]

_SANDBOXES: dict[str, JsonObject] = {
    "read-only": {"type": "readOnly", "networkAccess": False},
    "workspace-write": {
        "type": "workspaceWrite",
        "writableRoots": [],
        "networkAccess": False,
        "excludeTmpdirEnvVar": False,
        "excludeSlashTmp": False,
    },
    "danger-full-access": {"type": "dangerFullAccess"},
}

_RESUME_SETTINGS = {
    "cwd": "cwd",
    "model": "model",
    "approvalPolicy": "approval_policy",
    "approvalsReviewer": "approvals_reviewer",
    "sandbox": "sandbox",
}
"""What a resume may name, on the wire and in the record."""


def new_record(params: ThreadStartParams, *, base: Path, agent_name: str) -> ThreadRecord:
    """Return the record of a new thread.

    Args:
        params: what the client wants.
        base: what a relative working directory is relative to.
        agent_name: the model, unless the client names one.

    """
    now = int(time.time())
    thread_id = ThreadId(uuid7())
    record = ThreadRecord(
        id=thread_id,
        session_id=thread_id,
        cwd=str(base),
        created_at=now,
        updated_at=now,
        is_ephemeral=bool(params.ephemeral),
        thread_source=params.thread_source,
        model=agent_name,
        model_provider=params.model_provider or "local",
        epoch=uuid7(),
    )
    return changed_record(record, params)


def ignored_settings(record: ThreadRecord, params: ThreadResumeParams) -> list[str]:
    """Return the settings that a resume asks for and the thread does not have, by their names on the wire.

    They stay as they are: who may watch a thread may resume it, and must not change what others run in it.
    """
    wanted = changed_record(record, params)
    return [
        wire_name
        for wire_name, name in _RESUME_SETTINGS.items()
        if getattr(wanted, name) != getattr(record, name)
    ]


def changed_record(
    record: ThreadRecord, params: ThreadStartParams | ThreadResumeParams | ForkParams | TurnStartParams
) -> ThreadRecord:
    """Return `record` with the settings that a client gave."""
    changes: dict[str, Any] = {}
    if params.cwd is not None:
        changes["cwd"] = str(Path(record.cwd, params.cwd))
    if params.model is not None:
        changes["model"] = params.model
    if params.approval_policy is not None:
        changes["approval_policy"] = _approval_policy(params.approval_policy)
    if params.approvals_reviewer is not None:
        changes["approvals_reviewer"] = params.approvals_reviewer
    if isinstance(params, TurnStartParams):
        if params.sandbox_policy is not None:
            changes["sandbox"] = params.sandbox_policy
    elif params.sandbox is not None:
        changes["sandbox"] = _SANDBOXES[params.sandbox]
    return msgspec.structs.replace(record, **changes) if changes else record


def fork_record(source: ThreadRecord, params: ForkParams) -> ThreadRecord:
    """Return the record of a fork."""
    now = int(time.time())
    thread_id = ThreadId(uuid7())
    record = msgspec.structs.replace(
        source,
        id=thread_id,
        session_id=thread_id,
        forked_from_id=source.id,
        created_at=now,
        updated_at=now,
        name=None,
        is_ephemeral=bool(params.ephemeral),
        is_archived=False,
        epoch=uuid7(),
        seq_bound=0,
        thread_source=params.thread_source,
    )
    return changed_record(record, params)


def _approval_policy(given: ApprovalPolicyParam) -> ApprovalPolicy:
    """Read a policy; a granular one means that the agent asks when it thinks it should."""
    return "on-request" if isinstance(given, dict) else given
