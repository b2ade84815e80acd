"""Faults in the values of a call's arguments: JSON that the tool's schema refuses, for one reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion
from k2_verifier_adapter.simulator.faults.base import Needs, PayloadFault, calls_of, with_calls
from k2_verifier_adapter.simulator.instances import effective
from k2_verifier_adapter.simulator.reference import is_valid_call, schema_errors, tool_schema

_ABSENT = object()
_REMOVE = object()
_UNLISTED = "not_an_option"
_EXTRA = "unexpected_field"
_DEEPEST = 6
_LONGEST = 10_000

Path = tuple["str | int", ...]


@dataclass(frozen=True, slots=True)
class _Spot:
    """One place in the arguments: its path, the schema there, and the value, which may be absent."""

    path: Path
    schema: dict[str, Any]
    value: Any


Candidates = Callable[[_Spot], Iterator[tuple[Path, Any]]]
"""Changes worth trying at a place: a path, and the value to put there."""


def _spots(schema: Any, root: Any, value: Any, path: Path = ()) -> Iterator[_Spot]:
    flat = effective(schema, root)
    yield _Spot(path, flat, value)
    if len(path) > _DEEPEST:
        return
    if isinstance(value, dict) and isinstance(flat.get("properties"), dict):
        for name, part in flat["properties"].items():
            yield from _spots(part, root, value.get(name, _ABSENT), (*path, name))
    if isinstance(value, list) and isinstance(flat.get("items"), dict):
        for position, item in enumerate(value[:3]):
            yield from _spots(flat["items"], root, item, (*path, position))


def _changed(value: Any, path: Path, new: Any) -> Any:
    result = copy.deepcopy(value)
    holder = result
    for step in path[:-1]:
        holder = holder[step]
    if new is _REMOVE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return result


def _without_required(spot: _Spot) -> Iterator[tuple[Path, Any]]:
    required = spot.schema.get("required")
    if isinstance(spot.value, dict) and isinstance(required, list):
        for name in required:
            if isinstance(name, str) and name in spot.value:
                yield (*spot.path, name), _REMOVE


def _with_extra(spot: _Spot) -> Iterator[tuple[Path, Any]]:
    if isinstance(spot.value, dict) and _EXTRA not in spot.value:
        yield (*spot.path, _EXTRA), "value"


def _of_another_type(spot: _Spot) -> Iterator[tuple[Path, Any]]:
    if spot.path and "type" in spot.schema:
        if spot.value is not _ABSENT and not isinstance(spot.value, str):
            yield spot.path, json.dumps(spot.value, ensure_ascii=False)
        for wrong in (12345, "text", ["text"], {"value": "text"}, None):
            yield spot.path, wrong


def _outside_enum(spot: _Spot) -> Iterator[tuple[Path, Any]]:
    if spot.path and isinstance(spot.schema.get("enum"), list):
        for wrong in (_UNLISTED, 987_654_321, 0.5):
            yield spot.path, wrong


def _against_other_keywords(spot: _Spot) -> Iterator[tuple[Path, Any]]:
    if not spot.path:
        return
    schema, value = spot.schema, spot.value
    for keyword, step in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1), ("exclusiveMaximum", 0)):
        if isinstance(schema.get(keyword), (int, float)):
            yield spot.path, schema[keyword] + step
    if "multipleOf" in schema and isinstance(value, (int, float)):
        yield from ((spot.path, value + step) for step in (1, schema["multipleOf"] / 2))
    if {"pattern", "minLength"} & schema.keys():
        yield from ((spot.path, wrong) for wrong in ("", "¿?", "x y z"))
    if schema.get("maxLength", _LONGEST) < _LONGEST:
        yield spot.path, "x" * (int(schema["maxLength"]) + 1)
    if isinstance(value, list):
        yield spot.path, []
        if value:
            yield spot.path, [*value, value[0]]
            yield spot.path, value * (int(min(schema.get("maxItems", 0), _LONGEST)) // len(value) + 1)


def _violate(
    propose: Candidates, keywords: frozenset[str], *, allowed: bool
) -> Callable[[Completion, Case, Random], Completion | None]:
    """Make the damage that violates one group of keywords and nothing else.

    Args:
        propose: Gives the changes to try; the schema itself then says what they violate.
        keywords: Names of schema keywords.
        allowed: Whether every violation must be among `keywords`, or none may be.
    """

    def damage(completion: Completion, case: Case, rng: Random) -> Completion | None:
        calls, tools = calls_of(completion), case.tools()
        for position in rng.sample(range(len(calls)), len(calls)):
            function = calls[position]["function"]
            if not is_valid_call(calls[position], tools):
                continue
            schema = tool_schema(tools, function["name"])
            value = json.loads(function["arguments"])
            changes = [change for spot in _spots(schema, schema, value) for change in propose(spot)]
            rng.shuffle(changes)
            for path, new in changes:
                candidate = _changed(value, path, new)
                errors = schema_errors(schema, candidate)
                if errors and all((error.validator in keywords) == allowed for error in errors):
                    function["arguments"] = json.dumps(candidate, ensure_ascii=False)
                    return with_calls(completion, calls)
        return None

    return damage


_REQUIRED = frozenset({"required"})
_ADDITIONAL = frozenset({"additionalProperties", "unevaluatedProperties"})
_TYPE = frozenset({"type"})
_ENUM = frozenset({"enum"})
_OF_OTHER_CLASSES = (
    _REQUIRED | _ADDITIONAL | _TYPE | _ENUM | {"const", "dependentRequired", "dependencies", "propertyNames"}
)

FAULTS = tuple(
    PayloadFault(failure_class.value, failure_class, damage, Needs.CALL)
    for failure_class, damage in (
        (C.MISSING_REQUIRED, _violate(_without_required, _REQUIRED, allowed=True)),
        (C.UNEXPECTED_PROPERTY, _violate(_with_extra, _ADDITIONAL, allowed=True)),
        (C.WRONG_TYPE, _violate(_of_another_type, _TYPE, allowed=True)),
        (C.ENUM_VIOLATION, _violate(_outside_enum, _ENUM, allowed=True)),
        (
            C.OTHER_SCHEMA_VIOLATION,
            _violate(_against_other_keywords, _OF_OTHER_CLASSES, allowed=False),
        ),
    )
)
