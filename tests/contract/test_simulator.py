"""The simulated vendor over the wire, as an independent client (the openai SDK, http.client) sees it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import reduce
from operator import add

import openai
import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
TEXT = "It depends: 在北京是晴天, in Paris it rains. \U0001f327"


def _row(number: int, *, call: bool) -> dict[str, object]:
    arguments = json.dumps({"city": f"北京 {number}", "unit": "c"}, ensure_ascii=False)
    function = {"name": "get_weather", "arguments": arguments}
    calls = [{"id": "functions.get_weather:0", "type": "function", "function": function}]
    return {
        "messages": json.dumps([{"role": "user", "content": f"Question {number}"}]),
        "tools": json.dumps(TOOLS),
        "should_call_tool": call,
        "official_finish_reason": "tool_calls" if call else "stop",
        "official_tool_calls": json.dumps(calls) if call else None,
        "official_content": None if call else TEXT,
    }


ROWS = [_row(number, call=number % 2 == 0) for number in range(40)]
CALL, STOP = ROWS[0], ROWS[1]
OFFICIAL = PROFILES["official"]


def _body(row, **parameters):
    tools = row["tools"]
    decoded = {
        "messages": json.loads(row["messages"]) if isinstance(row["messages"], str) else row["messages"],
        "tools": json.loads(tools) if isinstance(tools, str) else tools,
    }
    return {"model": "any", **decoded, **parameters}


def _exchange(endpoint, path, payload=None, headers=None, timeout=10):
    """Send one request on a connection of its own; give status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=timeout)
    try:
        method = "GET" if payload is None else "POST"
        body = None if payload is None else json.dumps(payload).encode()
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@contextmanager
def _begun(endpoint, row, **parameters):
    """Give the response as its head arrives; the connection is closed behind it."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(_body(row, **parameters)))
        yield connection.getresponse()
    finally:
        connection.close()


def _chat(endpoint, row, **parameters):
    return _exchange(endpoint, "/v1/chat/completions", _body(row, **parameters))


def _completion(endpoint, row):
    status, _, body = _chat(endpoint, row)
    assert status == 200
    return json.loads(body)


def _events(body):
    """Parse an event stream plainly: one `data:` line an event."""
    return [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]


def _sdk(endpoint, key="k"):
    return openai.OpenAI(base_url=endpoint.url, api_key=key, max_retries=0, timeout=10)


def _assembled(chunks):
    """Put a stream together as the API's documentation says: text appended, calls by index."""
    text, calls, finish_reasons = "", {}, []
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish_reasons += [choice.finish_reason] if choice.finish_reason else []
            for delta in choice.delta.tool_calls or []:
                call = calls.setdefault(delta.index, {"id": delta.id, "name": "", "arguments": ""})
                call["name"] += delta.function.name or ""
                call["arguments"] += delta.function.arguments or ""
    return text, list(calls.values()), finish_reasons


# --- sound answers -------------------------------------------------------------------------------


def test_plain_answers_are_the_official_ones():
    """The SDK reads the official call and text, with usage, from plain answers, and the model's name."""
    with SimulatedVendor(ROWS, OFFICIAL).running() as endpoint, _sdk(endpoint) as client:
        models = [model.id for model in client.models.list()]
        called = client.chat.completions.create(**_body(CALL))
        stopped = client.chat.completions.create(**_body(STOP))
    (call,) = called.choices[0].message.tool_calls
    assert called.choices[0].finish_reason == "tool_calls"
    assert (call.id, call.function.name) == ("functions.get_weather:0", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "北京 0", "unit": "c"}
    assert (stopped.choices[0].finish_reason, stopped.choices[0].message.content) == ("stop", TEXT)
    assert [stopped.model] == models == ["kimi-k2-simulated"]
    assert stopped.usage.total_tokens == stopped.usage.prompt_tokens + stopped.usage.completion_tokens


