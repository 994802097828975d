"""What agents ask clients, and how an answer is read. Values; any thread may use them."""

from __future__ import annotations

from enum import Enum

import msgspec

from trunkline.agents.events import Answer
from trunkline.types import JsonObject

__all__ = ["Decision", "Question", "question_json", "read_decision", "refusal_json"]


class Decision(Enum):
    """What came of an approval prompt.

    Examples:
        >>> Decision("acceptForSession").accepted, Decision.UNANSWERED.accepted
        (True, False)

    """

    ACCEPT = "accept"
    ACCEPT_FOR_SESSION = "acceptForSession"
    """Accepted, and the same need not be asked again on this thread."""
    DECLINE = "decline"
    """Refused; the turn goes on."""
    CANCEL = "cancel"
    """Refused; the agent should end its turn by raising `TurnInterrupted`."""
    FAILED = "failed"
    """The client answered with an error or with something that is no decision; taken as a refusal."""
    UNANSWERED = "unanswered"
    """Nobody answered in time, or nobody was there to ask; taken as a refusal. The item says which."""

    @property
    def accepted(self) -> bool:
        """Whether the agent may go on."""
        return self in (Decision.ACCEPT, Decision.ACCEPT_FOR_SESSION)


class Question(msgspec.Struct, frozen=True):
    """One question to the user.

    Examples:
        >>> def ask(turn: Turn) -> None:
        ...     question = Question("color", "Color", "Which one?", (("red", "warm"), ("blue", "cold")))
        ...     turn.say(turn.ask_user([question]).get("color", ("none",))[0])
        >>> with running_server(agent=ScriptedAgent(ask)) as server:
        ...     client = server.connect("alice")
        ...     turn_id = client.start_turn(client.start_thread(), "")
        ...     prompt = client.wait("item/tool/requestUserInput")
        ...     client.answer(prompt["id"], {"answers": {"color": {"answers": ["blue"]}}})
        ...     client.wait("item/agentMessage/delta")["params"]["delta"]
        'blue'

    """

    id: str
    header: str
    question: str
    options: tuple[tuple[str, str], ...] = ()
    """(label, description) pairs; empty for a free answer."""
    is_other: bool = False
    """Whether an answer that is none of the options is welcome."""
    is_secret: bool = False
    """Whether the answer should not be shown while it is typed."""


def read_decision(answer: Answer) -> Decision:
    """Read the decision out of an approval's answer."""
    if answer.kind != "result" or answer.result is None:
        return Decision.FAILED if answer.reason is None else Decision.UNANSWERED
    decision = answer.result["decision"]
    if isinstance(decision, dict):  # an amendment: the client wants a rule made of it, mostly to allow
        network = decision.get("applyNetworkPolicyAmendment")
        is_denied = network is not None and network["network_policy_amendment"]["action"] == "deny"
        return Decision.DECLINE if is_denied else Decision.ACCEPT_FOR_SESSION
    return Decision(decision)


def refusal_json(answer: Answer) -> JsonObject:
    """Return what an item records of an answer that no client gave. Not in the reference."""
    return {} if answer.reason is None else {"refusalReason": answer.reason}


def question_json(question: Question) -> JsonObject:
    """Write a question as the wire has it."""
    return {
        "id": question.id,
        "header": question.header,
        "question": question.question,
        "isOther": question.is_other,
        "isSecret": question.is_secret,
        "options": [{"label": label, "description": text} for label, text in question.options] or None,
    }
