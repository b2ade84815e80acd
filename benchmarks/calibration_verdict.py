"""What is a verdict worth against vendors that are not what they say? By simulation, over a case model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from candidates import Array, Z, f1_of
from sampling import Draws
from scipy import optimize, special, stats
from tables import percent, table
from vendors import (
    FAITHFUL,
    KINDS,
    SUBSETS,
    Draw,
    Kind,
    Runs,
    Subset,
    at_random,
    cells,
    f1,
    surplus,
    tempered,
)

from k2_verifier_adapter.core.differences import LEVEL
from k2_verifier_adapter.core.presets import PRESETS
from k2_verifier_adapter.core.self_agreement import MARGIN, chance_to_pass
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions, surplus_test
from k2_verifier_adapter.core.verdict import (
    DEFAULT_ACCURACY,
    DEFAULT_SURPLUS,
)

Cells = list[dict[str, Any]]
Flags = npt.NDArray[np.bool_]

CASES = 2000
RUNS = (1, 2, 3, 5)
SIZES = (100, 200, 500, 1000, 2000)
MOST_EXACT = 1_000
"""Runs of a cell for which the exact test of several official runs, which takes long, is computed."""


POWER = 0.8
LEVELS = (0.05, LEVEL)
"""The differences are raised at the second; the first is usual where powers are compared."""


@dataclass(frozen=True, slots=True)
class Statuses:
    """Which runs pass, and which fail."""

    passes: Flags
    fails: Flags


def similarity_status(
    runs: Runs, threshold: float, passing: Array | float = Z, failing: Array | float = Z
) -> Statuses:
    """Hold F1 against a threshold, or, against several official runs, the difference against the margin."""
    if runs.runs > 1:
        value, error, skewness, _ = runs.non_inferiority()
        return Statuses(
            value - error * student(passing, skewness, runs.cases) >= -MARGIN,
            value - error * student(-np.asarray(failing), skewness, runs.cases) < -MARGIN,
        )
    hits, misses = runs.hits_and_misses()
    return Statuses(
        _f1_bound(hits, misses, -np.asarray(passing)) >= threshold,
        _f1_bound(hits, misses, np.asarray(failing)) < threshold,
    )


def _f1_bound(hits: Array, misses: Array, z: Array) -> Array:
    """Give the bound so many standard errors above F1, exact at the ends."""
    n, inner = hits + misses, (hits > 0) & (misses > 0)
    x, y = np.where(inner, hits, 1.0), np.where(inner, misses, 1.0)
    middle = special.expit(np.log(2 * x / y) + z * np.sqrt(1 / x + 1 / y))
    tail = special.ndtr(-np.abs(z)) ** (1 / n)
    end = np.where(misses == 0, np.where(z < 0, f1_of(tail), 1.0), np.where(z > 0, f1_of(1 - tail), 0.0))
    return np.where(inner, middle, end)


def student(z: Array | float, skewness: Array, cases: Array) -> Array:
    """Invert Hall's transformation."""
    g, root = np.where(np.abs(skewness) < 1e-9, 1e-9, skewness), np.sqrt(cases)
    return np.asarray(3 * root / g * (np.cbrt(1 + g * (z / root - g / (6 * cases))) - 1))


def surplus_status(runs: Runs, passing: Array | float = Z, failing: Array | float = Z) -> Statuses:
    centre, error = runs.surplus()
    least, most = np.log1p(-DEFAULT_SURPLUS), np.log1p(DEFAULT_SURPLUS)
    return Statuses(
        (centre - passing * error >= least) & (centre + passing * error <= most),
        (centre + failing * error < least) | (centre - failing * error > most),
    )


def accuracy_status(runs: Runs, passing: Array | float = Z, failing: Array | float = Z) -> Statuses:
    """Hold the accuracy against its minimum; Wilson's bound clears it where the score test does."""
    calls = np.maximum(runs.calls, 1)
    score = (runs.valid / calls - DEFAULT_ACCURACY) * np.sqrt(
        calls / (DEFAULT_ACCURACY * (1 - DEFAULT_ACCURACY))
    )
    return Statuses((score >= passing) & (runs.calls > 0), score < -np.asarray(failing))


