"""Detectors of what a response says: its end, that it says nothing, its decision, and what has leaked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, LeakedCall
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.judging.markup import (
    find_bare_calls,
    find_markers,
    find_tokens,
    may_be_bare_call,
    may_hold_markup,
    read_calls,
)
from k2_verifier_adapter.core.judging.tool_calls import DeclaredTools
from k2_verifier_adapter.core.messages import MessageTexts, first_name, function_of, name_of, strings_in
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


ARGUMENTS = "arguments"
"""Where a token was found, if it was in the arguments or the name of a call."""

_LISTED_MARKERS = 3
_CALL_WORDS = {
    None: "no call can be read out of it",
    LeakedCall.INVALID: "a call can be read out of it, but not a valid one",
    LeakedCall.COMPLETE: "a valid call can be read out of it",
}

Messages = Callable[[], Sequence[Any] | None]
"""Gives the messages of a request, or None if they are not known; called only where they are needed."""


def leak_failures(texts: MessageTexts, messages: Messages, tools: DeclaredTools) -> list[Failure]:
    """List what has leaked into content and reasoning: at most one failure of each class.

    A marker or token that stands in the request's own messages may be a quotation. It counts only
    where a whole and valid call can be read behind it.
    """
    found: dict[FailureClass, Failure] = {}
    fields = [(FailureClass.MARKUP_IN_CONTENT, "content", texts.content)]
    fields += [(FailureClass.MARKUP_IN_REASONING, field, text) for field, text in texts.reasoning]
    for markup_class, field, text in fields:
        if not may_hold_markup(text):
            continue
        if markup_class not in found:
            markup = _markup_failure(markup_class, field, text, messages, tools)
            if markup is not None:
                found[markup_class] = markup
        if FailureClass.SPECIAL_TOKEN_LEAK not in found:
            tokens = _not_quoted(find_tokens(text), messages)
            if tokens:
                detail = f"{field} holds {_listed(tokens)}"
                kind = FailureClass.SPECIAL_TOKEN_LEAK
                found[kind] = Failure(kind, detail, marker=tokens[0], where=field)
    return list(found.values())


def _markup_failure(
    failure_class: FailureClass, where: str, text: str, messages: Messages, tools: DeclaredTools
) -> Failure | None:
    markers = find_markers(text)
    if not markers and not may_be_bare_call(text):
        return None
    declared = tools.names()
    markers = markers or find_bare_calls(text, declared)
    if not markers:
        return None
    calls = read_calls(text, declared)
    leaked: LeakedCall | None = None
    if calls:
        leaked = LeakedCall.INVALID if tools.judge(calls) else LeakedCall.COMPLETE
    if leaked is not LeakedCall.COMPLETE:
        markers = _not_quoted(markers, messages)
        if not markers:
            return None
    tool = name_of(calls[0]) if calls else None
    detail = f"{where} holds {_listed(markers)}; {_CALL_WORDS[leaked]}"
    # The marker is from a fixed set, and holds no word of the answer's own.
    marker = "functions." if markers[0].startswith("functions.") else markers[0]
    return Failure(failure_class, detail, tool=tool, marker=marker, where=where, leaked_call=leaked)


def tokens_in_calls(calls: Sequence[Any], positions: Iterable[int]) -> list[Failure]:
    """Find the first marker or token in the name or the arguments of one of these calls.

    Only those at `positions` are looked at, the invalid ones: a valid call may well be about such a token.
    """
    for position in positions:
        function = function_of(calls[position])
        for field in ("name", "arguments"):
            text = function.get(field)
            if isinstance(text, str) and may_hold_markup(text):
                markers = [*find_markers(text), *find_tokens(text)]
                if markers:
                    failure = Failure(
                        FailureClass.SPECIAL_TOKEN_LEAK,
                        f"the {field} of a call: {_listed(markers)}",
                        call=position,
                        tool=name_of(calls[position]),
                        marker=markers[0],
                        where=ARGUMENTS,
                    )
                    return [failure]
    return []


def _listed(markers: Sequence[str]) -> str:
    listed = ", ".join(shown(marker, 60) for marker in markers[:_LISTED_MARKERS])
    more = len(markers) - _LISTED_MARKERS
    return f"{listed} and {more} more" if more > 0 else listed


def _not_quoted(markers: list[str], messages: Messages) -> list[str]:
    """Leave out the markers that stand in the request's messages as well."""
    left = dict.fromkeys(markers)
    for text in strings_in(messages()) if left else ():
        for marker in [marker for marker in left if marker in text]:
            del left[marker]
        if not left:
            break
    return list(left)
