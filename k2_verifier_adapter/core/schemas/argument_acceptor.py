"""A cheap, sound test in front of a validation.

Most arguments are valid, and most schemas use a dozen simple keywords, yet `jsonschema` takes a tenth
of a millisecond to say so. This acceptor knows those keywords and answers in microseconds. What it does
not know goes to the library: a False says nothing. Without it, `score` takes 12 to 22 % more CPU time,
and a run over rows 4 to 6 % (docs/performance.md).

Inside, a check says for sure whether the library finds a violation, and also that it does not fail: for
upstream, any exception makes a call invalid. What is not known for sure ends the attempt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jsonschema import validators

from k2_verifier_adapter.core.schemas.patterns import is_cheap, search

_MAX_STEPS = 10_000
"""Keywords and values that are looked at, some milliseconds; what is larger is left to the library."""

_MAX_DEPTH = 60
"""Schemas within each other, references followed; the library needs some frames of Python for each."""

_PATTERN_STEPS = 100
"""What one search counts, for it may take `_BACKTRACKING` of the regular expression's own steps."""

_BACKTRACKING = 10_000

_LIBRARY_KEYWORDS = frozenset(
    {*validators.Draft7Validator.VALIDATORS, *validators.Draft202012Validator.VALIDATORS}
)
"""The keywords that the library applies; it passes over all others, and so does this acceptor."""


def surely_satisfies(schema: Any, instance: Any) -> bool:
    """Whether the library surely finds no violation, and fails on nothing.

    Sound for draft 7 and draft 2020-12, where no format is checked: what is known here means the same in
    both. `schema_acceptor.is_surely_valid` accepts the schema: its shapes are relied on.
    """
    try:
        return _Walk(schema).satisfies(schema, instance)
    except (_NotKnownError, RecursionError):
        return False


class _NotKnownError(Exception):
    """What the library makes of it is not known here."""


class _Walk:
    """One schema held against one instance; references lead into the root."""

    __slots__ = ("_depth", "_steps", "root")

    def __init__(self, root: Any) -> None:
        self.root = root
        self._steps = _MAX_STEPS
        self._depth = 0

    def take(self, steps: int) -> None:
        """Take steps, of which there are not more than `_MAX_STEPS`."""
        self._steps -= steps
        if self._steps < 0:
            raise _NotKnownError

    def satisfies(self, schema: Any, value: Any) -> bool:
        """Hold a schema against a value."""
        if schema is True:
            return True
        if schema is False:
            return self.violated(value)
        self._steps -= len(schema) + 1
        if self._steps < 0 or self._depth == _MAX_DEPTH:
            raise _NotKnownError
        self._depth += 1
        satisfied = True
        # All of it, even if it is violated: the library may look at all of it.
        for keyword, wanted in schema.items():
            check = _CHECKS.get(keyword)
            if check is not None:
                satisfied &= check(self, wanted, value, schema)
            elif keyword in _LIBRARY_KEYWORDS:
                raise _NotKnownError
        self._depth -= 1
        return satisfied

    def satisfies_all(self, pairs: Iterable[tuple[Any, Any]]) -> bool:
        """Hold schemas against values, each of which has to satisfy its own."""
        satisfied = True
        for schema, value in pairs:
            satisfied &= self.satisfies(schema, value)
        return satisfied

    def violated(self, value: Any) -> bool:
        """Say that there is a violation, whose message holds the value.

        The library can fail on writing that if the value is deep.
        """
        if type(value) not in _SCALARS:
            items = value.values() if type(value) is dict else value
            self.take(len(items))
            if not all(type(item) in _SCALARS for item in items):
                raise _NotKnownError
        return False


_SCALARS = frozenset({str, int, bool, float, type(None)})
_WHOLE_FLOAT = frozenset({"number", "integer"})
_TYPE_NAMES: Mapping[type, frozenset[str]] = {
    str: frozenset({"string"}),
    bool: frozenset({"boolean"}),
    int: frozenset({"integer", "number"}),
    float: frozenset({"number"}),
    type(None): frozenset({"null"}),
    list: frozenset({"array"}),
    dict: frozenset({"object"}),
}