@pytest.mark.parametrize("pieces", [None, 1, 3, 1000])
@pytest.mark.parametrize("singly", [False, True])
def test_streamed_answers_are_the_official_ones(pieces, singly):
    """The SDK puts the official call and text together from a stream, however it is cut."""
    vendor = SimulatedVendor(ROWS, OFFICIAL, stream_chunks=pieces, write_events_singly=singly)
    with vendor.running() as endpoint, _sdk(endpoint) as client:
        called = _assembled(client.chat.completions.create(**_body(CALL, stream=True)))
        stopped = _assembled(client.chat.completions.create(**_body(STOP, stream=True)))
    arguments = json.loads(CALL["official_tool_calls"])[0]["function"]["arguments"]
    call = {"id": "functions.get_weather:0", "name": "get_weather", "arguments": arguments}
    assert called == ("", [call], ["tool_calls"])
    assert stopped == (TEXT, [], ["stop"])


def test_a_stream_has_the_shape_of_the_api():
    """The role comes first, as many deltas as set, finish_reason in an empty delta, then usage and [DONE]."""
    with SimulatedVendor(ROWS, OFFICIAL, stream_chunks=5).running() as endpoint:
        _, headers, body = _chat(endpoint, CALL, stream=True, stream_options={"include_usage": True})
        _, _, without = _chat(endpoint, CALL, stream=True)
        _, _, text = _chat(endpoint, STOP, stream=True)
    assert headers["Content-Type"].startswith("text/event-stream")
    *events, done = _events(body)
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert (chunks[-1]["choices"], chunks[-1]["usage"].keys() >= {"total_tokens"}) == ([], True)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in event for event in _events(without))
    deltas = [json.loads(event)["choices"][0]["delta"] for event in _events(text)[:-1]]
    assert sum(bool(delta.get("content")) for delta in deltas) == 5


# --- refusals ------------------------------------------------------------------------------------


def test_a_wrong_key_is_refused():
    """With a key set, another key and no key get a 401 that the SDK understands."""
    vendor = SimulatedVendor(ROWS, OFFICIAL, api_key="secret")
    with vendor.running() as endpoint:
        with _sdk(endpoint, "wrong") as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(**_body(CALL))
        assert _exchange(endpoint, "/v1/models")[0] == 401
        with _sdk(endpoint, "secret") as client:
            assert client.chat.completions.create(**_body(CALL)).choices
    assert vendor.truth.refused == {401: 2}
    assert vendor.truth.totals().completed == 1


def test_an_unknown_model_is_refused_only_if_strict():
    """With `strict_model`, another model gets a 404 and uses up no answer."""
    vendor = SimulatedVendor(ROWS, OFFICIAL, strict_model=True)
    with vendor.running() as endpoint, _sdk(endpoint) as client:
        with pytest.raises(openai.NotFoundError, match="any"):
            client.chat.completions.create(**_body(CALL))
        assert client.chat.completions.create(**{**_body(CALL), "model": "kimi-k2-simulated"}).choices
    assert [answer.occurrence for answer in vendor.truth.answers] == [0]


