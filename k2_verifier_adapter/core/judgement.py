"""What one response is worth, by upstream's rules, and which failures it shows.

The rules are those of `tool_calls_eval.py`; where a rule is a declared deviation, the code says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.agreement import argument_agreement, same_tool_names
from k2_verifier_adapter.core.arguments import InvalidArguments, parse_arguments
from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.responses import FinishBucket, Response
from k2_verifier_adapter.core.schemas import (
    BrokenSchemaError,
    CompiledSchema,
    SchemaTimeoutError,
    Violation,
    compile_schema,
    time_budget,
)

RESPONSE_TIME_S = 5.0
"""Seconds that validating all calls of one response may take; there may be thousands of them."""

STANDARD_ID = re.compile(r"functions\.(?P<name>.+):(?P<index>\d+)")
"""The form of a K2 tool call id; K2's own templates rely on it."""

_KNOWN_FINISH_REASONS = frozenset({"stop", "tool_calls", "length", "content_filter"})

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


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one completed response is worth.

    Attributes:
        finish_reason: The literal finish_reason, None if in no bucket.
        bucket: The bucket that it is counted in.
        tool_calls_valid: As upstream's field: None unless finish_reason is `tool_calls` and calls
            are present; else whether every call is valid.
        should_call: The official decision.
        official_bucket: The bucket of the official finish_reason.
        official_valid: Whether the official calls are valid; None if the official answer is no
            call. Official calls that the row does not carry count as valid.
        same_names: Whether both sides call the same multiset of names; None unless both call and
            the row carries the official calls.
        argument_agreement: Share of equal leaf values over aligned calls, or None.
        repaired: Whether upstream would have sent this case differently.
        failures: Every failure seen, in the order in which the response shows them.
    """

    finish_reason: str | None
    bucket: FinishBucket
    tool_calls_valid: bool | None
    should_call: bool
    official_bucket: FinishBucket
    official_valid: bool | None
    same_names: bool | None
    argument_agreement: float | None
    repaired: bool
    failures: tuple[Failure, ...]

    @property
    def calls(self) -> bool:
        """The vendor's decision: finish_reason is `tool_calls`."""
        return self.bucket is FinishBucket.TOOL_CALLS

    @property
    def successful(self) -> bool:
        """Whether the response counts as a successful tool call."""
        return self.calls and self.tool_calls_valid is True

    @property
    def schema_error(self) -> bool:
        """Whether the response counts as a schema validation error, an empty call list included."""
        return self.calls and self.tool_calls_valid is not True


def judge(case: Case, response: Response, stream_anomalies: Iterable[FailureClass] = ()) -> Judgement:
    """Judge one completed response.

    Args:
        case: The case that was asked.
        response: Choice 0 of the raw completion.
        stream_anomalies: Stream failure classes noticed while the response was assembled.
    """
    failures = [Failure(kind, _STREAM_DETAILS[kind]) for kind in stream_anomalies]
    failures += _finish_failures(response)
    calls = response.tool_calls
    official = case.official_tool_calls() if case.official.should_call else None
    called = response.bucket is FinishBucket.TOOL_CALLS and bool(calls)
    # Decoded and compiled once for both sides, which mostly call the same tool.
    tools = case.tools() if called or official else []
    compiled: _Compiled = {}
    valid: bool | None = None
    if called:
        found = _judge_calls(calls, tools, compiled)
        valid = not any(failure.failure_class in INVALIDATING for failure in found)
        failures += found
        failures += _id_failures(calls)
    compared = official if called else None
    return Judgement(
        finish_reason=response.finish_reason,
        bucket=response.bucket,
        tool_calls_valid=valid,
        should_call=case.official.should_call,
        official_bucket=_official_bucket(case),
        official_valid=_official_valid(case, official, tools, compiled),
        same_names=same_tool_names(calls, compared) if compared else None,
        argument_agreement=argument_agreement(calls, compared) if compared else None,
        repaired=case.repairs.beyond_upstream,
        failures=tuple(failures),
    )


_STREAM_DETAILS = {
    FailureClass.STREAM_INDEX_MISSING: "a tool call delta without index; counted as index 0",
    FailureClass.STREAM_ID_MISSING: "a streamed tool call whose id never arrived",
    FailureClass.STREAM_NAME_REPEATED: "a tool call's name arrived more than once; the last counts",
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


_Compiled = dict[int, CompiledSchema | BrokenSchemaError]


def _judge_calls(calls: list[Any], tools: Any, compiled: _Compiled) -> list[Failure]:
    with time_budget(RESPONSE_TIME_S):
        return [
            failure
            for position, call in enumerate(calls)
            for failure in judge_call(call, tools, position, compiled)
        ]


def judge_call(call: Any, tools: Any, position: int, compiled: _Compiled | None = None) -> list[Failure]:
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


def _compile_once(schema: Any, compiled: _Compiled) -> CompiledSchema:
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
    bare = re.split(r"[.:/]", bare)[-1] if re.search(r"[.:/]", bare) else bare
    return bare.casefold().replace("-", "_")


def _finish_failures(response: Response) -> list[Failure]:
    finish_reason, calls = response.finish_reason, response.tool_calls
    failures = []
    if finish_reason is None:
        failures.append(Failure(FailureClass.FINISH_REASON_MISSING, "finish_reason is null or absent"))
    elif finish_reason == "length":
        failures.append(Failure(FailureClass.TRUNCATED_BY_LENGTH, "finish_reason is 'length'"))
    elif finish_reason == "content_filter":
        failures.append(Failure(FailureClass.CONTENT_FILTERED, "finish_reason is 'content_filter'"))
    elif finish_reason not in _KNOWN_FINISH_REASONS:
        detail = f"finish_reason is {shown(finish_reason)}"
        failures.append(Failure(FailureClass.FINISH_REASON_UNKNOWN, detail))
    if finish_reason == "tool_calls" and not calls:
        # Declared deviation 2: a null message, on which upstream crashes, is judged the same way.
        detail = "finish_reason is 'tool_calls', but there is no call"
        failures.append(Failure(FailureClass.FINISH_TOOL_CALLS_WITHOUT_CALLS, detail))
    elif calls and finish_reason != "tool_calls":
        detail = f"{len(calls)} tool calls, but finish_reason is {shown(finish_reason)}"
        failures.append(Failure(FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS, detail))
    return failures


def _id_failures(calls: list[Any]) -> list[Failure]:
    failures = []
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
            failures.append(Failure(FailureClass.NONSTANDARD_TOOL_CALL_ID, detail, position, tool))
        if isinstance(call_id, str):
            if call_id in seen:
                detail = f"id {shown(call_id)} occurs twice"
                failures.append(Failure(FailureClass.DUPLICATE_TOOL_CALL_ID, detail, position, tool))
            seen.add(call_id)
    return failures


def _official_bucket(case: Case) -> FinishBucket:
    if case.official.should_call:
        return FinishBucket.TOOL_CALLS
    if case.official.finish_reason in (None, "stop"):
        return FinishBucket.STOP
    return FinishBucket.OTHERS


def _official_valid(case: Case, official: list[Any] | None, tools: Any, compiled: _Compiled) -> bool | None:
    if not case.official.should_call:
        return None
    if official is None:
        return True
    return bool(official) and not _judge_calls(official, tools, compiled)
