"""Probable causes: from the distribution of failure classes to hypotheses about the server.

The rules are data, see `core.diagnosis.rules`. A rule counts responses whose primary class is one of its
own, and fires if they are enough, in number and in share, and its conditions hold. What it says is a
hypothesis: the same symptom may have another cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from k2_verifier_adapter.core.diagnosis.measures import Context, Measure, Measures
from k2_verifier_adapter.core.diagnosis.what_if import TwoMetrics, explained, metrics_if_fixed, metrics_of
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.tally import MAX_EVIDENCE, Tally


class Base(str, Enum):
    """What a rule's share is a share of; the value is the word for it."""

    RESPONSES = "responses"
    CALLING = "calling responses"
    OFFICIAL_CALLS = "official calls"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Condition:
    """A measure that has to lie between two bounds.

    Attributes:
        measure: The measure.
        at_least: The lower bound, included.
        below: The upper bound, not included.
    """

    measure: Measure
    at_least: float = float("-inf")
    below: float = float("inf")

    def holds(self, measures: Measures) -> bool:
        """Whether it does; an undefined measure never does."""
        value = measures.value(self.measure)
        return value is not None and self.at_least <= value < self.below


@dataclass(frozen=True, slots=True)
class Rule:
    """When a finding is made, and what it says.

    Attributes:
        name: Its name in files.
        classes: Its failure classes.
        base: What its share is a share of.
        hypothesis: One sentence that says what is probably wrong.
        evidence: One sentence with the numbers, in which the names of measures, and `count`, `base` and
            `share`, stand in braces.
        checks: What to check or to change.
        minimum: The least count.
        least_share: The least share.
        conditions: What else has to hold.
        beside_others: Whether it counts every response that shows its class, be another one primary; only
            for one class that costs neither metric.
        counted: What it counts instead of classes; None for classes.
    """

    name: str
    classes: tuple[FailureClass, ...]
    base: Base
    hypothesis: str
    evidence: str
    checks: tuple[str, ...]
    minimum: int = 3
    least_share: float = 0.005
    conditions: tuple[Condition, ...] = ()
    beside_others: bool = False
    counted: Measure | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One probable cause.

    Attributes:
        rule: Name of the rule.
        hypothesis: What is probably wrong.
        evidence: The numbers in one sentence.
        count: Responses or requests that speak for it.
        base: Out of how many.
        classes: Those responses by failure class.
        cases: 0-based row numbers of the first of them.
        if_fixed: The two metrics if all its classes were fixed.
        explains: The share of the loss in the two metrics that it explains; see `what_if.explained`.
        checks: What to check or to change.
    """

    rule: str
    hypothesis: str
    evidence: str
    count: int
    base: int
    classes: Mapping[FailureClass, int]
    cases: tuple[int, ...]
    if_fixed: TwoMetrics
    explains: TwoMetrics
    checks: tuple[str, ...]

    @property
    def share(self) -> float:
        """The count as a share of the base."""
        return self.count / self.base


@dataclass(slots=True)
class _Weighed:
    """A finding with its weight, by which findings are ordered."""

    finding: Finding
    weight: float = field(default=0.0)


def diagnose(tally: Tally, context: Context, rules: Sequence[Rule]) -> tuple[Finding, ...]:
    """Find the probable causes, those that explain most of the loss first.

    Args:
        tally: The tally of the run.
        context: What is known beside it.
        rules: The rules.
    """
    measures = Measures(tally, context)
    now = metrics_of(tally.counts)
    weighed = [item for rule in rules if (item := _apply(rule, tally, measures, now)) is not None]
    # Equal weights: the more frequent, then the order of the rules.
    weighed.sort(key=lambda item: (-round(item.weight, 9), -item.finding.count))
    return tuple(item.finding for item in weighed)


def _apply(rule: Rule, tally: Tally, measures: Measures, now: TwoMetrics) -> _Weighed | None:
    counted = tally.failure_counts if rule.beside_others else tally.primary_counts
    classes = {kind: counted[kind] for kind in rule.classes if counted[kind]}
    count = sum(classes.values()) if rule.counted is None else int(measures.value(rule.counted) or 0)
    base = _base(rule.base, tally)
    if not base or count < rule.minimum or count / base < rule.least_share:
        return None
    if not all(condition.holds(measures) for condition in rule.conditions):
        return None
    fixed = metrics_if_fixed(tally, rule.classes)
    listed = tally.failure_cases if rule.beside_others else tally.primary_cases
    cases = sorted({case for kind in classes for case in listed.get(kind, ())})
    numbers = {
        "count": f"{count:,}",
        "base": f"{base:,} {rule.base.value}",
        "share": _percent(count / base),
        "tools": measures.tools_showing(rule.classes),
    }
    finding = Finding(
        rule=rule.name,
        hypothesis=rule.hypothesis,
        evidence=rule.evidence.format_map({**measures.words(), **numbers}),
        count=count,
        base=base,
        classes=classes,
        cases=tuple(cases[:MAX_EVIDENCE]),
        if_fixed=fixed,
        explains=explained(now, fixed),
        checks=rule.checks,
    )
    lost = sum(classes.values()) / base if rule.base is Base.REQUESTS else 0.0
    return _Weighed(finding, _gain(now, fixed) + lost)


def _gain(now: TwoMetrics, fixed: TwoMetrics) -> float:
    """Add up what a fix gains; what it costs, or makes of an undefined value, is no gain and no loss."""
    pairs = (
        (now.trigger_similarity, fixed.trigger_similarity),
        (now.schema_accuracy, fixed.schema_accuracy),
    )
    return sum(
        max(0.0, after - before) for before, after in pairs if before is not None and after is not None
    )


def _base(base: Base, tally: Tally) -> int:
    counts = tally.counts
    if base is Base.CALLING:
        return counts.tool_calls
    if base is Base.OFFICIAL_CALLS:
        return counts.official_tool_calls
    if base is Base.REQUESTS:
        return counts.completed + counts.failed
    return counts.completed


def _percent(share: float) -> str:
    """Write a share as a whole percentage; what is little, but not nothing, with a digit more."""
    return f"{100 * share:.1f} %" if 0 < share < 0.01 or 0.99 < share < 1 else f"{100 * share:.0f} %"
