"""May this vendor be used? Thresholds against values and against intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf
from typing import Any, NamedTuple

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.differences import Difference, differences
from k2_verifier_adapter.core.json_text import number, number_or_none, text_or_none
from k2_verifier_adapter.core.metrics import (
    ACCURACY,
    CALL_SURPLUS,
    PRIMARY_METRIC,
    Metric,
    compute_metrics,
)
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.printable import percent_beside
from k2_verifier_adapter.core.self_agreement import MARGIN
from k2_verifier_adapter.core.statistics.decisions import (
    DecisionTable,
    Estimate,
    call_surplus,
    non_inferiority,
)
from k2_verifier_adapter.core.statistics.intervals import Interval, at_level
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
        upstream_met: Upstream's rule, value ≥ threshold; None if undefined.
        status: The strict rule: pass if the interval's lower bound reaches the threshold, fail if
            its upper bound is below, else inconclusive.
        most: What it may reach at most; None where more is always better.
        interval: The interval that was compared, or None if the value is undefined.
        applied: Whether the verdict heeds it; what is not applied says what it would say.
    """

    metric: str
    threshold: float
    value: float | None
    upstream_met: bool | None
    status: Status
    most: float | None = None
    interval: Interval | None = None
    applied: bool = True

    @property
    def settled(self) -> bool:
        """Whether it passed or failed."""
        return self.status is not Status.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks, and the status that follows from them.

    Attributes:
        status: `none` where there is no check or a reason speaks against any verdict.
        incomplete: Why the strict verdict is inconclusive whatever its checks say, or None.
        barred: Why no rule may let it pass, whatever it says, or None.
        differences: What was tested beside the checks, shown or not.
    """

    status: Status
    checks: tuple[Check, ...]
    reason: str | None = None
    incomplete: str | None = None
    differences: tuple[Difference, ...] = ()
    barred: str | None = None

    @property
    def upstream_status(self) -> Status:
        """The status by upstream's rule: trigger_similarity ≥ threshold, and nothing else."""
        similarity = next((check for check in self.checks if check.metric == PRIMARY_METRIC), None)
        if self.reason is not None or similarity is None:
            return Status.NONE
        met = similarity.upstream_met
        return Status.INCONCLUSIVE if met is None else Status.PASS if met else Status.FAIL

    @property
    def raised(self) -> tuple[Difference, ...]:
        """The differences that are beyond chance."""
        return tuple(difference for difference in self.differences if difference.raised)


class WhenInconclusive(str, Enum):
    """What an inconclusive verdict means for the exit code, where the user says."""

    FAIL = "fail"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a verdict asks for.

    Attributes:
        similarity: The least trigger_similarity; None for the rows' own threshold, if they have one.
        surplus: How far call_surplus may lie to either side of 0; None applies no such check.
        accuracy: The least schema_accuracy; None applies no such check.
        margin: How far below the official runs' self-agreement the vendor may lie.
        coverage: The least share of the requests that must have completed; None for `STRICT_COVERAGE`.
    """

    similarity: float | None = None
    surplus: float | None = DEFAULT_SURPLUS
    accuracy: float | None = DEFAULT_ACCURACY
    margin: float = MARGIN
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What decides the exit code, as the user asked.

    Attributes:
        gate: Which rule decides.
        inconclusive: What an inconclusive verdict means; exit code 3 if None.
        requirements: What the verdict asks for.
        baseline: The run directory that the run may not be worse than, or None.
        margin: How much worse than the baseline it may be, as a share.
    """

    gate: Gate = Gate.NONE
    inconclusive: WhenInconclusive | None = None
    requirements: Requirements = field(default_factory=Requirements)
    baseline: str | None = None
    margin: float = MARGIN

    @property
    def decides(self) -> bool:
        """Whether a verdict decides the exit code."""
        return self.gate is not Gate.NONE or self.baseline is not None

    def as_json(self) -> dict[str, Any]:
        """Give the form that a run's files hold."""
        asked = self.requirements
        return {
            "gate": self.gate.value,
            "inconclusive": None if self.inconclusive is None else self.inconclusive.value,
            "min_trigger_similarity": asked.similarity,
            "call_surplus_tolerance": asked.surplus,
            "min_schema_accuracy": asked.accuracy,
            "min_coverage": asked.coverage,
            "baseline": self.baseline,
            "margin": self.margin,
        }

    @classmethod
    def from_json(cls, value: Any) -> GateOptions:
        """Read the form that files hold back; None, in runs of earlier versions, is what nobody asked for.

        Raises:
            KeyError, TypeError, ValueError: If it is none.
        """
        if value is None:
            return cls()
        inconclusive = value["inconclusive"]
        return cls(
            gate=Gate(value["gate"]),
            inconclusive=None if inconclusive is None else WhenInconclusive(inconclusive),
            requirements=Requirements(
                similarity=number_or_none(value["min_trigger_similarity"]),
                surplus=number_or_none(value["call_surplus_tolerance"]),
                accuracy=number_or_none(value["min_schema_accuracy"]),
                coverage=number_or_none(value["min_coverage"]),
            ),
            baseline=text_or_none(value["baseline"]),
            margin=number(value["margin"]),
        )


