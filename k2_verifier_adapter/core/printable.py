"""Numbers and foreign text for a person's eyes: honest, and harmless to a terminal."""

from __future__ import annotations

import re
from unicodedata import category

from k2_verifier_adapter.core.metrics import CALL_SURPLUS, DEFINITIONS, Metric

_COUNTS = frozenset(definition.name for definition in DEFINITIONS if definition.is_count)


def printable(text: str) -> str:
    """Make foreign text safe to print on one line.

    Line ends, tabs and the other blanks become spaces. What cannot be seen becomes a visible escape: control
    characters, which could steer a terminal, marks that reorder or hide text, lone surrogates, which cannot
    be encoded, letters without a shape, and combining marks beyond those that a script puts on one letter.
    """
    if text.isprintable() and (text.isascii() or not any(map(_may_hide, set(text)))):
        return text
    shown: list[str] = []
    marks = _MOST_MARKS  # None has a letter yet to stand on.
    before = ""
    for character in text:
        is_mark = character.isprintable() and category(character) in _ON_A_LETTER
        if _is_seen(character) and not (is_mark and (marks >= _MOST_MARKS or character == before)):
            shown.append(character)
            marks = marks + 1 if is_mark else _MOST_MARKS if character == " " else 0
        else:
            shown.append(_in_place_of(character))
            marks = _MOST_MARKS
        before = character
    return "".join(shown)


_MOST_MARKS = 4
"""Marks on one letter: Hebrew, Tibetan and Burmese write as many, and none writes one mark twice."""

_ON_A_LETTER = frozenset({"Mn", "Me"})

_WITHOUT_SHAPE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
"""Letters, symbols and marks by category that show nothing: fillers, blanks, variation selectors."""


def _is_seen(character: str) -> bool:
    return character.isprintable() and not _WITHOUT_SHAPE.match(character)


def _may_hide(character: str) -> bool:
    return category(character) in _ON_A_LETTER or not _is_seen(character)


def _in_place_of(character: str) -> str:
    if character in "\t\n\r" or category(character) == "Zs":
        return " "
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def percent(share: float) -> str:
    """Give a share in percent, two decimals; what is not exactly 0 or 1 is never shown as that."""
    text = f"{share:.2%}"
    if text == "100.00%" and share < 1:
        return ">99.99%"
    if text == "0.00%" and share > 0:
        return "<0.01%"
    return text


def percent_beside(share: float, threshold: float) -> str:
    """Give a share in percent, with as many decimals as tell it from a threshold it differs from."""
    for decimals in (2, 3, 4, 6, 8):
        text = f"{share:.{decimals}%}"
        if share == threshold or text != f"{threshold:.{decimals}%}":
            return percent(share) if decimals == 2 else text
    return f"{share!r}"


def amount(metric: Metric, value: float | None) -> str:
    """Give a value of a metric: a number of responses, a share in percent, or why there is none."""
    if value is None:
        return "undefined"
    if metric.name == CALL_SURPLUS:
        return f"{points(value, signed=True)}%"
    return f"{value:,.0f}" if metric.name in _COUNTS else percent(value)


def points(share: float, *, signed: bool = False) -> str:
    """Give a difference of shares in percentage points; what is not exactly 0 is never shown as that."""
    text = f"{100 * share:{'+' if signed else ''}.2f}"
    if float(text) == 0:
        sign = ("+" if share > 0 else "-") if signed or share < 0 else ""
        return "0.00" if share == 0 else f"{sign}<0.01"
    return text


def plural(number: int, noun: str) -> str:
    """Give a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
