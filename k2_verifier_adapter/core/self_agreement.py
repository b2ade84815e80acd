"""The official model against itself: how often its decisions agree, and the threshold that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from k2_verifier_adapter.core.presets import SelfAgreement

MARGIN = 0.03
"""How far below the lowest self-agreement the threshold lies."""


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two official runs against each other.

    Attributes:
        first: 1-based number of the one run.
        second: 1-based number of the other.
        cases: Cases that both completed.
        f1: F1 of the decision to call over them, which does not depend on the order of the two; None
            where neither calls in any of them.
    """

    first: int
    second: int
    cases: int
    f1: float | None


def pairwise_agreement(runs: Sequence[Mapping[int, bool]]) -> list[PairAgreement]:
    """Compare every unordered pair of runs.

    Args:
        runs: For each run, the decision to call by `data_index`, of the cases that it completed.
    """
    pairs = []
    for (first, ours), (second, theirs) in combinations(enumerate(runs, start=1), 2):
        common = ours.keys() & theirs.keys()
        both = sum(ours[index] and theirs[index] for index in common)
        either = sum(ours[index] or theirs[index] for index in common)
        # 2 TP / (2 TP + FP + FN), the denominator being TP + (TP + FP + FN).
        f1 = 2 * both / (both + either) if either else None
        pairs.append(PairAgreement(first, second, len(common), f1))
    return pairs


def self_agreement(pairs: Sequence[PairAgreement]) -> SelfAgreement | None:
    """Give lowest and mean F1, to four decimals as upstream publishes them.

    Returns:
        None if there is no pair, or a pair has no F1.
    """
    values = [pair.f1 for pair in pairs if pair.f1 is not None]
    if not values or len(values) < len(pairs):
        return None
    return SelfAgreement(lowest=round(min(values), 4), mean=round(fmean(values), 4))


def threshold_for(lowest: float) -> float:
    """Choose the threshold as upstream did: round(lowest - 0.03, 2).

    That reproduces both of upstream's choices: 0.7581 gives 0.73, 0.8271 gives 0.80.
    """
    return max(0.0, round(lowest - MARGIN, 2))
