"""What a server may ask its clients, and how a person answers it on a line of text.

A `Prompt` is one open server request: what to show, what to ask, and what the answer means on the wire. It
knows neither the console nor the connection.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from trunkline_cli.client import RequestId, ServerRequest
from trunkline_cli.text import Palette, shorten, visible, visible_lines

__all__ = ["Approval", "NotUnderstood", "Prompt", "Questions", "read_prompt"]

JsonObject: TypeAlias = dict[str, Any]

_CHOICES = (
    ("accept", "y", "yes"),
    ("acceptForSession", "a", "always"),
    ("decline", "n", "no"),
    ("cancel", "c", "cancel"),
)
"""The decisions of an approval, the key for each, and the whole word."""


SUBJECT_CHARS = 60
"""What is told of a command that can be seen in full elsewhere."""


class NotUnderstood(Exception):
    """The line is no answer to the question. The text says what would be."""


class Prompt(Protocol):
    """A server request that waits for an answer."""

    id: RequestId
    turn_id: str

    @property
    def is_secret(self) -> bool:
        """Whether the answer should not be seen while it is typed."""
        ...

    def details(self, *, item_is_shown: bool) -> str:
        """Return what to show before the question; empty for nothing.

        `item_is_shown` says that the item which the prompt is about can be seen already.
        """
        ...

    def question(self) -> str:
        """Return the question as it stands before the answer."""
        ...

    def take(self, line: str) -> JsonObject | None:
        """Take one line of answer.

        Returns:
            The result for the server; None if there is another question first.

        Raises:
            NotUnderstood: the line is no answer; the question stands.

        """
        ...


class Approval:
    """The question whether a command may run, or a change be made."""

    is_secret = False

    def __init__(self, request: ServerRequest, palette: Palette) -> None:
        self.id = request.id
        self.turn_id = str(request.params.get("turnId", ""))
        self.item_id = str(request.params.get("itemId", ""))
        self._params = request.params
        self._palette = palette
        self._choices = self._offered()

    @property
    def subject(self) -> str:
        """What the approval is about, on a short line."""
        command = self._params.get("command")
        return visible(shorten(command, SUBJECT_CHARS)) if isinstance(command, str) else "a file change"

    def details(self, *, item_is_shown: bool) -> str:
        """Return the reason, and the command unless it can be seen already."""
        command = self._params.get("command")
        lines: list[str] = []
        if isinstance(command, str) and not item_is_shown:
            lines += command_lines(command, self._palette)
        for name, label in (("reason", "why"), ("grantRoot", "write access to")):
            if isinstance(text := self._params.get(name), str):
                lines.append(self._palette.dim(f"  {label}: {visible(text)}"))
        return "\n".join(lines)

    def question(self) -> str:
        """Return `Allow?` with the choices."""
        words = "/".join(f"[{key}]{word[1:]}" for _, key, word in self._choices)
        return self._palette.ask(f"Allow? {words}") + " "

    def take(self, line: str) -> JsonObject | None:
        """Take a choice by its letter or its word."""
        given = line.strip().lower()
        for decision, *names in self._choices:
            if given in names:
                return {"decision": decision}
        keys = [key for _, key, _ in self._choices]
        raise NotUnderstood(f"type {', '.join(keys[:-1])} or {keys[-1]}" if keys[1:] else f"type {keys[0]}")

    def _offered(self) -> list[tuple[str, str, str]]:
        # A hint of the server's, which may hold amendments that we cannot make: if nothing that we know is
        # left, everything is offered.
        hint = self._params.get("availableDecisions")
        if isinstance(hint, list):
            offered = [choice for choice in _CHOICES if choice[0] in hint]
            if offered:
                return offered
        return list(_CHOICES)


class Questions:
    """The agent wants to know something; one or more questions, asked one after the other."""

    def __init__(self, request: ServerRequest, palette: Palette) -> None:
        self.id = request.id
        self.turn_id = str(request.params.get("turnId", ""))
        questions = request.params.get("questions")
        self._questions: list[JsonObject] = questions if isinstance(questions, list) else []
        self._palette = palette
        self._index = 0
        self._answers: JsonObject = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask."""
        return not self._questions

    @property
    def is_secret(self) -> bool:
        """Whether the answer to the question at hand should not be seen."""
        return self._current.get("isSecret") is True

    @property
    def _current(self) -> JsonObject:
        return self._questions[self._index]

    @property
    def _labels(self) -> list[str]:
        return [str(option.get("label", "")) for option in self._current.get("options") or ()]

    def details(self, *, item_is_shown: bool) -> str:
        """Return the question at hand and its options."""
        question = self._current
        header = str(question.get("header") or "")
        lines = [self._palette.ask(f"? {visible(header)}")] if header else []
        lines += [f"  {line}" for line in visible_lines(str(question.get("question", "")))]
        for number, option in enumerate(question.get("options") or (), 1):
            label, description = (visible(str(option.get(name) or "")) for name in ("label", "description"))
            lines.append(f"  {number}. {label}  {self._palette.dim(description)}".rstrip())
        return "\n".join(lines)

    def question(self) -> str:
        """Return what stands before the answer."""
        count = len(self._labels)
        hint = "Answer:"
        if count:
            hint = f"Answer [1-{count}]:" if not self._takes_anything else f"Answer [1-{count}, or text]:"
        return self._palette.ask(hint) + " "

    def take(self, line: str) -> JsonObject | None:
        """Take the number or the label of an option, or any text where that is welcome."""
        answer = self._read(line if self.is_secret else line.strip())
        self._answers[str(self._current.get("id", ""))] = {"answers": [answer]}
        self._index += 1
        return {"answers": self._answers} if self._index == len(self._questions) else None

    @property
    def _takes_anything(self) -> bool:
        return not self._labels or self._current.get("isOther") is True

    def _read(self, text: str) -> str:
        labels = self._labels
        if text.isascii() and text.isdigit() and 1 <= int(text) <= len(labels):
            return labels[int(text) - 1]
        for label in labels:
            if text.casefold() == label.casefold():
                return label
        if not self._takes_anything:
            raise NotUnderstood(f"type a number from 1 to {len(labels)}")
        return text


def read_prompt(request: ServerRequest, palette: Palette) -> Approval | Questions | None:
    """Return the prompt that a server request is; None if it is one that a person cannot answer here."""
    match request.method:
        case "item/commandExecution/requestApproval" | "item/fileChange/requestApproval":
            return Approval(request, palette)
        case "item/tool/requestUserInput":
            return Questions(request, palette)
        case _:
            return None


def command_lines(command: str, palette: Palette) -> list[str]:
    """Return a command as it is shown: `$` before its first line, the others set in."""
    first, *rest = visible_lines(command)
    return [palette.bold(f"$ {first}"), *(palette.bold(f"  {line}") for line in rest)]
