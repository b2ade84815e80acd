"""Pictures beside the numbers of a table: inline SVG with percentages, which fits any width."""

from __future__ import annotations

from collections.abc import Iterator

from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.elements import Markup, element

_HEIGHT = 20
_MIDDLE = _HEIGHT // 2


def picture(drawn: doc.Interval | float, axis: doc.Axis) -> Markup:
    """Draw a bar, or an interval; for the eyes alone, the number stands beside it."""
    signs = _interval(drawn, axis) if isinstance(drawn, doc.Interval) else _bar(drawn, axis)
    return element("svg", *signs, height=_HEIGHT, class_="plot", aria_hidden="true")


def _bar(value: float, axis: doc.Axis) -> Iterator[Markup]:
    yield element("rect", x="0", y="4", width=f"{max(0.5, _place(value, axis)):.2f}%", height="12", rx="2")


def _interval(drawn: doc.Interval, axis: doc.Axis) -> Iterator[Markup]:
    yield _line(axis.low, axis.high, axis, "track")
    if axis.low < 0:
        yield _upright(0, axis, "zero")
    if drawn.band is not None:
        start, end = (_place(value, axis) for value in drawn.band)
        width = f"{max(0.6, end - start):.2f}%"
        yield element("rect", x=f"{start:.3f}%", y="2", width=width, height=_HEIGHT - 4, class_="band")
    if drawn.threshold is not None:
        yield _upright(drawn.threshold, axis, "threshold")
    yield _line(drawn.low, drawn.high, axis, "interval")
    yield element("circle", cx=f"{_place(drawn.value, axis):.3f}%", cy=_MIDDLE, r="4.5", class_="value")


def legend(axis: doc.Axis) -> Iterator[Markup]:
    """Explain what is drawn beside values and their intervals."""
    threshold = element("line", x1="9", x2="9", y1="0", y2="14", class_="threshold")
    band = element("rect", x="5", y="0", width="8", height="14", class_="band")
    for sign, text in ((threshold, axis.threshold), (band, axis.band)):
        if text:
            yield element("span", element("svg", sign, width="18", height="14", aria_hidden="true"), text)


def _place(value: float, axis: doc.Axis) -> float:
    """Give the place of a value, in percent of the width."""
    return 100 * (value - axis.low) / (axis.high - axis.low)


def _line(start: float, end: float, axis: doc.Axis, kind: str) -> Markup:
    x1, x2 = (f"{_place(value, axis):.3f}%" for value in (start, end))
    return element("line", x1=x1, x2=x2, y1=_MIDDLE, y2=_MIDDLE, class_=kind)


def _upright(value: float, axis: doc.Axis, kind: str) -> Markup:
    place = f"{_place(value, axis):.3f}%"
    return element("line", x1=place, x2=place, y1="1", y2=_HEIGHT - 1, class_=kind)
