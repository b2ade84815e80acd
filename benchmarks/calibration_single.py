"""Does the interval of trigger_similarity hold its rate? One run at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
from candidates import (
    BOOTSTRAP,
    CHOSEN,
    CLOSED,
    NEXT_BEST,
    Array,
    Bounds,
    bootstrap,
    logit_exact,
    wilson_rate,
)
from sampling import DRAWN, FIXED, Counts, Draws, Vendor, draw, repeated_answers
from tables import percent, span, table

CASES = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000)
F1S = (0.5, 0.6, 0.7, 0.73, 0.76, 0.8, 0.84, 0.9, 0.95, 0.98, 0.99)
BASES = (0.5, 0.32, 0.1)
"""Shares of official calls: of K2-Thinking's set (1,958 of 4,000), of K2-0905's (1,274), and a skewed one."""

ENOUGH = 200
WANTED = (0.94, 0.97)
BOOTSTRAP_BASE = 0.5
MOST_BOOTSTRAPPED = 10_000

REPEATED_CASES = (50, 200, 1000)
REPEATS = (1, 3, 5)
REPEATED_F1S = (0.76, 0.9)
MOST_REPEATED = 10_000
AT_ONCE = 1000

Cells = list[dict[str, Any]]


def intervals(draws: Draws) -> Cells:
    """Draw runs of every vendor, and see how often each candidate holds its F1."""
    cells = []
    for design, base, cases, f1 in product((DRAWN, FIXED), BASES, CASES, F1S):
        counts = draw(draws.rng, Vendor(cases, base, f1), design, draws.repetitions)
        hits, n, times = _distinct(counts)
        found = {name: _held(candidate(hits, n), counts, times) for name, candidate in CLOSED.items()}
        if (design, base) == (DRAWN, BOOTSTRAP_BASE):
            found[BOOTSTRAP] = _bootstrapped(counts, cases, draws.rng)
        cells.append(
            {"design": design, "base": base, "cases": cases, "f1": f1, "undefined": counts.undefined}
            | {"methods": found}
        )
    return cells


def _distinct(counts: Counts) -> tuple[Array, Array, Array]:
    """Give every outcome that was drawn once, and how often it was drawn."""
    both = np.stack([counts.hits, counts.n])
    outcomes, times = np.unique(both, axis=1, return_counts=True)
    return outcomes[0], outcomes[1], times.astype(float)


def _held(bounds: Bounds, counts: Counts, times: Array) -> dict[str, float]:
    low, high = bounds
    share = times / times.sum()
    above, below = float(share @ (low > counts.truth)), float(share @ (high < counts.truth))
    return {
        "coverage": 1 - above - below,
        "above": above,
        "below": below,
        "width": float(share @ (high - low)),
    }


def _bootstrapped(counts: Counts, cases: int, rng: np.random.Generator) -> dict[str, float]:
    hits, n = counts.hits[:MOST_BOOTSTRAPPED], counts.n[:MOST_BOOTSTRAPPED]
    found = [
        bootstrap(hits[start : start + AT_ONCE], n[start : start + AT_ONCE], cases, rng)
        for start in range(0, len(hits), AT_ONCE)
    ]
    low, high = (np.concatenate(bounds) for bounds in zip(*found, strict=True))
    return _held((low, high), counts, np.ones(len(hits)))


def _of(cells: Cells, name: str, measure: str = "coverage", **fixed: Any) -> Iterator[float]:
    for cell in cells:
        if name in cell["methods"] and all(cell[key] == value for key, value in fixed.items()):
            yield cell["methods"][name][measure]


def intervals_tables(cells: Cells) -> list[str]:
    """Show the least coverage below `ENOUGH` cases, the range from there on, and the width."""
    lines = []
    for base in (0.5, 0.1):
        lines += [f"Coverage in %, cases drawn, {percent(base, 0)} % official calls:", ""]
        lines += table(_HEAD, _rows(cells, (*CLOSED, BOOTSTRAP), {"design": DRAWN, "base": base}))
    lines += [f"The bootstrap: at most {MOST_BOOTSTRAPPED:,} runs of each cell.", ""]
    lines += ["Coverage in % of the chosen interval and the next best, wherever:", ""]
    head = ["interval", "official decisions", "official calls", *_HEAD[1:]]
    rows = []
    for name, design, base in product((CHOSEN, NEXT_BEST), (DRAWN, FIXED), BASES):
        (row,) = _rows(cells, (name,), {"design": design, "base": base})
        rows.append([name, design, f"{percent(base, 0)} %", *row[1:]])
    lines += table(head, rows)
    lines += ["One-sided errors in % of the chosen interval, most over all F1 (nominal 2.5):", ""]
    head = [
        "cases",
        *(f"{side}, {percent(base, 0)} % calls" for base in BASES for side in ("above", "below")),
    ]
    sides = [(base, side) for base in BASES for side in ("above", "below")]
    lines += table(
        head,
        [
            [
                f"{cases:,}",
                *(
                    percent(max(_of(cells, CHOSEN, side, design=DRAWN, base=base, cases=cases)))
                    for base, side in sides
                ),
            ]
            for cases in CASES
        ],
    )
    return lines


_HEAD = ["interval", "n = 10", "20", "50", "100", f"n ≥ {ENOUGH}", "mean width at 50", "at 200"]


def _rows(cells: Cells, names: Iterable[str], fixed: dict[str, Any]) -> Iterator[list[str]]:
    for name in names:
        if not list(_of(cells, name, **fixed)):
            continue
        least = [percent(min(_of(cells, name, cases=cases, **fixed))) for cases in CASES if cases < ENOUGH]
        enough = [
            value for cases in CASES if cases >= ENOUGH for value in _of(cells, name, cases=cases, **fixed)
        ]
        within = min(enough) >= WANTED[0] and max(enough) <= WANTED[1]
        widths = [np.mean(list(_of(cells, name, "width", cases=cases, **fixed))) for cases in (50, 200)]
        yield [
            name,
            *least,
            f"**{span(enough)}**" if within else span(enough),
            *(percent(float(width)) for width in widths),
        ]


def repeats(draws: Draws) -> Cells:
    """Ask each case several times, and see what the clustered interval holds."""
    cells = []
    for cases, times, f1 in product(REPEATED_CASES, REPEATS, REPEATED_F1S):
        found: dict[str, list[Bounds]] = {"clustered": [], "as if independent": []}
        runs = min(draws.repetitions, MOST_REPEATED)
        for _ in range(0, runs, AT_ONCE):
            size = min(AT_ONCE, runs)
            calls, should_call = repeated_answers(draws.rng, Vendor(cases, 0.5, f1), times, size)
            hits, n, effective = clustered_counts(calls, should_call, times)
            found["clustered"].append(logit_exact(hits / n * effective, effective))
            found["as if independent"].append(logit_exact(hits, n))
        for name, bounds in found.items():
            low, high = (np.concatenate(side) for side in zip(*bounds, strict=True))
            cells.append(
                {"cases": cases, "repeats": times, "f1": f1, "interval": name}
                | {
                    "coverage": float(((low <= f1) & (f1 <= high)).mean()),
                    "width": float((high - low).mean()),
                }
            )
    return cells


def clustered_counts(
    calls: np.ndarray[Any, Any], should_call: np.ndarray[Any, Any], repeats: int
) -> tuple[Array, Array, Array]:
    """Give TP, TP + FP + FN and its effective size of runs whose cases were asked several times."""
    t = calls * should_call
    u = np.where(should_call, repeats, calls)
    hits, n = t.sum(1).astype(float), u.sum(1).astype(float)
    return hits, n, n / np.maximum(1.0, design_effect(t, u))


def design_effect(x: Array, n: Array, added: float = 1.0) -> Array:
    """Give the design effect of clusters of the sums `x` of `n`, those of either end added."""
    size = n.sum(1) / np.maximum((n > 0).sum(1), 1)
    value = (x.sum(1) + added * size) / (n.sum(1) + 2 * added * size)
    spread = ((x - value[:, None] * n) ** 2).sum(1) + added * size**2 * (value**2 + (1 - value) ** 2)
    return np.asarray(spread / ((n.sum(1) + 2 * added * size) * value * (1 - value)))


def repeats_tables(cells: Cells) -> list[str]:
    """Show coverage and width by cases and repeats."""
    rows = []
    for f1, cases, times in product(REPEATED_F1S, REPEATED_CASES, REPEATS):
        chosen = {
            cell["interval"]: cell
            for cell in cells
            if (cell["f1"], cell["cases"], cell["repeats"]) == (f1, cases, times)
        }
        clustered, plain = chosen["clustered"], chosen["as if independent"]
        rows.append(
            [
                f"{f1:.2f}",
                f"{cases:,}",
                str(times),
                percent(clustered["coverage"]),
                percent(clustered["width"]),
                percent(plain["coverage"]),
            ]
        )
    head = ["F1", "cases", "repeats", "coverage, clustered", "mean width", "coverage, as if independent"]
    return [f"At most {MOST_REPEATED:,} runs of each cell.", "", *table(head, rows)]


# --- clusters: validity that is alike within a case -----------------------------------------------


ACCURACIES = (0.9, 0.95, 0.98)
ALIKE = (0.1, 0.5, 0.9)
CLUSTERED_REPEATS = (3, 10)
_U_SHAPED = (0.46, 0.46)
"""The cases' probabilities of a call: as in `vendors` for k2_thinking."""


