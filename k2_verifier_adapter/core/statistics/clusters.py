"""Cases that were asked more than once: their responses are not independent of each other.

A cluster is one case with all its repeats. The variance of a ratio X / N of cluster sums is estimated
by linearisation (Cochran, Sampling Techniques, 6.12): K / (K - 1) * sum (x - p n)^2 / N^2 over K
clusters. It needs only sums over clusters, so it merges, and cases asked once need no sums of their
own: for them x and n are 0 or 1 (or x a share), and the plain counts hold all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from k2_verifier_adapter.core.counts import SHARE_UNIT, Counts
from k2_verifier_adapter.core.statistics.ratios import RATIOS


@dataclass(slots=True)
class Moments:
    """Sums over the clusters of more than one response, for one ratio.

    Attributes:
        clusters: Clusters with a denominator above 0.
        xx: Sum of the squared numerators, in units of 1 / `SHARE_UNIT`.
        xn: Sum of numerator times denominator, in the same units.
        nn: Sum of the squared denominators.
    """

    clusters: int = 0
    xx: int = 0
    xn: int = 0
    nn: int = 0


@dataclass(slots=True)
class RepeatedCases:
    """What the cases asked more than once add up to.

    Attributes:
        counts: Counts over their responses.
        moments: Sums over clusters, by ratio.
        pairs: Pairs of responses to the same case.
        flips: Those pairs that decide differently.
    """

    counts: Counts = field(default_factory=Counts)
    moments: dict[str, Moments] = field(default_factory=lambda: {name: Moments() for name in RATIOS})
    pairs: int = 0
    flips: int = 0

    def add(self, cluster: Counts) -> None:
        """Take in the counts of one case with all its responses and failed requests."""
        self.counts += cluster
        for name, ratio in RATIOS.items():
            x, n = ratio.x(cluster), ratio.n(cluster)
            if n:
                moments = self.moments[name]
                moments.clusters += 1
                moments.xx += int(x * x * SHARE_UNIT)
                moments.xn += int(x * n * SHARE_UNIT)
                moments.nn += n * n
        calls, completed = cluster.tool_calls, cluster.completed
        self.pairs += completed * (completed - 1) // 2
        self.flips += calls * (completed - calls)

    def merge(self, others: Iterable[RepeatedCases]) -> None:
        """Take in the sums of other cases."""
        for other in others:
            self.counts += other.counts
            self.pairs += other.pairs
            self.flips += other.flips
            for name, theirs in other.moments.items():
                ours = self.moments[name]
                ours.clusters += theirs.clusters
                ours.xx += theirs.xx
                ours.xn += theirs.xn
                ours.nn += theirs.nn


@dataclass(frozen=True, slots=True)
class RatioVariance:
    """The variance of one ratio over all clusters, those of one response included.

    Attributes:
        value: The ratio.
        variance: Its variance between clusters.
        clusters: Clusters with a denominator above 0.
    """

    value: float
    variance: float
    clusters: int


def ratio_variance(name: str, total: Counts, repeated: RepeatedCases) -> RatioVariance | None:
    """Estimate the variance of a ratio; None if it is undefined.

    Args:
        name: Name of the ratio, as in `RATIOS`.
        total: Counts over all responses.
        repeated: What the repeated cases add up to.
    """
    ratio = RATIOS[name]
    x, n = ratio.x(total), ratio.n(total)
    if not n:
        return None
    moments = repeated.moments[name]
    single_x, single_n = x - ratio.x(repeated.counts), n - ratio.n(repeated.counts)
    # A single response has n of 0 or 1, and x of 0 or 1 except for a share, whose squares are kept.
    single_xx = (
        total.argument_squares - repeated.counts.argument_squares
        if name == "argument_agreement"
        else single_x
    )
    clusters = moments.clusters + single_n
    value = x / n
    spread = (
        (moments.xx / SHARE_UNIT + single_xx)
        - 2 * value * (moments.xn / SHARE_UNIT + single_x)
        + value * value * (moments.nn + single_n)
    )
    correction = clusters / (clusters - 1) if clusters > 1 else 1.0
    return RatioVariance(value, max(0.0, correction * spread) / (n * n), clusters)