def test_what_is_not_there_is_said_as_an_api_says_it():
    """Unknown paths, methods and models are errors in the API's own form."""
    vendor = SimulatedVendor(ROWS, OFFICIAL)
    with vendor.running() as endpoint:
        for path, payload, expected in (
            ("/v1/completions", {}, 404),
            ("/chat/completions", {}, 404),
            ("/v1/models", {}, 405),
            ("/v1/models/gpt-x", None, 404),
        ):
            status, headers, body = _exchange(endpoint, path, payload)
            assert (status, headers["Content-Type"].partition(";")[0]) == (expected, "application/json")
            assert json.loads(body)["error"]["message"]
        assert json.loads(_exchange(endpoint, "/v1/models/kimi-k2-simulated")[2])["object"] == "model"
    assert vendor.truth.refused == {404: 3, 405: 1}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_request_gets_what_it_asks_for(stream):
    """`n`, `tool_choice` and `max_tokens` are heeded; the ledger knows what was answered."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    vendor = SimulatedVendor(ROWS, OFFICIAL)

    def answered(row, **parameters):
        with _sdk(endpoint) as client:
            asked = client.chat.completions.create(**_body(row, **parameters, stream=stream))
            if not stream:
                return [(choice.finish_reason, bool(choice.message.tool_calls)) for choice in asked.choices]
            ends, calls = {}, Counter()
            for chunk in asked:
                for choice in chunk.choices:
                    calls[choice.index] += bool(choice.delta.tool_calls)
                    if choice.finish_reason:
                        ends[choice.index] = choice.finish_reason
            return [(ends[index], calls[index] > 0) for index in sorted(ends)]

    with vendor.running() as endpoint:
        assert answered(CALL, n=3) == [("tool_calls", True)] * 3
        assert answered(CALL, tool_choice="none") == [("stop", False)]
        assert answered(STOP, tool_choice="required") == [("tool_calls", True)]
        assert answered(STOP, tool_choice=named) == [("tool_calls", True)]
        assert answered(STOP, max_tokens=2) == [("length", False)]
        assert answered(CALL, max_tokens=10) == [("length", True)]
        assert answered(CALL, max_tokens=64000, tool_choice="auto") == [("tool_calls", True)]
    ends = [answer.finish_reason for answer in vendor.truth.answers]
    assert ends == ["tool_calls", "stop", "tool_calls", "tool_calls", "length", "length", "tool_calls"]
    valid = [answer.tool_calls_valid for answer in vendor.truth.answers]
    assert valid == [True, None, True, True, None, None, True]


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"n": 9}, {"max_tokens": 0}, {"max_tokens": "x"}, {"tool_choice": "any"}]
)
def test_parameters_that_no_api_takes_are_refused(wrong):
    """They are a 400 that says which, and use up no answer."""
    vendor = SimulatedVendor(ROWS, OFFICIAL)
    with vendor.running() as endpoint:
        status, _, body = _chat(endpoint, CALL, **wrong)
    assert (status, vendor.truth.answers) == (400, ())
    assert next(iter(wrong)) in json.loads(body)["error"]["message"]


def test_a_row_is_found_by_what_a_gateway_lets_through():
    """Null members that are missing and a `developer` that became `system` do not hide a row; other words do."""
    call = {"id": "x", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "x", "content": "sun"},
    ]
    row = CALL | {"messages": json.dumps(messages)}
    through = [{**message, "role": message["role"].replace("developer", "system")} for message in messages]
    del through[1]["name"], through[2]["content"]
    vendor = SimulatedVendor([row], OFFICIAL)
    with vendor.running() as endpoint:
        assert _chat(endpoint, row | {"messages": json.dumps(through)})[0] == 200
        through[1]["content"] = "Weather!"
        assert _chat(endpoint, row | {"messages": json.dumps(through)})[0] == 422


def test_an_unmatched_request_says_so():
    """A request that equals no row gets a 422 that says why, and no entry in the ledger."""
    vendor = SimulatedVendor(ROWS, OFFICIAL)
    with (
        vendor.running() as endpoint,
        _sdk(endpoint) as client,
        pytest.raises(openai.UnprocessableEntityError, match="unmatched"),
    ):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    assert vendor.truth.answers == ()
    assert vendor.truth.refused == {422: 1}


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b'{"model": "m"}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_request_is_refused(body):
    """A body that is no chat completion request gets a 400, not a server error."""
    with SimulatedVendor(ROWS, OFFICIAL).running() as endpoint:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
        connection.close()
    assert (response.status, error["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Host": "rebound.example.com"},
        {"Host": "127.0.0.1.a:80"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/__simulator__/truth"])
def test_no_page_of_a_browser_is_served(headers, path):
    """What a page could send, from another origin or to a name that leads here, gets nothing; a program does."""
    with SimulatedVendor(ROWS, OFFICIAL).running() as endpoint:
        status, _, body = _exchange(endpoint, path, headers=headers)
        assert (status, json.loads(body)["error"]["type"]) == (403, "permission_denied_error")
        for name in ("localhost", f"127.0.0.1:{endpoint.port}"):
            assert _exchange(endpoint, path, headers={"Host": name})[0] == 200


def test_the_ledger_asks_for_the_key():
    """With a key set, the answers are not told without it."""
    with SimulatedVendor(ROWS, OFFICIAL, api_key="secret").running() as endpoint:
        assert _exchange(endpoint, "/__simulator__/truth")[0] == 401
        assert (
            _exchange(endpoint, "/__simulator__/truth", headers={"Authorization": "Bearer secret"})[0] == 200
        )


@pytest.mark.parametrize(
    "head", [f"Content-Length: {1 << 30}", "Content-Length: 5", "Transfer-Encoding: chunked"]
)
def test_an_upload_is_bounded(head):
    """A body that is too large, or that never comes, is refused, and the connection ends."""
    with SimulatedVendor(ROWS, OFFICIAL, upload_s=0.2).running() as endpoint:
        with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as connection:
            connection.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
            )
            said = b"".join(iter(lambda: connection.recv(4096), b""))
        assert said.startswith(b"HTTP/1.1 413 ")
        assert _chat(endpoint, CALL)[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::", ""])
def test_only_loopback_is_served(host):
    """Any host but 127.0.0.1 is refused."""
    with (
        pytest.raises(UsageError, match=r"127\.0\.0\.1 only"),
        SimulatedVendor(ROWS, OFFICIAL).running(0, host),
    ):
        pass


@pytest.mark.parametrize("port", [-1, 70_000])
def test_an_impossible_port_is_a_usage_error(port):
    """A port out of range is refused with its value."""
    with (
        pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 cannot be listened on"),
        SimulatedVendor(ROWS, OFFICIAL).running(port),
    ):
        pass


def test_a_port_in_use_is_a_usage_error():
    """A port that another server has is refused."""
    vendor = SimulatedVendor(ROWS, OFFICIAL)
    with vendor.running() as endpoint:
        with (
            pytest.raises(UsageError, match="in use"),
            SimulatedVendor(ROWS, OFFICIAL).running(endpoint.port),
        ):
            pass
        assert _chat(endpoint, CALL)[0] == 200


# --- matching ------------------------------------------------------------------------------------

HISTORY_ROW = {
    **STOP,
    "messages": [
        {"role": "_input", "content": "context"},
        {"role": "user", "content": "Q"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "A"},
    ],
}


@pytest.mark.parametrize("malformed", list(MalformedHistory))
@pytest.mark.parametrize("normalize", [False, True])
def test_a_repaired_history_is_matched(malformed, normalize):
    """A row is found in every form that the declared repairs give it."""
    case = decode_row(HISTORY_ROW, 0, HistoryOptions(malformed, normalize_tool_call_ids=normalize))
    with SimulatedVendor([HISTORY_ROW], OFFICIAL).running() as endpoint:
        status, _, _ = _chat(endpoint, {"messages": case.messages(), "tools": case.tools()})
    assert status == 200


def test_a_raw_history_is_matched():
    """A row is found as it stands, too, with its keys in any order."""
    messages = [dict(reversed(list(message.items()))) for message in HISTORY_ROW["messages"]]
    with SimulatedVendor([HISTORY_ROW], OFFICIAL).running() as endpoint:
        assert _chat(endpoint, {**HISTORY_ROW, "messages": messages})[0] == 200


def test_requests_are_recorded_as_they_arrived():
    """Bodies are kept byte by byte, in order of arrival, with their headers."""
    vendor = SimulatedVendor(ROWS, OFFICIAL, record_requests=True)
    with vendor.running() as endpoint:
        _exchange(endpoint, "/v1/chat/completions?a=1", _body(CALL), {"X-Tag": "one"})
        _chat(endpoint, STOP)
        _exchange(endpoint, "/__simulator__/truth")
    first, second = vendor.requests
    assert (first.method, first.path, first.headers["x-tag"]) == ("POST", "/v1/chat/completions?a=1", "one")
    assert [first.body, second.body] == [json.dumps(_body(row)).encode() for row in (CALL, STOP)]


# --- payload and stream faults -------------------------------------------------------------------


def test_a_fault_hits_every_answer_that_it_fits():
    """At rate 1 each calling answer is damaged, and each other answer is official."""
    vendor = SimulatedVendor(ROWS, profile_with({"truncated_json": 1}))
    with vendor.running() as endpoint:
        for row in ROWS:
            choice = _completion(endpoint, row)["choices"][0]
            for call in choice["message"].get("tool_calls", []):
                with pytest.raises(json.JSONDecodeError):
                    json.loads(call["function"]["arguments"])
    totals = vendor.truth.totals()
    assert totals.faults == {"truncated_json": 20}
    assert (totals.count_successful_tool_call, totals.schema_validation_error_count) == (0, 20)


@pytest.mark.parametrize(
    "fault", ["truncated_json", "missing_required", "duplicate_tool_call_id", "empty_response"]
)
def test_a_streamed_fault_is_the_plain_one(fault):
    """A damaged answer is the same whether it is streamed or not."""
    vendors = [SimulatedVendor([CALL], profile_with({fault: 1}), stream_chunks=2) for _ in range(2)]
    with vendors[0].running() as endpoint:
        plain = _completion(endpoint, CALL)["choices"][0]
    with vendors[1].running() as endpoint, _sdk(endpoint) as client:
        text, calls, finish = _assembled(client.chat.completions.create(**_body(CALL, stream=True)))
    expected = [{"id": c["id"], **c["function"]} for c in plain["message"].get("tool_calls", [])]
    assert (text, calls, finish) == (plain["message"]["content"], expected, [plain["finish_reason"]])


def test_an_ignored_stream_is_one_completion():
    """The answer to a streamed request is the body that the same vendor gives to a plain one."""
    vendor = SimulatedVendor([CALL], profile_with({"stream_ignored": 1}))
    with vendor.running() as endpoint:
        (_, headers, body), (_, _, plain) = (_chat(endpoint, CALL, stream=stream) for stream in (True, False))
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == json.loads(plain)
    assert [(answer.fault, answer.tool_calls_valid) for answer in vendor.truth.answers] == [
        ("stream_ignored", True),
        (None, True),
    ]


def test_reasoning_is_streamed_in_each_form():
    """Reasoning text arrives in a stream under the same member as in a plain answer."""
    for field in ("reasoning_content", "reasoning", "reasoning_details"):
        with SimulatedVendor([CALL], profile_with({f"reasoning_only_as_{field}": 1})).running() as endpoint:
            expected = _completion(endpoint, CALL)["choices"][0]["message"][field]
            _, _, body = _chat(endpoint, CALL, stream=True)
        deltas = [json.loads(event)["choices"][0]["delta"] for event in _events(body)[:-1]]
        parts = [delta[field] for delta in deltas if field in delta]
        assert reduce(add, parts) == expected


def test_the_same_seed_gives_the_same_bytes():
    """Two vendors with one seed answer alike, and another seed differs."""

    def answers(seed):
        vendor = SimulatedVendor(ROWS, profile_with({"truncated_json": 0.5, "extra_call": 0.5}), seed=seed)
        with vendor.running() as endpoint:
            return [_chat(endpoint, row)[2] for row in [*ROWS, *ROWS]]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


# --- transport faults ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_status_has_an_error_body(status, stream):
    """Each status comes with an OpenAI-style error, streamed or not."""
    vendor = SimulatedVendor([CALL], profile_with({f"http_{status}": 1}))
    with vendor.running() as endpoint:
        got, headers, body = _chat(endpoint, CALL, stream=stream)
    assert got == status
    assert "Retry-After" not in headers
    assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}
    assert vendor.truth.answers[0].status == status


def test_retry_after_comes_in_seconds_or_as_a_date():
    """A 429 can say when to come back, in seconds or as an HTTP date in the future."""
    faults = ("http_429_retry_after_seconds", "http_429_retry_after_date")
    values = []
    for fault in faults:
        with SimulatedVendor([CALL], profile_with({fault: 1}), retry_after_s=60).running() as endpoint:
            values.append(_chat(endpoint, CALL)[1]["Retry-After"])
    assert values[0] == "60"
    assert 0 < (parsedate_to_datetime(values[1]) - datetime.now(timezone.utc)).total_seconds() <= 60


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_headers_gives_nothing(stream):
    """The connection is reset before a status line."""
    vendor = SimulatedVendor([CALL], profile_with({"connection_reset_before_headers": 1}))
    with vendor.running() as endpoint, pytest.raises(ConnectionResetError):
        _chat(endpoint, CALL, stream=stream)


@pytest.mark.parametrize(
    ("fault", "stream"), [("connection_reset_mid_body", False), ("stream_cut_by_reset", True)]
)
def test_a_reset_mid_body_follows_the_headers(fault, stream):
    """Status 200 and some of the body or of the events arrive, then the connection is reset."""
    vendor = SimulatedVendor([STOP], profile_with({fault: 1}))
    with vendor.running() as endpoint, _begun(endpoint, STOP, stream=stream) as response:
        assert response.status == 200
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            response.read()


def test_a_stream_cut_at_its_end_lacks_the_terminal_chunk():
    """All deltas arrive and the stream ends regularly, without finish_reason."""
    vendor = SimulatedVendor([STOP], profile_with({"stream_cut_at_end": 1}))
    with vendor.running() as endpoint, _sdk(endpoint) as client:
        chunks = client.chat.completions.create(**_body(STOP, stream=True))
        text, _, finish_reasons = _assembled(chunks)
    assert (text, finish_reasons) == (TEXT, [])


def test_a_stream_can_end_in_an_error_event():
    """The last event is an error object, after some deltas."""
    with SimulatedVendor([STOP], profile_with({"stream_error_event": 1})).running() as endpoint:
        _, _, body = _chat(endpoint, STOP, stream=True)
    *before, last = _events(body)
    assert before
    assert json.loads(last)["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_body_comes_with_status_200(stream):
    """HTML, half a JSON text, an error object and missing choices all come with status 200."""
    bodies = {}
    for variant in ("html", "truncated", "error_object", "null_choices", "empty_choices"):
        with SimulatedVendor([CALL], profile_with({f"not_a_completion_{variant}": 1})).running() as endpoint:
            status, _, bodies[variant] = _chat(endpoint, CALL, stream=stream)
        assert status == 200
    assert bodies["html"].startswith(b"<!DOCTYPE html>")
    with pytest.raises(json.JSONDecodeError):
        json.loads(bodies["truncated"])
    assert json.loads(bodies["error_object"]).keys() == {"error"}
    assert json.loads(bodies["null_choices"])["choices"] is None
    assert json.loads(bodies["empty_choices"])["choices"] == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_oversized_body_has_the_size_asked_for(stream):
    """The body reaches the size that was set, and is no completion."""
    vendor = SimulatedVendor([CALL], profile_with({"response_too_large": 1}), oversized_bytes=3_000_000)
    with vendor.running() as endpoint:
        status, _, body = _chat(endpoint, CALL, stream=stream)
    assert status == 200
    assert 3_000_000 <= len(body) < 5_000_000
    assert b'"finish_reason":"' not in body


def test_a_client_may_leave_an_oversized_body(caplog):
    """A client that closes the connection ends the answer, without a traceback, and the server goes on."""
    vendor = SimulatedVendor([CALL, STOP], profile_with({"response_too_large@1": 1}), oversized_bytes=1 << 40)
    with vendor.running() as endpoint:
        with _begun(endpoint, CALL) as response:
            response.read(100)
        assert _chat(endpoint, CALL)[0] == 200
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("fault", "status"), [("timed_out_before_headers", None), ("timed_out_mid_body", 200)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_lasts_until_the_vendor_stops(fault, status, stream):
    """A stalled answer never ends while the vendor runs, and its shutdown is not held up."""
    vendor = SimulatedVendor([CALL], profile_with({fault: 1}))

    def stalled(endpoint):
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            _chat(endpoint, CALL, stream=stream)

    with ThreadPoolExecutor(1) as pool:
        with vendor.running() as endpoint:
            waiting = pool.submit(stalled, endpoint)
            while not vendor.truth.answers:
                _exchange(endpoint, "/v1/models")
            with pytest.raises(TimeoutError):
                _impatient(endpoint, stream=stream)
            assert not waiting.done()
        waiting.result(timeout=10)
    assert {answer.status for answer in vendor.truth.answers} == {status}
    assert vendor.truth.totals().failed_attempts == {"timed_out": 2}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_can_drip(stream):
    """About half of an answer comes, and then byte by byte what completes neither an event nor the body."""
    vendor = SimulatedVendor([STOP], profile_with({"timed_out_dripping": 1}), drip_interval_s=0.001)
    with vendor.running() as endpoint, _begun(endpoint, STOP, stream=stream) as response:
        drip, received = (b":" if stream else b" ") * 20, b""
        while not received.endswith(drip):
            received += response.read(1)
    assert response.status == 200
    answer = received.removesuffix(drip)
    assert answer.endswith(b"\n\n") if stream else answer.startswith(b'{"id":')
    assert b'"finish_reason":"' not in received


@pytest.mark.parametrize("stream", [False, True])
def test_a_redirect_names_another_path(stream):
    """A redirect is a 307 to a path of the same server, where nothing is."""
    vendor = SimulatedVendor([CALL], profile_with({"not_a_completion_redirect": 1}))
    with vendor.running() as endpoint:
        status, headers, body = _chat(endpoint, CALL, stream=stream)
        assert (status, headers["Location"], body) == (307, "/moved/v1/chat/completions", b"")
        assert _exchange(endpoint, headers["Location"], _body(CALL))[0] == 404
    assert [answer.status for answer in vendor.truth.answers] == [307]


def _impatient(endpoint, *, stream):
    path = "/v1/chat/completions"
    return _exchange(endpoint, path, _body(CALL, stream=stream), timeout=0.2)


def _completes(endpoint):
    try:
        status, _, body = _chat(endpoint, CALL)
    except (ConnectionError, http.client.HTTPException):
        return False
    return status == 200 and b'"finish_reason":"tool_calls"' in body


@pytest.mark.parametrize(
    "fault", ["http_503", "http_429_retry_after_seconds", "connection_reset", "not_a_completion"]
)
def test_a_fault_can_hit_the_first_attempts_only(fault):
    """With `@2` two attempts fail, the third is official, and the next repetition starts again."""
    vendor = SimulatedVendor([CALL], profile_with({f"{fault}@2": 1}))
    with vendor.running() as endpoint:
        outcomes = [_completes(endpoint) for _ in range(6)]
    assert outcomes == [False, False, True] * 2
    assert [(a.occurrence, a.attempt, a.completed) for a in vendor.truth.answers] == [
        (occurrence, attempt, attempt == 3) for occurrence in (0, 1) for attempt in (1, 2, 3)
    ]
    assert vendor.truth.totals().failed == 0


# --- truth ---------------------------------------------------------------------------------------


def test_the_truth_is_what_a_client_counts():
    """Totals of a run with flipped decisions and broken calls equal a client's own count."""
    faults = {"missed_call": 0.3, "extra_call": 0.3, "missing_required": 0.3, "http_500": 0.2}
    vendor = SimulatedVendor(ROWS, profile_with(faults), seed=3)
    counted = Counter()
    with vendor.running() as endpoint:
        for row in ROWS:
            status, _, body = _chat(endpoint, row)
            if status != 200:
                counted["failed"] += 1
                continue
            choice = json.loads(body)["choices"][0]
            calls = choice["finish_reason"] == "tool_calls"
            counted[
                {(1, 1): "tp", (0, 1): "fp", (1, 0): "fn", (0, 0): "tn"}[row["should_call_tool"], calls]
            ] += 1
            if calls:
                arguments = json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])
                counted["valid" if "city" in arguments else "invalid"] += 1
        stated = json.loads(_exchange(endpoint, "/__simulator__/truth")[2])
    totals = vendor.truth.totals()
    assert min(counted[name] for name in ("tp", "fp", "fn", "tn", "failed", "valid", "invalid")) > 0
    assert {name: counted[name] for name in ("tp", "fp", "fn", "tn", "failed")} == {
        name: getattr(totals, name) for name in ("tp", "fp", "fn", "tn", "failed")
    }
    assert totals.count_successful_tool_call == counted["valid"]
    assert totals.schema_validation_error_count == counted["invalid"]
    assert totals.failed_attempts == {"http_5xx": counted["failed"]}
    assert totals.completed == 40 - counted["failed"]
    assert sum(totals.finish_reasons.values()) == totals.completed
    assert stated["totals"] == asdict(totals)
    assert len(stated["answers"]) == 40


