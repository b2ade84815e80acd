"""Detectors of what a response says of itself: its end, that it says nothing, and its decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.messages import MessageTexts, first_name
from k2_verifier_adapter.core.responses import Response, reported_tokens


def finish_failures(response: Response, official: OfficialAnswer, token_limit: int | None) -> list[Failure]:
    """List what is wrong with the finish_reason, by itself and against the payload.

    An answer that ends as the official one did is not held against the vendor.
    """
    finish_reason, calls = response.finish_reason, response.tool_calls
    failures = []
    # An empty official finish_reason is known to be none; None is not known.
    ends_alike = (finish_reason or "") == official.finish_reason
    if finish_reason not in ("stop", "tool_calls") and not ends_alike:
        failures.append(_unusual_end(finish_reason))
    cut_short = FailureClass.TRUNCATED_BY_LENGTH
    if (
        finish_reason != "length"
        and official.finish_reason != "length"
        and token_limit is not None
        and reported_tokens(response.completion, "completion_tokens") == token_limit
    ):
        detail = f"{token_limit} completion tokens, the request's limit, under {shown(finish_reason)}"
        failures.append(Failure(cut_short, detail))
    if finish_reason == "tool_calls" and not calls:
        # Declared deviation 2: a null message, on which upstream crashes, is judged the same way.
        detail = "finish_reason is 'tool_calls', but there is no call"
        failures.append(Failure(FailureClass.FINISH_TOOL_CALLS_WITHOUT_CALLS, detail))
    elif calls and finish_reason != "tool_calls":
        detail = f"{len(calls)} tool calls, but finish_reason is {shown(finish_reason)}"
        kind = FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS
        failures.append(Failure(kind, detail, tool=first_name(calls)))
    return failures


def _unusual_end(finish_reason: str | None) -> Failure:
    if finish_reason is None:
        return Failure(FailureClass.FINISH_REASON_MISSING, "finish_reason is null or absent")
    kinds = {
        "length": FailureClass.TRUNCATED_BY_LENGTH,
        "content_filter": FailureClass.CONTENT_FILTERED,
    }
    kind = kinds.get(finish_reason, FailureClass.FINISH_REASON_UNKNOWN)
    return Failure(kind, f"finish_reason is {shown(finish_reason)}")


def nothing_failures(response: Response, texts: MessageTexts) -> list[Failure]:
    """Tell whether the response says nothing at all, or has reasoning only.

    White space says nothing. An answer that was cut or filtered is left out: there the cause is known.
    """
    if response.finish_reason in ("tool_calls", "length", "content_filter") or response.tool_calls:
        return []
    if texts.other_content or (texts.content and not texts.content.isspace()):
        return []
    ending = f"finish_reason {shown(response.finish_reason)}"
    reasoned = [field for field, text in texts.reasoning if not text.isspace()]
    if reasoned:
        detail = f"{reasoned[0]} and nothing else, {ending}"
        return [Failure(FailureClass.REASONING_ONLY, detail, where=reasoned[0])]
    return [Failure(FailureClass.EMPTY_RESPONSE, f"no content, no reasoning, no call, {ending}")]


def decision_failures(
    response: Response, official: OfficialAnswer, official_calls: Sequence[Any] | None
) -> list[Failure]:
    """Tell whether the decision to call differs from the official one."""
    calls = response.finish_reason == "tool_calls"
    if calls == official.should_call:
        return []
    if calls:
        detail = "a call, where the official API does not call"
        return [Failure(FailureClass.EXTRA_CALL, detail, tool=first_name(response.tool_calls))]
    tool = first_name(official_calls or ())
    named = "" if tool is None else f" {shown(tool, 60)}"
    detail = f"no call, where the official API calls{named}"
    return [Failure(FailureClass.MISSED_CALL, detail, tool=tool)]
