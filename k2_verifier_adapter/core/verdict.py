"""May this vendor be used? Thresholds against values and against intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil

from k2_verifier_adapter.core.metrics import COMPLETED_COUNT, PRIMARY_METRIC, Metric
from k2_verifier_adapter.core.statistics.intervals import Interval, interval_at, size_to_clear

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
    """

    metric: str
    threshold: float
    value: float | None
    upstream_met: bool | None
    status: Status
    further: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks, and the status that follows from them.

    Attributes:
        status: `none` where there is no check or a reason speaks against any verdict.
        checks: The checks, shown even where the status is `none`.
        reason: Why there is no verdict, or None.
    """

    status: Status
    checks: tuple[Check, ...]
    reason: str | None = None

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
