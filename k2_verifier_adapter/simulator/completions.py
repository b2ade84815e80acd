"""Chat completions: the official answer of a row, changed copies of it, and its chunks in a stream."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.simulator.instances import instance_of
from k2_verifier_adapter.simulator.truth import is_valid_call

Completion = dict[str, Any]
"""A chat completion as JSON: one choice, with a message whose calls carry string arguments."""

Chunk = dict[str, Any]
"""One decoded event of a stream."""

CREATED = 1_762_387_200
"""`created` of every answer, in Unix seconds: a constant, so that a rerun gives the same bytes."""

FINGERPRINT = "fp_simulated"

STOP_TEXT = (
    "This is the simulated vendor. The official answer to this request is text without a tool call; "
    "the row does not carry that text, so this sentence stands in for it."
)
"""Content of a `stop` answer whose row has no `official_content`."""

DONE = b"data: [DONE]\n\n"

BYTES_A_TOKEN = 4
"""Rough size of a token; usage needs to be plausible, not exact."""

_PIECE = 24
"""Characters a delta, where the number of pieces is not set."""

_TEXT_FIELDS = ("reasoning_content", "reasoning", "content")


def official_completion(row: Mapping[str, Any], case: Case, model: str) -> Completion:
    """Build the completion that the official API would have sent for a row.

    The decision is the row's `should_call_tool`, also where `official_finish_reason` contradicts it, because
    that is what a vendor is compared with. The row's `official_content` and `official_reasoning_content` are
    used if present.
    """
    calls = _official_calls(case) if case.official.should_call else []
    default_text = "" if case.official.should_call else STOP_TEXT
    message: dict[str, Any] = {"role": "assistant", "content": _text(row, "official_content", default_text)}
    reasoning = _text(row, "official_reasoning_content", "")
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    prompt_bytes = len(case.messages_json) + len(case.tools_json or b"")
    return with_usage(
        {
            "id": f"chatcmpl-simulated-{case.index:06d}",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "system_fingerprint": FINGERPRINT,
            "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(case)}],
            "usage": {"prompt_tokens": prompt_bytes // BYTES_A_TOKEN + 1},
        }
    )


def with_usage(completion: Completion) -> Completion:
    """Recount the completion tokens after the message changed; the prompt tokens stay."""
    text = json.dumps(completion["choices"][0]["message"], ensure_ascii=False)
    prompt = completion["usage"]["prompt_tokens"]
    generated = len(text) // BYTES_A_TOKEN + 1
    usage = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
    return {**completion, "usage": usage}


def generated_call(case: Case, tool: str | None = None) -> dict[str, Any] | None:
    """Build a valid call to the tool, or to the first declared one that it can be generated for, or None."""
    tools = case.declared_tools()
    for name, schema in declared_tools(tools):
        if tool not in (None, name):
            continue
        call = _new_call(case, name, instance_of(schema))
        if is_valid_call(call, tools):
            return call
    return None


def as_demanded(
    official: Completion, case: Case, tool_choice: str | None, max_tokens: int | None
) -> Completion:
    """Give the official answer as a request's `tool_choice` and `max_tokens` have it, or as it is."""
    completion = official
    called = [call["function"]["name"] for call in calls_of(official)]
    if tool_choice == "none":
        if called:
            completion = with_usage(altered(official, "stop", content=STOP_TEXT, tool_calls=None))
    elif tool_choice is not None and tool_choice not in called and not (called and tool_choice == "required"):
        call = generated_call(case, None if tool_choice == "required" else tool_choice)
        if call is not None:
            completion = with_usage(altered(official, "tool_calls", content="", tool_calls=[call]))
    if max_tokens is not None and completion["usage"]["completion_tokens"] > max_tokens:
        completion = _cut(completion, max_tokens)
    return completion


def _cut(completion: Completion, max_tokens: int) -> Completion:
    """End an answer at its token limit: reasoning first, then the content, then the calls."""
    left = max_tokens * BYTES_A_TOKEN
    message = dict(completion["choices"][0]["message"])
    for field in _TEXT_FIELDS:
        if isinstance(message.get(field), str):
            message[field] = message[field][:left]
            left -= len(message[field])
    calls = []
    for call in calls_of(completion):
        if left <= 0:
            break
        function = call["function"]
        arguments = function["arguments"][:left]
        left -= len(arguments)
        calls.append({**call, "function": {**function, "arguments": arguments}})
    usage = completion["usage"]
    cut = altered(completion, "length", **{**message, "tool_calls": calls or None})
    total = usage["prompt_tokens"] + max_tokens
    return {**cut, "usage": {**usage, "completion_tokens": max_tokens, "total_tokens": total}}


def with_choices(completion: Completion, number: int) -> Completion:
    """Repeat the choice of a completion or of a chunk, each under its own index."""
    if number == 1 or not completion["choices"]:
        return completion
    (choice,) = completion["choices"]
    return {**completion, "choices": [{**choice, "index": index} for index in range(number)]}


def declared_tools(tools: Any) -> list[tuple[str, Any]]:
    """List name and `parameters` of the tools that have a name."""
    found = []
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found.append((function["name"], function.get("parameters")))
    return found


def call_id(case: Case, name: Any, position: int) -> str:
    """Give K2's id `functions.NAME:IDX` to a call of the answer; IDX goes on from the history's calls."""
    historical = sum(
        len(message["tool_calls"])
        for message in case.messages()
        if isinstance(message, dict) and isinstance(message.get("tool_calls"), list)
    )
    return f"functions.{name}:{historical + position}"


