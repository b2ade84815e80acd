"""Tool calls: is each valid by upstream's rules, and if not, why not?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group, Variant
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judgement import LONGEST_NAME, WITHOUT_NAME, ToolUse
from k2_verifier_adapter.core.judging.arguments import InvalidArguments, parse_arguments
from k2_verifier_adapter.core.judging.markup import find_markers, may_hold_markup
from k2_verifier_adapter.core.messages import calls_of, name_of
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

NEARLY_STANDARD_ID = re.compile(r"\s*(?:functions[._]?)?(?P<name>.+?)[:_]?(?P<index>\d{1,6})\s*")
"""Forms of it that servers and clients make of it: without the prefix, as the official API itself gives it,
with blanks, or with other characters between the parts."""

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

        def failure(
            kind: FailureClass,
            detail: str,
            violation: Violation | None = None,
            variant: Variant | None = None,
        ) -> Failure:
            path = violation.path if violation else None
            keyword = violation.keyword if violation else None
            return Failure(kind, detail, position, tool_name, path, keyword, variant=variant)

        schema = _find_parameters(name, self._tools())
        if isinstance(schema, _NoSchema):
            return [failure(schema.failure_class, schema.reason)]
        # Without the key they are null: upstream's client fills it in.
        arguments = parse_arguments(function.get("arguments"))
        if isinstance(arguments, InvalidArguments):
            variant = arguments.variant or self._variant_of(arguments.failure_class, schema)
            return [failure(arguments.failure_class, arguments.reason, variant=variant)]
        try:
            violations = self._compiled_schema(schema).violations(arguments)
        except BrokenSchemaError as error:
            return [failure(FailureClass.BROKEN_TOOL_SCHEMA, str(error))]
        except SchemaTimeoutError as error:
            return [failure(FailureClass.SCHEMA_TIMEOUT, str(error))]
        if violations and "arguments" not in function:
            kind = FailureClass.EMPTY_ARGUMENTS
            return [failure(kind, "the call has no arguments", variant=self._variant_of(kind, schema))]
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

    def _variant_of(self, kind: FailureClass, schema: Any) -> Variant | None:
        """Tell of empty arguments whether an empty object would do."""
        if kind is not FailureClass.EMPTY_ARGUMENTS:
            return None
        try:
            return None if self._compiled_schema(schema).violations({}) else Variant.EMPTY_OBJECT_FITS
        except (BrokenSchemaError, SchemaTimeoutError):
            return None

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


def id_failures(
    calls: list[Any],
    declared: Callable[[], Collection[str]],
    *,
    any_form: bool = False,
    absent: Variant = Variant.ABSENT,
) -> list[Failure]:
    """List the ids that are not of the model's form, hold markup or occur twice; none makes a call invalid.

    `declared` gives the names of the declared tools, `any_form` says that an id may have any form, `absent`
    how an id came to be missing. Of each class the first `MAX_LISTED` are listed.
    """

    def found() -> Iterator[Failure]:
        seen: set[str] = set()
        for position, call in enumerate(calls):
            if not isinstance(call, dict):
                continue
            call_id, tool = call.get("id"), name_of(call)
            if not isinstance(call_id, str) or not call_id:
                kind = FailureClass.NONSTANDARD_TOOL_CALL_ID
                yield Failure(kind, f"id {shown(call_id)} is none", position, tool, variant=absent)
                continue
            match = STANDARD_ID.fullmatch(call_id)
            if match is None or match["name"] != tool:
                odd = _odd_id(call_id, declared(), tool, any_form=any_form)
                if odd is not None:
                    yield replace(odd, call=position, tool=tool)
            if call_id in seen:
                detail = f"id {shown(call_id)} occurs twice"
                yield Failure(FailureClass.DUPLICATE_TOOL_CALL_ID, detail, position, tool)
            seen.add(call_id)

    return _first_of_each_class(found())


def _odd_id(call_id: str, declared: Collection[str], tool: str | None, *, any_form: bool) -> Failure | None:
    """Say what is wrong with an id that is not K2's id of its call's name."""
    markers = find_markers(call_id) if may_hold_markup(call_id) else []
    if markers:
        detail = f"id {shown(call_id)} holds {shown(markers[0], 60)}"
        return Failure(FailureClass.MARKUP_IN_TOOL_CALL_ID, detail, marker=markers[0], where="id")
    standard = STANDARD_ID.fullmatch(call_id)
    # The id of a declared tool is right where the name beside it is of none.
    if any_form or (standard is not None and standard["name"] in declared and tool not in declared):
        return None
    nearly = NEARLY_STANDARD_ID.fullmatch(call_id)
    named = nearly is not None and nearly["name"] in {*declared, tool}
    return Failure(
        FailureClass.NONSTANDARD_TOOL_CALL_ID,
        f"id {shown(call_id)} is not functions.NAME:IDX",
        variant=Variant.NEARLY_STANDARD if named else None,
    )


def reused_ids(
    calls: Sequence[Any], messages: Callable[[], Sequence[Any] | None], mentioned: Callable[[str], bool]
) -> list[Failure]:
    """List the ids that a call of the history has as well: a client then answers the wrong call.

    `mentioned` says whether an id may stand in the messages; where none may, these are not decoded.
    """
    identified = [
        (position, call)
        for position, call in enumerate(calls[:MAX_LISTED])
        if isinstance(call, dict) and isinstance(call.get("id"), str)
    ]
    if not any(call["id"] and mentioned(call["id"]) for _, call in identified):
        return []
    ids = (call.get("id") for message in messages() or () for call in calls_of(message))
    given = {identifier for identifier in ids if isinstance(identifier, str)}
    return [
        Failure(
            FailureClass.TOOL_CALL_ID_REUSED,
            f"id {shown(call['id'])} is that of a call in the history",
            position,
            name_of(call),
        )
        for position, call in identified
        if call["id"] in given
    ]


def tool_uses(calls: Sequence[Any], invalid: frozenset[int]) -> tuple[ToolUse, ...]:
    """Count the calls of one response by tool, given the positions of those that are not valid."""
    counted: dict[str, list[int]] = {}
    for position, call in enumerate(calls):
        name = name_of(call)
        count = counted.setdefault(WITHOUT_NAME if name is None else excerpt(name, LONGEST_NAME), [0, 0])
        count[0] += 1
        count[1] += position in invalid
    return tuple(ToolUse(name, total, bad) for name, (total, bad) in counted.items())
