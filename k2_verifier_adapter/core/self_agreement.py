"""The official model against itself: how often its decisions agree, and the threshold that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, exp, lgamma, sqrt
from statistics import fmean

from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions, non_inferiority

MARGIN = 0.03
"""How far below its self-agreement a vendor of the official model may lie: as far as upstream's thresholds
lie below the lowest agreement of the official model with itself."""

_MANY = 10**9
_DRAWS = 2_000
_EDGE = 1e-3


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two official runs against each other.

    Attributes:
        f1: F1 of the decision to call over them, which does not depend on the order of the two; None
            where neither calls in any of them.
    """

    first: int
    second: int
    cases: int
    f1: float | None


def pairwise_agreement(runs: Sequence[Mapping[int, bool]]) -> list[PairAgreement]:
    """Compare every two runs, each given as its decisions to call by `data_index`."""
    pairs = []
    for (first, ours), (second, theirs) in combinations(enumerate(runs, start=1), 2):
        common = ours.keys() & theirs.keys()
        both = sum(ours[index] and theirs[index] for index in common)
        either = sum(ours[index] or theirs[index] for index in common)
        # 2 TP / (2 TP + FP + FN), the denominator being TP + (TP + FP + FN).
        f1 = 2 * both / (both + either) if either else None
        pairs.append(PairAgreement(first, second, len(common), f1))
    return pairs


def self_agreement(runs: Sequence[Mapping[int, bool]]) -> SelfAgreement | None:
    """Give lowest and mean F1, to four decimals as upstream publishes them, and the mean's standard error.

    None if there is no pair, or a pair has no F1.
    """
    values = [pair.f1 for pair in pairwise_agreement(runs)]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    found = non_inferiority(official_decisions(runs))
    error = None if found is None else round(found.self_agreement_error, 4)
    return SelfAgreement(round(min(known), 4), round(fmean(known), 4), error)


def official_decisions(runs: Sequence[Mapping[int, bool]]) -> Counter[CaseDecisions]:
    """Put official runs into a table of decisions, the first of them in a vendor's place."""
    table: Counter[CaseDecisions] = Counter()
    for index in set().union(*runs):
        calls = [run[index] for run in runs if index in run]
        table[CaseDecisions(sum(calls), len(calls), int(calls[0]), 1)] += 1
    return table


def threshold_for(mean: float) -> float:
    """Choose the threshold of an own baseline: the mean self-agreement less `MARGIN`.

    Not the lowest pair, which falls with every further run.
    """
    return max(0.0, round(mean - MARGIN, 4))


def chance_to_pass(base: float, agreement: float, runs: int, cases: int) -> float:
    """Compute how often a faithful vendor passes `non_inferiority` against so many official runs.

    `base` is the share of the official answers that call, `agreement` the F1 of two of 2 or more official
    runs.
    """
    import numpy as np

    kinds = _faithful(base, agreement, runs)
    shares = np.array([*kinds.values()])
    passed = 0
    for counts in np.random.default_rng(0).multinomial(cases, shares / shares.sum(), size=_DRAWS):
        found = non_inferiority(dict(zip(kinds, map(int, counts), strict=True)))
        passed += found is not None and found.difference.interval.low >= -MARGIN
    return passed / _DRAWS


def spread_of_faithful(base: float, agreement: float, runs: int) -> float:
    """Compute the standard deviation of one case's part in a faithful vendor's `non_inferiority`.

    Each case has a probability of its own that an answer calls: a Beta distribution over the cases that fits
    the share of calls and the self-agreement. `base` and `agreement` are those of `chance_to_pass`.
    """
    kinds = _faithful(base, agreement, runs)
    found = non_inferiority({case: round(_MANY * share) for case, share in kinds.items()})
    assert found is not None, "some official answers call"
    return found.difference.interval.spread * sqrt(found.cases)


def _faithful(base: float, agreement: float, runs: int) -> dict[CaseDecisions, float]:
    """Give the probability of every kind of case of a faithful vendor's run."""
    return {
        CaseDecisions(calls, runs, vendor, 1): _beta_binomial(calls, vendor, runs, base, agreement)
        for calls in range(runs + 1)
        for vendor in (0, 1)
    }


def _beta_binomial(calls: int, vendor: int, runs: int, base: float, agreement: float) -> float:
    """Give the probability that the official runs and the vendor call so often in a case."""
    # The variance of the cases' probabilities is base (agreement − base), neither none nor that of coins.
    agreement = min(max(agreement, base + _EDGE * (1 - base)), 1 - _EDGE * (1 - base))
    total = (1 - base) / (agreement - base) - 1
    a, b = base * total, (1 - base) * total
    k, n = calls + vendor, runs + 1
    logs = lgamma(a + k) + lgamma(b + n - k) - lgamma(total + n) + lgamma(total) - lgamma(a) - lgamma(b)
    return comb(runs, calls) * exp(logs)
