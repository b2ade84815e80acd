"""When did a series of runs over the same cases change? A bound that holds over all looks.

Nothing has changed means: the answers of all runs to a case are exchangeable, whatever the case's
probability of a yes. Given how many of them are a yes, those of the later runs are then hypergeometric
(`decisions.surplus_test`; Birch 1964, Mantel and Haenszel 1959 for the sum over strata), exactly, so that
neither the cases nor the number of runs need a model.

There is a look after every run, at each place where the series may have changed, in both directions. They
share one error (error spending, Lan and DeMets 1983): the n-th look at a change k runs ago may err with
error / (n (n + 1) k (k + 1)), the sum of which over all n and k is the error, by Bonferroni's inequality
whatever depends on what. So the series may be looked at every night for ever. A change that was found stays
found, and the looks begin anew behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import copysign, erfc, exp, sqrt
from typing import Any

from k2_verifier_adapter.core.statistics.decisions import CaseDecisions, surplus_test

ERROR = 0.05
"""Probability that a series that never changes is ever said to have changed."""

Series = Sequence[Mapping[Hashable, tuple[int, int]]]
"""Of each run, in order, and each case that it answers: the answers that are a yes, and all of them."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change in a series.

    Attributes:
        since: Place of the first run after it.
        earliest: The earliest place that it may have as well, see `_NEAR`.
        latest: The latest.
        seen_at: Place of the run after which it was seen.
        before_from: Place of the first run that it is held against.
        more: Whether there is more since then.
        p: Exact one-sided p-value at this place and look.
        level: What the p-value had to stay below.
    """

    since: int
    earliest: int
    latest: int
    seen_at: int
    before_from: int
    more: bool
    p: float
    level: float


def find_changes(series: Series, error: float = ERROR) -> list[ChangePoint]:
    """Look at a series after each of its runs; give the changes in the order in which they were seen.

    Of the places that are significant at a look, the one with the largest standardised difference counts.
    What was found at a look follows from the runs until then alone: a later run changes nothing of it.
    """
    import numpy as np

    cases = {case: place for place, case in enumerate(dict.fromkeys(case for run in series for case in run))}
    counts = np.zeros((2, len(series), len(cases)))
    for run, answers in enumerate(series):
        places = [cases[case] for case in answers]
        counts[:, run, places] = np.array(list(answers.values()), dtype=float).reshape(-1, 2).T
    return changes_of(counts, error)


def changes_of(counts: Any, error: float) -> list[ChangePoint]:
    """Look at a series as arrays: what is a yes, and all answers, by run and case."""
    import numpy as np

    totals = np.concatenate((np.zeros_like(counts[:, :1]), counts.cumsum(axis=1)), axis=1)
    squares = totals[1] ** 2
    found: list[ChangePoint] = []
    start = looks = 0
    for last in range(1, counts.shape[1]):
        looks += 1
        change = _look(totals, squares, start, last, error / 2 / (looks * (looks + 1)))
        if change is not None:
            found.append(change)
            start, looks = change.since, 0
    return found


def _look(totals: Any, squares: Any, start: int, last: int, error: float) -> ChangePoint | None:
    """Look for a change in the runs from `start` to `last`, in either direction with so much error.

    Args:
        totals: By run, from none to all, and case: what is a yes in the runs up to there, and all answers.
        squares: The squares of the latter.
        start: Place of the first run.
        last: Place of the last run.
        error: The error of the look.
    """
    import numpy as np

    yes_before, answers_before = totals[:, start]
    yes, answers = totals[:, last + 1] - totals[:, start]
    share = yes / np.maximum(answers, 1)
    weight = share * (1 - share) / np.maximum(answers - 1, 1)
    # With b of a case's n answers before the split: the yes there, less b times its share; and the variance
    # of that, weight b (n - b). As products with the totals, which are not copied.
    so_far = slice(start + 1, last + 1)
    expected = totals[1, so_far] @ share - answers_before @ share
    missing = expected - (totals[0, so_far].sum(axis=1) - yes_before.sum())
    variance = (
        totals[1, so_far] @ (weight * (answers + 2 * answers_before))
        - squares[so_far] @ weight
        - (weight * answers_before) @ (answers + answers_before)
    )
    ago = np.arange(last - start, 0, -1)
    levels = error / (ago * (ago + 1))
    scores = missing / np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
    # exp(-z²) is what the rarest sums reach (all of a kind): where it is not below, nothing can be.
    candidates = np.flatnonzero((variance > _LEAST_VARIANCE) & (scores**2 >= -np.log(levels)))
    for place in candidates[np.argsort(-np.abs(scores[candidates]), kind="stable")].tolist():
        split, z, level = start + 1 + place, float(scores[place]), float(levels[place])
        before = totals[:, split] - totals[:, start]
        ours = answers - before[1]
        # Third central moment, of the sum that is of interest: more, or less.
        third = (weight * ours * before[1] * (1 - 2 * share)) @ (
            (answers - 2 * ours) / np.maximum(answers - 2, 1)
        )
        if _is_likely(abs(z), float(variance[place]), copysign(float(third), third * z), level):
            continue
        columns = np.stack((*before, yes - before[0], ours), axis=1).astype(int)
        test = surplus_test(Counter(map(CaseDecisions._make, columns.tolist())))
        p = test.more if z > 0 else test.less
        if p < level:
            near = start + 1 + np.flatnonzero((scores * z > 0) & (scores**2 >= z * z - _NEAR))
            return ChangePoint(split, int(near[0]), int(near[-1]), last, start, z > 0, p, level)
    return None


def _is_likely(z: float, variance: float, third: float, level: float) -> bool:
    """Whether a sum is far from significant without a doubt, which saves its exact test.

    By the normal tail with Cramér's first correction for skewness, and a factor of ten; where the sum is of
    few answers, or the correction is large, there is a doubt.
    """
    skewness = third / variance**1.5
    if variance < _FEW or abs(skewness) * z > _LARGE:
        return False
    return erfc(z / sqrt(2)) / 2 * exp(skewness * z**3 / 6) > 10 * level


_NEAR = 8.0
"""How much less than the largest the square of a score may be for the change to be there as well.

Twice a difference of log-likelihoods; docs/statistics.md shows how often the range holds the right place.
"""

_FEW = 9.0
_LARGE = 0.5
_LEAST_VARIANCE = 1e-6
"""What rounding may leave of a variance of 0; one case with two answers that differ has 0.25."""
