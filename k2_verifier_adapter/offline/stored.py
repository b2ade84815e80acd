"""From a run directory to a summary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from k2_verifier_adapter.core.judged import Item, judge_all
from k2_verifier_adapter.core.summary import Summary, summarize
from k2_verifier_adapter.core.verdict import GateOptions
from k2_verifier_adapter.formats.runs import StoredRun


def judge_run(run: StoredRun) -> list[Item]:
    """Judge every response of a stored run again; give them and its failed requests."""
    failed = [request for request in run.failed if request.case_index in run.cases]
    return [*judge_all(run.cases, run.records, run.facts.model_profile), *failed]


def summary_of(
    run: StoredRun, items: Iterable[Item] | None = None, *, gate: GateOptions | None = None
) -> Summary:
    """Summarize a stored run, for another gate than its own if one is given.

    `items` is what `judge_run` gave for it, where it was judged before.
    """
    items = judge_run(run) if items is None else items
    facts = run.facts if gate is None else replace(run.facts, gate=gate)
    summary = with_its_end(summarize(facts, run.cases.values(), items), run.paths.run)
    warnings = list(summary.warnings)
    if run.damaged_lines:
        noun = "line" if run.damaged_lines == 1 else "lines"
        warnings.append(
            f"{run.damaged_lines} {noun} of {run.paths.predictions.name} hold no readable response "
            "and count as missing."
        )
    return replace(summary, warnings=tuple(warnings))


def with_its_end(summary: Summary, run: Path) -> Summary:
    """Add how to go on with a run that did not come to its end."""
    facts = summary.facts
    if facts.complete:
        return summary
    why = f"stopped ({facts.stopped})" if facts.stopped else "interrupted"
    go_on = f"The run was {why}; continue it with 'k2-verifier eval ... --use-cache {run}'."
    return replace(summary, warnings=(*summary.warnings, go_on))
