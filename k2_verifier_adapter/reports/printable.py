"""Numbers and foreign text for a person's eyes: honest, and harmless to a terminal."""

from __future__ import annotations

from k2_verifier_adapter.core.metrics import DEFINITIONS, Metric

_COUNTS = frozenset(definition.name for definition in DEFINITIONS if definition.is_count)

# C0 and C1 controls, line and paragraph separators, and the marks that reorder text.
_UNSAFE = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, 0x2028, 0x2029]
_UNSAFE += [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNSAFE}
_ESCAPES.update({ord("\n"): " ", ord("\r"): " ", ord("\t"): " "})


def printable(text: str) -> str:
    """Make foreign text safe to print on one line.

    Line ends and tabs become spaces; other control characters, which could steer a terminal, and
    lone surrogates, which cannot be encoded, become visible escapes.
    """
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


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
    return f"{value:,.0f}" if metric.name in _COUNTS else percent(value)


def plural(number: int, noun: str) -> str:
    """Give a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
