"""From the name of an agent to what makes it."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import TypeGuard

from trunkline.agents.base import Agent, AgentFactory, AgentLike
from trunkline.agents.script import ScriptAgent
from trunkline.agents.shell import ShellAgent
from trunkline.errors import ConfigError, TurnFailed

__all__ = ["agent_factory", "load_agent", "no_agent"]

_OWN: dict[str, type[Agent]] = {"script": ScriptAgent, "shell": ShellAgent}


def load_agent(name: str) -> AgentFactory:
    """Return what makes the agents that `name` stands for.

    Args:
        name: `script`, `shell`, or `package.module:Class`, where in place of the class there may be a
            function without arguments. The module is looked for on `sys.path` as it is.

    What is found is called once, to see that it makes an agent; that agent is thrown away.

    Raises:
        ConfigError: `name` is none of these, or there is no such module, or importing it fails, or it
            has no such attribute, or that makes no `Agent`. The text says which.

    """
    if name in _OWN:
        return _OWN[name]
    module_name, colon, attribute = name.partition(":")
    if not (colon and _is_dotted(module_name) and _is_dotted(attribute)):
        msg = f"unknown agent `{name}`; expected `script`, `shell` or `package.module:Class`"
        raise ConfigError(msg)
    found = _find(name, _import(name, module_name), attribute)
    _try(name, found)
    factory: AgentFactory = found  # type: ignore[assignment]  # it has just been seen to make one
    return factory


def agent_factory(agent: AgentLike) -> AgentFactory:
    """Return what makes the agents of threads; `no_agent` for None.

    Args:
        agent: a name for `load_agent`, a class or function, an object that is the agent of all threads, or
            None.

    Raises:
        ConfigError: it is none of these.

    """
    if agent is None:
        return no_agent
    if isinstance(agent, str):
        return load_agent(agent)
    if isinstance(agent, Agent):
        return lambda: agent
    if isinstance(agent, type) and (not issubclass(agent, Agent) or inspect.isabstract(agent)):
        raise ConfigError(f"agent: the class `{agent.__name__}` is no `trunkline.Agent` with a `run_turn`")
    if not callable(agent):
        raise ConfigError(f"agent: an object of type `{type(agent).__name__}` is neither agent nor factory")
    return agent


def no_agent() -> Agent:
    """Stand for the factory where there is no agent. It is never called."""
    raise TurnFailed("there is no agent")


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _import(name: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    # Somebody else's code runs here: whatever it raises is about the setting that named it. A module
    # that ends the program when it is imported (a script without a guard) does so by SystemExit.
    except (Exception, SystemExit) as error:
        if _is_absent(error, module_name):
            msg = f"agent `{name}`: there is no module `{error.name}` on the path"
        else:
            msg = f"agent `{name}`: importing `{module_name}` failed: {_describe(error)}"
        raise ConfigError(msg) from error


def _is_absent(error: BaseException, module_name: str) -> TypeGuard[ModuleNotFoundError]:
    """Whether `module_name` itself, or a package it lies in, was not found (and not what it imports)."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return f"{module_name}.".startswith(f"{error.name}.")


def _find(name: str, module: ModuleType, attribute: str) -> object:
    found: object = module
    place = f"module `{module.__name__}`"
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            msg = f"agent `{name}`: {place} has no `{part}`"
            raise ConfigError(msg) from error
        place = f"`{part}`"
    return found


def _try(name: str, found: object) -> None:
    if isinstance(found, Agent):
        msg = f"agent `{name}` is an agent already; name its class, or a function that makes one"
        raise ConfigError(msg)
    if not callable(found):
        msg = f"agent `{name}` is not a class or function but of type `{type(found).__name__}`"
        raise ConfigError(msg)
    try:
        made = found()
    except (Exception, SystemExit) as error:
        msg = f"agent `{name}` could not be made: {_describe(error)}"
        raise ConfigError(msg) from error
    if not isinstance(made, Agent):
        msg = (
            f"agent `{name}` does not make an agent: what it makes is of type `{type(made).__name__}`, "
            "which is no subclass of `trunkline.agents.base.Agent`"
        )
        raise ConfigError(msg)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
