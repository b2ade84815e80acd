"""Of several failures of one response, which one is its cause, and what would be without it.

The order is fixed and goes from causes to symptoms: what hides a call comes before the call that is
missed, what cuts an answer before the arguments that are cut.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group, LeakedCall
from k2_verifier_adapter.core.judgement import Fix

C = FailureClass

_UNREADABLE = frozenset(
    {
        C.TRUNCATED_JSON,
        C.CONCATENATED_JSON,
        C.TRAILING_TEXT,
        C.EMPTY_ARGUMENTS,
        C.OTHER_INVALID_JSON,
        C.FINISH_TOOL_CALLS_WITHOUT_CALLS,
    }
)
"""What is seen of calls that came cut, glued together or not at all."""

_NO_CALL = frozenset({C.FINISH_TOOL_CALLS_WITHOUT_CALLS})

_WRONG_ARGUMENTS = frozenset(
    {*(kind for kind in C if kind.group is Group.ARGUMENTS), C.UNDECLARED_TOOL, C.TOOL_NAME_CASE_OR_PREFIX}
)

_WRONG_FINISH = frozenset(
    {C.FINISH_REASON_MISSING, C.FINISH_REASON_UNKNOWN, C.CALLS_WITHOUT_FINISH_TOOL_CALLS}
)
"""What keeps calls that are there from counting as a call."""

WITHOUT_CALL = (
    C.DEGENERATE_TEXT,
    C.TRUNCATED_BY_LENGTH,
    C.CONTENT_FILTERED,
    C.FINISH_REASON_MISSING,
    C.FINISH_REASON_UNKNOWN,
    C.CALLS_WITHOUT_FINISH_TOOL_CALLS,
    C.MARKUP_IN_CONTENT,
    C.MARKUP_IN_REASONING,
    C.CALL_IN_CONTENT,
    C.CALL_IN_OTHER_CHOICE,
    C.STREAM_MESSAGE_FOR_DELTA,
    C.STREAM_EMPTY_TOOL_CALLS,
    C.EMPTY_RESPONSE,
    C.REASONING_ONLY,
    C.MISSED_CALL,
)
"""The order for a response that does not call."""

INVALID_CALL: tuple[tuple[FailureClass, frozenset[FailureClass] | None], ...] = (
    (C.BROKEN_TOOL_SCHEMA, None),
    (C.TOOL_WITHOUT_SCHEMA, None),
    (C.SCHEMA_TIMEOUT, None),
    (C.TRUNCATED_BY_LENGTH, _UNREADABLE),
    (C.MARKUP_IN_CONTENT, _UNREADABLE),
    (C.MARKUP_IN_REASONING, _UNREADABLE),
    (C.CALL_IN_CONTENT, _NO_CALL),
    (C.CALL_IN_OTHER_CHOICE, _NO_CALL),
    (C.STREAM_MESSAGE_FOR_DELTA, _NO_CALL),
    (C.STREAM_EMPTY_TOOL_CALLS, _NO_CALL | {C.UNDECLARED_TOOL}),
    (C.STREAM_CUMULATIVE, _UNREADABLE),
    (C.MARKUP_IN_ARGUMENTS, _WRONG_ARGUMENTS),
    (C.MARKUP_IN_TOOL_CALL_ID, _WRONG_ARGUMENTS),
    (C.STREAM_INDEX_MISSING, frozenset({C.CONCATENATED_JSON})),
    (C.FINISH_TOOL_CALLS_WITHOUT_CALLS, None),
    (C.TOOL_NAME_CASE_OR_PREFIX, None),
    (C.UNDECLARED_TOOL, None),
    (C.CONCATENATED_JSON, None),
    (C.TRUNCATED_JSON, None),
    (C.EMPTY_ARGUMENTS, None),
    (C.SINGLE_QUOTED_JSON, None),
    (C.TRAILING_TEXT, None),
    (C.OTHER_INVALID_JSON, None),
    (C.NOT_AN_OBJECT, None),
    (C.MISSING_REQUIRED, None),
    (C.UNEXPECTED_PROPERTY, None),
    (C.WRONG_TYPE, None),
    (C.ENUM_VIOLATION, None),
    (C.OTHER_SCHEMA_VIOLATION, None),
)
"""The order for a response that calls, but not validly; some only where they explain another failure."""

REST = (
    C.REPEATED_CALL,
    C.EXTRA_CALL,
    C.DEGENERATE_TEXT,
    C.TRUNCATED_BY_LENGTH,
    C.CONTENT_FILTERED,
    C.MARKUP_IN_CONTENT,
    C.MARKUP_IN_REASONING,
    C.CALL_IN_CONTENT,
    C.MARKUP_IN_ARGUMENTS,
    C.MARKUP_IN_TOOL_CALL_ID,
    C.FINISH_REASON_MISSING,
    C.FINISH_REASON_UNKNOWN,
    C.SPECIAL_TOKEN_LEAK,
    C.STREAM_ID_MISSING,
    C.NONSTANDARD_TOOL_CALL_ID,
    C.DUPLICATE_TOOL_CALL_ID,
    C.TOOL_CALL_ID_REUSED,
    C.STREAM_INDEX_MISSING,
    C.STREAM_NAME_REPEATED,
    C.STREAM_CUMULATIVE,
    C.STREAM_IGNORED,
    C.STREAM_MESSAGE_FOR_DELTA,
    C.STREAM_EMPTY_TOOL_CALLS,
    C.CALL_IN_OTHER_CHOICE,
)
"""The order of what is left: an extra call that is valid, and what costs neither metric."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides over the causes of one response.

    Attributes:
        valid: Whether its calls are all valid; without meaning where it is no call.
        payload_valid: Whether the calls in its payload are valid, whatever its finish_reason.
    """

    failures: Sequence[Failure]
    calls: bool
    valid: bool
    should_call: bool
    payload_valid: bool


def primary_and_fixes(situation: Situation) -> tuple[FailureClass | None, tuple[Fix, ...]]:
    """Choose the primary class, and tell what fixing a class would change.

    A response has at most two classes whose fix changes anything: what makes its calls invalid, and that
    it should not have called. Fixed, a class gives way to what it hides:

    - calls under another finish_reason, unknown or none: a call, valid if the calls that are there are valid;
    - leaked markup out of which calls can be read: a call, valid if all of them are;
    - any other class of an answer without a readable call: the official decision, with valid calls;
    - a class of a call's name or arguments: the same decision, with valid calls.
    """
    present = {failure.failure_class for failure in situation.failures}
    if not present:
        return None, ()
    if not situation.calls:
        return _without_call(situation, present)
    fixes = []
    primary = None
    if not situation.valid:
        primary = _invalid_call(present)
        if primary is not None:
            fixes.append(_fix(situation, primary, present))
    # A call that is not there is not one too many: what dropped it explains the decision as well.
    if C.EXTRA_CALL in present and C.FINISH_TOOL_CALLS_WITHOUT_CALLS not in present:
        # That it repeats the history's is why it is one too many.
        kind = C.REPEATED_CALL if C.REPEATED_CALL in present and situation.valid else C.EXTRA_CALL
        fixes.append(Fix(kind, calls=False, valid=True))
    return primary or _first(REST, present), tuple(fixes)


def _without_call(
    situation: Situation, present: Collection[FailureClass]
) -> tuple[FailureClass | None, tuple[Fix, ...]]:
    primary = _first(WITHOUT_CALL, present)
    if primary is None:
        return _first(REST, present), ()
    fix = _fix(situation, primary, present)
    return primary, (fix,) if fix.calls else ()


def _invalid_call(present: Collection[FailureClass]) -> FailureClass | None:
    return next(
        (
            kind
            for kind, explained in INVALID_CALL
            if kind in present and (explained is None or not explained.isdisjoint(present))
        ),
        None,
    )


def _fix(situation: Situation, kind: FailureClass, present: Collection[FailureClass]) -> Fix:
    if kind in _WRONG_FINISH and C.CALLS_WITHOUT_FINISH_TOOL_CALLS in present:
        return Fix(kind, calls=True, valid=situation.payload_valid)
    if situation.calls and C.FINISH_TOOL_CALLS_WITHOUT_CALLS not in present:
        return Fix(kind, calls=True, valid=True)
    if kind.group is Group.LEAKS:
        leaked = next(failure.leaked_call for failure in situation.failures if failure.failure_class is kind)
        if leaked is not None:
            return Fix(kind, calls=True, valid=leaked is LeakedCall.COMPLETE)
    return Fix(kind, calls=situation.should_call, valid=True)


def _first(order: Sequence[FailureClass], present: Collection[FailureClass]) -> FailureClass | None:
    return next((kind for kind in order if kind in present), None)
