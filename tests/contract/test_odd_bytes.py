"""Odd bytes over raw sockets, judged to the end: what upstream's script makes of them, written down.

The expected values are those that `tool_calls_eval.py` gave for these bytes (openai 2.8 and 3.57); where
they differ, the declared deviation is named.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.raw_server import DONE, RawServer, chunk, completion, event, head, reply, says, stream

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judged import JudgedResponse, judge_record
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.evalscope_plugin.client.transport import (
    Endpoint,
    Transport,
    TransportOptions,
)

CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"]}
CASE = decode_row(
    {
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "city", "parameters": CITY}}],
        "should_call_tool": True,
    },
    0,
    HistoryOptions(),
)
CALL = {
    "id": "functions.city:0",
    "type": "function",
    "function": {"name": "city", "arguments": '{"city": "Århus"}'},
}
WHOLE = completion("", "tool_calls")
WHOLE["choices"][0]["message"]["tool_calls"] = [CALL]
TEXT = json.dumps(WHOLE, ensure_ascii=False)
DELTA, FINISH = event(chunk({"tool_calls": [CALL | {"index": 0}]})), event(chunk({}, "tool_calls"))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def _asked(answer: bytes, *, streamed: bool) -> tuple[Judgement, tuple[FailureClass, ...]] | FailureClass:
    """Ask a server that answers with these bytes; judge what would be stored."""

    async def main() -> Any:
        async with RawServer(says(answer)).running() as server:
            endpoint = Endpoint(f"{server.url}/chat/completions", {}, (), ())
            async with Transport(endpoint, TransportOptions(20.0, RetryPolicy(0, 0.0))) as transport:
                return await transport.send(build_request(CASE, "kimi", {"stream": streamed}))

    outcome = asyncio.run(asyncio.wait_for(main(), 30))
    if isinstance(outcome, FailedRequest):
        return outcome.failure.failure_class
    judged = judge_record(CASE, outcome)
    assert isinstance(judged, JudgedResponse)
    return judged.judgement, outcome.stream_anomalies


def _valid(answer: bytes, *, streamed: bool) -> bool | None:
    judged = _asked(answer, streamed=streamed)
    assert not isinstance(judged, FailureClass), judged
    assert judged[0].finish_reason == "tool_calls"
    return judged[0].tool_calls_valid


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
def test_a_completion_under_any_2xx_is_one(status: int) -> None:
    """Upstream's client asks whether the status is an error, not which success it is."""
    assert _valid(reply(TEXT.encode(), status), streamed=False) is True
    events = DELTA + FINISH + DONE
    assert _valid(reply(events, status, content_type="text/event-stream"), streamed=True) is True


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/json; charset=latin-1"]
)
def test_the_bodys_own_encoding_counts(encoding: str, content_type: str) -> None:
    """A byte order mark and the zeros of the first characters tell it, as for Python's `json.loads`."""
    assert _valid(reply(TEXT.encode(encoding), content_type=content_type), streamed=False) is True


def test_invalid_utf_8_is_judged() -> None:
    """Deviation 5: upstream's client fails on it. A byte that is no text is one replacement character."""
    body = TEXT.encode().replace("Å".encode(), b"\xff")
    assert _valid(reply(body), streamed=False) is True
    assert _valid(stream(DELTA.replace("Å".encode(), b"\xff"), FINISH, DONE), streamed=True) is True


@pytest.mark.parametrize("more", ["", " ", " and more", "{}", "x", "\ndata: {"])
def test_done_ends_the_stream_whatever_follows(more: str) -> None:
    """What stands behind `[DONE]`, in its event and in later ones, is not looked at."""
    behind = [event({"error": {"message": "late"}}), event("{"), event(chunk({}, "stop"))]
    assert _valid(stream(DELTA, FINISH, event(f"[DONE]{more}"), *behind), streamed=True) is True


@pytest.mark.parametrize("nothing", ["null", '"ping"', "[]", "3", "false"])
def test_events_that_hold_no_object_are_passed_over(nothing: str) -> None:
    """First, between and last."""
    odd = event(nothing)
    assert _valid(stream(odd, DELTA, odd, FINISH, odd, DONE), streamed=True) is True


@pytest.mark.parametrize("odd", [b"event: ping\n\n", b"data:\n\n", b"data\n\n", b"id: 7\n\n", b": hello\n\n"])
def test_events_without_data_are_none(odd: bytes) -> None:
    """Deviation 5, but for the comment: upstream's client fails on them."""
    assert _valid(stream(odd, DELTA, odd, FINISH, odd, DONE), streamed=True) is True


def test_a_stream_needs_neither_its_last_blank_line_nor_its_first_bytes_bare() -> None:
    """Deviation 5: upstream's client loses the last event, or the first one behind a byte order mark."""
    assert _valid(stream(DELTA, FINISH.rstrip()), streamed=True) is True
    assert _valid(stream(b"\xef\xbb\xbf" + DELTA, FINISH, DONE), streamed=True) is True


def test_arguments_that_are_an_object_in_a_delta_are_judged_and_noted() -> None:
    """Deviation 5: upstream's script fails on them."""
    call = CALL | {"index": 0, "function": {"name": "city", "arguments": {"city": "Oslo"}}}
    judged = _asked(stream(event(chunk({"tool_calls": [call]})), FINISH, DONE), streamed=True)
    assert not isinstance(judged, FailureClass)
    assert judged[0].tool_calls_valid is True
    assert [note.kind.value for note in judged[0].notes] == ["arguments_not_text"]


# --- a whole completion in answer to a streamed request --------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_completion_for_a_stream_is_judged(
    encoding: str, content_type: str, indent: int | None
) -> None:
    """Deviation 1: upstream records an empty `stop`; here it is the completion that it is, and counted."""
    body = json.dumps(WHOLE, ensure_ascii=False, indent=indent).encode(encoding)
    judged = _asked(reply(body, content_type=content_type), streamed=True)
    assert not isinstance(judged, FailureClass)
    judgement, anomalies = judged
    assert anomalies == (FailureClass.STREAM_IGNORED,)
    assert (judgement.finish_reason, judgement.tool_calls_valid) == ("tool_calls", True)
    assert [failure.failure_class for failure in judgement.failures] == [FailureClass.STREAM_IGNORED]
    assert judgement.primary is FailureClass.STREAM_IGNORED


def test_it_may_come_in_pieces() -> None:
    """Each byte in a read of its own."""
    body = TEXT.encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    answer = head(200, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"
    assert _valid(answer, streamed=True) is True


def test_a_whole_completion_for_a_plain_request_is_no_anomaly() -> None:
    """Nothing was ignored where no stream was asked for."""
    judged = _asked(reply(TEXT.encode()), streamed=False)
    assert not isinstance(judged, FailureClass)
    assert (judged[1], judged[0].failures) == ((), ())


def test_an_event_that_holds_a_whole_completion_is_a_stream() -> None:
    """Upstream's rule: it has no delta, so its calls are not seen, and its finish_reason counts."""
    judged = _asked(stream(event(WHOLE), DONE), streamed=True)
    assert not isinstance(judged, FailureClass)
    assert (judged[0].finish_reason, judged[0].tool_calls_valid) == ("tool_calls", None)
    assert judged[1] == (FailureClass.STREAM_MESSAGE_FOR_DELTA,)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"[]", b'{"error": {"message": "x"}}', TEXT.encode()[:-9], b"[DONE]"]
)
def test_what_is_neither_is_a_failed_request(body: bytes) -> None:
    """Deviation 1: upstream records each as an empty `stop`."""
    assert _asked(reply(body), streamed=True) is FailureClass.NOT_A_COMPLETION
