"""The formats of a report, each registered once: for every command, and for the files that a run leaves.

Nothing but a format that is asked for is imported, so that a command starts fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

if TYPE_CHECKING:
    from k2_verifier_adapter.core.comparison.baseline import NotWorse
    from k2_verifier_adapter.core.comparison.compare import Comparison
    from k2_verifier_adapter.core.comparison.history import History
    from k2_verifier_adapter.core.comparison.matrix import Matrix
    from k2_verifier_adapter.core.conformance.results import Conformance
    from k2_verifier_adapter.core.summary import Summary
    from k2_verifier_adapter.reports.bundle_document import Recount
    from k2_verifier_adapter.reports.document import Document
    from k2_verifier_adapter.reports.failed_cases import FailedCase


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the report on a run or on a results file is made of; redacted already, if it is to be.

    Attributes:
        summary: What to report.
        failed_cases: The failed cases, in row order; read only by a format that shows them.
    """

    summary: Summary
    failed_cases: Iterable[FailedCase] = ()

    def document(self) -> Document:
        """Make what is laid out for people."""
        from k2_verifier_adapter.reports.run_document import run_document

        return run_document(self.summary, self.failed_cases)

    def as_json(self) -> str:
        """Give the text for other programs."""
        from k2_verifier_adapter.reports.json_report import dump_report

        return dump_report(self.summary)


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """What the report on several runs is made of, with the question of the baseline where it was asked."""

    comparison: Comparison
    found: NotWorse | None = None

    def document(self) -> Document:
        """Make what is laid out for people."""
        from k2_verifier_adapter.reports.comparison_document import comparison_document

        return comparison_document(self.comparison, self.found)

    def as_json(self) -> str:
        """Give the text for other programs."""
        from k2_verifier_adapter.reports.comparison_json import dump_comparison

        return dump_comparison(self.comparison, self.found)


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """What the page of a matrix is made of."""

    matrix: Matrix

    def document(self) -> Document:
        """Make what is laid out for people."""
        from k2_verifier_adapter.reports.matrix_document import matrix_document

        return matrix_document(self.matrix)

    def as_json(self) -> str:
        """Give the text for other programs."""
        from k2_verifier_adapter.reports.json_report import dump_json
        from k2_verifier_adapter.reports.matrix_document import matrix_as_json

        return dump_json(matrix_as_json(self.matrix))


@dataclass(frozen=True, slots=True)
class ConformanceReport:
    """What the report on the probes of a run is made of."""

    conformance: Conformance

    def document(self) -> Document:
        """Make what is laid out for people."""
        from k2_verifier_adapter.reports.conformance_document import conformance_document

        return conformance_document(self.conformance)

    def as_json(self) -> str:
        """Give the text for other programs."""
        from k2_verifier_adapter.reports.conformance_json import dump_conformance

        return dump_conformance(self.conformance)


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """What the report on one vendor over time is made of."""

    history: History

    def document(self) -> Document:
        """Make what is laid out for people."""
        from k2_verifier_adapter.reports.history_document import history_document

        return history_document(self.history)

    def as_json(self) -> str:
        """Give the text for other programs."""
        from k2_verifier_adapter.reports.history_json import dump_history

        return dump_history(self.history)


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What can be told of a redacted bundle: its recount, what cannot be checked, and its own report."""

    recount: Recount
    uncheckable: Sequence[str]
    report: Mapping[str, Any]

    def document(self) -> Document:
        """Make what is laid out for people."""
        from k2_verifier_adapter.reports.bundle_document import bundle_document

        return bundle_document(self.recount, self.uncheckable, self.report)

    def as_json(self) -> str:
        """Give its own report, which says in its warnings what could not be checked."""
        from k2_verifier_adapter.reports.json_report import dump_json

        lines = [f"Redacted bundle, which cannot show {line}." for line in self.uncheckable]
        report = {**self.report, "warnings": [*lines, *self.recount.warnings]}
        return dump_json(report)


Report: TypeAlias = (
    RunReport | ComparisonReport | MatrixReport | HistoryReport | ConformanceReport | BundleReport
)


def _text(report: Report) -> str:
    from k2_verifier_adapter.reports.text import render_text

    return render_text(report.document())


def _markdown(report: Report) -> str:
    from k2_verifier_adapter.reports.markdown import render_markdown

    return render_markdown(report.document())


def _html(report: Report) -> str:
    from k2_verifier_adapter.reports.page import render_html

    return render_html(report.document())


def _junit(report: Report) -> str:
    from k2_verifier_adapter.reports.junit import render_junit, render_probes

    if isinstance(report, ConformanceReport):
        return render_probes(report.conformance)
    assert isinstance(report, RunReport), "only a run has checks to count"
    return render_junit(report.summary)


def _kvv(report: Report) -> str:
    from k2_verifier_adapter.reports.conformance_json import dump_kvv

    assert isinstance(report, ConformanceReport), "KVV's report is of schemas"
    return dump_kvv(report.conformance)


class Media(Enum):
    """What a format is made for."""

    TERMINAL = "terminal"
    """Printed in the letters and colours that the terminal has."""
    DOCUMENT = "document"
    """UTF-8, whatever the terminal speaks."""
    PAGE = "page"
    """UTF-8, and too much to be printed on a terminal."""


@dataclass(frozen=True, slots=True)
class Format:
    """One form of a report.

    Attributes:
        of: The reports that it can give.
    """

    name: str
    ending: str
    media: Media
    render: Callable[[Report], str]
    of: tuple[type[Report], ...] = get_args(Report)

    def fits(self, report: Report) -> bool:
        """Whether it can give this report."""
        return isinstance(report, self.of)


FORMATS = (
    Format("text", "txt", Media.TERMINAL, _text),
    Format("json", "json", Media.DOCUMENT, lambda report: report.as_json()),
    Format("markdown", "md", Media.DOCUMENT, _markdown),
    Format("html", "html", Media.PAGE, _html),
    Format("junit", "junit.xml", Media.DOCUMENT, _junit, of=(RunReport, ConformanceReport)),
    Format("kvv", "kvv.json", Media.DOCUMENT, _kvv, of=(ConformanceReport,)),
)

BY_NAME = {form.name: form for form in FORMATS}
