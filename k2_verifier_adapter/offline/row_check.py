"""Can these rows be used, and what is in them?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii, shown
from k2_verifier_adapter.core.judging.tool_calls import DeclaredTools
from k2_verifier_adapter.core.presets import Standard, preset_for
from k2_verifier_adapter.core.schemas.bounded_keywords import SchemaTimeoutError, time_budget
from k2_verifier_adapter.core.schemas.compiled import CHECK_TIME_S, BrokenSchemaError, compile_schema
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.baseline_file import SPLIT, read_standard
from k2_verifier_adapter.formats.rows import (
    BUNDLED,
    SUFFIXES,
    BadRow,
    Place,
    Record,
    decode_or_explain,
    find_file,
    read_records,
)

_ALL_REPAIRS = HistoryOptions(normalize_tool_call_ids=True)
_MAX_VALUES = 10


@dataclass(frozen=True, slots=True)
class RowNote:
    """Something in a row that does not keep it from being used.

    Attributes:
        place: Where the row stands.
        subject: What in the row: a tool, a call.
        failure_class: What is wrong with it.
        detail: What exactly.
    """

    place: Place
    subject: str
    failure_class: FailureClass
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Give the form that the JSON output holds."""
        return {
            "row": str(self.place),
            "subject": self.subject,
            "class": self.failure_class.value,
            "detail": self.detail,
        }


@dataclass(slots=True)
class SubsetCheck:
    """What is in the rows of one subset.

    Attributes:
        subset: The subset.
        file: Its rows file, or None if there is none.
        error: Why the rows cannot be used as a whole, or None.
        hint: What the file seems to be instead, or None.
        bad_rows: Rows that cannot be used.
        rows: Rows that can.
        calls: Those with an official call.
        synthetic: Those that are synthetic.
        finish_reasons: Those by official finish_reason; `not given` where the row has none.
        repairs: Those by repair; `tool_call_ids` is only made where it is asked for.
        parameters: For each parameter, its values as JSON text, with the number of rows.
        tools: Tools, each row's counted.
        distinct_schemas: Different schemas among them.
        tool_notes: Tools whose schema is missing, broken, or takes too long to check.
        with_official_calls: Rows with an official call that carry it.
        call_notes: Official calls that are not valid.
        standard: What the numbers are held against, or None.
    """

    subset: str
    file: Path | None = None
    error: str | None = None
    hint: str | None = None
    bad_rows: list[BadRow] = field(default_factory=list)
    rows: int = 0
    calls: int = 0
    synthetic: int = 0
    finish_reasons: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    parameters: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    tools: int = 0
    distinct_schemas: int = 0
    tool_notes: list[RowNote] = field(default_factory=list)
    with_official_calls: int = 0
    call_notes: list[RowNote] = field(default_factory=list)
    standard: Standard | None = None

    @property
    def usable(self) -> bool:
        """Whether a run could use these rows."""
        return self.error is None and not self.bad_rows and self.rows > 0

    def as_json(self) -> dict[str, Any]:
        """Give the form that the JSON output holds."""
        return {
            "subset": self.subset,
            "file": None if self.file is None else str(self.file),
            "usable": self.usable,
            "error": self.error,
            "hint": self.hint,
            "rows": self.rows,
            "calls": self.calls,
            "synthetic": self.synthetic,
            "finish_reasons": dict(self.finish_reasons.most_common()),
            "repairs": {name: self.repairs[name] for name in REPAIRS},
            "parameters": {
                name: {"distinct": len(values), "most_common": dict(values.most_common(_MAX_VALUES))}
                for name, values in sorted(self.parameters.items())
            },
            "tools": self.tools,
            "distinct_schemas": self.distinct_schemas,
            "tool_warnings": [note.as_json() for note in self.tool_notes],
            "with_official_calls": self.with_official_calls,
            "invalid_official_calls": [note.as_json() for note in self.call_notes],
            "standard": None if self.standard is None else self.standard.as_json(),
            "bad_rows": [
                {"row": str(bad.place), "field": bad.field, "reason": bad.reason} for bad in self.bad_rows
            ],
        }


REPAIRS = ("malformed_history", "input_role", "tool_call_ids")


def find_subsets(path: str | Path) -> list[str]:
    """Name the subsets that a file or directory holds.

    Raises:
        DataError: If it is neither, or holds no rows file.
    """
    if str(path) == BUNDLED:
        return [BUNDLED]
    path = Path(path).expanduser()
    if not path.is_dir():
        # Also says what is wrong where there is no such file.
        return [find_file(path, "").stem.removesuffix(f"_{SPLIT}")]
    names = {
        file.stem.removesuffix(f"_{SPLIT}")
        for file in path.iterdir()
        if file.is_file() and file.suffix in SUFFIXES and not file.name.startswith(".")
    }
    for folder in (path, path / "data"):
        for inner in folder.iterdir() if folder.is_dir() else ():
            if inner.is_dir() and any(inner.glob(f"{SPLIT}*{suffix}") for suffix in SUFFIXES):
                names.add(inner.name)
    names = {name for name in names if _has_rows(path, name)}
    if not names:
        raise DataError(f"{path}: holds no rows, expected SUBSET_{SPLIT}.jsonl or .parquet")
    return sorted(names)


def _has_rows(path: Path, subset: str) -> bool:
    inner = (path / subset, path / "data" / subset)
    files = [path / f"{stem}{suffix}" for stem in (f"{subset}_{SPLIT}", subset) for suffix in SUFFIXES]
    found = [file for folder in inner if folder.is_dir() for file in folder.iterdir()]
    return any(file.is_file() for file in files) or any(
        file.suffix in SUFFIXES and file.name.startswith(SPLIT) for file in found
    )


def check_subset(
    path: str | Path, subset: str, on_row: Callable[[int], None] = lambda _: None
) -> SubsetCheck:
    """Read all rows of a subset, and say what is in them and what is wrong with them.

    Args:
        path: What `local_path` takes.
        subset: The subset.
        on_row: Called with 1 for each row.
    """
    check = SubsetCheck(subset)
    schemas = _Schemas()
    try:
        check.file = find_file(path, subset)
        records = _watched(read_records(path, subset), check, on_row)
        for item in decode_or_explain(records, _ALL_REPAIRS):
            if isinstance(item, BadRow):
                check.bad_rows.append(item)
            else:
                _add(check, schemas, *item)
        check.standard = read_standard(check.file) or preset_for(subset).standard
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
    tools = case.tools()
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