def clusters(draws: Draws) -> Cells:
    """Ask each case several times of a vendor whose calls to one case are alike, and see what is held."""
    cells = []
    for accuracy, cases, times in product(ACCURACIES, REPEATED_CASES, CLUSTERED_REPEATS):
        for alike in ALIKE:
            held = above = 0.0
            runs = min(draws.repetitions, MOST_REPEATED)
            for start in range(0, runs, AT_ONCE):
                shape = min(AT_ONCE, runs - start), cases
                calls = draws.rng.binomial(times, draws.rng.beta(*_U_SHAPED, shape)).astype(float)
                spread = 1 / alike - 1
                validity = draws.rng.beta(accuracy * spread, (1 - accuracy) * spread, shape)
                valid = draws.rng.binomial(calls.astype(int), validity).astype(float)
                n = calls.sum(1)
                effective = n / np.maximum(1.0, design_effect(valid, calls))
                low, high = wilson_rate(valid.sum(1) / n, effective)
                held += float(((low <= accuracy) & (accuracy <= high)).sum())
                above += float((low > accuracy).sum())
            cells.append(
                {"accuracy": accuracy, "cases": cases, "repeats": times, "alike": alike}
                | {"coverage": held / runs, "above": above / runs}
            )
    return cells


def clusters_tables(cells: Cells) -> list[str]:
    """Show the least coverage over how alike the calls of a case are."""
    rows = []
    for key in product(ACCURACIES, REPEATED_CASES, CLUSTERED_REPEATS):
        of = [cell for cell in cells if (cell["accuracy"], cell["cases"], cell["repeats"]) == key]
        least, most = min(cell["coverage"] for cell in of), max(cell["above"] for cell in of)
        rows.append([f"{key[0]:.2f}", f"{key[1]:,}", str(key[2]), percent(least), percent(most)])
    head = ["accuracy", "cases", "repeats", "coverage, least", "whole interval above the truth, most"]
    return ["schema_accuracy, correlation within a case 0.1, 0.5 and 0.9:", "", *table(head, rows)]


