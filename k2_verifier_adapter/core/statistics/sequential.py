"""Group-sequential designs: a fixed number of looks at fixed numbers of cases, with error rates over all.

The boundary for a pass is O'Brien and Fleming's, which asks for much at first and at the end for hardly
more than a fixed design; the boundary for a fail is Pocock's, the same at every look, because whom a bad
vendor costs most is who goes on asking it. Either is crossed by chance in 2.5 % over all looks, whether or
not the other is heeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose, log, sqrt
from typing import Any

from k2_verifier_adapter.core.json_text import number, whole
from k2_verifier_adapter.core.statistics.intervals import Z

LOOKS = 12
FIRST_LOOK = 60
CLOSEST = 1.1
"""Ratio of the cases of a look to those of the one before, at least, up to rounding."""

ERROR = 0.025
"""Probability of crossing either boundary by chance."""

_NODES = 64
"""Points of the quadrature; 50 give the error rate to fourteen digits."""

_FARTHEST = 8.0
"""Standard deviations beyond which a process is taken to never be."""


@dataclass(frozen=True, slots=True)
class Level:
    """How many standard errors an interval has to lie to one side of a limit, for a pass and for a fail."""

    passing: float = Z
    failing: float = Z


FIXED = Level()
"""The level of a verdict that is looked at once, at the end."""


@dataclass(frozen=True, slots=True)
class Design:
    """When a verdict is looked at, and how sure it has to be there. A look is at the first n cases.

    Attributes:
        looks: The numbers of cases, rising; the last is the maximum.
    """

    looks: tuple[int, ...]
    levels: tuple[Level, ...]

    @property
    def maximum(self) -> int:
        """The cases of the last look."""
        return self.looks[-1]

    @property
    def is_planned(self) -> bool:
        """Whether it is what `plan` gives for its maximum, so that it errs as seldom as that."""
        planned = plan(self.maximum)
        levels = zip(self.levels, planned.levels, strict=False)
        return self.looks == planned.looks and all(
            isclose(ours.passing, theirs.passing, abs_tol=1e-6)
            and isclose(ours.failing, theirs.failing, abs_tol=1e-6)
            for ours, theirs in levels
        )

    def __str__(self) -> str:
        """Say it in a few words."""
        looks = "1 look" if len(self.looks) == 1 else f"{len(self.looks)} looks"
        return f"{looks}, O'Brien–Fleming pass, Pocock fail"

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        return {
            "looks": list(self.looks),
            "pass_z": [level.passing for level in self.levels],
            "fail_z": [level.failing for level in self.levels],
        }

    @classmethod
    def from_json(cls, value: Any) -> Design | None:
        """Read the stored form back, or None; a KeyError, TypeError or ValueError says that it is neither."""
        if value is None:
            return None
        looks = tuple(map(whole, value["looks"]))
        pairs = zip(value["pass_z"], value["fail_z"], strict=True)
        levels = tuple(Level(number(passing), number(failing)) for passing, failing in pairs)
        if len(levels) != len(looks) or list(looks) != sorted({*looks}) or not looks or looks[0] < 1:
            raise ValueError(f"{looks!r} are no looks")
        return cls(looks, levels)


def plan(maximum: int, first: int = FIRST_LOOK, looks: int = LOOKS) -> Design:
    """Plan a design.

    The looks are spaced geometrically, each a tenth beyond the one before at least: closer ones decide next
    to nothing, and the quadrature of their boundaries would need more nodes.
    """
    first = min(first, maximum)
    steps = min(looks - 1, int(log(maximum / first, CLOSEST)))
    cases = tuple(round(maximum * (first / maximum) ** (k / max(steps, 1))) for k in range(steps, -1, -1))
    times = [n / maximum for n in cases]
    obrien_fleming = boundary(times, [1 / sqrt(time) for time in times])
    pocock = boundary(times, [1.0] * len(times))
    return Design(cases, tuple(map(Level, obrien_fleming, pocock)))


def boundary(times: Sequence[float], shape: Sequence[float], error: float = ERROR) -> list[float]:
    """Scale a boundary of the standardised statistic so that it is crossed by chance as often as said.

    The times are the information at the looks, rising; the shape is the boundary, up to a factor.
    """
    from scipy.optimize import brentq

    def excess(factor: float) -> float:
        return crossing(times, [factor * value for value in shape]) - error

    factor = brentq(excess, 0.5 / min(shape), 8.0 / min(shape), xtol=1e-10)
    return [factor * value for value in shape]


def crossing(times: Sequence[float], bounds: Sequence[float]) -> float:
    """Compute the probability that a standardised Brownian motion reaches a boundary at any look.

    By recursive integration (Armitage, McPherson and Rowe 1969): the density of the process at each look,
    of the paths that have stayed below, from that at the look before.
    """
    import numpy as np
    from scipy.special import ndtr

    nodes, node_weights = np.polynomial.legendre.leggauss(_NODES)
    points, density, before, crossed = np.zeros(1), np.ones(1), 0.0, 0.0
    for time, bound in zip(times, bounds, strict=True):
        step, lowest = sqrt(time - before), -_FARTHEST * sqrt(time)
        highest = min(bound * sqrt(time), -lowest)
        crossed += float(density @ ndtr((points - bound * sqrt(time)) / step))
        half = (highest - lowest) / 2
        grid = lowest + half * (nodes + 1)
        moved = np.exp(-(((grid[:, None] - points) / step) ** 2) / 2) / (step * sqrt(2 * np.pi))
        points, density, before = grid, (moved @ density) * node_weights * half, time
    return crossed


class Follower:
    """Follows a run along its order, and says which looks have been reached.

    A look is reached once **all** of the first n cases of the order have finished, and is at these alone:
    short answers come first and call less, so "whatever has finished" would be another sample.

    Attributes:
        reached: Number of looks that have been reached.
    """

    def __init__(self, design: Design, order: Sequence[int]) -> None:
        if len(order) < design.maximum:
            raise ValueError(f"{len(order)} cases in order are fewer than the last look's {design.maximum}")
        self.design = design
        self.order = order
        self.reached = 0
        self._finished: set[int] = set()
        self._prefix = 0

    def finish(self, case: int) -> list[int]:
        """Note that all requests of a case have finished; give the places of the looks now reached."""
        self._finished.add(case)
        while self._prefix < self.design.maximum and self.order[self._prefix] in self._finished:
            self._prefix += 1
        now = sum(cases <= self._prefix for cases in self.design.looks)
        looks = list(range(self.reached, now))
        self.reached = now
        return looks

    def cases_of(self, look: int) -> Sequence[int]:
        """Give the cases that a look judges."""
        return self.order[: self.design.looks[look]]