def test_null_and_empty_are_counted_as_upstream_does():
    """A null finish_reason is in no bucket, and finish tool_calls without calls is a schema error."""
    faults = {"finish_reason_missing": 1, "finish_tool_calls_without_calls": 1}
    vendor = SimulatedVendor([CALL, STOP], profile_with(faults))
    with vendor.running() as endpoint:
        _chat(endpoint, CALL)
        _chat(endpoint, STOP)
    totals = vendor.truth.totals()
    assert totals.finish_reasons == {"tool_calls": 1, "null": 1}
    assert (totals.count_successful_tool_call, totals.schema_validation_error_count) == (0, 1)
    assert [answer.tool_calls_valid for answer in vendor.truth.answers] == [None, None]
    assert (totals.tp, totals.tn) == (1, 1)


def test_a_slice_of_the_ledger_can_be_counted():
    """A second run against the same vendor is counted from where it began."""
    vendor = SimulatedVendor([CALL], OFFICIAL)
    with vendor.running() as endpoint:
        _chat(endpoint, CALL)
        before = len(vendor.truth.answers)
        _chat(endpoint, CALL)
    assert (vendor.truth.totals().completed, vendor.truth.totals(before).completed) == (2, 1)


def test_a_client_that_leaves_gets_no_entry_as_completed():
    """An answer that its client did not wait for is no completion, and is given again."""
    left = threading.Event()

    def latency(_):
        return 0.0 if left.is_set() else 3600.0

    vendor = SimulatedVendor([CALL], OFFICIAL, latency=latency)
    with vendor.running() as endpoint:
        with pytest.raises(TimeoutError):
            _impatient(endpoint, stream=False)
        while not vendor.truth.answers or vendor.truth.answers[0].completed:
            _exchange(endpoint, "/v1/models")
        left.set()
        _completion(endpoint, CALL)
    assert [(a.completed, a.finish_reason, a.attempt) for a in vendor.truth.answers] == [
        (False, None, 1),
        (True, "tool_calls", 2),
    ]
    totals = vendor.truth.totals()
    assert (totals.completed, totals.failed, totals.failed_attempts) == (1, 0, {"abandoned": 1})


