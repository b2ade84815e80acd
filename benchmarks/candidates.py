"""Intervals to choose from, over many draws at once: each takes arrays and gives bounds of F1.

F1 = 2s / (1 + s) is a monotone image of the proportion s = TP / (TP + FP + FN), so most of them are
intervals of s, mapped. `hits` are the TP, `n` the TP + FP + FN of each draw, all at least 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Bounds = tuple[Array, Array]

TAIL = 0.025
Z = float(stats.norm.ppf(1 - TAIL))
CHI2 = Z * Z
BOOTSTRAP_RESAMPLES = 500
_HALVINGS = 45

CHOSEN = "logit of F1, exact ends"
NEXT_BEST = "Wilson on s"


def f1_of(s: Array | float) -> Array:
    return np.asarray(2 * s / (1 + s))


def logit(x: Array) -> Array:
    return np.asarray(np.log(x / (1 - x)))


def expit(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def wilson_rate(rate: Array, n: Array) -> Bounds:
    centre = (rate + CHI2 / (2 * n)) / (1 + CHI2 / n)
    half = Z * np.sqrt(rate * (1 - rate) / n + CHI2 / (4 * n * n)) / (1 + CHI2 / n)
    return np.where(rate == 0, 0.0, centre - half), np.where(rate == 1, 1.0, centre + half)


def _mapped(bounds: Bounds) -> Bounds:
    return f1_of(np.clip(bounds[0], 0, 1)), f1_of(np.clip(bounds[1], 0, 1))


def wilson_on_s(hits: Array, n: Array) -> Bounds:
    return _mapped(wilson_rate(hits / n, n))


def wilson_on_f1(hits: Array, n: Array) -> Bounds:
    """Take F1 for a rate over its denominator 2 TP + FP + FN."""
    return wilson_rate(2 * hits / (hits + n), hits + n)


def wilson_effective(hits: Array, n: Array) -> Bounds:
    """Take F1 for a rate over as many answers as it varies like, n (1 + s)² / 2."""
    s = hits / n
    return wilson_rate(f1_of(s), n * (1 + s) ** 2 / 2)


def agresti_coull(hits: Array, n: Array) -> Bounds:
    total = n + CHI2
    rate = (hits + CHI2 / 2) / total
    half = Z * np.sqrt(rate * (1 - rate) / total)
    return _mapped((rate - half, rate + half))


def jeffreys(hits: Array, n: Array) -> Bounds:
    misses = n - hits
    low = np.where(hits == 0, 0.0, stats.beta.ppf(TAIL, hits + 0.5, misses + 0.5))
    return _mapped((low, np.where(misses == 0, 1.0, stats.beta.ppf(1 - TAIL, hits + 0.5, misses + 0.5))))


def clopper_pearson(hits: Array, n: Array) -> Bounds:
    misses = n - hits
    low = np.where(hits == 0, 0.0, stats.beta.ppf(TAIL, hits, misses + 1))
    return _mapped((low, np.where(misses == 0, 1.0, stats.beta.ppf(1 - TAIL, hits + 1, misses))))


def wald(hits: Array, n: Array) -> Bounds:
    """The plain delta method: F1 ± 1.96 standard errors."""
    s = hits / n
    half = Z * 2 / (1 + s) ** 2 * np.sqrt(s * (1 - s) / n)
    return f1_of(s) - half, f1_of(s) + half


def logit_exact(hits: Array, n: Array) -> Bounds:
    """The delta method on the log odds, where F1's are those of s times 2; exact at the ends."""
    misses = n - hits
    inner = (hits > 0) & (misses > 0)
    x, y = np.where(inner, hits, 1.0), np.where(inner, misses, 1.0)
    middle, half = np.log(2 * x / y), Z * np.sqrt(1 / x + 1 / y)
    low = np.where(inner, expit(middle - half), f1_of(TAIL ** (1 / n)))
    high = np.where(inner, expit(middle + half), f1_of(1 - TAIL ** (1 / n)))
    return np.where(hits == 0, 0.0, low), np.where(misses == 0, 1.0, high)


def logit_gart(hits: Array, n: Array) -> Bounds:
    """The same with half a count added to each side, which needs no ends."""
    x, y = hits + 0.5, n - hits + 0.5
    middle, half = np.log(2 * x / y), Z * np.sqrt(1 / x + 1 / y)
    return np.where(hits == 0, 0.0, expit(middle - half)), np.where(hits == n, 1.0, expit(middle + half))


def likelihood_ratio(hits: Array, n: Array) -> Bounds:
    """Profile likelihood: given TP + FP + FN, the multinomial's is the binomial's of s."""
    rate, misses = hits / n, n - hits

    def deviance(s: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            one = np.where(hits > 0, hits * np.log(rate / s), 0.0)
            other = np.where(misses > 0, misses * np.log((1 - rate) / (1 - s)), 0.0)
        return np.asarray(2 * (one + other))

    bounds = []
    for end in (0.0, 1.0):
        inside, outside = rate.copy(), np.full_like(rate, end)
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            fits = deviance(middle) <= CHI2
            inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
        bounds.append(np.where(rate == end, end, inside))
    return _mapped((bounds[0], bounds[1]))


CLOSED: Mapping[str, Callable[[Array, Array], Bounds]] = {
    NEXT_BEST: wilson_on_s,
    CHOSEN: logit_exact,
    "logit, half added": logit_gart,
    "Wilson on F1, n = 2 TP + FP + FN": wilson_on_f1,
    "Wilson on F1, effective n": wilson_effective,
    "Agresti-Coull on s": agresti_coull,
    "Jeffreys on s": jeffreys,
    "Clopper-Pearson on s": clopper_pearson,
    "profile likelihood": likelihood_ratio,
    "delta method on F1": wald,
}
"""The candidates that need no more than TP and TP + FP + FN."""

BOOTSTRAP = "bootstrap, percentile"


def bootstrap(hits: Array, n: Array, cases: int, rng: np.random.Generator) -> Bounds:
    """Draw the cases again, with replacement: a multinomial over their kinds, then percentiles."""
    shape = (BOOTSTRAP_RESAMPLES, len(hits))
    union = rng.binomial(cases, n / cases, size=shape)
    both = rng.binomial(union, hits / n)
    with np.errstate(invalid="ignore"):
        # A resample in which nobody calls has no F1; it counts as a 0, as upstream's tool has it.
        values = np.where(union > 0, 2 * both / np.maximum(both + union, 1), 0.0)
    low, high = np.quantile(values, [TAIL, 1 - TAIL], axis=0)
    return low, high
