"""The transport against loopback servers: exact bytes out, and every way in which an answer can go wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from support.asking import response_of
from support.raw_server import (
    DONE,
    END,
    HELLO,
    STOP,
    STREAM_HEAD,
    RawServer,
    chunk,
    completion,
    drips,
    event,
    framed,
    head,
    reply,
    says,
    says_in_turn,
    stream,
    then_closes,
    then_resets,
    then_stalls,
)

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.evalscope_plugin.client import reading
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget, BudgetSpentError
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy, retry_after_seconds
from k2_verifier_adapter.evalscope_plugin.client.transport import (
    Endpoint,
    Transport,
    TransportOptions,
)

KEY = "sk-marked-secret-0123456789"
PATIENCE_S = 0.2
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "User-Agent": "tests/1"}
ROW = {
    "messages": [{"role": "user", "content": "你好, what is the weather? \ud800"}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}],
    "should_call_tool": False,
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def _request(*, streamed=False, number=0):
    row = ROW | {"messages": [*ROW["messages"], {"role": "user", "content": f"Question {number}"}]}
    case = decode_row(row, number, HistoryOptions())
    return build_request(case, "kimi", {"stream": streamed, "temperature": 0.6})


PLAIN, STREAMED = _request(), _request(streamed=True)


def _ask(
    handler, *requests, retries=0, interval_s=0.0, timeout_s=20.0, limit=1 << 20, endpoint=None, notes=None
):
    """Send the requests one after the other; give the outcomes and the server."""

    async def main():
        async with RawServer(handler).running() as server:
            to = endpoint or Endpoint(f"{server.url}/chat/completions", HEADERS, (), (KEY,))
            if endpoint:
                to = Endpoint(
                    f"{server.url}{endpoint.url}", endpoint.headers, endpoint.query, endpoint.secrets
                )
            options = TransportOptions(timeout_s, RetryPolicy(retries, interval_s), limit)
            on_event = (notes if notes is not None else []).append
            async with Transport(to, options, on_event=on_event) as transport:
                outcomes = [await transport.send(request) for request in requests]
            return outcomes, server

    return asyncio.run(asyncio.wait_for(main(), 30))


def _answer(handler, request, **settings):
    (outcome,), server = _ask(handler, request, **settings)
    assert isinstance(outcome, ResponseRecord), outcome
    return outcome, server


def _failure(handler, request, **settings):
    (outcome,), server = _ask(handler, request, **settings)
    assert isinstance(outcome, FailedRequest), outcome
    return outcome, server


def _content(answer):
    return response_of(answer).message["content"]


# --- the request ---------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [PLAIN, STREAMED], ids=["plain", "streamed"])
def test_the_request_goes_out_as_it_was_built(request_):
    """The body's bytes, the headers, the query and the path arrive exactly as given."""
    handler = says(reply(completion()) if request_ is PLAIN else stream(*HELLO, STOP, DONE))
    headers = {**HEADERS, "X-Team": "blue"}
    endpoint = Endpoint("/chat/completions?from=url", headers, [("api-version", "2024 1")], ())
    answer, server = _answer(handler, request_, endpoint=endpoint)
    (arrival,) = server.arrivals
    assert arrival.body == request_.body
    assert arrival.target == "/v1/chat/completions?from=url&api-version=2024+1"
    assert arrival.head.startswith(b"POST ")
    assert {name.lower(): value for name, value in headers.items()}.items() <= arrival.headers.items()
    assert answer.attempts == 1


def test_an_answer_is_kept_as_it_came():
    """Of a plain answer the body's own text is stored, every field and number as it stood."""
    body = (
        '{"choices" : [{"message":{"content":"é \\ud83d 😀","x":1.0},"finish_reason":"stop"}], "big": 1e400}'
    )
    answer, _ = _answer(says(reply(body.encode())), PLAIN)
    assert answer.response.isascii()
    assert answer.response.startswith('{"choices" : [')
    assert '"x":1.0' in answer.response
    assert '"big": 1e400' in answer.response
    assert json.loads(answer.response) == json.loads(body)
    assert (response_of(answer).finish_reason, answer.ttft_s, answer.raw) == ("stop", None, True)


