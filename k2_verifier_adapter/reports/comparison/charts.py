"""Forest plots of a comparison: where each run stands, and how far every two lie apart."""

from __future__ import annotations

from collections.abc import Sequence

from k2_verifier_adapter.core.comparison.compare import Comparison, letter
from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.metrics import PRIMARY_METRIC
from k2_verifier_adapter.core.printable import points
from k2_verifier_adapter.reports.comparison.tables import difference_cells, pair_name
from k2_verifier_adapter.reports.html.charts import (
    INTERVAL,
    THRESHOLD,
    VALUE,
    ZERO,
    Axis,
    Estimate,
    estimate_of,
    forest,
    shares,
    shares_legend,
)
from k2_verifier_adapter.reports.html.elements import Markup, element, join
from k2_verifier_adapter.reports.tables import name

_SHARES = ((0.8, 0.05), (0.5, 0.1), (0.0, 0.25))
"""First tick and step of an axis of shares, the narrowest first."""

_LIMITS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Ends of an axis of differences, the narrowest first."""

_MOST = 100


def similarity_plot(comparison: Comparison) -> Markup:
    """Draw the trigger_similarity of all runs, against threshold and the official model against itself."""
    rows = []
    for place in comparison.ranking[:_MOST]:
        standing = comparison.standings[place]
        metric, facts = standing.metrics[PRIMARY_METRIC], standing.participant.summary.facts
        if metric.value is None or metric.interval is None:
            continue
        # On synthetic rows neither says anything.
        standard = None if facts.rows.synthetic else facts.standard
        label = name(standing.participant.label)
        rows.append(
            estimate_of(
                metric,
                join(element("b", letter(place)), " ", label),
                f"{letter(place)}, {label}: {PRIMARY_METRIC}",
                None if standard is None else standard.threshold,
                None if standard is None else standard.self_agreement,
            )
        )
    if not rows:
        return element("p", f"{PRIMARY_METRIC} is undefined in every run.")
    least = min(min([row.low, *(row.band or ()), *(at for at, _ in row.uprights)]) for row in rows)
    first, step = next(found for found in _SHARES if found[0] <= least)
    legend = shares_legend(
        threshold=any(row.uprights for row in rows), agreement=any(row.band for row in rows)
    )
    return forest(rows, shares(first, step), {**legend, VALUE: PRIMARY_METRIC})


def difference_plot(pairs: Sequence[Pair], margin: float | None) -> Markup:
    """Draw the differences in trigger_similarity around 0.

    Args:
        pairs: The pairs to draw.
        margin: How much worse the first run may be, as a share; None if nothing was asked.
    """
    uprights = [(0.0, ZERO), *([] if margin is None else [(-margin, THRESHOLD)])]
    rows = []
    for pair in pairs:
        difference = pair.similarity
        if difference is None:
            continue
        shown, interval = difference_cells(difference)
        rows.append(
            Estimate(
                name=element("b", pair_name(pair)),
                said=f"{pair_name(pair)}: {shown} percentage points, 95% interval {interval}",
                shown=shown,
                value=difference.value,
                low=difference.low,
                high=difference.high,
                uprights=uprights,
            )
        )
    if not rows:
        return element("p", f"The difference in {PRIMARY_METRIC} is undefined in every pair.")
    largest = max(margin or 0.0, *(max(-row.low, row.high) for row in rows))
    limit = next(limit for limit in _LIMITS if largest <= limit)
    legend = {VALUE: "difference, in percentage points", INTERVAL: "95% interval", ZERO: "no difference"}
    if margin is not None:
        legend[THRESHOLD] = f"how much worse A may be: {points(-margin)}"
    return forest(rows, _around_zero(limit), legend)


def _around_zero(limit: float) -> Axis:
    ticks = [-limit, -limit / 2, 0.0, limit / 2, limit]
    return Axis(ticks, [f"{100 * tick:+g}" if tick else "0" for tick in ticks])
