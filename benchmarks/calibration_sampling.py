"""How much steadier is a run of a subset that holds the share of official calls of the full set?"""

from __future__ import annotations

from itertools import product
from typing import Any

from calibration_rules import STANDARDS
from candidates import logit_exact
from sampling import DRAWN, FIXED, Draws, Vendor, draw
from tables import percent, table

Cells = list[dict[str, Any]]

CASES = (50, 100, 200)


def sample(draws: Draws) -> Cells:
    """Draw runs of a faithful vendor over drawn cases and over stratified ones."""
    cells = []
    for standard, cases, design in product(STANDARDS, CASES, (DRAWN, FIXED)):
        counts = draw(draws.rng, Vendor(cases, standard.base, standard.faithful), design, draws.repetitions)
        low, high = logit_exact(counts.hits, counts.n)
        value = 2 * counts.hits / (counts.hits + counts.n)
        cells.append(
            {"subset": standard.subset, "cases": cases, "design": design}
            | {
                "spread": float(value.std()),
                "upstream_missed": float((value < standard.threshold).mean()),
                "strict_pass": float((low >= standard.threshold).mean()),
                "strict_fail": float((high < standard.threshold).mean()),
                "coverage": float(((low <= counts.truth) & (counts.truth <= high)).mean()),
            }
        )
    return cells


def sample_tables(cells: Cells) -> list[str]:
    """Show spread, verdicts and coverage, drawn beside stratified."""
    measures = ("spread", "upstream_missed", "strict_pass", "strict_fail", "coverage")
    names = ("standard deviation of F1", "upstream not met", "strict pass", "strict fail", "coverage")
    head = ["subset", "cases", *(f"{name}, {design}" for name in names for design in (DRAWN, FIXED))]
    rows = []
    for standard, cases in product(STANDARDS, CASES):
        of = {
            cell["design"]: cell
            for cell in cells
            if (cell["subset"], cell["cases"]) == (standard.subset, cases)
        }
        shares = [percent(of[design][measure]) for measure in measures for design in (DRAWN, FIXED)]
        rows.append([standard.subset, f"{cases:,}", *shares])
    return ["A faithful vendor; fixed: a stratified subset; in %:", "", *table(head, rows)]
