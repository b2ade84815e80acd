"""Reading the probes of a run back, and judging their answers again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from k2_verifier_adapter.core.conformance.results import Conformance, SuiteResult, judge_suite
from k2_verifier_adapter.core.verdict import Gate
from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.errors import DataError, UsageError
from k2_verifier_adapter.formats.runs import RunPaths, find_runs, read_facts, read_failures, read_predictions
from k2_verifier_adapter.formats.suites import read_probes
from k2_verifier_adapter.version import CONFORMANCE


def holds_probes(run: Path) -> bool:
    """Whether a run asked probes."""
    return any((run / CONFORMANCE).glob("**/run.json"))


def read_conformance(run: Path, model: str | None = None, suite: str | None = None) -> Conformance:
    """Read and judge the suites of one model of a run.

    Raises:
        DataError: If it holds none, or a file is missing or damaged.
        UsageError: If it holds several models and none is chosen, or no such model or suite.
    """
    found = find_runs(run, CONFORMANCE)
    fitting = [paths for paths in found if model in (None, paths.model) and suite in (None, paths.subset)]
    models = sorted({paths.model for paths in fitting})
    if len(models) != 1:
        listed = ", ".join(sorted({f"--model {paths.model}" for paths in found}))
        suites = ", ".join(sorted({paths.subset for paths in found}))
        what = "several models" if models else "no such model and suite"
        raise UsageError(f"{run}: holds {what}; choose one of: {listed}; suites: {suites}")
    return _judged(_read_suite(paths) for paths in sorted(fitting, key=_place))


def _judged(suites: Iterable[SuiteResult]) -> Conformance:
    listed = tuple(suites)
    facts = listed[0].facts
    return Conformance(facts.model_profile, listed, gate=facts.gate.gate is Gate.STRICT)


def _place(paths: RunPaths) -> tuple[int, str]:
    """Put the bundled suites first, in their own order."""
    name = paths.subset
    return (BUNDLED_SUITES.index(name) if name in BUNDLED_SUITES else len(BUNDLED_SUITES), name)


def _read_suite(paths: RunPaths) -> SuiteResult:
    facts = read_facts(paths)
    if facts is None:
        raise DataError(f"{paths.facts}: not found; the run directory is not complete")
    cases, left_out = read_probes(paths.probes, paths.subset, facts.model_profile)
    records, _ = read_predictions(paths.predictions)
    known = {case.case.index for case in cases}
    # A smaller rerun leaves earlier answers in the file; they are not part of this run.
    kept = [record for record in records if record.case_index in known and 0 <= record.repeat < facts.repeats]
    return judge_suite(cases, kept, read_failures(paths), facts, left_out)


def with_gate(found: Conformance, asked: str | None) -> Conformance:
    """Judge by another gate than the run was made with, if one is asked for."""
    return found if asked is None else replace(found, gate=asked == Gate.STRICT.value)
