"""Schemas as probes: the argument of one tool, wrapped as the Kimi Vendor Verifier (KVV) wraps its cases.

What is asked and what is left out follow KVV's `tests/tool_call_json_schema`, so that both verdicts agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

TOOL_NAME = "kvv_walle_case"
MAX_TOKENS = 2048

_LONGEST = 1000
"""`minLength` of a string up to which it is asked for."""

_ESCAPES = (r"\n", r"\t", r"\r", r"\b", r"\f")
_PRIMITIVES = frozenset({"string", "number", "integer", "boolean", "null"})
_LIFTED = ("$defs", "$id")

_PROMPT = (
    f"Call the tool {TOOL_NAME} once. Make up small arguments that its parameters allow: every required "
    "property, within every bound, and nothing that is not declared. Give values, not a schema, and no text "
    "beside the call."
)


class SchemaLeftOutError(ValueError):
    """A schema that is not asked about; the message is the reason."""


def request_of(schema: Any) -> dict[str, Any]:
    """Make the request about a schema: one strict tool, of whose property `value` it is.

    Raises:
        SchemaLeftOutError: If KVV leaves such a schema out.
    """
    _check(schema)
    function = {
        "name": TOOL_NAME,
        "description": "Takes small arguments that are valid by its parameters.",
        "parameters": _without_defaults(wrap(schema)),
        "strict": True,
    }
    return {
        "messages": [{"role": "user", "content": _PROMPT}],
        "tools": [{"type": "function", "function": function}],
        "max_tokens": MAX_TOKENS,
    }


def expectation_of() -> dict[str, Any]:
    """Give what is expected of the answer about any schema."""
    return {"status": 200, "calls": {"some": True, "names": [TOOL_NAME], "arguments": "schema"}}


def _check(schema: Any) -> None:
    if not all(isfinite(value) for value in _values(schema) if isinstance(value, float)):
        raise SchemaLeftOutError("it holds a number that is not finite")
    if not isinstance(schema, dict):
        return
    length = schema.get("minLength")
    if schema.get("type") == "string" and isinstance(length, (int, float)) and length > _LONGEST:
        raise SchemaLeftOutError(f"minLength of a string over {_LONGEST}")
    properties = schema.get("properties")
    for key in properties if isinstance(properties, dict) else ():
        if key != key.strip() or not key or any(escape in key for escape in _ESCAPES):
            raise SchemaLeftOutError("a property's name is empty, has outer blanks, or holds an escape")
    if _recurses_without_end(schema):
        raise SchemaLeftOutError("recursion without an end")


def wrap(schema: Any) -> Any:
    """Make a schema the property `value` of an object; references to its root become one to a definition."""
    if not isinstance(schema, dict):
        return schema
    wrapped: dict[str, Any] = {"type": "object", "required": ["value"], "additionalProperties": False}
    inner = {key: value for key, value in schema.items() if key not in _LIFTED}
    if "#" in _references(schema):
        definitions = dict(schema.get("$defs", {}))
        name = "__case_schema"
        while name in definitions:
            name = f"_{name}"
        target = f"#/$defs/{name}"
        definitions.update(_redirected(schema.get("$defs", {}), target))
        definitions[name] = _redirected(inner, target)
        wrapped |= {"properties": {"value": {"$ref": target}}, "$defs": definitions}
    else:
        wrapped["properties"] = {"value": inner}
        if "$defs" in schema:
            wrapped["$defs"] = schema["$defs"]
    if "$id" in schema:
        wrapped["$id"] = schema["$id"]
    return wrapped


def _values(value: Any) -> Iterator[Any]:
    """Walk everything in a JSON value, itself first."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(item)


def _references(schema: Any) -> list[Any]:
    return [value["$ref"] for value in _values(schema) if isinstance(value, dict) and "$ref" in value]


def _redirected(value: Any, target: str) -> Any:
    if isinstance(value, dict):
        return {
            key: target if key == "$ref" and item == "#" else _redirected(item, target)
            for key, item in value.items()
        }
    return [_redirected(item, target) for item in value] if isinstance(value, list) else value


def _without_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_defaults(item) for key, item in value.items() if key != "default"}
    return [_without_defaults(item) for item in value] if isinstance(value, list) else value


def _recurses_without_end(schema: dict[str, Any]) -> bool:
    """Whether a definition needs itself in a required property, with nothing else to choose."""
    definitions = schema.get("$defs")
    if not isinstance(definitions, dict):
        return False
    for reference in _references(schema):
        definition = definitions.get(str(reference).rpartition("/")[2])
        if not str(reference).startswith("#/$defs/") or not isinstance(definition, dict):
            continue
        if reference not in _references(definition) or _can_end(definition):
            continue
        required, properties = definition.get("required", []), definition.get("properties", {})
        if any(key in required and reference in _references(part) for key, part in properties.items()):
            return True
    return False


def _can_end(value: Any) -> bool:
    """Whether there is anything in a schema that does not recurse, as KVV looks for it."""
    if isinstance(value, list):
        return any(map(_can_end, value))
    if not isinstance(value, dict):
        return False
    kinds = value.get("type")
    if _PRIMITIVES & {
        kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)
    }:
        return True
    for keyword in ("anyOf", "oneOf"):
        if keyword in value:
            return any(map(_can_end, value[keyword]))
    return "enum" in value or any(map(_can_end, value.values()))


def selection_reason(schema: Any) -> str:
    """Say why KVV's report lists a schema, in its words."""
    text = json.dumps(schema, ensure_ascii=False).lower()
    if any(word in text for word in ("tool", "function", "arguments", "parameters")):
        return "explicit_tool_keyword"
    if not isinstance(schema, dict):
        return type(schema).__name__
    kind = schema.get("type")
    if (kind == "object" or (isinstance(kind, list) and "object" in kind)) and isinstance(
        schema.get("properties"), dict
    ):
        return "object_parameter_schema"
    if not schema:
        return "empty_parameter_schema"
    if isinstance(kind, list):
        return "union_parameter_schema"
    if isinstance(kind, str):
        return f"{kind}_parameter_schema"
    shape = next((word for word in ("anyOf", "oneOf", "allOf") if word in schema), None)
    if shape is not None:
        return f"{shape}_parameter_schema"
    return "ref_parameter_schema" if "$ref" in schema else "schema_parameter_schema"
