"""A matrix of vendors, as a document and as JSON: how each ended, then their comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from k2_verifier_adapter.core.comparison.matrix import Matrix, VendorResult
from k2_verifier_adapter.core.metrics import ACCURACY, CALL_SURPLUS, PRIMARY_METRIC
from k2_verifier_adapter.core.printable import plural, printable
from k2_verifier_adapter.core.verdict import Check, Status, Verdict
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.comparison_document import comparison_document, cost_section
from k2_verifier_adapter.reports.comparison_json import comparison_as_json, cost_as_json
from k2_verifier_adapter.reports.document import Column, Kind, Section, Table, Value
from k2_verifier_adapter.reports.json_report import metric_as_json, verdict_as_json

KIND = "K2 vendor matrix"
SCHEMA_VERSION = 1

_FIRST = "leaderboard"
_REPLACED = frozenset({"cost"})
"""Sections of a comparison that the matrix has its own of: over all vendors, not only those compared."""

_CHECKED = {PRIMARY_METRIC: "similarity", CALL_SURPLUS: "surplus", ACCURACY: "accuracy"}


def matrix_document(matrix: Matrix) -> doc.Document:
    """Make the page of a matrix."""
    compared = None if matrix.comparison is None else comparison_document(matrix.comparison)
    lead = () if compared is None else compared.lead
    if matrix.not_compared is not None:
        lead = (
            *lead,
            doc.Notes((f"Nothing is compared: {printable(matrix.not_compared)}",), Status.INCONCLUSIVE),
        )
    costs = [
        (wording.name(item.name), item.participant) for item in matrix.vendors if item.participant is not None
    ]
    sections = () if compared is None else compared.sections
    return doc.Document(
        kind=KIND,
        title=plural(len(matrix.vendors), "vendor"),
        lead=lead,
        sections=(
            _vendors(matrix),
            *((_checks(matrix),) if any(item.answered for item in matrix.vendors) else ()),
            *_probes(matrix),
            *(section for section in sections if section.name == _FIRST),
            *((cost_section(costs),) if costs else ()),
            *(section for section in sections if section.name not in {*_REPLACED, _FIRST}),
        ),
    )


def _vendors(matrix: Matrix) -> Section:
    """Say how each vendor's run ended."""
    rows: list[tuple[doc.Cell, ...]] = []
    notes = []
    for place, vendor in enumerate(matrix.vendors):
        counts, status, said = ("", "", ""), Status.NONE, [vendor.reason]
        if vendor.participant is not None:
            summary = vendor.participant.summary
            counts = (f"{summary.completed:,}", f"{summary.tally.failed:,}", f"{summary.missing:,}")
            status = summary.verdict.status if vendor.answered else status
            said.append(wording.stopped_at(summary))
        name = wording.name(vendor.name)
        verdict = Value(status.value, status)
        rows.append((matrix.letter_of(place) or "-", name, verdict, *counts, str(vendor.code)))
        if any(said):
            notes.append(f"{name}: {printable('; '.join(filter(None, said)))}")
    columns = (
        Column("run", Kind.NAME),
        Column("vendor", Kind.FOREIGN),
        Column("verdict"),
        *doc.numbers("completed", "failed", "missing", "exit code"),
    )
    title = "Vendors"
    return Section(
        "vendors", title, (Table(title, columns, tuple(rows)), doc.Notes(tuple(notes))), link=title
    )


def _checks(matrix: Matrix) -> Section:
    """Give what the strict rule says of each vendor that answered."""
    rows: list[tuple[doc.Cell, ...]] = []
    for vendor in matrix.vendors:
        if vendor.participant is not None and vendor.answered:
            verdict = vendor.participant.summary.verdict
            checks = {check.metric: _checked(check, verdict) for check in verdict.checks}
            differs = ", ".join(found.name for found in verdict.raised)
            shown = (checks.get(metric, "") for metric in _CHECKED)
            rows.append((wording.name(vendor.name), *shown, differs))
    columns = (
        Column("vendor", Kind.FOREIGN),
        *(Column(title) for title in _CHECKED.values()),
        Column("differs", below=True),
    )
    title = "Checks and differences"
    notes = ("by the strict rule, over all cases of each vendor's own run",)
    return Section("checks", title, (Table(title, columns, tuple(rows)), doc.Notes(notes)), link="Checks")


def _probes(matrix: Matrix) -> Iterator[Section]:
    """Give the probes passed at the first try of those asked, by suite and vendor."""
    asked = [(item.name, item.conformance) for item in matrix.vendors if item.conformance is not None]
    if not asked:
        return
    names = list(dict.fromkeys(suite.name for _, found in asked for suite in found.suites))
    columns = (Column("suite", Kind.IDENTIFIER), *(Column(wording.name(name)) for name, _ in asked))
    rows: list[tuple[doc.Cell, ...]] = []
    for name in names:
        cells: list[doc.Cell] = []
        for _, found in asked:
            suite = next((one for one in found.suites if one.name == name), None)
            if suite is None:
                cells.append("-")
            else:
                share = suite.share()
                cells.append(Value(f"{share.passed}/{share.total}", suite.status))
        rows.append((wording.name(name), *cells))
    title = "Conformance"
    notes = ("probes passed at the first try, of those asked, plain and streamed",)
    yield Section("probes", title, (Table(title, columns, tuple(rows)), doc.Notes(notes)), link=title)


def _checked(check: Check, verdict: Verdict) -> Value:
    value = wording.checked_value(check)
    if verdict.status is Status.NONE or not check.applied:
        return Value(value)
    return Value(f"{value} {check.status.value}", check.status)


def matrix_as_json(matrix: Matrix) -> dict[str, Any]:
    """Give the content of the page; `comparison` is what `compare` prints, null where nothing is compared."""
    return {
        "schema_version": SCHEMA_VERSION,
        "vendors": [_vendor(vendor, matrix.letter_of(place)) for place, vendor in enumerate(matrix.vendors)],
        "not_compared": matrix.not_compared,
        "comparison": None if matrix.comparison is None else comparison_as_json(matrix.comparison),
    }


def _vendor(vendor: VendorResult, run: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": vendor.name,
        "source": vendor.source,
        "run": run,
        "exit_code": vendor.code,
        "reason": vendor.reason,
        "complete": vendor.complete,
    }
    if vendor.participant is not None:
        summary = vendor.participant.summary
        found["requests"] = {
            "total": summary.total,
            "completed": summary.completed,
            "failed": summary.tally.failed,
            "missing": summary.missing,
        }
        found["metrics"] = {metric.name: metric_as_json(metric) for metric in summary.metrics}
        found["verdict"] = verdict_as_json(summary.verdict)
        found |= cost_as_json(vendor.participant)
    if vendor.conformance is not None:
        found["conformance"] = {
            suite.name: {
                "status": suite.status.value,
                "passed": suite.share().passed,
                "total": suite.share().total,
            }
            for suite in vendor.conformance.suites
        }
    return found
