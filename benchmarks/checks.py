"""The vectorised formulas of the calibration study are those of the package: checked before every run."""

from __future__ import annotations

from math import isclose

import numpy as np
from calibration_pairs import Pairs
from calibration_single import clustered_counts
from calibration_validity import validity_bounds
from calibration_verdict import package_table, student
from candidates import logit_exact, wilson_rate
from sampling import KINDS, Vendor, repeated_answers
from vendors import Runs

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.statistics.decisions import call_surplus, exchange_test, non_inferiority
from k2_verifier_adapter.core.statistics.intervals import at_level, f1_interval, wilson
from k2_verifier_adapter.core.statistics.paired import (
    Decisions,
    Validity,
    f1_difference,
    validity_difference,
)
from k2_verifier_adapter.core.statistics.ratios import RepeatedCases, ratio_interval

_SEED = 1
_TIMES = 200
_CLOSE = 1e-9


def check_formulas() -> None:
    """Hold single, clustered and paired intervals against the package's, on random counts."""
    rng = np.random.default_rng(_SEED)
    n = rng.integers(1, 3000, _TIMES).astype(float)
    hits = np.floor(rng.random(_TIMES) * (n + 1))
    f1_bounds, rate_bounds = logit_exact(hits, n), wilson_rate(hits / n, n)
    for place in range(_TIMES):
        x, total = int(hits[place]), int(n[place])
        for bounds, interval in ((f1_bounds, f1_interval(x, total - x, 0)), (rate_bounds, wilson(x, total))):
            assert interval is not None
            _same((bounds[0][place], bounds[1][place]), (interval.low, interval.high))
    _check_pairs(rng)
    _check_validity(rng)
    _check_repeats(rng)
    _check_runs(rng)


def _check_pairs(rng: np.random.Generator) -> None:
    counts = rng.multinomial(300, rng.dirichlet(np.ones(len(KINDS)), _TIMES))
    found = Pairs(counts)
    low, high = found.delta(0.5)
    for place in range(_TIMES):
        table = {}
        for (should_call, *wrong), count in zip(KINDS, counts[place], strict=True):
            calls = [float(bool(should_call) != bool(item)) for item in wrong]
            table[Decisions(bool(should_call), *calls)] = int(count)
        difference = f1_difference(table)
        assert (difference is not None) == found.defined[place]
        if difference is not None:
            _same((found.value[place], low[place]), (difference.value, difference.low))
            _same((found.value[place], high[place]), (difference.value, difference.high))


def _check_validity(rng: np.random.Generator) -> None:
    counts = rng.multinomial(120, rng.dirichlet(np.ones(4), _TIMES))
    value, (low, high) = validity_bounds(counts, 1.0)
    kinds = [Validity(one, other) for one, other in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))]
    for place in range(_TIMES):
        difference = validity_difference(dict(zip(kinds, map(int, counts[place]), strict=True)))
        assert difference is not None
        _same((value[place], low[place]), (difference.value, difference.low))
        _same((value[place], high[place]), (difference.value, difference.high))


def _check_repeats(rng: np.random.Generator) -> None:
    repeats = 3
    calls, should_call = repeated_answers(rng, Vendor(40, 0.5, 0.8), repeats, 5)
    hits, n, effective = clustered_counts(calls, should_call, repeats)
    low, high = logit_exact(hits / n * effective, effective)
    for run in range(len(calls)):
        total, repeated = Counts(), RepeatedCases()
        for called, should in zip(map(int, calls[run]), map(bool, should_call[run]), strict=True):
            cluster = Counts(completed=repeats, tool_calls=called)
            rest = repeats - called
            cluster.tp, cluster.fn = (called, rest) if should else (0, 0)
            cluster.fp, cluster.tn = (0, 0) if should else (called, rest)
            total += cluster
            repeated.add(cluster)
        f1 = 2 * total.tp / (2 * total.tp + total.fp + total.fn)
        interval = ratio_interval("trigger_similarity", f1, total, repeated)
        _same((low[run], high[run]), (interval.low, interval.high))


def _check_runs(rng: np.random.Generator) -> None:
    for runs in (1, 3):
        counts = rng.multinomial(300, rng.dirichlet(np.ones(2 * runs + 2), _TIMES)).reshape(-1, runs + 1, 2)
        drawn = Runs(counts, np.zeros(_TIMES, dtype=np.int64))
        surplus, exchange = drawn.surplus(), drawn.exchange_p()
        for place in range(_TIMES):
            table = package_table(counts[place])
            found = call_surplus(table)
            assert found is not None
            _same((surplus[0][place], surplus[1][place]), (found.interval.centre, found.interval.spread))
            test = exchange_test(table)
            _same((exchange[place], 0.0), (1.0 if test is None else test.p, 0.0))
        if runs > 1:
            value, error, skewness, own = drawn.non_inferiority()
            low = value - error * student(2.5, skewness, drawn.cases)
            for place in range(_TIMES):
                against = non_inferiority(package_table(counts[place]))
                assert against is not None
                estimate = against.difference
                _same((value[place], error[place]), (estimate.value, estimate.interval.spread))
                _same((own[place], skewness[place]), (against.self_agreement, estimate.interval.skewness))
                _same((low[place], 0.0), (at_level(estimate.value, estimate.interval, 2.5).low, 0.0))


def _same(ours: tuple[float, float], theirs: tuple[float, float]) -> None:
    if not all(isclose(one, other, abs_tol=_CLOSE) for one, other in zip(ours, theirs, strict=True)):
        raise SystemExit(f"the study's formula gives {ours}, the package's {theirs}: nothing to study")
