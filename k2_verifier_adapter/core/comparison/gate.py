"""The gate of a comparison: of two runs, is the first not worse than the second?"""

from __future__ import annotations

from dataclasses import replace

from k2_verifier_adapter.core.comparison.baseline import DEFAULT_MARGIN, NotWorse
from k2_verifier_adapter.core.comparison.compare import Comparison, not_worse
from k2_verifier_adapter.core.gate import DEFAULT_MIN_COVERAGE
from k2_verifier_adapter.core.printable import percent_beside
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.errors import UsageError


def check_two(runs: int) -> None:
    """Refuse the gate for another number of runs.

    Raises:
        UsageError: If there are not two.
    """
    if runs != 2:
        raise UsageError(
            f"--gate not-worse: {runs} runs are given, but it holds the first of two against the second; "
            "give the run on trial and then its baseline, or leave the gate away"
        )


def outcome(comparison: Comparison, margin: float = DEFAULT_MARGIN) -> NotWorse:
    """Decide whether the first run is not worse than the second.

    What fails is in no difference: a run of which too much failed, or that was interrupted, gets no
    verdict, as in its own report.

    Args:
        comparison: Two runs.
        margin: How much worse the first may be, as a share.
    """
    found = not_worse(comparison, margin)
    if found.reason is not None:
        return found
    reason = _incomplete(comparison)
    return found if reason is None else replace(found, status=Status.NONE, reason=reason)


def _incomplete(comparison: Comparison) -> str | None:
    """Say why too little of the first run completed, or None."""
    standing = comparison.standings[0]
    facts, completed = standing.participant.summary.facts, standing.counts.completed
    if not facts.complete:
        why = f"stopped ({facts.stopped})" if facts.stopped else "interrupted"
        return f"incomplete: the run was {why}"
    requests = completed + standing.counts.failed
    if completed < DEFAULT_MIN_COVERAGE * requests:
        share = percent_beside(completed / requests, DEFAULT_MIN_COVERAGE)
        return (
            f"incomplete: {completed:,} of {requests:,} requests for the common cases completed ({share}), "
            f"fewer than {DEFAULT_MIN_COVERAGE:.0%}"
        )
    return None
