"""May this vendor be used? Thresholds against values and against intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil, inf
from typing import NamedTuple

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.differences import Difference, differences
from k2_verifier_adapter.core.metrics import (
    ACCURACY,
    CALL_SURPLUS,
    COMPLETED_COUNT,
    PRIMARY_METRIC,
    Metric,
    compute_metrics,
)
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import percent_beside
from k2_verifier_adapter.core.self_agreement import MARGIN
from k2_verifier_adapter.core.statistics.decisions import (
    DecisionTable,
    Estimate,
    call_surplus,
    non_inferiority,
)
from k2_verifier_adapter.core.statistics.intervals import Interval, at_level, interval_at, size_to_clear
from k2_verifier_adapter.core.statistics.sequential import FIXED, Level
from k2_verifier_adapter.core.tally import Tally

NON_INFERIORITY = "non_inferiority"
"""The check of the similarity against several official runs, in place of a threshold."""

_OF_SIMILARITY = frozenset({PRIMARY_METRIC, NON_INFERIORITY})

DEFAULT_SURPLUS = 0.10
"""How many more or fewer calls than the official API a vendor may make, as a share of these."""

DEFAULT_ACCURACY = 0.95
"""The published vendors have a schema_accuracy of 0.955 and more, or, unguided, of 0.872 and less."""

STRICT_COVERAGE = 0.98
"""Completed / all requests below which the strict verdict is inconclusive."""

MOST_FURTHER = 1_000_000
"""Further answers beyond which an inconclusive check counts as one that more answers do not settle."""


NO_THRESHOLD = "no threshold is known for this subset"
"""The reason of a verdict without checks; it says nothing against the numbers."""


class Status(str, Enum):
    """The outcome of a check or of all of them."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NONE = "none"


