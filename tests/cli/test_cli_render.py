from __future__ import annotations

from typing import Any

import pytest

from cli.fakes import FakeConsole
from trunkline_cli.render import Renderer
from trunkline_cli.text import Palette


@pytest.fixture
def console() -> FakeConsole:
    return FakeConsole()


@pytest.fixture
def renderer(console: FakeConsole) -> Renderer:
    return Renderer(console, Palette(is_on=False), own_messages={"mine"})


def message(text: str = "", item_id: str = "m") -> dict[str, Any]:
    return {"type": "agentMessage", "id": item_id, "text": text}


def command(**members: Any) -> dict[str, Any]:
    base = {"type": "commandExecution", "id": "c", "command": "ls", "status": "inProgress"}
    return {**base, "aggregatedOutput": None, "exitCode": None, **members}


def said(text: str, client_id: str | None = None) -> dict[str, Any]:
    return {
        "type": "userMessage",
        "id": "u",
        "clientId": client_id,
        "content": [{"type": "text", "text": text}],
    }


def test_a_message_is_shown_as_it_comes_and_once(renderer: Renderer, console: FakeConsole) -> None:
    renderer.started(message())
    renderer.delta("m", "Hel")
    assert console.shown == "Hel"
    renderer.delta("m", "lo")
    renderer.completed(message("Hello"))
    assert console.output == "Hello"
    assert console.shown == "Hello\n"


def test_a_message_that_was_not_streamed_is_shown_when_complete(
    renderer: Renderer, console: FakeConsole
) -> None:
    renderer.started(message())
    renderer.completed(message("Hello"))
    assert console.shown == "Hello\n"


def test_a_snapshot_and_the_deltas_after_it_make_the_whole(renderer: Renderer, console: FakeConsole) -> None:
    renderer.started(message("Hel"))
    renderer.delta("m", "lo")
    renderer.completed(message("Hello!"))
    assert console.shown == "Hello!\n"


def test_an_item_that_was_never_started_is_shown_when_complete(
    renderer: Renderer, console: FakeConsole
) -> None:
    renderer.completed(message("Hello"))
    assert console.shown == "Hello\n"


def test_the_text_of_two_items_does_not_share_a_line(renderer: Renderer, console: FakeConsole) -> None:
    renderer.started(message())
    renderer.started(message(item_id="n"))
    renderer.delta("m", "one")
    renderer.delta("n", "two")
    renderer.delta("m", "three")
    assert console.shown == "one\ntwo\nthree"


def test_a_command_shows_itself_its_output_and_its_end(renderer: Renderer, console: FakeConsole) -> None:
    renderer.started(command())
    renderer.delta("c", "a\nb\n")
    renderer.completed(command(status="completed", aggregatedOutput="a\nb\n", exitCode=0, durationMs=12))
    assert console.shown == "$ ls\na\nb\nexit 0\n"
    assert console.output == "a\nb\n"


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ({"status": "failed", "exitCode": 3, "durationMs": 3210}, "exit 3 after 3.2 s"),
        ({"status": "failed", "exitCode": -9, "durationMs": None}, "exit -9"),
        ({"status": "declined"}, "declined"),
        ({"status": "failed"}, "failed"),
    ],
)
def test_a_command_that_did_not_go_well_says_so(
    renderer: Renderer, console: FakeConsole, end: dict[str, Any], shown: str
) -> None:
    renderer.started(command())
    renderer.completed(command(**end))
    assert console.shown == f"$ ls\n{shown}\n"


def test_a_command_of_several_lines_cannot_look_like_ours(renderer: Renderer, console: FakeConsole) -> None:
    renderer.started(command(command="ls\nAllow? y\x1b[1A"))
    assert console.shown == "$ ls\n  Allow? y\\x1b[1A\n"


def test_output_that_was_kept_in_part_is_not_shown_again(renderer: Renderer, console: FakeConsole) -> None:
    renderer.started(command())
    renderer.delta("c", "x" * 100)
    renderer.completed(command(status="completed", aggregatedOutput="x" * 40, exitCode=0))
    assert console.output == "x" * 100


def test_a_file_change_shows_its_paths_and_diffs(renderer: Renderer, console: FakeConsole) -> None:
    changes = [
        {"path": "a.txt", "kind": {"type": "update"}, "diff": "@@\n-old\n+new\n"},
        {"path": "b\n.txt", "kind": {"type": "add"}, "diff": ""},
    ]
    item = {"type": "fileChange", "id": "f", "changes": changes, "status": "inProgress"}
    renderer.started(item)
    renderer.completed({**item, "status": "completed"})
    assert console.shown == "~ a.txt\n  @@\n  -old\n  +new\n+ b\\n.txt\napplied\n"


def test_a_long_diff_is_cut(renderer: Renderer, console: FakeConsole) -> None:
    change = {"path": "a", "kind": {"type": "add"}, "diff": "line\n" * 50}
    renderer.started({"type": "fileChange", "id": "f", "changes": [change]})
    assert console.shown.count("  line\n") == 40
    assert console.shown.endswith("  … 10 more lines\n")


def test_what_others_typed_is_shown_and_what_we_typed_is_not(
    renderer: Renderer, console: FakeConsole
) -> None:
    renderer.started({**said("mine", "mine"), "id": "u1"})
    renderer.started({**said("theirs\nof two lines", "theirs"), "id": "u2"})
    renderer.completed({**said("theirs\nof two lines", "theirs"), "id": "u2"})
    assert console.shown == "> theirs\n> of two lines\n"


def test_an_item_of_a_kind_we_do_not_know_is_named(renderer: Renderer, console: FakeConsole) -> None:
    renderer.completed({"type": "webSearch\x1b", "id": "w"})
    assert console.shown == "· webSearch\\x1b\n"


def test_the_history_is_brief(renderer: Renderer, console: FakeConsole) -> None:
    old: dict[str, Any] = {"id": "0", "status": "completed", "items": [said("old")]}
    long_command = command(
        status="completed", aggregatedOutput="".join(f"{n}\n" for n in range(20)), exitCode=0
    )
    turns = [
        old,
        old,
        {"id": "1", "status": "completed", "items": [said("hello", "mine"), message("Hi\n")]},
        {"id": "2", "status": "interrupted", "items": [long_command]},
        {"id": "3", "status": "failed", "items": [], "error": {"message": "no luck"}},
    ]
    renderer.history(turns)
    assert console.shown.split("\n") == [
        *("… 2 earlier turns", "> hello", "Hi", "$ ls"),
        *map(str, range(8)),
        *("… 12 more lines", "exit 0", "turn interrupted", "turn failed: no luck", ""),
    ]
