"""What `dataset build` and `dataset check` say to a person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from k2_verifier_adapter.core.dataset_findings import Finding, FindingKind, ranges
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.printable import percent, plural, printable
from k2_verifier_adapter.formats.rows import BadRow
from k2_verifier_adapter.offline.dataset_build import Build
from k2_verifier_adapter.offline.row_check import RowNote, SubsetCheck

_SHOWN = 5
"""Findings of a kind whose details are shown; the line numbers of all are."""
_NOTES_SHOWN = 20


def render_build(build: Build) -> str:
    """Say what was built, from what, and what was left out and why."""
    return _text(_build_lines(build))


def _build_lines(build: Build) -> Iterator[str]:
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
    for (unit, field, reason), numbers in groups.items():
        noun = unit if len(numbers) == 1 else f"{unit}s"
        at_fault = "" if field is None else f"field {field!r}: "
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
