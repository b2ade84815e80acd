"""Confidence intervals for rates and for F1."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided 95 % interval.

    Attributes:
        low: Lower bound, within [0, 1].
        high: Upper bound, within [0, 1].
        method: Name of the method, as reports show it.
    """

    low: float
    high: float
    method: str


def wilson(successes: float, n: float) -> Interval | None:
    """Compute Wilson's score interval of the rate `successes / n`.

    The numbers need not be whole: an effective sample size is not.

    Returns None for `n == 0`: the rate is undefined and so is its interval.

    Raises:
        ValueError: If not `0 <= successes <= n`.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes={successes!r} must lie between 0 and n={n!r}")
    if n == 0:
        return None
    rate = successes / n
    z2 = _Z * _Z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the exact bound is 0 or 1; rounding must not push it past the rate itself.
    low = 0.0 if successes == 0 else min(max(0.0, centre - half), rate)
    high = 1.0 if successes == n else max(min(1.0, centre + half), rate)
    return Interval(low, high, "wilson")


def f1_interval(true_positives: int, false_positives: int, false_negatives: int) -> Interval | None:
    """Compute an interval of F1 = 2 TP / (2 TP + FP + FN).

    F1 is the monotone image 2s / (1 + s) of s = TP / (TP + FP + FN), which is a plain proportion
    (the Jaccard index of the two decisions); Wilson's interval of s is mapped through it.

    Returns None where all three counts are zero, for F1 is undefined there.
    """
    base = wilson(true_positives, true_positives + false_positives + false_negatives)
    if base is None:
        return None
    return f1_of_jaccard(base, "wilson_on_jaccard")


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
    base = wilson(mean * effective, effective)
    assert base is not None, "the effective sample size is above 0"
    return Interval(base.low, base.high, method)


def clustered_wilson(value: float, variance: float, n: int, clusters: int) -> Interval:
    """Compute Wilson's interval of a rate whose responses come in clusters.

    The design effect, the variance between clusters over the binomial one, shrinks `n` to an
    effective sample size; it is never taken below 1. A rate of 0 or 1 shows no variance between
    clusters, and neither does a single cluster: then each cluster counts once.

    Args:
        value: The rate, in [0, 1].
        variance: Its variance between clusters.
        n: Its denominator, at least 1.
        clusters: Number of clusters, at least 1.
    """
    binomial = value * (1 - value) / n
    known = binomial > 0 and clusters > 1
    effective = n / max(1.0, variance / binomial) if known else float(clusters)
    base = wilson(value * effective, effective)
    assert base is not None, "the effective sample size is above 0"
    return Interval(base.low, base.high, "wilson_clustered")


def f1_of_jaccard(base: Interval, method: str) -> Interval:
    """Map an interval of s = TP / (TP + FP + FN) to one of F1 = 2s / (1 + s)."""
    return Interval(2 * base.low / (1 + base.low), 2 * base.high / (1 + base.high), method)
