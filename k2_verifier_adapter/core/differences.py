"""Differences between a vendor and the official API: tests, stated beside the verdict, never a gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from k2_verifier_adapter.core.metrics import Metric
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import percent
from k2_verifier_adapter.core.statistics.decisions import (
    DecisionTable,
    NonInferiority,
    call_surplus,
    exchange_test,
    non_inferiority,
    surplus_test,
)
from k2_verifier_adapter.core.statistics.intervals import p_above

LEVEL = 0.01
"""A difference is raised where its p-value is below: for at most so many faithful vendors."""

_PLAIN_SCORE = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the vendor may decide otherwise than the official API.

    Attributes:
        name: `calls_more`, `calls_less`, `agrees_too_much` or `decides_differently`.
        estimate: Its size, as a share: the surplus of calls; the similarity above the official
            self-agreement; the share of cases in which it sided with the majority, less the expected one.
        p: Two-sided p-value under faithfulness.
        evidence: What was seen, for whoever buys or ships.
    """

    name: str
    estimate: float
    p: float
    evidence: str

    @property
    def raised(self) -> bool:
        """Whether it is shown."""
        return self.p < LEVEL


def differences(
    table: DecisionTable, similarity: Metric, agreement: SelfAgreement | None
) -> tuple[Difference, ...]:
    """Test for every difference that the rows allow to be tested."""
    against_runs = non_inferiority(table)
    return (*_surplus(table), *_too_much(similarity, agreement, against_runs), *_exchange(table))


def _surplus(table: DecisionTable) -> Iterator[Difference]:
    found = call_surplus(table)
    if found is None:
        return
    test = surplus_test(table)
    size = percent(abs(found.value))
    for name, word, p in (("calls_more", "more", test.more), ("calls_less", "less", test.less)):
        yield Difference(name, found.value, min(1.0, 2 * p), f"calls {size} {word} than the official API")


def _too_much(
    similarity: Metric, agreement: SelfAgreement | None, runs: NonInferiority | None
) -> Iterator[Difference]:
    if runs is not None:
        value, own = runs.similarity, runs.self_agreement
        estimate = runs.difference.value
        p = p_above(estimate, runs.difference.interval, 0.0)
    elif agreement is not None and similarity.value is not None and similarity.interval is not None:
        value, own = similarity.value, agreement.mean
        estimate = value - own
        p = p_above(value, similarity.interval, own, agreement.error or 0.0)
    else:
        return
    yield Difference(
        "agrees_too_much",
        estimate,
        p,
        f"agrees with the official answers in {percent(value)} (F1), more than the official model with "
        f"itself ({percent(own)}): the temperature is probably not honoured, or answers are replayed",
    )


def _exchange(table: DecisionTable) -> Iterator[Difference]:
    found = exchange_test(table)
    if found is None:
        return
    sided = f"{percent(found.majority)} where an official answer does in {percent(found.expected)}"
    if found.decisiveness > _PLAIN_SCORE:
        means = f"it sides with the usual decision too often ({sided}), as at a lower temperature"
    elif found.decisiveness < -_PLAIN_SCORE:
        means = f"it sides with the usual decision too seldom ({sided}), as at a higher temperature"
    else:
        means = f"it calls too {'often' if found.direction > 0 else 'seldom'}"
    yield Difference(
        "decides_differently",
        found.majority - found.expected,
        found.p,
        f"decides otherwise than the official API, beyond chance: {means}; {found.cases:,} cases differ",
    )