def _official_calls(case: Case) -> list[dict[str, Any]]:
    given = [call for call in case.official_tool_calls() or [] if isinstance(call, dict)]
    if given:
        return [_complete(call, case, position) for position, call in enumerate(given)]
    call = generated_call(case)
    if call is None:
        # No valid call can be made up; an empty one to the first tool stands in.
        call = next((_new_call(case, name, {}) for name, _ in declared_tools(case.declared_tools())), None)
    return [] if call is None else [call]


def _new_call(case: Case, name: str, arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": call_id(case, name, 0), "type": "function", "function": function}


def _complete(given: Mapping[str, Any], case: Case, position: int) -> dict[str, Any]:
    """Fill in what the row leaves out of an official call; `index` belongs to streams only."""
    call = {key: copy.deepcopy(value) for key, value in given.items() if key != "index"}
    function = call.get("function")
    if not isinstance(function, dict):
        function = {"name": call.pop("name", None), "arguments": call.pop("arguments", "{}")}
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    known = {
        "id": call.pop("id", None) or call_id(case, function.get("name"), position),
        "type": call.pop("type", None) or "function",
    }
    return {**known, **call, "function": function}


def _finish_reason(case: Case) -> str:
    if case.official.should_call:
        return "tool_calls"
    stated = case.official.finish_reason
    return stated if stated and stated != "tool_calls" else "stop"


def _text(row: Mapping[str, Any], field: str, default: str) -> str:
    value = row.get(field)
    return value if isinstance(value, str) else default


def calls_of(completion: Completion) -> list[dict[str, Any]]:
    """Give copies of the tool calls of a completion."""
    return copy.deepcopy(completion["choices"][0]["message"].get("tool_calls") or [])


def content_of(completion: Completion) -> str:
    """Give the content of choice 0."""
    content: str = completion["choices"][0]["message"]["content"]
    return content


def finish_of(completion: Completion) -> str | None:
    """Give the finish_reason of choice 0."""
    finish_reason: str | None = completion["choices"][0]["finish_reason"]
    return finish_reason


def altered(completion: Completion, finish_reason: str | None, **members: Any) -> Completion:
    """Give a copy with another finish_reason and other message members; None removes a member."""
    choice = completion["choices"][0]
    message = {**choice["message"], **members}
    message = {key: value for key, value in message.items() if value is not None}
    return {**completion, "choices": [{**choice, "message": message, "finish_reason": finish_reason}]}


def with_choice(chunk: Chunk, **members: Any) -> Chunk:
    """Give a copy of a chunk whose choices have other members."""
    return {**chunk, "choices": [{**choice, **members} for choice in chunk["choices"]]}


def with_calls(completion: Completion, calls: list[dict[str, Any]]) -> Completion:
    """Give a copy with these tool calls."""
    return altered(completion, finish_of(completion), tool_calls=calls)


def to_json(value: Any) -> bytes:
    """Write JSON as servers do, in UTF-8; escaped where a lone surrogate has no UTF-8 form."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def chunks_of(completion: Completion, pieces: int | None, *, include_usage: bool) -> list[Chunk]:
    """Split a completion into OpenAI-style chunks.

    The first chunk brings the role, then come text deltas, then for each call a delta with index, id, type
    and name and the deltas of its arguments, then the terminal chunk. `pieces` is the number of deltas a
    text, fewer for a shorter one; None for deltas of about 24 characters. A chunk with the usage and no
    choice may end the stream.
    """
    choice = completion["choices"][0]
    head = {key: value for key, value in completion.items() if key not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    chunks = [_chunk(head, delta, None) for delta in _deltas(choice["message"], pieces)]
    chunks.append(_chunk(head, {}, choice["finish_reason"]))
    if include_usage:
        chunks.append({**head, "choices": [], "usage": completion["usage"]})
    return chunks


def events(chunks: Iterable[Chunk]) -> list[bytes]:
    """Write each chunk as one server-sent event."""
    return [b"data: " + to_json(chunk) + b"\n\n" for chunk in chunks]


def is_terminal(chunk: Chunk) -> bool:
    """Say whether a chunk carries the finish_reason."""
    return any(choice["finish_reason"] is not None for choice in chunk["choices"])


def call_deltas(chunk: Chunk) -> list[dict[str, Any]]:
    """List the deltas of tool calls in a chunk, which may be changed there."""
    return [delta for choice in chunk["choices"] for delta in choice["delta"].get("tool_calls") or ()]


def _chunk(head: dict[str, Any], delta: dict[str, Any], finish_reason: str | None) -> Chunk:
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _deltas(message: dict[str, Any], pieces: int | None) -> Iterator[dict[str, Any]]:
    yield {"role": message["role"], "content": ""}
    if "reasoning_details" in message:
        yield {"reasoning_details": message["reasoning_details"]}
    for field in _TEXT_FIELDS:
        for part in _parts(message.get(field) or "", pieces):
            yield {field: part}
    for index, call in enumerate(message.get("tool_calls", [])):
        function = call["function"]
        yield {"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}
        for part in _parts(function["arguments"], pieces):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _parts(text: str, pieces: int | None) -> Iterator[str]:
    size = _PIECE if pieces is None else -(-len(text) // max(1, pieces))
    for start in range(0, len(text), max(1, size)):
        yield text[start : start + size]
