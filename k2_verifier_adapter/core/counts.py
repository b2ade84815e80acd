"""Sums over responses, by decision and validity, by tool and by text: adding two gives that of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.judgement import LONGEST_NAME, FailedRequest, Fix, Judgement, ToolUse
from k2_verifier_adapter.core.responses import FinishBucket

SHARE_UNIT = 1 << 60
"""Shares are summed as whole numbers of this many to one: in whatever order, to the same sum."""

MAX_DISTINCT = 1_000
"""Different texts of a vendor that are counted apart; the rest is counted together."""

MAX_TEXT = 1_000
"""Characters of such a text that are kept."""

OTHER_TEXTS = "(other values)"

MAX_TOOLS = 10_000
"""Different tool names that are counted apart; the rest is counted together."""

OTHER_TOOLS = "(other tools)"

_NOT_OF_A_TOOL = frozenset(
    {
        FailureClass.NONSTANDARD_TOOL_CALL_ID,
        FailureClass.DUPLICATE_TOOL_CALL_ID,
        FailureClass.TOOL_CALL_ID_REUSED,
        FailureClass.MARKUP_IN_TOOL_CALL_ID,
    }
)
"""Classes that say nothing of the tool that was called."""

_NOR_THE_CAUSE = _NOT_OF_A_TOOL | {FailureClass.MISSED_CALL}


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
        bucket, official_bucket = judgement.bucket, judgement.official_bucket
        calls, should_call = bucket is FinishBucket.TOOL_CALLS, judgement.should_call
        self.completed += 1
        self.tp += calls and should_call
        self.fp += calls and not should_call
        self.fn += should_call and not calls
        self.tn += not calls and not should_call
        self.stop += bucket is FinishBucket.STOP
        self.tool_calls += calls
        self.others += bucket is FinishBucket.OTHERS
        self.successful += calls and judgement.tool_calls_valid is True
        self.official_stop += official_bucket is FinishBucket.STOP
        self.official_tool_calls += official_bucket is FinishBucket.TOOL_CALLS
        self.official_others += official_bucket is FinishBucket.OTHERS
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

    def add_completion(self) -> None:
        """Count how a failed request that counts as a missed call would change, had it been answered.

        Answered, it decides as the official API does, with valid calls.
        """
        self.fn -= 1
        self.tp += 1
        self.tool_calls += 1
        self.successful += 1

    def __add__(self, other: Counts) -> Counts:
        """Merge two counts into new ones."""
        return Counts(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(Counts)))


@dataclass(slots=True)
class ToolCounts:
    """What was seen of one tool.

    Attributes:
        calls: Calls under finish_reason `tool_calls`.
        responses: Responses by the failure class that they show of this tool: of its calls, of a call
            that leaked, or of one that is missing or too much. Ids are left out, and so is a call that
            is missed for another cause.
    """

    calls: int = 0
    invalid: int = 0
    responses: Counter[FailureClass] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """Responses times failure classes."""
        return self.responses.total()


@dataclass(slots=True)
class ToolTally:
    """The counts of all tools; merging two gives the counts of both.

    Attributes:
        by_name: Counts by tool name; from `MAX_TOOLS` names on, new ones under `OTHER_TOOLS`.
    """

    by_name: dict[str, ToolCounts] = field(default_factory=dict)

    def add(
        self, uses: Iterable[ToolUse], failures: Iterable[Failure], primary: FailureClass | None = None
    ) -> None:
        """Count one response, with its failures and the class that is their cause."""
        for use in uses:
            counts = self._counts(use.name)
            counts.calls += use.calls
            counts.invalid += use.invalid
        # What hid a call is told of its tool; that the call is missed as well, is not.
        left_out = _NOT_OF_A_TOOL if primary is FailureClass.MISSED_CALL else _NOR_THE_CAUSE
        seen = dict.fromkeys(
            (excerpt(failure.tool, LONGEST_NAME), failure.failure_class)
            for failure in failures
            if failure.tool and failure.failure_class not in left_out
        )
        for name, kind in seen:
            self._counts(name).responses[kind] += 1

    def merge(self, other: ToolTally) -> None:
        """Take in the counts of other responses."""
        for name, theirs in other.by_name.items():
            ours = self._counts(name)
            ours.calls += theirs.calls
            ours.invalid += theirs.invalid
            ours.responses += theirs.responses

    def _counts(self, name: str) -> ToolCounts:
        counts = self.by_name.get(name)
        if counts is None:
            if len(self.by_name) >= MAX_TOOLS:
                name = OTHER_TOOLS
            counts = self.by_name.setdefault(name, ToolCounts())
        return counts

    def worst(self) -> list[tuple[str, ToolCounts]]:
        """List the tools with failures, those with the most invalid calls and failures first."""
        failing = [(name, counts) for name, counts in self.by_name.items() if counts.responses]
        return sorted(failing, key=lambda item: (-item[1].invalid, -item[1].failures, item[0]))

    def showing(self, kinds: Iterable[FailureClass]) -> int:
        """Count the tools that show any of these classes."""
        listed = tuple(kinds)
        return sum(any(counts.responses[kind] for kind in listed) for counts in self.by_name.values())


def count_text(counter: Counter[str], text: str) -> None:
    """Count a text that a vendor sends, within `MAX_DISTINCT` texts and `MAX_TEXT` characters."""
    _count(counter, excerpt(text, MAX_TEXT), 1)


def merge_texts(counter: Counter[str], other: Counter[str]) -> None:
    """Count what another counter of such texts holds, within `MAX_DISTINCT`."""
    for text, count in other.items():
        _count(counter, text, count)


def _count(counter: Counter[str], text: str, number: int) -> None:
    counter[text if text in counter or len(counter) < MAX_DISTINCT else OTHER_TEXTS] += number
