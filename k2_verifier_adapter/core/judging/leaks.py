"""Leaks: markup and tokens of K2's own in the text that a client gets to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, LeakedCall
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.judging.k2_markup import (
    find_bare_calls,
    find_markers,
    find_tokens,
    may_be_bare_call,
    may_hold_markup,
    read_calls,
)

_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where vendors put reasoning text: K2's API, newer vLLM and OpenRouter."""

ARGUMENTS = "arguments"
"""Where a token was found, if it was in the arguments or the name of a call."""

_LISTED_MARKERS = 3


@dataclass(frozen=True, slots=True)
class MessageTexts:
    """The texts of one message.

    Attributes:
        content: The content, its text parts joined.
        reasoning: The texts of reasoning by field, empty ones left out.
        other_content: Whether the message holds content that is no text: a refusal, an image, audio.
    """

    content: str
    reasoning: tuple[tuple[str, str], ...]
    other_content: bool


def texts_of(message: Mapping[str, Any] | None) -> MessageTexts:
    """Take the texts out of a message of any shape."""
    if message is None:
        return MessageTexts("", (), other_content=False)
    content = message.get("content")
    text, other = (content, False) if isinstance(content, str) else _text_of_parts(content)
    reasoning = []
    for field in _REASONING_FIELDS:
        value = message.get(field)
        if value:
            part = value if isinstance(value, str) else _text_of_parts(value)[0]
            if part:
                reasoning.append((field, part))
    other = other or any(message.get(field) for field in ("refusal", "audio", "function_call", "images"))
    return MessageTexts(text, tuple(reasoning), other)


def _text_of_parts(value: Any) -> tuple[str, bool]:
    """Join the texts of a list of parts; tell also whether a part holds something else."""
    texts, other = [], False
    for part in value if isinstance(value, list) else [value] if isinstance(value, Mapping) else ():
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            found = [part[key] for key in ("text", "summary", "content") if isinstance(part.get(key), str)]
            texts += found[:1]
            other = other or (not found and bool(part))
    return "".join(texts), other


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What has to be known of a request to tell a leak from a quotation, computed when it is needed.

    Attributes:
        messages: Gives the messages, or None if they are not known.
        tool_names: Gives the names of the tools.
        invalidating: Gives what makes calls invalid.
    """

    messages: Callable[[], Sequence[Any] | None]
    tool_names: Callable[[], Sequence[str]]
    invalidating: Callable[[list[Any]], Iterable[Failure]]


def leak_failures(texts: MessageTexts, surroundings: Surroundings) -> list[Failure]:
    """List what has leaked into content and reasoning: at most one failure of each class.

    A marker or token that stands in the request's own messages may be a quotation. It counts only
    where a whole and valid call can be read behind it.
    """
    failures = []
    content_class = FailureClass.MARKUP_IN_CONTENT
    if may_hold_markup(texts.content):
        failures += _markup_failure(content_class, "content", texts.content, surroundings)
        failures += _token_failure("content", texts.content, surroundings)
    for field, text in texts.reasoning:
        if not may_hold_markup(text):
            continue
        seen = [failure.failure_class for failure in failures]
        if FailureClass.MARKUP_IN_REASONING not in seen:
            failures += _markup_failure(FailureClass.MARKUP_IN_REASONING, field, text, surroundings)
        if FailureClass.SPECIAL_TOKEN_LEAK not in seen:
            failures += _token_failure(field, text, surroundings)
    return failures


def _markup_failure(
    failure_class: FailureClass, where: str, text: str, surroundings: Surroundings
) -> list[Failure]:
    markers = find_markers(text)
    if not markers and not may_be_bare_call(text):
        return []
    declared = surroundings.tool_names()
    markers = markers or find_bare_calls(text, declared)
    if not markers:
        return []
    calls = read_calls(text, declared)
    leaked: LeakedCall | None = None
    if calls:
        leaked = LeakedCall.INVALID if any(surroundings.invalidating(calls)) else LeakedCall.COMPLETE
    if leaked is not LeakedCall.COMPLETE:
        markers = _not_quoted(markers, surroundings)
        if not markers:
            return []
    tool = calls[0]["function"]["name"] if calls else None
    detail = f"{where} holds {_listed(markers)}; {_CALL_WORDS[leaked]}"
    # The marker is from a fixed set, and holds no word of the answer's own.
    marker = "functions." if markers[0].startswith("functions.") else markers[0]
    return [Failure(failure_class, detail, tool=tool, marker=marker, where=where, leaked_call=leaked)]


_CALL_WORDS = {
    None: "no call can be read out of it",
    LeakedCall.INVALID: "a call can be read out of it, but not a valid one",
    LeakedCall.COMPLETE: "a valid call can be read out of it",
}


def _token_failure(where: str, text: str, surroundings: Surroundings) -> list[Failure]:
    tokens = find_tokens(text)
    if tokens:
        tokens = _not_quoted(tokens, surroundings)
    if not tokens:
        return []
    detail = f"{where} holds {_listed(tokens)}"
    return [Failure(FailureClass.SPECIAL_TOKEN_LEAK, detail, marker=tokens[0], where=where)]


def tokens_in_calls(calls: Sequence[Any], positions: Iterable[int]) -> list[Failure]:
    """Find the first marker or token in the name or the arguments of one of these calls.

    Args:
        calls: The tool calls.
        positions: Positions of the calls to look at: the invalid ones, for a valid call may well be
            about such a token.
    """
    for position in positions:
        call = calls[position]
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            continue
        for field in ("name", "arguments"):
            text = function.get(field)
            if isinstance(text, str) and may_hold_markup(text):
                markers = [*find_markers(text), *find_tokens(text)]
                if markers:
                    name = function.get("name")
                    failure = Failure(
                        FailureClass.SPECIAL_TOKEN_LEAK,
                        f"the {field} of a call: {_listed(markers)}",
                        call=position,
                        tool=name if isinstance(name, str) else None,
                        marker=markers[0],
                        where=ARGUMENTS,
                    )
                    return [failure]
    return []


def _listed(markers: Sequence[str]) -> str:
    listed = ", ".join(shown(marker, 60) for marker in markers[:_LISTED_MARKERS])
    more = len(markers) - _LISTED_MARKERS
    return f"{listed} and {more} more" if more > 0 else listed


def _not_quoted(markers: list[str], surroundings: Surroundings) -> list[str]:
    """Leave out the markers that stand in the request's messages as well."""
    messages = surroundings.messages()
    if not messages:
        return markers
    left = dict.fromkeys(markers)
    for text in _strings(messages):
        for marker in [marker for marker in left if marker in text]:
            del left[marker]
        if not left:
            break
    return list(left)


def _strings(value: Any) -> Iterable[str]:
    """Yield every string in a JSON value, without recursion."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def names_in_history(messages: Sequence[Any] | None) -> frozenset[str]:
    """List the tools that were called, or that answered, in a request's messages."""
    names = set()
    for message in messages or ():
        if not isinstance(message, Mapping):
            continue
        if message.get("role") == "tool" and isinstance(message.get("name"), str):
            names.add(message["name"])
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, Mapping) else None
            name = function.get("name") if isinstance(function, Mapping) else None
            if isinstance(name, str):
                names.add(name)
    return frozenset(names)
