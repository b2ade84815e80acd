"""The report as JSON: the shape that other programs rely on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.diagnosis.findings import TwoMetrics
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.forecast import Forecast
from k2_verifier_adapter.core.log_facts import LogFacts, Places
from k2_verifier_adapter.core.metrics import Metric
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import Status, Verdict
from k2_verifier_adapter.reports.wording import UPSTREAM_WORDS, headline

SCHEMA_VERSION = 1

MAX_TOOLS = 100
"""Tools in the JSON report, the worst first."""

_DECIMALS = 6


def report_as_json(summary: Summary) -> dict[str, Any]:
    """Give the report's content; the same summary gives the same keys in the same order."""
    facts, counts, tally = summary.facts, summary.tally.counts, summary.tally
    others = dict(_by_count(tally.others_detail))
    missing_finish = counts.completed - counts.stop - counts.tool_calls - counts.others
    agreement = summary.self_agreement
    report = {
        "schema_version": SCHEMA_VERSION,
        "model": facts.model,
        "subset": facts.subset or None,
        "complete": facts.complete,
        "stopped": facts.stopped,
        "warnings": list(summary.warnings),
        "parameters": dict(facts.parameters),
        "provenance": _provenance(summary),
        "usage": {name: summary.observed.usage[name] for name in _USAGE},
        "latency_s": summary.observed.latency(),
        "requests": {
            "total": summary.total,
            "completed": summary.completed,
            "failed": tally.failed,
            "missing": summary.missing,
            "coverage": summary.coverage,
            **({} if facts.stopping is None else {"under_way": summary.under_way}),
        },
        "finish_reasons": {
            "stop": counts.stop,
            "tool_calls": counts.tool_calls,
            "others": counts.others,
            "others_detail": others,
            "missing": missing_finish,
        },
        "confusion": {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn},
        "counts": {
            "count_finish_reason_tool_calls": counts.tool_calls,
            "count_successful_tool_call": counts.successful,
            "schema_validation_error_count": counts.schema_errors,
        },
        "metrics": {metric.name: metric_as_json(metric) for metric in summary.metrics},
        "self_agreement": None if agreement is None else {"lowest": agreement.lowest, "mean": agreement.mean},
        "verdict": {**verdict_as_json(summary.verdict), "forecast": forecast_as_json(summary.forecast)},
        "gate": gate_as_json(summary),
        "similarity_bounds": summary.similarity_bounds
        and dict(zip(("low", "high"), summary.similarity_bounds, strict=True)),
        "baseline": None if summary.baseline is None else baseline_as_json(summary.baseline),
        "failures": failures_as_json(tally),
        "server_messages": server_messages_as_json(tally),
        "findings": findings_as_json(summary),
        "what_if": what_if_as_json(summary),
        "tools": tools_as_json(summary),
        "repairs": dict(summary.repairs),
    }
    if summary.redacted:
        report["redacted"] = True
    if facts.stopping is not None:
        report["stopping"] = {
            "cases": facts.stopping.cases,
            "maximum": facts.stopping.design.maximum,
            **facts.stopping.as_json(),
        }
    if facts.repeats > 1:
        repeated = tally.repeated
        flips = repeated.flips / repeated.pairs if repeated.pairs else None
        report["repeats"] = {"n": facts.repeats, "decision_flip_rate": {"value": flips, "n": repeated.pairs}}
    if summary.log is not None:
        report["log"] = log_as_json(summary.log)
    return report


def dump_report(summary: Summary) -> str:
    """Give the report's text."""
    return dump_json(report_as_json(summary))


def dump_json(value: Mapping[str, Any]) -> str:
    """Give the text, in printable ASCII, so that nothing that a vendor sent can harm a reader."""
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


