"""A history as JSON: the shape that other programs rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2_verifier_adapter.core.comparison.compare import SetupDifference
from k2_verifier_adapter.core.comparison.history import Change, History, Neighbours
from k2_verifier_adapter.core.statistics.changes import ERROR
from k2_verifier_adapter.core.statistics.paired import Difference, WinsLosses
from k2_verifier_adapter.reports.json_report import dump_json, metric_as_json

SCHEMA_VERSION = 1


def history_as_json(history: History) -> dict[str, Any]:
    """Give the content of a history; the same history gives the same keys in the same order."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": history.runs[0].model,
        "order": "start" if history.by_start else "given",
        "paired": history.paired,
        "error": ERROR,
        "looks": history.looks,
        "warnings": list(history.warnings),
        "changes": [_change(history, change) for change in history.changes],
        "runs": [_run(history, place) for place in range(len(history.runs))],
        "neighbours": [_neighbours(pair) for pair in history.neighbours],
    }


def dump_history(history: History) -> str:
    """Give the text, in printable ASCII."""
    return dump_json(history_as_json(history))


def _run(history: History, place: int) -> dict[str, Any]:
    run, reason = history.runs[place], history.untested[place]
    return {
        "run": place + 1,
        "source": run.source,
        "started_at": run.started_at,
        "complete": run.complete,
        "requests": {"completed": run.completed, "failed": run.failed},
        "tested": reason is None,
        "untested_because": reason,
        "metrics": {name: metric_as_json(metric) for name, metric in run.metrics.items()},
    }


def _neighbours(pair: Neighbours) -> dict[str, Any]:
    return {
        "earlier": pair.later,
        "later": pair.later + 1,
        "cases": pair.cases,
        "trigger_similarity": _difference(pair.similarity),
        "agreement": _wins_and_losses(pair.agreement),
        "schema_accuracy": _difference(pair.accuracy),
        "setup": _setup(pair.setup),
    }


def _change(history: History, change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "since": history.runs[change.since].started_at,
        "last_before": change.before + 1,
        "first_after": change.since + 1,
        "earliest_first_after": change.earliest[1] + 1,
        "latest_first_after": change.latest[1] + 1,
        "seen_at": change.seen_at + 1,
        "p_value": change.p,
        "level": change.level,
        "share": _difference(change.difference),
        "setup": _setup(change.setup),
        "said": history.in_words(change),
    }


def _difference(found: Difference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "before": found.second,
        "after": found.first,
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "method": found.method,
    }


def _wins_and_losses(found: WinsLosses | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "later_better": found.wins,
        "earlier_better": found.losses,
        "ties": found.ties,
        "p_value": found.p_value,
    }


def _setup(differing: Sequence[SetupDifference]) -> list[dict[str, Any]]:
    return [{"name": item.name, "before": item.values[0], "after": item.values[1]} for item in differing]
