"""The prompts of a thread, as an attached client stands to them.

Owns which are open, which one the user is being asked, and what has been answered without the server having
said that it is settled.

A plain object that belongs to one session and is called by it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trunkline_cli.client import RequestId, ServerRequest
from trunkline_cli.console import Console, Line
from trunkline_cli.prompts import Approval, NotUnderstood, Prompt, Questions, read_prompt
from trunkline_cli.text import Palette, visible

__all__ = ["Asking"]

JsonObject: TypeAlias = dict[str, Any]


class Asking:
    """Puts the open prompts to the user, the oldest first, one at a time; or answers for a pipe.

    Args:
        console: where the user is asked.
        palette: with what colours.
        send: sends the answer to a prompt; None refuses it.
        is_shown: whether the item of this id can be seen already.
        is_ours: whether the turn of this id was begun here.
        allow_all: whether every approval is given without asking.

    """

    def __init__(
        self,
        console: Console,
        palette: Palette,
        send: Callable[[RequestId, JsonObject | None], None],
        *,
        is_shown: Callable[[str], bool],
        is_ours: Callable[[str], bool],
        allow_all: bool,
    ) -> None:
        self._console = console
        self._palette = palette
        self._send = send
        self._is_shown = is_shown
        self._is_ours = is_ours
        self._allow_all = allow_all
        # Prompts that nobody has answered, oldest first, and the one that the user is being asked.
        self._open: dict[RequestId, Prompt] = {}
        self._asking: Prompt | None = None
        # Answers that were given here and not settled. Of those sent on a connection that was lost nobody
        # knows whether they arrived.
        self._answers: dict[RequestId, JsonObject | None] = {}
        self._is_held = False
        self.has_failed = False
        """Whether something was asked for which nobody was there."""

    def take_request(self, request: ServerRequest) -> None:
        """Take a prompt of the server's."""
        if request.id in self._open:
            return  # sent again to those who resume
        prompt = read_prompt(request, self._palette)
        if isinstance(prompt, Approval) and self._allow_all:
            self._note_dim(f"allowed by --yes: {prompt.subject}")
            self._answer(request.id, {"decision": "accept"})
        elif prompt is None or (isinstance(prompt, Questions) and prompt.is_empty):
            self._on_unanswerable(request)
        elif self._console.interactive:
            self._open[prompt.id] = prompt
            self._ask_next()
        else:
            self._decline(prompt)

    def take_line(self, line: Line) -> None:
        """Take a line that was entered as the answer to a question."""
        prompt = self._asking
        if prompt is None or line.answers != prompt.id:
            self._note_dim(
                "not sent: you will be asked again" if self._is_held else "too late: that was settled"
            )
            return
        try:
            result = prompt.take(line.text)
        except NotUnderstood as error:
            self._note_dim(str(error))
            self._console.ask(prompt.question(), prompt.id, secret=prompt.is_secret)
            return
        if result is None:
            self._ask(prompt)
            return
        self._close(prompt)
        self._answer(prompt.id, result)
        self._ask_next()

    def settled(self, prompt_id: RequestId) -> bool:
        """Note that a prompt has its answer. Returns whether the user had yet to give one."""
        self._answers.pop(prompt_id, None)
        if (prompt := self._open.get(prompt_id)) is None:
            return False  # our own answer, or a prompt that we were never sent
        self._close(prompt)
        self._ask_next()
        return True

    def drop(self, turn_id: str) -> None:
        """Ask nothing more of a turn that has ended."""
        for prompt in [prompt for prompt in self._open.values() if prompt.turn_id == turn_id]:
            self._close(prompt)
        self._ask_next()

    # While there is no connection

    def hold(self) -> None:
        """Ask nothing until `go_on`: no answer can be sent."""
        self._is_held = True
        if self._asking is not None:
            self._asking = None
            self._console.stop_asking()

    def forget(self) -> None:
        """Forget all prompts: the server sends those that are open again."""
        self._open.clear()
        self._answers.clear()

    def go_on(self) -> None:
        """Ask again, and answer again: the first answer counts, so one that had arrived does no harm."""
        self._is_held = False
        self._ask_next()
        for prompt_id, result in self._answers.items():
            self._send(prompt_id, result)

    def _answer(self, prompt_id: RequestId, result: JsonObject | None) -> None:
        self._answers[prompt_id] = result
        self._send(prompt_id, result)

    def _on_unanswerable(self, request: ServerRequest) -> None:
        # The first answer settles a prompt for all, so a client that cannot answer leaves it to the others;
        # but a pipe has nobody who could do something about a turn that waits for ever.
        if not self._console.interactive and self._is_ours(str(request.params.get("turnId"))):
            self._answer(request.id, None)
        else:
            self._note_dim(f"left to other clients: {visible(request.method)}")

    def _decline(self, prompt: Prompt) -> None:
        """Answer for a pipe, where nobody can be asked."""
        if not self._is_ours(prompt.turn_id):
            self._note_dim("left to other clients: a prompt of a turn that is not ours")
            return
        self.has_failed = True
        result: JsonObject
        if isinstance(prompt, Approval):
            result = {"decision": "decline"}
            text = (
                f"declined {prompt.subject}: nobody can be asked without a terminal; --yes allows everything"
            )
        else:
            result = {"answers": {}}
            text = "a question was left without an answer: nobody can be asked without a terminal"
        self._console.note(self._palette.bad(text))
        self._answer(prompt.id, result)

    # The question on the screen

    def _ask_next(self) -> None:
        """Ask the user the oldest open prompt, unless one is being asked."""
        if self._asking is None and self._open and not self._is_held:
            self._asking = next(iter(self._open.values()))
            self._ask(self._asking)

    def _ask(self, prompt: Prompt) -> None:
        item_id = getattr(prompt, "item_id", "")
        if details := prompt.details(item_is_shown=self._is_shown(item_id)):
            self._console.note(details)
        self._console.ask(prompt.question(), prompt.id, secret=prompt.is_secret)

    def _close(self, prompt: Prompt) -> None:
        del self._open[prompt.id]
        if prompt is self._asking:
            self._asking = None
            self._console.stop_asking()

    def _note_dim(self, text: str) -> None:
        self._console.note(self._palette.dim(text))