def _by_count(counter: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _provenance(summary: Summary) -> dict[str, Any]:
    facts, observed = summary.facts, summary.observed
    return {
        "started_at": facts.started_at or None,
        "finished_at": facts.finished_at,
        "endpoint_host": facts.endpoint_host,
        "adapter": facts.adapter,
        "evalscope": facts.evalscope or None,
        "python": facts.python,
        "repeats": facts.repeats,
        "rows": facts.rows.as_json(),
        "profile": facts.model_profile.name,
        "served": {
            "models": dict(_by_count(observed.models)),
            "providers": dict(_by_count(observed.providers)),
            "system_fingerprints": dict(_by_count(observed.system_fingerprints)),
            "gateways": dict(_by_count(observed.gateways)),
        },
    }


def metric_as_json(metric: Metric) -> dict[str, Any]:
    """Give a metric with its interval."""
    interval = metric.interval
    return {
        "value": metric.value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "n": metric.n,
        "method": None if interval is None else interval.method,
        "without_repaired": metric.without_repaired,
    }


def verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict with its checks."""
    return {
        "status": verdict.status.value,
        "reason": verdict.reason,
        "upstream": UPSTREAM_WORDS[verdict.upstream_status],
        "checks": [
            {
                "metric": check.metric,
                "threshold": check.threshold,
                "value": check.value,
                "low": None if check.interval is None else check.interval.low,
                "high": None if check.interval is None else check.interval.high,
                "most": check.most,
                "applied": check.applied,
                "upstream_met": check.upstream_met,
                "status": check.status.value,
            }
            for check in verdict.checks
        ],
        "incomplete": verdict.incomplete,
        "barred": verdict.barred,
        "differences": [
            {"name": found.name, "estimate": found.estimate, "p": found.p, "evidence": found.evidence}
            for found in verdict.raised
        ],
    }


def gate_as_json(summary: Summary) -> dict[str, Any]:
    """Give what decides the exit code, and what it decided."""
    gate = summary.facts.gate
    status, said = headline(summary) if gate.decides else (Status.NONE, None)
    return {**gate.as_json(), "status": status.value, "evidence": said}


def forecast_as_json(forecast: Forecast | None) -> dict[str, Any] | None:
    """Give what the rows that were not asked would probably settle."""
    if forecast is None:
        return None
    return {"rows": forecast.maximum, "passing": forecast.passing, "failing": forecast.failing}


def baseline_as_json(found: NotWorse) -> dict[str, Any]:
    """Give the outcome against a baseline; differences are shares, the run's less the baseline's."""
    return {
        "source": found.baseline,
        "model": found.model,
        "cases": found.cases,
        "margin": found.margin,
        "status": found.status.value,
        "reason": found.reason,
        "warnings": list(found.warnings),
        "checks": [
            {
                "metric": check.metric,
                "difference": None if check.difference is None else check.difference.value,
                "low": None if check.difference is None else check.difference.low,
                "high": None if check.difference is None else check.difference.high,
                "n": 0 if check.difference is None else check.difference.n,
                "status": check.status.value,
            }
            for check in found.checks
        ],
    }


def failures_as_json(tally: Tally) -> list[dict[str, Any]]:
    """List the failure classes seen, the most frequent first.

    `count` is the number of responses, or failed requests, that show the class; `cases` are their
    0-based row numbers without repetition; `by_status` splits the HTTP classes.
    """
    places = {kind: place for place, kind in enumerate(FailureClass)}
    ordered = sorted(tally.failure_counts.items(), key=lambda item: (-item[1], places[item[0]]))
    failures = []
    for kind, count in ordered:
        entry: dict[str, Any] = {
            "class": kind.value,
            "group": kind.group.value,
            "count": count,
            "cases": sorted(tally.failure_cases.get(kind, ())),
        }
        statuses = statuses_of(kind, tally)
        if statuses:
            entry["by_status"] = {str(status): number for status, number in statuses.items()}
        failures.append(entry)
    return failures


def statuses_in_words(entry: Mapping[str, Any]) -> str:
    """Split an entry of `failures_as_json` by HTTP status; empty for what is no HTTP class."""
    said = ", ".join(f"{count} x {status}" for status, count in entry.get("by_status", {}).items())
    return f"HTTP status: {said}" if said else ""


def statuses_of(kind: FailureClass, tally: Tally) -> dict[int, int]:
    """Split an HTTP failure class by status; empty for any other class."""
    statuses: Counter[int] = Counter()
    if kind in (FailureClass.HTTP_4XX, FailureClass.HTTP_5XX):
        for (shown, _), symptom in tally.symptoms.items():
            statuses += symptom.statuses if shown is kind else Counter()
    return dict(sorted(statuses.items()))


MAX_MESSAGES = 50


def server_messages_as_json(tally: Tally) -> list[dict[str, Any]]:
    """List what the servers of failed requests said, the commonest first."""
    return [
        {
            "class": message.failure_class.value,
            "reason": None if message.reason is None else message.reason.value,
            "status": message.status,
            "message": message.text,
            "gateway": message.gateway,
            "count": message.count,
            "cases": list(message.cases),
        }
        for message in tally.refusals.commonest()[:MAX_MESSAGES]
    ]


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
            "refuted_by": finding.refuted_by,
            "quotes": list(finding.quotes),
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
            "failures": {kind.value: count for kind, count in _classes_by_count(counts.responses)},
        }
        for name, counts in summary.tally.tools.worst()[:MAX_TOOLS]
    ]


def _rounded(metrics: TwoMetrics) -> dict[str, float | None]:
    return {
        name: None if value is None else round(value, _DECIMALS) for name, value in metrics.as_json().items()
    }


def _classes_by_count(counter: Counter[FailureClass]) -> list[tuple[FailureClass, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0].value))


def log_as_json(log: LogFacts) -> dict[str, Any]:
    """Give what was found; places are listed up to `log_facts.MAX_PLACES`, counts are exact."""
    official = log.official
    return {
        "failed_requests_count_as": log.failed_rule.value,
        "lines": log.lines,
        "scored": log.scored,
        "left_out": {name: _places(places) for name, places in log.left_out.items()},
        "disagreements": {name: _places(places) for name, places in log.disagreements.items()},
        "other_request": _places(log.other_request),
        # Lines that were taken as logged, until redacted logs were refused.
        "redacted": 0,
        "official": {
            "rows": official.rows,
            "failed": official.failed,
            "unused": official.unused,
            "unusable": _places(official.unusable),
            "duplicates": _places(official.duplicates),
        },
    }


def _places(places: Places) -> dict[str, Any]:
    return {"count": places.count, "listed": list(places.listed)}
