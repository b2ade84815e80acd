"""What a response says of its generation: loops, calls made over and over, and tokens that nobody sees."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Variant
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.judging.detectors import Messages
from k2_verifier_adapter.core.messages import MessageTexts, calls_of, function_of, name_of, strings_in
from k2_verifier_adapter.core.responses import Response, reported_tokens

SHORTEST_LOOP = 200
"""Characters that a loop covers at least; rulers and padding are shorter."""

LEAST_TURNS = 8
"""Times that a loop repeats what it repeats at least."""

_WINDOW = 2_000
_PROBE = 12
"""Characters whose return is looked for, and how far back."""

_MOST_CALLS = 1_000
"""Calls that are compared."""

LEAST_REPEATS = 4
"""Equal calls in one response from which on they count as a repetition; two and three have good reasons."""


def loop_in(text: str) -> str | None:
    """Give what a text repeats at its end, or around its middle; None if it does not go round.

    A loop repeats one piece at least `LEAST_TURNS` times over at least `SHORTEST_LOOP` characters.
    """
    if len(text) < SHORTEST_LOOP:
        return None
    stripped = text.rstrip()
    ends = (len(text), len(stripped), len(stripped) - _PROBE, len(text) * 3 // 4, len(text) // 2)
    for end in dict.fromkeys(ends):
        piece = _loop_before(text[max(0, end - _WINDOW) : end])
        if piece is not None:
            return piece
    return None


def _loop_before(window: str) -> str | None:
    if len(window) < SHORTEST_LOOP:
        return None
    before = window.rfind(window[-_PROBE:], 0, len(window) - 1)
    if before < 0:
        return None
    period = len(window) - _PROBE - before
    looping = window[-max(SHORTEST_LOOP, LEAST_TURNS * period) :]
    if len(looping) < LEAST_TURNS * period or looping[period:] != looping[:-period]:
        return None
    return window[-period:]


def degenerate_text(texts: MessageTexts, messages: Messages) -> Failure | None:
    """Tell whether content or reasoning goes round in a loop that the request does not hold."""
    for field, text in (("content", texts.content), *texts.reasoning):
        piece = loop_in(text)
        if piece is None:
            continue
        if not piece.isspace() and any(piece * 3 in said for said in strings_in(messages())):
            continue
        detail = f"{field} repeats {shown(piece, 60)} over and over ({len(text):,} characters)"
        return Failure(FailureClass.DEGENERATE_TEXT, detail, where=field)
    return None


def repeated_call(
    calls: Sequence[Any], official: Sequence[Any] | None, messages: Messages, *, official_calls: bool
) -> Failure | None:
    """Tell whether one call is made many times, or the history's last one once more.

    Neither is held against an answer whose official counterpart does the same.
    """
    if not calls or (len(calls) < LEAST_REPEATS and official_calls and official is None):
        return None
    if len(calls) < LEAST_REPEATS and _written(calls) == _written(official or ()):
        return None
    keys = [_key(call) for call in calls[:_MOST_CALLS]]
    wanted = Counter(map(_key, official or ()))
    if len(calls) >= LEAST_REPEATS:
        key, count = Counter(keys).most_common(1)[0]
        if count >= max(LEAST_REPEATS, 1 + wanted[key]):
            detail = f"the same call {count} times, of {len(calls)}"
            position = keys.index(key)
            return Failure(FailureClass.REPEATED_CALL, detail, call=position, tool=name_of(calls[position]))
    # Where the official API calls as well, and how is not known, it may poll.
    if official_calls and official is None:
        return None
    if all(wanted[key] for key in keys):
        return None
    for last in map(_key, _last_answered_calls(messages())):
        if last in keys and not wanted[last]:
            detail = "the last call of the history once more, which has its result there"
            position = keys.index(last)
            tool, kind = name_of(calls[position]), FailureClass.REPEATED_CALL
            return Failure(kind, detail, call=position, tool=tool, variant=Variant.FROM_HISTORY)
    return None


def _written(calls: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(function.get("name"), function.get("arguments")) for function in map(function_of, calls)]


def _key(call: Any) -> tuple[str | None, str]:
    """Give what makes two calls equal: the name, and the arguments as a value."""
    arguments = function_of(call).get("arguments")
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
        return name_of(call), json.dumps(value, sort_keys=True)
    except (RecursionError, ValueError):
        return name_of(call), str(arguments)


def _last_answered_calls(messages: Sequence[Any] | None) -> list[Any]:
    """List the last calls of a history; none where no result stands behind them."""
    answered = False
    for message in reversed(messages or ()):
        if isinstance(message, dict) and message.get("role") == "tool":
            answered = True
        calls = calls_of(message)
        if calls:
            return list(calls) if answered else []
    return []


_UNSEEN_TOKENS = 16
"""Tokens without text that every answer may have: ends of messages, think tags."""


def has_unseen_tokens(response: Response, texts: MessageTexts) -> bool:
    """Whether more tokens were generated than all that is visible can be.

    A token of English has four bytes, one of Chinese three and more; two are counted, so that only what is
    missing for sure is missed. An answer without usage has none.
    """
    tokens = reported_tokens(response.completion, "completion_tokens")
    if not tokens:
        return False
    visible = _most_bytes(texts.content) + sum(_most_bytes(text) for _, text in texts.reasoning)
    for call in response.tool_calls:
        function = function_of(call)
        visible += sum(_most_bytes(value) for value in function.values() if isinstance(value, str)) + 80
        if not isinstance(function.get("arguments"), str):
            return False
    return tokens > _UNSEEN_TOKENS + visible / 2


def _most_bytes(text: str) -> int:
    return len(text) if text.isascii() else 3 * len(text)
