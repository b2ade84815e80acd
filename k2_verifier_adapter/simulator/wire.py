"""How an answer goes over the wire: its shapes, as data, and the writing of its bytes.

Wire shapes are what servers and proxies in the field do differently and no client may stumble over. A
shape is no fault: an answer is judged the same in every shape, and the ledger knows nothing of them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

from aiohttp import web

from k2_verifier_adapter.simulator.completions import (
    DONE,
    Chunk,
    Completion,
    call_deltas,
    chunks_of,
    is_terminal,
    to_json,
    with_choice,
)

JSON_TYPE = "application/json"
EVENT_STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "invalid_authentication_error",
    402: "exceeded_current_quota_error",
    403: "permission_denied_error",
    404: "resource_not_found_error",
    429: "rate_limit_reached_error",
}
_GZIP_FORMAT = 31
_FASTEST = 1
_MOST_WRITES = 4096
"""Writes that a block is cut into at most; the rest of it follows in one."""

_FIRST_OF_SEVERAL = re.compile(rb"(?<=[\xc2-\xf4])")
"""The place behind the first byte of a multi-byte character."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class WireShape:
    """A way to write an answer that means the same.

    The stages are passed in the order of the fields; what is None, a shape leaves as it is.

    Attributes:
        stream: Whether it applies to requests with `stream` or without; None for both.
        chunks: Rewrites the chunks of a stream, given the completion's usage.
        events: Rewrites the events of a stream, each as it is written.
        body: Rewrites a body that is no stream.
        parts: Cuts a block of events, or a body, into the parts that are written one after the other.
        gzip: Whether what is written is compressed, part by part; only for clients that accept it.
        writes: Cuts what is written, compressed or not, into writes of its own.
        unsized: Whether a body that is no stream comes without its length.
    """

    name: str
    stream: bool | None = None
    chunks: Callable[[list[Chunk], Any], list[Chunk]] | None = None
    events: Callable[[list[bytes]], list[bytes]] | None = None
    body: Callable[[bytes], bytes] | None = None
    parts: Callable[[bytes], list[bytes]] | None = None
    gzip: bool = False
    writes: Callable[[bytes], list[bytes]] | None = None
    unsized: bool = False


# --- shapes of chunks ----------------------------------------------------------------------------


def _interleave(chunks: list[Chunk], _: Any) -> list[Chunk]:
    """Let the calls take turns; without indexes, order is all that tells them apart, and it stays."""
    by_call: dict[Any, list[Chunk]] = {}
    for chunk in chunks:
        for delta in call_deltas(chunk):
            by_call.setdefault(delta.get("index"), []).append(chunk)
    turns = (chunk for turn in zip_longest(*by_call.values()) for chunk in turn if chunk is not None)
    return [next(turns) if call_deltas(chunk) else chunk for chunk in chunks]


def _join_finish(chunks: list[Chunk], _: Any) -> list[Chunk]:
    """Give finish_reason with the last delta; a stream of no other deltas keeps its terminal chunk."""
    position = next((number for number, chunk in enumerate(chunks) if is_terminal(chunk)), 0)
    if position <= 1:
        return chunks
    (terminal,) = chunks[position]["choices"]
    joined = with_choice(chunks[position - 1], finish_reason=terminal["finish_reason"])
    return [*chunks[: position - 1], joined, *chunks[position + 1 :]]


def _add_usage(chunks: list[Chunk], usage: Any) -> list[Chunk]:
    if any("usage" in chunk for chunk in chunks):
        return chunks
    return [*chunks, {**chunks[0], "choices": [], "usage": usage}]


def _move_usage(chunks: list[Chunk], usage: Any) -> list[Chunk]:
    """Report the usage inside the last choice, as Moonshot's own API does."""
    *before, last = [chunk for chunk in chunks if chunk["choices"]]
    return [*before, with_choice(last, usage=usage)]


