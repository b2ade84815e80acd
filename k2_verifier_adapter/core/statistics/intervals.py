"""Confidence intervals, each of which can be widened or narrowed to another level.

A fixed design has one level, a group-sequential one another at every look: so an interval keeps what it
was made of, and `at_level` makes it anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import copysign, exp, inf, log, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""Standard errors to either side of a 95 % interval."""

WILSON = "wilson"
F1_LOGIT = "f1_logit"
LOG_RATIO = "log_ratio"
SKEWNESS_CORRECTED = "skewness_corrected"
_MOST_LOG_ODDS = 700.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval, of 95 % where nothing else is said.

    Attributes:
        method: Name of the method, as reports show it; `…_clustered` and `…_effective` say only how `n`
            was found.
        n: Effective sample size: the independent answers, each yes or no, that it is worth.
        centre: What `log_ratio` and `skewness_corrected` spread around, on their own scale.
        spread: Their standard error.
        skewness: The third standardised moment of a case's influence, of `skewness_corrected`.
    """

    low: float
    high: float
    method: str
    n: float
    centre: float = 0.0
    spread: float = 0.0
    skewness: float = 0.0


def wilson(successes: float, n: float, z: float = Z) -> Interval | None:
    """Compute Wilson's score interval of the rate `successes / n`.

    The numbers need not be whole: an effective sample size is not.

    Returns None for `n == 0`: the rate is undefined and so is its interval.

    Raises:
        ValueError: If not `0 <= successes <= n`.
    """
    _check(successes, n)
    if n == 0:
        return None
    rate = successes / n
    z2 = z * z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the exact bound is 0 or 1; rounding must not push it past the rate itself.
    low = 0.0 if successes == 0 else min(max(0.0, centre - half), rate)
    high = 1.0 if successes == n else max(min(1.0, centre + half), rate)
    return Interval(low, high, WILSON, n)


def f1_interval(
    true_positives: float, false_positives: float, false_negatives: float, z: float = Z
) -> Interval | None:
    """Compute an interval of F1 = 2 TP / (2 TP + FP + FN).

    The odds of F1 are 2 TP / (FP + FN). Their logarithm varies as that of the odds of the plain
    proportion s = TP / (TP + FP + FN), with variance 1 / TP + 1 / (FP + FN). Where TP or FP + FN is
    0 the bound is exact (Clopper and Pearson's of s). The counts need not be whole.

    Of the intervals tried it holds its rate best, see docs/statistics.md.

    Returns None where all three counts are zero, for F1 is undefined there.

    Raises:
        ValueError: If a count is negative.
    """
    hits, misses = true_positives, false_positives + false_negatives
    n = hits + misses
    _check(hits, n)
    if n == 0:
        return None
    tail = NormalDist().cdf(-z)
    if misses == 0:
        return Interval(_f1_of_jaccard(tail ** (1 / n)), 1.0, F1_LOGIT, n)
    if hits == 0:
        return Interval(0.0, _f1_of_jaccard(1 - tail ** (1 / n)), F1_LOGIT, n)
    log_odds, half = log(2 * hits / misses), z * sqrt(1 / hits + 1 / misses)
    return Interval(_inverse_logit(log_odds - half), _inverse_logit(log_odds + half), F1_LOGIT, n)


def log_ratio_interval(value: float, centre: float, spread: float, n: float) -> Interval:
    """Compute an interval of a ratio less 1, symmetric on the scale of its logarithm, where it is centred."""
    return at_level(value, Interval(-1.0, inf, LOG_RATIO, n, centre, spread), Z)


def skewness_corrected(value: float, spread: float, skewness: float, n: float) -> Interval:
    """Compute an interval of a smooth function of means, corrected for skewness by Hall's transformation.

    Source: P. Hall, On the removal of skewness by transformation, JRSS B 54 (1992). `spread` is the value's
    standard error by the delta method, `skewness` the third standardised moment of the influence of a case.
    """
    return at_level(value, Interval(-inf, inf, SKEWNESS_CORRECTED, n, value, spread, skewness), Z)


def at_level(value: float, interval: Interval, z: float) -> Interval:
    """Make an interval anew, with so many standard errors to either side.

    `z` of 1.96 gives 95 %.
    """
    n, method = interval.n, interval.method
    if method == LOG_RATIO:
        half = z * interval.spread
        low, high = exp(interval.centre - half) - 1, exp(interval.centre + half) - 1
        return replace(interval, low=min(low, value), high=max(high, value))
    if method == SKEWNESS_CORRECTED:
        low, high = (interval.centre - interval.spread * _student_score(y, interval) for y in (z, -z))
        return replace(interval, low=low, high=high)
    if method.startswith(F1_LOGIT):
        hits = n * _jaccard_of_f1(value)
        base = f1_interval(hits, n - hits, 0, z)
    else:
        base = wilson(value * n, n, z)
    assert base is not None, "the effective sample size is above 0"
    return replace(base, method=method)


def p_above(value: float, interval: Interval, reference: float, reference_error: float = 0.0) -> float:
    """Give the two-sided p-value of a value that lies above a reference; 1 where it does not.

    The reference's error is its standard error; it is taken of F1 only.
    """
    if value <= reference:
        return 1.0
    if interval.method == SKEWNESS_CORRECTED:
        score = _normal_score((interval.centre - reference) / interval.spread, interval)
    else:
        s = _jaccard_of_f1(value)
        # All answers agree: half an answer is taken for one that does not.
        misses = max(interval.n * (1 - s), 0.5)
        error = reference_error / (reference * (1 - reference))
        odds = 2 * (interval.n - misses) / misses
        score = (log(odds) - _logit(reference)) / sqrt(1 / (interval.n - misses) + 1 / misses + error**2)
    return min(1.0, 2 * NormalDist().cdf(-score))


def _normal_score(student: float, interval: Interval) -> float:
    """Give the normal score of a Student's ratio whose cases are skewed (Hall's cubic)."""
    g, root = interval.skewness, sqrt(interval.n)
    return student + g * student**2 / (3 * root) + g * g * student**3 / (27 * interval.n) + g / (6 * root)


def _student_score(normal: float, interval: Interval) -> float:
    """Invert `_normal_score`."""
    g, root = interval.skewness, sqrt(interval.n)
    if abs(g) < 1e-9:
        return normal
    cube = 1 + g * (normal / root - g / (6 * interval.n))
    return 3 * root / g * (copysign(abs(cube) ** (1 / 3), cube) - 1)


def interval_at(value: float, n: float, method: str) -> Interval:
    """Give the interval that a value has at an effective sample size, by a method of this module."""
    return at_level(value, Interval(0.0, 1.0, method, n), Z)


def _check(successes: float, n: float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"successes={successes!r} must lie between 0 and n={n!r}")


def _f1_of_jaccard(s: float) -> float:
    return 2 * s / (1 + s)


def _jaccard_of_f1(f1: float) -> float:
    return f1 / (2 - f1)


def _logit(share: float) -> float:
    if share in (0.0, 1.0):
        return inf if share else -inf
    return log(share / (1 - share))


def _inverse_logit(log_odds: float) -> float:
    # Below, `exp` would overflow; the share is 0 for any purpose.
    return 1 / (1 + exp(-log_odds)) if log_odds > -_MOST_LOG_ODDS else 0.0
