"""Tool calls: is each valid by upstream's rules, and if not, why not?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.judging.arguments import InvalidArguments, parse_arguments
from k2_verifier_adapter.core.schemas.compiled import (
    BrokenSchemaError,
    CompiledSchema,
    Violation,
    compile_schema,
)
from k2_verifier_adapter.core.schemas.time_limits import SchemaTimeoutError, check_budget, time_budget

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
        FailureClass.TRUNCATED_JSON,
        FailureClass.CONCATENATED_JSON,
        FailureClass.TRAILING_TEXT,
        FailureClass.SINGLE_QUOTED_JSON,
        FailureClass.EMPTY_ARGUMENTS,
        FailureClass.NOT_AN_OBJECT,
        FailureClass.OTHER_INVALID_JSON,
        FailureClass.MISSING_REQUIRED,
        FailureClass.UNEXPECTED_PROPERTY,
        FailureClass.WRONG_TYPE,
        FailureClass.ENUM_VIOLATION,
        FailureClass.OTHER_SCHEMA_VIOLATION,
        FailureClass.UNDECLARED_TOOL,
        FailureClass.TOOL_NAME_CASE_OR_PREFIX,
        FailureClass.BROKEN_TOOL_SCHEMA,
        FailureClass.TOOL_WITHOUT_SCHEMA,
        FailureClass.SCHEMA_TIMEOUT,
    }
)
"""The classes that make a call invalid; ids and streams never do."""


Compiled = dict[int, CompiledSchema | BrokenSchemaError]
"""Schemas compiled so far, by the `id` of the schema within the decoded tools."""


def judge_calls(calls: list[Any], tools: Any, compiled: Compiled) -> list[Failure]:
    """List what makes the calls of one answer invalid, all within one time budget; see `judge_call`.

    Of each class the first `MAX_LISTED` are listed: nobody reads the millions that a response can hold.
    """
    with time_budget(RESPONSE_TIME_S):
        return _first_of_each_class(
            failure
            for position, call in enumerate(calls)
            for failure in judge_call(call, tools, position, compiled)
        )


def _first_of_each_class(failures: Iterable[Failure]) -> list[Failure]:
    counted: Counter[FailureClass] = Counter()
    listed = []
    for failure in failures:
        if counted[failure.failure_class] < MAX_LISTED:
            counted[failure.failure_class] += 1
            listed.append(failure)
    return listed


def judge_call(call: Any, tools: Any, position: int, compiled: Compiled | None = None) -> list[Failure]:
    """List what makes one tool call invalid; empty if it is valid.

    Upstream's rule: the first tool of the request with that name exists and its parameters are
    truthy; `arguments` parse (a string) or are used as they are; they satisfy the schema. Any
    exception on the way makes the call invalid.

    Args:
        call: The tool call as it came, of any shape.
        tools: The request's tools.
        position: 0-based position of the call in the response.
        compiled: Schemas that earlier calls compiled, by their `id` in `tools`.
    """
    try:
        check_budget()
    except SchemaTimeoutError as error:
        return [Failure(FailureClass.SCHEMA_TIMEOUT, str(error), position)]
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or "name" not in function:
        detail = f"{shown(call)} has no function name"
        return [Failure(FailureClass.UNDECLARED_TOOL, detail, position)]
    name = function["name"]
    tool_name = name if isinstance(name, str) else None

    def failure(kind: FailureClass, detail: str, violation: Violation | None = None) -> Failure:
        path = violation.path if violation else None
        keyword = violation.keyword if violation else None
        return Failure(kind, detail, position, tool_name, path, keyword)

    schema = _find_parameters(name, tools)
    if isinstance(schema, _NoSchema):
        return [failure(schema.failure_class, schema.reason)]
    if "arguments" not in function:
        return [failure(FailureClass.EMPTY_ARGUMENTS, "the call has no arguments")]
    arguments = parse_arguments(function["arguments"])
    if isinstance(arguments, InvalidArguments):
        return [failure(arguments.failure_class, arguments.reason)]
    try:
        violations = _compile_once(schema, {} if compiled is None else compiled).violations(arguments)
    except BrokenSchemaError as error:
        return [failure(FailureClass.BROKEN_TOOL_SCHEMA, str(error))]
    except SchemaTimeoutError as error:
        return [failure(FailureClass.SCHEMA_TIMEOUT, str(error))]
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


def count_violations(call: Any, tools: Any, compiled: Compiled) -> int:
    """Count the violations of a call of which `judge_call` lists as many as it lists at most."""
    function = call["function"]
    schema = _find_parameters(function["name"], tools)
    return _compile_once(schema, compiled).count(parse_arguments(function["arguments"]))


def _compile_once(schema: Any, compiled: Compiled) -> CompiledSchema:
    if id(schema) not in compiled:
        try:
            compiled[id(schema)] = compile_schema(schema)
        except BrokenSchemaError as error:
            compiled[id(schema)] = error
    found = compiled[id(schema)]
    if isinstance(found, BrokenSchemaError):
        raise found
    return found


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
        if not isinstance(call, Mapping):
            continue
        call_id = call.get("id")
        function = call.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        tool = name if isinstance(name, str) else None
        match = STANDARD_ID.fullmatch(call_id) if isinstance(call_id, str) else None
        if match is None or match["name"] != tool:
            detail = f"id {shown(call_id)} is not functions.NAME:IDX"
            yield Failure(FailureClass.NONSTANDARD_TOOL_CALL_ID, detail, position, tool)
        if isinstance(call_id, str):
            if call_id in seen:
                detail = f"id {shown(call_id)} occurs twice"
                yield Failure(FailureClass.DUPLICATE_TOOL_CALL_ID, detail, position, tool)
            seen.add(call_id)
