"""Intervals hold their rate, stay in [0, 1], grow with the successes, and equal the known methods."""

from math import exp, log, sqrt
from statistics import NormalDist

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2_verifier_adapter.core.statistics.intervals import (
    Z,
    at_level,
    f1_interval,
    log_ratio_interval,
    p_above,
    skewness_corrected,
    wilson,
)

COUNTS = st.integers(0, 10**7)
PAIRS = st.tuples(COUNTS, COUNTS).map(sorted)


@given(PAIRS)
def test_wilson_holds_its_rate(pair: list[int]) -> None:
    """The rate lies in its interval, and the interval in [0, 1]."""
    successes, n = pair
    interval = wilson(successes, n)
    if n == 0:
        assert interval is None
    else:
        assert interval is not None
        assert 0 <= interval.low <= successes / n <= interval.high <= 1
        assert interval.low < interval.high


@given(PAIRS.filter(lambda pair: pair[0] < pair[1]))
def test_wilson_grows_with_the_successes(pair: list[int]) -> None:
    """One more success moves neither bound down."""
    successes, n = pair
    one, more = wilson(successes, n), wilson(successes + 1, n)
    assert one is not None
    assert more is not None
    assert one.low <= more.low
    assert one.high <= more.high


@given(st.tuples(st.integers(0, 3000), st.integers(1, 3000)).filter(lambda pair: pair[0] <= pair[1]))
def test_wilson_equals_scipys(pair: tuple[int, int]) -> None:
    """The bounds are those of scipy's Wilson interval without continuity correction."""
    stats = pytest.importorskip("scipy.stats")
    successes, n = pair
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    interval = wilson(successes, n)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    """More successes than trials, or fewer than none, is an error of ours."""
    with pytest.raises(ValueError, match="must lie between 0 and"):
        wilson(successes, n)


@given(COUNTS, COUNTS, COUNTS)
def test_f1_interval_contains_f1(tp: int, fp: int, fn: int) -> None:
    """F1 lies in its interval; where it is undefined, there is none."""
    interval = f1_interval(tp, fp, fn)
    if tp + fp + fn == 0:
        assert interval is None
    else:
        assert interval is not None
        f1 = 2 * tp / (2 * tp + fp + fn)
        assert 0 <= interval.low <= f1 + 1e-12
        assert f1 - 1e-12 <= interval.high <= 1


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_f1_interval_is_that_of_its_odds(tp: int, fp: int, fn: int) -> None:
    """The log odds of F1, 2 TP / (FP + FN), vary with 1 / TP + 1 / (FP + FN)."""
    errors = fp + fn
    interval = f1_interval(tp, fp, fn)
    assert interval is not None
    assert (interval.method, interval.n) == ("f1_logit", tp + errors)
    if errors:
        middle, half = log(2 * tp / errors), 1.959964 * sqrt(1 / tp + 1 / errors)
        bounds = (1 / (1 + exp(half - middle)), 1 / (1 + exp(-half - middle)))
        assert (interval.low, interval.high) == pytest.approx(bounds, abs=1e-7)


@given(st.integers(1, 2000))
def test_f1_interval_is_exact_at_its_ends(n: int) -> None:
    """Where every decision agrees, or none does, the bound is Clopper and Pearson's, mapped."""
    stats = pytest.importorskip("scipy.stats")
    for agreeing in (0, n):
        exact = stats.binomtest(agreeing, n).proportion_ci(0.95, method="exact")
        interval = f1_interval(agreeing, n - agreeing, 0)
        assert interval is not None
        bounds = [2 * s / (1 + s) for s in (exact.low, exact.high)]
        assert [interval.low, interval.high] == pytest.approx(bounds, abs=1e-9)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_f1_interval_grows_with_agreement(tp: int, fp: int, fn: int) -> None:
    """A false decision that becomes a true one moves neither bound down."""
    worse, better = f1_interval(tp, fp + 1, fn), f1_interval(tp + 1, fp, fn)
    assert worse is not None
    assert better is not None
    assert worse.low <= better.low + 1e-12
    assert worse.high <= better.high + 1e-12


LEVELS = st.floats(0.1, 12)


@given(st.integers(0, 500), st.integers(0, 500), LEVELS)
def test_a_higher_level_is_wider(hits: int, misses: int, z: float) -> None:
    """At the level it was made for an interval is itself; more standard errors hold fewer."""
    n = hits + misses
    for value, interval in (
        (hits / max(n, 1), wilson(hits, n)),
        (_f1(hits, misses), f1_interval(hits, misses, 0)),
    ):
        if interval is None:
            continue
        same, wide = at_level(value, interval, Z), at_level(value, interval, z + 0.5)
        narrow = at_level(value, interval, z)
        assert (same.low, same.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert wide.low <= narrow.low + 1e-12
        assert wide.high >= narrow.high - 1e-12
        assert narrow.low - 1e-9 <= value <= narrow.high + 1e-9


def _f1(hits: int, misses: int) -> float:
    return 2 * hits / (2 * hits + misses) if hits + misses else 0.0


@given(st.floats(-0.5, 0.5), st.floats(1e-4, 0.2), st.floats(-4, 4), st.integers(20, 5000), LEVELS)
def test_skewness_is_corrected_to_its_side(
    value: float, spread: float, skewness: float, n: int, z: float
) -> None:
    """Without skewness it is the normal interval; a long tail below moves both bounds down."""
    plain = at_level(value, skewness_corrected(value, spread, 0.0, n), z)
    assert (plain.low, plain.high) == pytest.approx((value - z * spread, value + z * spread))
    skewed = at_level(value, skewness_corrected(value, spread, skewness, n), z)
    assert skewed.low <= skewed.high
    if z > 1 and abs(skewness) > 1e-6:
        assert (skewed.low - plain.low) * skewness > 0
        assert (skewed.high - plain.high) * skewness > 0


@given(st.floats(0.001, 0.5), st.floats(0.01, 0.2), st.floats(-3, 3), st.integers(50, 5000))
def test_the_p_value_is_that_of_the_interval(value: float, spread: float, skewness: float, n: int) -> None:
    """The bound stands on the reference exactly where the p-value says so."""
    interval = skewness_corrected(value, spread, skewness, n)
    p = p_above(value, interval, 0.0)
    assume(1e-6 < p < 0.9)
    z = NormalDist().inv_cdf(1 - p / 2)
    assert at_level(value, interval, z).low == pytest.approx(0.0, abs=1e-6)


def test_p_above_by_hand() -> None:
    """0.8 of 100 hits and 50 misses against 0.73: the log odds differ by 0.392, each error as stated."""
    interval = f1_interval(100, 50, 0)
    assert interval is not None
    difference = log(4) - log(0.73 / 0.27)
    error = sqrt(1 / 100 + 1 / 50)
    expected = 2 * NormalDist().cdf(-difference / error)
    assert p_above(0.8, interval, 0.73) == pytest.approx(expected)
    own = 0.008 / (0.73 * 0.27)
    wider = 2 * NormalDist().cdf(-difference / sqrt(error**2 + own**2))
    assert p_above(0.8, interval, 0.73, 0.008) == pytest.approx(wider)
    assert p_above(0.8, interval, 0.81) == 1.0


def test_log_ratio_by_hand() -> None:
    """log(1.2) ± 1.96 · 0.1 is 0.986 to 1.460, less 1."""
    interval = log_ratio_interval(0.2, log(1.2), 0.1, 100)
    assert (interval.low, interval.high) == pytest.approx((-0.01358, 0.45983), abs=1e-5)
