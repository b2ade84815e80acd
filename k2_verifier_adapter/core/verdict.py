"""May this vendor be used? Thresholds against values and against intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from k2_verifier_adapter.core.metrics import PRIMARY_METRIC, Metric


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
    """

    metric: str
    threshold: float
    value: float | None
    upstream_met: bool | None
    status: Status


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
    checks = tuple(check(by_name[name], minimum) for name, minimum in thresholds.items())
    reason = void_reason
    if reason is None and not checks:
        reason = "no threshold is known for this subset"
    if reason is not None:
        return Verdict(Status.NONE, checks, reason)
    return Verdict(_worst(item.status for item in checks), checks)


def check(metric: Metric, threshold: float) -> Check:
    """Compare one metric with its threshold, by both rules."""
    upstream_met = None if metric.value is None else metric.value >= threshold
    if metric.interval is None:
        status = Status.INCONCLUSIVE
    elif metric.interval.low >= threshold:
        status = Status.PASS
    elif metric.interval.high < threshold:
        status = Status.FAIL
    else:
        status = Status.INCONCLUSIVE
    return Check(metric.name, threshold, metric.value, upstream_met, status)


def _worst(statuses: Iterable[Status]) -> Status:
    found = set(statuses)
    for status in (Status.FAIL, Status.INCONCLUSIVE):
        if status in found:
            return status
    return Status.PASS
