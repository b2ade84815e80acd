"""Confidence intervals for rates and for F1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2
_Z = NormalDist().inv_cdf(1 - _TAIL)
_MOST_LOG_ODDS = 700.0

F1_LOGIT = "f1_logit"
F1_LOGIT_CLUSTERED = "f1_logit_clustered"
_OF_F1 = frozenset({F1_LOGIT, F1_LOGIT_CLUSTERED})


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided 95 % interval.

    Attributes:
        low: Lower bound, within [0, 1].
        high: Upper bound, within [0, 1].
        method: Name of the method, as reports show it.
        n: Effective sample size: the independent answers, each yes or no, that it is worth.
    """

    low: float
    high: float
    method: str
    n: float


def wilson(successes: float, n: float) -> Interval | None:
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
    z2 = _Z * _Z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the exact bound is 0 or 1; rounding must not push it past the rate itself.
    low = 0.0 if successes == 0 else min(max(0.0, centre - half), rate)
    high = 1.0 if successes == n else max(min(1.0, centre + half), rate)
    return Interval(low, high, "wilson", n)


def f1_interval(true_positives: float, false_positives: float, false_negatives: float) -> Interval | None:
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
    if misses == 0:
        return Interval(_f1_of_jaccard(_TAIL ** (1 / n)), 1.0, F1_LOGIT, n)
    if hits == 0:
        return Interval(0.0, _f1_of_jaccard(1 - _TAIL ** (1 / n)), F1_LOGIT, n)
    log_odds, half = log(2 * hits / misses), _Z * sqrt(1 / hits + 1 / misses)
    return Interval(_inverse_logit(log_odds - half), _inverse_logit(log_odds + half), F1_LOGIT, n)


def mean_interval(total: float, total_of_squares: float, n: int) -> Interval | None:
    """Compute an interval of the mean of `n` shares in [0, 1].

    Args:
        total: Sum of the shares.
        total_of_squares: Sum of their squares.
        n: Number of shares.
    """
    if n == 0:
        return None
    mean = min(total / n, 1.0)
    variance = max(0.0, (total_of_squares - n * mean * mean) / (n - 1)) if n > 1 else 0.0
    return _interval_of_mean(mean, variance / n, n, "wilson_effective")


def clustered_mean(value: float, variance: float, clusters: int) -> Interval:
    """Compute an interval of a mean of shares whose responses come in clusters.

    Args:
        value: The mean, in [0, 1].
        variance: Its variance between clusters.
        clusters: Number of clusters, at least 1.
    """
    return _interval_of_mean(value, variance, clusters, "wilson_clustered")


def _interval_of_mean(mean: float, variance: float, independent: int, method: str) -> Interval:
    """Compute Wilson's interval at the sample size at which a rate would vary as this mean does.

    A normal interval would have no width at all where all shares are equal; here each independent
    share then counts as one yes or no.
    """
    binomial = mean * (1 - mean)
    effective = binomial / variance if variance > 0 and binomial > 0 else float(independent)
    return interval_at(mean, effective, method)


def clustered_wilson(value: float, variance: float, n: float, clusters: int) -> Interval:
    """Compute Wilson's interval of a rate whose responses come in clusters.

    Args:
        value: The rate, in [0, 1].
        variance: Its variance between clusters.
        n: Its denominator, above 0.
        clusters: Number of clusters, at least 1.
    """
    return interval_at(value, _effective_size(value, variance, n, clusters), "wilson_clustered")


def clustered_f1(jaccard: float, variance: float, n: float, clusters: int) -> Interval:
    """Compute an interval of F1 from responses that come in clusters.

    Args:
        jaccard: The proportion s = TP / (TP + FP + FN) behind F1.
        variance: Variance of s between clusters.
        n: Denominator of s, above 0.
        clusters: Number of clusters, at least 1.
    """
    effective = _effective_size(jaccard, variance, n, clusters)
    return interval_at(_f1_of_jaccard(jaccard), effective, F1_LOGIT_CLUSTERED)


def _effective_size(value: float, variance: float, n: float, clusters: int) -> float:
    """Shrink a denominator to the number of independent answers that it is worth.

    The design effect, the variance between clusters over the binomial one, is never taken below 1.
    A rate of 0 or 1 shows no variance between clusters, and neither does a single cluster: then
    each cluster counts once.
    """
    binomial = value * (1 - value) / n
    known = binomial > 0 and clusters > 1
    return n / max(1.0, variance / binomial) if known else float(clusters)


def interval_at(value: float, n: float, method: str) -> Interval:
    """Give the interval that a value has at an effective sample size.

    Args:
        value: The rate, or F1 where the method is one of F1.
        n: The effective sample size, above 0.
        method: A method of this module, by the name that reports show.
    """
    if method in _OF_F1:
        hits = n * _jaccard_of_f1(value)
        base = f1_interval(hits, n - hits, 0)
    else:
        base = wilson(value * n, n)
    assert base is not None, "the effective sample size is above 0"
    return replace(base, method=method)


def size_to_clear(value: float, threshold: float, method: str) -> float | None:
    """Compute the effective sample size from which an interval leaves a threshold to one side.

    At that size one bound reaches the threshold; the value is taken to stay what it is.

    Args:
        value: The rate, or F1 where the method is one of F1.
        threshold: What is to be told from it.
        method: A method of this module, by the name that reports show.

    Returns:
        None if the two are equal: no number of answers tells them apart.
    """
    if value == threshold:
        return None
    if method not in _OF_F1:
        return _Z * _Z * threshold * (1 - threshold) / (value - threshold) ** 2
    s, t = _jaccard_of_f1(value), _jaccard_of_f1(threshold)
    if s in (0.0, 1.0):
        return log(_TAIL) / log(t if s == 1 else 1 - t) if 0 < t < 1 else 0.0
    return (_Z / (_logit(s) - _logit(t))) ** 2 / (s * (1 - s))


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
