"""What one response is worth, by upstream's rules, and which failures it shows.

The rules are those of `tool_calls_eval.py`; where a rule is a declared deviation, the code says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from k2_verifier_adapter.core.agreement import argument_agreement, same_tool_names
from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.responses import FinishBucket, Response
from k2_verifier_adapter.core.tool_calls import INVALIDATING, Compiled, id_failures, judge_calls

_KNOWN_FINISH_REASONS = frozenset({"stop", "tool_calls", "length", "content_filter"})


class Asked(Protocol):
    """What has to be known of a request to judge its response; `core.cases.Case` is one."""

    @property
    def official(self) -> OfficialAnswer:
        """The official answer."""

    @property
    def repairs(self) -> Repairs:
        """Repairs that were made in the messages."""

    def tools(self) -> Any:
        """Give the decoded tools; an empty list if there are none."""

    def official_tool_calls(self) -> list[Any] | None:
        """Give the decoded official tool calls, or None if they are not known."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one completed response is worth.

    Attributes:
        finish_reason: The literal finish_reason, None if in no bucket.
        bucket: The bucket that it is counted in.
        tool_calls_valid: As upstream's field: None unless finish_reason is `tool_calls` and calls
            are present; else whether every call is valid.
        should_call: The official decision.
        official_bucket: The bucket of the official finish_reason.
        official_valid: Whether the official calls are valid; None if the official answer is no
            call. Official calls that the row does not carry count as valid.
        same_names: Whether both sides call the same multiset of names; None unless both call and
            the row carries the official calls.
        argument_agreement: Share of equal leaf values over aligned calls, or None.
        repaired: Whether upstream would have sent this case differently.
        failures: Every failure seen, in the order in which the response shows them.
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


def judge(case: Asked, response: Response, stream_anomalies: Iterable[FailureClass] = ()) -> Judgement:
    """Judge one completed response.

    Args:
        case: The case that was asked.
        response: Choice 0 of the raw completion.
        stream_anomalies: Stream failure classes noticed while the response was assembled.
    """
    failures = [Failure(kind, _STREAM_DETAILS[kind]) for kind in stream_anomalies]
    failures += _finish_failures(response)
    calls = response.tool_calls
    official = case.official_tool_calls() if case.official.should_call else None
    called = response.bucket is FinishBucket.TOOL_CALLS and bool(calls)
    # Decoded and compiled once for both sides, which mostly call the same tool.
    tools = case.tools() if called or official else []
    compiled: Compiled = {}
    valid: bool | None = None
    if called:
        found = judge_calls(calls, tools, compiled)
        valid = not any(failure.failure_class in INVALIDATING for failure in found)
        failures += found
        failures += id_failures(calls)
    compared = official if called else None
    return Judgement(
        finish_reason=response.finish_reason,
        bucket=response.bucket,
        tool_calls_valid=valid,
        should_call=case.official.should_call,
        official_bucket=_official_bucket(case),
        official_valid=_official_valid(case, official, tools, compiled),
        same_names=same_tool_names(calls, compared) if compared else None,
        argument_agreement=argument_agreement(calls, compared) if compared else None,
        repaired=case.repairs.beyond_upstream,
        failures=tuple(failures),
    )


_STREAM_DETAILS = {
    FailureClass.STREAM_INDEX_MISSING: "a tool call delta without index; counted as index 0",
    FailureClass.STREAM_ID_MISSING: "a streamed tool call whose id never arrived",
    FailureClass.STREAM_NAME_REPEATED: "a tool call's name arrived more than once; the last counts",
}


def _finish_failures(response: Response) -> list[Failure]:
    finish_reason, calls = response.finish_reason, response.tool_calls
    failures = []
    if finish_reason is None:
        failures.append(Failure(FailureClass.FINISH_REASON_MISSING, "finish_reason is null or absent"))
    elif finish_reason == "length":
        failures.append(Failure(FailureClass.TRUNCATED_BY_LENGTH, "finish_reason is 'length'"))
    elif finish_reason == "content_filter":
        failures.append(Failure(FailureClass.CONTENT_FILTERED, "finish_reason is 'content_filter'"))
    elif finish_reason not in _KNOWN_FINISH_REASONS:
        detail = f"finish_reason is {shown(finish_reason)}"
        failures.append(Failure(FailureClass.FINISH_REASON_UNKNOWN, detail))
    if finish_reason == "tool_calls" and not calls:
        # Declared deviation 2: a null message, on which upstream crashes, is judged the same way.
        detail = "finish_reason is 'tool_calls', but there is no call"
        failures.append(Failure(FailureClass.FINISH_TOOL_CALLS_WITHOUT_CALLS, detail))
    elif calls and finish_reason != "tool_calls":
        detail = f"{len(calls)} tool calls, but finish_reason is {shown(finish_reason)}"
        failures.append(Failure(FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS, detail))
    return failures


def _official_bucket(case: Asked) -> FinishBucket:
    if case.official.should_call:
        return FinishBucket.TOOL_CALLS
    if case.official.finish_reason in (None, "stop"):
        return FinishBucket.STOP
    # Empty: the official answer is known to have ended without one.
    return FinishBucket.OTHERS if case.official.finish_reason else FinishBucket.MISSING


def _official_valid(case: Asked, official: list[Any] | None, tools: Any, compiled: Compiled) -> bool | None:
    if not case.official.should_call:
        return None
    if official is None:
        return True
    return bool(official) and not judge_calls(official, tools, compiled)
