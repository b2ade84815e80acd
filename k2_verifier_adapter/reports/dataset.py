"""What `dataset build` and `dataset check` found, and how it is said to a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from k2_verifier_adapter.core.dataset_findings import BadRow, Finding, FindingKind, Place, ranges
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.printable import percent, plural, printable
from k2_verifier_adapter.core.self_agreement import PairAgreement

REPAIRS = ("malformed_history", "input_role", "tool_call_ids")

_MOST_VALUES = 10
"""Values of a request parameter that are listed."""
_SHOWN = 5
"""Findings of a kind whose details are shown; the line numbers of all are."""
_NOTES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RunUsed:
    """An official run that rows were built from.

    Attributes:
        name: The file's name.
        sha256: Digest of the file.
        completed: Number of lines that hold a completion.
        requested_models: Lines by the model that was asked for.
        served_models: Completions by the model that they say answered.
    """

    name: str
    sha256: str
    completed: int
    requested_models: Counter[str]
    served_models: Counter[str]


@dataclass(frozen=True, slots=True)
class SubsetBuild:
    """What was built, or would have been if any row had remained.

    Attributes:
        subset: The subset.
        rows_path: The rows file.
        baseline_path: The baseline file.
        rows: Number of rows.
        calls: Number of rows with an official call.
        standard: What the rows' numbers are held against.
        runs: The official runs, the baseline first.
        pairs: How far every two of them agree.
        findings: What left rows out, or is worth knowing of them.
        other_findings: The same for the runs that only measure self-agreement.
    """

    subset: str
    rows_path: str
    baseline_path: str
    rows: int
    calls: int
    standard: Standard
    runs: Sequence[RunUsed]
    pairs: Sequence[PairAgreement]
    findings: Sequence[Finding]
    other_findings: Sequence[Finding]


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
    file: str | None = None
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
            "file": self.file,
            "usable": self.usable,
            "error": self.error,
            "hint": self.hint,
            "rows": self.rows,
            "calls": self.calls,
            "synthetic": self.synthetic,
            "finish_reasons": dict(self.finish_reasons.most_common()),
            "repairs": {name: self.repairs[name] for name in REPAIRS},
            "parameters": {
                name: {"distinct": len(values), "most_common": dict(values.most_common(_MOST_VALUES))}
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


def render_build(build: SubsetBuild) -> str:
    """Say what was built, from what, and what was left out and why."""
    return _text(_build_lines(build))


def _build_lines(build: SubsetBuild) -> Iterator[str]:
    rows = plural(build.rows, "row")
    yield f"{build.subset}: {rows}, {build.calls:,} with an official call"
    if build.rows:
        yield f"  rows      {build.rows_path}"
        yield f"  baseline  {build.baseline_path}"
    else:
        yield "  nothing was written"
    yield f"  {_standard(build.standard)}"
    if build.standard.threshold is None:
        yield "  give more official runs with further --baseline, or --threshold, for a verdict"
    for number, run in enumerate(build.runs, start=1):
        served = ", ".join(f"{name} ({count:,})" for name, count in run.served_models.most_common(3))
        yield f"  run {number}: {run.name}, {run.completed:,} completed, served by {served or 'no name'}"
    for pair in build.pairs:
        f1 = "undefined: neither calls" if pair.f1 is None else percent(pair.f1)
        yield f"  runs {pair.first} and {pair.second}: F1 {f1} over {plural(pair.cases, 'case')}"
    kinds = {finding.kind for finding in build.findings}
    left_out = [finding for finding in build.findings if finding.kind.leaves_out]
    noted = [finding for finding in build.findings if not finding.kind.leaves_out]
    for title, findings in (
        ("left out", left_out),
        ("noted", noted),
        ("in the other runs, which only measure self-agreement", build.other_findings),
    ):
        if findings:
            yield f"{title}:"
            yield from _finding_lines(findings)
    if FindingKind.REQUEST_DIFFERS in kinds:
        yield "Without --samples, the baseline's own requests become the rows."
    if FindingKind.DUPLICATE in kinds:
        yield "Of several repeats of a run in one file, give each as a file of its own."


def _finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    groups: dict[tuple[FindingKind, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind, finding.file].append(finding)
    order = list(FindingKind)
    for (kind, file), group in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        count = sum(finding.count for finding in group)
        numbers = {number for finding in group for number in finding.lines}
        noun = "line" if len(numbers) == 1 else "lines"
        place = f", {noun} {ranges(numbers)}" if numbers else ""
        yield f"  {count:,} {kind.words}: {file}{place}"
        detailed = [finding for finding in group if finding.detail]
        for finding in detailed[:_SHOWN]:
            where = f"line {ranges(finding.lines)}: " if finding.lines else ""
            yield f"      {where}{finding.detail}"
        if len(detailed) > _SHOWN:
            yield f"      and {len(detailed) - _SHOWN:,} more"


def render_check(checks: Sequence[SubsetCheck]) -> str:
    """Say of each subset whether it can be used, and what is in it."""
    return _text(line for check in checks for line in _check_lines(check))


def _check_lines(check: SubsetCheck) -> Iterator[str]:
    verdict = "can be used" if check.usable else "CANNOT BE USED"
    yield f"{check.subset}: {verdict}" + ("" if check.file is None else f" ({check.file})")
    if check.error is not None:
        yield f"  {check.error}"
    if check.bad_rows:
        total = check.rows + len(check.bad_rows)
        yield f"  {len(check.bad_rows):,} of {plural(total, 'row')} cannot be used:"
        yield from _bad_row_lines(check.bad_rows)
        if check.hint is not None:
            yield f"  {check.hint}"
    if not check.rows:
        return
    synthetic = f", {check.synthetic:,} SYNTHETIC" if check.synthetic else ""
    yield f"  {plural(check.rows, 'row')}, {check.calls:,} with an official call{synthetic}"
    yield f"  official finish_reason: {_counted(check.finish_reasons.most_common())}"
    repairs = [f"{name} {check.repairs[name]:,}" for name in ("malformed_history", "input_role")]
    ids = check.repairs["tool_call_ids"]
    yield f"  rows to repair: {', '.join(repairs)}; with normalize_tool_call_ids also {ids:,}"
    for name, values in sorted(check.parameters.items()):
        more = f" and {len(values) - _SHOWN:,} other values" if len(values) > _SHOWN else ""
        yield f"  parameter {name}: {_counted(values.most_common(_SHOWN))}{more}"
    yield f"  {plural(check.tools, 'tool')}, {plural(check.distinct_schemas, 'different schema')}"
    yield from _note_lines("tools whose calls are never valid", check.tool_notes)
    yield f"  official calls carried by {check.with_official_calls:,} of {plural(check.calls, 'calling row')}"
    yield from _note_lines("problems of official calls", check.call_notes)
    yield f"  {'synthetic rows: no verdict' if check.synthetic else _standard(check.standard)}"


def _bad_row_lines(bad_rows: Iterable[BadRow]) -> Iterator[str]:
    """List every bad row, those that are bad in the same way together."""
    groups: dict[tuple[str, str | None, str], list[int]] = defaultdict(list)
    for bad in bad_rows:
        groups[bad.place.unit, bad.field, bad.reason].append(bad.place.number)
    for (unit, name, reason), numbers in groups.items():
        noun = unit if len(numbers) == 1 else f"{unit}s"
        at_fault = "" if name is None else f"field {name!r}: "
        yield f"    {noun} {ranges(numbers)}: {at_fault}{reason}"


def _note_lines(title: str, notes: Sequence[RowNote]) -> Iterator[str]:
    if notes:
        yield f"  WARNING: {len(notes):,} {title}:"
        for note in notes[:_NOTES_SHOWN]:
            yield f"    {note.place}: {note.subject}: {note.failure_class.value}: {note.detail}"
        if len(notes) > _NOTES_SHOWN:
            yield f"    and {len(notes) - _NOTES_SHOWN:,} more; --format json lists them all"


def _standard(standard: Standard | None) -> str:
    if standard is None:
        return "threshold: none known, so no verdict"
    threshold = "none, so no verdict" if standard.threshold is None else percent(standard.threshold)
    agreement = standard.self_agreement
    measured = (
        f"; self-agreement lowest {percent(agreement.lowest)}, mean {percent(agreement.mean)}"
        if agreement
        else ""
    )
    return f"threshold: {threshold}{measured} ({standard.source})"


def _counted(values: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{value[:60]} ({count:,})" for value, count in values)


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)
