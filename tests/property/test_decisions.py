"""Decisions against one official run and against several: exact tests, and intervals of what they differ by."""

from collections import Counter
from itertools import product
from math import comb, exp, log, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2_verifier_adapter.core.statistics.decisions import (
    CaseDecisions,
    call_surplus,
    exchange_test,
    non_inferiority,
    surplus_test,
)

COUNTS = st.integers(0, 400)


@st.composite
def cases(draw: st.DrawFn, most_runs: int = 4, most_answers: int = 3) -> CaseDecisions:
    """Draw what both sides decided in a case."""
    runs, answers = draw(st.integers(1, most_runs)), draw(st.integers(1, most_answers))
    return CaseDecisions(draw(st.integers(0, runs)), runs, draw(st.integers(0, answers)), answers)


TABLES = st.dictionaries(cases(), st.integers(1, 60), min_size=1, max_size=10)


def single(tp: int, fp: int, fn: int, tn: int = 0) -> Counter[CaseDecisions]:
    """Make the table of one official run and one answer a case."""
    return Counter(
        {
            CaseDecisions(1, 1, 1, 1): tp,
            CaseDecisions(0, 1, 1, 1): fp,
            CaseDecisions(1, 1, 0, 1): fn,
            CaseDecisions(0, 1, 0, 1): tn,
        }
    )


@given(st.integers(1, 400), COUNTS, COUNTS, COUNTS)
def test_the_surplus_is_that_of_the_confusion(tp: int, fp: int, fn: int, tn: int) -> None:
    """It is (FP − FN) / (TP + FN), and its logarithm varies as two paired proportions do."""
    found = call_surplus(single(tp, fp, fn, tn))
    assert found is not None
    assert found.value == pytest.approx((fp - fn) / (tp + fn))
    ours, theirs = tp + fp + 0.5, tp + fn + 0.5
    # Half a case more in FP and FN each.
    variance = (tp + fp + 0.5) / ours**2 - 2 * tp / (ours * theirs) + (tp + fn + 0.5) / theirs**2
    assert variance == pytest.approx((fp + fn + 1) / (ours * theirs))
    centre, half = log(ours / theirs), 1.959964 * sqrt(variance)
    bounds = (exp(centre - half) - 1, exp(centre + half) - 1)
    assert (found.interval.low, found.interval.high) == pytest.approx(bounds, rel=1e-6, abs=1e-6)


@given(TABLES)
def test_the_surplus_lies_in_its_interval(table: dict[CaseDecisions, int]) -> None:
    """Up to the half case that is added, the interval holds the value, whatever the runs and repeats."""
    found = call_surplus(table)
    official = sum(count * case.official_calls for case, count in table.items())
    assert (found is None) == (official == 0)
    if found is not None and found.value > -1:
        assert found.interval.low <= found.value + 1e-9
        assert -1 <= found.interval.low < found.interval.high


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_exact_test_is_the_binomial_one(fp: int, fn: int) -> None:
    """Of one official run and one answer a case it is scipy's binomial test of FP among FP + FN."""
    stats = pytest.importorskip("scipy.stats")
    found = surplus_test(single(5, fp, fn))
    if fp + fn:
        more = stats.binomtest(fp, fp + fn, alternative="greater").pvalue
        less = stats.binomtest(fp, fp + fn, alternative="less").pvalue
        assert (found.more, found.less) == pytest.approx((more, less), rel=1e-8, abs=1e-12)
    else:
        assert found == (1.0, 1.0)


@given(st.dictionaries(cases(3, 2), st.integers(1, 3), min_size=1, max_size=3))
def test_the_exact_test_counts_every_exchange(table: dict[CaseDecisions, int]) -> None:
    """It is the share of all ways to exchange answers within the cases that give as many calls or more."""
    listed = [case for case, count in table.items() for _ in range(count)]
    assume(len(listed) <= 6)
    calls = sum(case.calls for case in listed)
    more = less = total = 0
    ranges = [range(case.answers + 1) for case in listed]
    for drawn in product(*ranges):
        ways = 1
        for case, x in zip(listed, drawn, strict=True):
            of, answers = case.official_calls + case.calls, case.official_answers + case.answers
            rest = case.answers - x
            ways *= comb(of, x) * (comb(answers - of, rest) if rest <= answers - of else 0)
        total += ways
        more += ways * (sum(drawn) >= calls)
        less += ways * (sum(drawn) <= calls)
    found = surplus_test(table)
    assert (found.more, found.less) == pytest.approx((more / total, less / total))


@given(TABLES)
def test_the_table_is_all_that_counts(table: dict[CaseDecisions, int]) -> None:
    """p-values are probabilities, and the two tails overlap in what was seen."""
    found = surplus_test(table)
    assert 0 <= found.more <= 1 + 1e-12
    assert 0 <= found.less <= 1 + 1e-12
    assert found.more + found.less >= 1 - 1e-9