def test_a_stream_is_assembled():
    """A stream becomes one completion, with usage, and the time to its first output is noted."""
    usage = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
    answer, _ = _answer(says(stream(*HELLO, STOP, usage, DONE)), STREAMED)
    assert (_content(answer), response_of(answer).finish_reason) == ("Hello", "stop")
    assert response_of(answer).completion["usage"]["total_tokens"] == 5
    assert response_of(answer).completion["model"] == "m"
    assert 0 < answer.ttft_s <= answer.duration_s
    assert datetime.fromisoformat(answer.finished_at).utcoffset() == timedelta(0)


# --- statuses and retries ------------------------------------------------------------------------

ONCE, AGAIN = 1, 3
STATUSES = {
    **dict.fromkeys((400, 401, 402, 403, 404, 405, 413, 418, 422, 451), (C.HTTP_4XX, ONCE)),
    **dict.fromkeys((408, 409, 425), (C.HTTP_4XX, AGAIN)),
    429: (C.RATE_LIMITED, AGAIN),
    **dict.fromkeys((500, 501, 502, 503, 504, 520, 524, 529), (C.HTTP_5XX, AGAIN)),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("request_", [PLAIN, STREAMED], ids=["plain", "streamed"])
def test_which_statuses_are_retried(status, request_):
    """408, 409, 425, 429 and 5xx are sent again, any other refusal is final at once."""
    kind, requests = STATUSES[status]
    refusal = reply({"error": {"message": "no such luck"}}, status)
    good = reply(completion()) if request_ is PLAIN else stream(*HELLO, STOP, DONE)
    (outcome,), server = _ask(says_in_turn(refusal, refusal, good), request_, retries=2)
    assert len(server.arrivals) == requests
    if requests == ONCE:
        assert (outcome.failure.failure_class, outcome.status, outcome.attempts) == (kind, status, ONCE)
        assert outcome.failure.detail == f'HTTP {status}: {{"error": {{"message": "no such luck"}}}}'
    else:
        assert (_content(outcome), outcome.attempts) == ("Hello", AGAIN)


@pytest.mark.parametrize("status", [408, 500, 529])
def test_the_retries_are_the_users(status):
    """A failure that persists ends after the first attempt and `retries` further ones."""
    for retries in (0, 1, 3):
        outcome, server = _failure(says(reply(b"", status)), PLAIN, retries=retries)
        assert (len(server.arrivals), outcome.attempts) == (retries + 1, retries + 1)
        assert (outcome.status, outcome.failure.detail) == (status, f"HTTP {status}")


def test_without_retries_a_rate_limit_is_final():
    """With `retries` 0 even a 429 that says when to come back is not sent again."""
    outcome, server = _failure(says(reply(b"slow down", 429, "Retry-After: 0")), PLAIN)
    assert (len(server.arrivals), outcome.failure.failure_class) == (1, C.RATE_LIMITED)


def test_rate_limits_do_not_use_up_retries():
    """Six 429 and one 503 are survived with a single retry."""
    answers = [*[reply(b"", 429)] * 3, reply(b"", 503), *[reply(b"", 429)] * 3, reply(completion())]
    answer, server = _answer(says_in_turn(*answers), PLAIN, retries=1)
    assert len(server.arrivals) == answer.attempts == 8


@pytest.mark.parametrize("retry_after", ["Retry-After: 0", "Retry-After: nonsense", "X-None: 1"])
def test_a_rate_limit_that_never_ends_ends(retry_after):
    """A vendor that says 429 for ever, with nothing to wait for, is given up, not asked without end."""
    outcome, server = _failure(says(reply(b"", 429, retry_after)), PLAIN, retries=1)
    assert outcome.failure.failure_class is C.RATE_LIMITED
    assert 1 < len(server.arrivals) <= 60


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_waited_for(status, as_date):
    """`Retry-After`, in seconds or as a date, is how long the next attempt waits, whatever the interval."""
    then = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
    refusal = reply(b"", status, f"Retry-After: {then if as_date else 1}")
    notes = []
    began = time.monotonic()
    answer, _ = _answer(says_in_turn(refusal, reply(completion())), PLAIN, retries=1, notes=notes)
    # A date holds whole seconds, so what is left of two is more than nothing and at most two.
    assert time.monotonic() - began > (0.1 if as_date else 0.9)
    assert answer.attempts == 2
    assert notes[0].startswith(f"case 0: HTTP {status}; again in ")


def test_a_date_without_a_zone_is_gmt(monkeypatch):
    """HTTP knows no other zone, whatever the machine's is."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        for zone in ("", " GMT", " -0000"):
            assert retry_after_seconds(f"Thu, 01 Jan 1970 00:01:00{zone}", 0.0) == 60
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_retry_after_of_hours_is_a_failure(as_date):
    """A vendor that asks to come back in an hour has failed the request."""
    then = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    refusal = reply(b"", 429, f"Retry-After: {then if as_date else 3600}")
    outcome, server = _failure(says(refusal), PLAIN, retries=5)
    assert (len(server.arrivals), outcome.failure.failure_class) == (1, C.RATE_LIMITED)


def test_a_rate_limit_holds_everybody_back():
    """Behind a 429 with `Retry-After`, no other request goes out before the time is over."""
    times = []

    async def handler(arrival, writer):
        times.append(time.monotonic())
        writer.write(reply(b"", 429, "Retry-After: 1") if arrival.number == 0 else reply(completion()))

    outcomes, _ = _ask(handler, PLAIN, PLAIN, retries=1)
    assert [outcome.attempts for outcome in outcomes] == [2, 1]
    assert times[1] - times[0] > 0.9


@pytest.mark.parametrize("breaks", [then_stalls, then_resets, then_closes])
def test_a_refusal_counts_by_its_status_though_its_body_never_comes(breaks):
    """A 401 whose body stalls or breaks off is a 401: final, and with its own advice."""
    handler = breaks(head(401, "Content-Length: 100"))
    outcome, server = _failure(handler, PLAIN, retries=3, timeout_s=PATIENCE_S)
    assert (outcome.failure.failure_class, outcome.status, len(server.arrivals)) == (C.HTTP_4XX, 401, 1)


# --- connections ---------------------------------------------------------------------------------


def _closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_refused_connection_gets_one_quick_retry():
    """Where nobody listens and nothing was ever answered, one retry within a second is all."""

    async def main():
        endpoint = Endpoint(f"http://127.0.0.1:{_closed_port()}/v1/chat/completions", HEADERS, (), ())
        options = TransportOptions(20.0, RetryPolicy(retries=5, interval_s=60))
        async with Transport(endpoint, options) as transport:
            return await transport.send(PLAIN)

    outcome = asyncio.run(main())
    assert (outcome.failure.failure_class, outcome.status, outcome.attempts) == (C.CONNECTION_FAILED, None, 2)
    assert outcome.duration_s < 5


PLAIN_BODY = json.dumps(completion("x" * 2000)).encode()
HALF_BODY = head(200, f"Content-Length: {len(PLAIN_BODY)}") + PLAIN_BODY[:500]
HALF_STREAM = STREAM_HEAD + b"".join(map(framed, HELLO))
BROKEN = {
    "closed before headers": (then_closes(), C.CONNECTION_RESET),
    "reset inside the headers": (then_resets(STREAM_HEAD[:30]), C.CONNECTION_RESET),
    "stall inside the headers": (then_stalls(STREAM_HEAD[:30]), C.TIMED_OUT),
}
BROKEN_PLAIN = {"closed mid-body": (then_closes(HALF_BODY), C.CONNECTION_RESET)}
BROKEN_STREAM = {
    "closed mid-stream": (then_closes(HALF_STREAM), C.STREAM_CUT),
    "cut mid-event": (
        then_closes(STREAM_HEAD + framed(HELLO[0]) + framed(HELLO[1][:20]) + END),
        C.STREAM_CUT,
    ),
    "keep-alives for ever": (drips(HALF_STREAM, framed(b": keep-alive\n\n"), 0.05), C.TIMED_OUT),
    "no event ever": (drips(STREAM_HEAD, framed(b": keep-alive\n\n"), 0.05), C.TIMED_OUT),
}
CASES = [
    *((name, request, *case) for name, case in BROKEN.items() for request in (PLAIN, STREAMED)),
    *((name, PLAIN, *case) for name, case in BROKEN_PLAIN.items()),
    *((name, STREAMED, *case) for name, case in BROKEN_STREAM.items()),
]


@pytest.mark.parametrize(
    ("request_", "handler", "kind"),
    [case[1:] for case in CASES],
    ids=[f"{name}, {'streamed' if request is STREAMED else 'plain'}" for name, request, *_ in CASES],
)
def test_a_broken_connection_is_a_failed_request(request_, handler, kind):
    """However the connection breaks or stalls, the request fails under its class and is sent once more.

    What the simulator can do of it stands in the table of failures (`test_fault_table.py`).
    """
    outcome, server = _failure(handler, request_, retries=1, timeout_s=PATIENCE_S)
    assert (outcome.failure.failure_class, outcome.attempts, len(server.arrivals)) == (kind, 2, 2)
    assert outcome.failure.detail
    if kind is C.TIMED_OUT:
        assert outcome.failure.detail == "no progress for 0.2 s"
        assert PATIENCE_S < outcome.duration_s / 2 < 20 * PATIENCE_S


CHUNKED = head(200, "Transfer-Encoding: chunked")
GZIPPED = head(200, "Transfer-Encoding: chunked", "Content-Encoding: gzip")
DEFLATED = head(200, "Transfer-Encoding: chunked", "Content-Encoding: deflate")
GZIP_NAME = b"\x1f\x8b\x08\x08" + b"\0" * 6
NOTHING_NEW = {
    "a chunk extension without end": (CHUNKED + b"5;", b"x" * 50),
    "a chunk size of zeros": (CHUNKED, b"0" * 5),
    "empty blocks of deflate": (DEFLATED + framed(b"\x78\x9c"), framed(b"\x00\x00\x00\xff\xff")),
    "a file name in gzip without end": (GZIPPED + framed(GZIP_NAME), framed(b"x" * 50)),
    "events without a choice": (STREAM_HEAD, framed(b"data: {}\n\n")),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("start", "piece"), NOTHING_NEW.values(), ids=NOTHING_NEW)
def test_bytes_without_payload_are_silence(start, piece, streamed):
    """What is no payload keeps no request alive, however much of it comes."""
    outcome, _ = _failure(drips(start, piece, 0.02), _request(streamed=streamed), timeout_s=PATIENCE_S)
    assert outcome.failure.failure_class in (C.TIMED_OUT, C.NOT_A_COMPLETION)
    assert outcome.duration_s < 20 * PATIENCE_S


@pytest.mark.parametrize("request_", [PLAIN, STREAMED], ids=["plain", "streamed"])
def test_a_whole_body_is_an_answer_whatever_follows(request_, monkeypatch):
    """Trailers that never end take nothing away from a body that is complete, and hold nobody up."""
    monkeypatch.setattr(reading, "_AFTER_FINISH_S", 0.05)
    monkeypatch.setattr(reading, "_AFTER_DONE_S", 0.05)
    body = json.dumps(completion()).encode() if request_ is PLAIN else b"".join((*HELLO, STOP, DONE))
    start = (CHUNKED if request_ is PLAIN else STREAM_HEAD) + framed(body) + b"0\r\n"
    answer, _ = _answer(drips(start, b"X-Trailer: x\r\n", 0.02), request_, timeout_s=60)
    assert (_content(answer), answer.attempts) == ("Hello", 1)
    assert answer.duration_s < 20


def test_a_stream_without_content_does_not_outlive_the_minutes(monkeypatch):
    """Where nothing more is sent because time is up, a stream that brings nothing is left alone."""
    monkeypatch.setattr(reading, "_AFTER_MINUTES_S", 0.1)
    budget = Budget(max_minutes=0.1 / 60)
    handler = drips(STREAM_HEAD, framed(event(chunk({}))), 0.02)

    async def main():
        async with RawServer(handler).running() as server:
            endpoint = Endpoint(f"{server.url}/chat/completions", HEADERS, (), ())
            options = TransportOptions(60, RetryPolicy(0, 0))
            async with Transport(endpoint, options, budget=budget) as transport:
                with pytest.raises(BudgetSpentError):
                    await asyncio.wait_for(transport.send(STREAMED), 20)

    asyncio.run(main())


def test_the_words_of_a_refusal_decide_over_its_status():
    """No credit under 429 and a grammar under 500 are asked for once; an overloaded engine again."""
    for status, words, attempts in (
        (429, "suspended due to insufficient balance", 1),
        (429, "You exceeded your current quota, please check your plan", 1),
        (500, "Failed to compile the grammar", 1),
        (500, "the engine is overloaded", 3),
        (600, "odd", 3),
        (999, "denied", 3),
        (503, "schema: the database of the gateway is locked", 3),
    ):
        outcome, _ = _failure(says(reply({"error": {"message": words}}, status)), PLAIN, retries=2)
        assert (outcome.attempts, outcome.status) == (attempts, status), words


def test_a_hopeless_request_does_not_keep_the_run_waiting():
    """While others are answered, or nobody else is left, the pauses of a failing request do not grow."""
    notes = []

    async def handler(arrival, writer):
        bad = arrival.json()["messages"][-1]["content"] == "Question 0"
        writer.write(reply(b"", 503) if bad else reply(completion()))

    async def main():
        async with RawServer(handler).running() as server:
            endpoint = Endpoint(f"{server.url}/chat/completions", HEADERS, (), ())
            options = TransportOptions(20, RetryPolicy(4, 0.04), total=2)
            async with Transport(endpoint, options, on_event=notes.append) as transport:
                await transport.send(_request(number=1), 1)
                return await transport.send(_request(number=0), 0)

    outcome = asyncio.run(main())
    assert (outcome.attempts, len(notes)) == (5, 4)
    # Growing, the last pauses would be of 0.16 and 0.32 s.
    assert all("again in 0.0 s" in note or "again in 0.1 s" in note for note in notes)
    assert notes[0].startswith("case 0: HTTP 503; again")
    assert notes[0].endswith("; all else is sent, 1 request of 2 still to end")


def test_slow_progress_is_progress():
    """A stream may take longer than the timeout, as long as its events keep coming."""
    gaps = asyncio.Event()

    async def handler(_, writer):
        writer.write(STREAM_HEAD)
        for _event in range(8):
            writer.write(framed(event(chunk({"content": "x"}))))
            await writer.drain()
            try:
                await asyncio.wait_for(gaps.wait(), 0.15)
            except asyncio.TimeoutError:
                continue
        writer.write(framed(STOP) + framed(DONE) + END)

    answer, _ = _answer(handler, STREAMED, timeout_s=1.0)
    assert _content(answer) == "x" * 8
    assert answer.duration_s > 1.0


@pytest.mark.parametrize("breaks", [then_closes, then_resets, then_stalls])
def test_what_breaks_behind_the_finish_reason_takes_nothing_away(breaks, monkeypatch):
    """A stream that breaks after its finish_reason, or never ends behind it, is a completion."""
    monkeypatch.setattr(reading, "_AFTER_FINISH_S", 0.05)
    handler = breaks(STREAM_HEAD + framed(HELLO[0]) + framed(STOP))
    # Longer than the test itself may take: the read timeout is not what ends it.
    answer, _ = _answer(handler, STREAMED, timeout_s=60)
    assert answer.duration_s < 20
    assert (_content(answer), response_of(answer).finish_reason) == ("Hel", "stop")


# --- no completion -------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
NOT_PLAIN = {
    "html": (reply(HTML, content_type="text/html"), "is not JSON"),
    "truncated JSON": (reply(json.dumps(completion()).encode()[:-20]), "is not JSON"),
    "empty": (reply(b""), "is not JSON"),
    "error object": (reply({"error": {"message": "overloaded"}}), "overloaded"),
    "choices null": (reply(completion() | {"choices": None}), "choices is None"),
    "choices empty": (reply(completion() | {"choices": []}), "choices is []"),
    "choice 0 null": (reply(completion() | {"choices": [None]}), "choice 0 is not an object"),
    "a list": (reply(b"[]"), "is not an object"),
    "an event stream": (stream(*HELLO, STOP, DONE), "is not JSON"),
    "no content": (head(204) + b"", "HTTP 204"),
}
NOT_STREAM = {
    "html": (reply(HTML, content_type="text/html"), "no event stream"),
    "plain error": (reply({"error": {"message": "overloaded"}}), "no event stream: status 200 with an error"),
    "chunks without data": (reply(b'{"choices": []}\n{"choices": []}\n'), "no event stream"),
    "no choices": (reply(completion() | {"choices": []}), "choices is []"),
    "empty": (reply(b""), "no event stream"),
    "a bad event": (stream(HELLO[0], event("{oops"), STOP, DONE), "is not JSON"),
}


@pytest.mark.parametrize(
    ("request_", "answer", "reason"),
    [(PLAIN, *case) for case in NOT_PLAIN.values()] + [(STREAMED, *case) for case in NOT_STREAM.values()],
    ids=[f"{name}, plain" for name in NOT_PLAIN] + [f"{name}, streamed" for name in NOT_STREAM],
)
def test_status_200_without_completion_is_a_failed_request(request_, answer, reason):
    """A 200 that holds no completion of the kind asked for fails as `not_a_completion`, and says why."""
    outcome, server = _failure(says(answer), request_, retries=3)
    assert outcome.failure.failure_class is C.NOT_A_COMPLETION
    assert reason in outcome.failure.detail
    assert len(server.arrivals) == 2, "an endpoint that never answered gets one quick retry, not the budget"


@pytest.mark.parametrize("done", [True, False], ids=["with [DONE]", "without [DONE]"])
def test_a_stream_without_terminal_chunk_is_cut(done):
    """A stream that ends in order but without a finish_reason is `stream_cut`, not a `stop`."""
    outcome, _ = _failure(says(stream(*HELLO, *([DONE] if done else []))), STREAMED)
    assert outcome.failure.failure_class is C.STREAM_CUT
    assert outcome.failure.detail == "the stream ended after 2 events without a finish_reason"


def test_a_failure_after_a_proof_gets_the_whole_budget():
    """Once the endpoint has answered, what looks like a wrong address is retried like anything else."""
    page = reply(HTML, content_type="text/html")
    answers = [reply(completion()), *[page] * 4]
    (_, outcome), server = _ask(says_in_turn(*answers), PLAIN, PLAIN, retries=3)
    assert (outcome.failure.failure_class, outcome.attempts, len(server.arrivals)) == (
        C.NOT_A_COMPLETION,
        4,
        5,
    )


def test_a_redirect_is_not_followed():
    """A redirect fails the request, the message names its target, and nothing is sent there."""
    for status in (301, 302, 307, 308):
        target = "https://elsewhere.example/v1/chat/completions"
        outcome, server = _failure(says(reply(b"", status, f"Location: {target}")), PLAIN)
        assert (outcome.failure.failure_class, outcome.status) == (C.NOT_A_COMPLETION, status)
        assert target in outcome.failure.detail
        assert len(server.arrivals) == 1


# --- event streams as they come ------------------------------------------------------------------


def test_stream_faults_are_noted():
    """A call without index or id and a repeated name are judged on, and noted as stream anomalies."""
    deltas = [
        {"function": {"name": "a", "arguments": "{"}},
        {"function": {"name": "a", "arguments": "}"}},
    ]
    events = [event(chunk({"tool_calls": [delta]})) for delta in deltas]
    answer, _ = _answer(says(stream(*events, event(chunk({}, "tool_calls")), DONE)), STREAMED)
    assert answer.stream_anomalies == (C.STREAM_INDEX_MISSING, C.STREAM_NAME_REPEATED, C.STREAM_ID_MISSING)
    assert response_of(answer).tool_calls[0]["function"]["arguments"] == "{}"


def test_broken_compression_is_a_failed_request():
    """A body that claims to be gzip and is not fails the request, it does not crash the run."""
    outcome, _ = _failure(says(reply(b"not gzip at all", 200, "Content-Encoding: gzip")), PLAIN)
    assert outcome.failure.failure_class in (C.CONNECTION_RESET, C.NOT_A_COMPLETION)


BIG = b"x" * (8 << 20)
TOO_LARGE = {
    "plain": (PLAIN, reply(json.dumps(completion(BIG.decode())).encode())),
    "streamed": (STREAMED, stream(*[event(chunk({"content": "x" * 10_000}))] * 200, STOP, DONE)),
    "one endless line": (STREAMED, stream(b"data: " + BIG)),
    "gzip bomb, plain": (PLAIN, reply(gzip.compress(BIG), 200, "Content-Encoding: gzip")),
    "gzip bomb, streamed": (STREAMED, reply(gzip.compress(b"data: " + BIG), 200, "Content-Encoding: gzip")),
}


@pytest.mark.parametrize(("request_", "answer"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_response_over_the_limit_is_given_up(request_, answer):
    """A body that unpacks to more than the limit is `response_too_large`, and is not asked for again."""
    outcome, server = _failure(says(answer), request_, limit=1 << 20, retries=3)
    assert (outcome.failure.failure_class, len(server.arrivals)) == (C.RESPONSE_TOO_LARGE, 1)
    assert outcome.failure.detail == f"more than {1 << 20} bytes"


# --- connections and load ------------------------------------------------------------------------


def then_ends(*parts):
    """Let the client read all of a stream but its last HTTP chunk, which follows `[DONE]` turns later."""

    async def handler(_, writer):
        writer.writelines(parts)
        await writer.drain()
        # The client reads on one loop with this server.
        for _turn in range(20):
            await asyncio.sleep(0)
        writer.write(END)

    return handler


@pytest.mark.parametrize(
    ("request_", "handler"),
    [
        (PLAIN, says(reply(completion()))),
        (STREAMED, says(stream(*HELLO, STOP, DONE))),
        (STREAMED, then_ends(STREAM_HEAD, *map(framed, (*HELLO, STOP, DONE)))),
    ],
    ids=["plain", "streamed", "the end comes later"],
)
def test_a_connection_is_used_again(request_, handler):
    """Two requests in a row share one TCP connection, streamed or not."""
    outcomes, server = _ask(handler, request_, request_)
    assert [_content(outcome) for outcome in outcomes] == ["Hello", "Hello"]
    assert (len(server.arrivals), server.connections) == (2, 1)


def test_many_streams_at_once():
    """64 streams at a time, 256 in all, are told apart and answered without an error."""
    together = asyncio.Event()
    waiting = set()

    async def handler(arrival, writer):
        question = arrival.json()["messages"][-1]["content"]
        waiting.add(question)
        if len(waiting) == 64:
            together.set()
        # Nobody is answered before all 64 have arrived, so they are under way together.
        await together.wait()
        writer.write(stream(event(chunk({"content": question})), STOP, DONE))

    async def main():
        async with RawServer(handler).running() as server:
            endpoint = Endpoint(f"{server.url}/chat/completions", HEADERS, (), ())
            async with Transport(endpoint, TransportOptions(20, RetryPolicy(0, 0))) as transport:
                slots = asyncio.Semaphore(64)

                async def ask(number):
                    async with slots:
                        return await transport.send(_request(streamed=True, number=number))

                outcomes = await asyncio.gather(*map(ask, range(256)))
            return outcomes, server

    outcomes, server = asyncio.run(main())
    assert [_content(outcome) for outcome in outcomes] == [f"Question {number}" for number in range(256)]
    assert (len(server.arrivals), server.connections) == (256, 64)


# --- secrets -------------------------------------------------------------------------------------

ECHOES = {
    "error body": (PLAIN, reply({"error": f"invalid key {KEY}"}, 401)),
    "key across the cut": (PLAIN, reply(f"{'x' * 485}{KEY}{'y' * 100}".encode(), 401)),
    "redirect": (PLAIN, reply(b"", 302, f"Location: https://x.example/?key={KEY}")),
    "not JSON": (PLAIN, reply(f"{'x' * 105}{KEY}".encode())),
    "error object": (PLAIN, reply({"error": {"message": KEY}})),
    "error event": (STREAMED, stream(event({"error": {"message": KEY}}))),
    "bad event": (STREAMED, stream(event(f"{{{'x' * 100}{KEY}"))),
}


@pytest.mark.parametrize(("request_", "answer"), ECHOES.values(), ids=ECHOES)
def test_a_key_that_the_vendor_echoes_is_masked(request_, answer):
    """A vendor that repeats the key in an error does not bring it, or most of it, into a message."""
    notes = []
    outcome, _ = _failure(says(answer), request_, retries=1, notes=notes)
    for text in (outcome.failure.detail, *notes):
        assert KEY[:10] not in text
        assert "***" in text
