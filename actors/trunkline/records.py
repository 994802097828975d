"""Records of threads: made for a new thread, changed by a client's settings, copied for a fork."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from trunkline.agents.base import ApprovalPolicy
from trunkline.conversation import Conversation, TurnState
from trunkline.protocol import errors
from trunkline.protocol.ids import uuid7
from trunkline.protocol.params import ApprovalPolicyParam, ForkParams, ThreadStartParams, TurnStartParams
from trunkline.store.base import StoredItem, StoredThread, StoredTurn, ThreadRecord, ended_record
from trunkline.types import JsonObject, ThreadId

__all__ = ["changed_record", "fork_copy", "new_record"]

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


def changed_record(
    record: ThreadRecord, params: ThreadStartParams | ForkParams | TurnStartParams
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


def fork_copy(conversation: Conversation, params: ForkParams) -> StoredThread:
    """Return what a fork begins with: the completed items of the turns up to the one named.

    A turn that is running is `interrupted` in the copy; it goes on in the source. Turn ids are kept.

    Raises:
        RpcError: the turn that is named is not there, or still running.

    """
    turns = [_copy_turn(turn) for turn in _turns_to_copy(conversation, params.last_turn_id)]
    now = int(time.time())
    thread_id = ThreadId(uuid7())
    record = msgspec.structs.replace(
        conversation.record,
        id=thread_id,
        session_id=thread_id,
        forked_from_id=conversation.record.id,
        created_at=now,
        updated_at=now,
        name=None,
        is_ephemeral=bool(params.ephemeral),
        is_archived=False,
        epoch=uuid7(),
        seq_bound=0,
        thread_source=params.thread_source,
    )
    return StoredThread(changed_record(record, params), tuple(turns))


def _turns_to_copy(conversation: Conversation, last_turn_id: str | None) -> list[TurnState]:
    turns = conversation.turns
    if last_turn_id is None:
        return turns
    for index, turn in enumerate(turns):
        if turn.id == last_turn_id:
            if turn is conversation.running:
                raise errors.invalid_request(f"lastTurnId '{last_turn_id}' identifies an in-progress turn")
            return turns[: index + 1]
    raise errors.invalid_request(f"turn not found: {last_turn_id}")


def _copy_turn(turn: TurnState) -> StoredTurn:
    items = [
        StoredItem(item.id, item.payload, item.position)
        for item in turn.items.values()
        if item.payload is not None
    ]
    return StoredTurn(ended_record(turn.record), tuple(items))


def _approval_policy(given: ApprovalPolicyParam) -> ApprovalPolicy:
    """Read a policy; a granular one means that the agent asks when it thinks it should."""
    return "on-request" if isinstance(given, dict) else given
