"""Simulated vendors for the calibration study: counts of many runs at once.

A vendor of a given F1 calls as often as the official API does, so precision and recall are equal to F1.
How errors are split between FP and FN changes nothing: given TP + FP + FN, TP alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from candidates import Array

DRAWN = "drawn"
"""Cases drawn from many: how many of them the official API calls in is left to chance."""

FIXED = "fixed"
"""The official decisions are given, as in the full set and in a stratified subset."""

KINDS = tuple((should_call, one, other) for should_call in (1, 0) for one in (0, 1) for other in (0, 1))
"""The kinds of cases of a pair of runs: the official decision, and whether either run is wrong."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor and how it is asked.

    Attributes:
        cases: Cases of a run.
        base: Share of the cases in which the official API calls.
        f1: The vendor's true F1.
    """

    cases: int
    base: float
    f1: float


@dataclass(frozen=True, slots=True)
class Counts:
    """TP and TP + FP + FN of many runs, without those in which nobody calls.

    Attributes:
        hits: TP.
        n: TP + FP + FN.
        truth: The F1 that an interval is to hold.
        undefined: Share of the runs that were left out.
    """

    hits: Array
    n: Array
    truth: float
    undefined: float


def draw(rng: np.random.Generator, vendor: Vendor, design: str, size: int) -> Counts:
    """Draw runs of a vendor; `design` is `DRAWN` or `FIXED`."""
    cases, base, f1 = vendor.cases, vendor.base, vendor.f1
    s = f1 / (2 - f1)
    if design == DRAWN:
        n = rng.binomial(cases, base * (2 - f1), size)
        hits = rng.binomial(n, s)
    else:
        called = round(base * cases)
        extra = base * (1 - f1) / (1 - base)
        hits = rng.binomial(called, f1, size)
        n = called + rng.binomial(cases - called, extra, size)
        s = called * f1 / (called + (cases - called) * extra)
    defined = n > 0
    return Counts(
        hits[defined].astype(float), n[defined].astype(float), 2 * s / (1 + s), float(1 - defined.mean())
    )


def pair_probabilities(base: float, first: float, second: float, together: float) -> Array:
    """Give the probability of each of `KINDS`.

    Args:
        base: Share of the cases in which the official API calls.
        first: The true F1 of the first run.
        second: That of the second.
        together: Correlation of their errors, given the official decision.
    """
    found = []
    for share, scale in ((base, 1.0), (1 - base, base / (1 - base))):
        one, other = (1 - first) * scale, (1 - second) * scale
        both = one * other + together * np.sqrt(one * (1 - one) * other * (1 - other))
        both = min(both, one, other)
        found += [
            share * (1 - one - other + both),
            share * (other - both),
            share * (one - both),
            share * both,
        ]
    return np.array(found)


def repeated_answers(
    rng: np.random.Generator, vendor: Vendor, repeats: int, size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Draw runs that ask each case several times, of a vendor that is as unsure as the official API.

    In some cases both toss a coin, in all others both are sure and agree: the share of unsure cases
    follows from F1, and the vendor agrees with the official API as that agrees with itself.

    Returns:
        For each run and case, the number of answers that call, and the official decision.
    """
    # With sure calls a and unsure cases w, base = a + w / 2 and F1 = 1 - w / (4 base).
    shape = size, vendor.cases
    unsure = 4 * vendor.base * (1 - vendor.f1)
    kind = rng.random(shape)
    is_unsure = kind < unsure
    sure_call = kind >= unsure + (1 - vendor.base - unsure / 2)
    should_call = np.where(is_unsure, rng.random(shape) < 0.5, sure_call)
    calls = np.where(is_unsure, rng.binomial(repeats, 0.5, shape), repeats * sure_call)
    return calls.astype(np.int64), should_call.astype(np.bool_)


@dataclass(frozen=True, slots=True)
class Draws:
    """The chance of one part of the study.

    Attributes:
        rng: The chance.
        repetitions: Simulated runs of each cell.
    """

    rng: np.random.Generator
    repetitions: int