def overall(runs: Runs, threshold: float, passing: Array | float = Z, failing: Array | float = Z) -> Statuses:
    """Give the worst of the checks."""
    checks = [
        similarity_status(runs, threshold, passing, failing),
        surplus_status(runs, passing, failing),
        accuracy_status(runs, passing, failing),
    ]
    fails = np.any([check.fails for check in checks], axis=0)
    return Statuses(np.all([check.passes for check in checks], axis=0) & ~fails, fails)


def raised(runs: Runs, subset: Subset, level: float = LEVEL) -> dict[str, Flags]:
    """Tell in which runs each difference is raised."""
    exchanged = runs.exchange_p() < level
    if runs.runs == 1:
        hits, misses = runs.hits_and_misses()
        more = stats.binom.sf(runs.counts[..., 0, 1] - 1, misses, 0.5)
        less = stats.binom.cdf(runs.counts[..., 0, 1], misses, 0.5)
        standard = PRESETS[subset.name].standard
        assert standard is not None
        assert standard.self_agreement is not None
        own, stated = standard.self_agreement.mean, standard.self_agreement.error or 0.0
        odds_error = stated / (own * (1 - own))
        missed = np.maximum(misses, 0.5)
        found = hits + misses - missed
        score = (np.log(2 * found / missed) - special.logit(own)) / np.sqrt(
            1 / found + 1 / missed + odds_error**2
        )
    else:
        tests = [surplus_test(package_table(counts)) for counts in runs.counts[:MOST_EXACT]]
        more, less = np.array(tests).T
        value, error, skewness, _ = runs.non_inferiority()
        t, root = value / error, np.sqrt(runs.cases)
        score = (
            t + skewness * t**2 / (3 * root) + skewness**2 * t**3 / (27 * runs.cases) + skewness / (6 * root)
        )
    return {
        "calls_more": 2 * more < level,
        "calls_less": 2 * less < level,
        "agrees_too_much": 2 * special.ndtr(-score) < level,
        "decides_differently": exchanged,
    }


def package_table(counts: Array) -> dict[CaseDecisions, int]:
    runs = len(counts) - 1
    return {
        CaseDecisions(k, runs, x, 1): int(counts[k, x])
        for k in range(runs + 1)
        for x in (0, 1)
        if counts[k, x]
    }


# --- vendors: the verdict at 2,000 cases ----------------------------------------------------------


def vendors(draws: Draws) -> Cells:
    """See what becomes of every kind of vendor: today's rule, each check, the verdict, the differences."""
    found = []
    for subset, runs, kind in product(SUBSETS, RUNS, KINDS):
        draw = Draw(draws.rng, subset, kind, runs)
        drawn = draw.at_random(CASES, draws.repetitions)
        verdict = overall(drawn, subset.threshold)
        cell = {
            "subset": subset.name,
            "runs": runs,
            "kind": kind.name,
            "f1": f1(draw.shares),
            "surplus": surplus(draw.shares),
            "passes": float(verdict.passes.mean()),
            "fails": float(verdict.fails.mean()),
        }
        for name, check in (
            ("similarity", similarity_status(drawn, subset.threshold)),
            ("surplus", surplus_status(drawn)),
            ("accuracy", accuracy_status(drawn)),
        ):
            cell[f"{name}_passes"] = float(check.passes.mean())
            cell[f"{name}_fails"] = float(check.fails.mean())
        cell |= {name: float(flags.mean()) for name, flags in raised(drawn, subset).items()}
        found.append(cell)
    return found


