"""Probable causes, what-if and tools: how the reports show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from k2_verifier_adapter.core.diagnosis import Finding
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.tool_use import ToolCounts
from k2_verifier_adapter.core.what_if import TwoMetrics
from k2_verifier_adapter.reports.printable import amount, percent, printable

MAX_TOOLS = 100
"""Tools in the JSON report, the worst first."""

_SHOWN_FINDINGS = 5
_SHOWN_TOOLS = 8
_SHOWN_CLASSES = 3
_LONGEST_TOOL = 30
_DECIMALS = 6


def findings_as_json(summary: Summary) -> list[dict[str, Any]]:
    """List the probable causes, those that explain most of the loss first."""
    return [
        {
            "finding": finding.rule,
            "hypothesis": finding.hypothesis,
            "evidence": finding.evidence,
            "count": finding.count,
            "of": finding.base,
            "classes": {kind.value: count for kind, count in finding.classes.items()},
            "cases": list(finding.cases),
            "explains": _rounded(finding.explains),
            "if_fixed": _rounded(finding.if_fixed),
            "check": list(finding.checks),
        }
        for finding in summary.findings
    ]


def what_if_as_json(summary: Summary) -> dict[str, dict[str, float | None]]:
    """Give the two metrics as if one class were fixed, for every class that changes them."""
    return {item.failure_class.value: _rounded(item.metrics) for item in summary.what_if}


def tools_as_json(summary: Summary) -> list[dict[str, Any]]:
    """List the tools with failures, at most `MAX_TOOLS`, those with the most invalid calls first."""
    return [
        {
            "tool": name,
            "calls": counts.calls,
            "invalid": counts.invalid,
            "failures": {kind.value: count for kind, count in _by_count(counts.responses)},
        }
        for name, counts in summary.tally.tools.worst()[:MAX_TOOLS]
    ]


def _rounded(metrics: TwoMetrics) -> dict[str, float | None]:
    return {
        name: None if value is None else round(value, _DECIMALS) for name, value in metrics.as_json().items()
    }


def _by_count(counter: Counter[FailureClass]) -> list[tuple[FailureClass, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0].value))


def causes_as_text(summary: Summary) -> RenderableType | None:
    """Lay the probable causes out; None if there is none."""
    if not summary.findings:
        return None
    listed = Table.grid(padding=(0, 1))
    for number, finding in enumerate(summary.findings[:_SHOWN_FINDINGS], 1):
        last = number == min(len(summary.findings), _SHOWN_FINDINGS)
        listed.add_row(f"{number}.", Padding(Group(*_lines(finding, summary)), (0, 0, 0 if last else 1, 0)))
    more = len(summary.findings) - _SHOWN_FINDINGS
    return listed if more <= 0 else Group(listed, Text(f"and {more} more, see the JSON report", "dim"))


def _lines(finding: Finding, summary: Summary) -> Iterable[RenderableType]:
    yield Text(finding.hypothesis, "bold")
    yield Text(finding.evidence)
    for gain in _gains(finding, summary):
        yield Text(f"If fixed: {gain}")
    if finding.cases:
        more = ", ..." if finding.count > len(finding.cases) else ""
        yield Text(f"Cases (rows, from 0): {', '.join(map(str, finding.cases))}{more}")
    bullets = Table.grid(padding=(0, 1))
    for check in finding.checks:
        bullets.add_row("-", Text(check))
    yield bullets


def _gains(finding: Finding, summary: Summary) -> Iterable[str]:
    """Say of each metric that a fix would change what it would be, and how much of the loss that is."""
    fixed, explains = finding.if_fixed.as_json(), finding.explains.as_json()
    for metric in summary.metrics:
        value = fixed.get(metric.name)
        if value is None or value == metric.value:
            continue
        share = explains[metric.name]
        loss = f" (explains {percent(share)} of the loss)" if share is not None and share > 0 else ""
        yield f"{metric.name} {amount(metric, metric.value)} -> {percent(value)}{loss}"


def tools_as_text(summary: Summary, table: Table) -> RenderableType | None:
    """Lay out the tools that fail most; None if none does.

    Args:
        summary: What to report.
        table: An empty table with four columns; see `TOOL_COLUMNS`.
    """
    worst = summary.tally.tools.worst()
    if not worst:
        return None
    table.columns[3].justify, table.columns[3].no_wrap = "left", False
    for name, counts in worst[:_SHOWN_TOOLS]:
        table.add_row(
            excerpt(printable(name), _LONGEST_TOOL), f"{counts.calls:,}", f"{counts.invalid:,}", _how(counts)
        )
    more = len(worst) - _SHOWN_TOOLS
    return table if more <= 0 else Group(table, Text(f"and {more:,} more", "dim"))


TOOL_COLUMNS = ("tool", "calls", "invalid", "how it fails (responses)")


def _how(counts: ToolCounts) -> str:
    listed = _by_count(counts.responses)
    shown = [f"{kind.value} {count:,}" for kind, count in listed[:_SHOWN_CLASSES]]
    return ", ".join([*shown, *(["..."] if len(listed) > _SHOWN_CLASSES else [])])
