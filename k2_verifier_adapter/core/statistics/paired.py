"""Two runs over the same cases, held against each other case by case.

A case is one observation, however often it was asked: of its answers the shares count. What the two
runs do over all cases adds up to a small table, from which everything here is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import erfc, exp, lgamma, log, sqrt
from statistics import NormalDist
from typing import NamedTuple, TypeVar

from k2_verifier_adapter.core.statistics.intervals import CONFIDENCE

METHOD = "paired_delta_plus_two"

SIGNIFICANCE = 1 - CONFIDENCE
"""A difference whose p-value is below counts as one."""

_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_ADDED_CASES = 2.0
_NEGLIGIBLE = 1e-17


class Decisions(NamedTuple):
    """The official decision in one case, and the shares of two runs' answers that call."""

    should_call: bool
    first: float
    second: float


class Validity(NamedTuple):
    """In one case in which two runs call, the shares of their calling answers whose calls are all valid."""

    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of two runs over the same cases, and the difference of the two.

    Attributes:
        low: Lower bound of the 95 % interval of first − second, within [-1, 1].
        p_value: Two-sided; below 0.05 where the interval leaves out 0.
        method: Name of the method, as reports show it.
    """

    first: float
    second: float
    low: float
    high: float
    p_value: float
    n: int
    method: str = METHOD

    @property
    def value(self) -> float:
        """First − second."""
        return self.first - self.second


@dataclass(frozen=True, slots=True)
class WinsLosses:
    """In how many cases the first run does better, the second does, or both do equally well."""

    wins: int
    losses: int
    ties: int

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the exact sign test; of one answer a case it is McNemar's exact test."""
        return sign_test(self.wins, self.losses)


_Case = TypeVar("_Case", Decisions, Validity)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of one run, and how far each sort of case moves it."""

    value: float
    moves: Sequence[float]


def f1_difference(table: Mapping[Decisions, int]) -> Difference | None:
    """Compare the F1 of the decision to call of two runs.

    With the sums T of "both call" and U of "either calls" over all cases, F1 = 2 T / (T + U), and a case of
    shares t and u moves it by 2 (U t − T u) / (T + U)². The variance of the difference is n / (n − 1) times
    the sum of the squared differences between the moves of the two runs (delta method), to which two cases
    are added, half a case for each of the four ways in which two runs can differ in one: without them, runs
    that differ in a handful of cases would get too narrow an interval, and equal runs one of no width.
    docs/statistics.md shows how well it holds. None where the F1 of either run is undefined.
    """
    differing = [
        Decisions(should_call, float(calls), float(not calls))
        for should_call in (True, False)
        for calls in (True, False)
    ]
    return _difference(table, differing, _f1)


def validity_difference(table: Mapping[Validity, int]) -> Difference | None:
    """Compare the validity of the calls of two runs: the mean over cases of the share that is valid.

    The interval is made as that of `f1_difference`; a case moves the mean by (share − mean) / n, and one case
    is added for each of the two ways in which two runs can differ in one. None where there is no such case.
    """
    return _difference(table, [Validity(1.0, 0.0), Validity(0.0, 1.0)], _mean)


def _difference(
    table: Mapping[_Case, int],
    differing: Sequence[_Case],
    measure: Callable[[Sequence[_Case], Sequence[float], int], _Value | None],
) -> Difference | None:
    """Compare what is measured of the two runs.

    The measure gives the value of the first (-2) or second (-1) run from cases and their weights.
    """
    # The added cases widen the interval, but are not part of the values.
    cases = list(chain(table, differing))
    counts = [*map(float, table.values()), *[0.0] * len(differing)]
    first, second = measure(cases, counts, -2), measure(cases, counts, -1)
    if first is None or second is None:
        return None
    weights = [*table.values(), *[_ADDED_CASES / len(differing)] * len(differing)]
    squares = sum(
        weight * (one - other) ** 2
        for weight, one, other in zip(weights, first.moves, second.moves, strict=True)
    )
    n = sum(table.values())
    error = sqrt(squares * n / max(1, n - 1))
    value = first.value - second.value
    return Difference(
        first=first.value,
        second=second.value,
        low=max(-1.0, value - _Z * error),
        high=min(1.0, value + _Z * error),
        p_value=erfc(abs(value) / error / sqrt(2)),
        n=n,
    )


def _f1(cases: Sequence[Decisions], counts: Sequence[float], run: int) -> _Value | None:
    called = [(case[run], 1.0) if case.should_call else (0.0, case[run]) for case in cases]
    both = sum(count * t for count, (t, _) in zip(counts, called, strict=True))
    either = sum(count * u for count, (_, u) in zip(counts, called, strict=True))
    if not either:
        return None
    total = both + either
    return _Value(2 * both / total, [2 * (either * t - both * u) / (total * total) for t, u in called])


def _mean(cases: Sequence[Validity], counts: Sequence[float], run: int) -> _Value | None:
    n = sum(counts)
    if not n:
        return None
    mean = sum(count * case[run] for count, case in zip(counts, cases, strict=True)) / n
    return _Value(mean, [(case[run] - mean) / n for case in cases])


def wins_and_losses(scores: Iterable[tuple[float, float, int]]) -> WinsLosses:
    """Count in how many cases one run does better than the other.

    A score is how well the first and the second run do, and the number of cases that are so.
    """
    wins = losses = ties = 0
    for first, second, count in scores:
        wins += count * (first > second)
        losses += count * (first < second)
        ties += count * (first == second)
    return WinsLosses(wins, losses, ties)


def agreement_of(table: Mapping[Decisions, int]) -> WinsLosses:
    """Count in how many cases one run agrees better with the official decision than the other."""
    return wins_and_losses(
        (case.first, case.second, count) if case.should_call else (1 - case.first, 1 - case.second, count)
        for case, count in table.items()
    )


def sign_test(wins: int, losses: int) -> float:
    """Compute the two-sided p-value of `wins` against `losses`, were each as likely as the other.

    It is min(1, 2 P(X ≤ min(wins, losses))) with X binomial (wins + losses, 1/2), to some ten digits.
    """
    n, least = wins + losses, min(wins, losses)
    # From the largest term down: each is k / (n - k + 1) times the one before.
    term = exp(lgamma(n + 1) - lgamma(least + 1) - lgamma(n - least + 1) - n * log(2))
    largest, tail = term, term
    for k in range(least, 0, -1):
        term *= k / (n - k + 1)
        tail += term
        if term < _NEGLIGIBLE * largest:
            break
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down rule."""
    n = len(p_values)
    adjusted = [0.0] * n
    least = 0.0
    for rank, place in enumerate(sorted(range(n), key=p_values.__getitem__)):
        least = max(least, min(1.0, (n - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted
