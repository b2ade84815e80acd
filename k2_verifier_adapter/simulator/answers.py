"""The official answer of a row as a chat completion."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.simulator.instances import instance_of
from k2_verifier_adapter.simulator.reference import is_valid_call

Completion = dict[str, Any]
"""A chat completion as JSON: one choice, with a message whose calls carry string arguments."""

CREATED = 1_762_387_200
"""`created` of every answer, in Unix seconds: a constant, so that a rerun gives the same bytes."""

FINGERPRINT = "fp_simulated"

STOP_TEXT = (
    "This is the simulated vendor. The official answer to this request is text without a tool call; "
    "the row does not carry that text, so this sentence stands in for it."
)
"""Content of a `stop` answer whose row has no `official_content`."""

_BYTES_A_TOKEN = 4
"""Rough size of a token; usage needs to be plausible, not exact."""


def official_completion(row: Mapping[str, Any], case: Case, model: str) -> Completion:
    """Build the completion that the official API would have sent for a row.

    The decision is the row's `should_call_tool`, also where `official_finish_reason` contradicts
    it, because that is what a vendor is compared with.

    Args:
        row: The record; `official_content` and `official_reasoning_content` are used if present.
        case: The same row, decoded.
        model: The model name to answer with.
    """
    calls = _official_calls(case) if case.official.should_call else []
    default_text = "" if case.official.should_call else STOP_TEXT
    message: dict[str, Any] = {"role": "assistant", "content": _text(row, "official_content", default_text)}
    reasoning = _text(row, "official_reasoning_content", "")
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return with_usage(
        {
            "id": f"chatcmpl-simulated-{case.index:06d}",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(case)}],
            "usage": {"prompt_tokens": _prompt_tokens(case)},
        }
    )


def with_usage(completion: Completion) -> Completion:
    """Recount the completion tokens after the message changed; the prompt tokens stay."""
    text = json.dumps(completion["choices"][0]["message"], ensure_ascii=False)
    prompt = completion["usage"]["prompt_tokens"]
    generated = len(text) // _BYTES_A_TOKEN + 1
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
    }
    return {**completion, "usage": usage}


def new_call(case: Case, name: str, arguments: Any, position: int = 0) -> dict[str, Any]:
    """Build a tool call with K2's id `functions.NAME:IDX`, IDX counting the calls of the history too.

    Args:
        case: The case, whose history is counted.
        name: The tool's name.
        arguments: The arguments, as a JSON value.
        position: 0-based position of the call in the answer.
    """
    return {
        "id": f"functions.{name}:{historical_calls(case) + position}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    }


def generated_call(case: Case, position: int = 0) -> dict[str, Any] | None:
    """Build a valid call to the first declared tool that one can be generated for, or None."""
    tools = case.tools()
    for name, schema in declared_tools(tools):
        call = new_call(case, name, instance_of(schema), position)
        if is_valid_call(call, tools):
            return call
    return None


def declared_tools(tools: Any) -> list[tuple[str, Any]]:
    """List name and `parameters` of the tools that have a name."""
    found = []
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found.append((function["name"], function.get("parameters")))
    return found


def historical_calls(case: Case) -> int:
    """Count the tool calls in the messages of a case."""
    return sum(
        len(message["tool_calls"])
        for message in case.messages()
        if isinstance(message, dict) and isinstance(message.get("tool_calls"), list)
    )


def _official_calls(case: Case) -> list[dict[str, Any]]:
    given = [call for call in case.official_tool_calls() or [] if isinstance(call, dict)]
    if given:
        return [_complete(call, case, position) for position, call in enumerate(given)]
    call = generated_call(case) or _call_at_a_guess(case)
    return [] if call is None else [call]


def _call_at_a_guess(case: Case) -> dict[str, Any] | None:
    declared = declared_tools(case.tools())
    return new_call(case, declared[0][0], {}) if declared else None


def _complete(given: Mapping[str, Any], case: Case, position: int) -> dict[str, Any]:
    """Fill in what the row leaves out of an official call; `index` belongs to streams only."""
    call = {key: copy.deepcopy(value) for key, value in given.items() if key != "index"}
    function = call.get("function")
    if not isinstance(function, dict):
        function = {"name": call.pop("name", None), "arguments": call.pop("arguments", "{}")}
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    default_id = f"functions.{function.get('name')}:{historical_calls(case) + position}"
    known = {"id": call.pop("id", None) or default_id, "type": call.pop("type", None) or "function"}
    return {**known, **call, "function": function}


def _finish_reason(case: Case) -> str:
    if case.official.should_call:
        return "tool_calls"
    stated = case.official.finish_reason
    return stated if stated and stated != "tool_calls" else "stop"


def _prompt_tokens(case: Case) -> int:
    return (len(case.messages_json) + len(case.tools_json or b"")) // _BYTES_A_TOKEN + 1


def _text(row: Mapping[str, Any], field: str, default: str) -> str:
    value = row.get(field)
    return value if isinstance(value, str) else default
