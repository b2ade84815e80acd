"""Group-sequential designs: boundaries that are crossed as often as said, and looks at prefixes of an order."""

import json
import random
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_verifier_adapter.core.statistics.sequential import Design, Follower, Level, boundary, crossing, plan


def test_known_boundaries() -> None:
    """Five equal looks at 2.5 % a side: O'Brien and Fleming's 2.040, Pocock's 2.413 (Jennison and Turnbull)."""
    times = [k / 5 for k in range(1, 6)]
    assert boundary(times, [1 / sqrt(time) for time in times])[-1] == pytest.approx(2.040, abs=5e-4)
    assert boundary(times, [1.0] * 5) == pytest.approx([2.413] * 5, abs=5e-4)


@given(st.floats(0.01, 1), st.floats(0.001, 1 / 1.08), st.floats(0.5, 4), st.floats(0.5, 4))
def test_two_looks_equal_the_bivariate_normal(second: float, share: float, one: float, other: float) -> None:
    """Of two looks as close as looks are, the probability is that of scipy's bivariate normal."""
    stats = pytest.importorskip("scipy.stats")
    first = share * second
    r = sqrt(share)
    below = stats.multivariate_normal.cdf([one, other], cov=[[1, r], [r, 1]])
    assert crossing([first, second], [one, other]) == pytest.approx(1 - below, abs=2e-6)


def test_a_design_is_crossed_as_often_as_said() -> None:
    """200,000 random walks cross either boundary of the full design in 2.5 %, to three standard errors."""
    design = plan(2000)
    times = np.array(design.looks) / design.maximum
    steps = np.sqrt(np.diff(times, prepend=0.0))
    walks = np.cumsum(steps * np.random.default_rng(1).standard_normal((200_000, len(times))), axis=1)
    scores = walks / np.sqrt(times)
    for side in ("passing", "failing"):
        bounds = np.array([getattr(level, side) for level in design.levels])
        crossed = (scores >= bounds).any(axis=1).mean()
        assert crossed == pytest.approx(0.025, abs=3 * sqrt(0.025 / 200_000))


@settings(max_examples=20)
@given(st.integers(1, 20_000))
def test_a_plan(maximum: int) -> None:
    """Looks rise to the maximum; the pass grows easier, the fail does not; one look is a fixed design."""
    design = plan(maximum)
    assert design.maximum == maximum
    assert list(design.looks) == sorted(set(design.looks))
    assert len(design.looks) <= 12
    assert design.looks[0] == (60 if maximum >= 66 else maximum)
    assert all(later / earlier > 1.08 for earlier, later in pairwise(design.looks))
    passing = [level.passing for level in design.levels]
    assert passing == sorted(passing, reverse=True)
    assert len({level.failing for level in design.levels}) == 1
    assert 1.95 < passing[-1] < 2.3
    if len(design.looks) == 1:
        assert design.levels[0] == Level(pytest.approx(1.959964), pytest.approx(1.959964))
    assert Design.from_json(json.loads(json.dumps(design.as_json()))) == design


def test_a_damaged_design_is_refused() -> None:
    """Looks that do not rise, or levels for other looks, are no design; nothing stored is none."""
    assert Design.from_json(None) is None
    good = plan(100).as_json()
    for damage in (
        {"looks": [60, 50]},
        {"looks": []},
        {"pass_z": [2.0]},
        {"fail_z": ["2"] * 12},
        {"looks": None},
    ):
        with pytest.raises((ValueError, TypeError)):
            Design.from_json(good | damage)


@settings(max_examples=30)
@given(st.integers(0, 2**30), st.sampled_from([1, 30, 60, 61, 80, 150]))
def test_looks_are_reached_in_order_whatever_finishes_first(seed: int, maximum: int) -> None:
    """However cases finish, a look comes once its whole prefix has, and every look comes once."""
    rng = random.Random(seed)
    order = rng.sample(range(1000), maximum + 5)
    follower = Follower(DESIGNS.setdefault(maximum, plan(maximum)), order)
    finished, seen = set(), []
    for case in rng.sample(order, len(order)):
        finished.add(case)
        looks = follower.finish(case)
        for look in looks:
            assert set(follower.cases_of(look)) <= finished
        seen += looks
        assert follower.reached == len(seen)
        waiting = follower.design.looks[len(seen) :]
        assert not waiting or not set(order[: waiting[0]]) <= finished
    assert seen == list(range(len(follower.design.looks)))


DESIGNS: dict[int, Design] = {}


def test_too_short_an_order_is_an_error() -> None:
    """A design cannot look at more cases than there are."""
    with pytest.raises(ValueError, match="fewer than the last look's 60"):
        Follower(plan(60), range(59))
