"""Tool schemas: checked, compiled and applied exactly as `jsonschema.validate` does, but bounded.

What is bounded (declared deviation 3): a remote `$ref` is never fetched, a regular expression and a
validation as a whole end in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from math import inf, isnan
from typing import Any

from jsonschema import validators
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema_specifications import REGISTRY as SPECIFICATIONS

from k2_verifier_adapter.core import patterns
from k2_verifier_adapter.core.schema_acceptor import is_surely_valid

VALIDATION_TIME_S = 1.0
"""Seconds that one validation may take; a usual one takes a tenth of a millisecond."""

CHECK_TIME_S = 3.0
"""Seconds that checking one schema may take; a usual one takes some milliseconds."""

MAX_VIOLATIONS = 20
"""Violations that are listed of one call; the first decides."""


class BrokenSchemaError(Exception):
    """A tool schema that `jsonschema` refuses, or fails on; any call of the tool is invalid."""


class SchemaTimeoutError(Exception):
    """A validation ran into the time limit; nothing is known of the call."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which arguments do not satisfy their schema.

    Attributes:
        keyword: The violated keyword (`required`, `type`, …).
        path: JSON path to the violating value, `$` for the arguments as a whole.
        message: The library's message, shortened.
    """

    keyword: str
    path: str
    message: str


class CompiledSchema:
    """A checked schema, ready to validate."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def violations(self, instance: Any) -> list[Violation]:
        """List how the instance violates the schema; empty if it is valid.

        Raises:
            BrokenSchemaError: If the schema fails while it is applied: a `$ref` that cannot be
                resolved, endless recursion.
            SchemaTimeoutError: If the validation takes longer than `VALIDATION_TIME_S`.
        """
        with _deadline(VALIDATION_TIME_S, self._validator.schema):
            try:
                errors = list(islice(self._validator.iter_errors(instance), MAX_VIOLATIONS))
                return [_violation(error) for error in errors]
            except (patterns.PatternTimeoutError, SchemaTimeoutError) as error:
                raise SchemaTimeoutError(str(error)) from None
            except RecursionError:
                raise BrokenSchemaError("the schema or the arguments recurse without end") from None
            except Exception as error:
                # Upstream: any exception of the validation makes the call invalid. That covers
                # every type the library can raise on a schema that its meta-schema accepts.
                raise BrokenSchemaError(f"{type(error).__name__}: {_first_line(error)}") from None
            except BaseException as error:
                if not _is_panic(error):
                    raise
                raise BrokenSchemaError("the schema or the arguments recurse without end") from None


def compile_schema(schema: Any) -> CompiledSchema:
    """Check a schema and make it ready, by the rules of `jsonschema.validate`.

    The validator class follows `$schema`, else it is the library's latest draft; no format checker.

    Raises:
        BrokenSchemaError: If the schema is not one.
        SchemaTimeoutError: If checking it takes longer than `CHECK_TIME_S`.
    """
    try:
        plain = validators.validator_for(schema, default=validators.Draft202012Validator)
        if not is_surely_valid(schema):
            _check(plain, schema)
        return CompiledSchema(_bounded(plain)(schema, registry=SPECIFICATIONS))
    except (patterns.PatternTimeoutError, SchemaTimeoutError) as error:
        raise SchemaTimeoutError(f"checking the schema: {error}") from None
    except SchemaError as error:
        path = _json_path(error.path)
        raise BrokenSchemaError(f"at {path}: {_first_line(error)}") from None
    except RecursionError:
        raise BrokenSchemaError("the schema is nested too deeply") from None
    except Exception as error:
        raise BrokenSchemaError(f"{type(error).__name__}: {_first_line(error)}") from None
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise BrokenSchemaError("the schema is nested too deeply") from None


def _is_panic(error: BaseException) -> bool:
    """Whether an error is a Rust panic, which is no `Exception`.

    `rpds` 2026.9, which holds jsonschema's registry, panics where Python's recursion limit is
    reached inside it (seen on Python 3.10 with a `$ref` to itself).
    """
    return type(error).__name__ == "PanicException"


def _check(plain: Any, schema: Any) -> None:
    """Do what `plain.check_schema` does, within the time limit."""
    meta_schema = plain.META_SCHEMA
    checking = validators.validator_for(meta_schema, default=plain)
    validator = _bounded(checking)(
        meta_schema, registry=SPECIFICATIONS, format_checker=checking.FORMAT_CHECKER
    )
    with _deadline(CHECK_TIME_S, meta_schema):
        for error in validator.iter_errors(schema):
            raise SchemaError.create_from(error)


def _violation(error: ValidationError) -> Violation:
    """Describe an error; of a failed `anyOf` or `oneOf`, the branch that came closest."""
    closest = best_match([error]) or error
    keyword = _keyword(closest)
    if closest.context:
        # No branch is clearly the closest, but they may all fail alike: string or null, say.
        keywords = {str(child.validator) for child in closest.context}
        if len(keywords) == 1:
            keyword = keywords.pop()
    return Violation(keyword, _json_path(closest.absolute_path), _first_line(closest))