NO_GATE = GateOptions()
"""What decides where the user asked for nothing."""


def strict_verdict(
    tally: Tally,
    requirements: Requirements,
    *,
    standard: Standard | None = None,
    level: Level = FIXED,
    coverage: float | None = None,
    void_reason: str | None = None,
    barred: str | None = None,
) -> Verdict:
    """Judge a run, or the part of it that a look is at, by the checks of the strict rule.

    Against several official runs the similarity is held against theirs to each other, and the threshold says
    only what it would say. The verdict is the worst of the checks that were applied. `void_reason` says why
    these numbers may carry no verdict (synthetic rows, several models), and `barred` why they may not pass;
    without coverage, none is asked for.
    """
    metrics = {metric.name: metric for metric in compute_metrics(tally)}
    if requirements.similarity is None and standard is not None:
        requirements = replace(requirements, similarity=standard.threshold)
    agreement = None if standard is None else standard.self_agreement
    checks = _checks(metrics, tally.decisions, requirements, level)
    found = differences(tally.decisions, metrics[PRIMARY_METRIC], agreement)
    reason = void_reason
    if reason is None and not any(check.applied and check.metric in _OF_SIMILARITY for check in checks):
        reason = NO_THRESHOLD
    if reason is not None:
        return Verdict(Status.NONE, checks, reason, barred=barred)
    incomplete = None
    required = STRICT_COVERAGE if requirements.coverage is None else requirements.coverage
    if coverage is not None and coverage < required:
        incomplete = f"{percent_beside(coverage, required)} of the requests completed, {required:.0%} needed"
    worst = worst_status(check.status for check in checks if check.applied)
    may_pass = incomplete is None and barred is None
    status = worst if may_pass or (incomplete is None and worst is Status.FAIL) else Status.INCONCLUSIVE
    return Verdict(status, checks, None, incomplete, found, barred)


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
    """Give trigger_similarity if every failed or missing request had disagreed, and if each had agreed."""
    errors = counts.fp + counts.fn
    total = 2 * counts.tp + errors + unanswered_calls + unanswered_others
    agreed = 2 * (counts.tp + unanswered_calls)
    return (
        2 * counts.tp / total if total else 0.0,
        agreed / (agreed + errors) if agreed + errors else 1.0,
    )


def worst_status(statuses: Iterable[Status]) -> Status:
    """Give the status of several checks: a failed one decides, then an inconclusive one."""
    found = set(statuses)
    for status in (Status.FAIL, Status.INCONCLUSIVE):
        if status in found:
            return status
    return Status.PASS