def _type(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    names = _TYPE_NAMES[type(value)]
    if type(value) is float and value.is_integer():
        names = _WHOLE_FLOAT
    if wanted in names if type(wanted) is str else not names.isdisjoint(wanted):
        return True
    return walk.violated(value)


def _properties(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    if type(value) is not dict:
        return True
    walk.take(len(value))
    satisfied = True
    for name, item in value.items():
        if name in wanted:
            satisfied &= walk.satisfies(wanted[name], item)
    return satisfied


def _additional_properties(walk: _Walk, wanted: Any, value: Any, schema: Any) -> bool:
    if type(value) is not dict or wanted is True:
        return True
    walk.take(len(value))
    # `patternProperties`, which would count as well, is not known here.
    declared = schema.get("properties", {})
    return walk.satisfies_all((wanted, item) for name, item in value.items() if name not in declared)


def _required(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    walk.take(len(wanted))
    return type(value) is not dict or value.keys() >= set(wanted)


def _dependent_required(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    for trigger, names in wanted.items() if type(value) is dict else ():
        walk.take(len(names) + 1)
        if trigger in value and not all(name in value for name in names):
            # No keyword of draft 7, which passes over it.
            raise _NotKnownError
    return True


def _items(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    if type(value) is not list:
        return True
    walk.take(len(value))
    return walk.satisfies_all((wanted, item) for item in value)


def _unique_items(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    if wanted is False or type(value) is not list or len(value) < 2:
        return True
    walk.take(len(value))
    if set(map(type, value)) not in ({str}, {int}):
        # Python and JSON differ in what they take for equal.
        raise _NotKnownError
    return len(set(value)) == len(value)


def _enum(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    walk.take(len(wanted))
    if type(value) not in _SCALARS or value != value:  # noqa: PLR0124 - NaN, which the library compares by identity
        raise _NotKnownError
    alike = (int, float) if type(value) in (int, float) else (type(value),)
    return any(type(item) in alike and item == value for item in wanted) or walk.violated(wanted)


def _const(walk: _Walk, wanted: Any, value: Any, schema: Any) -> bool:
    return _enum(walk, [wanted], value, schema)


def _pattern(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    if type(value) is not str:
        return True
    walk.take(_PATTERN_STEPS)
    if not is_cheap(wanted, len(value), _BACKTRACKING):
        raise _NotKnownError
    return search(wanted, value, 1.0)


def _multiple_of(_walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    if type(value) is float or type(wanted) is float:
        raise _NotKnownError
    return type(value) is not int or value % wanted == 0


def _any_of(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    return any(walk.satisfies(branch, value) for branch in wanted) or walk.violated(value)


def _all_of(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    return walk.satisfies_all((branch, value) for branch in wanted)


def _one_of(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    satisfied = sum([walk.satisfies(branch, value) for branch in wanted])
    if satisfied > 1:
        # The message holds the branches, of any depth.
        raise _NotKnownError
    return satisfied == 1 or walk.violated(value)


def _not(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
    if walk.satisfies(wanted, value):
        # The message holds the schema.
        raise _NotKnownError
    return True


def _if(walk: _Walk, wanted: Any, value: Any, schema: Any) -> bool:
    branch = "then" if walk.satisfies(wanted, value) else "else"
    return walk.satisfies(schema.get(branch, True), value)


def _ref(walk: _Walk, wanted: Any, value: Any, schema: Any) -> bool:
    match = _DEFINITION.fullmatch(wanted)
    definitions = walk.root.get(match[1], {}) if match else {}
    # Draft 7 passes over the keywords beside a reference, draft 2020-12 does not.
    if match is None or match[2] not in definitions or (schema.keys() & _LIBRARY_KEYWORDS) != {"$ref"}:
        raise _NotKnownError
    return walk.satisfies(definitions[match[2]], value)


_DEFINITION = re.compile(r"#/(\$defs|definitions)/([A-Za-z0-9_$.\-]+)")

_Check = Callable[[_Walk, Any, Any, Any], bool]


def _number(is_kept: Callable[[Any, Any], bool]) -> _Check:
    def check(_walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
        return (type(value) is not int and type(value) is not float) or is_kept(value, wanted)

    return check


def _size(kind: type, is_kept: Callable[[int, int], bool]) -> _Check:
    def check(walk: _Walk, wanted: Any, value: Any, _schema: Any) -> bool:
        sized: Any = value
        return type(value) is not kind or is_kept(len(sized), wanted) or walk.violated(value)

    return check


_CHECKS: Mapping[str, _Check] = {
    "$ref": _ref,
    "additionalProperties": _additional_properties,
    "allOf": _all_of,
    "anyOf": _any_of,
    "const": _const,
    "dependentRequired": _dependent_required,
    "enum": _enum,
    # Written as the library does, for NaN is neither less nor more.
    "exclusiveMaximum": _number(lambda value, wanted: not value >= wanted),
    "exclusiveMinimum": _number(lambda value, wanted: not value <= wanted),
    # Applied with a format checker only, which `jsonschema.validate` has none of by default.
    "format": lambda _walk, _wanted, _value, _schema: True,
    "if": _if,
    "items": _items,
    "maxItems": _size(list, lambda size, wanted: size <= wanted),
    "maxLength": _size(str, lambda size, wanted: size <= wanted),
    "maxProperties": _size(dict, lambda size, wanted: size <= wanted),
    "maximum": _number(lambda value, wanted: not value > wanted),
    "minItems": _size(list, lambda size, wanted: size >= wanted),
    "minLength": _size(str, lambda size, wanted: size >= wanted),
    "minProperties": _size(dict, lambda size, wanted: size >= wanted),
    "minimum": _number(lambda value, wanted: not value < wanted),
    "multipleOf": _multiple_of,
    "not": _not,
    "oneOf": _one_of,
    "pattern": _pattern,
    "properties": _properties,
    "required": _required,
    "type": _type,
    "uniqueItems": _unique_items,
}
