"""The comparison of runs as JSON: the shape that other programs rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.comparison.compare import Comparison, Participant, Standing, letter
from k2_verifier_adapter.core.comparison.pairs import Change, Pair
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.statistics.paired import Difference, WinsLosses
from k2_verifier_adapter.reports.json_report import (
    baseline_as_json,
    dump_json,
    metric_as_json,
    verdict_as_json,
)

SCHEMA_VERSION = 1

UPSTREAM_COLUMNS = (
    "model",
    "provider",
    "trigger_similarity",
    "count_finish_reason_tool_calls",
    "count_successful_tool_call",
    "schema_accuracy",
)
"""The columns of upstream's published tables."""

OFFICIAL = "official"


def comparison_as_json(comparison: Comparison, found: NotWorse | None = None) -> dict[str, Any]:
    """Give the comparison's content; the same comparison gives the same keys in the same order."""
    return {
        "schema_version": SCHEMA_VERSION,
        "cases": comparison.cases,
        "warnings": list(comparison.warnings),
        "other_content": list(comparison.other_content),
        "not_worse": None if found is None else baseline_as_json(found),
        "runs": [
            {**_run(place, standing), "rank": {"best": best, "worst": worst}}
            for place, (standing, (best, worst)) in enumerate(
                zip(comparison.standings, comparison.ranks, strict=True)
            )
        ],
        "leaderboard": [letter(place) for place in comparison.ranking],
        "upstream_table": upstream_table(comparison),
        "setup": [
            {
                "name": item.name,
                "values": {letter(place): value for place, value in enumerate(item.values)},
            }
            for item in comparison.setup
        ],
        "pairs": [_pair(pair) for pair in comparison.pairs],
    }


def dump_comparison(comparison: Comparison, found: NotWorse | None = None) -> str:
    """Give the text of a comparison."""
    return dump_json(comparison_as_json(comparison, found))


def upstream_table(comparison: Comparison) -> list[dict[str, Any]]:
    """Give the leaderboard by the columns of upstream's tables, the official answers first.

    The official API has no similarity, as there; its answers are those to the common cases.
    """
    calls, valid = comparison.official_calls, comparison.official_valid
    official = (OFFICIAL, None, None, calls, valid, valid / calls if calls else None)
    rows: list[tuple[Any, ...]] = [official]
    for place in comparison.ranking:
        standing = comparison.standings[place]
        participant, metrics = standing.participant, standing.metrics
        values = [metrics[name].value for name in UPSTREAM_COLUMNS[2:]]
        rows.append((participant.label, participant.provider, *values))
    return [dict(zip(UPSTREAM_COLUMNS, row, strict=True)) for row in rows]


def _run(place: int, standing: Standing) -> dict[str, Any]:
    participant, counts = standing.participant, standing.counts
    facts = participant.summary.facts
    standard = facts.standard
    agreement = None if standard is None else standard.self_agreement
    return {
        "run": letter(place),
        "model": participant.label,
        "provider": participant.provider,
        "source": participant.source,
        "subset": facts.subset or None,
        "complete": facts.complete,
        "started_at": facts.started_at or None,
        "finished_at": facts.finished_at,
        "requests": {"completed": counts.completed, "failed": counts.failed},
        "cases_left_out": standing.left_out,
        "confusion": {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn},
        "metrics": {name: metric_as_json(metric) for name, metric in standing.metrics.items()},
        "self_agreement": agreement and {"lowest": agreement.lowest, "mean": agreement.mean},
        "verdict": verdict_as_json(standing.verdict),
        **cost_as_json(participant),
    }


def cost_as_json(participant: Participant) -> dict[str, Any]:
    """Give how long the answers took, and what all requests have cost."""
    spent = participant.spent
    return {
        "latency_s": participant.summary.observed.latency(),
        "spent": {
            "requests": spent.requests,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "answers_without_tokens": spent.silent,
            "price": spent.price(participant.prices),
        },
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "first": letter(pair.first),
        "second": letter(pair.second),
        "cases": {
            "completed_by_both": pair.completed,
            "failed_by_first_only": pair.only_first_failed,
            "failed_by_second_only": pair.only_second_failed,
        },
        "better": None if pair.better is None else letter(pair.better),
        "trigger_similarity": _difference(pair.similarity, pair.similarity_p_of_all),
        "agreement": _wins_and_losses(pair.agreement, pair.agreement_p_of_all),
        "schema_accuracy": _difference(pair.accuracy, None),
        "validity": _wins_and_losses(pair.validity, pair.validity_p_of_all),
        "changes": [_change(change) for change in pair.changes],
    }


def _difference(difference: Difference | None, p_of_all: float | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "n": difference.n,
        "method": difference.method,
        "p_value": difference.p_value,
        **({} if p_of_all is None else {"p_value_of_all_pairs": p_of_all}),
    }


def _wins_and_losses(found: WinsLosses, p_of_all: float) -> dict[str, Any]:
    return {
        "first_better": found.wins,
        "second_better": found.losses,
        "ties": found.ties,
        "p_value": found.p_value,
        "p_value_of_all_pairs": p_of_all,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "official_calls": change.should_call,
        "first": change.first.value,
        "second": change.second.value,
        "count": change.count,
        "data_index": list(change.cases),
        "failures_of_first_only": _by_class(change.first_failures),
        "failures_of_second_only": _by_class(change.second_failures),
    }


def _by_class(failures: Mapping[FailureClass, int]) -> dict[str, int]:
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0].value))
    return {kind.value: count for kind, count in ordered}