def vendors_tables(found: Cells) -> list[str]:
    """Show one table for each subset and number of official runs."""
    lines = []
    for subset, runs in product(SUBSETS, RUNS):
        lines += [f"{subset.name}, {CASES:,} cases, {runs} official run{'s' * (runs > 1)}; in %:", ""]
        names = ("calls_more", "calls_less", "agrees_too_much", "decides_differently")
        shown = names if runs > 1 else names[:3]
        head = ["vendor", "F1", "surplus", "similarity pass / fail", "surplus", "accuracy", "verdict", *shown]
        rows = []
        for cell in found:
            if (cell["subset"], cell["runs"]) == (subset.name, runs):
                checks = [
                    f"{percent(cell[f'{name}passes'])} / {percent(cell[f'{name}fails'])}"
                    for name in ("similarity_", "surplus_", "accuracy_", "")
                ]
                rows.append(
                    [cell["kind"], f"{cell['f1']:.3f}", f"{100 * cell['surplus']:+.1f}", *checks]
                    + [percent(cell[name]) for name in shown]
                )
        lines += table(head, rows)
    return lines


# --- false: no difference is raised for more than 1 % of faithful vendors -------------------------


def false_alarms(draws: Draws) -> Cells:
    """See how often a faithful vendor is told to differ, and any check of it fails, at every size."""
    found = []
    for subset, runs, cases in product(SUBSETS, RUNS, (50, *SIZES)):
        drawn = Draw(draws.rng, subset, FAITHFUL, runs).at_random(cases, draws.repetitions)
        verdict = overall(drawn, subset.threshold)
        flags = raised(drawn, subset)
        found.append(
            {"subset": subset.name, "runs": runs, "cases": cases, "passes": float(verdict.passes.mean())}
            | {"fails": float(verdict.fails.mean())}
            | {name: float(flag.mean()) for name, flag in flags.items()}
        )
    return found


def false_alarms_tables(found: Cells) -> list[str]:
    names = ("calls_more", "calls_less", "agrees_too_much", "decides_differently")
    head = ["subset", "official runs", "cases", "verdict pass", "fail", *names]
    rows = [
        [
            cell["subset"],
            str(cell["runs"]),
            f"{cell['cases']:,}",
            percent(cell["passes"]),
            percent(cell["fails"]),
        ]
        + [percent(cell[name], 2) for name in names]
        for cell in found
    ]
    return ["A faithful vendor; in %:", "", *table(head, rows)]


# --- boundary: a vendor on the limit --------------------------------------------------------------


def _on_margin(subset: Subset, family: str) -> Kind:
    """Give the vendor of a family that lies just `MARGIN` below the self-agreement."""
    kinds = {
        "coins": at_random,
        "drops": lambda w: Kind("drops", lambda p: (1 - w) * p),
        "adds": lambda w: Kind("adds", lambda p: p + w * (1 - p)),
        "hotter": lambda w: Kind("hotter", lambda p: tempered(p, 1 - w)),
    }[family]
    target = subset.agreement - MARGIN
    return kinds(optimize.brentq(lambda w: f1(cells(subset, kinds(w), 1)) - target, 1e-3, 0.9))


def at_surplus(subset: Subset, share: float) -> Kind:
    """Give a vendor of so many more calls than the official API, or fewer."""
    if share < 0:
        return Kind("drops", lambda p: (1 + share) * p)
    added = share * subset.base / (1 - subset.base)
    return Kind("adds", lambda p: p + added * (1 - p))


