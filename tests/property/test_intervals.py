"""Intervals hold their rate, stay in [0, 1], grow with the successes, and equal the known methods."""

from dataclasses import replace
from math import exp, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_verifier_adapter.core.statistics.intervals import clustered_f1, f1_interval, mean_interval, wilson

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


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_clustered_f1_without_clusters_is_the_plain_one(s: float, n: int) -> None:
    """Where clusters vary as single answers do, the interval is that of single answers."""
    interval = clustered_f1(s, s * (1 - s) / n, n, n)
    plain = f1_interval(s * n, n - s * n, 0)
    assert plain is not None
    assert interval.method == "f1_logit_clustered"
    assert (interval.low, interval.high) == pytest.approx((plain.low, plain.high), abs=1e-9)
    assert 0 <= interval.low <= 2 * s / (1 + s) + 1e-12
    assert 2 * s / (1 + s) - 1e-12 <= interval.high <= 1


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_f1_interval_grows_with_agreement(tp: int, fp: int, fn: int) -> None:
    """A false decision that becomes a true one moves neither bound down."""
    worse, better = f1_interval(tp, fp + 1, fn), f1_interval(tp + 1, fp, fn)
    assert worse is not None
    assert better is not None
    assert worse.low <= better.low + 1e-12
    assert worse.high <= better.high + 1e-12


@given(st.lists(st.floats(0, 1), max_size=30))
def test_mean_interval_holds_the_mean(shares: list[float]) -> None:
    """The mean of shares lies in its interval, up to rounding."""
    interval = mean_interval(sum(shares), sum(share**2 for share in shares), len(shares))
    if not shares:
        assert interval is None
        return
    assert interval is not None
    mean = sum(shares) / len(shares)
    assert 0 <= interval.low <= mean + 1e-12
    assert mean - 1e-12 <= interval.high <= 1


def test_mean_interval_by_hand() -> None:
    """Shares that vary as yes and no have Wilson's interval; others that of as many as vary alike."""
    # 50 of 100 yes: the unbiased variance is 25/99, so the mean varies as a rate of 99 does.
    expected = replace(wilson(49.5, 99.0), method="wilson_effective", n=pytest.approx(99.0))
    assert mean_interval(50.0, 50.0, 100) == expected
    # Between 0.4 and 0.6 the variance is 1/25 of that.
    narrow = mean_interval(50.0, 26.0, 100)
    assert narrow is not None
    assert narrow.high == pytest.approx(wilson(49.5 * 25, 99.0 * 25).high)


def test_equal_shares_still_have_an_interval() -> None:
    """That all shares seen agree fully does not make the next one sure."""
    assert mean_interval(20.0, 20.0, 20) == replace(wilson(20, 20), method="wilson_effective")
    assert mean_interval(0.7, 0.49, 1) == replace(wilson(0.7, 1.0), method="wilson_effective")
