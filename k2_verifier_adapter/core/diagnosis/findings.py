"""Probable causes: from the distribution of failure classes to hypotheses about the server.

The rules are data, see `core.diagnosis.rules`. A rule counts responses whose primary class is one of its
own, and fires if they are enough, in number and in share, and its conditions hold. What it says is a
hypothesis: the same symptom may have another cause.

With each finding, and for each class by itself, the two metrics are recomputed as if it were fixed. Every
response keeps its official answer; it changes only if the class is what makes its decision differ or its
calls invalid (`core.judging.causes` chooses one class for each), and then as its `Fix` says. The sums of
these changes are kept with the counts, so nothing is judged again. A failed request changes nothing,
unless it counts as "did not call".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.diagnosis.advice import Advice, resolved
from k2_verifier_adapter.core.diagnosis.measures import Context, Measure, Measures
from k2_verifier_adapter.core.failure_classes import FailureClass, Group, Variant
from k2_verifier_adapter.core.metrics import DEFINITIONS
from k2_verifier_adapter.core.refusals import RefusalReason
from k2_verifier_adapter.core.tally import MAX_EVIDENCE, SymptomTally, Tally


@dataclass(frozen=True, slots=True)
class TwoMetrics:
    """A value for each of the two metrics that a fix may change; None where it is undefined."""

    trigger_similarity: float | None
    schema_accuracy: float | None

    def as_json(self) -> dict[str, float | None]:
        """Give the JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The two metrics without one class."""

    failure_class: FailureClass
    metrics: TwoMetrics


class Base(str, Enum):
    """What a rule's share is a share of; the value is the word for it."""

    RESPONSES = "responses"
    CALLING = "calling responses"
    OFFICIAL_CALLS = "official calls"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Condition:
    """A measure that has to lie between two bounds, of which the lower is included."""

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
        base: What its share is a share of.
        evidence: One sentence with the numbers, in which the names of measures, and `count`, `base` and
            `share`, stand in braces.
        checks: What to look at and to do; an `Advice` depends on the model.
        refuted_by: What would show that the hypothesis is wrong.
        variants: Of a class, which variants count; all where it is not named.
        reasons: Which of what servers say counts; None for all.
        beside_others: Whether it counts every response that shows its class, be another one primary; only
            for one class that costs neither metric.
        counted: What it counts instead of classes; None for classes.
    """

    name: str
    classes: tuple[FailureClass, ...]
    base: Base
    hypothesis: str
    evidence: str
    checks: tuple[str | Advice, ...]
    refuted_by: str
    variants: Mapping[FailureClass, frozenset[Variant | None]] = field(default_factory=dict)
    reasons: frozenset[RefusalReason | None] | None = None
    minimum: int = 3
    least_share: float = 0.005
    conditions: tuple[Condition, ...] = ()
    beside_others: bool = False
    counted: Measure | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One probable cause.

    Attributes:
        count: Responses or requests that speak for it.
        base: Out of how many.
        classes: Those responses by failure class.
        cases: 0-based row numbers of the first of them.
        if_fixed: The two metrics if all its classes were fixed.
        explains: The share of the loss in the two metrics that it explains; see `explained`.
        checks: What to look at and to do; what a finding before it advises is not said again.
        refuted_by: What would show that it is wrong.
        quotes: What the servers of its failed requests said, the commonest first.
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
    refuted_by: str
    quotes: tuple[str, ...] = ()


def diagnose(tally: Tally, context: Context, rules: Sequence[Rule]) -> tuple[Finding, ...]:
    """Find the probable causes, those that explain most of the loss first."""
    measures = Measures(tally, context)
    weighed = [item for rule in rules if (item := _apply(rule, tally, measures, context)) is not None]
    # Equal weights: the more frequent, then the order of the rules.
    weighed.sort(key=lambda item: (-round(item[0], 9), -item[1].count))
    given: dict[str, None] = {}
    findings = []
    for _, finding in weighed:
        findings.append(replace(finding, checks=tuple(line for line in finding.checks if line not in given)))
        given.update(dict.fromkeys(finding.checks))
    return tuple(findings)


def _apply(rule: Rule, tally: Tally, measures: Measures, context: Context) -> tuple[float, Finding] | None:
    """Give the finding that a rule makes, with its weight; None if it does not fire."""
    now, ceiling = metrics_of(tally.counts), context.ceiling
    symptoms = _symptoms_of(rule, tally, measures)
    classes: Counter[FailureClass] = Counter()
    cases: set[int] = set()
    statuses: Counter[int] = Counter()
    change = Counts()
    for kind, symptom in symptoms:
        number = symptom.shown if rule.beside_others else symptom.primary
        if number:
            classes[kind] += number
            cases.update(symptom.shown_cases if rule.beside_others else symptom.primary_cases)
        statuses += symptom.statuses
        change += symptom.change
    count = sum(classes.values()) if rule.counted is None else int(measures.value(rule.counted) or 0)
    base = _base(rule.base, tally)
    if not base or count < rule.minimum or count / base < rule.least_share:
        return None
    if not all(condition.holds(measures) for condition in rule.conditions):
        return None
    numbers = {
        "count": f"{count:,}",
        "base": f"{base:,} {rule.base.value}",
        "share": _percent(count / base),
        "tools": measures.tools_showing(rule.classes),
        "statuses": ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
        or "no status",
    }
    fixed = _with_ceiling(now, metrics_of(tally.counts + change), ceiling)
    finding = Finding(
        rule=rule.name,
        hypothesis=rule.hypothesis,
        evidence=rule.evidence.format_map({**measures.words(), **numbers}),
        count=count,
        base=base,
        classes=dict(classes),
        cases=tuple(sorted(cases)[:MAX_EVIDENCE]),
        if_fixed=fixed,
        explains=explained(now, fixed, ceiling),
        checks=resolved(rule.checks, context.profile),
        refuted_by=rule.refuted_by,
        quotes=_quotes(rule, tally),
    )
    lost = sum(classes.values()) / base if rule.base is Base.REQUESTS else 0.0
    # Weighed without the ceiling, under which causes of different size would gain alike.
    return _gain(now, metrics_of(tally.counts + change)) + lost, finding


def _symptoms_of(rule: Rule, tally: Tally, measures: Measures) -> Iterator[tuple[FailureClass, SymptomTally]]:
    for (kind, variant), symptom in tally.symptoms.items():
        if kind not in rule.classes:
            continue
        if kind.group is Group.TRANSPORT:
            wanted = rule.reasons is None or variant in rule.reasons
        else:
            # Where sound answers, too, have tokens that cannot be seen, these tell nothing.
            hidden = variant is Variant.CALL_DROPPED and measures.tokens_tell_nothing
            allowed = rule.variants.get(kind)
            wanted = allowed is None or (None if hidden else variant) in allowed
        if wanted:
            yield kind, symptom


def _quotes(rule: Rule, tally: Tally) -> tuple[str, ...]:
    if rule.base is not Base.REQUESTS or not rule.classes:
        return ()
    return tuple(
        f"{message.count} x {message.status or 'no status'}: {message.text}"
        for message in tally.refusals.commonest()
        if message.failure_class in rule.classes and (rule.reasons is None or message.reason in rule.reasons)
    )[:MAX_QUOTES]


MAX_QUOTES = 3


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


_VALUES = {definition.name: definition.value for definition in DEFINITIONS}
_NO_CHANGE = Counts()


def metrics_of(counts: Counts) -> TwoMetrics:
    """Compute the two metrics from counts."""
    return TwoMetrics(_VALUES["trigger_similarity"](counts), _VALUES["schema_accuracy"](counts))


def metrics_if_fixed(tally: Tally, kinds: Iterable[FailureClass], ceiling: float = 1.0) -> TwoMetrics:
    """Compute the two metrics as if all these classes were fixed.

    At most one of an extra call and of what makes calls invalid should be among them: a response may have
    both, and each would change it alone. No fix lifts trigger_similarity above the ceiling: the official
    model's agreement with itself.
    """
    counts, changes = tally.counts, tally.changes
    for kind in kinds:
        counts += changes.get(kind, _NO_CHANGE)
    return _with_ceiling(metrics_of(tally.counts), metrics_of(counts), ceiling)


def _with_ceiling(now: TwoMetrics, fixed: TwoMetrics, ceiling: float) -> TwoMetrics:
    if fixed.trigger_similarity is None:
        return fixed
    most = max(ceiling, now.trigger_similarity or 0.0)
    return replace(fixed, trigger_similarity=min(fixed.trigger_similarity, most))


def what_ifs(tally: Tally, ceiling: float = 1.0) -> tuple[WhatIf, ...]:
    """Compute the what-if of every class whose fix changes anything, in the order of the classes."""
    changes = tally.changes
    return tuple(
        WhatIf(kind, metrics_if_fixed(tally, (kind,), ceiling)) for kind in FailureClass if kind in changes
    )


def explained(now: TwoMetrics, fixed: TwoMetrics, ceiling: float = 1.0) -> TwoMetrics:
    """Compute the share of the loss that a fix explains: its gain over what is missing to the ceiling.

    The ceiling of trigger_similarity is the official model's agreement with itself, that of
    schema_accuracy 100 %. None where a value is undefined or nothing is missing. Negative where the fix
    would cost: a leaked call where the official API does not call.
    """
    return TwoMetrics(
        _share(now.trigger_similarity, fixed.trigger_similarity, ceiling),
        _share(now.schema_accuracy, fixed.schema_accuracy, 1.0),
    )


def _share(now: float | None, fixed: float | None, ceiling: float) -> float | None:
    if now is None or fixed is None or now >= ceiling:
        return None
    return (fixed - now) / (ceiling - now)
