"""From run directories, bundles, reports and results files to the runs of a history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.comparison.history import (
    SHOWN_METRICS,
    HistoryRun,
    Sums,
    run_of,
    void_of,
)
from k2_verifier_adapter.core.json_text import json_object, number, number_or_none, text, text_or_none, whole
from k2_verifier_adapter.core.metrics import CALL_SURPLUS, Metric
from k2_verifier_adapter.core.observed import Observed
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.files import read_small
from k2_verifier_adapter.offline.bundle import participants_of
from k2_verifier_adapter.offline.official import OfficialAnswers

REPORT_SUFFIX = ".json"
_MOST_REQUESTS = 10_000_000


def read_history(
    paths: Sequence[Path],
    official: Callable[[], OfficialAnswers] | None = None,
    *,
    model: str | None = None,
    subset: str | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[HistoryRun]:
    """Read runs, in the order given; `official` gives what results files are held against.

    Raises:
        DataError: If a run, report or results file cannot be read.
        UsageError: If one is given twice, holds no such model or subset, or if results files have nothing to
            be held against.
    """
    known: set[Path] = set()
    runs: list[HistoryRun] = []
    for path in paths:
        if path.resolve() in known:
            raise UsageError(f"{path}: is given twice; give each run once")
        known.add(path.resolve())
        if path.is_file() and path.name.endswith(REPORT_SUFFIX):
            found = [run_of_report(path)]
        else:
            found = [run_of(participant) for participant in participants_of(path, official, subset)]
        named = [run for run in found if model in (None, run.model)]
        if not named:
            held = ", ".join(sorted({run.model for run in found}))
            raise UsageError(f"{path}: holds no model {model!r}, only: {held}")
        runs += named
        advance(1)
    return runs


def run_of_report(path: Path) -> HistoryRun:
    """Read what `report --format json` wrote, or raise `DataError`; of single cases it tells nothing."""
    try:
        return _run_of(json_object(json.loads(read_small(path))), str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: is no report as 'k2-verifier report --format json' writes it: {error!r}"
        ) from None


def _run_of(report: dict[str, Any], source: str) -> HistoryRun:
    provenance, requests = report["provenance"], report["requests"]
    served = provenance["served"]
    observed = Observed(Counter(json_object(served["models"])), Counter(json_object(served["providers"])))
    return HistoryRun(
        source=source,
        model=text(report["model"]),
        subset=text_or_none(report["subset"]) or "",
        started_at=text_or_none(provenance["started_at"]),
        complete=bool(report["complete"]),
        completed=_count(requests["completed"]),
        failed=_count(requests["failed"]),
        metrics={name: _metric(name, report["metrics"][name]) for name in SHOWN_METRICS},
        setup={
            "model": text(report["model"]),
            "subset": text_or_none(report["subset"]),
            "endpoint": text_or_none(provenance["endpoint_host"]),
            "served_models": sorted(served["models"]),
            "rows_sha256": text(provenance["rows"]["sha256"]),
            "repeats": whole(provenance["repeats"]),
            "adapter": text(provenance["adapter"]),
            "evalscope": text_or_none(provenance["evalscope"]),
            **{
                f"parameters.{name}": value
                for name, value in sorted(json_object(report["parameters"]).items())
                if name != "model"
            },
            "providers": sorted(served["providers"]),
            "system_fingerprints": sorted(served["system_fingerprints"]),
        },
        rows=RowsInfo.from_json(provenance["rows"]),
        void=observed.mixed or void_of(text_or_none(report["verdict"]["reason"])),
        warnings=[text(line) for line in report["warnings"]],
        cases=None,
        sums=_sums(report),
    )


def _sums(report: dict[str, Any]) -> Sums:
    tp, fn, fp, tn = (_count(report["confusion"][name]) for name in ("tp", "fn", "fp", "tn"))
    valid = _count(report["counts"]["count_successful_tool_call"])
    if valid > tp + fp:
        raise ValueError(f"{valid} valid calls are more than the {tp + fp} calls")
    return Sums(tp, fn, fp, tn, valid)


def _count(value: Any) -> int:
    """Give a number of requests; a ValueError says that it is none, or more than any run makes."""
    if not 0 <= whole(value) <= _MOST_REQUESTS:
        raise ValueError(f"{value} is no number of requests")
    return whole(value)


def _metric(name: str, value: dict[str, Any]) -> Metric:
    least, most = (-1.0, inf) if name == CALL_SURPLUS else (0.0, 1.0)
    n, found = _count(value["n"]), number_or_none(value["value"])
    interval = None
    if value["low"] is not None:
        interval = Interval(number(value["low"]), number(value["high"]), text(value["method"]), n)
    shares = [found] if interval is None else [found, interval.low, interval.high]
    if not all(share is None or least <= share <= most for share in shares):
        raise ValueError(f"{name} {shares} is none that a run has")
    return Metric(name, found, n, interval)
