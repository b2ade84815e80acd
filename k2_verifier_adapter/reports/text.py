"""The report as text: 80 columns, coloured on a terminal, plain in a file."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from k2_verifier_adapter.core.diagnosis.findings import Finding
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import tables, verdicts
from k2_verifier_adapter.reports.layout import STATUS_STYLES, WIDTH, key_values, laid_out, render, section
from k2_verifier_adapter.reports.log_notes import log_as_pairs

_FIRST_FINDINGS = 5
_FIRST_TOOLS = 8


def render_text(summary: Summary, *, colour: bool = False, width: int = WIDTH) -> str:
    """Give the report as text.

    Args:
        summary: What to report.
        colour: Whether to write terminal colours.
        width: Columns to fill at most.
    """
    parts: list[RenderableType] = [Text(tables.title(summary), "bold"), _verdict(summary)]
    parts += _baseline(summary)
    if summary.redacted:
        parts.append(Text("Redacted: what may repeat prompts, tools or answers is left out", "dim"))
    parts += [Text(f"WARNING: {warning}", "yellow") for warning in verdicts.warnings(summary)]
    parts += [_requests(summary), _metrics(summary)]
    parts.append(section("Responses", key_values(tables.responses(summary))))
    if (grid := tables.failures(summary)) is not None:
        parts.append(section("Failure classes", laid_out(grid.without("group"))))
    if summary.findings:
        parts.append(section("Probable causes", _findings(summary)))
    if (grid := tables.tools(summary, _FIRST_TOOLS)) is not None:
        more = tables.tools_left_out(summary, _FIRST_TOOLS)
        note = [Text(f"and {more:,} more", "dim")] if more else []
        parts.append(section("Tools that fail", Group(laid_out(grid), *note)))
    if summary.log is not None:
        parts.append(section("Results file", key_values(log_as_pairs(summary.log))))
    parts.append(section("Usage", key_values(tables.effort(summary))))
    parts.append(section("Provenance", key_values(tables.provenance(summary))))
    parameters = tables.parameters(summary) or [("none", "")]
    parts.append(section("Parameters of all requests", key_values(parameters)))
    return render(parts, colour=colour, width=width)


def _verdict(summary: Summary) -> RenderableType:
    word, rest = verdicts.headline(summary)
    status = summary.verdict.status
    if status is Status.NONE:
        line = Text.assemble("Verdict: ", (word, "bold"), f" ({rest})")
        unused = verdicts.thresholds_not_applied(summary)
        return Group(line, Text(f"Thresholds not applied: {unused}")) if unused else line
    parts: list[RenderableType] = [
        Text.assemble("Verdict: ", (word.upper(), STATUS_STYLES[status]), f" {rest}")
    ]
    if (grid := verdicts.checks(summary)) is not None:
        parts.append(laid_out(grid))
    said = (verdicts.settling(summary), verdicts.against_itself(summary))
    return Group(*parts, *(Text(line) for line in said if line))


def _baseline(summary: Summary) -> list[RenderableType]:
    found = summary.baseline
    headline, grid = verdicts.baseline_headline(summary), verdicts.baseline_checks(summary)
    if found is None or headline is None or grid is None:
        return []
    word, rest = headline
    line = Text.assemble("Against the baseline: ", (word.upper(), STATUS_STYLES[found.status]), f" {rest}")
    return [Text(), line, laid_out(grid), Text("'k2-verifier compare' shows which cases differ", "dim")]


def _requests(summary: Summary) -> RenderableType:
    line = Text(f"Requests: {tables.request_counts(summary)}")
    incomplete = tables.incomplete(summary)
    return Group(Text(), line, *([Text(incomplete, "bold yellow")] if incomplete else []))


def _metrics(summary: Summary) -> RenderableType:
    table = laid_out(tables.metrics(summary), bold_first=True)
    repaired = tables.repaired_responses(summary)
    if not repaired:
        return section("Metrics", table)
    note = f"unrepaired: without {plural(repaired, 'response')} whose history was repaired"
    return section("Metrics", Group(table, Text(note, "dim")))


def _findings(summary: Summary) -> RenderableType:
    shown = summary.findings[:_FIRST_FINDINGS]
    listed = Table.grid(padding=(0, 1))
    for number, finding in enumerate(shown, 1):
        below = 0 if number == len(shown) else 1
        listed.add_row(f"{number}.", Padding(Group(*_lines(finding, summary)), (0, 0, below, 0)))
    more = len(summary.findings) - len(shown)
    return Group(listed, Text(f"and {more} more, see the JSON report", "dim")) if more else listed


def _lines(finding: Finding, summary: Summary) -> Iterable[RenderableType]:
    yield Text(finding.hypothesis, "bold")
    yield Text(finding.evidence)
    for gain in tables.gains(finding, summary):
        # Terminals that know no arrow are still about.
        yield Text(f"If fixed: {gain}".replace("→", "->"))
    if finding.cases:
        more = ", ..." if finding.count > len(finding.cases) else ""
        yield Text(f"Cases (rows, from 0): {', '.join(map(str, finding.cases))}{more}")
    bullets = Table.grid(padding=(0, 1))
    for check in finding.checks:
        bullets.add_row("-", Text(check))
    yield bullets
