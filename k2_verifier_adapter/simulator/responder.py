"""What goes over the wire: completions, streams, and transport faults."""

from __future__ import annotations

import asyncio
import contextlib
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
    Redirect,
    Reset,
    RetryAfter,
    Stall,
    StreamFault,
    Where,
    WrongBody,
)
from k2_verifier_adapter.simulator.planning import Plan
from k2_verifier_adapter.simulator.shapes import WireShape
from k2_verifier_adapter.simulator.streaming import DONE, Chunk, chunks_of, events, is_terminal, to_json
from k2_verifier_adapter.simulator.wire import EVENT_STREAM_HEADERS, JSON_TYPE, Wire

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


def error_body(status: int, message: str) -> bytes:
    """Write an OpenAI-style error."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return to_json({"error": {"message": message, "type": kind, "param": None, "code": None}})


def error_response(status: int, message: str) -> web.Response:
    """Build an OpenAI-style error answer."""
    return web.Response(body=error_body(status, message), status=status, content_type=JSON_TYPE)


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
        self, completion: Completion, shapes: Iterable[WireShape] = (), fault: StreamFault | None = None
    ) -> list[Chunk]:
        """Split a completion, spoil its chunks if a fault says so, and write them as shapes say."""
        chunks = chunks_of(completion, self.pieces, include_usage=self.include_usage)
        if fault is not None:
            chunks = fault.rewrite(chunks)
        for shape in shapes:
            chunks = chunks if shape.chunks is None else shape.chunks(chunks, completion["usage"])
        return chunks

    def events(
        self, completion: Completion, shapes: Iterable[WireShape] = (), fault: StreamFault | None = None
    ) -> list[bytes]:
        """Give the events of the whole stream."""
        return [*events(self.chunks(completion, shapes, fault)), DONE]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Performs transport faults.

    Attributes:
        retry_after_s: What `Retry-After` says, in seconds from now.
        oversized_bytes: Size of a body that is too large.
        drip_interval_s: Seconds between two bytes of an answer that drips.
    """

    retry_after_s: int
    oversized_bytes: int
    drip_interval_s: float

    async def perform(
        self,
        request: web.Request,
        action: Action,
        plan: Plan,
        stream: StreamSettings | None,
        stopping: asyncio.Event,
    ) -> web.StreamResponse:
        """Answer a request as a transport fault says.

        Args:
            request: The request.
            action: What to do.
            plan: What a sound answer would have been, and how it is written.
            stream: How to stream, or None for a request without stream.
            stopping: Set when the vendor shuts down; a stall lasts until then.
        """
        wire = Wire(request, plan.shapes)
        if isinstance(action, ErrorStatus):
            return await self._refuse(wire, action)
        if isinstance(action, Redirect):
            return await wire.send_body(
                b"", status=action.status, headers={"Location": f"/moved{request.path}"}
            )
        if isinstance(action, WrongBody):
            return await wire.send_body(action.make(plan.completion), action.content_type)
        if isinstance(action, OversizedBody):
            return await self._oversized(wire, stream)
        response = await _unfinished(wire, action, plan.completion, stream)
        if isinstance(action, ErrorEvent) or action == CutStream(reset=False):
            await wire.end()
            return response
        if isinstance(action, Stall):
            await self._stall(request, wire, action, stream, stopping)
        _reset(request)
        return response

    async def _refuse(self, wire: Wire, action: ErrorStatus) -> web.StreamResponse:
        headers = {}
        if action.retry_after is RetryAfter.SECONDS:
            headers["Retry-After"] = str(self.retry_after_s)
        elif action.retry_after is RetryAfter.DATE:
            then = datetime.now(timezone.utc) + timedelta(seconds=self.retry_after_s)
            headers["Retry-After"] = format_datetime(then, usegmt=True)
        body = error_body(action.status, f"simulated fault: HTTP {action.status}")
        # The standard has no reason phrase for it.
        reason = "Overloaded" if action.status == 529 else None
        return await wire.send_body(body, status=action.status, reason=reason, headers=headers)

    async def _oversized(self, wire: Wire, stream: StreamSettings | None) -> web.StreamResponse:
        if stream is None:
            response = await wire.start({"Content-Type": JSON_TYPE})
            start, block = b'{"choices":[{"index":0,"message":{"content":"', b"x" * _BLOCK
        else:
            response = await wire.start(EVENT_STREAM_HEADERS)
            delta = {"choices": [{"index": 0, "delta": {"content": "x" * 1000}, "finish_reason": None}]}
            event = b"data: " + json.dumps(delta).encode() + b"\n\n"
            start, block = b"", b"".join(wire.shaped([event] * (_BLOCK // len(event))))
        sent = 0
        await wire.write(start)
        while sent < self.oversized_bytes:
            await wire.write(block)
            sent += len(block)
        await wire.end()
        return response

    async def _stall(
        self,
        request: web.Request,
        wire: Wire,
        action: Stall,
        stream: StreamSettings | None,
        stopping: asyncio.Event,
    ) -> None:
        """Wait for the end of the vendor, or of the connection."""
        if not action.dripping:
            await stopping.wait()
        head = b"HTTP/1.1 200 OK\r\nX-Padding: "
        while not stopping.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), self.drip_interval_s)
            if action.where is Where.MID_BODY:
                # A comment without end, or white space inside of the JSON.
                await wire.write(b" " if stream is None else b":")
            elif request.transport is not None:
                request.transport.write(head)
                head = b"x"


async def _unfinished(
    wire: Wire, action: Action, completion: Completion, stream: StreamSettings | None
) -> web.StreamResponse:
    """Begin an answer that will not be completed: nothing, or about half of it."""
    if isinstance(action, (Reset, Stall)) and action.where is Where.BEFORE_HEADERS:
        return web.StreamResponse()
    if stream is not None:
        return await _unfinished_stream(wire, stream.chunks(completion, wire.shapes), action)
    body = to_json(completion)
    if isinstance(action, Stall) and action.dripping:
        response = await wire.start({"Content-Type": JSON_TYPE})
        await wire.write(body[: len(body) // 2])
        return response
    return await wire.send_body(body, half=True)


async def _unfinished_stream(wire: Wire, chunks: list[Chunk], action: Action) -> web.StreamResponse:
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
    return await wire.send_events(blocks, end=False)


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
