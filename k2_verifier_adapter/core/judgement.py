"""What became of one request: a judgement of the response, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.responses import FinishBucket

WITHOUT_NAME = "(no name)"
"""The name under which calls without one are counted."""

LONGEST_NAME = 200
"""Characters of a tool's name that are kept."""


@dataclass(frozen=True, slots=True)
class Fix:
    """What a response would be worth without a class of failure; `valid` is about calls only."""

    failure_class: FailureClass
    calls: bool
    valid: bool


class NoteKind(str, Enum):
    """What a note says; the value is the name used in files."""

    DUPLICATE_KEYS = "duplicate_keys"
    NOT_A_NUMBER = "not_a_number"
    REPAIRABLE_JSON = "repairable_json"
    EMPTY_OBJECT_FITS = "empty_object_fits"
    FURTHER_VIOLATIONS = "further_violations"
    ARGUMENTS_NOT_TEXT = "arguments_not_text"


@dataclass(frozen=True, slots=True)
class Note:
    """One note on one call, which is named by its 0-based position in the response."""

    kind: NoteKind
    detail: str
    call: int
    tool: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        fields = {"note": self.kind.value, "detail": self.detail, "call": self.call, "tool": self.tool}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The calls of one tool in one response; a long name is shortened."""

    name: str
    calls: int
    invalid: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one completed response is worth.

    Attributes:
        finish_reason: The literal finish_reason, None if in no bucket.
        tool_calls_valid: As upstream's field: None unless finish_reason is `tool_calls` and calls
            are present; else whether every call is valid.
        official_valid: Whether the official calls are valid; None if the official answer is no
            call. Official calls that the row does not carry count as valid.
        same_names: Whether both sides call the same multiset of names; None unless both call and
            the row carries the official calls.
        argument_agreement: Share of equal leaf values over aligned calls, or None.
        repaired: Whether upstream would have sent this case differently.
        failures: Every failure seen, in the order in which the response shows them.
        primary: The class of the failure that the others follow from, by a fixed order; None where
            there is no failure.
        fixes: What the response would be worth without a class, for those classes whose fix would
            change it.
        tools: The calls by tool; empty unless finish_reason is `tool_calls`.
        official_runs: How many official runs called, and how many answered; None if one is known.
        unseen_tokens: Whether more tokens were generated than all that is visible can be.
    """

    finish_reason: str | None
    bucket: FinishBucket
    tool_calls_valid: bool | None
    should_call: bool
    official_bucket: FinishBucket
    official_valid: bool | None
    same_names: bool | None
    argument_agreement: float | None
    repaired: bool
    failures: tuple[Failure, ...]
    primary: FailureClass | None = None
    fixes: tuple[Fix, ...] = ()
    notes: tuple[Note, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    official_runs: tuple[int, int] | None = None
    unseen_tokens: bool = False

    @property
    def calls(self) -> bool:
        """The vendor's decision: finish_reason is `tool_calls`."""
        return self.bucket is FinishBucket.TOOL_CALLS

    @property
    def successful(self) -> bool:
        """Whether the response counts as a successful tool call."""
        return self.calls and self.tool_calls_valid is True

    @property
    def schema_error(self) -> bool:
        """Whether the response counts as a schema validation error, an empty call list included."""
        return self.calls and self.tool_calls_valid is not True


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """One request that gave no completion; it is never judged.

    Attributes:
        failure: The transport failure, its detail fit for a report (no secrets).
        duration_s: Seconds from the first attempt to the end of the last.
        as_no_call_against: The official decision, if the request is to count as "did not call", as
            some scripts have it; None, this project's rule, if not.
        official_runs: As that of a judgement; it matters only beside `as_no_call_against`.
        retry_after_s: What the last attempt's `Retry-After` asked for, in seconds; it is not stored.
    """

    case_index: int
    failure: Failure
    status: int | None = None
    attempts: int = 1
    repeat: int = 0
    duration_s: float = 0.0
    as_no_call_against: bool | None = None
    official_runs: tuple[int, int] | None = None
    retry_after_s: float | None = field(default=None, compare=False)