def by_hand() -> Counter[CaseDecisions]:
    """Make three official runs over ten cases, and the vendor's answers."""
    return Counter(
        {
            CaseDecisions(3, 3, 1, 1): 3,
            CaseDecisions(2, 3, 1, 1): 1,
            CaseDecisions(2, 3, 0, 1): 1,
            CaseDecisions(1, 3, 0, 1): 2,
            CaseDecisions(0, 3, 1, 1): 1,
            CaseDecisions(0, 3, 0, 1): 2,
        }
    )


def test_non_inferiority_by_hand() -> None:
    """Official calls 15 / 3 a run, pairs 11 / 3, vendor's calls 5, common 11 / 3."""
    found = non_inferiority(by_hand())
    assert found is not None
    assert found.self_agreement == pytest.approx((3 + 2 / 3) / 5)
    assert found.similarity == pytest.approx(2 * (3 + 2 / 3) / (5 + 5))
    assert found.difference.value == pytest.approx(0.0)
    assert found.cases == 10


@given(st.dictionaries(cases(4, 3), st.integers(1, 60), min_size=1, max_size=8))
def test_non_inferiority_against_the_jackknife(table: dict[CaseDecisions, int]) -> None:
    """Value and standard errors are those of leaving out every case once, up to the cases that are added."""
    several = {case: count for case, count in table.items() if case.official_answers > 1}
    found = non_inferiority(table)
    if found is None:
        assert not any(case.official_calls for case in several)
        return
    n = sum(several.values())
    assume(n > 60)
    assume(sum(count * case.official_calls for case, count in several.items()) > 40)
    values = [(leave_out(several, case), count) for case, count in several.items()]
    assume(None not in [value for value, _ in values])
    for error, moved in (
        (found.self_agreement_error, [(own, count) for (_, own), count in values]),
        (found.difference.interval.spread, [(ours - own, count) for (ours, own), count in values]),
    ):
        mean = sum(count * value for value, count in moved) / n
        jackknife = sqrt(sum(count * (value - mean) ** 2 for value, count in moved) * (n - 1) / n)
        assert error >= 0.95 * jackknife
        # Three half cases, each of which moves a value by 4 / calls at most.
        assert error**2 <= 1.1 * jackknife**2 + 1.5 * (4 / (found.cases * official_share(several))) ** 2


def official_share(table: dict[CaseDecisions, int]) -> float:
    """Give the share of official answers that call."""
    calls = sum(count * case.official_calls / case.official_answers for case, count in table.items())
    return calls / sum(table.values())


def leave_out(table: dict[CaseDecisions, int], left_out: CaseDecisions) -> tuple[float, float] | None:
    """Give similarity and self-agreement without one case of a kind, from the definitions."""
    vendor = official = both = pairs = 0.0
    for case, count in table.items():
        count -= case == left_out
        k, m, x = case.official_calls, case.official_answers, case.calls / case.answers
        vendor += count * x
        official += count * k / m
        both += count * x * k / m
        pairs += count * comb(k, 2) / comb(m, 2)
    return (2 * both / (vendor + official), pairs / official) if official else None


def test_exchange_by_hand() -> None:
    """Three answers a case: 30 cases of one call, the vendor's in 4; 20 of two, the vendor's in 18."""
    table = {
        CaseDecisions(0, 2, 1, 1): 4,
        CaseDecisions(1, 2, 0, 1): 26,
        CaseDecisions(1, 2, 1, 1): 18,
        CaseDecisions(2, 2, 0, 1): 2,
        CaseDecisions(2, 2, 1, 1): 500,
    }
    found = exchange_test(table)
    assert found is not None
    # Scores 4 − 10 and 18 − 40 / 3, weights ∓ log 2, a variance of 2 / 9 a case.
    first, second = 4 - 10, 18 - 40 / 3
    weight = log(2)
    sums = np.array([first + second, weight * (second - first)])
    variance = 2 / 9 * np.array([[50, weight * (20 - 30)], [weight * (20 - 30), weight**2 * 50]])
    form = sums @ np.linalg.inv(variance) @ sums
    assert found.p == pytest.approx((1 + form / 50) ** -25)
    assert found.cases == 50
    assert found.majority == pytest.approx((26 + 18) / 50)
    assert found.expected == pytest.approx(2 / 3)
    assert found.decisiveness == pytest.approx(sums[1] / sqrt(variance[1, 1]))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_one_official_run_shows_no_exchange(tp: int, fp: int, fn: int, tn: int) -> None:
    """With one official run every case that differs is a coin, and there is nothing to weigh."""
    assert exchange_test(single(tp, fp, fn, tn)) is None


@given(TABLES)
def test_swapping_calls_and_other_answers_changes_nothing(table: dict[CaseDecisions, int]) -> None:
    """The exchange test does not tell calls from other answers: a mirrored table has the same p-value."""
    mirrored = Counter()
    for case, count in table.items():
        k, m, x, n = case
        mirrored[CaseDecisions(m - k, m, n - x, n)] += count
    found, other = exchange_test(table), exchange_test(mirrored)
    assert (found is None) == (other is None)
    if found is not None and other is not None:
        assert 0 <= found.p <= 1
        assert found.p == pytest.approx(other.p, rel=1e-6, abs=1e-12)
        assert found.majority == pytest.approx(other.majority)