def _add_to_deltas(**defaults: Any) -> Callable[[list[Chunk], Any], list[Chunk]]:
    def rewrite(chunk: Chunk) -> Chunk:
        choices = [{**choice, "delta": {**defaults, **choice["delta"]}} for choice in chunk["choices"]]
        return {**chunk, "choices": choices}

    return lambda chunks, _: list(map(rewrite, chunks))


# --- shapes of events, bodies and writes ---------------------------------------------------------


def _each(change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda events: list(map(change, events))


def _add_fields(events: list[bytes]) -> list[bytes]:
    return [
        b"event: message\nid: %d\nretry: 1000\n%b" % (number, event) for number, event in enumerate(events)
    ]


def _add_comments(events: list[bytes]) -> list[bytes]:
    """Put keep-alives between the events and comments inside of them."""
    return [block for event in events for block in (b": keep-alive\n\n", b":\n" + event)]


def _mark_byte_order(events: list[bytes]) -> list[bytes]:
    return [_BYTE_ORDER_MARK + event if number == 0 else event for number, event in enumerate(events)]


def _split_characters(block: bytes) -> list[bytes]:
    return _FIRST_OF_SEVERAL.split(block, maxsplit=_MOST_WRITES)


def _split_bytes(block: bytes) -> list[bytes]:
    singles = [block[place : place + 1] for place in range(min(len(block), _MOST_WRITES))]
    return [*singles, *filter(None, [block[_MOST_WRITES:]])]


_ALL = (
    WireShape("interleaved_calls", stream=True, chunks=_interleave),
    WireShape("finish_with_last_delta", stream=True, chunks=_join_finish),
    WireShape("usage_unasked", stream=True, chunks=_add_usage),
    WireShape("usage_in_choice", stream=True, chunks=_move_usage),
    WireShape("role_repeated", stream=True, chunks=_add_to_deltas(role="assistant")),
    WireShape(
        "null_members",
        stream=True,
        chunks=_add_to_deltas(content=None, reasoning_content=None, tool_calls=None, refusal=None),
    ),
    WireShape(
        "done_missing", stream=True, events=lambda events: [event for event in events if event != DONE]
    ),
    WireShape("no_space", stream=True, events=_each(lambda event: event.replace(b"data: ", b"data:", 1))),
    WireShape("event_fields", stream=True, events=_add_fields),
    WireShape("comments", stream=True, events=_add_comments),
    WireShape("crlf", stream=True, events=_each(lambda event: event.replace(b"\n", b"\r\n"))),
    WireShape("byte_order_mark", stream=True, events=_mark_byte_order),
    WireShape("blank_lines", stream=False, body=lambda body: b"\n\n\n" + body),
    WireShape("unsized_body", stream=False, unsized=True),
    WireShape("split_characters", parts=_split_characters),
    WireShape("gzip", gzip=True),
    WireShape("byte_by_byte", writes=_split_bytes),
)
SHAPES: Mapping[str, WireShape] = MappingProxyType({shape.name: shape for shape in _ALL})
"""Every wire shape by its name, in the order in which those of one answer apply."""


def shape_names() -> tuple[str, ...]:
    """List the names of all wire shapes."""
    return tuple(SHAPES)


# --- writing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a request asks of its stream, and how the vendor splits texts.

    Attributes:
        pieces: Deltas a text, or None for deltas of a fixed size.
        include_usage: Whether the request asks for the usage.
    """

    pieces: int | None
    include_usage: bool

    def chunks(
        self,
        completion: Completion,
        shapes: Iterable[WireShape] = (),
        rewrite: Callable[[list[Chunk]], list[Chunk]] | None = None,
    ) -> list[Chunk]:
        """Split a completion, rewrite its chunks if a fault does, and write them as shapes say."""
        chunks = chunks_of(completion, self.pieces, include_usage=self.include_usage)
        if rewrite is not None:
            chunks = rewrite(chunks)
        for shape in shapes:
            chunks = chunks if shape.chunks is None else shape.chunks(chunks, completion["usage"])
        return chunks


def error_body(status: int, message: str) -> bytes:
    """Write an OpenAI-style error."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return to_json({"error": {"message": message, "type": kind, "param": None, "code": None}})


class Wire:
    """Writes one answer; what writes raises ConnectionError if the client left.

    Attributes:
        shapes: The shapes that apply; gzip only if the client accepts it.
    """

    def __init__(self, request: web.Request, shapes: Iterable[WireShape] = ()) -> None:
        accepts_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        self.shapes = tuple(shape for shape in shapes if accepts_gzip or not shape.gzip)
        self._request = request
        compresses = any(shape.gzip for shape in self.shapes)
        self._gzip = zlib.compressobj(_FASTEST, wbits=_GZIP_FORMAT) if compresses else None
        self._response = web.StreamResponse()

    async def send_body(
        self,
        body: bytes,
        content_type: str = JSON_TYPE,
        *,
        status: int = 200,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
        half: bool = False,
    ) -> web.StreamResponse:
        """Send a body that is no stream, or only its first half."""
        for shape in self.shapes:
            body = body if shape.body is None else shape.body(body)
        writes = [*self._writes(body), *self._last_writes()]
        size = sum(map(len, writes))
        given = {"Content-Type": content_type, **(headers or {})}
        if not any(shape.unsized for shape in self.shapes):
            given["Content-Length"] = str(size)
        response = await self.start(given, status, reason)
        left = size // 2 if half else size
        for piece in writes:
            await response.write(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        if not half:
            await response.write_eof()
        return response

    async def send_events(
        self, events: list[bytes], *, singly: bool = False, end: bool = True
    ) -> web.StreamResponse:
        """Send an event stream: in one write or each event singly, and end it behind them or not."""
        shaped = self.shaped(events)
        response = await self.start(EVENT_STREAM_HEADERS)
        for block in shaped if singly else [b"".join(shaped)]:
            await self.write(block)
        if end:
            await self.end()
        return response

    def shaped(self, events: list[bytes]) -> list[bytes]:
        """Give events as their shapes write them."""
        for shape in self.shapes:
            events = events if shape.events is None else shape.events(events)
        return events

    async def start(
        self, headers: Mapping[str, str], status: int = 200, reason: str | None = None
    ) -> web.StreamResponse:
        """Send the head of an answer."""
        self._response = web.StreamResponse(status=status, reason=reason, headers=headers)
        if self._gzip is not None:
            self._response.headers["Content-Encoding"] = "gzip"
        await self._response.prepare(self._request)
        return self._response

    async def write(self, block: bytes) -> None:
        """Send the next block of an answer that was started."""
        for piece in self._writes(block):
            await self._response.write(piece)

    async def end(self) -> None:
        """End an answer that was started."""
        for piece in self._last_writes():
            await self._response.write(piece)
        await self._response.write_eof()

    def _writes(self, block: bytes) -> Iterator[bytes]:
        """Yield the writes of a block; compressed, each can be read before the next one comes."""
        for part in _cut(block, (shape.parts for shape in self.shapes)):
            if self._gzip is not None:
                part = self._gzip.compress(part) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
            yield from self._cut_writes(part)

    def _last_writes(self) -> list[bytes]:
        """Give the writes that complete a compressed answer."""
        return [] if self._gzip is None else self._cut_writes(self._gzip.flush())

    def _cut_writes(self, data: bytes) -> list[bytes]:
        return _cut(data, (shape.writes for shape in self.shapes))


def _cut(data: bytes, cuts: Iterable[Callable[[bytes], list[bytes]] | None]) -> list[bytes]:
    pieces = [data]
    for cut in cuts:
        if cut is not None:
            pieces = [part for piece in pieces for part in cut(piece)]
    return pieces