def boundary(draws: Draws) -> Cells:
    """See how often a vendor just on a limit passes, and how often it fails."""
    found = []
    for subset, family in product(SUBSETS, ("coins", "drops", "adds", "hotter")):
        kind = _on_margin(subset, family)
        for runs, cases in product(RUNS, (100, 500, 2000)):
            drawn = Draw(draws.rng, subset, kind, runs).at_random(cases, draws.repetitions)
            status = similarity_status(drawn, subset.agreement - MARGIN)
            found.append(
                {"subset": subset.name, "check": "similarity", "family": family, "runs": runs, "cases": cases}
                | {"passes": float(status.passes.mean()), "fails": float(status.fails.mean())}
            )
    for subset, share in product(SUBSETS, (-DEFAULT_SURPLUS, DEFAULT_SURPLUS)):
        kind = at_surplus(subset, share)
        for runs, cases in product(RUNS, (100, 500, 2000)):
            drawn = Draw(draws.rng, subset, kind, runs).at_random(cases, draws.repetitions)
            status = surplus_status(drawn)
            found.append(
                {
                    "subset": subset.name,
                    "check": "surplus",
                    "family": f"{share:+.0%}",
                    "runs": runs,
                    "cases": cases,
                }
                | {"passes": float(status.passes.mean()), "fails": float(status.fails.mean())}
            )
    return found


def boundary_tables(found: Cells) -> list[str]:
    head = [
        "check",
        "official runs",
        *(f"pass at {n}" for n in (100, 500, 2000)),
        *(f"fail at {n}" for n in (100, 500, 2000)),
    ]
    rows = []
    for check, runs in product(("similarity", "surplus"), RUNS):
        row = [check, str(runs)]
        for what, cases in product(("passes", "fails"), (100, 500, 2000)):
            of = [c[what] for c in found if (c["check"], c["runs"], c["cases"]) == (check, runs, cases)]
            row.append(percent(max(of), 2))
        rows.append(row)
    return ["Most over all vendors just on the limit; nominal 2.5 %:", "", *table(head, rows)]


# --- power: cases for 80 % ------------------------------------------------------------------------


def powers(draws: Draws) -> Cells:
    """Find the cases from which a difference is raised in 80 % of the runs."""
    subset, found = SUBSETS[0], []
    size = min(draws.repetitions, 5_000)
    for kind, runs, level in product(KINDS[1:-1], RUNS, LEVELS):
        draw = Draw(draws.rng, subset, kind, runs)
        names = ("decides_differently",) if runs > 1 else ("calls_more", "calls_less", "agrees_too_much")
        reached = {name: _cases_for(draw, size, name, level) for name in names}
        found.append({"kind": kind.name, "runs": runs, "level": level, "cases": reached})
    return found


