"""Detectors of what a response says: its end, that it says nothing, its decision, and what has leaked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, LeakedCall, Variant
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.judging.markup import (
    THINK_TAGS,
    find_bare_calls,
    find_markers,
    find_tokens,
    may_be_bare_call,
    may_hold_markup,
    read_calls,
)
from k2_verifier_adapter.core.judging.notations import k3_calls, k3_tokens, may_hold_call, written_calls
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


def nothing_failures(response: Response, texts: MessageTexts, *, dropped: bool) -> list[Failure]:
    """Tell whether the response says nothing at all, or has reasoning only.

    `dropped` says that a call was generated, and did not arrive. White space says nothing. An answer that was
    cut or filtered is left out: there the cause is known.
    """
    if response.finish_reason in ("tool_calls", "length", "content_filter") or response.tool_calls:
        return []
    if texts.other_content or (texts.content and not texts.content.isspace()):
        return []
    ending = f"finish_reason {shown(response.finish_reason)}"
    variant = Variant.CALL_DROPPED if dropped else None
    reasoned = [field for field, text in texts.reasoning if not text.isspace()]
    if reasoned:
        detail = f"{reasoned[0]} and nothing else, {ending}"
        return [Failure(FailureClass.REASONING_ONLY, detail, where=reasoned[0], variant=variant)]
    detail = f"no content, no reasoning, no call, {ending}"
    # Without usage, nothing says that more was generated.
    generated = reported_tokens(response.completion, "completion_tokens") > 0
    return [Failure(FailureClass.EMPTY_RESPONSE, detail, variant=variant if generated else None)]


def decision_failures(
    response: Response,
    official: OfficialAnswer,
    official_calls: Sequence[Any] | None,
    *,
    dropped: bool = False,
) -> list[Failure]:
    """Tell whether the decision to call differs from the official one; `dropped` as above."""
    calls = response.finish_reason == "tool_calls"
    if calls == official.should_call:
        return []
    if calls:
        detail = "a call, where the official API does not call"
        return [Failure(FailureClass.EXTRA_CALL, detail, tool=first_name(response.tool_calls))]
    tool = first_name(official_calls or ())
    named = "" if tool is None else f" {shown(tool, 60)}"
    detail = f"no call, where the official API calls{named}"
    variant = Variant.CALL_DROPPED if dropped else None
    return [Failure(FailureClass.MISSED_CALL, detail, tool=tool, variant=variant)]


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


@dataclass(frozen=True, slots=True)
class LeakContext:
    """What decides whether something in a text has leaked.

    Attributes:
        foreign: Tokens that the model has not.
        calls: Whether the response carries calls.
        should_call: Whether the official API calls.
    """

    messages: Messages
    tools: DeclaredTools
    foreign: Collection[str]
    calls: bool
    should_call: bool


def leak_failures(texts: MessageTexts, context: LeakContext) -> list[Failure]:
    """List what has leaked into content and reasoning: at most one failure of each class.

    A marker or token that stands in the request's own messages may be a quotation. It counts only
    where a whole and valid call can be read behind it.
    """
    found: dict[FailureClass, Failure] = {}
    fields = [(FailureClass.MARKUP_IN_CONTENT, "content", texts.content)]
    fields += [(FailureClass.MARKUP_IN_REASONING, field, text) for field, text in texts.reasoning]
    for markup_class, field, text in fields:
        if may_hold_call(text):
            written = _written_failure(markup_class, field, text, context)
            if written is not None:
                found.setdefault(written.failure_class, written)
        if not may_hold_markup(text):
            continue
        if markup_class not in found:
            markup = _markup_failure(markup_class, field, text, context)
            if markup is not None:
                found[markup_class] = markup
        if FailureClass.SPECIAL_TOKEN_LEAK not in found:
            known = {FailureClass.CALL_IN_CONTENT, FailureClass.MARKUP_IN_REASONING}
            # K3's tokens around a call that was read are no further leak.
            k3 = [] if known & found.keys() else k3_tokens(text)
            tokens = _not_quoted([*find_tokens(text), *k3], context.messages)
            if tokens:
                detail = f"{field} holds {_listed(tokens)}"
                kind, variant = FailureClass.SPECIAL_TOKEN_LEAK, _variant_of(tokens, context.foreign)
                found[kind] = Failure(kind, detail, marker=tokens[0], where=field, variant=variant)
    return list(found.values())


def _variant_of(tokens: Sequence[str], foreign: Collection[str]) -> Variant | None:
    if any(token.replace(" ", "") in foreign for token in tokens):
        return Variant.FOREIGN
    return Variant.THINK_TAG if all(token in THINK_TAGS for token in tokens) else None


def _written_failure(
    markup_class: FailureClass, where: str, text: str, context: LeakContext
) -> Failure | None:
    """Find calls in other notations than K2's; of reasoning only K3's, for plans may well hold JSON."""
    if where == "content":
        if context.calls:
            return None
        calls = written_calls(text, context.tools.names())
        markup_class = FailureClass.CALL_IN_CONTENT
    else:
        declared = set(context.tools.names()) if "open" in text and "<|" in text else set()
        calls = [call for call in k3_calls(text) if call.name in declared] if declared else []
    if not calls:
        return None
    alone = not any(map(str.isalnum, text[: calls[0].begin] + text[calls[-1].end :].replace("json", "")))
    if not calls[0].tagged and not (context.should_call or alone):
        return None
    if any(text[call.begin : call.end] in said for said in strings_in(context.messages()) for call in calls):
        return None
    valid = not context.tools.judge([call.as_call() for call in calls]) or not context.tools.judge(
        [call.as_typed_call() for call in calls]
    )
    leaked = LeakedCall.COMPLETE if valid else LeakedCall.INVALID
    if not valid and not calls[0].tagged and not context.should_call:
        return None
    notation = calls[0].notation
    detail = f"{where} holds a call of a declared tool in {notation}; {_CALL_WORDS[leaked]}"
    return Failure(
        markup_class, detail, tool=calls[0].name, marker=notation[:40], where=where, leaked_call=leaked
    )


def _markup_failure(
    failure_class: FailureClass, where: str, text: str, context: LeakContext
) -> Failure | None:
    markers = find_markers(text)
    if not markers and not may_be_bare_call(text):
        return None
    declared = context.tools.names()
    markers = markers or find_bare_calls(text, declared)
    if not markers:
        return None
    calls = read_calls(text, declared)
    leaked: LeakedCall | None = None
    if calls:
        leaked = LeakedCall.INVALID if context.tools.judge(calls) else LeakedCall.COMPLETE
    if leaked is not LeakedCall.COMPLETE:
        markers = _not_quoted(markers, context.messages)
        if not markers:
            return None
    tool = name_of(calls[0]) if calls else None
    detail = f"{where} holds {_listed(markers)}; {_CALL_WORDS[leaked]}"
    # The marker is from a fixed set, and holds no word of the answer's own.
    marker = "functions." if markers[0].startswith("functions.") else markers[0]
    return Failure(failure_class, detail, tool=tool, marker=marker, where=where, leaked_call=leaked)


def leaks_in_calls(
    calls: Sequence[Any], invalid: Collection[int], official: Sequence[Any] | None, context: LeakContext
) -> list[Failure]:
    """Find the first markup, and the first token, in the name or the arguments of a call.

    A valid call may well be about markup: what stands in the request or in the official call is no leak.
    """
    found: dict[FailureClass, Failure] = {}
    said_officially = cache(lambda: "\n".join(strings_in(list(official or ()))))
    for position, call in enumerate(calls):
        function = function_of(call)
        for field in ("name", "arguments"):
            value = function.get(field)
            text = value if isinstance(value, str) else "\n".join(strings_in(value)) if value else ""
            if not may_hold_markup(text):
                continue
            markers, tokens = [*find_markers(text), *k3_tokens(text)], find_tokens(text)
            if position not in invalid:
                said = said_officially()
                markers = [marker for marker in _not_quoted(markers, context.messages) if marker not in said]
                tokens = [token for token in _not_quoted(tokens, context.messages) if token not in said]
                tokens = [token for token in tokens if token not in THINK_TAGS and token[0] != "["]
            kind = FailureClass.MARKUP_IN_ARGUMENTS if markers else FailureClass.SPECIAL_TOKEN_LEAK
            listed = markers or tokens
            if listed and kind not in found:
                found[kind] = Failure(
                    kind,
                    f"the {field} of a call: {_listed([*markers, *tokens])}",
                    call=position,
                    tool=name_of(call),
                    marker=listed[0],
                    where=ARGUMENTS,
                    variant=None if markers else _variant_of(tokens, context.foreign),
                )
    return list(found.values())


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
