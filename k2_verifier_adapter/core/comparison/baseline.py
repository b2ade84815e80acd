"""Is a run not worse than its baseline? Differences over the common cases, against a margin."""

from __future__ import annotations

from dataclasses import dataclass

from k2_verifier_adapter.core.statistics.paired import Difference
from k2_verifier_adapter.core.verdict import Status

DEFAULT_MARGIN = 0.03
"""How much worse than its baseline a run may be: as far as upstream's thresholds lie below the lowest
agreement of the official model with itself."""


@dataclass(frozen=True, slots=True)
class MarginCheck:
    """One metric of a run against that of its baseline.

    Attributes:
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
    """

    status: Status
    margin: float
    baseline: str
    model: str
    cases: int
    checks: tuple[MarginCheck, ...]
    warnings: tuple[str, ...] = ()
    reason: str | None = None


def margin_status(difference: Difference | None, margin: float) -> Status:
    """Compare the interval of a difference with −margin, by the strict rule."""
    if difference is None:
        return Status.INCONCLUSIVE
    if difference.low >= -margin:
        return Status.PASS
    return Status.FAIL if difference.high < -margin else Status.INCONCLUSIVE
