"""Faults in the arguments of a call: no JSON, no object, or what the tool's schema refuses for one reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.completions import Completion, calls_of, with_calls
from k2_verifier_adapter.simulator.faults.answers import Damage, PayloadFault
from k2_verifier_adapter.simulator.instances import effective
from k2_verifier_adapter.simulator.truth import is_valid_call, schema_errors, tool_schema

# --- texts that are no JSON ----------------------------------------------------------------------

TextDamage = Callable[[str, dict[str, Any], Random], "str | None"]
"""From the arguments' text and value to the damaged text, or None where that cannot be."""


def _damage_text(change: TextDamage) -> Damage:
    """Make the damage of one call's arguments; only a call with an object as arguments qualifies."""

    def damage(completion: Completion, _: Case, rng: Random) -> Completion | None:
        calls = calls_of(completion)
        for function in _functions_shuffled(calls, rng):
            value = _object_arguments(function)
            changed = None if value is None else change(function["arguments"].strip(), value, rng)
            if changed is not None:
                function["arguments"] = changed
                return with_calls(completion, calls)
        return None

    return damage


def _functions_shuffled(calls: list[dict[str, Any]], rng: Random) -> list[dict[str, Any]]:
    return [calls[position]["function"] for position in rng.sample(range(len(calls)), len(calls))]


def _object_arguments(function: dict[str, Any]) -> dict[str, Any] | None:
    try:
        value = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _truncate(text: str, _: dict[str, Any], rng: Random) -> str | None:
    cuts = list(range(1, len(text)))
    rng.shuffle(cuts)
    return next((text[:cut] for cut in cuts if _ends_too_early(text[:cut])), None)


def _ends_too_early(text: str) -> bool:
    """Say whether a parser stops at the very end of the text, or inside a string left open."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
    return False


def _add_text(text: str, _: dict[str, Any], rng: Random) -> str:
    return text + rng.choice(("\nLet me know if you need anything else.", " 以上是参数。", " // done"))


def _single_quote(_: str, value: dict[str, Any], __: Random) -> str | None:
    return _unless_json(repr(value)) if value else None


def _unquote_keys(_: str, value: dict[str, Any], __: Random) -> str | None:
    members = ", ".join(f"{key}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items())
    return _unless_json(f"{{{members or ','}}}")


def _unless_json(text: str) -> str | None:
    try:
        json.loads(text)
    except ValueError:
        return text
    return None


# --- values that the schema refuses --------------------------------------------------------------

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


def _violate(propose: Candidates, keywords: set[str], *, allowed: bool = True) -> Damage:
    """Make the damage that violates one group of keywords and nothing else.

    Of the proposed changes, the schema itself says what they violate: only `keywords` or, if those are not
    allowed, none of them.
    """

    def damage(completion: Completion, case: Case, rng: Random) -> Completion | None:
        calls = calls_of(completion)
        for function, schema in _valid_ones(calls, case, rng):
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


def _wrap(completion: Completion, case: Case, rng: Random) -> Completion | None:
    """Put something else than an object where the schema asks for an object and nothing else."""
    calls = calls_of(completion)
    for function, schema in _valid_ones(calls, case, rng):
        value = json.loads(function["arguments"])
        wrong = rng.choice(([value], json.dumps(value, ensure_ascii=False), "x"))
        errors = schema_errors(schema, wrong)
        if errors and {error.validator for error in errors} == {"type"}:
            function["arguments"] = json.dumps(wrong, ensure_ascii=False)
            return with_calls(completion, calls)
    return None


def _valid_ones(calls: list[dict[str, Any]], case: Case, rng: Random) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the functions of valid calls in random order, each with its schema."""
    tools = case.declared_tools()
    for function in _functions_shuffled(calls, rng):
        if is_valid_call({"function": function}, tools):
            yield function, tool_schema(tools, function["name"])


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


_ADDITIONAL = {"additionalProperties", "unevaluatedProperties"}
_OF_CLASSES = {"required", "type", "enum", "const", "dependentRequired", "dependencies", "propertyNames"}

FAULTS = (
    PayloadFault(C.TRUNCATED_JSON, _damage_text(_truncate), calls=True),
    PayloadFault(C.CONCATENATED_JSON, _damage_text(lambda text, _value, _rng: text + text), calls=True),
    PayloadFault(C.TRAILING_TEXT, _damage_text(_add_text), calls=True),
    PayloadFault(C.SINGLE_QUOTED_JSON, _damage_text(_single_quote), calls=True),
    PayloadFault(C.EMPTY_ARGUMENTS, _damage_text(lambda _text, _value, _rng: ""), calls=True),
    PayloadFault(C.OTHER_INVALID_JSON, _damage_text(_unquote_keys), calls=True),
    PayloadFault(C.NOT_AN_OBJECT, _wrap, calls=True),
    PayloadFault(C.MISSING_REQUIRED, _violate(_without_required, {"required"}), calls=True),
    PayloadFault(C.UNEXPECTED_PROPERTY, _violate(_with_extra, _ADDITIONAL), calls=True),
    PayloadFault(C.WRONG_TYPE, _violate(_of_another_type, {"type"}), calls=True),
    PayloadFault(C.ENUM_VIOLATION, _violate(_outside_enum, {"enum"}), calls=True),
    PayloadFault(
        C.OTHER_SCHEMA_VIOLATION,
        _violate(_against_other_keywords, _OF_CLASSES | _ADDITIONAL, allowed=False),
        calls=True,
    ),
)
