"""Can these rows be used, and what is in them?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.dataset_findings import REPAIRS, BadRow, Place, RowNote, SubsetCheck
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii, shown
from k2_verifier_adapter.core.judging.tool_calls import DeclaredTools
from k2_verifier_adapter.core.model_profiles import profiles_by_demand, without_reasoning
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.schemas.bounded_keywords import SchemaTimeoutError, time_budget
from k2_verifier_adapter.core.schemas.compiled import CHECK_TIME_S, BrokenSchemaError, compile_schema
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.rows import (
    Record,
    decode_or_explain,
    find_file,
    read_records,
    read_standard,
)

_ALL_REPAIRS = HistoryOptions(normalize_tool_call_ids=True)


def check_subset(
    path: str | Path, subset: str, on_row: Callable[[int], None] = lambda _: None
) -> SubsetCheck:
    """Read all rows of a subset, and say what is in them and what is wrong with them.

    The path is what `local_path` takes; `on_row` is called with 1 for each row.
    """
    check = SubsetCheck(subset)
    schemas = _Schemas()
    try:
        file = find_file(path, subset)
        check.file = str(file)
        records = _watched(read_records(path, subset), check, on_row)
        for item in decode_or_explain(records, _ALL_REPAIRS):
            if isinstance(item, BadRow):
                check.bad_rows.append(item)
            else:
                _add(check, schemas, *item)
        check.standard = read_standard(file) or preset_for(subset).standard
        if not check.rows and not check.bad_rows:
            check.error = f"{check.file}: holds no rows"
    except DataError as error:
        check.error = str(error)
    check.distinct_schemas = len(schemas.verdicts)
    return check


def _watched(
    records: Iterator[Record], check: SubsetCheck, on_row: Callable[[int], None]
) -> Iterator[Record]:
    for record in records:
        if check.hint is None and isinstance(record.content, Mapping):
            check.hint = _hint(record.content)
        yield record
        on_row(1)


def _hint(row: Mapping[str, Any]) -> str | None:
    """Tell what a file of upstream's is, by its columns; None for rows."""
    if "should_call_tool" in row or "official_finish_reason" in row:
        return None
    if "request" in row or "response" in row:
        return (
            "this looks like upstream's results.jsonl; make rows of it: k2-verifier dataset build --baseline"
        )
    if "messages" in row:
        return (
            "this looks like upstream's samples.jsonl; make rows of it: k2-verifier dataset build --samples"
        )
    return None


def _add(check: SubsetCheck, schemas: _Schemas, place: Place, case: Case) -> None:
    check.rows += 1
    check.calls += case.official.should_call
    check.synthetic += case.synthetic
    check.finish_reasons[case.official.finish_reason or "not given"] += 1
    for name in REPAIRS:
        check.repairs[name] += bool(getattr(case.repairs, name))
    for name, value in case.parameters.items():
        check.parameters[name][dumps_ascii(value)] += 1
    messages = case.messages()
    for demand, profiles in profiles_by_demand().items():
        if without_reasoning(messages, profiles[0]):
            check.without_reasoning.setdefault(demand, []).append(place)
    tools = case.declared_tools()
    check.tools += len(tools)
    for position, tool in enumerate(tools):
        problem = schemas.problem(tool)
        if problem is not None:
            function = tool.get("function")
            tool_name = function.get("name") if isinstance(function, dict) else None
            subject = f"tools[{position}] ({shown(tool_name, 60)})"
            check.tool_notes.append(RowNote(place, subject, *problem))
    if case.official.should_call:
        calls = case.official_tool_calls()
        if calls is not None:
            check.with_official_calls += 1
            check.call_notes += _invalid_calls(place, calls, tools)


def _invalid_calls(place: Place, calls: Sequence[Any], tools: Any) -> Iterator[RowNote]:
    if not calls:
        detail = "the official finish_reason is tool_calls, but there is no call"
        yield RowNote(place, "no call", FailureClass.FINISH_TOOL_CALLS_WITHOUT_CALLS, detail)
    for failure in DeclaredTools(lambda: tools).judge(calls):
        subject = f"call {failure.call} ({shown(failure.tool, 60)})"
        yield RowNote(place, subject, failure.failure_class, failure.detail)


class _Schemas:
    """Check each different schema once; rows repeat their tools."""

    def __init__(self) -> None:
        self.verdicts: dict[str, tuple[FailureClass, str] | None] = {}

    def problem(self, tool: Mapping[str, Any]) -> tuple[FailureClass, str] | None:
        """Say what keeps a tool's calls from ever being valid; None if nothing does."""
        function = tool.get("function")
        if not isinstance(function, dict) or "name" not in function:
            return FailureClass.BROKEN_TOOL_SCHEMA, "has no function name"
        schema = function.get("parameters")
        if not schema:
            found = repr(schema) if "parameters" in function else "missing"
            return FailureClass.TOOL_WITHOUT_SCHEMA, f"its parameters are {found}"
        key = json.dumps(schema)
        if key not in self.verdicts:
            self.verdicts[key] = _compile(schema)
        return self.verdicts[key]


def _compile(schema: Any) -> tuple[FailureClass, str] | None:
    try:
        with time_budget(CHECK_TIME_S):
            compile_schema(schema)
    except BrokenSchemaError as error:
        return FailureClass.BROKEN_TOOL_SCHEMA, str(error)
    except SchemaTimeoutError as error:
        return FailureClass.SCHEMA_TIMEOUT, str(error)
    return None
