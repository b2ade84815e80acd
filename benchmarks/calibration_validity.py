"""Does the paired interval of the difference in the share of valid calls hold?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from candidates import Array, Bounds, Z
from sampling import Draws
from tables import percent, span, table

Cells = list[dict[str, Any]]

CALLS = (10, 25, 50, 100, 250, 500, 1000)
ACCURACIES = ((1.0, 0.99), (1.0, 0.95), (0.99, 0.99), (0.95, 0.95), (0.95, 0.9), (0.96, 0.73), (0.72, 0.72))
TOGETHER = (0.0, 0.5, 0.9)
ADDED = {"delta method, two cases added": 1.0, "delta method": 0.0}
ENOUGH = 100


def validity_bounds(counts: Array, added: float) -> tuple[Array, Bounds]:
    """Give the difference and its bounds, by run of pairs.

    Args:
        counts: Cases in which both calls are valid, only the first, only the second, neither.
        added: Cases added to each of the two ways of differing.
    """
    n = counts.sum(1)
    first, second = counts[:, 1].astype(float), counts[:, 2].astype(float)
    value = (first - second) / n
    squares = (first + added) * (1 - value) ** 2 + (second + added) * (1 + value) ** 2
    squares += (n - first - second) * value**2
    half = Z * np.sqrt(squares / (n * np.maximum(n - 1, 1)))
    return value, (np.maximum(value - half, -1), np.minimum(value + half, 1))


def validity(draws: Draws) -> Cells:
    """Draw pairs of runs whose calls are valid as often as said, and see what the interval holds."""
    cells = []
    for (first, second), together, calls in product(ACCURACIES, TOGETHER, CALLS):
        one, other = 1 - first, 1 - second
        both = min(one * other + together * np.sqrt(one * first * other * second), one, other)
        shares = [1 - one - other + both, other - both, one - both, both]
        counts = draws.rng.multinomial(calls, shares, size=draws.repetitions)
        for name, added in ADDED.items():
            _, (low, high) = validity_bounds(counts, added)
            held = (low <= first - second + 1e-12) & (high >= first - second - 1e-12)
            cells.append(
                {"first": first, "second": second, "together": together, "calls": calls, "interval": name}
                | {"coverage": float(held.mean()), "width": float((high - low).mean())}
            )
    return cells


def validity_tables(cells: Cells) -> list[str]:
    """Show the least coverage by the number of cases in which both call."""
    head = ["interval", *(f"n = {calls}" for calls in CALLS if calls < ENOUGH), f"n ≥ {ENOUGH}"]
    rows = []
    for name in ADDED:
        found = {
            calls: [cell["coverage"] for cell in cells if (cell["interval"], cell["calls"]) == (name, calls)]
            for calls in CALLS
        }
        least = [percent(min(found[calls])) for calls in CALLS if calls < ENOUGH]
        enough = [value for calls in CALLS if calls >= ENOUGH for value in found[calls]]
        rows.append([name, *least, span(enough)])
    return ["Coverage in %, least over all accuracies; where both call:", "", *table(head, rows)]
