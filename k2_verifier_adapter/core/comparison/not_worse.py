"""Is a run not worse than its baseline? Differences over the common cases, against a margin."""

from __future__ import annotations

from dataclasses import dataclass

from k2_verifier_adapter.core.comparison.compare import Comparison, letter, void_reason
from k2_verifier_adapter.core.comparison.paired import Difference
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.verdict import Status, worst_status

DEFAULT_MARGIN = 0.03
"""How much worse than its baseline a run may be: as far as upstream's thresholds lie below the lowest
agreement of the official model with itself."""


@dataclass(frozen=True, slots=True)
class MarginCheck:
    """One metric of a run against that of its baseline.

    Attributes:
        metric: Its name.
        difference: The run's value − the baseline's, over the common cases; None if it is undefined.
        status: Pass if the interval's lower bound reaches −margin, fail if its upper bound is below,
            else inconclusive.
    """

    metric: str
    difference: Difference | None
    status: Status


@dataclass(frozen=True, slots=True)
class NotWorse:
    """Whether a run is not worse than its baseline, by more than a margin.

    Attributes:
        status: `none` where a reason speaks against any verdict; else a failed check decides, then an
            inconclusive one.
        margin: How much worse it may be, as a share.
        baseline: Where the baseline was read from.
        model: The baseline's model.
        cases: Number of common cases.
        checks: The checks, trigger_similarity and schema_accuracy.
        warnings: What has to be known of the baseline, and of how the two were matched.
        reason: Why there is no verdict, or None.
    """

    status: Status
    margin: float
    baseline: str
    model: str
    cases: int
    checks: tuple[MarginCheck, ...]
    warnings: tuple[str, ...] = ()
    reason: str | None = None


def not_worse(comparison: Comparison, margin: float = DEFAULT_MARGIN) -> NotWorse:
    """Decide whether the first run is not worse than the second, its baseline.

    It is the strict rule of a verdict, with the paired difference in place of the value and −margin in
    place of the threshold (a test of non-inferiority, 2.5 % one-sided).

    Args:
        comparison: The run and its baseline, in this order.
        margin: How much worse the run may be, as a share.
    """
    (pair,) = comparison.pairs
    checks = (
        MarginCheck(PRIMARY_METRIC, pair.similarity, margin_status(pair.similarity, margin)),
        MarginCheck("schema_accuracy", pair.accuracy, margin_status(pair.accuracy, margin)),
    )
    reasons = [void_reason(standing.participant) for standing in comparison.standings]
    reason = next((found for found in reasons if found is not None), None)
    baseline = comparison.standings[1].participant
    return NotWorse(
        status=Status.NONE if reason is not None else worst_status(item.status for item in checks),
        margin=margin,
        baseline=baseline.source,
        model=baseline.label,
        cases=comparison.cases,
        checks=checks,
        warnings=tuple(_of_baseline(comparison)),
        reason=reason,
    )


def _of_baseline(comparison: Comparison) -> list[str]:
    """Give the warnings that the run's own report does not have."""
    run, baseline = (f"{letter(place)}: " for place in range(2))
    own = comparison.standings[0].participant.summary.warnings
    said = [line for line in comparison.warnings if line not in own and not line.startswith(run)]
    return [f"Baseline: {line.removeprefix(baseline)}" for line in said]


def margin_status(difference: Difference | None, margin: float) -> Status:
    """Compare the interval of a difference with −margin, by the strict rule."""
    if difference is None:
        return Status.INCONCLUSIVE
    if difference.low >= -margin:
        return Status.PASS
    return Status.FAIL if difference.high < -margin else Status.INCONCLUSIVE
