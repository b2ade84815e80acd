"""Faults of the way between vendor and client: error statuses, broken connections, wrong bodies."""

from __future__ import annotations

import json
from collections.abc import Callable

from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion
from k2_verifier_adapter.simulator.faults.base import (
    CutStream,
    ErrorEvent,
    ErrorStatus,
    OversizedBody,
    Redirect,
    Reset,
    RetryAfter,
    Stall,
    TransportFault,
    Where,
    WrongBody,
)
from k2_verifier_adapter.simulator.modes import Modes

_4XX = (400, 401, 402, 403, 404, 408, 409, 422)
_5XX = (500, 502, 503, 529)

_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"
_ERROR = {"error": {"message": "simulated: engine is overloaded", "type": "engine_overloaded_error"}}


def _page(_: Completion) -> bytes:
    return _HTML


def _half(completion: Completion) -> bytes:
    text = json.dumps(completion)
    return text[: len(text) // 2].encode()


def _error(_: Completion) -> bytes:
    return json.dumps(_ERROR).encode()


def _null_choices(completion: Completion) -> bytes:
    return json.dumps({**completion, "choices": None}).encode()


def _no_choices(completion: Completion) -> bytes:
    return json.dumps({**completion, "choices": []}).encode()


def _wrong_body(
    variant: str, make: Callable[[Completion], bytes], content_type: str = "application/json"
) -> TransportFault:
    name = f"{C.NOT_A_COMPLETION.value}_{variant}"
    return TransportFault(name, C.NOT_A_COMPLETION, WrongBody(content_type, make))


FAULTS = (
    *(TransportFault(f"http_{status}", C.HTTP_4XX, ErrorStatus(status)) for status in _4XX),
    *(TransportFault(f"http_{status}", C.HTTP_5XX, ErrorStatus(status)) for status in _5XX),
    TransportFault("http_429", C.RATE_LIMITED, ErrorStatus(429)),
    TransportFault("http_429_retry_after_seconds", C.RATE_LIMITED, ErrorStatus(429, RetryAfter.SECONDS)),
    TransportFault("http_429_retry_after_date", C.RATE_LIMITED, ErrorStatus(429, RetryAfter.DATE)),
    TransportFault("connection_reset_before_headers", C.CONNECTION_RESET, Reset(Where.BEFORE_HEADERS)),
    # Reset in a stream, a connection is a cut stream.
    TransportFault("connection_reset_mid_body", C.CONNECTION_RESET, Reset(Where.MID_BODY), modes=Modes.PLAIN),
    TransportFault("timed_out_before_headers", C.TIMED_OUT, Stall(Where.BEFORE_HEADERS)),
    TransportFault("timed_out_mid_body", C.TIMED_OUT, Stall(Where.MID_BODY)),
    TransportFault("timed_out_dripping_head", C.TIMED_OUT, Stall(Where.BEFORE_HEADERS, dripping=True)),
    TransportFault("timed_out_dripping", C.TIMED_OUT, Stall(Where.MID_BODY, dripping=True)),
    TransportFault("stream_cut_at_end", C.STREAM_CUT, CutStream(reset=False), modes=Modes.STREAM),
    TransportFault("stream_cut_by_reset", C.STREAM_CUT, CutStream(reset=True), modes=Modes.STREAM),
    TransportFault(C.STREAM_ERROR_EVENT.value, C.STREAM_ERROR_EVENT, ErrorEvent(), modes=Modes.STREAM),
    _wrong_body("html", _page, "text/html"),
    _wrong_body("truncated", _half),
    _wrong_body("error_object", _error),
    _wrong_body("null_choices", _null_choices),
    _wrong_body("empty_choices", _no_choices),
    TransportFault(f"{C.NOT_A_COMPLETION.value}_redirect", C.NOT_A_COMPLETION, Redirect(307)),
    TransportFault(C.RESPONSE_TOO_LARGE.value, C.RESPONSE_TOO_LARGE, OversizedBody()),
)
