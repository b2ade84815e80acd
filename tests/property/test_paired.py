"""Paired statistics: exact tests, Holm's rule, and an interval of the difference in F1 that holds its rate."""

from collections import Counter
from fractions import Fraction
from itertools import permutations
from math import comb, isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_verifier_adapter.core.statistics.paired import (
    Decisions,
    Validity,
    WinsLosses,
    agreement_of,
    f1_difference,
    holm,
    sign_test,
    validity_difference,
)

SHARES = st.sampled_from([0.0, 1 / 3, 0.5, 1.0])
TABLES = st.dictionaries(
    st.builds(Decisions, st.booleans(), SHARES, SHARES), st.integers(1, 400), max_size=12
)
VALIDITIES = st.dictionaries(st.builds(Validity, SHARES, SHARES), st.integers(1, 400), max_size=8)


def exact_p(wins: int, losses: int) -> Fraction:
    """Add up the probabilities of all outcomes at least as extreme, one by one."""
    n, extreme = wins + losses, abs(wins - losses)
    ways = sum(comb(n, k) for k in range(n + 1) if abs(n - 2 * k) >= extreme)
    return Fraction(ways, 2**n)


def swapped(table):
    """Exchange the two runs."""
    return {case._replace(first=case.second, second=case.first): count for case, count in table.items()}


@pytest.mark.parametrize("n", range(13))
def test_the_exact_test_counts_every_outcome(n: int) -> None:
    """For up to twelve cases that differ, the p-value is that of counting all outcomes."""
    for wins in range(n + 1):
        assert sign_test(wins, n - wins) == pytest.approx(float(exact_p(wins, n - wins)), rel=1e-12)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_exact_test_equals_whole_numbers(wins: int, losses: int) -> None:
    """McNemar's exact p-value is that of whole numbers: scipy's is 0 where its terms are too small for floats."""
    n = wins + losses
    ways = term = 1
    for k in range(1, min(wins, losses) + 1):
        term = term * (n - k + 1) // k
        ways += term
    expected = min(1.0, 2 * ways / 2**n)
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_exact_test_of_large_numbers(wins: int, losses: int) -> None:
    """Whatever the numbers, the p-value is one, and the same with the runs exchanged."""
    p_value = sign_test(wins, losses)
    assert 0 <= p_value <= 1
    assert sign_test(losses, wins) == p_value


