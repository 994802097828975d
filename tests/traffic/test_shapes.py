"""That messages of one shape are both readable or both not, by the models themselves."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

import codex_models
from traffic.shapes import NUMBERS, STRINGS, SUBJECTS, shape_of

DELTA = {
    "method": "item/agentMessage/delta",
    "params": {"threadId": "t", "turnId": "u", "itemId": "i", "delta": "hello"},
    "emittedAtMs": 5,
    "seq": 7,
}


ANSWER = re.compile(f"({'|'.join(map(str.capitalize, SUBJECTS))}).*Response")
"""The names of models of answers."""


def shape(**changes: object) -> bytes:
    return shape_of(orjson.loads(orjson.dumps({**DELTA, **changes})))


def test_ids_texts_and_times_are_not_of_the_shape() -> None:
    other = {"threadId": "other", "turnId": "", "itemId": "ü", "delta": "\u0000"}

    assert shape(params=other, emittedAtMs=6, seq=0) == shape()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "item/plan/delta"},
        {"seq": "7"},
        {"seq": -1},
        {"seq": 7.0},
        {"seq": True},
        {"seq": None},
        {"more": 1},
        {"params": {"threadId": "t", "turnId": "u", "itemId": "i", "delta": 5}},
        {"params": {"threadId": "t", "turnId": "u", "itemId": None, "delta": "hello"}},
        {"params": {"threadId": "t", "turnId": "u", "itemId": ["i"], "delta": "hello"}},
        {"params": {"threadId": "t", "turnId": "u", "delta": "hello"}},
        {"params": {"threadId": "t", "turnId": "u", "itemId": "i", "delta": "hello", "status": "idle"}},
    ],
    ids=str,
)
def test_all_else_is(changes: dict[str, object]) -> None:
    assert shape(**changes) != shape()


def models() -> list[Any]:
    """Return the SDK's models of messages that have a shape."""
    v2 = vars(importlib.import_module("openai_codex.generated.v2_all"))
    registry = importlib.import_module("openai_codex.generated.notification_registry").NOTIFICATION_MODELS
    return [
        *(model for method, model in registry.items() if method.partition("/")[0] in SUBJECTS),
        *(model for name, model in v2.items() if ANSWER.fullmatch(name)),
    ]


def schemas() -> Iterator[dict[str, Any]]:
    """Yield all models of messages that have a shape, as JSON Schema."""
    written = codex_models._schemas()
    yield from (written["ServerRequest"], written["JSONRPCErrorError"])
    yield from (schema for name, schema in written.items() if ANSWER.fullmatch(name))
    models_json_schema = importlib.import_module("pydantic.json_schema").models_json_schema
    yield models_json_schema([(model, "validation") for model in dict.fromkeys(models())])[1]


def resolved(root: Any, schema: Any) -> Any:
    while isinstance(schema, dict) and "$ref" in schema:
        path, schema = schema["$ref"].removeprefix("#/").split("/"), root
        for part in path:
            schema = schema[part]
    return schema


def alternatives(root: Any, schema: Any) -> Iterator[dict[str, Any]]:
    """Yield what a value may be, with nothing left to resolve."""
    schema = resolved(root, schema)
    if not isinstance(schema, dict):
        return  # True: anything, or False: nothing
    yield schema
    for key in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(key, ()):
            yield from alternatives(root, each)


def demands(root: Any, schema: Any) -> Iterator[str]:
    """Yield what is demanded of a string, or of a number that is not negative, besides its type."""
    for each in alternatives(root, schema):
        yield from each.keys() & {"const", "enum", "pattern", "minLength", "maxLength"}
        yield from each.keys() & {"maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
        if "format" in each and "integer" not in each["type"]:  # those of numbers nobody checks
            yield "format"
        if each.get("minimum", 0) > 0:
            yield "minimum"


def walk(root: Any, schema: Any, members: dict[str, set[str]]) -> None:
    """Note what is demanded of each member, and of those of maps under `*`."""
    if not isinstance(schema, dict):
        return
    for name, member in schema.get("properties", {}).items():
        members[name].update(demands(root, member))
        walk(root, member, members)
    if "additionalProperties" in schema:
        members["*"].update(demands(root, schema["additionalProperties"]))
    assert not schema.keys() & {"patternProperties", "prefixItems", "if", "not"}, (
        "a form that is not known here"
    )
    nested = [each for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())]
    nested += [schema.get("items"), schema.get("additionalProperties")]
    nested += [each for key in ("$defs", "definitions") for each in schema.get(key, {}).values()]
    for each in nested:
        walk(root, each, members)


needs_models = pytest.mark.skipif(
    not codex_models.are_installed(), reason="needs the packages of the extra: pip install '.[interop]'"
)


@needs_models
def test_no_model_looks_at_what_is_not_of_the_shape() -> None:
    members: dict[str, set[str]] = defaultdict(set)
    for schema in schemas():
        walk(schema, schema, members)

    assert "enum" in members["status"], "it sees what is demanded"
    assert {name: members[name] for name in (*STRINGS, *NUMBERS, "*") if members[name]} == {}


@needs_models
def test_no_model_has_code_that_looks_at_it() -> None:
    v2 = vars(importlib.import_module("openai_codex.generated.v2_all"))
    decorators = [model.__pydantic_decorators__ for model in v2.values() if hasattr(model, "model_validate")]

    assert len(decorators) > 100
    for each in decorators:
        assert not each.validators
        assert not each.field_validators
        assert not each.model_validators
