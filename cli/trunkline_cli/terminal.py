"""A terminal with a line editor: output scrolls by above the line that is being typed.

Why `prompt_toolkit` and not `readline`: text arrives while somebody types. With `readline` another thread
would have to wipe the line, print, and write prompt and line again, by guess: it cannot ask where the cursor
is, how many rows the line covers, or whether a paste or a search is going on. `prompt_toolkit` keeps a model
of what it has drawn, so wiping and redrawing are exact, for wide characters and lines of several rows too; it
is pure Python. It is imported for this console only: pipes and dumb terminals never meet it.

What is on the screen: above, finished lines, which belong to the terminal and its scrollback. Below, the
part that is ours to redraw: the line of output that has not ended yet, and the prompt with what is typed.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    VerticalAlign,
    Window,
)
from prompt_toolkit.layout.processors import BeforeInput, ConditionalProcessor, PasswordProcessor
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import get_cwidth

from trunkline_cli.console import InputEnded, Interrupt, Line, UserInput
from trunkline_cli.text import Cleaner, Palette, visible_lines

__all__ = ["TerminalConsole"]

FRAME_S = 0.02
"""Output is gathered for this long and drawn at once: fifty times a second is as live as it gets."""

MAX_PENDING_CHARS = 1_000_000
"""How far the session may be ahead of the terminal before `write` waits."""


def split_rows(line: str, columns: int) -> list[str]:
    """Return the rows that `line` takes on a terminal that is `columns` wide; one if it is empty."""
    if get_cwidth(line) <= columns:
        return [line]
    rows, row, width = [], "", 0
    for character in line.expandtabs(8):
        width += get_cwidth(character)
        if width > columns:
            rows.append(row)
            row, width = "", get_cwidth(character)
        row += character
    return [*rows, row]


class _Kind(Enum):
    """What waits for the next drawing."""

    OUTPUT = auto()
    """Part of a stream; a line may go on in the next piece."""
    BREAK = auto()
    """No text: the next piece begins a line."""
    NOTE = auto()
    """Whole lines of ours."""
    CHANGE = auto()
    """No text: a change to the prompt, at its place among the text."""


class TerminalConsole:
    """A `Console` on a terminal that can move its cursor. Make it in the main thread, and use it once."""

    interactive = True

    def __init__(self, palette: Palette) -> None:
        self._palette = palette
        self._put: Callable[[UserInput], None] | None = None
        # The loop of the application while it runs.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._was_started = threading.Event()
        self._is_closed = False
        # What is to be shown or changed, in order. Any thread appends, the main thread takes.
        self._pending: deque[tuple[_Kind, str, Callable[[], None] | None]] = deque()
        self._pending_chars = 0
        self._is_draw_due = False
        self._drawn = threading.Event()
        # The line of output that has not ended yet.
        self._open_line = ""
        self._cleaner = Cleaner()
        # What stands before the typed line, and what it was before a question took its place.
        self._prompt = ""
        self._question = ""
        self._key: object = None
        self._is_secret = False
        self._draft: Document | None = None
        self._buffer = Buffer(history=InMemoryHistory(), accept_handler=self._accept, multiline=False)
        self._app = self._build()

    # For the session. What is drawn is changed on the main thread only.

    def write(self, text: str) -> None:
        """Show a piece of output; waits while the terminal is too far behind."""
        while self._pending_chars > MAX_PENDING_CHARS and self._loop is not None:
            self._drawn.clear()
            self._drawn.wait(FRAME_S)
        self._add(_Kind.OUTPUT, text)

    def break_line(self) -> None:
        """See to it that what is written next begins a line."""
        self._add(_Kind.BREAK)

    def note(self, text: str) -> None:
        """Show a line about the session."""
        self._add(_Kind.NOTE, text)

    def prompt(self, text: str) -> None:
        """Set what stands before the line that is typed."""

        def change() -> None:
            self._prompt = text

        self._add(_Kind.CHANGE, change=change)

    def ask(self, question: str, key: object, *, secret: bool = False) -> None:
        """Put a question in the place of the prompt, and the answer in the place of what is being typed."""

        def change() -> None:
            if self._key is None:
                self._draft = self._buffer.document
            self._question, self._key, self._is_secret = question, key, secret
            self._buffer.reset()

        self._add(_Kind.CHANGE, change=change)

    def stop_asking(self) -> None:
        """Bring back the prompt, and what was being typed."""

        def change() -> None:
            if self._key is not None:
                self._key, self._is_secret = None, False
                self._buffer.reset(self._draft)

        self._add(_Kind.CHANGE, change=change)

    def want_line(self) -> None:
        """Nothing: the user types when they like."""

    def stop(self) -> None:
        """Have `run` return."""
        self._was_started.wait()
        self._on_main_thread(self._exit)

    # On the main thread

    def run(self, put: Callable[[UserInput], None]) -> None:
        """Show the prompt and take what is typed, until `stop`."""
        self._put = put
        try:
            self._app.run(pre_run=self._on_started, handle_sigint=False)
        except EOFError:  # the terminal has gone away
            put(InputEnded())
        finally:
            self._loop = None
            self._is_closed = True
            self._was_started.set()
            self._show_rest()

    def _on_started(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._was_started.set()
        self._draw_soon()

    def _exit(self) -> None:
        if self._app.future is not None and not self._app.future.done():
            self._app.exit()

    def _tell(self, message: UserInput) -> None:
        assert self._put is not None
        self._put(message)

    def _accept(self, buffer: Buffer) -> bool:
        """Take the line that was entered, and keep it to be seen. The editor then empties the buffer."""
        lines = visible_lines(buffer.text)
        if self._key is not None:
            # The editor must find nothing to put into its history: answers are no lines to repeat.
            self._add(_Kind.NOTE, self._question + ("" if self._is_secret else " ".join(lines)))
            text = buffer.text
            buffer.reset()
            self._tell(Line(text, self._key))
        elif buffer.text.strip():
            self._add(_Kind.NOTE, "\n".join(self._palette.user(f"> {line}") for line in lines))
            self._tell(Line(buffer.text))
        return False

    # Drawing

    def _add(self, kind: _Kind, text: str = "", change: Callable[[], None] | None = None) -> None:
        self._pending.append((kind, text, change))
        self._pending_chars += len(text)
        # Whoever draws takes the mark away before the text, so a piece that finds it set is still seen.
        if not self._is_draw_due:
            self._is_draw_due = self._on_main_thread(self._draw_soon)
        if self._is_closed:
            self._show_rest()

    def _on_main_thread(self, call: Callable[[], None]) -> bool:
        """Have the application's loop make a call. Returns False if it does not run."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:  # closed between the look and the call
            return False
        return True

    def _draw_soon(self) -> None:
        assert self._loop is not None
        self._loop.call_later(FRAME_S, self._draw)

    def _draw(self) -> None:
        self._is_draw_due = False
        finished = self._absorb()
        if finished:
            # Not `run_in_terminal`, which would leave raw mode for a moment: what is typed in that moment
            # would be echoed into the output.
            self._app.renderer.erase()
            self._app.output.write_raw("".join(f"{line}\r\n" for line in finished))
            self._app.output.flush()
        self._app.invalidate()
        self._drawn.set()

    def _show_rest(self) -> None:
        """Show what is left, after the application has gone."""
        rest = self._absorb()
        if self._open_line:
            rest.append(self._open_line)
            self._open_line = ""
        sys.stdout.write("".join(f"{line}\n" for line in rest))
        sys.stdout.flush()

    def _absorb(self) -> list[str]:
        """Take all that is pending. Returns the lines that are finished by it."""
        finished: list[str] = []
        output: list[str] = []
        self._pending_chars = 0
        while self._pending:
            kind, text, change = self._pending.popleft()
            if change is not None:
                change()
                continue
            if kind is _Kind.OUTPUT:
                output.append(text)
                continue
            self._add_output(output, finished)
            output = []
            if self._open_line:
                finished.append(self._open_line)
                self._open_line = ""
            if kind is _Kind.NOTE:
                finished += text.split("\n")
        self._add_output(output, finished)
        return finished

    def _add_output(self, pieces: list[str], finished: list[str]) -> None:
        lines = (self._open_line + self._cleaner.feed("".join(pieces))).split("\n")
        # A carriage return begins the line again, as progress bars do.
        lines = [line.rpartition("\r")[2] for line in lines]
        self._open_line = lines.pop()
        finished += lines
        # A line that would fill the screen is finished row by row, or its end would not be seen. The rows end
        # where the terminal would end them, so on the screen nothing moves.
        size = self._app.output.get_size()
        rows = split_rows(self._open_line, size.columns)
        self._open_line = "".join(rows[-max(1, size.rows // 3) :])
        finished += rows[: -max(1, size.rows // 3)]

    # Building

    def _build(self) -> Application[None]:
        open_line = Window(
            FormattedTextControl(lambda: self._open_line.expandtabs(8)),
            wrap_lines=True,
            dont_extend_height=True,
        )
        typed = Window(
            BufferControl(
                self._buffer,
                input_processors=[
                    ConditionalProcessor(PasswordProcessor(), Condition(lambda: self._is_secret)),
                    BeforeInput(lambda: ANSI(self._prompt if self._key is None else self._question)),
                ],
            ),
            wrap_lines=True,
            dont_extend_height=True,
        )
        has_open_line = Condition(lambda: bool(self._open_line))
        # Asking the terminal where its cursor is would serve menus only, which we do not have, and would cost
        # terminals that do not answer a wait and a warning.
        output = Vt100_Output.from_pty(sys.stdout, enable_bell=False)
        output.enable_cpr = False
        return Application(
            Layout(
                HSplit([ConditionalContainer(open_line, has_open_line), typed], align=VerticalAlign.TOP),
                focused_element=typed,
            ),
            key_bindings=self._bindings(),
            output=output,
            erase_when_done=True,
        )

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("c-c")
        def _interrupt(_: KeyPressEvent) -> None:
            # As in a shell, a line that was begun is the first to go.
            if self._buffer.text and self._key is None:
                self._buffer.reset()
            else:
                self._tell(Interrupt())

        @bindings.add("c-d", filter=Condition(lambda: not self._buffer.text))
        def _leave(_: KeyPressEvent) -> None:
            self._tell(InputEnded())

        @bindings.add("c-z")
        def _suspend(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

        return bindings
