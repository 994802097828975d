"""Names of a host's own: its methods, its notifications and its prompts, beside those of the protocol."""

from __future__ import annotations

import re

from trunkline.protocol.methods import METHODS
from trunkline.protocol.prompts import PROMPTS

__all__ = ["RESERVED", "check_own_name", "check_prompt_name"]

MAX_CHARS = 128

_FORM = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)+")

RESERVED = frozenset(
    {method.partition("/")[0] for method in METHODS}
    | {prompt.partition("/")[0] for prompt in PROMPTS}
    # What the reference has besides, in any direction: a client of its own takes such a name for its own.
    | {
        *("attestation", "autoApprovalReview", "codex", "command", "currentTime", "environment"),
        *("externalAgentConfig", "feedback", "fs", "fuzzyFileSearch", "hook", "marketplace", "mcpServer"),
        *("memory", "modelProvider", "process", "project", "rawResponseItem", "remoteControl", "review"),
        *("rpc", "serverRequest", "trunkline", "windows", "windowsSandbox"),
    }
)
"""First parts of names that belong to the protocol, now or later."""


def check_own_name(name: str) -> None:
    """See that a host may use a name: `vendor/name`, where the protocol has nothing under `vendor/`.

    Raises:
        ValueError: it may not; the text says why.

    """
    if len(name) > MAX_CHARS or not _FORM.fullmatch(name):
        raise ValueError(f"a name of your own has the form `vendor/name`, not `{name[:MAX_CHARS]}`")
    vendor = name.partition("/")[0]
    if vendor in RESERVED:
        raise ValueError(f"`{name}`: what begins with `{vendor}/` is the protocol's own")


def check_prompt_name(name: str) -> None:
    """See that a host may ask under a name: one of its own, or one of the protocol's prompts.

    Raises:
        ValueError: it may not; the text says why.

    """
    if name not in PROMPTS:
        check_own_name(name)
