"""Tool calls: is each valid by upstream's rules, and if not, why not?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judgement import LONGEST_NAME, WITHOUT_NAME, ToolUse
from k2_verifier_adapter.core.judging.arguments import InvalidArguments, parse_arguments
from k2_verifier_adapter.core.messages import name_of
from k2_verifier_adapter.core.schemas.bounded_keywords import SchemaTimeoutError, check_budget, time_budget
from k2_verifier_adapter.core.schemas.compiled import (
    BrokenSchemaError,
    CompiledSchema,
    Violation,
    compile_schema,
)

RESPONSE_TIME_S = 5.0
"""Seconds that validating all calls of one response may take; there may be thousands of them."""

MAX_LISTED = 1_000
"""Failures of one class that are listed of one response; that there is one is what counts."""

STANDARD_ID = re.compile(r"functions\.(?P<name>.+):(?P<index>\d+)")
"""The form of a K2 tool call id; K2's own templates rely on it."""

_KEYWORD_CLASSES = {
    "required": FailureClass.MISSING_REQUIRED,
    "dependentRequired": FailureClass.MISSING_REQUIRED,
    "additionalProperties": FailureClass.UNEXPECTED_PROPERTY,
    "unevaluatedProperties": FailureClass.UNEXPECTED_PROPERTY,
    "propertyNames": FailureClass.UNEXPECTED_PROPERTY,
    # These two only where their subschema is `false`.
    "properties": FailureClass.UNEXPECTED_PROPERTY,
    "patternProperties": FailureClass.UNEXPECTED_PROPERTY,
    "type": FailureClass.WRONG_TYPE,
    "enum": FailureClass.ENUM_VIOLATION,
    "const": FailureClass.ENUM_VIOLATION,
}

INVALIDATING = frozenset(
    {
        FailureClass.UNDECLARED_TOOL,
        FailureClass.TOOL_NAME_CASE_OR_PREFIX,
        *(kind for kind in FailureClass if kind.group in (Group.ARGUMENTS, Group.NOT_THE_VENDORS)),
    }
)
"""The classes that make a call invalid; ids and streams never do."""


class DeclaredTools:
    """The tools of a request, decoded and their schemas compiled when they are needed, and once."""

    def __init__(self, decode: Callable[[], Any]) -> None:
        self._decode = decode
        self._decoded: Any = None
        self._compiled: dict[int, CompiledSchema | BrokenSchemaError] = {}

    def _tools(self) -> Any:
        if self._decoded is None:
            self._decoded = self._decode()
        return self._decoded

    def names(self) -> list[str]:
        """List the names of the declared tools."""
        tools = self._tools()
        names = map(name_of, tools if isinstance(tools, list) else ())
        return [name for name in names if name is not None]

    def judge(self, calls: Sequence[Any]) -> list[Failure]:
        """List what makes the calls of one answer invalid, all within one time budget.

        Of each class the first `MAX_LISTED` are listed: nobody reads the millions that a response can hold.
        """
        with time_budget(RESPONSE_TIME_S):
            return _first_of_each_class(
                failure for position, call in enumerate(calls) for failure in self._judge_call(call, position)
            )

    def _judge_call(self, call: Any, position: int) -> list[Failure]:
        """List what makes one call invalid; empty if it is valid.

        Upstream's rule: the first tool of the request with that name exists and its parameters are
        truthy; `arguments` parse (a string) or are used as they are; they satisfy the schema. Any
        exception on the way makes the call invalid.
        """
        try:
            check_budget()
        except SchemaTimeoutError as error:
            return [Failure(FailureClass.SCHEMA_TIMEOUT, str(error), position)]
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            detail = f"{shown(call)} has no function name"
            return [Failure(FailureClass.UNDECLARED_TOOL, detail, position)]
        name = function["name"]
        tool_name = name if isinstance(name, str) else None

        def failure(kind: FailureClass, detail: str, violation: Violation | None = None) -> Failure:
            path = violation.path if violation else None
            keyword = violation.keyword if violation else None
            return Failure(kind, detail, position, tool_name, path, keyword)

        schema = _find_parameters(name, self._tools())
        if isinstance(schema, _NoSchema):
            return [failure(schema.failure_class, schema.reason)]
        # Without the key they are null: upstream's client fills it in.
        arguments = parse_arguments(function.get("arguments"))
        if isinstance(arguments, InvalidArguments):
            return [failure(arguments.failure_class, arguments.reason)]
        try:
            violations = self._compiled_schema(schema).violations(arguments)
        except BrokenSchemaError as error:
            return [failure(FailureClass.BROKEN_TOOL_SCHEMA, str(error))]
        except SchemaTimeoutError as error:
            return [failure(FailureClass.SCHEMA_TIMEOUT, str(error))]
        if violations and "arguments" not in function:
            return [failure(FailureClass.EMPTY_ARGUMENTS, "the call has no arguments")]
        if violations and not isinstance(arguments, dict):
            detail = f"{shown(arguments)} is no object: {violations[0].message}"
            return [failure(FailureClass.NOT_AN_OBJECT, detail, violations[0])]
        return [
            failure(
                _KEYWORD_CLASSES.get(violation.keyword, FailureClass.OTHER_SCHEMA_VIOLATION),
                violation.message,
                violation,
            )
            for violation in violations
        ]

    def count_violations(self, call: Any) -> int:
        """Count the violations of a call that has more than `judge` lists."""
        function = call["function"]
        schema = _find_parameters(function["name"], self._tools())
        return self._compiled_schema(schema).count(parse_arguments(function.get("arguments")))

    def _compiled_schema(self, schema: Any) -> CompiledSchema:
        found = self._compiled.get(id(schema))
        if found is None:
            try:
                found = compile_schema(schema)
            except BrokenSchemaError as error:
                found = error
            self._compiled[id(schema)] = found
        if isinstance(found, BrokenSchemaError):
            raise found
        return found