def test_latency_holds_an_answer_back_and_yields_to_shutdown():
    """A delayed answer waits for its time, and comes at once when the vendor stops."""
    vendor = SimulatedVendor([CALL, STOP], OFFICIAL, latency=lambda index: 3600.0 if index == 0 else 0.0)
    with ThreadPoolExecutor(1) as pool:
        with vendor.running() as endpoint:
            delayed = pool.submit(_chat, endpoint, CALL)
            _chat(endpoint, STOP)
            while len(vendor.truth.answers) < 2:
                _exchange(endpoint, "/v1/models")
            assert not delayed.done()
        assert delayed.result(timeout=10)[0] == 200


def test_many_clients_at_once_are_all_answered():
    """Concurrent repetitions of all rows are each answered once."""
    vendor = SimulatedVendor(ROWS, OFFICIAL)
    with vendor.running() as endpoint, ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda row: _chat(endpoint, row)[0], ROWS * 5))
    assert statuses == [200] * 200
    counted = Counter((answer.case_index, answer.occurrence) for answer in vendor.truth.answers)
    assert counted == Counter({(index, occurrence): 1 for index in range(40) for occurrence in range(5)})


# --- in the foreground ---------------------------------------------------------------------------

FOREGROUND = """
import json, sys
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, serve_forever
vendor = SimulatedVendor(json.loads(sys.argv[1]), PROFILES["official"])
serve_forever(vendor, on_ready=lambda endpoint: print(endpoint.url, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_ends_on_a_signal(number):
    """In the foreground the vendor prints nothing of its own and ends quietly on SIGINT and SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, json.dumps([CALL])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = process.stdout.readline().strip()
    client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
    with client:
        assert client.chat.completions.create(**_body(CALL)).choices
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
