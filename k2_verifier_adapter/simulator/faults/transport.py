"""Faults of the way between vendor and client: error statuses, broken connections, wrong bodies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial

from aiohttp import web

from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.completions import DONE, Chunk, Completion, events, is_terminal, to_json
from k2_verifier_adapter.simulator.wire import (
    EVENT_STREAM_HEADERS,
    JSON_TYPE,
    StreamSettings,
    Wire,
    error_body,
)

_4XX = (400, 401, 402, 403, 404, 408, 409, 422)
_5XX = (500, 502, 503, 529)
_HTML = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"
_ERROR = {"error": {"message": "simulated: engine is overloaded", "type": "engine_overloaded_error"}}
_LINGER_ZERO = struct.pack("ii", 1, 0)
"""Makes closing a socket send RST at once."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Extent:
    """How far transport faults go.

    Attributes:
        retry_after_s: What `Retry-After` says, in seconds from now.
        oversized_bytes: Size of a body that is too large, before it is compressed.
        drip_interval_s: Seconds between two bytes of an answer that drips.
    """

    retry_after_s: int
    oversized_bytes: int
    drip_interval_s: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that a transport fault falls on.

    Attributes:
        completion: What a sound answer would have been.
        stream: How to stream, or None for a request without stream.
        stopping: Set when the vendor shuts down; a stall lasts until then.
    """

    request: web.Request
    wire: Wire
    completion: Completion
    stream: StreamSettings | None
    stopping: asyncio.Event
    extent: Extent


@dataclass(frozen=True, slots=True)
class TransportFault:
    """An attempt that does not end in a completion.

    Attributes:
        status: The HTTP status that the client sees, or None if it sees none.
        stream: Whether it applies to requests with `stream` or without; None for both.
        calls: Likewise for official answers with tool calls.
    """

    failure_class: C
    perform: Callable[[Exchange], Awaitable[web.StreamResponse]]
    variant: str | None = None
    status: int | None = 200
    stream: bool | None = None
    calls: bool | None = None

    @property
    def name(self) -> str:
        """Name in profiles."""
        return self.variant or self.failure_class.value


async def _refuse(exchange: Exchange, status: int, *, retry_after: str = "") -> web.StreamResponse:
    headers = {}
    if retry_after == "seconds":
        headers["Retry-After"] = str(exchange.extent.retry_after_s)
    elif retry_after == "date":
        then = datetime.now(timezone.utc) + timedelta(seconds=exchange.extent.retry_after_s)
        headers["Retry-After"] = format_datetime(then, usegmt=True)
    body = error_body(status, f"simulated fault: HTTP {status}")
    # The standard has no reason phrase for it.
    reason = "Overloaded" if status == 529 else None
    return await exchange.wire.send_body(body, status=status, reason=reason, headers=headers)


async def _redirect(exchange: Exchange) -> web.StreamResponse:
    return await exchange.wire.send_body(
        b"", status=307, headers={"Location": f"/moved{exchange.request.path}"}
    )


async def _send_wrong(
    exchange: Exchange, body_of: Callable[[Completion], str], content_type: str
) -> web.StreamResponse:
    return await exchange.wire.send_body(body_of(exchange.completion).encode(), content_type)


def _first_half(completion: Completion) -> str:
    text = json.dumps(completion)
    return text[: len(text) // 2]


async def _send_oversized(exchange: Exchange) -> web.StreamResponse:
    wire = exchange.wire
    if exchange.stream is None:
        response = await wire.start({"Content-Type": JSON_TYPE})
        start, block = b'{"choices":[{"index":0,"message":{"content":"', b"x" * _BLOCK
    else:
        response = await wire.start(EVENT_STREAM_HEADERS)
        delta = {"choices": [{"index": 0, "delta": {"content": "x" * 1000}, "finish_reason": None}]}
        event = b"data: " + json.dumps(delta).encode() + b"\n\n"
        start, block = b"", b"".join(wire.shaped([event] * (_BLOCK // len(event))))
    sent = 0
    await wire.write(start)
    while sent < exchange.extent.oversized_bytes:
        await wire.write(block)
        sent += len(block)
    await wire.end()
    return response


async def _reset_at_once(exchange: Exchange) -> web.StreamResponse:
    _reset(exchange.request)
    return web.StreamResponse()


async def _reset_mid_body(exchange: Exchange) -> web.StreamResponse:
    response = await _begin(exchange)
    _reset(exchange.request)
    return response


async def _stall_at_once(exchange: Exchange) -> web.StreamResponse:
    await exchange.stopping.wait()
    return await _reset_at_once(exchange)


async def _stall_mid_body(exchange: Exchange) -> web.StreamResponse:
    response = await _begin(exchange)
    await exchange.stopping.wait()
    _reset(exchange.request)
    return response


async def _drip_head(exchange: Exchange) -> web.StreamResponse:
    head = b"HTTP/1.1 200 OK\r\nX-Padding: "
    while await _still_dripping(exchange):
        if exchange.request.transport is not None:
            exchange.request.transport.write(head)
            head = b"x"
    return await _reset_at_once(exchange)


async def _drip_body(exchange: Exchange) -> web.StreamResponse:
    if exchange.stream is not None:
        response = await _begin(exchange)
    else:
        body = to_json(exchange.completion)
        response = await exchange.wire.start({"Content-Type": JSON_TYPE})
        await exchange.wire.write(body[: len(body) // 2])
    while await _still_dripping(exchange):
        # White space inside of the JSON, or a comment without end.
        await exchange.wire.write(b" " if exchange.stream is None else b":")
    _reset(exchange.request)
    return response


async def _still_dripping(exchange: Exchange) -> bool:
    if exchange.stopping.is_set():
        return False
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(exchange.stopping.wait(), exchange.extent.drip_interval_s)
    return True


async def _cut_at_end(exchange: Exchange) -> web.StreamResponse:
    """End a stream regularly, but without its terminal chunk."""
    response = await exchange.wire.send_events([*events(_before_terminal(exchange)), DONE], end=False)
    await exchange.wire.end()
    return response


async def _error_event(exchange: Exchange) -> web.StreamResponse:
    message = {"message": "simulated fault: the engine died", "type": "server_error", "code": 500}
    response = await _begin(exchange, b"data: " + to_json({"error": message}) + b"\n\n")
    await exchange.wire.end()
    return response


async def _by_another(exchange: Exchange) -> web.StreamResponse:
    """Answer in the name of another provider than any that a request pins."""
    named = {"provider": "Fallback of the Simulator"}
    if exchange.stream is None:
        return await exchange.wire.send_body(to_json({**exchange.completion, **named}))
    chunks = exchange.stream.chunks(exchange.completion, exchange.wire.shapes)
    return await exchange.wire.send_events([*events([{**chunk, **named} for chunk in chunks]), DONE])


async def _begin(exchange: Exchange, *last_events: bytes) -> web.StreamResponse:
    """Send about half of the answer."""
    if exchange.stream is None:
        return await exchange.wire.send_body(to_json(exchange.completion), half=True)
    chunks = _before_terminal(exchange)
    return await exchange.wire.send_events([*events(chunks[: len(chunks) // 2 + 1]), *last_events], end=False)


def _before_terminal(exchange: Exchange) -> list[Chunk]:
    assert exchange.stream is not None
    chunks = exchange.stream.chunks(exchange.completion, exchange.wire.shapes)
    return [chunk for chunk in chunks if chunk["choices"] and not is_terminal(chunk)]


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()


def _http(failure_class: C, status: int, variant: str | None = None, retry_after: str = "") -> TransportFault:
    perform = partial(_refuse, status=status, retry_after=retry_after)
    return TransportFault(failure_class, perform, variant or f"http_{status}", status)


def _wrong_body(
    variant: str, body_of: Callable[[Completion], str], content_type: str = JSON_TYPE
) -> TransportFault:
    perform = partial(_send_wrong, body_of=body_of, content_type=content_type)
    return TransportFault(C.NOT_A_COMPLETION, perform, f"not_a_completion_{variant}")


FAULTS = (
    *(_http(C.HTTP_4XX, status) for status in _4XX),
    *(_http(C.HTTP_5XX, status) for status in _5XX),
    _http(C.RATE_LIMITED, 429),
    _http(C.RATE_LIMITED, 429, "http_429_retry_after_seconds", "seconds"),
    _http(C.RATE_LIMITED, 429, "http_429_retry_after_date", "date"),
    TransportFault(C.CONNECTION_RESET, _reset_at_once, "connection_reset_before_headers", None),
    # Reset in a stream, a connection is a cut stream.
    TransportFault(C.CONNECTION_RESET, _reset_mid_body, "connection_reset_mid_body", stream=False),
    TransportFault(C.TIMED_OUT, _stall_at_once, "timed_out_before_headers", None),
    TransportFault(C.TIMED_OUT, _stall_mid_body, "timed_out_mid_body"),
    TransportFault(C.TIMED_OUT, _drip_head, "timed_out_dripping_head", None),
    TransportFault(C.TIMED_OUT, _drip_body, "timed_out_dripping"),
    TransportFault(C.STREAM_CUT, _cut_at_end, "stream_cut_at_end", stream=True),
    TransportFault(C.STREAM_CUT, _reset_mid_body, "stream_cut_by_reset", stream=True),
    TransportFault(C.STREAM_ERROR_EVENT, _error_event, stream=True),
    _wrong_body("html", lambda _: _HTML, "text/html"),
    _wrong_body("truncated", _first_half),
    _wrong_body("error_object", lambda _: json.dumps(_ERROR)),
    _wrong_body("null_choices", lambda completion: json.dumps({**completion, "choices": None})),
    _wrong_body("empty_choices", lambda completion: json.dumps({**completion, "choices": []})),
    TransportFault(C.NOT_A_COMPLETION, _redirect, "not_a_completion_redirect", 307),
    TransportFault(C.RESPONSE_TOO_LARGE, _send_oversized),
    TransportFault(C.OTHER_PROVIDER, _by_another),
)
