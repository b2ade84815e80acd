"""From a run directory to a summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from k2_verifier_adapter.core.summary import Summary, summarize
from k2_verifier_adapter.formats.runs import StoredRun


def summary_of(run: StoredRun, minimums: Mapping[str, float] | None = None) -> Summary:
    """Judge every response of a stored run again and summarize it.

    Args:
        run: The run.
        minimums: The user's thresholds by metric name.
    """
    failed = [request for request in run.failed if request.case_index in run.cases]
    summary = summarize(run.facts, run.cases, run.records, failed, minimums=minimums)
    warnings = list(summary.warnings)
    if not run.facts.complete:
        why = f"stopped ({run.facts.stopped})" if run.facts.stopped else "interrupted"
        warnings.append(
            f"The run was {why}; continue it with 'k2-verifier eval ... --use-cache {run.paths.run}'."
        )
    if run.damaged_lines:
        noun = "line" if run.damaged_lines == 1 else "lines"
        warnings.append(
            f"{run.damaged_lines} {noun} of {run.paths.predictions.name} hold no readable response "
            "and count as missing."
        )
    return replace(summary, warnings=tuple(warnings))
