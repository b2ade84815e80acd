"""The exit code of a report: a pure decision from a summary and what the user asked for.

0 done and, if a gate was asked, passed; 1 gate failed; 3 inconclusive or incomplete. No data at all
is an error (exit code 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from k2_verifier_adapter.core.comparison.baseline import DEFAULT_MARGIN, NotWorse
from k2_verifier_adapter.core.comparison.compare import Comparison, not_worse
from k2_verifier_adapter.core.comparison.history import History
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.printable import percent_beside, plural, points
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import (
    STRICT_COVERAGE,
    Gate,
    GateOptions,
    Status,
    Verdict,
    WhenInconclusive,
)
from k2_verifier_adapter.errors import DataError, UsageError

PASSED = 0
GATE_FAILED = 1
UNUSABLE = 2
INCONCLUSIVE = 3

DEFAULT_MIN_COVERAGE = 0.95
"""Share of the requests that must have completed, unless the gate is strict."""

_SEVERITY = (UNUSABLE, GATE_FAILED, INCONCLUSIVE, PASSED)


@dataclass(frozen=True, slots=True)
class Decision:
    """An exit code and why, in one line; None where there is nothing to say."""

    code: int
    reason: str | None = None


def refuse_undecidable(
    options: GateOptions,
    subset: str,
    standard: Standard | None,
    *,
    synthetic: bool,
    several_runs: bool,
    stopping: bool = False,
) -> None:
    """Refuse a gate, or a run until its verdict is decided, that no answer could decide.

    Args:
        options: The gate.
        subset: The subset, for the message.
        standard: What the rows are held against, or None.
        synthetic: Whether any row is synthetic.
        several_runs: Whether the rows carry the decisions of several official runs.
        stopping: Whether the run is to stop when the strict verdict is decided.

    Raises:
        UsageError: If the rows carry no verdict.
    """
    if options.gate is Gate.NONE and not stopping:
        return
    asked = f"{'stop_when_decided is set' if stopping else f'gate is {options.gate.value!r}'}, but {subset}"
    if synthetic:
        left = "stop_when_decided" if stopping else "the gate"
        raise UsageError(f"{asked} has synthetic rows, which carry no verdict; leave {left} away")
    known = options.requirements.similarity is not None or (
        standard is not None and standard.threshold is not None
    )
    if not known and not (several_runs and (stopping or options.gate is Gate.STRICT)):
        raise UsageError(
            f"{asked} has no threshold; give --min-trigger-similarity, or rows that 'k2-verifier dataset "
            "build' made of several official runs"
        )


def exit_code(summary: Summary) -> Decision:
    """Decide the exit code of a report, by the gate of its run.

    What keeps any verdict from being meaningful comes first: an interrupted run, no completed
    request, too small a coverage, no verdict. Then the chosen rule decides.

    Raises:
        DataError: If no request completed and none failed.
    """
    facts, options = summary.facts, summary.facts.gate
    if not summary.completed and not summary.tally.failed:
        raise DataError(f"{facts.model}, {facts.subset}: the run holds no completed and no failed request")
    if not facts.complete:
        missing = plural(summary.missing, "request")
        why = f"stopped ({facts.stopped})" if facts.stopped else "interrupted"
        return Decision(INCONCLUSIVE, f"incomplete: the run was {why}, {missing} not made")
    if not summary.completed:
        failed = plural(summary.tally.failed, "request")
        return Decision(INCONCLUSIVE, f"incomplete: {failed} failed and none completed")
    coverage, required = summary.coverage, required_coverage(options)
    if coverage is not None and coverage < required:
        return Decision(
            INCONCLUSIVE,
            f"incomplete: {summary.completed} of {summary.total} requests completed "
            f"({percent_beside(coverage, required)}), below --min-coverage {required:g}",
        )
    decisions = []
    if options.gate is not Gate.NONE:
        decisions.append(_by_thresholds(summary.verdict, options))
    if summary.baseline is not None:
        decisions.append(by_baseline(summary.baseline, options.inconclusive))
    reasons = [decision.reason for decision in decisions if decision.reason is not None]
    return Decision(worst(decision.code for decision in decisions), "; ".join(reasons) or None)


def _by_thresholds(verdict: Verdict, options: GateOptions) -> Decision:
    gate = f"gate {options.gate.value}"
    status = verdict.status if options.gate is Gate.STRICT else verdict.upstream_status
    if status is Status.NONE:
        return Decision(INCONCLUSIVE, f"{gate}: no verdict possible: {verdict.reason}")
    if status is Status.FAIL:
        return Decision(GATE_FAILED, f"{gate}: failed")
    if verdict.barred is not None:
        # Whoever lets an inconclusive verdict pass has not seen what was left out.
        fails = options.inconclusive is WhenInconclusive.FAIL
        return Decision(GATE_FAILED if fails else INCONCLUSIVE, f"{gate}: no pass with {verdict.barred}")
    if status is Status.PASS:
        return Decision(PASSED, f"{gate}: passed")
    open_checks = [check.metric for check in verdict.checks if check.applied and not check.settled]
    return _inconclusive(gate, f"undecided: {', '.join(open_checks)}", options.inconclusive)


def required_coverage(options: GateOptions) -> float:
    """Give the share of the requests that must have completed."""
    default = STRICT_COVERAGE if options.gate is Gate.STRICT else DEFAULT_MIN_COVERAGE
    asked = options.requirements.coverage
    return default if asked is None else asked


def by_baseline(found: NotWorse, inconclusive: WhenInconclusive | None) -> Decision:
    """Decide the exit code of a run that was held against a baseline."""
    gate = f"not worse than {found.baseline}"
    if found.status is Status.NONE:
        return Decision(INCONCLUSIVE, f"{gate}: no verdict possible: {found.reason}")
    if found.status is Status.INCONCLUSIVE:
        return _inconclusive(gate, "more common cases would settle it", inconclusive)
    if found.status is Status.FAIL:
        return Decision(GATE_FAILED, f"{gate}: failed, worse by more than {points(found.margin)} points")
    return Decision(PASSED, f"{gate}: passed")


def check_two_runs(runs: int) -> None:
    """Refuse the gate for another number of runs than two."""
    if runs != 2:
        raise UsageError(
            f"--gate not-worse: {runs} runs are given, but it holds the first of two against the second; "
            "give the run on trial and then its baseline, or leave the gate away"
        )


def not_worse_outcome(comparison: Comparison, margin: float = DEFAULT_MARGIN) -> NotWorse:
    """Decide whether the first run is not worse than the second.

    What fails is in no difference: a run of which too much failed, or that was interrupted, gets no
    verdict, as in its own report.
    """
    found = not_worse(comparison, margin)
    if found.reason is not None:
        return found
    reason = _too_little_completed(comparison)
    return found if reason is None else replace(found, status=Status.NONE, reason=reason)


def _too_little_completed(comparison: Comparison) -> str | None:
    """Say why too little of the first run completed, or too little of a log counts, or None."""
    first = comparison.standings[0]
    facts, completed = first.participant.summary.facts, first.counts.completed
    if not facts.complete:
        why = f"stopped ({facts.stopped})" if facts.stopped else "interrupted"
        return f"incomplete: the run was {why}"
    for standing in comparison.standings:
        participant = standing.participant
        if (barred := participant.summary.verdict.barred) is not None:
            return f"{participant.source}: {barred}"
    requests = completed + first.counts.failed
    if completed < DEFAULT_MIN_COVERAGE * requests:
        share = percent_beside(completed / requests, DEFAULT_MIN_COVERAGE)
        return (
            f"incomplete: {completed:,} of {requests:,} requests for the common cases completed ({share}), "
            f"fewer than {DEFAULT_MIN_COVERAGE:.0%}"
        )
    return None


class HistoryGate(str, Enum):
    """Which changes of a history fail the gate."""

    NONE = "none"
    NO_CHANGE = "no-change"
    NO_NEW_CHANGE = "no-new-change"


def by_history(history: History, gate: HistoryGate) -> Decision:
    """Decide the exit code of a history: any change fails, or one that its last run has shown."""
    if gate is HistoryGate.NONE:
        return Decision(PASSED)
    last = len(history.runs) - 1
    new_only = gate is HistoryGate.NO_NEW_CHANGE
    counting = [change for change in history.changes if not new_only or change.seen_at == last]
    said = f"gate {gate.value}"
    if counting:
        changes = "; ".join(history.in_words(change) for change in counting)
        return Decision(GATE_FAILED, f"{said}: failed: {changes}")
    if history.untested[last] is not None or not history.runs[last].complete:
        why = history.untested[last] or "it did not come to its end"
        return Decision(INCONCLUSIVE, f"{said}: inconclusive: the last run: {why}")
    if not history.looks:
        return Decision(INCONCLUSIVE, f"{said}: inconclusive: no run before the last can be held against it")
    return Decision(PASSED, f"{said}: passed after {plural(history.looks, 'look')}")


def _inconclusive(gate: str, settled: str, means: WhenInconclusive | None) -> Decision:
    says = f"{gate}: inconclusive"
    if means is WhenInconclusive.FAIL:
        return Decision(GATE_FAILED, f"{says}, which fails (--inconclusive fail)")
    if means is WhenInconclusive.OK:
        return Decision(PASSED, f"{says}, which passes (--inconclusive ok)")
    return Decision(INCONCLUSIVE, f"{says}; {settled}")


def worst(codes: Iterable[int]) -> int:
    """Give the exit code of several reports: unusable, then failed, then inconclusive."""
    found = set(codes)
    return next((code for code in _SEVERITY if code in found), PASSED)
