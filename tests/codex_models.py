"""What Codex expects of a server, message by message, and a check that a message is that.

The models are those that Codex ships: the pydantic ones of its Python SDK (`openai-codex`), and, for what
the SDK has none of (prompts, experimental answers), the JSON Schema that its binary writes. Everything
that a server sends in a test goes through here, in whichever process it runs, if the packages of the extra
`interop` are installed: see `traffic`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codex_stand_in import codex_binary
from helpers import Message, shorten
from trunkline.protocol.own_names import RESERVED

__all__ = ["are_installed", "check_message", "has_no_model"]

_RESPONSES = {
    "account/bedrock/checkGovCloudRequirements": "BedrockCheckGovCloudRequirementsResponse",
    "account/logout": "LogoutAccountResponse",
    "account/rateLimits/read": "GetAccountRateLimitsResponse",
    "account/read": "GetAccountResponse",
    "app/list": "AppsListResponse",
    "mcpServerStatus/list": "ListMcpServerStatusResponse",
    "thread/name/set": "ThreadSetNameResponse",
}
"""The names of models that are not made from the name of the method."""

_OF_OUR_OWN = frozenset({"getAuthStatus", "trunkline/status"})
"""Methods whose answers Codex has no model of: old ones, and those that only this server has."""


def are_installed() -> bool:
    """Whether there are models to check with."""
    packages = ("openai_codex", "codex_cli_bin", "jsonschema")
    return all(importlib.util.find_spec(package) is not None for package in packages)


def has_no_model(method: str) -> bool:
    """Whether Codex has no model of a method's messages: it is not Codex's own, or about to go."""
    return method in _OF_OUR_OWN or ("/" in method and method.partition("/")[0] not in RESERVED)


def check_message(message: Message, answers: Iterable[str] = ()) -> None:
    """Fail if Codex's own clients could not read a message of the server.

    Args:
        message: as it came.
        answers: the methods of the requests it may be the answer to; one of them has to fit.

    """
    if "method" in message:
        _check_call(message)
    elif "error" in message:
        _check(message, lambda: _validate_json("JSONRPCErrorError", message["error"]))
    else:
        methods = [method for method in answers if not has_no_model(method)]
        if methods and not any(_fits(method, message) for method in methods):
            _check_result(methods[0], message)


def _check_call(message: Message) -> None:
    method = message["method"]
    assert isinstance(method, str), f"not the name of a method that Codex reads: {shorten(message)}"
    if has_no_model(method):
        return
    if "id" in message:
        assert isinstance(message["id"], int), f"not the id of a prompt: {shorten(message)}"
        _check(message, lambda: _validate_json("ServerRequest", _members(message, "id", "method", "params")))
        return
    assert isinstance(message.get("emittedAtMs"), int), f"no time of emission: {shorten(message)}"
    model = _sdk("generated.notification_registry").NOTIFICATION_MODELS.get(method)
    assert model is not None, f"no notification that Codex knows: {shorten(message)}"
    _check(message, lambda: model.model_validate(message["params"]))


def _fits(method: str, message: Message) -> bool:
    try:
        _check_result(method, message)
    except AssertionError:
        return False
    return True


def _check_result(method: str, message: Message) -> None:
    name = _response(method)
    model = getattr(_sdk("generated.v2_all"), name, None)
    if model is not None:
        _check(message, lambda: model.model_validate(message["result"]))
    else:
        _check(message, lambda: _validate_json(name, message["result"]))


def _response(method: str) -> str:
    return _RESPONSES.get(method) or _camel(method) + "Response"


def _check(message: Message, validate: Any) -> None:
    try:
        validate()
    except KeyError as error:
        raise AssertionError(f"Codex cannot read {shorten(message, 2000)}: it has no {error}") from None
    except ValueError as error:  # pydantic's, and the one of `_validate_json`
        raise AssertionError(f"Codex cannot read {shorten(message, 2000)}: {error}") from None


def _members(message: Message, *names: str) -> Message:
    return {name: message[name] for name in names}


def _camel(method: str) -> str:
    return re.sub(r"(?:^|/)(\w)", lambda match: match[1].upper(), method)


@functools.cache
def _sdk(module: str) -> Any:
    return importlib.import_module(f"openai_codex.{module}")


def _validate_json(name: str, value: object) -> None:
    errors = sorted(_validator(name).iter_errors(value), key=lambda error: len(error.path))
    if errors:
        deepest = importlib.import_module("jsonschema.exceptions").best_match(errors)
        raise ValueError(f"{deepest.json_path}: {deepest.message}")


@functools.cache
def _validator(name: str) -> Any:
    schema = _schemas().get(name)
    assert schema is not None, f"Codex has no model {name}"
    return importlib.import_module("jsonschema").Draft7Validator(schema)


@functools.cache
def _schemas() -> dict[str, Any]:
    binary = codex_binary()
    assert binary is not None
    with tempfile.TemporaryDirectory(prefix="codex-schema-") as directory:
        subprocess.run(
            [binary, "app-server", "generate-json-schema", "--experimental", "--out", directory],
            check=True,
            capture_output=True,
            env={"CODEX_HOME": directory, "HOME": directory},
        )
        return {path.stem: json.loads(path.read_text()) for path in Path(directory).rglob("*.json")}
