"""Markdown tables of shares in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table, the first column left and the others right aligned, and an empty line below."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return [*lines, ""]


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def span(shares: Iterable[float]) -> str:
    found = list(shares)
    return f"{percent(min(found))} – {percent(max(found))}"


def error_of(share: float, n: int) -> float:
    """Give the Monte-Carlo standard error of a share of `n` draws."""
    return float(max(share * (1 - share), 0.0) / n) ** 0.5
