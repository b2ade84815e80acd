"""Simulated vendors over cases of which each has its own probability of a call.

The probabilities are spread as a Beta distribution that fits what is published: the share of official
answers that call, and the F1 of the official model against itself. Both shapes are U: most cases are all but
sure, some are a toss of a coin. A kind of vendor is a function of that probability. A run is a table: its
cases by the number of official runs that call, and by whether the vendor does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from candidates import Array
from scipy import special, stats

_POINTS = 20_000
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Subset:
    """A subset of the official prompts.

    Attributes:
        name: Its name.
        base: Share of the official answers that call.
        agreement: F1 of the official model against itself, on average.
        threshold: Upstream's.
    """

    name: str
    base: float
    agreement: float
    threshold: float

    def cases(self) -> Array:
        """Give probabilities of a call, each as likely as the other."""
        spread = (1 - self.base) / (self.agreement - self.base) - 1
        middles = (np.arange(_POINTS) + 0.5) / _POINTS
        return np.asarray(special.betaincinv(self.base * spread, (1 - self.base) * spread, middles))


SUBSETS = (Subset("k2_thinking", 0.5, 0.76, 0.73), Subset("k2_0905", 0.3185, 0.84, 0.80))

Decide = Callable[[Array], Array]


def tempered(p: Array, factor: float) -> Array:
    """Give the probabilities at another temperature: the log odds times a factor."""
    return np.asarray(special.expit(special.logit(np.clip(p, _SMALLEST, 1 - 1e-16)) * factor))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of vendor.

    Attributes:
        name: What it does.
        decide: Its probability of a call, by the official one.
        accuracy: Share of its calls that are valid.
    """

    name: str
    decide: Decide
    accuracy: float = 1.0


def at_random(share: float) -> Kind:
    return Kind(f"tosses a coin in {share:.0%}", lambda p: (1 - share) * p + share / 2)


FAITHFUL = Kind("faithful", lambda p: p)
GREEDY = Kind("greedy (ignores the temperature)", lambda p: (p > 0.5).astype(float))
KINDS: tuple[Kind, ...] = (
    FAITHFUL,
    GREEDY,
    Kind("greedy, and drops 12 % of its calls", lambda p: 0.88 * (p > 0.5)),
    Kind("adds calls in 20 % of the other cases", lambda p: p + 0.2 * (1 - p)),
    Kind("drops 10 % of its calls", lambda p: 0.9 * p),
    Kind("drops 20 % of its calls", lambda p: 0.8 * p),
    at_random(0.2),
    Kind("temperature doubled", lambda p: tempered(p, 0.5)),
    Kind("a quarter of the calls invalid", lambda p: p, accuracy=0.75),
)


def cells(subset: Subset, kind: Kind, runs: int) -> Array:
    """Give the share of the cases by official calls (0 to `runs`) and by the vendor's decision."""
    return _cells(subset, kind.decide, runs)


@cache
def _cells(subset: Subset, decide: Decide, runs: int) -> Array:
    p = subset.cases()
    official = stats.binom.pmf(np.arange(runs + 1)[:, None], runs, p)
    calls = decide(p)
    return np.stack([(official * (1 - calls)).mean(1), (official * calls).mean(1)], axis=1)


def f1(shares: Array) -> float:
    """Give the F1 of a vendor against one official run, from its cells."""
    runs = len(shares) - 1
    official = np.arange(runs + 1) / runs
    return float(2 * (shares[:, 1] @ official) / (shares[:, 1].sum() + shares.sum(1) @ official))


def surplus(shares: Array) -> float:
    """Give the true call_surplus, from its cells."""
    runs = len(shares) - 1
    return float(shares[:, 1].sum() / (shares.sum(1) @ (np.arange(runs + 1) / runs)) - 1)


