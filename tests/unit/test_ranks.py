"""Places as ranges: nothing that a less faithful vendor can win puts it above another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.comparison.ranks import Contender, RankRange, rank_ranges, shown_above
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.core.statistics.paired import Difference, WinsLosses

AGREEMENT = 0.76


def contender(low, high, *, differs=False):
    """Make a run by the interval of its similarity."""
    return Contender(Interval(low, high, "f1_logit", 1000), differs)


def pair(difference=0.0, p=1.0, validity=(0, 0), validity_p=1.0):
    """Make a pair of the runs 0 and 1."""
    return Pair(
        first=0,
        second=1,
        completed=100,
        only_first_failed=0,
        only_second_failed=0,
        similarity=Difference(0.7 + difference, 0.7, -1.0, 1.0, p, 100),
        similarity_p_of_all=p,
        agreement=WinsLosses(0, 0, 100),
        agreement_p_of_all=1.0,
        accuracy=None,
        validity=WinsLosses(*validity, 0),
        validity_p_of_all=validity_p,
        changes=[],
    )


FAITHFUL, GREEDY = contender(0.74, 0.78), contender(0.81, 0.84, differs=True)
SHARP, NOISY = contender(0.79, 0.83), contender(0.60, 0.64)


@pytest.mark.parametrize(
    ("found", "runs", "agreement", "above"),
    [
        # A greater agreement than the official model's own wins nothing over a faithful vendor.
        (pair(0.06, 0.001), (SHARP, FAITHFUL), AGREEMENT, set()),
        (pair(0.15, 0.001), (FAITHFUL, NOISY), AGREEMENT, {(0, 1)}),
        (pair(-0.15, 0.001), (NOISY, FAITHFUL), AGREEMENT, {(1, 0)}),
        # Against whom a difference is raised wins nothing by similarity, not even over a bad vendor.
        (pair(0.2, 0.001), (GREEDY, NOISY), AGREEMENT, set()),
        (pair(0.15, 0.06), (FAITHFUL, NOISY), AGREEMENT, set()),
        (pair(0.15, 0.001), (FAITHFUL, NOISY), None, set()),
        (pair(validity=(2, 60), validity_p=0.001), (FAITHFUL, FAITHFUL), AGREEMENT, {(1, 0)}),
        (pair(0.15, 0.001, (60, 2), 0.001), (FAITHFUL, NOISY), AGREEMENT, {(0, 1)}),
        (pair(0.15, 0.001, (2, 60), 0.001), (FAITHFUL, NOISY), AGREEMENT, set()),
    ],
)
def test_who_is_above(found, runs, agreement, above):
    """Similarity counts towards the official model's own agreement only, validity always."""
    assert shown_above([found], runs, agreement) == above


def test_ranges_by_hand():
    """Of four runs one is above two, and nothing is known of the fourth."""
    assert rank_ranges(4, {(0, 1), (0, 2)}) == [
        RankRange(1, 2),
        RankRange(2, 4),
        RankRange(2, 4),
        RankRange(1, 4),
    ]


@given(st.permutations(range(6)), st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=15))
def test_a_true_order_lies_in_the_ranges(order, pairs):
    """If every pair that is shown is right, the true place of each run lies in its range."""
    place = {run: number for number, run in enumerate(order, start=1)}
    above = {(a, b) for a, b in pairs if place[a] < place[b]}
    for run, (best, worst) in enumerate(rank_ranges(6, above)):
        assert best <= place[run] <= worst