# --- shares: the mean agreement of arguments ------------------------------------------------------

SHARES = (
    ("1 % at 0, else 0.95 - 1", 0.01, 0.95),
    ("3 % at 0, else 0.95 - 1", 0.03, 0.95),
    ("5 % at 0, else 0.9 - 1", 0.05, 0.9),
    ("2 % at 0, else 1", 0.02, 1.0),
    ("0.5 % at 0, else 0.98 - 1", 0.005, 0.98),
)
PAIRED_CASES = (20, 50, 100, 200, 1000)


def shares(draws: Draws) -> Cells:
    """Draw agreements of which most are near 1 and few are 0, and see what the interval of the mean holds."""
    cells = []
    runs = min(draws.repetitions, MOST_REPEATED)
    for (name, none, least), cases in product(SHARES, PAIRED_CASES):
        truth = (1 - none) * (1 + least) / 2
        held: dict[str, float] = {}
        for start in range(0, runs, AT_ONCE):
            shape = min(AT_ONCE, runs - start), cases
            drawn = np.where(
                draws.rng.random(shape) < none, 0.0, least + (1 - least) * draws.rng.random(shape)
            )
            mean = drawn.mean(1)
            for added in (0.0, 1.0, 2.0):
                effect = design_effect(drawn, np.ones(shape), added) if added else _plain_effect(drawn)
                low, high = wilson_rate(mean, cases / effect)
                key = f"{added:g}"
                held[key] = held.get(key, 0.0) + float(((low <= truth) & (truth <= high)).sum())
        cells.append({"shares": name, "cases": cases} | {key: value / runs for key, value in held.items()})
    return cells


def _plain_effect(drawn: Array) -> Array:
    """Give the variance of shares over that of yes and no, as it was before; 1 where there is none."""
    mean = drawn.mean(1)
    variance, binomial = drawn.var(1, ddof=1), mean * (1 - mean)
    known = (variance > 0) & (binomial > 0)
    return np.where(known, variance / np.where(known, binomial, 1.0), 1.0)


def shares_tables(cells: Cells) -> list[str]:
    """Show the coverage without added shares, with one of either end, and with two."""
    head = ["shares", "cases", "coverage, none added", "one of either end added", "two"]
    rows = [
        [cell["shares"], f"{cell['cases']:,}", *(percent(cell[key]) for key in ("0", "1", "2"))]
        for cell in cells
    ]
    return ["Interval of the mean of shares; in %:", "", *table(head, rows)]