def invalid_positions(failures: Iterable[Failure]) -> frozenset[int]:
    """Give the positions of the calls that these failures make invalid."""
    positions = (failure.call for failure in failures if failure.failure_class in INVALIDATING)
    return frozenset(position for position in positions if position is not None)


def _first_of_each_class(failures: Iterable[Failure]) -> list[Failure]:
    counted: Counter[FailureClass] = Counter()
    listed = []
    for failure in failures:
        if counted[failure.failure_class] < MAX_LISTED:
            counted[failure.failure_class] += 1
            listed.append(failure)
    return listed


@dataclass(frozen=True, slots=True)
class _NoSchema:
    failure_class: FailureClass
    reason: str


def _find_parameters(name: Any, tools: Any) -> Any:
    """Find the parameters of the first tool of that name, tool by tool as upstream does.

    A malformed tool in front of the one sought raises there, and so makes the call invalid.
    """
    if not isinstance(tools, list):
        return _NoSchema(FailureClass.UNDECLARED_TOOL, f"tool {shown(name)}: the request has no tools")
    declared: list[str] = []
    for position, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            return _NoSchema(
                FailureClass.BROKEN_TOOL_SCHEMA, f"tools[{position}] of the row has no function name"
            )
        declared.append(function["name"])
        if function["name"] == name:
            parameters = function.get("parameters")
            if not parameters:
                found = repr(parameters) if "parameters" in function else "missing"
                return _NoSchema(
                    FailureClass.TOOL_WITHOUT_SCHEMA, f"tool {shown(name)}: its parameters are {found}"
                )
            return parameters
    variant = _declared_variant(name, declared)
    if variant is not None:
        return _NoSchema(
            FailureClass.TOOL_NAME_CASE_OR_PREFIX, f"{shown(name)} is not declared, but {shown(variant)} is"
        )
    return _NoSchema(FailureClass.UNDECLARED_TOOL, f"{shown(name)} is not declared")


def _declared_variant(name: Any, declared: list[str]) -> str | None:
    """Find a declared name that differs only by case, a prefix, or the parts of an id."""
    if not isinstance(name, str):
        return None
    bare = _bare_name(name)
    for candidate in declared:
        if isinstance(candidate, str) and _bare_name(candidate) == bare and bare:
            return candidate
    return None


def _bare_name(name: str) -> str:
    bare = name.strip().removesuffix("()")
    bare = re.sub(r":\d+$", "", bare)
    bare = re.split(r"[.:/]|__", bare)[-1]
    return bare.casefold().replace("-", "_")


def id_failures(calls: list[Any]) -> list[Failure]:
    """List the ids that are not of K2's form or that occur twice; neither makes a call invalid.

    Of each class the first `MAX_LISTED` are listed.
    """
    return _first_of_each_class(_id_failures(calls))


def _id_failures(calls: list[Any]) -> Iterator[Failure]:
    seen: set[str] = set()
    for position, call in enumerate(calls):
        if not isinstance(call, dict):
            continue
        call_id, tool = call.get("id"), name_of(call)
        match = STANDARD_ID.fullmatch(call_id) if isinstance(call_id, str) else None
        if match is None or match["name"] != tool:
            detail = f"id {shown(call_id)} is not functions.NAME:IDX"
            yield Failure(FailureClass.NONSTANDARD_TOOL_CALL_ID, detail, position, tool)
        if isinstance(call_id, str):
            if call_id in seen:
                detail = f"id {shown(call_id)} occurs twice"
                yield Failure(FailureClass.DUPLICATE_TOOL_CALL_ID, detail, position, tool)
            seen.add(call_id)


def tool_uses(calls: Sequence[Any], invalid: frozenset[int]) -> tuple[ToolUse, ...]:
    """Count the calls of one response by tool, given the positions of those that are not valid."""
    counted: dict[str, list[int]] = {}
    for position, call in enumerate(calls):
        name = name_of(call)
        count = counted.setdefault(WITHOUT_NAME if name is None else excerpt(name, LONGEST_NAME), [0, 0])
        count[0] += 1
        count[1] += position in invalid
    return tuple(ToolUse(name, total, bad) for name, (total, bad) in counted.items())
