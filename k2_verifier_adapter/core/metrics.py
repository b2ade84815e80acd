"""The metrics of a run, each a value, a denominator and an interval, computed from counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.statistics.decisions import call_surplus
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.core.statistics.ratios import RATIOS, ratio_interval
from k2_verifier_adapter.core.tally import Tally

PRIMARY_METRIC = "trigger_similarity"
ACCURACY = "schema_accuracy"
CALL_SURPLUS = "call_surplus"
OFFICIAL_SIMILARITY = "official_similarity"
COMPLETED_COUNT = "count_finish_reason_tool_calls"
"""A metric that is always there and whose `n` is the number of completed responses."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one run.

    Attributes:
        value: The value, or None where it is undefined (denominator 0).
        n: The denominator; for a count, the completed responses it is a count of.
        interval: 95 % interval, or None for counts and for values without one.
        without_repaired: The value over the cases that upstream would have sent alike.
    """

    name: str
    value: float | None
    n: int
    interval: Interval | None = None
    without_repaired: float | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """How a metric is computed from counts; `n` gives its denominator."""

    name: str
    value: Callable[[Counts], float | None]
    n: Callable[[Counts], int]
    is_count: bool = False


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def official_similarity(counts: Counts) -> float | None:
    """Compute 1 − d / N over the five counts of vendor and official.

    d is the Euclidean distance between (stop, tool_calls, others, schema errors, successful) of
    both sides over the same N completed cases. Source: upstream's table of October 2025.
    """
    ours = (counts.stop, counts.tool_calls, counts.others, counts.schema_errors, counts.successful)
    official = (
        counts.official_stop,
        counts.official_tool_calls,
        counts.official_others,
        counts.official_schema_errors,
        counts.official_successful,
    )
    distance = sqrt(sum((a - b) ** 2 for a, b in zip(ours, official, strict=True)))
    return 1 - distance / counts.completed if counts.completed else None


def _rate(name: str) -> Definition:
    """Define a rate by its numerator and denominator, which stand in `RATIOS`."""
    ratio = RATIOS[name]
    return Definition(
        name,
        value=lambda c: _ratio(ratio.x(c), ratio.n(c)),
        n=ratio.n,
    )


def _count(name: str, value: Callable[[Counts], int]) -> Definition:
    return Definition(name, value, lambda c: c.completed, is_count=True)


DEFINITIONS = (
    # F1 = 2 TP / (2 TP + FP + FN); its denominator n is that of the proportion behind its interval.
    replace(_rate(PRIMARY_METRIC), value=lambda c: _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)),
    _rate(ACCURACY),
    Definition(CALL_SURPLUS, lambda c: _ratio(c.fp - c.fn, c.tp + c.fn), lambda c: c.tp + c.fn),
    _count(COMPLETED_COUNT, lambda c: c.tool_calls),
    _count("count_successful_tool_call", lambda c: c.successful),
    _rate("tool_call_precision"),
    _rate("tool_call_recall"),
    _count("count_finish_reason_stop", lambda c: c.stop),
    _count("count_finish_reason_others", lambda c: c.others),
    _count("schema_validation_error_count", lambda c: c.schema_errors),
    Definition(OFFICIAL_SIMILARITY, official_similarity, lambda c: c.completed),
    _rate("tool_name_agreement"),
    _rate("argument_agreement"),
)
"""Every metric over completed responses, in the order of the reports."""

ERROR_RATE = "inference_error_rate"
"""Failed requests / all requests; the one rate that is not over completed responses alone."""

FLIP_RATE = "decision_flip_rate"
"""Pairs of responses to the same case that decide differently / all such pairs."""


def compute_metrics(tally: Tally) -> list[Metric]:
    """Compute all metrics of a tally, `inference_error_rate` last.

    Where cases were asked more than once, the intervals treat all responses to a case as one
    cluster, and `decision_flip_rate` says how often two of them decide differently.
    """
    tally.close()
    metrics = [_metric(definition, tally) for definition in DEFINITIONS]
    if tally.repeated.pairs:
        pairs = tally.repeated.pairs
        metrics.append(Metric(FLIP_RATE, tally.repeated.flips / pairs, pairs))
    return [*metrics, replace(_metric(_rate(ERROR_RATE), tally), without_repaired=None)]


def _metric(definition: Definition, tally: Tally) -> Metric:
    name, value = definition.name, definition.value(tally.counts)
    interval = None
    if value is not None and name in RATIOS:
        interval = ratio_interval(name, value, tally.counts, tally.repeated)
    elif name == CALL_SURPLUS and (surplus := call_surplus(tally.decisions)) is not None:
        # Over the mean of the official runs, where there are several.
        value, interval = surplus.value, surplus.interval
    return Metric(name, value, definition.n(tally.counts), interval, definition.value(tally.unrepaired))