def _cases_for(draw: Draw, size: int, name: str, level: float) -> int | None:
    def told(cases: int) -> bool:
        drawn = draw.at_random(cases, size)
        flags = (
            drawn.exchange_p() < level
            if name == "decides_differently"
            else raised(drawn, draw.subset, level)[name]
        )
        return bool(flags.mean() >= POWER)

    low, high = 20, 4_000
    if not told(high):
        return None
    while high - low > max(2, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return high


def powers_tables(found: Cells) -> list[str]:
    head = [
        "vendor",
        *(f"{runs} run{'s' * (runs > 1)}, level {level:g}" for runs, level in product(RUNS, LEVELS)),
    ]
    rows = []
    for kind in KINDS[1:-1]:
        row = [kind.name]
        for runs, level in product(RUNS, LEVELS):
            (cell,) = [c for c in found if (c["kind"], c["runs"], c["level"]) == (kind.name, runs, level)]
            known = [(cases, name) for name, cases in cell["cases"].items() if cases is not None]
            row.append(
                f"{min(known)[0]:,} ({min(known)[1]})"
                if known and runs == 1
                else f"{min(known)[0]:,}"
                if known
                else "never"
            )
        rows.append(row)
    return [
        f"{SUBSETS[0].name}: cases for 80 % power, of the first difference that gets there:",
        "",
        *table(head, rows),
    ]


# --- official runs: what a further one brings -----------------------------------------------------


def official_runs(draws: Draws) -> Cells:
    """See how often a faithful vendor passes the similarity, against one official run and against more."""
    found = []
    for subset, runs, cases in product(SUBSETS, (1, 2, 3, 4, 5, 8), (500, 1000, 2000)):
        drawn = Draw(draws.rng, subset, FAITHFUL, runs).at_random(cases, draws.repetitions)
        status = similarity_status(drawn, subset.threshold)
        said = chance_to_pass(subset.base, subset.agreement, runs, cases) if runs > 1 else None
        found.append(
            {"subset": subset.name, "runs": runs, "cases": cases, "said": said}
            | {"passes": float(status.passes.mean()), "fails": float(status.fails.mean())}
        )
    return found


def official_runs_tables(found: Cells) -> list[str]:
    head = [
        "subset",
        "official runs",
        *(f"{n:,} cases: passes (as `dataset build` says)" for n in (500, 1000, 2000)),
    ]
    rows = []
    for subset, runs in product(SUBSETS, (1, 2, 3, 4, 5, 8)):
        of = [cell for cell in found if (cell["subset"], cell["runs"]) == (subset.name, runs)]
        rows.append(
            [subset.name, str(runs)]
            + [
                percent(cell["passes"]) + ("" if cell["said"] is None else f" ({percent(cell['said'])})")
                for cell in of
            ]
        )
    return ["A faithful vendor, the similarity alone; in %:", "", *table(head, rows)]


# --- lowest: why not the lowest pair --------------------------------------------------------------


def lowest(draws: Draws) -> Cells:
    """Draw official runs, and see which threshold follows from the lowest pair and from the mean."""
    subset, found = SUBSETS[0], []
    p = subset.cases()
    repetitions = min(draws.repetitions, 2_000)
    for runs, cases in product((2, 3, 5, 10), (100, 2000)):
        pairs = []
        for _ in range(repetitions):
            calls = draws.rng.random((runs, cases)) < draws.rng.choice(p, cases)
            both = calls.astype(float) @ calls.T
            own = np.diag(both)
            pairs.append((2 * both / (own[:, None] + own))[np.triu_indices(runs, 1)])
        low, mean = np.min(pairs, axis=1), np.mean(pairs, axis=1)
        found.append(
            {"runs": runs, "cases": cases, "lowest": float(low.mean() - MARGIN)}
            | {"mean": float(mean.mean() - MARGIN), "spread": float(mean.std())}
        )
    return found


def lowest_tables(found: Cells) -> list[str]:
    head = ["official runs", "cases", "lowest pair - 0.03", "mean - 0.03", "standard deviation of the mean"]
    rows = [
        [
            str(cell["runs"]),
            f"{cell['cases']:,}",
            *(f"{cell[name]:.3f}" for name in ("lowest", "mean", "spread")),
        ]
        for cell in found
    ]
    return ["Thresholds that follow from official runs, on average:", "", *table(head, rows)]


# --- luck: the one draw of official answers that everybody is held against ------------------------


def luck(draws: Draws) -> Cells:
    """Fix the prompts and the official answers, and see how often a faithful vendor passes against them."""
    found, size = [], min(draws.repetitions, 400)
    for subset in SUBSETS:
        p = subset.cases()
        for _ in range(size):
            cases = draws.rng.choice(p, CASES)
            official = draws.rng.random(CASES) < cases
            calls = draws.rng.random((size, CASES)) < cases
            hits, misses = (calls & official).sum(1), (calls ^ official).sum(1)
            bound = _f1_bound(hits.astype(float), misses.astype(float), np.asarray(-Z))
            found.append({"subset": subset.name, "passes": float((bound >= subset.threshold).mean())})
    return found


def luck_tables(found: Cells) -> list[str]:
    """Show how the share of passes spreads over the draws."""
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    head = ["subset", "draws", "mean", *(f"{quantile:.0%} of the draws below" for quantile in quantiles)]
    rows = []
    for subset in SUBSETS:
        of = [cell["passes"] for cell in found if cell["subset"] == subset.name]
        spread = [percent(float(value)) for value in np.quantile(of, quantiles)]
        rows.append([subset.name, str(len(of)), percent(float(np.mean(of))), *spread])
    return ["A faithful vendor passes the similarity at 2,000 cases, in %:", "", *table(head, rows)]
