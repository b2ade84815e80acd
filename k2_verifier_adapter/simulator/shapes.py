"""Wire shapes: ways to write an answer that mean the same, as data.

They are what servers and proxies in the field do differently and no client may stumble over. A shape is
no fault: an answer is judged the same in every shape, and the ledger knows nothing of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

from k2_verifier_adapter.simulator.modes import Modes
from k2_verifier_adapter.simulator.streaming import DONE, Chunk, is_terminal

_MOST_WRITES = 4096
"""Writes that a block is cut into at most; the rest of it follows in one."""

_FIRST_OF_SEVERAL = re.compile(rb"(?<=[\xc2-\xf4])")
"""The place behind the first byte of a multi-byte character."""

_BLANK_LINES = b"\n\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class WireShape:
    """A way to write an answer that means the same.

    The stages are passed in the order of the fields; what is None, a shape leaves as it is.

    Attributes:
        name: Name in profiles.
        modes: Which requests it can apply to.
        chunks: Rewrites the chunks of a stream, given the completion's usage.
        events: Rewrites the events of a stream, each as it is written.
        body: Rewrites a body that is no stream.
        parts: Cuts a block of events, or a body, into the parts that are written one after the other.
        gzip: Whether what is written is compressed, part by part; only for clients that accept it.
        writes: Cuts what is written, compressed or not, into writes of its own.
        unsized: Whether a body that is no stream comes without its length.
    """

    name: str
    modes: Modes
    chunks: Callable[[list[Chunk], Any], list[Chunk]] | None = None
    events: Callable[[list[bytes]], list[bytes]] | None = None
    body: Callable[[bytes], bytes] | None = None
    parts: Callable[[bytes], list[bytes]] | None = None
    gzip: bool = False
    writes: Callable[[bytes], list[bytes]] | None = None
    unsized: bool = False


# --- chunks --------------------------------------------------------------------------------------


def _interleave(chunks: list[Chunk], _: Any) -> list[Chunk]:
    """Let the calls take turns; without indexes, order is all that tells them apart, and it stays."""
    of_calls = [chunk for chunk in chunks if _call_delta(chunk) is not None]
    by_call: dict[Any, list[Chunk]] = {}
    for chunk in of_calls:
        delta = _call_delta(chunk) or {}
        by_call.setdefault(delta.get("index"), []).append(chunk)
    turns = (chunk for turn in zip_longest(*by_call.values()) for chunk in turn if chunk is not None)
    return [chunk if _call_delta(chunk) is None else next(turns) for chunk in chunks]


def _call_delta(chunk: Chunk) -> dict[str, Any] | None:
    for choice in chunk["choices"]:
        for delta in choice["delta"].get("tool_calls") or ():
            found: dict[str, Any] = delta
            return found
    return None


def _join_finish(chunks: list[Chunk], _: Any) -> list[Chunk]:
    """Give finish_reason with the last delta; a stream of no other deltas keeps its terminal chunk."""
    position = next((number for number, chunk in enumerate(chunks) if is_terminal(chunk)), 0)
    if position <= 1:
        return chunks
    (terminal,) = chunks[position]["choices"]
    joined = _with_choice(chunks[position - 1], finish_reason=terminal["finish_reason"])
    return [*chunks[: position - 1], joined, *chunks[position + 1 :]]


def _add_usage(chunks: list[Chunk], usage: Any) -> list[Chunk]:
    if any("usage" in chunk for chunk in chunks):
        return chunks
    return [*chunks, {**chunks[0], "choices": [], "usage": usage}]


def _move_usage(chunks: list[Chunk], usage: Any) -> list[Chunk]:
    """Report the usage inside the last choice, as Moonshot's own API does."""
    *before, last = [chunk for chunk in chunks if chunk["choices"]]
    return [*before, _with_choice(last, usage=usage)]


def _repeat_role(chunks: list[Chunk], _: Any) -> list[Chunk]:
    return [_with_delta(chunk, {"role": "assistant"}) for chunk in chunks]


