"""What `dataset build` and `dataset check` found, as documents and as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from k2_verifier_adapter.core.dataset_findings import (
    REPAIRS,
    BadRow,
    Finding,
    FindingKind,
    RowNote,
    SubsetBuild,
    SubsetCheck,
    ranges,
)
from k2_verifier_adapter.core.model_profiles import profiles_by_demand
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.printable import percent, plural
from k2_verifier_adapter.core.self_agreement import chance_to_pass
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.document import Document, Facts, Judged, Notes, Paragraph, Section
from k2_verifier_adapter.reports.wording import agreement_bounds

_MOST_VALUES = 10
"""Values of a request parameter in JSON."""
_FIRST_VALUES = 5
_FIRST_DETAILS = 5
"""Findings of a kind whose details are shown; the line numbers of all are."""
_FIRST_NOTES = 20
_LONGEST_VALUE = 60


def build_document(build: SubsetBuild) -> Document:
    """Say what was built, from what, and what was left out and why."""
    lead: list[doc.Block] = [Facts(tuple(_build_facts(build)))]
    kinds = {finding.kind for finding in build.findings}
    if build.standard.threshold is None:
        lead.append(
            Paragraph("Give more official runs with further --baseline, or --threshold, for a verdict.")
        )
    if FindingKind.REQUEST_DIFFERS in kinds:
        lead.append(Paragraph("Without --samples, the baseline's own requests become the rows."))
    if FindingKind.DUPLICATE in kinds:
        lead.append(Paragraph("Of several repeats of a run in one file, give each as a file of its own."))
    sections = (
        ("left-out", "Left out", [finding for finding in build.findings if finding.kind.leaves_out]),
        ("noted", "Noted", [finding for finding in build.findings if not finding.kind.leaves_out]),
        ("others", "In the other runs, which only measure self-agreement", build.other_findings),
    )
    return Document(
        kind=build.subset,
        title=f"{plural(build.rows, 'row')}, {build.calls:,} with an official call",
        lead=tuple(lead),
        sections=tuple(
            Section(name, title, (doc.Items(tuple(_items(findings))),))
            for name, title, findings in sections
            if findings
        ),
    )


def _build_facts(build: SubsetBuild) -> Iterator[tuple[str, str]]:
    yield "rows", build.rows_path if build.rows else "nothing was written"
    if build.rows:
        yield "baseline", build.baseline_path
    yield "threshold", _standard(build.standard)
    if prospects := _prospects(build):
        yield "official runs", prospects
    for number, run in enumerate(build.runs, start=1):
        served = ", ".join(f"{name} ({count:,})" for name, count in run.served_models.most_common(3))
        yield f"run {number}", f"{run.name}, {run.completed:,} completed, served by {served or 'no name'}"
    for pair in build.pairs:
        f1 = "undefined: neither calls" if pair.f1 is None else percent(pair.f1)
        yield f"runs {pair.first} and {pair.second}", f"F1 {f1} over {plural(pair.cases, 'case')}"


def _prospects(build: SubsetBuild) -> str | None:
    """Say how often a faithful vendor passes with so many official runs, and with one more."""
    agreement, runs = build.standard.self_agreement, len(build.runs)
    if agreement is None or not 0 < build.calls < build.rows:
        return None
    base = build.calls / build.rows

    def chance(runs: int) -> str:
        return f"{chance_to_pass(base, agreement.mean, runs, build.rows):.0%}"

    if runs == 1:
        return f"1; with a second, a faithful vendor would pass the similarity in {chance(2)}"
    return (
        f"{runs}; a faithful vendor passes the similarity in {chance(runs)}, with one more {chance(runs + 1)}"
    )


def _items(findings: Iterable[Finding]) -> Iterator[doc.Item]:
    groups: dict[tuple[FindingKind, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.kind, finding.file].append(finding)
    order = list(FindingKind)
    for (kind, file), group in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        count = sum(finding.count for finding in group)
        numbers = {number for finding in group for number in finding.lines}
        place = f", {_lines('line', numbers)}" if numbers else ""
        details = [
            f"{_lines('line', finding.lines)}: {finding.detail}" if finding.lines else finding.detail
            for finding in group
            if finding.detail
        ]
        left = len(details) - _FIRST_DETAILS
        more = [f"and {left:,} more"] if left > 0 else []
        yield doc.Item(f"{count:,} {kind.words}: {file}{place}", (), (*details[:_FIRST_DETAILS], *more))


def _lines(unit: str, numbers: Iterable[int]) -> str:
    found = set(numbers)
    return f"{unit if len(found) == 1 else f'{unit}s'} {ranges(found)}"


def check_document(path: str, checks: Sequence[SubsetCheck]) -> Document:
    """Say of each subset whether it can be used, and what is in it."""
    usable = sum(check.usable for check in checks)
    title = f"{usable:,} of {plural(len(checks), 'subset')} can be used"
    return Document(path, title, tuple(_checked(check) for check in checks), ())


def _checked(check: SubsetCheck) -> Judged:
    said = "can be used" if check.usable else "cannot be used"
    said += "" if check.file is None else f" ({check.file})"
    status = Status.PASS if check.usable else Status.FAIL
    return Judged(check.subset, check.subset, status, said, tuple(_check_blocks(check)))


def _check_blocks(check: SubsetCheck) -> Iterator[doc.Block]:
    if check.error is not None:
        yield Paragraph(check.error)
    if check.bad_rows:
        total = check.rows + len(check.bad_rows)
        count = f"{len(check.bad_rows):,} of {plural(total, 'row')} cannot be used:"
        yield Notes((count, *_bad_rows(check.bad_rows)), Status.FAIL)
        if check.hint is not None:
            yield Paragraph(check.hint)
    if check.rows:
        yield Facts(tuple(_check_facts(check)))
        yield from _notes("tools whose calls are never valid", check.tool_notes)
        yield from _notes("problems of official calls", check.call_notes)
        yield from _without_reasoning(check)


def _check_facts(check: SubsetCheck) -> Iterator[tuple[str, str]]:
    synthetic = f", {check.synthetic:,} SYNTHETIC" if check.synthetic else ""
    yield "rows", f"{check.rows:,}, {check.calls:,} with an official call{synthetic}"
    yield "official finish_reason", _counted(check.finish_reasons.most_common())
    repairs = [f"{name} {check.repairs[name]:,}" for name in ("malformed_history", "input_role")]
    ids = check.repairs["tool_call_ids"]
    yield "rows to repair", f"{', '.join(repairs)}; with normalize_tool_call_ids also {ids:,}"
    for name, values in sorted(check.parameters.items()):
        left = len(values) - _FIRST_VALUES
        more = f" and {left:,} other values" if left > 0 else ""
        yield f"parameter {name}", f"{_counted(values.most_common(_FIRST_VALUES))}{more}"
    yield "tools", f"{check.tools:,}, {plural(check.distinct_schemas, 'different schema')}"
    yield (
        "official calls",
        f"carried by {check.with_official_calls:,} of {plural(check.calls, 'calling row')}",
    )
    yield "threshold", "none: synthetic rows, no verdict" if check.synthetic else _standard(check.standard)


def _bad_rows(bad_rows: Iterable[BadRow]) -> Iterator[str]:
    """List every bad row, those that are bad in the same way together."""
    groups: dict[tuple[str, str | None, str], list[int]] = defaultdict(list)
    for bad in bad_rows:
        groups[bad.place.unit, bad.field, bad.reason].append(bad.place.number)
    for (unit, name, reason), numbers in groups.items():
        at_fault = "" if name is None else f"field {name!r}: "
        yield f"{_lines(unit, numbers)}: {at_fault}{reason}"


def _notes(title: str, notes: Sequence[RowNote]) -> Iterator[Notes]:
    if notes:
        lines = [f"{note.place}: {note.subject}: {note.failure_class.value}: {note.detail}" for note in notes]
        left = len(lines) - _FIRST_NOTES
        more = [f"and {left:,} more: see --format json"] if left > 0 else []
        heading = f"WARNING: {len(notes):,} {title}:"
        yield Notes((heading, *lines[:_FIRST_NOTES], *more), Status.INCONCLUSIVE)


def _without_reasoning(check: SubsetCheck) -> Iterator[Notes]:
    """Name the rows that models which think refuse."""
    for demand, places in check.without_reasoning.items():
        models = ", ".join(profile.title for profile in profiles_by_demand()[demand])
        first = ", ".join(str(place) for place in places[:_FIRST_NOTES])
        more = ", ..." if len(places) > _FIRST_NOTES else ""
        line = (
            f"WARNING: {plural(len(places), 'row')} with assistant messages without reasoning_content, "
            f"which the APIs of {models} refuse while thinking is on: {first}{more}"
        )
        yield Notes((line,), Status.INCONCLUSIVE)


def _standard(standard: Standard | None) -> str:
    if standard is None:
        return "none known, so no verdict"
    threshold = "none, so no verdict" if standard.threshold is None else percent(standard.threshold)
    agreement = standard.self_agreement
    measured = "" if agreement is None else f"; self-agreement {agreement_bounds(agreement)}"
    return f"{threshold}{measured} ({standard.source})"


def _counted(values: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{value[:_LONGEST_VALUE]} ({count:,})" for value, count in values)


def dump_checks(path: str, checks: Sequence[SubsetCheck]) -> str:
    """Give what was found as JSON, in printable ASCII."""
    usable = all(check.usable for check in checks)
    found = {"schema_version": 1, "path": path, "usable": usable, "subsets": list(map(_as_json, checks))}
    return json.dumps(found, indent=2, ensure_ascii=True) + "\n"


def _as_json(check: SubsetCheck) -> dict[str, Any]:
    return {
        "subset": check.subset,
        "file": check.file,
        "usable": check.usable,
        "error": check.error,
        "hint": check.hint,
        "rows": check.rows,
        "calls": check.calls,
        "synthetic": check.synthetic,
        "finish_reasons": dict(check.finish_reasons.most_common()),
        "repairs": {name: check.repairs[name] for name in REPAIRS},
        "parameters": {
            name: {"distinct": len(values), "most_common": dict(values.most_common(_MOST_VALUES))}
            for name, values in sorted(check.parameters.items())
        },
        "tools": check.tools,
        "distinct_schemas": check.distinct_schemas,
        "tool_warnings": list(map(_note_as_json, check.tool_notes)),
        "with_official_calls": check.with_official_calls,
        "invalid_official_calls": list(map(_note_as_json, check.call_notes)),
        "history_without_reasoning": {
            demand: list(map(str, places)) for demand, places in check.without_reasoning.items()
        },
        "standard": None if check.standard is None else check.standard.as_json(),
        "bad_rows": [
            {"row": str(bad.place), "field": bad.field, "reason": bad.reason} for bad in check.bad_rows
        ],
    }


def _note_as_json(note: RowNote) -> dict[str, str]:
    return {
        "row": str(note.place),
        "subject": note.subject,
        "class": note.failure_class.value,
        "detail": note.detail,
    }
