"""Leaks: markup and tokens of K2's own in the text that a client gets to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
from k2_verifier_adapter.core.messages import MessageTexts, function_of, name_of, strings_in

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