def _keyword(error: ValidationError) -> str:
    """Name the keyword; where a schema `false` or one for names refuses, the keyword that applies it."""
    path = list(error.schema_path)
    if error.validator is None:
        return next((str(step) for step in reversed(path) if step in _APPLY_FALSE), "false")
    named = path[-2:-1] == ["propertyNames"] and path[-3:-2] != ["properties"]
    return "propertyNames" if named else str(error.validator)


_APPLY_FALSE = frozenset({"properties", "patternProperties", "propertyNames", "items", "contains", "not"})


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, (ValidationError, SchemaError)) else str(error)
    line = text.splitlines()[0] if text else ""
    return line if len(line) <= 200 else f"{line[:200]}…"


def _json_path(parts: Any) -> str:
    steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return "$" + "".join(steps)


_expires_at: ContextVar[float] = ContextVar("_expires_at")
_root_schema: ContextVar[Any] = ContextVar("_root_schema")
_budget_ends_at: ContextVar[float] = ContextVar("_budget_ends_at", default=inf)


@contextmanager
def time_budget(seconds: float) -> Iterator[None]:
    """Bound all validations inside together: what is left when the time is up runs into its limit."""
    token = _budget_ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _budget_ends_at.reset(token)


@contextmanager
def _deadline(seconds: float, schema: Any) -> Iterator[None]:
    expires_at = min(time.monotonic() + seconds, _budget_ends_at.get())
    expiry, root = _expires_at.set(expires_at), _root_schema.set(schema)
    try:
        yield
    finally:
        _root_schema.reset(root)
        _expires_at.reset(expiry)


def _remaining() -> float:
    left = _expires_at.get() - time.monotonic()
    if left <= 0:
        raise SchemaTimeoutError("validation ran out of time")
    return left


_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


@lru_cache(maxsize=32)
def _bounded(plain: Any) -> Any:
    """Derive a validator class that checks the deadline at every applicator keyword."""
    keywords: dict[str, _Keyword] = {
        name: _checking(keyword) for name, keyword in plain.VALIDATORS.items() if name in _RECURSING
    }
    keywords["pattern"] = _pattern
    if "patternProperties" in plain.VALIDATORS:
        keywords["patternProperties"] = _checking(_pattern_properties)
        keywords["additionalProperties"] = _checking(_additional_properties)
    if "unevaluatedProperties" in plain.VALIDATORS:
        keywords["unevaluatedProperties"] = _guard_properties(plain.VALIDATORS["unevaluatedProperties"])
    if "unevaluatedItems" in plain.VALIDATORS:
        keywords["unevaluatedItems"] = _guard_items(plain.VALIDATORS["unevaluatedItems"])
    if "uniqueItems" in plain.VALIDATORS:
        keywords["uniqueItems"] = _unique_items
    bounded: Any = validators.extend(plain, keywords)  # type: ignore[no-untyped-call]
    bounded.evolve = _bounding(bounded.evolve)
    return bounded


def _bounding(evolve: Callable[..., Any]) -> Callable[..., Any]:
    """Check the deadline at every subschema, and stay bounded where one names its own `$schema`.

    The library then goes on with its plain class for that `$schema` (jsonschema 4.26,
    `Validator.evolve`).
    """

    def evolve_bounded(validator: Any, **changes: Any) -> Any:
        _remaining()
        evolved = evolve(validator, **changes)
        if type(evolved) is type(validator):
            return evolved
        plain: Any = type(evolved)
        bounded = _bounded(plain)
        return bounded(
            evolved.schema,
            registry=evolved._registry,  # noqa: SLF001
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
        _remaining()
        return keyword(validator, value, instance, schema)

    return checked


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not patterns.search(pattern, instance, _remaining()):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, pattern_properties: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in pattern_properties.items():
        for key, value in instance.items():
            if patterns.search(pattern, key, _remaining()):
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
        if name not in declared and not (joined and patterns.search(joined, name, _remaining()))
    ]
    if validator.is_type(additional, "object"):
        for name in extras:
            yield from validator.descend(instance[name], additional, path=name)
    elif not additional and extras:
        listed = ", ".join(map(repr, sorted(extras, key=str)))
        yield ValidationError(f"Additional properties are not allowed: {listed}")


def _property_patterns(schema: Any) -> Iterator[str]:
    """Find every pattern that a `patternProperties` anywhere in the schema may hold."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found = value.get("patternProperties")
            if isinstance(found, dict):
                yield from found
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


_UNEVALUATED_LIMIT = 3_000
"""Members up to which the library's lists of what is evaluated, searched one by one, end in time."""


def _guard_properties(keyword: _Keyword) -> _Keyword:
    """Let the library's `unevaluatedProperties` run only where it ends in time.

    It searches every key for every `patternProperties` of any subschema in place, with `re`.
    """

    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _remaining()
        if validator.is_type(instance, "object"):
            if len(instance) > _UNEVALUATED_LIMIT:
                raise SchemaTimeoutError(f"unevaluatedProperties over {len(instance)} properties")
            longest = max(map(len, instance), default=0)
            for pattern in _property_patterns(_root_schema.get()):
                if not patterns.is_cheap(pattern, longest):
                    raise SchemaTimeoutError(f"unevaluatedProperties with the pattern {pattern!r}")
        return keyword(validator, value, instance, schema)

    return guarded


def _guard_items(keyword: _Keyword) -> _Keyword:
    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _remaining()
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
