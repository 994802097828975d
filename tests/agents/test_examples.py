from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from agents.harness import (
    AnswerWith,
    Run,
    accept,
    decide,
    leave_open,
    refuse,
    run,
    text_input,
    user_says,
)
from trunkline.agents.base import Agent
from trunkline.agents.events import Answer, PromptRaised
from trunkline.agents.registry import load_agent
from trunkline.errors import TurnFailed

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def packer(monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.syspath_prepend(DOCS / "examples")
    return load_agent("packer:Packer")()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A directory with files, two of which match `*.log`."""
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def pack(method_answer: AnswerWith, approval: AnswerWith) -> AnswerWith:
    """Answer the packer's question and its approval."""

    def answer(prompt: PromptRaised) -> Answer | None:
        return (method_answer if prompt.method == "item/tool/requestUserInput" else approval)(prompt)

    return answer


def test_the_packer_packs_what_matches(packer: Agent, logs: Path) -> None:
    done = run(packer, "*.log", answer=pack(user_says("store"), accept), cwd=logs)

    assert done.outcome == "completed"
    assert done.said == ["a.log\nb.log\n2 files match *.log"]
    assert done.items[1]["status"] == "completed"
    with zipfile.ZipFile(logs / "packed.zip") as packed:
        assert packed.namelist() == ["a.log", "b.log"]
        assert packed.infolist()[0].compress_type == zipfile.ZIP_STORED


def test_the_packer_deflates_when_nobody_says_how(packer: Agent, logs: Path) -> None:
    run(packer, "*.log", answer=pack(refuse, accept), cwd=logs)

    with zipfile.ZipFile(logs / "packed.zip") as packed:
        assert packed.infolist()[0].compress_type == zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    ("approval", "status", "outcome"),
    [
        (decide("decline"), "declined", "completed"),
        (decide("cancel"), "declined", "interrupted"),
        (refuse, "failed", "completed"),
    ],
)
def test_the_packer_writes_nothing_unless_it_may(
    packer: Agent, logs: Path, approval: AnswerWith, status: str, outcome: str
) -> None:
    done = run(packer, "*.log", answer=pack(user_says("store"), approval), cwd=logs)

    assert done.items[1]["status"] == status
    assert done.outcome == outcome
    assert not (logs / "packed.zip").exists()


def test_the_packer_leaves_nothing_half_done_after_an_interrupt(packer: Agent, logs: Path) -> None:
    running = Run(packer, "*.log", answer=pack(user_says("store"), leave_open), cwd=logs).start()
    running.wait_for(lambda run: len(run.prompts) == 2)
    running.turn.interrupt()
    running.answer_open("accept").finish()

    assert running.outcome == "interrupted"
    assert not (logs / "packed.zip").exists()


def test_the_packer_takes_a_steer_as_another_pattern(packer: Agent, logs: Path) -> None:
    running = Run(packer, "*.log", answer=pack(user_says("store"), decide("decline")), cwd=logs)
    running.turn.steer(text_input("*.txt"))

    assert running.finish().said[1] == "c.txt\n1 files match *.txt"


@pytest.mark.parametrize(
    ("prepare", "method_answer", "reason"),
    [
        ("packed.zip", "store", "packed.zip exists already"),
        ("other", "zstd", "unknown method `zstd`"),
    ],
)
def test_the_packer_fails_with_a_reason(
    packer: Agent, logs: Path, prepare: str, method_answer: str, reason: str
) -> None:
    (logs / prepare).write_text("mine")
    done = run(packer, "*.log", answer=pack(user_says(method_answer), accept), cwd=logs)

    assert isinstance(done.error, TurnFailed)
    assert str(done.error) == reason
    assert (logs / prepare).read_text() == "mine"


def test_the_packer_says_which_directory_it_cannot_read(packer: Agent, tmp_path: Path) -> None:
    done = run(packer, "*", cwd=tmp_path / "nowhere")

    assert str(done.error) == f"cannot read {tmp_path}/nowhere: No such file or directory"