def _add_nulls(chunks: list[Chunk], _: Any) -> list[Chunk]:
    nulls = dict.fromkeys(("content", "reasoning_content", "tool_calls", "refusal"))
    return [_with_delta(chunk, nulls) for chunk in chunks]


def _with_choice(chunk: Chunk, **members: Any) -> Chunk:
    return {**chunk, "choices": [{**choice, **members} for choice in chunk["choices"]]}


def _with_delta(chunk: Chunk, defaults: Mapping[str, Any]) -> Chunk:
    return {
        **chunk,
        "choices": [{**choice, "delta": {**defaults, **choice["delta"]}} for choice in chunk["choices"]],
    }


# --- events and bodies ---------------------------------------------------------------------------


def _drop_done(events: list[bytes]) -> list[bytes]:
    return [event for event in events if event != DONE]


def _drop_space(events: list[bytes]) -> list[bytes]:
    return [event.replace(b"data: ", b"data:", 1) for event in events]


def _add_fields(events: list[bytes]) -> list[bytes]:
    return [
        b"event: message\nid: %d\nretry: 1000\n%b" % (number, event) for number, event in enumerate(events)
    ]


def _add_comments(events: list[bytes]) -> list[bytes]:
    """Put keep-alives between the events and comments inside of them."""
    return [block for event in events for block in (b": keep-alive\n\n", b":\n" + event)]


def _end_with_crlf(events: list[bytes]) -> list[bytes]:
    return [event.replace(b"\n", b"\r\n") for event in events]


def _mark_byte_order(events: list[bytes]) -> list[bytes]:
    return [_BYTE_ORDER_MARK + event if number == 0 else event for number, event in enumerate(events)]


def _blank_lines_first(body: bytes) -> bytes:
    return _BLANK_LINES + body


# --- writes --------------------------------------------------------------------------------------


def _split_characters(block: bytes) -> list[bytes]:
    return _FIRST_OF_SEVERAL.split(block, maxsplit=_MOST_WRITES)


def _split_bytes(block: bytes) -> list[bytes]:
    singles = [block[place : place + 1] for place in range(min(len(block), _MOST_WRITES))]
    return [*singles, *filter(None, [block[_MOST_WRITES:]])]


# --- the registry --------------------------------------------------------------------------------

SHAPES: Mapping[str, WireShape] = MappingProxyType(
    {
        shape.name: shape
        for shape in (
            WireShape("interleaved_calls", Modes.STREAM, chunks=_interleave),
            WireShape("finish_with_last_delta", Modes.STREAM, chunks=_join_finish),
            WireShape("usage_unasked", Modes.STREAM, chunks=_add_usage),
            WireShape("usage_in_choice", Modes.STREAM, chunks=_move_usage),
            WireShape("role_repeated", Modes.STREAM, chunks=_repeat_role),
            WireShape("null_members", Modes.STREAM, chunks=_add_nulls),
            WireShape("done_missing", Modes.STREAM, events=_drop_done),
            WireShape("no_space", Modes.STREAM, events=_drop_space),
            WireShape("event_fields", Modes.STREAM, events=_add_fields),
            WireShape("comments", Modes.STREAM, events=_add_comments),
            WireShape("crlf", Modes.STREAM, events=_end_with_crlf),
            WireShape("byte_order_mark", Modes.STREAM, events=_mark_byte_order),
            WireShape("blank_lines", Modes.PLAIN, body=_blank_lines_first),
            WireShape("unsized_body", Modes.PLAIN, unsized=True),
            WireShape("split_characters", Modes.ANY, parts=_split_characters),
            WireShape("gzip", Modes.ANY, gzip=True),
            WireShape("byte_by_byte", Modes.ANY, writes=_split_bytes),
        )
    }
)
"""Every wire shape by its name, in the order in which those of one answer apply."""


def shape_names() -> tuple[str, ...]:
    """List the names of all wire shapes."""
    return tuple(SHAPES)
