"""How often does a history of a vendor that never changes say that it did, and how soon is a change seen?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from candidates import Array
from sampling import Draws
from tables import error_of, percent, table
from vendors import FAITHFUL, SUBSETS, Kind, tempered

from k2_verifier_adapter.core.comparison.history import Measure
from k2_verifier_adapter.core.statistics.changes import ERROR, ChangePoint, changes_of

Cells = list[dict[str, Any]]

CASES = SUBSETS[0].cases()
ROWS = (100, 200, 500, 2_000)
NIGHTS = 100
CHANGED = 19
"""Nights before the change."""

PATIENCE = 40
"""Nights from the change on in which it is looked for."""

MOST_ANSWERS = 40_000_000
"""Answers drawn for one cell: fewer histories of many rows."""

ENOUGH = 0.1
"""Share of the histories in which a change must be seen for its place to be told of."""

KINDS = (
    Kind("drops 5 % of its calls", lambda p: 0.95 * p),
    Kind("drops 10 % of its calls", lambda p: 0.9 * p),
    Kind("drops 20 % of its calls", lambda p: 0.8 * p),
    Kind("temperature doubled", lambda p: tempered(p, 0.5)),
    Kind("5 % of the calls invalid", lambda p: p, accuracy=0.95),
    Kind("a quarter of the calls invalid", lambda p: p, accuracy=0.75),
)


def history(draws: Draws) -> Cells:
    """Follow vendors night by night over the same rows: ones that stay, and ones that change."""
    return _followed(draws, by_case=True)


def history_of_reports(draws: Draws) -> Cells:
    """Follow the same by the sums that their reports hold."""
    return _followed(draws, by_case=False)


def _followed(draws: Draws, *, by_case: bool) -> Cells:
    found = []
    for rows, kind in product(ROWS, (FAITHFUL, *KINDS)):
        steady = kind is FAITHFUL
        nights = NIGHTS if steady else CHANGED + PATIENCE
        wanted = draws.repetitions // (10 if steady else 50)
        repetitions = max(1, min(wanted, MOST_ANSWERS // (rows * nights)))
        cell: dict[str, Any] = {
            "rows": rows,
            "vendor": kind.name,
            "histories": repetitions,
            "alarms": 0,
            "false": 0,
        }
        seen, named, held = [], [], []
        for _ in range(repetitions):
            changes = _changes(draws.rng, rows, kind, nights, by_case=by_case)
            too_early = [item for item in changes if steady or item.seen_at < CHANGED]
            cell["alarms"] += len(too_early)
            cell["false"] += bool(too_early)
            shown = [item for item in changes if item.seen_at >= CHANGED]
            if shown and not steady:
                first = min(shown, key=lambda item: item.seen_at)
                seen.append(first.seen_at - CHANGED + 1)
                named.append(abs(first.since - CHANGED))
                held.append(first.earliest <= CHANGED <= first.latest)
        after = sorted(seen) + [PATIENCE + 1] * (repetitions - len(seen))
        cell |= {
            "seen": len(seen) / repetitions,
            "median": int(after[len(after) // 2]),
            "most": int(after[min(len(after) - 1, 9 * len(after) // 10)]),
            "exact": float(np.mean(np.array(named) == 0)) if named else 0.0,
            "held": float(np.mean(held)) if held else 0.0,
            "near": float(np.mean(np.array(named) <= 1)) if named else 0.0,
        }
        found.append(cell)
    return found


def _changes(
    rng: np.random.Generator, rows: int, kind: Kind, nights: int, *, by_case: bool
) -> list[ChangePoint]:
    """Draw one history, and look for changes of everything that a history looks at."""
    p = rng.choice(CASES, rows)
    official = rng.random(rows) < p
    likely = np.where(np.arange(nights)[:, None] < CHANGED, p, kind.decide(p))
    accuracy = np.where(np.arange(nights)[:, None] < CHANGED, 1.0, kind.accuracy)
    calls = rng.random((nights, rows)) < likely
    valid = calls & (rng.random((nights, rows)) < accuracy)
    asked = np.ones((nights, rows))
    measures = {
        Measure.CALLS: ((calls, asked), official),
        Measure.AGREEMENT: ((calls == official, asked), official),
        # A report does not tell which of the valid calls the official API makes as well.
        Measure.VALIDITY: ((valid, calls), np.ones(rows, dtype=bool)),
    }
    found = (
        changes_of(np.array(counts if by_case else _summed(counts, apart), dtype=float), ERROR / len(Measure))
        for counts, apart in measures.values()
    )
    return [change for changes in found for change in changes]


def _summed(counts: Sequence[Array], official: Array) -> list[Array]:
    """Add up what a night made of the cases in which the official API calls, and of the others."""
    return [np.stack((each[:, official].sum(1), each[:, ~official].sum(1)), axis=1) for each in counts]


def history_of_reports_tables(found: Cells) -> list[str]:
    return ["By the sums of reports:", "", *history_tables(found)]


def history_tables(found: Cells) -> list[str]:
    steady = [cell for cell in found if cell["vendor"] == FAITHFUL.name]
    rows = [
        [
            f"{cell['rows']:,}",
            f"{cell['histories']:,}",
            f"{cell['alarms']:,}",
            f"{cell['alarms'] / cell['histories']:.3f}",
            percent(cell["false"] / cell["histories"]),
            percent(error_of(cell["false"] / cell["histories"], cell["histories"])),
        ]
        for cell in steady
    ]
    head = ["rows", f"histories of {NIGHTS} nights", "false alarms", "false alarms per 100 nights"]
    head += ["histories with one, %", "± standard error"]
    lines = ["A vendor that never changes:", "", *table(head, rows)]
    head = ["vendor, from night 20 on", *(f"{rows:,} rows" for rows in ROWS)]
    for title, value in (
        (
            f"Nights until it is seen, in half of the histories (in nine of ten); – is beyond {PATIENCE}",
            _nights,
        ),
        (
            "The night that is named is the right one (or next to it; or in the range that is told), in %",
            _named,
        ),
    ):
        table_rows = [
            [kind.name, *(value(cell) for cell in found if cell["vendor"] == kind.name)] for kind in KINDS
        ]
        lines += [f"{title}:", "", *table(head, table_rows)]
    return lines


def _nights(cell: dict[str, Any]) -> str:
    median, most = (str(cell[name]) if cell[name] <= PATIENCE else "–" for name in ("median", "most"))
    return f"{median} ({most})"


def _named(cell: dict[str, Any]) -> str:
    if cell["seen"] < ENOUGH:
        return "–"
    return f"{percent(cell['exact'], 0)} ({percent(cell['near'], 0)}; {percent(cell['held'], 0)})"
