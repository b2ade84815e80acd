"""A small generator of arguments that a tool's schema accepts, for calls that the rows do not carry."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

_DEEPEST = 12
"""Levels of nesting and of `$ref` that are followed; a recursive schema ends here."""

_SAMPLE_STRINGS = (
    "example",
    "Berlin",
    "a",
    "A",
    "1",
    "42",
    "2025-11-06",
    "2025-11-06T12:00:00Z",
    "12:00",
    "12:00:00",
    "user@example.com",
    "https://example.com/",
    "127.0.0.1",
    "+4930123456",
    "123456",
    "12345",
    "1234",
    "AB",
    "ABC",
    "ABC-123",
    "ABC123",
    "AB-1234",
    "zh-CN",
    "en",
    "#336699",
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "1.0.0",
    "/home/example.txt",
)
"""Strings to try against a `pattern`; inverting a regular expression is not attempted."""

_BY_FORMAT = {
    "date": "2025-11-06",
    "date-time": "2025-11-06T12:00:00Z",
    "time": "12:00:00",
    "email": "user@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "ipv4": "127.0.0.1",
    "uuid": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
}


def instance_of(schema: Any) -> Any:
    """Generate a value for the common keywords of a JSON schema of any shape.

    The value is a good guess, not a proof: validate it before relying on it.
    """
    return _instance(schema, schema, 0)


def effective(schema: Any, root: Any, depth: int = 0) -> dict[str, Any]:
    """Flatten a schema: follow local `$ref`, fold `allOf`, take the first of `anyOf` and `oneOf`.

    What is no object gives an empty schema; documents other than `root`, into which `$ref` points, are never
    fetched.
    """
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}
    parts = [_resolved(schema["$ref"], root)] if "$ref" in schema else []
    parts += _list(schema.get("allOf"))
    parts += _list(schema.get("anyOf"))[:1]
    parts += _list(schema.get("oneOf"))[:1]
    folded = ("$ref", "allOf", "anyOf", "oneOf")
    flat = {key: value for key, value in schema.items() if key not in folded}
    for part in parts:
        flat = _both(flat, effective(part, root, depth + 1))
    return flat


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    merged = {**second, **first}
    merged_properties = {**_mapping(second.get("properties")), **_mapping(first.get("properties"))}
    if merged_properties:
        merged["properties"] = merged_properties
    required = [*_list(first.get("required")), *_list(second.get("required"))]
    if required:
        merged["required"] = required
    return merged


def _resolved(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return {}
    found = root
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            return {}
        found = found[key]
    return found


def _instance(schema: Any, root: Any, depth: int) -> Any:
    flat = effective(schema, root, depth)
    for keyword in ("const", "default"):
        if keyword in flat:
            return flat[keyword]
    choices = _list(flat.get("enum")) or _list(flat.get("examples"))
    if choices:
        return choices[0]
    kind = _kind(flat)
    if kind == "object":
        return _object(flat, root, depth)
    if kind == "array":
        return _array(flat, root, depth)
    if kind in ("integer", "number"):
        return _number(flat, kind)
    return {"boolean": True, "null": None}[kind] if kind in ("boolean", "null") else _string(flat)


def _kind(flat: Mapping[str, Any]) -> str:
    declared = flat.get("type")
    if isinstance(declared, list):
        declared = next((name for name in declared if name != "null"), "null")
    if isinstance(declared, str):
        return declared
    if "properties" in flat or "required" in flat:
        return "object"
    return "array" if "items" in flat or "prefixItems" in flat else "string"


def _object(flat: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        return {}
    properties = _mapping(flat.get("properties"))
    names = [name for name in _list(flat.get("required")) if isinstance(name, str)]
    least = flat.get("minProperties")
    if isinstance(least, int):
        names += [name for name in properties if name not in names][: max(0, least - len(names))]
    extra = flat.get("additionalProperties", {})
    return {name: _instance(properties.get(name, extra), root, depth + 1) for name in names}


def _array(flat: Mapping[str, Any], root: Any, depth: int) -> list[Any]:
    if depth > _DEEPEST:
        return []
    least = flat.get("minItems")
    count = min(least, 100) if isinstance(least, int) else 0
    first = _list(flat.get("prefixItems"))
    items = [_instance(item, root, depth + 1) for item in first[: max(count, 0)]]
    while len(items) < count:
        item = _instance(flat.get("items"), root, depth + 1)
        if flat.get("uniqueItems") and item in items:
            item = _variation(item, len(items), flat.get("items"))
        items.append(item)
    return items


def _variation(item: Any, number: int, schema: Any) -> Any:
    choices = _list(schema.get("enum")) if isinstance(schema, Mapping) else []
    if number < len(choices):
        return choices[number]
    if isinstance(item, str):
        return f"{item}{number}"
    return item + number if isinstance(item, (int, float)) and not isinstance(item, bool) else item


def _number(flat: Mapping[str, Any], kind: str) -> float:
    low = _bound(flat, "minimum", "exclusiveMinimum", 1)
    high = _bound(flat, "maximum", "exclusiveMaximum", -1)
    value: float = 1 if low is None else low
    if high is not None and value > high:
        value = high if low is None else (low + high) / 2
    step = flat.get("multipleOf")
    if isinstance(step, (int, float)) and step > 0:
        value = -(-value // step) * step
    return int(value) if kind == "integer" else value


def _bound(flat: Mapping[str, Any], inclusive: str, exclusive: str, inwards: int) -> float | None:
    limit = flat.get(exclusive)
    if isinstance(limit, (int, float)) and not isinstance(limit, bool):
        return limit + inwards
    limit = flat.get(inclusive)
    return limit if isinstance(limit, (int, float)) and not isinstance(limit, bool) else None


def _string(flat: Mapping[str, Any]) -> str:
    wanted = flat.get("format")
    base = _BY_FORMAT.get(wanted, "example") if isinstance(wanted, str) else "example"
    pattern = flat.get("pattern")
    if isinstance(pattern, str):
        with contextlib.suppress(re.error, RecursionError, OverflowError):
            base = next(filter(re.compile(pattern).search, _SAMPLE_STRINGS), base)
    least, most = flat.get("minLength"), flat.get("maxLength")
    if isinstance(least, int) and len(base) < least:
        base += "x" * min(least - len(base), 10_000)
    return base[:most] if isinstance(most, int) and most >= 0 else base


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
