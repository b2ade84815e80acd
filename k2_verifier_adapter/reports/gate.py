"""The exit code of a report: a pure decision from a summary and what the user asked for.

0 done and, if a gate was asked, passed; 1 gate failed; 3 inconclusive or incomplete. No data at all
is an error (exit code 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Gate, Status
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.reports.printable import percent_beside, plural

PASSED = 0
GATE_FAILED = 1
UNUSABLE = 2
INCONCLUSIVE = 3

DEFAULT_MIN_COVERAGE = 0.95
"""Share of the requests that must have completed before a gate decides."""

_SEVERITY = (UNUSABLE, GATE_FAILED, INCONCLUSIVE, PASSED)


class WhenInconclusive(str, Enum):
    """What an inconclusive verdict means for the exit code, where the user says."""

    FAIL = "fail"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user asked for.

    Attributes:
        gate: Which rule decides.
        inconclusive: What an inconclusive verdict means; exit code 3 if None.
        min_coverage: Completed / all requests below which nothing is decided; if None,
            `DEFAULT_MIN_COVERAGE` with a gate, no check without.
        minimums: The user's thresholds by metric name.
    """

    gate: Gate = Gate.NONE
    inconclusive: WhenInconclusive | None = None
    min_coverage: float | None = None
    minimums: Mapping[str, float] = field(default_factory=dict)

    @property
    def required_coverage(self) -> float | None:
        """The coverage to check, or None."""
        if self.min_coverage is None and self.gate is not Gate.NONE:
            return DEFAULT_MIN_COVERAGE
        return self.min_coverage


@dataclass(frozen=True, slots=True)
class Decision:
    """An exit code and why.

    Attributes:
        code: The exit code.
        reason: One line, or None where there is nothing to say.
    """

    code: int
    reason: str | None = None


def exit_code(summary: Summary, options: GateOptions) -> Decision:
    """Decide the exit code of a report.

    What keeps any verdict from being meaningful comes first: an interrupted run, no completed
    request, too small a coverage, no verdict. Then the chosen rule decides.

    Raises:
        DataError: If no request completed and none failed.
    """
    facts = summary.facts
    if not summary.completed and not summary.tally.failed:
        raise DataError(f"{facts.model}, {facts.subset}: the run holds no completed and no failed request")
    if not facts.complete:
        missing = plural(summary.missing, "request")
        why = f"stopped ({facts.stopped})" if facts.stopped else "interrupted"
        return Decision(INCONCLUSIVE, f"incomplete: the run was {why}, {missing} not made")
    if not summary.completed:
        failed = plural(summary.tally.failed, "request")
        return Decision(INCONCLUSIVE, f"incomplete: {failed} failed and none completed")
    coverage, required = summary.coverage, options.required_coverage
    if required is not None and coverage is not None and coverage < required:
        return Decision(
            INCONCLUSIVE,
            f"incomplete: {summary.completed} of {summary.total} requests completed "
            f"({percent_beside(coverage, required)}), below --min-coverage {required:g}",
        )
    if options.gate is Gate.NONE:
        return Decision(PASSED)
    verdict = summary.verdict
    status = verdict.status if options.gate is Gate.STRICT else verdict.upstream_status
    if status is Status.NONE:
        return Decision(INCONCLUSIVE, f"gate {options.gate.value}: no verdict possible: {verdict.reason}")
    if status is Status.INCONCLUSIVE:
        return _inconclusive(options)
    if status is Status.FAIL:
        return Decision(GATE_FAILED, f"gate {options.gate.value}: failed")
    return Decision(PASSED, f"gate {options.gate.value}: passed")


def _inconclusive(options: GateOptions) -> Decision:
    says = f"gate {options.gate.value}: inconclusive"
    if options.inconclusive is WhenInconclusive.FAIL:
        return Decision(GATE_FAILED, f"{says}, which fails (--inconclusive fail)")
    if options.inconclusive is WhenInconclusive.OK:
        return Decision(PASSED, f"{says}, which passes (--inconclusive ok)")
    return Decision(INCONCLUSIVE, f"{says}; more rows would settle it")


def worst(codes: Iterable[int]) -> int:
    """Give the exit code of several reports: unusable, then failed, then inconclusive."""
    found = set(codes)
    return next((code for code in _SEVERITY if code in found), PASSED)
