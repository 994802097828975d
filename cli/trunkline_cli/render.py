"""How a thread's items look: what is streamed as it comes, and what is told in a line.

Owns what has been shown of each open item, so that deltas, a snapshot and the completed item together show
every character once. What an agent says and a command prints goes out by `write`, everything else by
`note`; which of the two ends on which stream is the console's business.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from trunkline_cli.console import Console
from trunkline_cli.prompts import command_lines
from trunkline_cli.text import Palette, visible, visible_lines

__all__ = ["Renderer"]

JsonObject: TypeAlias = dict[str, Any]

HISTORY_TURNS = 3
"""Turns of a snapshot that are shown; it is a reminder, not the record."""

HISTORY_LINES = 8
"""Lines of one item in it."""

DIFF_LINES = 40
"""Lines of a diff that are shown; who wants more has the file."""

_STREAMED = {"agentMessage": "text", "plan": "text", "commandExecution": "aggregatedOutput"}
"""The items whose text is streamed, and the member that holds it."""

_KIND_SIGNS = {"add": "+", "delete": "-", "update": "~"}


class Renderer:
    """Shows the items of one thread on a console.

    Args:
        console: where.
        palette: with what colours.
        own_messages: client ids of the messages typed here, which need not be shown again; looked
            at as messages come.

    """

    def __init__(self, console: Console, palette: Palette, own_messages: Collection[str]) -> None:
        self._console = console
        self._palette = palette
        self._own_messages = own_messages
        # How many characters have been shown of each open item that is streamed.
        self._shown: dict[str, int] = {}
        # Items that have been announced. Those that never complete go with their turn.
        self._known: set[str] = set()
        # Those of them that have completed.
        self._completed: set[str] = set()
        # The item whose text was written last: another one begins a line.
        self._writing = ""

    def knows(self, item_id: str) -> bool:
        """Whether the item can be seen already."""
        return item_id in self._known

    def started(self, item: JsonObject) -> None:
        """Show that an item begins, with what it holds already."""
        item_id = str(item.get("id"))
        if item_id in self._known:
            return
        self._known.add(item_id)
        self._announce(item)
        member = _STREAMED.get(str(item.get("type")))
        if member is not None:
            self._shown[item_id] = 0
            self._stream(item_id, item.get(member) or "")

    def delta(self, item_id: str, text: str) -> None:
        """Show more of an open item."""
        self._stream(item_id, text)

    def completed(self, item: JsonObject) -> None:
        """Show what is left of an item, and how it ended."""
        item_id = str(item.get("id"))
        if item_id in self._completed:
            return
        self._completed.add(item_id)
        self.started({**item, "text": "", "aggregatedOutput": ""})
        kind = str(item.get("type"))
        member = _STREAMED.get(kind)
        if member is not None:
            whole = item.get(member) or ""
            # What was streamed is a beginning of the whole, or there is more of it than the item kept.
            self._stream(item_id, whole[self._shown.pop(item_id, 0) :])
        if kind in ("agentMessage", "plan"):
            self._console.break_line()
        if (ending := self._ending(item)) is not None:
            self._console.note(ending)

    def caught_up(self, item: JsonObject) -> None:
        """Show what has not been seen yet of an item of a snapshot."""
        if item.get("status") != "inProgress" and item.get("completedAtMs", 0) is not None:
            self.completed(item)
            return
        self.started({**item, "text": "", "aggregatedOutput": ""})
        if (member := _STREAMED.get(str(item.get("type")))) is not None:
            item_id = str(item.get("id"))
            self._stream(item_id, (item.get(member) or "")[self._shown.get(item_id, 0) :])

    def turn_ended(self) -> None:
        """Forget the items of a turn: none of them goes on."""
        if self._shown:
            self._console.break_line()
        self._shown.clear()
        self._known.clear()
        self._completed.clear()
        self._writing = ""

    def history(self, turns: Sequence[JsonObject]) -> None:
        """Show the last of the turns that are over, in brief."""
        earlier = len(turns) - HISTORY_TURNS
        if earlier > 0:
            self._console.note(self._palette.dim(f"… {_count(earlier, 'earlier turn')}"))
        for turn in turns[-HISTORY_TURNS:]:
            for item in turn.get("items") or ():
                for block in self._summary(item):
                    self._console.note(block)
            if turn.get("status") in ("failed", "interrupted"):
                self._console.note(self.turn_ending(turn))

    def turn_ending(self, turn: JsonObject) -> str:
        """Return the line that says how a turn ended which did not complete."""
        if turn.get("status") != "failed":
            return self._palette.bad("turn interrupted")
        error = turn.get("error") or {}
        return self.error(str(error.get("message") or "no reason given"))

    def error(self, message: str) -> str:
        """Return the line for a turn's error."""
        return self._palette.bad(f"turn failed: {visible(message)}")

    def _stream(self, item_id: str, text: str) -> None:
        if not text:
            return
        if self._writing != item_id:
            self._console.break_line()
            self._writing = item_id
        self._console.write(text)
        self._shown[item_id] = self._shown.get(item_id, 0) + len(text)

    def _announce(self, item: JsonObject) -> None:
        """Show what an item is, before its text."""
        for line in self._heading(item):
            self._console.note(line)

    def _heading(self, item: JsonObject) -> list[str]:
        match item.get("type"):
            case "userMessage":
                return [] if item.get("clientId") in self._own_messages else [self._user_lines(item)]
            case "commandExecution":
                return command_lines(str(item.get("command", "")), self._palette)
            case "fileChange":
                return [line for change in item.get("changes") or () for line in self._change_lines(change)]
            case "dynamicToolCall" | "mcpToolCall":
                return [self._palette.dim(f"· tool {visible(str(item.get('tool', '')))}")]
            case "agentMessage" | "reasoning" | "plan":
                return []
            case kind:
                return [self._palette.dim(f"· {visible(str(kind))}")]

    def _ending(self, item: JsonObject) -> str | None:
        status = item.get("status")
        match item.get("type"):
            case "commandExecution":
                return self._command_ending(item)
            case "fileChange":
                word = "applied" if status == "completed" else str(status)
                return self._palette.dim(word) if status == "completed" else self._palette.bad(word)
            case "dynamicToolCall" | "mcpToolCall" if status == "failed":
                return self._palette.bad("tool failed")
            case "reasoning":
                summary = "\n".join(str(part) for part in item.get("summary") or ())
                return self._palette.dim("\n".join(visible_lines(summary))) if summary else None
            case _:
                return None

    def _command_ending(self, item: JsonObject) -> str:
        exit_code, status = item.get("exitCode"), str(item.get("status"))
        if exit_code is None:
            return self._palette.dim("done") if status == "completed" else self._palette.bad(status)
        duration_ms = item.get("durationMs") or 0
        after = f" after {duration_ms / 1000:.1f} s" if duration_ms >= 1000 else ""
        text = f"exit {exit_code}{after}"
        return self._palette.dim(text) if exit_code == 0 else self._palette.bad(text)

    def _user_lines(self, item: JsonObject) -> str:
        parts = [_input_text(part) for part in item.get("content") or ()]
        return "\n".join(self._palette.user(f"> {line}") for line in visible_lines("\n".join(parts)))

    def _change_lines(self, change: JsonObject) -> list[str]:
        kind = change.get("kind")
        name = str(kind.get("type")) if isinstance(kind, dict) else str(kind)
        sign = _KIND_SIGNS.get(name, "~")
        lines = [self._palette.bold(f"{sign} {visible(str(change.get('path', '')))}")]
        diff = visible_lines(str(change.get("diff") or "").rstrip("\n"))
        lines += [f"  {self._diff_line(line)}" for line in diff[:DIFF_LINES] if line]
        if len(diff) > DIFF_LINES:
            lines.append(self._palette.dim(f"  … {_count(len(diff) - DIFF_LINES, 'more line')}"))
        return lines

    def _diff_line(self, line: str) -> str:
        if line.startswith("+"):
            return self._palette.good(line)
        return self._palette.bad(line) if line.startswith("-") else self._palette.dim(line)

    def _summary(self, item: JsonObject) -> list[str]:
        """Return an item of the past as a few lines."""
        match item.get("type"):
            case "userMessage":
                return [self._user_lines(item)]
            case "agentMessage":
                return self._excerpt(str(item.get("text") or ""))
            case "commandExecution":
                output = self._excerpt(str(item.get("aggregatedOutput") or ""))
                return [*self._heading(item), *output, self._command_ending(item)]
            case "fileChange":
                return [*self._heading(item), self._ending(item) or ""]
            case _:
                return []

    def _excerpt(self, text: str) -> list[str]:
        lines = visible_lines(text.replace("\r\n", "\n").rstrip("\n")) if text else []
        if len(lines) <= HISTORY_LINES:
            return lines
        left_out = self._palette.dim(f"… {_count(len(lines) - HISTORY_LINES, 'more line')}")
        return [*lines[:HISTORY_LINES], left_out]


def _input_text(part: JsonObject) -> str:
    """Return one part of a user's input as text."""
    if part.get("type") == "text":
        return str(part.get("text", ""))
    return f"[{part.get('type')} {part.get('url') or part.get('path') or part.get('name') or ''}]"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
