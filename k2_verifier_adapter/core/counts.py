"""Counts of judgements: adding two gives the counts of both."""

from __future__ import annotations

from dataclasses import dataclass, fields

from k2_verifier_adapter.core.judgement import FailedRequest, Fix, Judgement
from k2_verifier_adapter.core.responses import FinishBucket

SHARE_UNIT = 1 << 60
"""Shares are summed as whole numbers of this many to one: in whatever order, to the same sum."""


@dataclass(slots=True)
class Counts:
    """Plain sums over completed responses, and the failed requests beside them.

    Attributes:
        completed: Completed responses.
        tp: Both the vendor and the official API call (finish_reason `tool_calls`).
        fp: Only the vendor calls.
        fn: Only the official API calls.
        tn: Neither calls.
        stop: Responses with finish_reason `stop`.
        tool_calls: Responses with finish_reason `tool_calls`.
        others: Responses with any other finish_reason; a null one is in none of the three.
        successful: Responses with finish_reason `tool_calls` whose calls are all valid.
        official_stop: Official answers with finish_reason `stop`, over the same cases.
        official_tool_calls: Official answers that call.
        official_others: Official answers with any other finish_reason.
        official_successful: Official answers that call and whose calls are all valid.
        name_pairs: Cases where both sides call and the official calls are known.
        name_matches: Those with the same multiset of tool names.
        argument_pairs: Cases with at least one aligned call.
        argument_units: Sum of their argument agreements, in units of 1 / `SHARE_UNIT`.
        argument_square_units: Sum of the squares of their argument agreements, in squares of the unit.
        failed: Requests without a completion; they are in none of the other counts, but for `fn` and
            `tn` where they are to count as "did not call".
    """

    completed: int = 0
    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0
    stop: int = 0
    tool_calls: int = 0
    others: int = 0
    successful: int = 0
    official_stop: int = 0
    official_tool_calls: int = 0
    official_others: int = 0
    official_successful: int = 0
    name_pairs: int = 0
    name_matches: int = 0
    argument_pairs: int = 0
    argument_units: int = 0
    argument_square_units: int = 0
    failed: int = 0

    @property
    def argument_sum(self) -> float:
        """Sum of the argument agreements."""
        return self.argument_units / SHARE_UNIT

    @property
    def argument_squares(self) -> float:
        """Sum of the squares of the argument agreements."""
        return self.argument_square_units / SHARE_UNIT**2

    @property
    def schema_errors(self) -> int:
        """Responses that call, but not validly; an empty call list is among them."""
        return self.tool_calls - self.successful

    @property
    def official_schema_errors(self) -> int:
        """Official answers that call, but not validly."""
        return self.official_tool_calls - self.official_successful

    def add(self, judgement: Judgement) -> None:
        """Count one judgement."""
        self.completed += 1
        calls, should_call = judgement.calls, judgement.should_call
        self.tp += calls and should_call
        self.fp += calls and not should_call
        self.fn += should_call and not calls
        self.tn += not calls and not should_call
        self.stop += judgement.bucket is FinishBucket.STOP
        self.tool_calls += calls
        self.others += judgement.bucket is FinishBucket.OTHERS
        self.successful += judgement.successful
        self.official_stop += judgement.official_bucket is FinishBucket.STOP
        self.official_tool_calls += judgement.official_bucket is FinishBucket.TOOL_CALLS
        self.official_others += judgement.official_bucket is FinishBucket.OTHERS
        self.official_successful += judgement.official_valid is True
        if judgement.same_names is not None:
            self.name_pairs += 1
            self.name_matches += judgement.same_names
        if judgement.argument_agreement is not None:
            self.argument_pairs += 1
            units = int(judgement.argument_agreement * SHARE_UNIT)
            self.argument_units += units
            self.argument_square_units += units * units

    def add_failed(self, request: FailedRequest) -> None:
        """Count one failed request."""
        self.failed += 1
        self.fn += request.as_no_call_against is True
        self.tn += request.as_no_call_against is False

    def add_change(self, judgement: Judgement, fix: Fix) -> None:
        """Count how the decision and the validity of one response would change; sums may be negative."""
        should_call = judgement.should_call
        for calls, successful, sign in (
            (judgement.calls, judgement.successful, -1),
            (fix.calls, fix.calls and fix.valid, 1),
        ):
            self.tp += sign * (calls and should_call)
            self.fp += sign * (calls and not should_call)
            self.fn += sign * (should_call and not calls)
            self.tn += sign * (not calls and not should_call)
            self.tool_calls += sign * calls
            self.successful += sign * successful

    def add_completion(self, request: FailedRequest) -> None:
        """Count how a failed request that counts as "did not call" would change, had it been answered.

        Answered, it decides as the official API does, with valid calls.
        """
        if request.as_no_call_against:
            self.fn -= 1
            self.tp += 1
            self.tool_calls += 1
            self.successful += 1

    def __add__(self, other: Counts) -> Counts:
        """Merge two counts into new ones."""
        return Counts(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(Counts)))
