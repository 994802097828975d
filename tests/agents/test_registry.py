from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trunkline.agents.base import Agent
from trunkline.agents.registry import load_agent
from trunkline.agents.script import ScriptAgent
from trunkline.agents.shell import ShellAgent
from trunkline.errors import ConfigError

MODULE = """
from trunkline.agents.base import Agent

class Echo(Agent):
    def __init__(self, words="x"):
        self.words = words

    def run_turn(self, turn):
        turn.say(self.words)

class Outer:
    class Inner(Echo):
        pass

def make():
    return Echo("made")

an_agent = Echo()
a_number = 5

class Unfinished(Agent):
    pass

class Demanding(Echo):
    def __init__(self, words):
        pass

class Broken(Echo):
    def __init__(self):
        raise KeyError("API_KEY")

class Quitter(Echo):
    def __init__(self):
        raise SystemExit(3)

class Duck:
    def run_turn(self, turn):
        pass

def nothing():
    pass

def give_class():
    return Echo
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules on the path, forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    package = tmp_path / "pkg_x"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "agents.py").write_text(MODULE)
    (package / "needs_more.py").write_text("import module_that_is_nowhere\n")
    (package / "needs_kin.py").write_text("import pkg_x.absent\n")
    (package / "bad_syntax.py").write_text("def\n")
    (package / "raises.py").write_text("raise ValueError('no luck')\n")
    (package / "exits.py").write_text("raise SystemExit\n")


@pytest.mark.parametrize(("name", "agent_class"), [("script", ScriptAgent), ("shell", ShellAgent)])
def test_the_agents_that_come_with_the_project_have_names(name: str, agent_class: type[Agent]) -> None:
    assert type(load_agent(name)()) is agent_class


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("pkg_x.agents:Echo", "Echo"),
        ("pkg_x.agents:make", "Echo"),
        ("pkg_x.agents:Outer.Inner", "Inner"),
        ("trunkline.agents.script:ScriptAgent", "ScriptAgent"),
    ],
)
def test_a_class_or_function_makes_a_new_agent_for_each_thread(name: str, class_name: str) -> None:
    factory = load_agent(name)
    first, second = factory(), factory()

    assert type(first).__name__ == class_name
    assert isinstance(first, Agent)
    assert first is not second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(
            (name, f"unknown agent `{name}`; expected `script`, `shell` or `package.module:Class`")
            for name in (
                "",
                "Script",
                "pkg_x.agents",
                "pkg_x.agents:",
                ":Echo",
                ":",
                "pkg_x..agents:Echo",
                ".agents:Echo",
                "pkg_x.agents:Echo:more",
                "pkg_x.agents:Echo()",
                "pkg_x/agents.py:Echo",
            )
        ),
        ("absent_x:Echo", "agent `absent_x:Echo`: there is no module `absent_x` on the path"),
        ("absent_x.y:Echo", "agent `absent_x.y:Echo`: there is no module `absent_x` on the path"),
        ("pkg_x.absent:Echo", "agent `pkg_x.absent:Echo`: there is no module `pkg_x.absent` on the path"),
        (
            "pkg_x.agents.deeper:Echo",
            "agent `pkg_x.agents.deeper:Echo`: there is no module `pkg_x.agents.deeper` on the path",
        ),
        (
            "pkg_x.needs_more:Echo",
            "agent `pkg_x.needs_more:Echo`: importing `pkg_x.needs_more` failed: "
            "ModuleNotFoundError: No module named 'module_that_is_nowhere'",
        ),
        (
            "pkg_x.needs_kin:Echo",
            "agent `pkg_x.needs_kin:Echo`: importing `pkg_x.needs_kin` failed: "
            "ModuleNotFoundError: No module named 'pkg_x.absent'",
        ),
        (
            "pkg_x.raises:Echo",
            "agent `pkg_x.raises:Echo`: importing `pkg_x.raises` failed: ValueError: no luck",
        ),
        ("pkg_x.exits:Echo", "agent `pkg_x.exits:Echo`: importing `pkg_x.exits` failed: SystemExit"),
        ("pkg_x.agents:Absent", "agent `pkg_x.agents:Absent`: module `pkg_x.agents` has no `Absent`"),
        ("pkg_x.agents:Outer.Absent", "agent `pkg_x.agents:Outer.Absent`: `Outer` has no `Absent`"),
        (
            "pkg_x.agents:a_number",
            "agent `pkg_x.agents:a_number` is not a class or function but of type `int`",
        ),
        (
            "pkg_x.agents:an_agent",
            "agent `pkg_x.agents:an_agent` is an agent already; name its class, or a function that makes one",
        ),
        (
            "pkg_x.agents:Broken",
            "agent `pkg_x.agents:Broken` could not be made: KeyError: 'API_KEY'",
        ),
        ("pkg_x.agents:Quitter", "agent `pkg_x.agents:Quitter` could not be made: SystemExit: 3"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_agent(name)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pkg_x.bad_syntax:Echo", "importing `pkg_x.bad_syntax` failed: SyntaxError: invalid syntax"),
        ("pkg_x.agents:Unfinished", "could not be made: TypeError: Can't instantiate abstract class"),
        ("pkg_x.agents:Demanding", "could not be made: TypeError: Demanding.__init__() missing 1 required"),
        ("pkg_x.agents:Duck", "does not make an agent: what it makes is of type `Duck`"),
        ("pkg_x.agents:nothing", "does not make an agent: what it makes is of type `NoneType`"),
        ("pkg_x.agents:give_class", "does not make an agent: what it makes is of type `ABCMeta`"),
    ],
)
def test_what_makes_no_agent_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_agent(name)

    assert reason in str(refusal.value)


def test_the_current_directory_is_not_put_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "local_x.py").write_text(MODULE)
    monkeypatch.chdir(here)
    path = list(sys.path)

    with pytest.raises(ConfigError, match="there is no module `local_x`"):
        load_agent("local_x:Echo")
    assert sys.path == path
    monkeypatch.syspath_prepend(here)
    assert load_agent("local_x:Echo")().__class__.__name__ == "Echo"