class Runs:
    """Many runs at once.

    Attributes:
        counts: Cases by run, official calls, and the vendor's decision; leading axes are free.
        valid: The vendor's valid calls.
    """

    def __init__(self, counts: npt.NDArray[np.int64], valid: npt.NDArray[np.int64]) -> None:
        self.counts = counts.astype(float)
        self.valid = valid.astype(float)
        self.runs = counts.shape[-2] - 1
        self.calls = self.counts[..., 1].sum(-1)
        self.cases = self.counts.sum((-2, -1))
        self._k = np.arange(self.runs + 1.0)[:, None]
        self._x = np.array([[0.0, 1.0]])

    def _sum(self, values: Array) -> Array:
        return np.asarray((self.counts * values).sum((-2, -1)))

    def hits_and_misses(self) -> tuple[Array, Array]:
        """Give TP and FP + FN, against one official run."""
        assert self.runs == 1, "a table of several runs does not tell which of them is the first"
        return self.counts[..., 1, 1], self.counts[..., 0, 1] + self.counts[..., 1, 0]

    def surplus(self) -> tuple[Array, Array]:
        """Give the logarithm of one more than the surplus, and its standard error."""
        y = self._k / self.runs
        ours, theirs = self.calls + 0.5, self._sum(y + 0 * self._x) + 0.5
        products = self._sum(y * self._x)
        variance = (self.calls + 0.5) / ours**2 - 2 * products / (ours * theirs)
        variance += (self._sum(y * y + 0 * self._x) + 0.5) / theirs**2
        return np.log(ours / theirs), np.sqrt(variance)

    def non_inferiority(self) -> tuple[Array, Array, Array, Array]:
        """Give difference, standard error and skewness of the similarity, and the self-agreement."""
        m = self.runs
        y, pair = self._k / m + 0 * self._x, self._k * (self._k - 1) / (m * (m - 1)) + 0 * self._x
        x = self._x + 0 * self._k
        vendor, official = self._sum(x), self._sum(y)
        similarity = 2 * self._sum(x * y) / (vendor + official)
        agreement = self._sum(pair) / official

        def wide(values: Array) -> Array:
            return values[..., None, None]

        influence = (2 * x * y - wide(similarity) * (x + y)) / wide(vendor + official)
        influence = influence - (pair - wide(agreement) * y) / wide(official)
        weights = self.counts.copy()
        for extreme in ((m, 0), (0, 1), (m, 1)):
            weights[..., extreme[0], extreme[1]] += 0.5
        squares = (weights * influence**2).sum((-2, -1))
        skewness = np.sqrt(self.cases) * (weights * influence**3).sum((-2, -1)) / squares**1.5
        error = np.sqrt(squares * self.cases / np.maximum(self.cases - 1, 1))
        return similarity - agreement, error, skewness, agreement

    def exchange_p(self) -> Array:
        """Give the p-value of the exchange test; 1 where it has none."""
        total, answers = self._k + self._x, self.runs + 1
        share = np.clip(total / answers, 1e-9, 1 - 1e-9)
        informative = (total > 0) & (total < answers)
        weight = np.where(informative, special.logit(share), 0.0)
        score = np.where(informative, self._x - share, 0.0)
        variance = np.where(informative, share * (1 - share), 0.0)
        first, second = self._sum(score), self._sum(weight * score)
        a, b = self._sum(variance), self._sum(weight * variance)
        c, cases = self._sum(weight**2 * variance), self._sum(informative.astype(float))
        determinant = a * c - b * b
        known = determinant > 1e-9 * a * c
        form = (first**2 * c - 2 * first * second * b + second**2 * a) / np.where(known, determinant, 1.0)
        return np.where(known, (1 + form / np.maximum(cases, 1)) ** (-cases / 2), 1.0)


@dataclass(slots=True)
class Draw:
    """Draws runs of one kind of vendor.

    Attributes:
        rng: The chance.
        subset: The subset.
        kind: The kind of vendor.
        runs: Official runs.
    """

    rng: np.random.Generator
    subset: Subset
    kind: Kind
    runs: int = 1
    shares: Array = field(init=False)

    def __post_init__(self) -> None:
        self.shares = cells(self.subset, self.kind, self.runs)

    def at_random(self, cases: int, size: int) -> Runs:
        """Draw runs over cases that are drawn at random."""
        return self._judged(self._drawn(self.shares, np.full(size, cases)))

    def along(self, looks: Array, size: int, *, stratified: bool = True) -> Runs:
        """Draw runs along an order of the cases, seen at every look; the look is the last free axis.

        A stratified order holds its share of official calls at every look; in one at random they are chance.
        """
        if not stratified:
            steps = [
                self._drawn(self.shares, np.full(size, cases))
                for cases in np.diff(looks.astype(int), prepend=0)
            ]
            return self._judged(np.stack(steps, axis=1))
        first_calls = np.arange(self.runs + 1.0)[:, None] / self.runs
        called = np.round(self.subset.base * looks).astype(int)
        others = np.diff(looks.astype(int) - called, prepend=0)
        steps = [
            self._drawn(self.shares * first_calls, np.full(size, calls))
            + self._drawn(self.shares * (1 - first_calls), np.full(size, rest))
            for calls, rest in zip(np.diff(called, prepend=0), others, strict=True)
        ]
        return self._judged(np.stack(steps, axis=1))

    def _drawn(self, shares: Array, cases: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        drawn = self.rng.multinomial(cases, (shares / shares.sum()).ravel())
        return drawn.reshape(*cases.shape, *shares.shape)

    def _judged(self, steps: npt.NDArray[np.int64]) -> Runs:
        """Draw which calls are valid; steps of looks are summed up."""
        valid = self.rng.binomial(steps[..., 1].sum(-1), self.kind.accuracy)
        if steps.ndim == 4:
            return Runs(steps.cumsum(1), valid.cumsum(1))
        return Runs(steps, valid)
