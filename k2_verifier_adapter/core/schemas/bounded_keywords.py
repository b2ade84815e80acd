"""jsonschema's keywords, bounded in time: what a schema or its arguments can make long, ends.

Valid and invalid stay what they are in `jsonschema`; tests compare both over generated schemas.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import pairwise
from math import inf, isnan
from types import FunctionType
from typing import Any

from jsonschema import validators
from jsonschema.exceptions import ValidationError

from k2_verifier_adapter.core.schemas import patterns


class SchemaTimeoutError(Exception):
    """A validation ran into its time limit; nothing is known of the call."""


_OUT_OF_TIME = "validation ran out of time"

_expires_at: ContextVar[float] = ContextVar("_expires_at")
_budget_ends_at: ContextVar[float] = ContextVar("_budget_ends_at", default=inf)


@contextmanager
def time_budget(seconds: float) -> Iterator[None]:
    """Bound all validations inside together: what is left when the time is up runs into its limit."""
    token = _budget_ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _budget_ends_at.reset(token)


def check_budget() -> None:
    """Raise `SchemaTimeoutError` if no time is left for a further validation."""
    if time.monotonic() > _budget_ends_at.get():
        raise SchemaTimeoutError(_OUT_OF_TIME)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound the validation inside."""
    expiry = _expires_at.set(min(time.monotonic() + seconds, _budget_ends_at.get()))
    try:
        yield
    finally:
        _expires_at.reset(expiry)


def remaining() -> float:
    """Give the seconds that are left, or raise `SchemaTimeoutError`."""
    left = _expires_at.get() - time.monotonic()
    if left <= 0:
        raise SchemaTimeoutError(_OUT_OF_TIME)
    return left


_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


@lru_cache(maxsize=32)
def bounded_class(plain: Any) -> Any:
    """Derive a validator class that checks the deadline at every applicator keyword."""
    keywords: dict[str, _Keyword] = {
        name: _checking(keyword) for name, keyword in plain.VALIDATORS.items() if name in _RECURSING
    }
    keywords["pattern"] = _pattern
    keywords["format"] = _checking(_bounding_regex(plain.VALIDATORS["format"]))
    if "patternProperties" in plain.VALIDATORS:
        keywords["patternProperties"] = _checking(_pattern_properties)
        keywords["additionalProperties"] = _checking(_additional_properties)
    if "unevaluatedProperties" in plain.VALIDATORS:
        keywords["unevaluatedProperties"] = _guard_properties(plain.VALIDATORS["unevaluatedProperties"])
    if "unevaluatedItems" in plain.VALIDATORS:
        keywords["unevaluatedItems"] = _guard_items(plain.VALIDATORS["unevaluatedItems"])
    if "uniqueItems" in plain.VALIDATORS:
        keywords["uniqueItems"] = _unique_items
    # Typed in some of the library's stubs, untyped in others.
    extend: Any = validators.extend
    bounded = extend(plain, keywords)
    bounded.evolve = _bounding(bounded.evolve)
    return bounded


def _bounding(evolve: Callable[..., Any]) -> Callable[..., Any]:
    """Check the deadline at every subschema, and stay bounded where one names its own `$schema`.

    The library then goes on with its plain class for that `$schema` (jsonschema 4.26,
    `Validator.evolve`).
    """

    def evolve_bounded(validator: Any, **changes: Any) -> Any:
        remaining()
        evolved = evolve(validator, **changes)
        if type(evolved) is type(validator):
            return evolved
        plain: Any = type(evolved)
        bounded = bounded_class(plain)
        return bounded(
            evolved.schema,
            registry=evolved._registry,  # noqa: SLF001 - as the library's own `evolve` passes them
            format_checker=evolved.format_checker,
            _resolver=evolved._resolver,  # noqa: SLF001
        )

    return evolve_bounded


_RECURSING = frozenset(
    {
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "items",
        "prefixItems",
        "contains",
        "properties",
        "dependentSchemas",
        "dependencies",
        "propertyNames",
        "additionalItems",
    }
)


def _checking(keyword: _Keyword) -> _Keyword:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        remaining()
        return keyword(validator, value, instance, schema)

    return checked


