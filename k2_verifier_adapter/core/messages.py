"""Chat messages and tool calls of any shape: their texts, names and calls, whatever else stands in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where vendors put reasoning text: K2's API, newer vLLM and OpenRouter."""

_OTHER_CONTENT_FIELDS = ("refusal", "audio", "function_call", "images")
_TEXT_KEYS = ("text", "summary", "content")
_NOTHING: Mapping[str, Any] = {}


def calls_of(message: Any) -> list[dict[str, Any]]:
    """List the tool calls of a message that are objects."""
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def function_of(call: Any) -> Mapping[str, Any]:
    """Give the `function` object of a tool call or a tool; an empty one if there is none."""
    function = call.get("function") if isinstance(call, dict) else None
    return function if isinstance(function, dict) else _NOTHING


def name_of(call: Any) -> str | None:
    """Give the name of a tool call's function, or of a tool; None if it has none."""
    name = function_of(call).get("name")
    return name if isinstance(name, str) else None


def first_name(calls: Sequence[Any]) -> str | None:
    """Give the name of the first call; None if there is none or it has none."""
    return name_of(calls[0]) if calls else None


def tools_in(messages: Sequence[Any] | None) -> list[Any]:
    """List the tools that messages declare, as K3 takes them from system messages."""
    return [
        tool
        for message in messages or ()
        if isinstance(message, dict) and isinstance(message.get("tools"), list)
        for tool in message["tools"]
        if isinstance(tool, dict)
    ]


def names_in_history(messages: Sequence[Any] | None) -> frozenset[str]:
    """List the tools that were called, or that answered, in a request's messages."""
    names: list[Any] = []
    for message in messages or ():
        if isinstance(message, dict) and message.get("role") == "tool":
            names.append(message.get("name"))
        names += map(name_of, calls_of(message))
    return frozenset(name for name in names if isinstance(name, str))


def strings_in(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, without recursion; keys are left out."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


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
    """Take the texts out of a message."""
    if message is None:
        return MessageTexts("", (), other_content=False)
    content, other = _joined(message.get("content"))
    reasoning = []
    for field in _REASONING_FIELDS:
        value = message.get(field)
        text = _joined(value)[0] if value else ""
        if text:
            reasoning.append((field, text))
    return MessageTexts(content, tuple(reasoning), other or any(map(message.get, _OTHER_CONTENT_FIELDS)))


def _joined(value: Any) -> tuple[str, bool]:
    """Join the texts of a text or of a list of parts; tell also whether a part holds something else."""
    if isinstance(value, str):
        return value, False
    texts, other = [], False
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            found = [part[key] for key in _TEXT_KEYS if isinstance(part.get(key), str)]
            texts += found[:1]
            other = other or (not found and bool(part))
    return "".join(texts), other