def test_holm_by_hand() -> None:
    """The smallest of n is multiplied by n, the next by n - 1, and none falls below one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.5, 0.01]) == pytest.approx([0.8, 0.8, 0.03])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    """An adjusted p-value is at least the raw one, at most 1, and the order stays."""
    adjusted = holm(p_values)
    for raw, given_back in zip(p_values, adjusted, strict=True):
        assert raw <= given_back <= 1
    for one, other in permutations(range(len(p_values)), 2):
        if p_values[one] <= p_values[other]:
            assert adjusted[one] <= adjusted[other]


@given(TABLES)
def test_the_f1s_are_those_of_the_runs(table) -> None:
    """Both values are 2 TP / (2 TP + FP + FN), with shares of answers in place of whole ones."""
    difference = f1_difference(table)
    for run in (1, 2):
        tp = sum(count * case[run] for case, count in table.items() if case.should_call)
        fn = sum(count * (1 - case[run]) for case, count in table.items() if case.should_call)
        fp = sum(count * case[run] for case, count in table.items() if not case.should_call)
        if 2 * tp + fp + fn == 0:
            assert difference is None
        elif difference is not None:
            value = (difference.first, difference.second)[run - 1]
            assert isclose(value, 2 * tp / (2 * tp + fp + fn), abs_tol=1e-12)


@given(TABLES)
def test_exchanging_the_runs_turns_the_sign(table) -> None:
    """B against A is A against B with the sign turned: value, interval, wins and losses."""
    there, back = f1_difference(table), f1_difference(swapped(table))
    won, lost = agreement_of(table), agreement_of(swapped(table))
    assert (won.wins, won.losses, won.ties) == (lost.losses, lost.wins, lost.ties)
    if there is None or back is None:
        assert there is back
        return
    assert isclose(there.value, -back.value, abs_tol=1e-12)
    assert isclose(there.low, -back.high, abs_tol=1e-12)
    assert isclose(there.p_value, back.p_value, rel_tol=1e-6, abs_tol=1e-12)


@given(TABLES)
def test_the_interval_holds_the_difference(table) -> None:
    """The difference lies in its interval, which leaves out 0 where the p-value is below 0.05."""
    difference = f1_difference(table)
    if difference is not None:
        assert -1 <= difference.low <= difference.value <= difference.high <= 1
        assert difference.low < difference.high
        if abs(difference.p_value - 0.05) > 1e-9:
            assert (difference.p_value < 0.05) == (difference.low > 0 or difference.high < 0)


@given(VALIDITIES)
def test_validity_is_compared_as_means(table) -> None:
    """Both values are means over the cases in which both call; without any there is nothing to compare."""
    difference = validity_difference(table)
    n = sum(table.values())
    if not n:
        assert difference is None
        return
    assert difference.n == n
    for run, value in enumerate((difference.first, difference.second)):
        assert isclose(value, sum(count * case[run] for case, count in table.items()) / n, abs_tol=1e-12)
    assert -1 <= difference.low <= difference.value <= difference.high <= 1


@given(TABLES)
def test_equal_runs_tie(table) -> None:
    """A run against itself: no difference, no win, no loss, p 1, and still an interval of some width."""
    alike = Counter()
    for case, count in table.items():
        alike[case._replace(second=case.first)] += count
    agreement = agreement_of(alike)
    assert (agreement.wins, agreement.losses, agreement.p_value) == (0, 0, 1.0)
    difference = f1_difference(alike)
    if difference is not None:
        assert (difference.value, difference.p_value) == (0.0, 1.0)
        assert difference.low < 0 < difference.high


def test_agreement_by_hand() -> None:
    """Who agrees with the official decision where the other does not has won; repeats count by their share."""
    table = {
        Decisions(should_call=True, first=1.0, second=0.0): 5,
        Decisions(should_call=True, first=0.5, second=1.0): 2,
        Decisions(should_call=False, first=0.0, second=1.0): 3,
        Decisions(should_call=False, first=1.0, second=0.0): 4,
        Decisions(should_call=False, first=0.5, second=0.5): 7,
    }
    assert agreement_of(table) == WinsLosses(wins=8, losses=6, ties=7)


def cells(f1: tuple[float, float], base: float, together: float) -> dict[Decisions, float]:
    """Give the probability of each kind of case, for two runs that err alike more or less often.

    Args:
        f1: The true F1 of either run, which calls as often as the official API does.
        base: Share of the cases in which the official API calls.
        together: Correlation of the errors of the two runs.
    """
    probabilities = {}
    for should_call in (True, False):
        weight = base if should_call else 1 - base
        one, other = ((1 - value) * (1 if should_call else base / (1 - base)) for value in f1)
        both = one * other + together * (one * (1 - one) * other * (1 - other)) ** 0.5
        both = min(both, one, other)
        for wrong, share in (
            ((0, 0), 1 - one - other + both),
            ((1, 0), one - both),
            ((0, 1), other - both),
            ((1, 1), both),
        ):
            calls = [float(should_call != bool(item)) for item in wrong]
            probabilities[Decisions(should_call, *calls)] = weight * share
    return probabilities


def differences(f1: tuple[float, float], *, n: int = 2000, seeds: int = 1000, together: float = 0.0):
    """Compare two simulated vendors, once for each seed."""
    kinds = cells(f1, 0.5, together)
    rng = np.random.default_rng(20261122)
    drawn = rng.multinomial(n, list(kinds.values()), size=seeds)
    return [f1_difference(dict(zip(kinds, map(int, counts), strict=True))) for counts in drawn]


def test_a_real_difference_is_told() -> None:
    """At 2,000 cases an F1 of 0.95 is told from one of 0.92 in at least 90 % of 1,000 seeds."""
    found = differences((0.95, 0.92))
    assert sum(item.p_value < 0.05 and item.value > 0 for item in found) >= 900


@pytest.mark.parametrize("f1", [0.76, 0.84, 0.95])
@pytest.mark.parametrize("together", [0.0, 0.35])
def test_equal_vendors_are_rarely_called_different(f1: float, together: float) -> None:
    """At 2,000 cases two vendors of the same F1 are called different in at most 6 % of 1,000 seeds."""
    found = differences((f1, f1), together=together)
    assert sum(item.p_value < 0.05 for item in found) <= 60
