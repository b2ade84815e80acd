"""What goes over the wire: completions, streams, and transport faults."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from aiohttp import web

from k2_verifier_adapter.simulator.answers import Completion
from k2_verifier_adapter.simulator.faults.base import (
    Action,
    CutStream,
    ErrorEvent,
    ErrorStatus,
    OversizedBody,
    Reset,
    RetryAfter,
    Stall,
    StreamFault,
    Where,
    WrongBody,
)
from k2_verifier_adapter.simulator.streaming import DONE, Chunk, chunks_of, events, is_terminal, to_json

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "invalid_authentication_error",
    402: "exceeded_current_quota_error",
    403: "permission_denied_error",
    404: "resource_not_found_error",
    429: "rate_limit_reached_error",
}
_LINGER_ZERO = struct.pack("ii", 1, 0)
"""Makes closing a socket send RST at once."""

_BLOCK = 1 << 20


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Build an OpenAI-style error answer; 529 gets its reason phrase, which the standard lacks."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": None}
    reason = "Overloaded" if status == 529 else None
    return web.Response(
        body=to_json({"error": error}),
        status=status,
        reason=reason,
        headers=headers,
        content_type="application/json",
    )


async def send_json(request: web.Request, body: bytes) -> web.StreamResponse:
    """Send a whole JSON body with status 200.

    Raises:
        ConnectionError: If the client left.
    """
    response = web.Response(body=body, content_type="application/json")
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_events(request: web.Request, blocks: Iterable[bytes]) -> web.StreamResponse:
    """Send an event stream, one write a block.

    Raises:
        ConnectionError: If the client left.
    """
    response = await _start_stream(request)
    for block in blocks:
        await response.write(block)
    await response.write_eof()
    return response


async def _start_stream(request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a request asks of its stream, and how the vendor splits texts.

    Attributes:
        pieces: Deltas a text, or None for deltas of a fixed size.
        include_usage: Whether the request asks for the usage.
    """

    pieces: int | None
    include_usage: bool

    def chunks(self, completion: Completion, fault: StreamFault | None = None) -> list[Chunk]:
        """Split a completion, and spoil its chunks if a fault says so."""
        chunks = chunks_of(completion, self.pieces, include_usage=self.include_usage)
        return chunks if fault is None else fault.rewrite(chunks)

    def blocks(self, completion: Completion, fault: StreamFault | None = None) -> list[bytes]:
        """Give the events of the whole stream."""
        return [*events(self.chunks(completion, fault)), DONE]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Performs transport faults.

    Attributes:
        retry_after_s: What `Retry-After` says, in seconds from now.
        oversized_bytes: Size of a body that is too large.
    """

    retry_after_s: int
    oversized_bytes: int

    async def perform(
        self,
        request: web.Request,
        action: Action,
        completion: Completion,
        stream: StreamSettings | None,
        stopping: asyncio.Event,
    ) -> web.StreamResponse:
        """Answer a request as a transport fault says.

        Args:
            request: The request.
            action: What to do.
            completion: What a sound answer would have been.
            stream: How to stream, or None for a request without stream.
            stopping: Set when the vendor shuts down; a stall lasts until then.
        """
        if isinstance(action, ErrorStatus):
            return self._refuse(action)
        if isinstance(action, WrongBody):
            return web.Response(body=action.make(completion), content_type=action.content_type)
        if isinstance(action, OversizedBody):
            return await self._oversized(request, stream)
        if isinstance(action, (Reset, Stall)) and action.where is Where.BEFORE_HEADERS:
            response: web.StreamResponse = web.Response()
        elif stream is None:
            response = await _half_body(request, completion)
        else:
            response = await _unfinished_stream(request, stream.chunks(completion), action)
        if isinstance(action, ErrorEvent) or action == CutStream(reset=False):
            await response.write_eof()
            return response
        if isinstance(action, Stall):
            await stopping.wait()
        _reset(request)
        return response

    def _refuse(self, action: ErrorStatus) -> web.Response:
        headers = {}
        if action.retry_after is RetryAfter.SECONDS:
            headers["Retry-After"] = str(self.retry_after_s)
        elif action.retry_after is RetryAfter.DATE:
            then = datetime.now(timezone.utc) + timedelta(seconds=self.retry_after_s)
            headers["Retry-After"] = format_datetime(then, usegmt=True)
        return error_response(action.status, f"simulated fault: HTTP {action.status}", headers)

    async def _oversized(self, request: web.Request, stream: StreamSettings | None) -> web.StreamResponse:
        if stream is None:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            start, block = b'{"choices":[{"index":0,"message":{"content":"', b"x" * _BLOCK
        else:
            response = await _start_stream(request)
            delta = {"choices": [{"index": 0, "delta": {"content": "x" * 1000}, "finish_reason": None}]}
            event = b"data: " + json.dumps(delta).encode() + b"\n\n"
            start, block = b"", event * (_BLOCK // len(event))
        sent = 0
        await response.write(start)
        while sent < self.oversized_bytes:
            await response.write(block)
            sent += len(block)
        await response.write_eof()
        return response


async def _half_body(request: web.Request, completion: Completion) -> web.StreamResponse:
    body = to_json(completion)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return response


async def _unfinished_stream(request: web.Request, chunks: list[Chunk], action: Action) -> web.StreamResponse:
    """Start a stream and stop before its terminal chunk, half-way but for a regular end."""
    before_terminal = [chunk for chunk in chunks if chunk["choices"] and not is_terminal(chunk)]
    whole = action == CutStream(reset=False)
    kept = before_terminal if whole else before_terminal[: len(before_terminal) // 2 + 1]
    blocks = events(kept)
    if isinstance(action, ErrorEvent):
        message = {"message": "simulated fault: the engine died", "type": "server_error", "code": 500}
        blocks.append(b"data: " + to_json({"error": message}) + b"\n\n")
    elif whole:
        blocks.append(DONE)
    response = await _start_stream(request)
    await response.write(b"".join(blocks))
    return response


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
