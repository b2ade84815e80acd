"""A cheap, sound test in front of `check_schema`.

`check_schema` costs 1 to 5 ms a schema, nearly all of a validation. This acceptor knows a strict
subset of JSON Schema whose members are valid by construction under every meta-schema it is used
for, and answers in microseconds. What it does not know goes to `check_schema`: a False says nothing.
Without it, a run over rows whose schemas all differ takes 2.3 times the CPU time, and `score` four to six
times (docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from k2_verifier_adapter.core.schemas.bounded_keywords import check_budget
from k2_verifier_adapter.core.schemas.patterns import PatternTimeoutError, check_size, without_warnings

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})

_DRAFT_07 = ("http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-07/schema")
_DRAFT_2020_12 = ("https://json-schema.org/draft/2020-12/schema",)
_KNOWN_DRAFTS = frozenset({*_DRAFT_07, *_DRAFT_2020_12})

_MAX_DEPTH = 60
"""Nesting that this function follows; far below Python's recursion limit, far above real schemas."""


def is_surely_valid(schema: Any) -> bool:
    """Whether `check_schema` surely accepts the schema.

    Sound for draft 7 and draft 2020-12 (and for an absent `$schema`, which is the latest draft):
    every keyword is checked for the shape that both meta-schemas demand. A keyword that the
    meta-schemas know and this function does not is not accepted, and a `$schema` of another draft
    neither; a keyword that no meta-schema knows (`nullable`) says nothing to either.
    """
    return _schema(schema, 0)


def _schema(schema: Any, depth: int) -> bool:
    if schema is True or schema is False:
        return True
    if type(schema) is not dict or depth > _MAX_DEPTH:
        return False
    for keyword, value in schema.items():
        check = _VALUE_CHECKS.get(keyword)
        if check is not None:
            if not check(value):
                return False
        elif not _subschemas(keyword, value, depth + 1):
            return False
    return True


def _subschemas(keyword: Any, value: Any, depth: int) -> bool:
    """Check a keyword that holds schemas, or one that is not known here."""
    if keyword in _ONE_SCHEMA:
        return _schema(value, depth)
    if keyword in _SCHEMA_LIST:
        return type(value) is list and bool(value) and all(_schema(item, depth) for item in value)
    if keyword in _SCHEMA_MAP:
        if type(value) is not dict or (keyword == "patternProperties" and not all(map(_pattern, value))):
            return False
        return all(_schema(item, depth) for item in value.values())
    return type(keyword) is str and keyword[:1] != "$" and keyword not in _NOT_CHECKED_HERE


def _string(value: Any) -> bool:
    return type(value) is str


def _known_draft(value: Any) -> bool:
    return type(value) is str and value in _KNOWN_DRAFTS


def _boolean(value: Any) -> bool:
    return type(value) is bool


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _list(value: Any) -> bool:
    return type(value) is list


def _string_set(value: Any) -> bool:
    if type(value) is not list:
        return False
    for item in value:
        if type(item) is not str:
            return False
    return len(value) < 2 or len(set(value)) == len(value)


def _type(value: Any) -> bool:
    if type(value) is str:
        return value in _TYPES
    return type(value) is list and bool(value) and _string_set(value) and _TYPES.issuperset(value)


def _pattern(value: Any) -> bool:
    if type(value) is not str:
        return False
    # There may be any number of patterns, and each takes its time.
    check_budget()
    try:
        check_size(value)
        with without_warnings():
            re.compile(value)
    except (re.error, RecursionError, OverflowError, PatternTimeoutError):
        return False
    return True


def _local_reference(value: Any) -> bool:
    return type(value) is str and _LOCAL_REFERENCE.fullmatch(value) is not None


def _string_lists(value: Any) -> bool:
    return type(value) is dict and all(map(_string_set, value.values()))


_LOCAL_REFERENCE = re.compile(r"#(?:/[A-Za-z0-9_$.\-]*)*")

_VALUE_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "$comment": _string,
    "$ref": _local_reference,
    "$schema": _known_draft,
    "dependentRequired": _string_lists,
    "description": _string,
    "enum": _list,
    "examples": _list,
    "exclusiveMaximum": _number,
    "exclusiveMinimum": _number,
    "format": _string,
    "maxItems": _count,
    "maxLength": _count,
    "maxProperties": _count,
    "maximum": _number,
    "minItems": _count,
    "minLength": _count,
    "minProperties": _count,
    "minimum": _number,
    "multipleOf": _positive,
    "pattern": _pattern,
    "readOnly": _boolean,
    "required": _string_set,
    "title": _string,
    "type": _type,
    "uniqueItems": _boolean,
    "writeOnly": _boolean,
}
_ONE_SCHEMA = frozenset(
    {"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
)
_SCHEMA_LIST = frozenset({"allOf", "anyOf", "oneOf"})
_SCHEMA_MAP = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_NOT_CHECKED_HERE = frozenset(
    {
        "additionalItems",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "dependencies",
        "dependentSchemas",
        "deprecated",
        "id",
        "maxContains",
        "minContains",
        "prefixItems",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
