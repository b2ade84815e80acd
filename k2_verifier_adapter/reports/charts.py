"""Charts as inline SVG: drawn with percentages, so that they fit a phone as well as a desktop."""

from __future__ import annotations

from collections.abc import Callable

from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.document import Mark
from k2_verifier_adapter.reports.elements import Markup, element

_HEIGHT = 26
_MIDDLE = _HEIGHT // 2

Place = Callable[[float], float]
"""Gives the place of a value, in percent of the width."""


def forest(plot: doc.Plot) -> Markup:
    """Draw estimates with their intervals above one axis."""
    low, high = plot.ticks[0][0], plot.ticks[-1][0]

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    grid = [_upright(place(tick), "grid") for tick, _ in plot.ticks]
    rows = [_row(row, place, grid) for row in plot.rows]
    return element(
        "figure",
        element("div", *rows, _axis(plot, place), class_="forest"),
        element("figcaption", *(_sign(mark, text) for mark, text in plot.legend.items())),
    )


def _row(row: doc.Estimate, place: Place, grid: list[Markup]) -> Markup:
    drawn = [_line(0, 100, "track"), *grid]
    if row.band is not None:
        start, end = map(place, row.band)
        width = f"{max(0.6, end - start):.2f}%"
        drawn.append(element("rect", x=f"{start:.3f}%", y="2", width=width, height="22", class_="band"))
    drawn += [_upright(place(value), mark.value) for value, mark in row.uprights]
    drawn += [
        _line(place(row.low), place(row.high), "interval"),
        element("circle", cx=f"{place(row.value):.3f}%", cy=_MIDDLE, r="5", class_="value"),
    ]
    name = element("div", element("b", row.key), " ", row.name, class_="name", aria_hidden="true")
    picture = element("svg", *drawn, role="img", aria_label=row.said, height=_HEIGHT, class_="plot")
    number = element("div", element("b", row.shown), aria_hidden="true", class_="number")
    return element("div", name, picture, number, class_="row")


def _axis(plot: doc.Plot, place: Place) -> Markup:
    anchors = {0: "start", len(plot.ticks) - 1: "end"}
    labels = [
        element("text", label, x=f"{place(tick):g}%", y="12", text_anchor=anchors.get(number, "middle"))
        for number, (tick, label) in enumerate(plot.ticks)
    ]
    drawn = element("svg", *labels, height="16", class_="plot axis", aria_hidden="true")
    return element("div", element("div"), drawn, element("div"), class_="row")


def _sign(mark: Mark, text: str) -> Markup:
    drawn = {
        Mark.VALUE: element("circle", cx="9", cy="7", r="5", class_="value"),
        Mark.INTERVAL: element("line", x1="0", x2="18", y1="7", y2="7", class_="interval"),
        Mark.THRESHOLD: element("line", x1="9", x2="9", y1="0", y2="14", class_="threshold"),
        Mark.ZERO: element("line", x1="9", x2="9", y1="0", y2="14", class_="zero"),
        Mark.BAND: element("rect", x="5", y="0", width="8", height="14", class_="band"),
    }
    return element("span", element("svg", drawn[mark], width="18", height="14", aria_hidden="true"), text)


def bar(share: float) -> Markup:
    """Draw a bar; the number stands beside it."""
    drawn = element("rect", x="0", y="0", width=f"{max(0.5, 100 * share):.2f}%", height="12", rx="2")
    return element("svg", drawn, class_="bar", height="12", aria_hidden="true")


def _line(start: float, end: float, kind: str) -> Markup:
    return element("line", x1=f"{start:.3f}%", x2=f"{end:.3f}%", y1=_MIDDLE, y2=_MIDDLE, class_=kind)


def _upright(place: float, kind: str) -> Markup:
    return element("line", x1=f"{place:.3f}%", x2=f"{place:.3f}%", y1="2", y2=_HEIGHT - 2, class_=kind)
