"""The proportions behind the rates, and how many independent answers their responses are worth.

F1 is no proportion, but a monotone image of one: of s = TP / (TP + FP + FN), see `intervals`.

Cases that were asked more than once make clusters: one case with all its repeats. Their design effect is
the variance of a ratio X / N of cluster sums by linearisation (Cochran, Sampling Techniques, 6.12) over
the binomial one. It needs only sums over clusters, so it merges, and cases asked once need no sums of
their own: for them x and n are 0 or 1 (or x a share), and the plain counts hold all that is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from k2_verifier_adapter.core.counts import SHARE_UNIT, Counts
from k2_verifier_adapter.core.statistics.intervals import (
    F1_LOGIT,
    WILSON,
    Interval,
    f1_interval,
    interval_at,
    wilson,
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A proportion over responses.

    Attributes:
        x: Numerator; at most the denominator.
        squares: Sum of the squared numerators of responses that stand alone: of yes and no, that of
            the numerators.
        added: How many clusters of either end are added where the design effect is estimated.
    """

    x: Callable[[Counts], float]
    n: Callable[[Counts], int]
    squares: Callable[[Counts], float] | None = None
    added: float = 1.0


ARGUMENT_AGREEMENT = "argument_agreement"

RATIOS = {
    "trigger_similarity": Ratio(lambda c: c.tp, lambda c: c.tp + c.fp + c.fn),
    "schema_accuracy": Ratio(lambda c: c.successful, lambda c: c.tool_calls),
    "tool_call_precision": Ratio(lambda c: c.tp, lambda c: c.tp + c.fp),
    "tool_call_recall": Ratio(lambda c: c.tp, lambda c: c.tp + c.fn),
    "tool_name_agreement": Ratio(lambda c: c.name_matches, lambda c: c.name_pairs),
    # Shares of which most are near 1 and few are 0: two of either end make up for those not yet seen.
    ARGUMENT_AGREEMENT: Ratio(
        lambda c: c.argument_sum, lambda c: c.argument_pairs, lambda c: c.argument_squares, added=2.0
    ),
    "inference_error_rate": Ratio(lambda c: c.failed, lambda c: c.completed + c.failed),
}
"""By the name of the metric."""


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

    def __bool__(self) -> bool:
        """Whether there is any such case."""
        return bool(self.counts.completed or self.counts.failed)


def effective_size(name: str, total: Counts, repeated: RepeatedCases) -> float:
    """Compute how many independent yes or no answers the denominator of a ratio is worth.

    It is the denominator over the design effect, which is never taken below 1 for a rate. To estimate it,
    clusters of mean size are added, as many that are all yes as are all no: without them clusters that happen
    to be alike would make a sample look larger than it is, and where all are alike there would be no variance
    at all. Of single yes or no answers the effect is exactly 1. The ratio is one of `RATIOS`; its denominator
    is above 0.
    """
    ratio = RATIOS[name]
    x, n = ratio.x(total), ratio.n(total)
    moments = repeated.moments[name]
    single_x, single_n = x - ratio.x(repeated.counts), n - ratio.n(repeated.counts)
    single_xx = ratio.squares(total) - ratio.squares(repeated.counts) if ratio.squares else single_x
    size, added = n / (moments.clusters + single_n), ratio.added
    value = (x + added * size) / (n + 2 * added * size)
    spread = (
        (moments.xx / SHARE_UNIT + single_xx)
        - 2 * value * (moments.xn / SHARE_UNIT + single_x)
        + value * value * (moments.nn + single_n)
    )
    spread += added * size * size * ((1 - value) ** 2 + value * value)
    effect = spread / ((n + 2 * added * size) * value * (1 - value))
    return n / (effect if ratio.squares else max(1.0, effect))


def ratio_interval(name: str, value: float, total: Counts, repeated: RepeatedCases) -> Interval:
    """Compute the interval of a rate, or of F1, from responses that may come in clusters.

    The arguments are those of `effective_size`.
    """
    is_f1 = name == "trigger_similarity"
    if not repeated and name != ARGUMENT_AGREEMENT:
        x, n = RATIOS[name].x(total), RATIOS[name].n(total)
        interval = f1_interval(x, n - x, 0) if is_f1 else wilson(x, n)
        assert interval is not None, "the denominator is above 0"
        return interval
    method = F1_LOGIT if is_f1 else WILSON
    interval = interval_at(value, effective_size(name, total, repeated), method)
    return replace(interval, method=f"{method}_{'clustered' if repeated else 'effective'}")
