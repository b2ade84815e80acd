"""How often do vendors of a known quality meet upstream's rule, and pass or fail the strict one?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from calibration_single import CASES
from candidates import logit_exact, wilson_rate
from sampling import DRAWN, Draws, Vendor, draw
from scipy import stats
from tables import percent, table

Cells = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Standard:
    """What a subset's vendors are held against.

    Attributes:
        subset: The subset.
        threshold: Upstream's threshold.
        base: Share of official calls.
        faithful: F1 of the official model against itself, on average.
        lowest: The same at worst.
    """

    subset: str
    threshold: float
    base: float
    faithful: float
    lowest: float


STANDARDS = (
    Standard("k2_thinking", 0.73, 0.5, 0.76, 0.7581),
    Standard("k2_0905", 0.80, 0.32, 0.84, 0.8271),
)
F1S = (0.5, 0.6, 0.65, 0.68, 0.7, 0.72, 0.73, 0.75, 0.76, 0.77, 0.79, 0.8, 0.81, 0.82, 0.84, 0.9, 0.95, 0.99)
WORSE = (0.03, 0.10, 0.20)
"""How far below the threshold the bad vendors of the tables are."""

CALLS = (5, 10, 25, 50, 100, 250, 500, 1000)
ACCURACIES = (1.0, 0.999, 0.98, 0.95, 0.9, 0.86, 0.72)
MINIMUMS = (0.9, 0.95)


def rules(draws: Draws) -> Cells:
    """Hold drawn runs of every vendor against the thresholds."""
    cells = []
    for standard, cases in product(STANDARDS, CASES):
        bad = {round(standard.threshold - gap, 4) for gap in WORSE}
        for f1 in sorted({*F1S, standard.faithful, standard.lowest, *bad}):
            counts = draw(draws.rng, Vendor(cases, standard.base, f1), DRAWN, draws.repetitions)
            low, high = logit_exact(counts.hits, counts.n)
            defined = 1 - counts.undefined
            passed = float((low >= standard.threshold).mean()) * defined
            failed = float((high < standard.threshold).mean()) * defined
            value = 2 * counts.hits / (counts.hits + counts.n)
            cells.append(
                {"subset": standard.subset, "threshold": standard.threshold, "cases": cases, "f1": f1}
                | {
                    "upstream_met": float((value >= standard.threshold).mean()) * defined,
                    "strict_pass": passed,
                    "strict_fail": failed,
                    "inconclusive": 1 - passed - failed,
                    "undefined": counts.undefined,
                }
            )
    return cells


def rules_tables(cells: Cells) -> list[str]:
    """Show for each subset what becomes of a faithful vendor and of bad ones."""
    lines = []
    for standard in STANDARDS:
        found = {(cell["cases"], cell["f1"]): cell for cell in cells if cell["subset"] == standard.subset}
        bad = [round(standard.threshold - gap, 4) for gap in WORSE]
        share = percent(standard.base, 0)
        title = f"{standard.subset}, threshold {standard.threshold:.2f}, {share} % official calls"
        lines += [f"{title}, a faithful vendor at {standard.faithful:.2f}; in %:", ""]
        head = ["cases", "faithful: upstream not met", "strict pass", "inconclusive", "strict fail"]
        head += [f"{f1:.2f}: {what}" for f1 in bad for what in ("upstream met", "strict fail")]
        rows = []
        for cases in CASES:
            faithful = found[cases, standard.faithful]
            row = [f"{cases:,}", percent(1 - faithful["upstream_met"])]
            row += [percent(faithful[what]) for what in ("strict_pass", "inconclusive", "strict_fail")]
            for f1 in bad:
                row += [percent(found[cases, f1][what]) for what in ("upstream_met", "strict_fail")]
            rows.append(row)
        lines += table(head, rows)
        wrong_pass = max(cell["strict_pass"] for cell in found.values() if cell["f1"] < standard.threshold)
        wrong_fail = max(cell["strict_fail"] for cell in found.values() if cell["f1"] >= standard.threshold)
        extremes = f"a vendor below the threshold passes {percent(wrong_pass)} %, one on it or above fails"
        lines += [f"Most over the whole grid, strict rule: {extremes} {percent(wrong_fail)} %.", ""]
    return lines


def calls(_: Draws) -> Cells:
    """Hold the exact distribution of valid calls against a minimum, by the strict rule."""
    cells = []
    for n, accuracy, minimum in product(CALLS, ACCURACIES, MINIMUMS):
        valid = np.arange(n + 1)
        share = stats.binom.pmf(valid, n, accuracy)
        low, high = wilson_rate(valid / n, np.full(n + 1, float(n)))
        passed, failed = float(share @ (low >= minimum)), float(share @ (high < minimum))
        cells.append(
            {"calls": n, "accuracy": accuracy, "minimum": minimum}
            | {"strict_pass": passed, "strict_fail": failed}
        )
    return cells


def calls_tables(cells: Cells) -> list[str]:
    """Show how often each vendor fails, and how often a flawless one passes."""
    lines = []
    for minimum in MINIMUMS:
        lines += [f"schema_accuracy, minimum {minimum:.2f}, strict rule; in %:", ""]
        head = ["calls", "1.00 passes", *(f"{accuracy:g} fails" for accuracy in ACCURACIES[1:])]
        rows = []
        for n in CALLS:
            of = {
                cell["accuracy"]: cell for cell in cells if (cell["calls"], cell["minimum"]) == (n, minimum)
            }
            fails = [percent(of[accuracy]["strict_fail"]) for accuracy in ACCURACIES[1:]]
            rows.append([f"{n:,}", percent(of[1.0]["strict_pass"]), *fails])
        lines += table(head, rows)
    return lines
