"""Charts as inline SVG: drawn with percentages, so that they fit a phone as well as a desktop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from k2_verifier_adapter.core.metrics import PRIMARY_METRIC, Metric
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import amount, percent
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports.html.elements import Markup, element, join
from k2_verifier_adapter.reports.tables import bounds

_HEIGHT = 26
_MIDDLE = _HEIGHT // 2


@dataclass(frozen=True, slots=True)
class Axis:
    """What stands where in a plot.

    Attributes:
        ticks: The values that are named, in order; the first and the last are its ends.
        labels: Their names.
    """

    ticks: Sequence[float]
    labels: Sequence[str]

    def place(self, value: float) -> float:
        """Give the place of a value, in percent of the width."""
        low, high = self.ticks[0], self.ticks[-1]
        return 100 * (value - low) / (high - low)


def shares(first: float = 0, step: float = 0.25) -> Axis:
    """Make an axis of shares, from a first one to 1."""
    ticks = [first + step * number for number in range(round((1 - first) / step) + 1)]
    return Axis(ticks, [f"{tick:.0%}" for tick in ticks])


@dataclass(frozen=True, slots=True)
class Estimate:
    """One row of a forest plot.

    Attributes:
        name: What is estimated, at the left.
        said: The row in words, for those who do not see it.
        shown: The value in words, at the right.
        value: The value.
        low: Lower bound of its interval.
        high: Upper bound.
        band: Two values between which the ground is coloured, or None.
        uprights: Values that a line marks, and the kind of the line.
    """

    name: Markup
    said: str
    shown: str
    value: float
    low: float
    high: float
    band: tuple[float, float] | None = None
    uprights: Sequence[tuple[float, str]] = ()


VALUE, INTERVAL, BAND, THRESHOLD, ZERO = "value", "interval", "self", "threshold", "zero"
"""What a legend can explain."""


def forest_plot(summary: Summary) -> Markup:
    """Draw every rate with its interval, against its threshold and the official model against itself."""
    # On synthetic rows neither says anything.
    synthetic = summary.facts.rows.synthetic
    thresholds = {} if synthetic else {check.metric: check.threshold for check in summary.verdict.checks}
    agreement = None if synthetic else summary.self_agreement
    rows = [
        estimate_of(
            metric,
            breakable(metric.name),
            metric.name,
            thresholds.get(metric.name),
            agreement if metric.name == PRIMARY_METRIC else None,
        )
        for metric in summary.metrics
        if metric.interval is not None and metric.value is not None
    ]
    if not rows:
        return element("p", "No rate is defined: no response completed.")
    return forest(rows, shares(), shares_legend(threshold=bool(thresholds), agreement=agreement is not None))


def estimate_of(
    metric: Metric, name: Markup, said: str, threshold: float | None, agreement: SelfAgreement | None
) -> Estimate:
    """Make the row of a rate.

    Args:
        metric: The rate; its value is defined.
        name: What stands at the left.
        said: The same as a text.
        threshold: What it is held against, or None.
        agreement: The official model against itself, or None.
    """
    assert metric.interval is not None, "only rates with an interval are drawn"
    assert metric.value is not None, "a value without denominator has no interval"
    shown = amount(metric, metric.value)
    said += f" {shown}, 95% interval {bounds(metric.interval)}"
    if agreement is not None:
        said += (
            f"; the official model against itself {percent(agreement.lowest)} to {percent(agreement.mean)}"
        )
    if threshold is not None:
        said += f"; threshold {percent(threshold)}"
    return Estimate(
        name=name,
        said=said,
        shown=shown,
        value=metric.value,
        low=metric.interval.low,
        high=metric.interval.high,
        band=None if agreement is None else (agreement.lowest, agreement.mean),
        uprights=[] if threshold is None else [(threshold, THRESHOLD)],
    )


def shares_legend(*, threshold: bool, agreement: bool) -> dict[str, str]:
    """Explain what is drawn of rates."""
    legend = {VALUE: "value", INTERVAL: "95% interval"}
    if threshold:
        legend[THRESHOLD] = "threshold"
    if agreement:
        legend[BAND] = "the official model against itself, lowest to mean"
    return legend


def forest(rows: Iterable[Estimate], axis: Axis, legend: dict[str, str]) -> Markup:
    """Draw estimates with their intervals above one axis.

    Args:
        rows: The estimates, the topmost first.
        axis: The axis.
        legend: What each kind of sign means.
    """
    return element(
        "figure",
        element("div", *(_row(row, axis) for row in rows), _axis(axis), class_="forest"),
        element("figcaption", *(_sign(kind, text) for kind, text in legend.items())),
    )


def _row(row: Estimate, axis: Axis) -> Markup:
    drawn = [_line(0, 100, "track"), *(_upright(axis.place(tick), "grid") for tick in axis.ticks)]
    if row.band is not None:
        start, end = map(axis.place, row.band)
        width = max(0.6, end - start)
        drawn.append(
            element("rect", x=f"{start:.3f}%", y="2", width=f"{width:.2f}%", height="22", class_="self")
        )
    drawn += [_upright(axis.place(value), kind) for value, kind in row.uprights]
    drawn += [
        _line(axis.place(row.low), axis.place(row.high), "interval"),
        element("circle", cx=f"{axis.place(row.value):.3f}%", cy=_MIDDLE, r="5", class_="value"),
    ]
    picture = element("svg", *drawn, role="img", aria_label=row.said, height=_HEIGHT, class_="plot")
    return element(
        "div",
        element("div", row.name, class_="name", aria_hidden="true"),
        picture,
        element("div", element("b", row.shown), aria_hidden="true", class_="num"),
        class_="row",
    )


def _axis(axis: Axis) -> Markup:
    anchors = {0: "start", len(axis.ticks) - 1: "end"}
    ticks = [
        element(
            "text",
            label,
            x=f"{axis.place(tick):g}%",
            y="12",
            text_anchor=anchors.get(number, "middle"),
        )
        for number, (tick, label) in enumerate(zip(axis.ticks, axis.labels, strict=True))
    ]
    drawn = element("svg", *ticks, height="16", class_="plot axis", aria_hidden="true")
    return element("div", element("div"), drawn, element("div"), class_="row")


def _sign(kind: str, text: str) -> Markup:
    drawn = {
        VALUE: element("circle", cx="9", cy="7", r="5", class_="value"),
        INTERVAL: element("line", x1="0", x2="18", y1="7", y2="7", class_="interval"),
        THRESHOLD: element("line", x1="9", x2="9", y1="0", y2="14", class_="threshold"),
        ZERO: element("line", x1="9", x2="9", y1="0", y2="14", class_="zero"),
        BAND: element("rect", x="5", y="0", width="8", height="14", class_="self"),
    }
    return element("span", element("svg", drawn[kind], width="18", height="14", aria_hidden="true"), text)


def bar(share: float) -> Markup:
    """Draw a bar; the number stands beside it."""
    width = max(0.5, 100 * share)
    return element(
        "svg",
        element("rect", x="0", y="0", width=f"{width:.2f}%", height="12", rx="2"),
        class_="bar",
        height="12",
        aria_hidden="true",
    )


def breakable(text: str) -> Markup:
    """Let a name with underscores go over several lines."""
    first, *others = text.split("_")
    return join(first, *(join("_", element("wbr"), part) for part in others))


def _line(start: float, end: float, kind: str) -> Markup:
    return element("line", x1=f"{start:.3f}%", x2=f"{end:.3f}%", y1=_MIDDLE, y2=_MIDDLE, class_=kind)


def _upright(place: float, kind: str) -> Markup:
    return element("line", x1=f"{place:.3f}%", x2=f"{place:.3f}%", y1="2", y2=_HEIGHT - 2, class_=kind)
