"""The report on a run in thirty lines, for a terminal: what was decided, why, and where the rest is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from k2_verifier_adapter.core.gate import exit_code
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.printable import plural, printable
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Gate, Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.run_document import KIND, checks_table, differing
from k2_verifier_adapter.reports.text import WIDTH, render_text

MOST_LINES = 30
"""Lines of the report, at `WIDTH` columns or more."""

_CAUSES = 3
_LINE = WIDTH - len("  1.  ")


@dataclass(frozen=True, slots=True)
class _Room:
    """How much is said of what may be long: characters of one text, and how many texts of a kind."""

    letters: int
    warnings: int
    differences: int


_ROOMS = (_Room(2 * WIDTH - 16, 3, 4), _Room(_LINE, 2, 2), _Room(_LINE, 1, 1))

Places = Sequence[tuple[str, str]]
"""Names of files and commands, with where they are."""


def render_brief(summary: Summary, places: Places, *, colour: bool = False, width: int = WIDTH) -> str:
    """Report on a run within `MOST_LINES`, the last of which is left for `last_line`."""
    # Whoever copies a path wants it in one piece.
    below = ["", *(f"{name:<11} {where}" for name, where in places)] if places else []
    for room in _ROOMS:
        text = render_text(_document(summary, room), colour=colour, width=width)
        if text.count("\n") + len(below) < MOST_LINES:
            break
    return text + "".join(f"{printable(line)}\n" for line in below)


def last_line(summary: Summary, report: str | None) -> str:
    """Give the verdict once more, with the exit code, and where the report is."""
    status, _ = wording.headline(summary)
    word = "NO VERDICT" if status is Status.NONE else status.value.upper()
    facts, gate = summary.facts, summary.facts.gate
    rules = [f"gate {gate.gate.value}"] if gate.gate is not Gate.NONE else []
    rules += ["baseline"] if summary.baseline is not None else []
    ruled = f"{' and '.join(rules) or 'no gate'}, exit code {exit_code(summary).code}"
    said = f"{word} {_named(facts.model, facts.subset)} ({ruled})"
    return f"{said}; report: {printable(report)}" if report else said


def _named(*names: str | None) -> str:
    return ", ".join(wording.name(text) for text in names if text)


def _document(summary: Summary, room: _Room) -> doc.Document:
    facts = summary.facts
    status, said = wording.headline(summary)
    verdict = doc.Judged(
        "verdict", "Verdict", status, cut(said, 2 * WIDTH - 30), tuple(_behind(summary, room))
    )
    sections = []
    if summary.findings:
        number = len(summary.findings)
        title = "Probable causes" if number <= _CAUSES else f"The first {_CAUSES} of {number} probable causes"
        sections.append(doc.Section("causes", title, (_causes(summary, room),)))
    return doc.Document(KIND, _named(facts.model, facts.subset), (verdict,), tuple(sections))


def _behind(summary: Summary, room: _Room) -> Iterator[doc.Block]:
    """Say what stands behind the verdict; one below the other, without room between them."""
    verdict = summary.verdict
    if verdict.checks:
        yield checks_table(verdict)
    if summary.baseline is not None:
        against = cut(wording.behind_baseline(summary.baseline), room.letters)
        yield doc.Judged("baseline", "Against the baseline", summary.baseline.status, against)
    yield doc.Paragraph(wording.requests_and_cost(summary), "Requests")
    if incomplete := wording.incomplete(summary):
        yield doc.Notes((incomplete,), Status.INCONCLUSIVE)
    yield from _seen(differing(verdict), room, room.differences)
    yield from _metrics(summary)
    if design := wording.stopped_at(summary):
        yield doc.Paragraph(cut(design, room.letters), "Looks")
    yield from _seen([f"WARNING: {line}" for line in wording.warnings(summary)], room, room.warnings)
    if summary.redacted:
        yield doc.Paragraph("Redacted: what may repeat prompts, tools or answers is left out")


def _seen(lines: Sequence[str], room: _Room, most: int) -> Iterator[doc.Block]:
    """Give the first lines of what must be seen, and how many more there are."""
    shown = [cut(line, room.letters) for line in lines[:most]]
    if left := len(lines) - len(shown):
        shown.append(f"and {left} more: --full")
    if shown:
        yield doc.Notes(tuple(shown), Status.INCONCLUSIVE)


def _metrics(summary: Summary) -> Iterator[doc.Block]:
    """Give the two metrics with the numbers behind them."""
    value = {metric.name: wording.share(metric.value) for metric in summary.metrics}
    counts = summary.tally.counts
    decisions = f"both call {counts.tp:,}, vendor alone {counts.fp:,}, official alone {counts.fn:,}"
    yield doc.Paragraph(f"{value[PRIMARY_METRIC]}, {decisions}", PRIMARY_METRIC)
    calling = plural(counts.tool_calls, "calling response")
    yield doc.Paragraph(
        f"{value['schema_accuracy']}, {counts.successful:,} of {calling} valid", "schema_accuracy"
    )


def _causes(summary: Summary, room: _Room) -> doc.Facts:
    """Give the first causes with the first thing to do."""
    pairs: list[tuple[str, doc.Cell]] = []
    for number, finding in enumerate(summary.findings[:_CAUSES], 1):
        advice = (*finding.checks, finding.refuted_by)[0]
        pairs.append((f"{number}.", doc.Value(cut(finding.hypothesis, room.letters), strong=True)))
        pairs.append(("", cut(advice, room.letters)))
    return doc.Facts(tuple(pairs))


def cut(text: str, most: int) -> str:
    """Shorten a text to whole words."""
    shown = printable(text)
    if len(shown) <= most:
        return shown
    return f"{shown[: most - 3].rpartition(' ')[0].rstrip(' ,;:')}..."