class Gate(str, Enum):
    """Which rule decides the exit code."""

    NONE = "none"
    UPSTREAM = "upstream"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Check:
    """One metric against its threshold, by both rules.

    Attributes:
        metric: The metric's name.
        threshold: What it must reach.
        value: What it is; None if undefined.
        upstream_met: Upstream's rule, value ≥ threshold; None if undefined.
        status: The strict rule: pass if the interval's lower bound reaches the threshold, fail if
            its upper bound is below, else inconclusive.
        further: Of an inconclusive check, the further completed answers that would settle it if the
            value stayed what it is; None where it is settled, and where not even `MOST_FURTHER` would.
        most: What it may reach at most; None where more is always better.
        interval: The interval that was compared, or None if the value is undefined.
        applied: Whether the verdict heeds it; what is not applied says what it would say.
    """

    metric: str
    threshold: float
    value: float | None
    upstream_met: bool | None
    status: Status
    further: int | None = None
    most: float | None = None
    interval: Interval | None = None
    applied: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks, and the status that follows from them.

    Attributes:
        status: `none` where there is no check or a reason speaks against any verdict.
        checks: The checks, shown even where the status is `none`.
        reason: Why there is no verdict, or None.
        incomplete: Why the strict verdict is inconclusive whatever its checks say, or None.
        differences: What was tested beside the checks, shown or not.
    """

    status: Status
    checks: tuple[Check, ...]
    reason: str | None = None
    incomplete: str | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def upstream_status(self) -> Status:
        """The status by upstream's rule alone; inconclusive where an undefined value decides."""
        if self.reason is not None or not self.checks:
            return Status.NONE
        met = [check.upstream_met for check in self.checks]
        if False in met:
            return Status.FAIL
        return Status.INCONCLUSIVE if None in met else Status.PASS

    @property
    def further(self) -> int | None:
        """The further answers that would settle every inconclusive check of an inconclusive verdict.

        None for any other verdict, and where one of its checks has no such number.
        """
        if self.status is not Status.INCONCLUSIVE:
            return None
        numbers = [item.further for item in self.checks if item.status is Status.INCONCLUSIVE]
        known = [number for number in numbers if number is not None]
        return max(known) if len(known) == len(numbers) else None


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a verdict asks for.

    Attributes:
        similarity: The least trigger_similarity; None if nobody states one.
        surplus: How far call_surplus may lie to either side of 0; None applies no such check.
        accuracy: The least schema_accuracy; None applies no such check.
        margin: How far below the official runs' self-agreement the vendor may lie.
        coverage: The least share of the requests that must have completed.
    """

    similarity: float | None = None
    surplus: float | None = DEFAULT_SURPLUS
    accuracy: float | None = DEFAULT_ACCURACY
    margin: float = MARGIN
    coverage: float = STRICT_COVERAGE


def strict_verdict(
    tally: Tally,
    requirements: Requirements,
    *,
    level: Level = FIXED,
    agreement: SelfAgreement | None = None,
    coverage: float | None = None,
    void_reason: str | None = None,
) -> Verdict:
    """Judge a run, or the part of it that a look is at, by the checks of the strict rule.

    Against several official runs the similarity is held against theirs to each other, and the threshold
    says only what it would say. The verdict is the worst of the checks that were applied.

    Args:
        tally: What was answered.
        requirements: What is asked for.
        level: How sure the checks have to be.
        agreement: The official model against itself, where it is known.
        coverage: Completed / all requests; None asks for none.
        void_reason: Why these numbers may carry no verdict (synthetic rows, several models), or None.
    """
    metrics = {metric.name: metric for metric in compute_metrics(tally)}
    checks = _checks(metrics, tally.decisions, requirements, level)
    found = differences(tally.decisions, metrics[PRIMARY_METRIC], agreement)
    reason = void_reason
    if reason is None and not any(check.applied and check.metric in _OF_SIMILARITY for check in checks):
        reason = NO_THRESHOLD
    if reason is not None:
        return Verdict(Status.NONE, checks, reason)
    incomplete = None
    if coverage is not None and coverage < requirements.coverage:
        incomplete = f"{percent_beside(coverage, requirements.coverage)} of the requests completed"
    worst = worst_status(check.status for check in checks if check.applied)
    status = worst if incomplete is None else Status.INCONCLUSIVE
    return Verdict(status, checks, None, incomplete, found)


def _checks(
    metrics: Mapping[str, Metric], decisions: DecisionTable, requirements: Requirements, level: Level
) -> tuple[Check, ...]:
    surplus, accuracy = requirements.surplus, requirements.accuracy
    against_runs = non_inferiority(decisions)
    checks = []
    if against_runs is not None:
        checks.append(
            _check(NON_INFERIORITY, against_runs.difference, Range(-requirements.margin), level, applied=True)
        )
    if requirements.similarity is not None:
        similarity, wanted = _estimate(metrics[PRIMARY_METRIC]), Range(requirements.similarity)
        checks.append(_check(PRIMARY_METRIC, similarity, wanted, level, applied=against_runs is None))
    tolerance = DEFAULT_SURPLUS if surplus is None else surplus
    around = Range(-tolerance, tolerance)
    checks.append(_check(CALL_SURPLUS, call_surplus(decisions), around, level, applied=surplus is not None))
    wanted = Range(DEFAULT_ACCURACY if accuracy is None else accuracy)
    checks.append(_check(ACCURACY, _estimate(metrics[ACCURACY]), wanted, level, applied=accuracy is not None))
    return tuple(checks)


def _estimate(metric: Metric) -> Estimate | None:
    if metric.value is None or metric.interval is None:
        return None
    return Estimate(metric.value, metric.interval)


class Range(NamedTuple):
    """What a value has to lie in; without a most, more is always better."""

    least: float
    most: float | None = None


def _check(name: str, found: Estimate | None, wanted: Range, level: Level, *, applied: bool) -> Check:
    """Hold an interval against a range, each side at its level.

    The interval that is shown is the one that decided: the failing level's of a fail, else the passing's.
    """
    least, most = wanted
    if found is None:
        return Check(name, least, None, None, Status.INCONCLUSIVE, most=most, applied=applied)
    value, upper = found.value, inf if most is None else most
    passing, failing = (at_level(value, found.interval, z) for z in (level.passing, level.failing))
    status, shown = Status.INCONCLUSIVE, passing
    if failing.high < least or failing.low > upper:
        status, shown = Status.FAIL, failing
    elif passing.low >= least and passing.high <= upper:
        status = Status.PASS
    met = least <= value <= upper
    return Check(name, least, value, met, status, most=most, interval=shown, applied=applied)


def similarity_bounds(counts: Counts, unanswered_calls: int, unanswered_others: int) -> tuple[float, float]:
    """Give trigger_similarity if every failed or missing request had disagreed, and if each had agreed.

    Args:
        counts: Counts over the completed responses.
        unanswered_calls: Requests without an answer to which the official API calls.
        unanswered_others: Those to which it does not.
    """
    errors = counts.fp + counts.fn
    total = 2 * counts.tp + errors + unanswered_calls + unanswered_others
    agreed = 2 * (counts.tp + unanswered_calls)
    return (
        2 * counts.tp / total if total else 0.0,
        agreed / (agreed + errors) if agreed + errors else 1.0,
    )


def decide(
    metrics: Sequence[Metric],
    *,
    threshold: float | None,
    minimums: Mapping[str, float] | None = None,
    void_reason: str | None = None,
) -> Verdict:
    """Compare metrics with thresholds.

    Args:
        metrics: The run's metrics.
        threshold: The subset's threshold of `trigger_similarity`, or None.
        minimums: The user's thresholds by metric name; they replace the subset's.
        void_reason: Why these numbers may carry no verdict (synthetic rows, several models), or None.
    """
    thresholds = {} if threshold is None else {PRIMARY_METRIC: threshold}
    thresholds.update(minimums or {})
    by_name = {metric.name: metric for metric in metrics}
    completed = by_name[COMPLETED_COUNT].n if COMPLETED_COUNT in by_name else 0
    checks = tuple(check(by_name[name], minimum, completed) for name, minimum in thresholds.items())
    reason = void_reason
    if reason is None and not checks:
        reason = NO_THRESHOLD
    if reason is not None:
        return Verdict(Status.NONE, checks, reason)
    return Verdict(worst_status(item.status for item in checks), checks)


def check(metric: Metric, threshold: float, completed: int = 0) -> Check:
    """Compare one metric with its threshold, by both rules.

    Args:
        metric: The metric.
        threshold: What it must reach.
        completed: Completed answers behind the metric, not all of which need be in its denominator.
    """
    upstream_met = None if metric.value is None else metric.value >= threshold
    status = Status.INCONCLUSIVE if metric.interval is None else strict_status(metric.interval, threshold)
    further = None
    if status is Status.INCONCLUSIVE and metric.value is not None and metric.interval is not None:
        further = further_answers(metric.value, metric.interval, threshold, completed)
    return Check(metric.name, threshold, metric.value, upstream_met, status, further)


def strict_status(interval: Interval, threshold: float) -> Status:
    """Compare an interval with a threshold, by the strict rule."""
    if interval.low >= threshold:
        return Status.PASS
    return Status.FAIL if interval.high < threshold else Status.INCONCLUSIVE


def further_answers(value: float, interval: Interval, threshold: float, completed: int) -> int | None:
    """Compute how many further answers would settle an inconclusive check.

    It is the smallest number after which the interval would pass or fail, if the value stayed what it
    is and the further answers were worth as much, and as often in the denominator, as those so far.

    Args:
        value: The metric's value.
        interval: Its interval, inconclusive against the threshold.
        threshold: What the metric must reach.
        completed: Completed answers so far.

    Returns:
        None if not even `MOST_FURTHER` would, or nothing has completed.
    """
    size = size_to_clear(value, threshold, interval.method)
    if size is None or not completed:
        return None

    def settles(further: int) -> bool:
        grown = interval_at(value, interval.n * (1 + further / completed), interval.method)
        return strict_status(grown, threshold) is not Status.INCONCLUSIVE

    estimate = completed * (size / interval.n - 1)
    if estimate > MOST_FURTHER:
        return None
    further = max(1, ceil(estimate))
    # The estimate is exact but for rounding, and for the side on which a bound may equal the threshold.
    while not settles(further):
        further += 1
    while further > 1 and settles(further - 1):
        further -= 1
    return further if further <= MOST_FURTHER else None


def worst_status(statuses: Iterable[Status]) -> Status:
    """Give the status of several checks: a failed one decides, then an inconclusive one."""
    found = set(statuses)
    for status in (Status.FAIL, Status.INCONCLUSIVE):
        if status in found:
            return status
    return Status.PASS
