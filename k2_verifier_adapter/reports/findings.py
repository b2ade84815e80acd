"""Probable causes, what-if and tools as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from k2_verifier_adapter.core.diagnosis.findings import TwoMetrics
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.summary import Summary

MAX_TOOLS = 100
"""Tools in the JSON report, the worst first."""

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
