"""Two runs over the same cases: does the interval of their difference hold, and what can be told apart?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from calibration_single import BASES
from candidates import TAIL, Array, Bounds, Z, logit_exact
from sampling import KINDS, Draws, pair_probabilities
from tables import percent, table

Cells = list[dict[str, Any]]

CASES = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000)
TOGETHER = (0.0, 0.35, 0.8, 0.98)
"""Correlations of the errors of two runs: none; both unsure in the same cases; nearly the same vendor."""

F1S = (
    (0.5, 0.5),
    (0.76, 0.76),
    (0.76, 0.7),
    (0.84, 0.8),
    (0.9, 0.6),
    (0.95, 0.95),
    (0.95, 0.92),
    (0.99, 0.99),
)
ENOUGH = 200
CHOSEN = "delta method, two cases added"
PLAIN = "delta method"
MOVER = "of two single intervals (MOVER)"
BOOTSTRAP = "bootstrap, percentile"
BOOTSTRAPPED_AT = (0.5, 0.35)
BOOTSTRAPPED_F1S = ((0.76, 0.76), (0.95, 0.92))
"""Where the bootstrap, which takes long, is tried as well: share of official calls, correlation, F1."""

RESAMPLES = 500
MOST_BOOTSTRAPPED = 10_000
AT_ONCE = 200

POWER_CASES = (100, 200, 500, 1000, 2000, 4000)
EQUAL = (0.76, 0.84, 0.95)
TOLD = (0.95, 0.92)
SHARES_TOLD = (0.8, 0.9)
STEPS = np.arange(0.005, 0.4001, 0.0025)

MARGIN = 0.03
WORSE_BY = (0.0, 0.01, 0.03, 0.06, 0.10)

_SHOULD_CALL, _FIRST_WRONG, _SECOND_WRONG = np.array(KINDS, dtype=float).T
_DIFFERING = _FIRST_WRONG != _SECOND_WRONG


class Pairs:
    """Pairs of runs, each given by the number of its cases of each kind.

    Attributes:
        counts: Cases by pair and kind.
        value: F1 of the first less F1 of the second.
        defined: Whether both F1 are defined.
    """

    def __init__(self, counts: Array) -> None:
        self.counts = counts.astype(float)
        self._n = self.counts.sum(1)
        self._runs = [self._moves(wrong) for wrong in (_FIRST_WRONG, _SECOND_WRONG)]
        (first, _, _, n_first), (second, _, _, n_second) = self._runs
        self.value = first - second
        self.defined = (n_first > 0) & (n_second > 0)

    def _moves(self, wrong: Array) -> tuple[Array, Array, Array, Array]:
        """Give F1, how far each kind of case moves it, TP and TP + FP + FN."""
        t = _SHOULD_CALL * (1 - wrong)
        u = np.maximum(_SHOULD_CALL, wrong)
        hits, n = self.counts @ t, self.counts @ u
        total = np.maximum(hits + n, 1)
        moves = 2 * (n[:, None] * t - hits[:, None] * u) / total[:, None] ** 2
        return 2 * hits / total, moves, hits, n

    def error(self, added: float) -> Array:
        """Give the standard error by the delta method, cases added to each way of differing."""
        squares = (self._runs[0][1] - self._runs[1][1]) ** 2
        cases = self.counts + added * _DIFFERING
        return np.sqrt((cases * squares).sum(1) * self._n / np.maximum(self._n - 1, 1))

    def delta(self, added: float) -> Bounds:
        """Give the bounds that follow from `error`."""
        half = Z * self.error(added)
        return np.maximum(self.value - half, -1), np.minimum(self.value + half, 1)

    def mover(self) -> Bounds:
        """Put the distances to the bounds of the single intervals together, correlated as the moves are."""
        (first, one, *of_first), (second, other, *of_second) = self._runs
        spread = [(self.counts * moves**2).sum(1) for moves in (one, other)]
        both = np.sqrt(np.where(spread[0] * spread[1] > 0, spread[0] * spread[1], 1))
        r = np.clip((self.counts * one * other).sum(1) / both, -1, 1)
        (low_1, high_1), (low_2, high_2) = (
            logit_exact(hits, np.maximum(n, 1)) for hits, n in (of_first, of_second)
        )
        down, up = (first - low_1, high_2 - second), (high_1 - first, second - low_2)
        sides = [np.sqrt(np.maximum(a * a - 2 * r * a * b + b * b, 0)) for a, b in (down, up)]
        return self.value - sides[0], self.value + sides[1]


def draw_pairs(draws: Draws, cases: int, probabilities: Array) -> Pairs:
    return Pairs(draws.rng.multinomial(cases, probabilities, size=draws.repetitions))


def _bootstrapped(found: Pairs, cases: int, rng: np.random.Generator) -> Bounds:
    bounds = []
    for start in range(0, MOST_BOOTSTRAPPED, AT_ONCE):
        shares = found.counts[start : start + AT_ONCE] / cases
        if len(shares):
            again = rng.multinomial(cases, shares, size=(RESAMPLES, len(shares)))
            values = Pairs(again.reshape(-1, len(KINDS))).value.reshape(RESAMPLES, -1)
            bounds.append(np.quantile(values, [TAIL, 1 - TAIL], axis=0))
    low, high = np.concatenate(bounds, axis=1)
    return low, high


def pairs(draws: Draws) -> Cells:
    """Draw pairs of vendors, and see how often the interval holds the true difference."""
    cells = []
    for base, together, f1, cases in product(BASES, TOGETHER, F1S, CASES):
        found = draw_pairs(draws, cases, pair_probabilities(base, *f1, together))
        methods = {PLAIN: found.delta(0), CHOSEN: found.delta(0.5), MOVER: found.mover()}
        if (base, together) == BOOTSTRAPPED_AT and f1 in BOOTSTRAPPED_F1S:
            methods[BOOTSTRAP] = _bootstrapped(found, cases, draws.rng)
        cells.append(
            {"base": base, "together": together, "first": f1[0], "second": f1[1], "cases": cases}
            | {"methods": {name: _held(bounds, found, f1[0] - f1[1]) for name, bounds in methods.items()}}
        )
    return cells


def _held(bounds: Bounds, found: Pairs, truth: float) -> dict[str, float]:
    low, high = bounds
    defined = found.defined[: len(low)]
    # Runs that are exactly alike in truth are held by an interval of no width.
    held = (low <= truth + 1e-12) & (high >= truth - 1e-12)
    return {"coverage": float(held[defined].mean()), "width": float((high - low)[defined].mean())}


def pairs_tables(cells: Cells) -> list[str]:
    """Show the least coverage, and the range from `ENOUGH` cases on."""
    head = ["interval", "errors in the same cases", *(f"n = {cases:,}" for cases in CASES if cases <= ENOUGH)]
    head += [f"n ≥ {ENOUGH}: least, mean"]
    rows = []
    for name, together in product((CHOSEN, MOVER, PLAIN, BOOTSTRAP), TOGETHER):
        of = [cell for cell in cells if name in cell["methods"] and cell["together"] == together]
        if not of:
            continue
        coverage = {
            cases: [cell["methods"][name]["coverage"] for cell in of if cell["cases"] == cases]
            for cases in CASES
        }
        enough = [value for cases in CASES if cases >= ENOUGH for value in coverage[cases]]
        least = [percent(min(coverage[cases])) for cases in CASES if cases <= ENOUGH]
        rows.append(
            [name, f"{together:g}", *least, f"{percent(min(enough))}, {percent(float(np.mean(enough)))}"]
        )
    bootstrapped = ", ".join(f"{first:g} and {second:g}" for first, second in BOOTSTRAPPED_F1S)
    note = f"The bootstrap: F1 {bootstrapped} at {percent(BOOTSTRAPPED_AT[0], 0)} % official calls only, "
    note += f"at most {MOST_BOOTSTRAPPED:,} runs of each cell."
    return [
        "Coverage in %, least over all F1 and shares of official calls:",
        "",
        *table(head, rows),
        note,
        "",
    ]


def _told(found: Pairs) -> Array:
    """Whether the interval leaves out 0, and on which side: -1, 0 or 1."""
    low, high = found.delta(0.5)
    return np.where(low > 0, 1.0, np.where(high < 0, -1.0, 0.0))


def power(draws: Draws) -> Cells:
    """See how often equal vendors are called different, others told apart, and what can be told at all."""
    cells = []
    for cases, base, together in product(POWER_CASES, (0.5, 0.32), (0.0, 0.35, 0.8)):
        cell: dict[str, Any] = {"cases": cases, "base": base, "together": together}
        for f1 in EQUAL:
            found = _told(draw_pairs(draws, cases, pair_probabilities(base, f1, f1, together)))
            cell[f"equal_{f1}"] = float((found != 0).mean())
        found = _told(draw_pairs(draws, cases, pair_probabilities(base, *TOLD, together)))
        cell["told"] = float((found > 0).mean())
        for f1, share in product((0.76, 0.84), SHARES_TOLD):
            cell[f"smallest_{f1}_{share}"] = _smallest(draws, cell, f1, share)
        cells.append(cell)
    return cells


def _smallest(draws: Draws, cell: dict[str, Any], f1: float, share: float) -> float | None:
    """Find the smallest difference that is told in so many pairs, by halving the steps."""

    def told(step: int) -> bool:
        probabilities = pair_probabilities(cell["base"], f1, f1 - STEPS[step], cell["together"])
        return bool((_told(draw_pairs(draws, cell["cases"], probabilities)) > 0).mean() >= share)

    low, high = -1, len(STEPS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return None if high == len(STEPS) else round(float(STEPS[high]), 4)


def power_tables(cells: Cells) -> list[str]:
    """Show false alarms and power."""
    lines = []
    for base in (0.5, 0.32):
        lines += [f"{percent(base, 0)} % official calls; shares of pairs in %, differences in points:", ""]
        head = ["cases", "errors in the same cases", *(f"equal at {f1:.2f} called different" for f1 in EQUAL)]
        head += [f"{TOLD[0]} told from {TOLD[1]}"]
        head += [f"told in {percent(share, 0)} % at {f1:.2f}" for f1 in (0.76, 0.84) for share in SHARES_TOLD]
        rows = []
        for cell in cells:
            if cell["base"] == base:
                smallest = [cell[f"smallest_{f1}_{share}"] for f1 in (0.76, 0.84) for share in SHARES_TOLD]
                rows.append(
                    [f"{cell['cases']:,}", f"{cell['together']:g}"]
                    + [percent(cell[f"equal_{f1}"]) for f1 in EQUAL]
                    + [percent(cell["told"])]
                    + ["-" if value is None else percent(value, 2) for value in smallest]
                )
        lines += table(head, rows)
    return lines


def margin(draws: Draws) -> Cells:
    """See how often a run passes or fails against its baseline, at the default margin."""
    cells = []
    for f1, together, cases, worse in product((0.76, 0.95), (0.35, 0.8), CASES, WORSE_BY):
        found = draw_pairs(draws, cases, pair_probabilities(0.5, f1 - worse, f1, together))
        low, high = found.delta(0.5)
        cells.append(
            {"f1": f1, "together": together, "cases": cases, "worse_by": worse}
            | {"passes": float((low >= -MARGIN).mean()), "fails": float((high < -MARGIN).mean())}
        )
    return cells


def margin_tables(cells: Cells) -> list[str]:
    """Show passes and fails by how much worse the run truly is."""
    lines = []
    for f1, together in product((0.76, 0.95), (0.35, 0.8)):
        lines += [f"Baseline at {f1:.2f}, errors in the same cases {together:g}; passes / fails in %:", ""]
        head = [
            "cases",
            *("as good" if not worse else f"{percent(worse, 0)} points worse" for worse in WORSE_BY),
        ]
        rows = []
        for cases in CASES:
            of = {
                cell["worse_by"]: cell
                for cell in cells
                if (cell["f1"], cell["together"], cell["cases"]) == (f1, together, cases)
            }
            shares = [f"{percent(of[worse]['passes'])} / {percent(of[worse]['fails'])}" for worse in WORSE_BY]
            rows.append([f"{cases:,}", *shares])
        lines += table(head, rows)
    return lines
