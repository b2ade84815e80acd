"""Tool schemas: checked, compiled and applied exactly as `jsonschema.validate` does, but bounded.

What is bounded (declared deviation 3): a remote `$ref` is never fetched, a regular expression and a
validation as a whole end in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jsonschema import validators
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema_specifications import REGISTRY as SPECIFICATIONS

from k2_verifier_adapter.core.schemas import patterns
from k2_verifier_adapter.core.schemas.argument_acceptor import surely_satisfies
from k2_verifier_adapter.core.schemas.bounded_keywords import (
    SchemaTimeoutError,
    bounded_class,
    check_budget,
    deadline,
)
from k2_verifier_adapter.core.schemas.schema_acceptor import is_surely_valid

VALIDATION_TIME_S = 1.0
"""Seconds that one validation may take; a usual one takes a tenth of a millisecond."""

CHECK_TIME_S = 3.0
"""Seconds that checking one schema may take; a usual one takes some milliseconds."""

MAX_VIOLATIONS = 20
"""Violations that are listed of one call; the first decides."""

MAX_COUNTED = 1_000
"""Violations that are counted of one call, listed or not."""


class BrokenSchemaError(Exception):
    """A tool schema that `jsonschema` refuses, or fails on; any call of the tool is invalid."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which arguments do not satisfy their schema; `$` is the path of the arguments as a whole."""

    keyword: str
    path: str
    message: str


class CompiledSchema:
    """A checked schema, ready to validate."""

    def __init__(self, schema: Any, validator_class: Any, *, is_simple: bool) -> None:
        """Take a schema and what validates by it.

        One that `schema_acceptor` knows is simple: most instances need no validator, and making one cannot
        fail.
        """
        self._schema = schema
        self._is_simple = is_simple
        self._class = validator_class
        self._validator: Any = None if is_simple else self._make_validator()

    def _make_validator(self) -> Any:
        return self._class(self._schema, registry=SPECIFICATIONS)

    def violations(self, instance: Any) -> list[Violation]:
        """List how the instance violates the schema; empty if it is valid.

        Raises:
            BrokenSchemaError: If the schema fails while it is applied: a `$ref` that cannot be
                resolved, endless recursion.
            SchemaTimeoutError: If the validation takes longer than `VALIDATION_TIME_S`, or the time
                budget is used up.
        """
        check_budget()
        if self._is_simple and surely_satisfies(self._schema, instance):
            return []
        endless = "the schema or the arguments recurse without end"
        with _errors_named(endless), deadline(VALIDATION_TIME_S):
            self._validator = self._validator or self._make_validator()
            errors = list(islice(self._validator.iter_errors(instance), MAX_VIOLATIONS))
            return [_violation(error) for error in errors]

    def count(self, instance: Any) -> int:
        """Count the violations of an instance that is known to have some, up to `MAX_COUNTED`.

        What the time limit or a failing schema keeps from being found is not counted.
        """
        counted = 0
        with deadline(VALIDATION_TIME_S), suppress(Exception):
            self._validator = self._validator or self._make_validator()
            for _ in islice(self._validator.iter_errors(instance), MAX_COUNTED):
                counted += 1
        return counted


def compile_schema(schema: Any) -> CompiledSchema:
    """Check a schema and make it ready, by the rules of `jsonschema.validate`.

    The validator class follows `$schema`, else it is the library's latest draft; no format checker.

    Raises:
        BrokenSchemaError: If the schema is not one.
        SchemaTimeoutError: If checking it takes longer than `CHECK_TIME_S`.
    """
    with _errors_named("the schema is nested too deeply", "checking the schema: "):
        plain = validators.validator_for(schema, default=validators.Draft202012Validator)
        is_simple = is_surely_valid(schema)
        if not is_simple:
            _check(plain, schema)
        return CompiledSchema(schema, bounded_class(plain), is_simple=is_simple)


def unchecked_schema(schema: Any) -> CompiledSchema:
    """Make a schema ready by Draft 2020-12, whether its meta-schema accepts it or not, as KVV does."""
    return CompiledSchema(schema, bounded_class(validators.Draft202012Validator), is_simple=False)


@contextmanager
def _errors_named(too_deep: str, when: str = "") -> Iterator[None]:
    """Make of every error inside one of the two that a schema or a validation by it may raise.

    Upstream: any exception of the validation makes the call invalid. That covers every type the library
    can raise on a schema, whether its meta-schema accepts it or not.
    """
    try:
        yield
    except (patterns.PatternTimeoutError, SchemaTimeoutError) as error:
        raise SchemaTimeoutError(f"{when}{error}") from None
    except SchemaError as error:
        raise BrokenSchemaError(f"at {_json_path(error.path)}: {_first_line(error)}") from None
    except RecursionError:
        raise BrokenSchemaError(too_deep) from None
    except Exception as error:  # noqa: BLE001 - see above
        raise BrokenSchemaError(f"{type(error).__name__}: {_first_line(error)}") from None
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise BrokenSchemaError(too_deep) from None


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
    validator = bounded_class(checking)(
        meta_schema, registry=SPECIFICATIONS, format_checker=checking.FORMAT_CHECKER
    )
    with deadline(CHECK_TIME_S):
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
