"""The decision to call, vendor against official API, with one official run or with several.

All is computed from a table: the cases by what both sides decided in them. A case is one observation,
however often either side was asked. Under faithfulness the answers of both sides to a case are
exchangeable **whatever the case's probability of a call**: of the T calls among its N answers each answer
is as likely to be one as any other, so the vendor's are hypergeometric given T. The tests here rest on
nothing else, so that they need no model of the cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import comb, log, sqrt
from typing import Any, NamedTuple

from k2_verifier_adapter.core.statistics.intervals import (
    Interval,
    log_ratio_interval,
    skewness_corrected,
)


class CaseDecisions(NamedTuple):
    """What both sides decided in a case.

    Attributes:
        official_calls: Answers of the official API that call.
        official_answers: Its answers: the official runs that hold the case.
        calls: Answers of the vendor that call.
        answers: Its answers.
    """

    official_calls: int
    official_answers: int
    calls: int
    answers: int


DecisionTable = Mapping[CaseDecisions, int]
"""Cases by what was decided in them; each has an answer of either side."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval."""

    value: float
    interval: Interval


def call_surplus(table: DecisionTable) -> Estimate | None:
    """Compute the vendor's calls beyond the official ones, relative to these.

    With one official run it is (FP − FN) / (TP + FN); with several, the mean of their calls stands in the
    denominator. On the scale of log(1 + surplus) it varies as that of two paired proportions does, with
    variance (FP + FN) / ((TP + FP) (TP + FN)) where each case has one answer of either side. Half a case is
    added to FP and FN each, for vendors that hardly differ. None where the official API never calls.
    """
    ours = theirs = squares = products = official_squares = 0.0
    cases = answers = 0
    for case, count in table.items():
        x, y = case.calls, case.answers * case.official_calls / case.official_answers
        ours += count * x
        theirs += count * y
        squares += count * x * x
        products += count * x * y
        official_squares += count * y * y
        cases += count
        answers += count * case.answers
    if not theirs:
        return None
    added = answers / cases / 2
    centre = log((ours + added) / (theirs + added))
    ours_all, theirs_all = ours + added, theirs + added
    squares += 2 * added * added
    official_squares += 2 * added * added
    variance = (
        squares / ours_all**2 - 2 * products / (ours_all * theirs_all) + official_squares / theirs_all**2
    )
    value = (ours - theirs) / theirs
    return Estimate(value, log_ratio_interval(value, centre, sqrt(variance), cases))


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The vendor's similarity beside that of the official runs to each other.

    Attributes:
        difference: Vendor's F1, on average over the official runs, less self-agreement.
        self_agreement: F1 of two official runs, on average over their pairs.
        similarity: The vendor's F1, on average over the official runs.
        cases: Cases with two official answers or more.
    """

    difference: Estimate
    self_agreement: float
    self_agreement_error: float
    similarity: float
    cases: int


def non_inferiority(table: DecisionTable) -> NonInferiority | None:
    """Hold the vendor against several official runs, as they are held against each other.

    F1 is taken of the sums over all runs, and over all pairs of runs: of a case with k calls in m official
    runs and a share x of the vendor's, 2 Σ x k / m over Σ (x + k / m), and Σ k (k − 1) / (m (m − 1)) over Σ k
    / m. The variance is that of the cases' influences (delta method), to which half a case is added of each
    kind in which the official runs are of one mind and the vendor differs or calls with them; the interval is
    corrected for the influences' skewness. None where no case has two official answers, or none of these
    calls.
    """
    several = {case: count for case, count in table.items() if case.official_answers > 1}
    cases = sum(several.values())
    vendor = official = both = twice = 0.0
    for case, count in several.items():
        x, y, pair = _shares(case)
        vendor += count * x
        official += count * y
        both += count * x * y
        twice += count * pair
    if not official:
        return None
    similarity, agreement = 2 * both / (vendor + official), twice / official
    most = max(case.official_answers for case in several)
    extremes = [CaseDecisions(*kind, 1) for kind in ((most, most, 0), (0, most, 1), (most, most, 1))]
    squares = cubes = own_squares = 0.0
    for case, weight in (*several.items(), *((case, 0.5) for case in extremes)):
        x, y, pair = _shares(case)
        own = (pair - agreement * y) / official
        influence = (2 * x * y - similarity * (x + y)) / (vendor + official) - own
        squares += weight * influence**2
        cubes += weight * influence**3
        own_squares += weight * own**2
    correction = cases / max(1, cases - 1)
    spread, skewness = sqrt(squares * correction), sqrt(cases) * cubes / squares**1.5
    value = similarity - agreement
    return NonInferiority(
        Estimate(value, skewness_corrected(value, spread, skewness, cases)),
        agreement,
        sqrt(own_squares * correction),
        similarity,
        cases,
    )


def _shares(case: CaseDecisions) -> tuple[float, float, float]:
    """Give the share of calls of the vendor, of the official API, and of its pairs in which both call."""
    k, m = case.official_calls, case.official_answers
    return case.calls / case.answers, k / m, k * (k - 1) / (m * (m - 1)) if m > 1 else 0.0


class Surplus(NamedTuple):
    """Exact one-sided p-values of the number of the vendor's calls.

    Attributes:
        more: Probability that a faithful vendor makes as many calls or more.
        less: Probability that it makes as many or fewer.
    """

    more: float
    less: float


def surplus_test(table: DecisionTable) -> Surplus:
    """Test whether the vendor calls as often as the official API, exactly.

    Given the calls of each case, the vendor's are the sum of hypergeometric numbers. Where every case has
    one answer of either side, that is FP ~ binomial(FP + FN, ½).
    """
    groups: Counter[tuple[int, int, int]] = Counter()
    calls = 0
    for case, count in table.items():
        total, answers = case.official_calls + case.calls, case.official_answers + case.answers
        if 0 < total < answers:
            groups[total, answers, case.answers] += count
            calls += count * case.calls
    if not groups:
        return Surplus(1.0, 1.0)
    if set(groups) == {(1, 2, 1)}:
        n = groups[1, 2, 1]
        ways = list(accumulate(range(n), lambda way, k: way * (n - k) // (k + 1), initial=1))
        return Surplus(sum(ways[calls:]) / 2**n, sum(ways[: calls + 1]) / 2**n)
    import numpy as np

    distribution = np.ones(1)
    for (total, answers, ours), count in groups.items():
        if answers > _MANY_ANSWERS:
            least, single = _likely(total, answers, ours)
            calls -= count * least
        else:
            single = _hypergeometric(total, answers, ours)
        distribution = np.convolve(distribution, _many(single, count))
        likely = np.flatnonzero(distribution > _NEGLIGIBLE)
        calls -= int(likely[0])
        distribution = distribution[likely[0] : likely[-1] + 1]
    more, less = distribution[max(calls, 0) :], distribution[: max(calls + 1, 0)]
    return Surplus(float(more.sum()), float(less.sum()))


_MANY_ANSWERS = 500
"""Answers to one case beyond which whole numbers get too large: only sums over cases have so many."""

_NEGLIGIBLE = 1e-100
"""A number of calls less likely than this is left out of a sum."""


def _hypergeometric(total: int, answers: int, ours: int) -> list[float]:
    """Give the probability of each number of calls among `ours` of `answers`, `total` of which call."""
    ways = comb(answers, ours)
    return [comb(total, x) * comb(answers - total, ours - x) / ways for x in range(ours + 1)]


def _likely(total: int, answers: int, ours: int) -> tuple[int, Any]:
    """Give the same from the least number that is likely at all, and that number."""
    import numpy as np

    least = max(0, total + ours - answers)
    x = np.arange(least, min(total, ours), dtype=float)
    steps = np.log((total - x) * (ours - x) / ((x + 1) * (answers - total - ours + x + 1)))
    logs = np.concatenate(([0.0], steps.cumsum()))
    shares = np.exp(logs - logs.max())
    kept = np.flatnonzero(shares > _NEGLIGIBLE)
    return least + int(kept[0]), shares[kept[0] : kept[-1] + 1] / shares.sum()


def _many(single: Any, count: int) -> Any:
    """Give the distribution of the sum of so many independent numbers, by repeated squaring."""
    import numpy as np

    result, power = np.ones(1), np.array(single)
    while count:
        if count & 1:
            result = np.convolve(result, power)
        count >>= 1
        if count:
            power = np.convolve(power, power)
    return result


@dataclass(frozen=True, slots=True)
class Exchange:
    """A test of whether the vendor's answers could be exchanged with the official ones.

    Attributes:
        direction: Standard score of the number of calls: above 0 the vendor calls more.
        decisiveness: Standard score of siding with the majority of a case's answers: above 0 the vendor
            does so more often than an official answer does.
        majority: Share of the cases with a majority and a minority in which the vendor sided with it.
        expected: The share expected of an official answer.
        cases: Cases whose answers differ.
    """

    p: float
    direction: float
    decisiveness: float
    majority: float
    expected: float
    cases: int


def exchange_test(table: DecisionTable) -> Exchange | None:
    """Test exchangeability case by case; it needs several official runs.

    Given T calls among the N answers of a case, a vendor's answer is a call with probability T / N. The
    scores x − T / N, weighted with 1 and with logit(T / N), are two sums of independent numbers; their joint
    quadratic form is held against F with 2 and as many degrees of freedom as cases whose answers differ,
    which for few is a little cautious. With one official run T / N is ½ and the second weight 0. None where
    all weights are alike.
    """
    sums = [0.0, 0.0]
    a = b = c = 0.0
    sided = expected = decided = 0.0
    cases = 0
    for case, count in table.items():
        total, answers = case.official_calls + case.calls, case.official_answers + case.answers
        if not 0 < total < answers:
            continue
        share = total / answers
        weight, score = log(share / (1 - share)), case.calls - case.answers * share
        variance = case.answers * share * (1 - share) * case.official_answers / (answers - 1)
        sums[0] += count * score
        sums[1] += count * weight * score
        a += count * variance
        b += count * weight * variance
        c += count * weight * weight * variance
        cases += count
        if weight:
            calls = case.calls if weight > 0 else case.answers - case.calls
            sided += count * calls / case.answers
            expected += count * max(share, 1 - share)
            decided += count
    determinant = a * c - b * b
    if determinant <= 1e-9 * a * c:
        return None
    form = (sums[0] ** 2 * c - 2 * sums[0] * sums[1] * b + sums[1] ** 2 * a) / determinant
    return Exchange(
        p=(1 + form / cases) ** (-cases / 2),
        direction=sums[0] / sqrt(a),
        decisiveness=sums[1] / sqrt(c),
        majority=sided / decided,
        expected=expected / decided,
        cases=cases,
    )
