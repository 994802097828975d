"""The script agent: does what the turn's text says, a line an action.

For tests, demos and load. Deterministic: no network, no randomness, nothing is run and no file is
touched. The actions are in docs/agents.md; they are the `_ACTIONS` at the end of this file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from trunkline.agents.base import (
    Agent,
    CommandItem,
    Decision,
    FileChangeItem,
    Question,
    Turn,
    input_text,
)
from trunkline.errors import TurnFailed, TurnInterrupted
from trunkline.protocol.even_texts import join, pack

__all__ = ["ScriptAgent"]

# A line is at most this much work at a time; a larger number does not fit, and the line is said back.
_MAX_DELTAS = 99_999_999
_MAX_DELTA_BYTES = 1024 * 1024
_MAX_SLEEP_S = 1_000_000.0

# A delta that has room for it begins with its index in this many digits, enough for _MAX_DELTAS.
_INDEX_DIGITS = 8

# Deltas that are not larger than this are made so many at once, and used again.
_BLOCK = 1_024
_BLOCK_SIZE = 64

_NUMBERS = re.compile(r"(\d{1,8})\s+(\d{1,8})", re.ASCII)
_SECONDS = re.compile(r"\d{1,8}(\.\d{1,9})?", re.ASCII)


class ScriptAgent(Agent):
    """Runs the turn's text as a script.

    A line that is no action, or an action whose arguments do not fit, is said back. Empty lines do
    nothing.
    """

    def run_turn(self, turn: Turn) -> None:
        """Do the actions in order; the first that fails or is cancelled ends the turn."""
        for line in turn.text.split("\n"):
            # Without this a script of nothing but empty lines could not be interrupted.
            turn.check()
            if line.strip():
                _act(turn, line.strip())


def _act(turn: Turn, line: str) -> None:
    word, _, rest = line.partition(" ")
    action = _ACTIONS.get(word)
    rest = rest.strip()
    # Every action takes something, save the one that waits for it.
    if action is None or bool(rest) != (word != "steered") or not action(turn, rest):
        turn.say(line)


# The actions. Each returns whether its arguments fit, and does nothing if they do not.


def _say(turn: Turn, arguments: str) -> bool:
    numbers = _NUMBERS.fullmatch(arguments)
    if numbers is None:
        return False
    count, size = int(numbers[1]), int(numbers[2])
    if count > _MAX_DELTAS or size > _MAX_DELTA_BYTES:
        return False
    is_made_once = count >= _BLOCK and size <= _BLOCK_SIZE
    with turn.message() as message:
        for first in range(0, count, _BLOCK):
            end = min(first + _BLOCK, count)
            texts = _block_of_deltas(size, first) if is_made_once else _deltas(size, range(first, end))
            turn.add_deltas(message.item_id, texts[: end - first])
    return True


@lru_cache(maxsize=128)
def _block_of_deltas(size: int, first: int) -> Sequence[str]:
    """Return some deltas of a message: making them must not be what a load test measures."""
    texts = _deltas(size, range(first, first + _BLOCK))
    return pack(texts, join(texts))


def _deltas(size: int, indices: range) -> Sequence[str]:
    if size < _INDEX_DIGITS:
        return (_filler(size),) * len(indices)
    filler = _filler(size - _INDEX_DIGITS)
    return tuple([f"{index:08}{filler}" for index in indices])


def _text(turn: Turn, words: str) -> bool:
    turn.say(words)
    return True


def _sleep(turn: Turn, seconds: str) -> bool:
    if _SECONDS.fullmatch(seconds) is None or float(seconds) > _MAX_SLEEP_S:
        return False
    turn.sleep(float(seconds))
    return True


def _ask(turn: Turn, command: str) -> bool:
    item = turn.command(command)
    decision = item.ask_approval()
    if decision.accepted:
        item.output(f"pretended to run: {command}\n")
        item.complete("completed", 0)
    else:
        _refuse(item, decision)
    return True


def _patch(turn: Turn, file: str) -> bool:
    diff = f"a line for {file}\n"
    item = turn.file_change([{"path": file, "kind": {"type": "add"}, "diff": diff}])
    decision = item.ask_approval()
    if decision.accepted:
        item.complete("completed")
    else:
        _refuse(item, decision)
    return True


def _refuse(item: CommandItem | FileChangeItem, decision: Decision) -> None:
    item.complete("failed" if decision is Decision.FAILED else "declined")
    if decision is Decision.CANCEL:
        raise TurnInterrupted


def _question(turn: Turn, words: str) -> bool:
    answers = turn.ask_user([Question(id="answer", header="Question", question=words)])
    turn.say(", ".join(answers.get("answer", ())) or "no answer")
    return True


def _steered(turn: Turn, _: str) -> bool:
    steer = turn.wait_steer()
    turn.say(input_text(steer or ()) or "steered without text")
    return True


def _fail(_: Turn, words: str) -> bool:
    raise TurnFailed(words)


def _filler(size: int) -> str:
    """Return `size` characters of ASCII that JSON does not escape, the same ones every time."""
    alphabet = " abcdefghijklmnopqrstuvwxyz"
    return (alphabet * (size // len(alphabet) + 1))[:size]


_Action: TypeAlias = Callable[[Turn, str], bool]

_ACTIONS: dict[str, _Action] = {
    "say": _say,
    "text": _text,
    "sleep": _sleep,
    "ask": _ask,
    "patch": _patch,
    "question": _question,
    "steered": _steered,
    "fail": _fail,
}
