"""A completion as a stream of chunks, and as bytes on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from k2_verifier_adapter.simulator.answers import Completion

Chunk = dict[str, Any]

DONE = b"data: [DONE]\n\n"

_PIECE = 24
"""Characters a delta, where the number of pieces is not set."""

_TEXT_FIELDS = ("reasoning_content", "reasoning", "content")


def to_json(value: Any) -> bytes:
    """Write JSON as servers do, in UTF-8; escaped where a lone surrogate has no UTF-8 form."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def chunks_of(completion: Completion, pieces: int | None, *, include_usage: bool) -> list[Chunk]:
    """Split a completion into OpenAI-style chunks.

    The first chunk brings the role, then come text deltas, then for each call a delta with index,
    id, type and name and the deltas of its arguments, then the terminal chunk.

    Args:
        completion: The completion, with one choice.
        pieces: Deltas a text, fewer for a shorter text; None for deltas of about 24 characters.
        include_usage: Whether a chunk with the usage and no choice ends the stream.
    """
    choice = completion["choices"][0]
    head = {key: value for key, value in completion.items() if key not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    deltas = list(_deltas(choice["message"], pieces))
    chunks = [_chunk(head, delta, None) for delta in deltas]
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
        yield _call_delta({**call, "function": {**function, "arguments": ""}}, index)
        for part in _parts(function["arguments"], pieces):
            yield _call_delta({"function": {"arguments": part}}, index)


def _call_delta(delta: dict[str, Any], index: int) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **delta}]}


def _parts(text: str, pieces: int | None) -> Iterator[str]:
    size = _PIECE if pieces is None else -(-len(text) // max(1, pieces))
    for start in range(0, len(text), max(1, size)):
        yield text[start : start + size]
