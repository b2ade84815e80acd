"""Places of several runs as ranges: who is shown to be above whom, all pairs taken into account."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.core.statistics.paired import SIGNIFICANCE


class RankRange(NamedTuple):
    """The places, from 1, that a run may hold."""

    best: int
    worst: int


@dataclass(frozen=True, slots=True)
class Contender:
    """What counts of a run beside its pairs.

    Attributes:
        similarity: The interval of its trigger_similarity; None if it is undefined.
        differs: Whether any difference to the official API is raised against it.
    """

    similarity: Interval | None
    differs: bool


def shown_above(
    pairs: Sequence[Pair], contenders: Sequence[Contender], agreement: float | None
) -> set[tuple[int, int]]:
    """Give the pairs of places of which the first is shown to be better than the second.

    A higher trigger_similarity counts only where the lower one is itself shown to lie below the official
    model's agreement with itself, and nothing is raised against the higher: a vendor that ignores the
    temperature agrees more than a faithful one, and is no better for it. More valid calls always count. What
    speaks both ways counts for neither.

    Args:
        pairs: Every two runs, their p-values adjusted for the number of pairs.
        contenders: The runs.
        agreement: F1 of the official model against itself; None if it is not known.
    """
    above = set()
    for pair in pairs:
        better = set()
        first, second = pair.first, pair.second
        winner = pair.better
        if winner is not None and agreement is not None and not contenders[winner].differs:
            loser = second if winner == first else first
            interval = contenders[loser].similarity
            if interval is not None and interval.high < agreement:
                better.add((winner, loser))
        if pair.validity_p_of_all < SIGNIFICANCE:
            more_valid = pair.validity.wins > pair.validity.losses
            better.add((first, second) if more_valid else (second, first))
        if len(better) == 1:
            above |= better
    return above


def rank_ranges(runs: int, above: Collection[tuple[int, int]]) -> list[RankRange]:
    """Give each run the places that it may hold.

    The best place is one behind all that are shown to be above it, the worst one before all below.
    """
    return [
        RankRange(
            best=1 + sum(lower == run for _, lower in above),
            worst=runs - sum(higher == run for higher, _ in above),
        )
        for run in range(runs)
    ]
