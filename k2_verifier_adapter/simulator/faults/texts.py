"""Faults in the text of an answer: leaked markup and tokens, or nothing where an answer should be."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion
from k2_verifier_adapter.simulator.faults.base import (
    Needs,
    PayloadFault,
    altered,
    calls_of,
    content_of,
    finish_of,
)

_THOUGHT = "The user wants me to do this. I should look at the tools that I have. 我先想一想。"
_TEXT = "One moment, please."


def k2_markup(calls: list[dict[str, Any]], position: int = 0) -> str:
    """Write tool calls in K2's own markup, as a model does before a tool parser reads it.

    Args:
        calls: The tool calls.
        position: Number of the first call, for calls whose id is not K2's.
    """
    written = ""
    for number, call in enumerate(calls, position):
        function = call["function"]
        standard = str(call["id"]).startswith("functions.")
        name = call["id"] if standard else f"functions.{function['name']}:{number}"
        written += f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>{function['arguments']}"
        written += "<|tool_call_end|>"
    return f"<|tool_calls_section_begin|>{written}<|tool_calls_section_end|>"


def _leak_into_content(completion: Completion, _: Case, __: Random) -> Completion | None:
    markup = content_of(completion) + k2_markup(calls_of(completion))
    return altered(completion, "stop", content=markup, tool_calls=None)


def _reasoning(field: str, text: str) -> dict[str, Any]:
    if field == "reasoning_details":
        return {field: [{"type": "reasoning.text", "text": text}]}
    return {field: text}


def _leak_into_reasoning(field: str) -> Callable[[Completion, Case, Random], Completion | None]:
    def damage(completion: Completion, _: Case, __: Random) -> Completion | None:
        text = _THOUGHT + k2_markup(calls_of(completion))
        content = content_of(completion) or _TEXT
        plain = altered(completion, "stop", content=content, tool_calls=None, reasoning_content=None)
        return altered(plain, "stop", **_reasoning(field, text))

    return damage


def _leak_token(completion: Completion, _: Case, rng: Random) -> Completion | None:
    content, finish_reason = content_of(completion), finish_of(completion)
    if not content or finish_reason != "stop":
        return None
    token = rng.choice(("<|im_end|>", "<|im_middle|>"))
    return altered(completion, finish_reason, content=content + token)


def _nothing(completion: Completion, _: Case, __: Random) -> Completion | None:
    return altered(completion, "stop", content="", tool_calls=None, reasoning_content=None)


def _only_reasoning(field: str) -> Callable[[Completion, Case, Random], Completion | None]:
    def damage(completion: Completion, _: Case, __: Random) -> Completion | None:
        empty = altered(completion, "stop", content="", tool_calls=None, reasoning_content=None)
        return altered(empty, "stop", **_reasoning(field, _THOUGHT))

    return damage


_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where vendors put reasoning text; newer vLLM and OpenRouter use the last two."""

FAULTS = (
    PayloadFault(C.MARKUP_IN_CONTENT.value, C.MARKUP_IN_CONTENT, _leak_into_content, Needs.CALL),
    *(
        PayloadFault(
            f"markup_in_reasoning_as_{field}", C.MARKUP_IN_REASONING, _leak_into_reasoning(field), Needs.CALL
        )
        for field in _REASONING_FIELDS
    ),
    PayloadFault(C.SPECIAL_TOKEN_LEAK.value, C.SPECIAL_TOKEN_LEAK, _leak_token, Needs.NO_CALL),
    PayloadFault(C.EMPTY_RESPONSE.value, C.EMPTY_RESPONSE, _nothing),
    *(
        PayloadFault(f"reasoning_only_as_{field}", C.REASONING_ONLY, _only_reasoning(field))
        for field in _REASONING_FIELDS
    ),
)
