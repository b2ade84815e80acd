"""Do the intervals hold their rate, and what is a verdict worth at which number of cases? By simulation.

    python benchmarks/calibration.py                        everything, half an hour on one core
    python benchmarks/calibration.py --short                the same tables from few draws, two minutes
    python benchmarks/calibration.py --only intervals rules these parts only
    python benchmarks/calibration.py --output result.json   every cell as JSON, the tables on standard output

    intervals  coverage and width of the candidates for the interval of trigger_similarity
    rules      how often vendors of a known F1 meet upstream's rule and pass or fail the strict one
    calls      the same of schema_accuracy, whose denominator is the calls
    sample     the same of subsets that hold the share of official calls of the full set
    pairs      coverage of the paired interval of the difference in F1
    validity   coverage of the paired interval of the difference in schema_accuracy
    power      how often two runs are told apart, and which difference can be told
    margin     how often a run is found not worse than its baseline
    repeats    coverage of the interval where each case is asked several times
    clusters   the same of schema_accuracy, whose calls of one case are alike
    shares     coverage of the interval of argument_agreement, a mean of shares

    Over cases that have each its own probability of a call:

    vendors       what becomes of vendors that are not what they say, at 2,000 cases
    false_alarms  how often a faithful vendor is told to differ
    boundary      how often a vendor just on a limit passes or fails
    powers        the cases from which a difference is told in 80 %
    official_runs how often a faithful vendor passes against several official runs
    luck          what one draw of official answers does to a faithful vendor
    lowest        the thresholds that follow from the lowest pair of official runs and from their mean
    sequential    what it costs to stop when it is decided
    peeking       what happens without a design
    forecasts     how often a forecast comes true
    history       how often a vendor that never changes is said to have changed, and how soon a change is seen
    history_of_reports the same by the sums of reports

The tables of docs/statistics.md are its last output. Everything is drawn with a fixed seed; the vectorised
formulas are held against those of the package before anything else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import calibration_history
import calibration_sequential
import calibration_verdict
import numpy as np
from calibration_pairs import margin, margin_tables, pairs, pairs_tables, power, power_tables
from calibration_rules import calls, calls_tables, rules, rules_tables
from calibration_sampling import sample, sample_tables
from calibration_single import (
    clusters,
    clusters_tables,
    intervals,
    intervals_tables,
    repeats,
    repeats_tables,
    shares,
    shares_tables,
)
from calibration_validity import validity, validity_tables
from checks import check_formulas
from sampling import Draws
from tables import error_of, percent

Cells = list[dict[str, Any]]

Part = tuple[Callable[[Draws], Cells], Callable[[Cells], list[str]]]


def _parts(module: ModuleType, *names: str) -> dict[str, Part]:
    """Give the parts of a module, each a function that computes and one that lays out its tables."""
    return {name: (getattr(module, name), getattr(module, f"{name}_tables")) for name in names}


OVER_CASES = {
    **_parts(
        calibration_verdict,
        "vendors",
        "false_alarms",
        "boundary",
        "powers",
        "official_runs",
        "lowest",
        "luck",
    ),
    **_parts(calibration_sequential, "sequential", "peeking", "forecasts"),
    **_parts(calibration_history, "history", "history_of_reports"),
}
PARTS: Mapping[str, Part] = {
    "intervals": (intervals, intervals_tables),
    "rules": (rules, rules_tables),
    "calls": (calls, calls_tables),
    "sample": (sample, sample_tables),
    "pairs": (pairs, pairs_tables),
    "validity": (validity, validity_tables),
    "power": (power, power_tables),
    "margin": (margin, margin_tables),
    "repeats": (repeats, repeats_tables),
    "clusters": (clusters, clusters_tables),
    "shares": (shares, shares_tables),
    **OVER_CASES,
}
REPETITIONS = 50_000
SHORT_REPETITIONS = 500
MOST_OF_CASES = 10_000
"""Runs of a cell of the parts over the case model."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts only")
    parser.add_argument(
        "--repetitions", type=int, default=REPETITIONS, help="simulated runs of each cell (%(default)s)"
    )
    parser.add_argument("--short", action="store_true", help=f"{SHORT_REPETITIONS} of each cell")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (%(default)s)")
    parser.add_argument("--output", type=Path, help="write every cell as JSON")
    options = parser.parse_args()
    check_formulas()
    wanted = SHORT_REPETITIONS if options.short else options.repetitions
    result: dict[str, Any] = {"repetitions": wanted, "seed": options.seed, "parts": {}}
    for name in options.only:
        compute, tables = PARTS[name]
        repetitions = min(wanted, MOST_OF_CASES) if name in OVER_CASES else wanted
        started = time.perf_counter()
        cells = compute(Draws(np.random.default_rng([options.seed, *name.encode()]), repetitions))
        result["parts"][name] = cells
        seconds = time.perf_counter() - started
        errors = (f"{percent(error_of(share, repetitions), 2)} at {share:g}" for share in (0.5, 0.025))
        print(f"## {name} ({len(cells):,} cells of {repetitions:,} runs, {seconds:.0f} s)\n")
        print(f"Seed {options.seed}; Monte-Carlo standard error of a share, in %: {' and '.join(errors)}.\n")
        print("\n".join(tables(cells)), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