def _bounding_regex(keyword: _Keyword) -> _Keyword:
    """Have the format `regex`, which a check of a schema demands of its patterns, refuse huge ones."""

    def bounded(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if value != "regex" or validator.format_checker is None or not isinstance(instance, str):
            return keyword(validator, value, instance, schema)
        patterns.check_size(instance)
        with patterns.without_warnings():
            return list(keyword(validator, value, instance, schema) or ())

    return bounded


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not patterns.search(pattern, instance, remaining()):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, pattern_properties: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in pattern_properties.items():
        for key, value in instance.items():
            if patterns.search(pattern, key, remaining()):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, additional: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """Apply `additionalProperties` as the library does, but search the patterns with a time limit."""
    if not validator.is_type(instance, "object"):
        return
    declared = schema.get("properties", {})
    # Searched as one alternation, as the library does: inline flags and group numbers reach over.
    joined = "|".join(schema.get("patternProperties", {}))
    extras = [
        name
        for name in instance
        if name not in declared and not (joined and patterns.search(joined, name, remaining()))
    ]
    if validator.is_type(additional, "object"):
        for name in extras:
            yield from validator.descend(instance[name], additional, path=name)
    elif not additional and extras:
        listed = ", ".join(map(repr, sorted(extras, key=str)))
        yield ValidationError(f"Additional properties are not allowed: {listed}")


_UNEVALUATED_LIMIT = 3_000
"""Members up to which the library's lists of what is evaluated, searched one by one, end in time."""


def _guard_properties(keyword: Any) -> _Keyword:
    """Let the library's `unevaluatedProperties` run only where it ends in time."""
    searching_in_time = _with_bounded_search(keyword)

    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        remaining()
        if validator.is_type(instance, "object") and len(instance) > _UNEVALUATED_LIMIT:
            raise SchemaTimeoutError(f"unevaluatedProperties over {len(instance)} properties")
        return searching_in_time(validator, value, instance, schema)

    return guarded


class _BoundedRe:
    """Stands for the module `re` in a function that searches with it."""

    @staticmethod
    def search(pattern: str, text: str) -> bool:
        return patterns.search(pattern, text, remaining())


def _with_bounded_search(keyword: Any) -> _Keyword:
    """Rebuild the library's `unevaluatedProperties` around the bounded search.

    It looks each key up in the `patternProperties` of every subschema in place, with `re.search` (jsonschema
    4.22 to 4.26). The two functions stay the library's own, whatever its version; only what they know
    under the name `re` is another.
    """
    name = "find_evaluated_property_keys_by_schema"
    find = keyword.__globals__[name]
    names = {**find.__globals__, "re": _BoundedRe}
    # It calls itself by its global name.
    names[name] = FunctionType(find.__code__, names)
    rebuilt: _Keyword = FunctionType(keyword.__code__, {**keyword.__globals__, name: names[name]})
    return rebuilt


def _guard_items(keyword: _Keyword) -> _Keyword:
    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        remaining()
        if validator.is_type(instance, "array") and len(instance) > _UNEVALUATED_LIMIT:
            raise SchemaTimeoutError(f"unevaluatedItems over {len(instance)} items")
        return keyword(validator, value, instance, schema)

    return guarded


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array") and not _all_unique(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


def _all_unique(items: list[Any]) -> bool:
    """Tell as the library's `uniq` does whether all items differ, but in time n log n.

    Items that Python can sort are compared with their neighbours only (so `[[1], [true], [1]]`
    counts as unique, for 1 sorts as true does); all others with each other.
    """
    try:
        # `None` in the place of booleans, which must not sort as the numbers that they are in Python.
        comparable: list[Any] = [None if isinstance(item, bool) else item for item in items]
        ordered = sorted(comparable)
    except TypeError:
        keys = list(map(_equality_key, items))
        return len(set(keys)) == len(keys)
    keys = list(map(_equality_key, ordered))
    return all(one != other for one, other in pairwise(keys))


def _equality_key(value: Any) -> Any:
    """Give a key that two JSON values share where the library takes them for equal: 1 is 1.0, not true."""
    if isinstance(value, list):
        return (list, *map(_equality_key, value))
    if isinstance(value, dict):
        return frozenset((name, _equality_key(item)) for name, item in value.items())
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, (int, float)):
        if isnan(value):
            # Equal to nothing but the very same object.
            return (float, id(value))
        # As text, for the hashes of numbers are known and so could be made to collide.
        whole = isinstance(value, float) and value.is_integer()
        return (int, repr(int(value) if whole else value))
    return value
