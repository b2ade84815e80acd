"""What does it cost to stop when it is decided, and do forecasts come true?"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from calibration_verdict import (
    CASES,
    Statuses,
    at_surplus,
    overall,
    package_table,
    raised,
    similarity_status,
    surplus_status,
)
from candidates import Array
from sampling import Draws
from scipy import optimize
from tables import error_of, percent, table
from vendors import KINDS, SUBSETS, Draw, Kind, Runs, Subset, at_random, cells, f1, tempered

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.forecast import of_rows
from k2_verifier_adapter.core.metrics import CALL_SURPLUS, PRIMARY_METRIC
from k2_verifier_adapter.core.statistics.sequential import plan
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.core.verdict import Requirements, Status, strict_verdict

Cells = list[dict[str, Any]]

AT_RANDOM = "the same, rows in an order at random"
DESIGNS = {maximum: plan(maximum) for maximum in (500, CASES)}
SEQUENTIAL_F1S = (0.53, 0.63, 0.80)


# --- sequential: stop when it is decided ----------------------------------------------------------


def _at_f1(subset: Subset, target: float) -> Kind:
    """Give a vendor of so high an F1 that calls as often as the official API: noisier, or sharper."""
    if target < subset.agreement:
        return at_random(optimize.brentq(lambda w: f1(cells(subset, at_random(w), 1)) - target, 0, 1))
    factor = optimize.brentq(
        lambda w: f1(cells(subset, Kind("", lambda p: tempered(p, w)), 1)) - target, 1, 20
    )
    return Kind("sharper", lambda p: tempered(p, factor))


def sequential(draws: Draws) -> Cells:
    """Follow runs along their looks until all checks are decided, or one fails."""
    subset, found = SUBSETS[0], []
    kinds = [(f"F1 {target:.2f}", _at_f1(subset, target)) for target in SEQUENTIAL_F1S]
    kinds += [(name, _at_f1(subset, subset.threshold)) for name in ("on the threshold", AT_RANDOM)]
    kinds += [(kind.name, kind) for kind in KINDS]
    for (name, kind), runs, maximum in product(kinds, (1, 5), DESIGNS):
        drawn = Draw(draws.rng, subset, kind, runs)
        design = DESIGNS[maximum]
        looks = np.array(design.looks, dtype=float)
        passing = np.array([level.passing for level in design.levels])
        failing = np.array([level.failing for level in design.levels])
        size = draws.repetitions
        seen = drawn.along(looks, size, stratified=name != AT_RANDOM)
        only = similarity_status(seen, subset.threshold, passing, failing)
        every = overall(seen, subset.threshold, passing, failing)
        cell = {"vendor": name, "runs": runs, "maximum": maximum}
        for which, status in (("similarity", only), ("all", every)):
            stopped = _stopped(status, looks)
            cell |= {f"{which}_{what}": value for what, value in stopped.items()}
        fixed = similarity_status(Runs(seen.counts[:, -1], seen.valid[:, -1]), subset.threshold)
        cell |= {"fixed_passes": float(fixed.passes.mean())}
        if runs == 1:
            first = _first(every)
            at = np.arange(size), first
            flags = raised(Runs(seen.counts[at], seen.valid[at]), subset)
            cell |= {name: float(flag.mean()) for name, flag in flags.items()}
        found.append(cell)
    return found


def _first(status: Statuses) -> npt.NDArray[np.int64]:
    settled = status.passes | status.fails
    return np.where(settled.any(1), settled.argmax(1), settled.shape[1] - 1)


def _stopped(status: Statuses, looks: Array) -> dict[str, float]:
    first = _first(status)
    every = np.arange(len(first))
    fails = status.fails[every, first]
    passes = status.passes[every, first] & ~fails
    return {"cases": float(looks[first].mean()), "passes": float(passes.mean()), "fails": float(fails.mean())}


def sequential_tables(found: Cells) -> list[str]:
    lines = []
    for maximum, design in DESIGNS.items():
        lines += [f"{SUBSETS[0].name}, at most {maximum:,} cases, {design}; shares in %:", ""]
        head = ["vendor", "official runs", "similarity alone: cases", "pass / fail", "fixed design passes"]
        head += ["all checks: cases", "pass / fail", "calls_more", "calls_less", "agrees_too_much"]
        rows = []
        for cell in found:
            if cell["maximum"] != maximum:
                continue
            row = [cell["vendor"], str(cell["runs"]), f"{cell['similarity_cases']:,.0f}"]
            row += [f"{percent(cell['similarity_passes'])} / {percent(cell['similarity_fails'])}"]
            row += [percent(cell["fixed_passes"]), f"{cell['all_cases']:,.0f}"]
            row += [f"{percent(cell['all_passes'])} / {percent(cell['all_fails'])}"]
            row += [
                percent(cell[name], 2) if name in cell else ""
                for name in ("calls_more", "calls_less", "agrees_too_much")
            ]
            rows.append(row)
        lines += table(head, rows)
    return lines


# --- peeking: what happens without a design -------------------------------------------------------


def peeking(draws: Draws) -> Cells:
    """Look at the strict rule of the similarity every 50 cases, and stop as soon as it says anything."""
    subset, size = SUBSETS[0], draws.repetitions
    looks = np.arange(50.0, CASES + 1, 50)
    draw = Draw(draws.rng, subset, _at_f1(subset, subset.threshold))
    found = []
    for stratified in (True, False):
        seen = draw.along(looks, size, stratified=stratified)
        status = similarity_status(seen, subset.threshold)
        found.append({"stratified": stratified} | _stopped(status, looks))
    return found


def peeking_tables(found: Cells) -> list[str]:
    head = ["order of the rows", "passes", "fails"]
    rows = [
        ["stratified" if cell["stratified"] else "at random", percent(cell["passes"]), percent(cell["fails"])]
        for cell in found
    ]
    return ["On the threshold, looked at every 50 cases; in %, nominal 2.5:", "", *table(head, rows)]


# --- forecast: is a forecast of 83 % right in 83 %? -----------------------------------------------


def forecasts(draws: Draws) -> Cells:
    """Forecast a check at 500 of 2,000 cases, of vendors spread around its limits, and go on to see."""
    subset, found = SUBSETS[0], []
    repetitions = min(draws.repetitions, 100)
    looks = np.array([500.0, CASES])
    targets = (f1_target for f1_target in np.linspace(0.63, 0.825, 27) if abs(f1_target - 0.76) > 1e-6)
    spread = {
        PRIMARY_METRIC: [_at_f1(subset, target) for target in targets],
        CALL_SURPLUS: [at_surplus(subset, share) for share in np.linspace(-0.25, 0.25, 26)],
    }
    for name, kinds in spread.items():
        for kind in kinds:
            seen = Draw(draws.rng, subset, kind).along(looks, repetitions)
            of_similarity = name == PRIMARY_METRIC
            status = similarity_status(seen, subset.threshold) if of_similarity else surplus_status(seen)
            for run in np.flatnonzero(~(status.passes[:, 0] | status.fails[:, 0])):
                requirements = Requirements(similarity=subset.threshold)
                verdict = strict_verdict(_tally(seen.counts[run, 0]), requirements)
                (check,) = [item for item in verdict.checks if item.metric == name]
                assert check.status is Status.INCONCLUSIVE
                forecast = of_rows([check], 500, CASES)
                assert forecast is not None
                found.append(
                    {"check": name, "passing": forecast.passing, "failing": forecast.failing}
                    | {"passes": bool(status.passes[run, 1]), "fails": bool(status.fails[run, 1])}
                )
    return found


def _tally(counts: Array) -> Tally:
    fn, tp = map(int, counts[1])
    tn, fp = map(int, counts[0])
    sums = Counts(
        completed=tp + fp + fn + tn, tp=tp, fp=fp, fn=fn, tn=tn, tool_calls=tp + fp, successful=tp + fp
    )
    tally = Tally(counts=sums)
    tally.decisions.update(package_table(counts))
    return tally


def forecasts_tables(found: Cells) -> list[str]:
    head = ["check", "forecast of a pass", "forecasts", "on average", "passed", "± standard error"]
    rows = []
    for name, low in product((PRIMARY_METRIC, CALL_SURPLUS), (0.0, 0.2, 0.4, 0.6, 0.8)):
        of = [
            cell
            for cell in found
            if cell["check"] == name and low <= cell["passing"] < low + 0.2 + (low == 0.8)
        ]
        if of:
            came = float(np.mean([cell["passes"] for cell in of]))
            said = float(np.mean([cell["passing"] for cell in of]))
            rows.append(
                [
                    name,
                    f"{low:.0%} - {low + 0.2:.0%}",
                    str(len(of)),
                    *map(percent, (said, came, error_of(came, len(of)))),
                ]
            )
    title = "At 500 of 2,000 cases, over vendors evenly spread around the limits of the check; in %:"
    return [title, "", *table(head, rows)]
