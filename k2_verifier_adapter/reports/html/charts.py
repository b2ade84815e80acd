"""Charts as inline SVG: drawn with percentages, so that they fit a phone as well as a desktop."""

from __future__ import annotations

from k2_verifier_adapter.core.metrics import PRIMARY_METRIC, Metric
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports.html.elements import Markup, element, join
from k2_verifier_adapter.reports.printable import amount, percent
from k2_verifier_adapter.reports.tables import bounds

_HEIGHT = 26
_MIDDLE = _HEIGHT // 2
_TICKS = (0, 25, 50, 75, 100)


def forest_plot(summary: Summary) -> Markup:
    """Draw every rate with its interval, against its threshold and the official model against itself."""
    # On synthetic rows neither says anything.
    synthetic = summary.facts.rows.synthetic
    thresholds = {} if synthetic else {check.metric: check.threshold for check in summary.verdict.checks}
    agreement = None if synthetic else summary.self_agreement
    rows = [
        _forest_row(
            metric,
            thresholds.get(metric.name),
            agreement if metric.name == PRIMARY_METRIC else None,
        )
        for metric in summary.metrics
        if metric.interval is not None and metric.value is not None
    ]
    if not rows:
        return element("p", "No rate is defined: no response completed.")
    return element(
        "figure",
        element("div", *rows, _axis(), class_="forest"),
        element("figcaption", *_legend(bool(thresholds), agreement is not None)),
    )


def _forest_row(metric: Metric, threshold: float | None, agreement: SelfAgreement | None) -> Markup:
    assert metric.interval is not None, "only rates with an interval are drawn"
    assert metric.value is not None, "a value without denominator has no interval"
    low, high, value = metric.interval.low, metric.interval.high, metric.value
    said = f"{metric.name} {amount(metric, value)}, 95% interval {bounds(metric.interval)}"
    drawn = [_line(0, 100, "track"), *(_upright(tick, "grid") for tick in _TICKS)]
    if agreement is not None:
        said += (
            f"; the official model against itself {percent(agreement.lowest)} to {percent(agreement.mean)}"
        )
        width = max(0.6, 100 * (agreement.mean - agreement.lowest))
        drawn.append(
            element("rect", x=_at(agreement.lowest), y="2", width=f"{width:.2f}%", height="22", class_="self")
        )
    if threshold is not None:
        said += f"; threshold {percent(threshold)}"
        drawn.append(_upright(100 * threshold, "threshold"))
    drawn += [
        _line(100 * low, 100 * high, "interval"),
        element("circle", cx=_at(value), cy=_MIDDLE, r="5", class_="value"),
    ]
    picture = element("svg", *drawn, role="img", aria_label=said, height=_HEIGHT, class_="plot")
    return element(
        "div",
        element("div", breakable(metric.name), class_="name", aria_hidden="true"),
        picture,
        element("div", element("b", amount(metric, value)), aria_hidden="true", class_="num"),
        class_="row",
    )


def _axis() -> Markup:
    anchors = {0: "start", 100: "end"}
    ticks = [
        element("text", f"{tick}%", x=f"{tick}%", y="12", text_anchor=anchors.get(tick, "middle"))
        for tick in _TICKS
    ]
    axis = element("svg", *ticks, height="16", class_="plot axis", aria_hidden="true")
    return element("div", element("div"), axis, element("div"), class_="row")


def _legend(has_threshold: bool, has_agreement: bool) -> list[Markup]:  # noqa: FBT001 - two switches
    shown = [("value", "value"), ("interval", "95% interval")]
    if has_threshold:
        shown.append(("threshold", "threshold"))
    if has_agreement:
        shown.append(("self", "the official model against itself, lowest to mean"))
    drawn = {
        "value": element("circle", cx="9", cy="7", r="5", class_="value"),
        "interval": element("line", x1="0", x2="18", y1="7", y2="7", class_="interval"),
        "threshold": element("line", x1="9", x2="9", y1="0", y2="14", class_="threshold"),
        "self": element("rect", x="5", y="0", width="8", height="14", class_="self"),
    }
    return [
        element("span", element("svg", drawn[kind], width="18", height="14", aria_hidden="true"), text)
        for kind, text in shown
    ]


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


def _at(share: float) -> str:
    return f"{100 * share:.3f}%"


def _line(start: float, end: float, kind: str) -> Markup:
    return element("line", x1=f"{start:.3f}%", x2=f"{end:.3f}%", y1=_MIDDLE, y2=_MIDDLE, class_=kind)


def _upright(place: float, kind: str) -> Markup:
    return element("line", x1=f"{place:.3f}%", x2=f"{place:.3f}%", y1="2", y2=_HEIGHT - 2, class_=kind)
