"""Wire shapes: what a plain client sees of them, and that the real client sees nothing of them."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import tracemalloc
from random import Random

import pytest
from support.asking import ask_at_once, ask_each, requests_of, response_of
from support.runs import bundled_rows

from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.evalscope_plugin.client.retries import RetryPolicy
from k2_verifier_adapter.evalscope_plugin.client.transport import TransportOptions
from k2_verifier_adapter.simulator import SimulatedVendor, profile_with, shape_names
from k2_verifier_adapter.simulator.completions import chunks_of
from k2_verifier_adapter.simulator.faults import FAULTS, TransportFault
from k2_verifier_adapter.simulator.wire import SHAPES

TEXT = "在北京是晴天, in Paris it rains. \U0001f327"


def _call(name, city, position):
    arguments = json.dumps({"city": city, "unit": "c"}, ensure_ascii=False)
    return {
        "id": f"functions.{name}:{position}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


CALLING = {
    "messages": [{"role": "user", "content": "weather?"}],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    "should_call_tool": True,
    "official_tool_calls": [_call("weather", "北京市海淀区中关村", 0), _call("weather", "Paris " * 9, 1)],
}
STOPPING = {
    "messages": [{"role": "user", "content": "hello"}],
    "tools": [],
    "should_call_tool": False,
    "official_content": TEXT,
}
ROWS = [CALLING, STOPPING]
ALL = dict.fromkeys(shape_names(), 1.0)
modes = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# --- what is on the wire -------------------------------------------------------------------------


def _exchange(row, *shapes, accept="gzip, deflate", **parameters):
    """Send one request to a vendor with these shapes; give headers and body as they arrive."""
    vendor = SimulatedVendor(ROWS, profile_with(dict.fromkeys(shapes, 1)), write_events_singly=True)
    body = {"model": "m", "messages": row["messages"], "tools": row["tools"], **parameters}
    with vendor.running() as endpoint:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
        headers = {"Accept-Encoding": accept}
        connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
    assert response.status == 200
    return response.headers, content


def _stream(row, *shapes, **parameters):
    return _exchange(row, *shapes, stream=True, **parameters)[1]


def _chunks(body):
    """Parse a stream plainly: one `data:` line an event."""
    events = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
    return [json.loads(event) for event in events if event != "[DONE]"]


def _choices(body):
    return [choice for chunk in _chunks(body) for choice in chunk["choices"]]


def _indexes(choices):
    return [call["index"] for choice in choices for call in choice["delta"].get("tool_calls", [])]


def test_interleaved_calls_take_turns():
    """The deltas of two calls alternate as long as both have any, and each is there once."""
    plain, shaped = (_choices(_stream(CALLING, *shapes)) for shapes in ((), ("interleaved_calls",)))
    assert _indexes(plain) == sorted(_indexes(plain))
    assert _indexes(shaped)[:4] == [0, 1, 0, 1]
    assert sorted(map(json.dumps, shaped)) == sorted(map(json.dumps, plain))


def test_calls_without_index_are_not_interleaved():
    """Where indexes are missing, nothing but their order tells calls apart, and it stays."""
    profiles = [{"stream_index_missing": 1.0}, {"stream_index_missing": 1.0, "interleaved_calls": 1.0}]
    work = [
        (SimulatedVendor(ROWS, profile_with(rates)), requests_of(ROWS[:1], stream=True)) for rates in profiles
    ]
    (one,), (other,) = ask_each(work)
    assert response_of(one).tool_calls == response_of(other).tool_calls


def test_finish_comes_with_the_last_delta():
    """The last delta carries finish_reason, and no chunk is there for it alone."""
    choices = _choices(_stream(CALLING, "finish_with_last_delta"))
    assert all(choice["delta"] for choice in choices)
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_a_stream_of_nothing_keeps_its_terminal_chunk():
    """Where nothing but the role comes, finish_reason stays in a chunk of its own, so that it can be cut off."""
    message = {"role": "assistant", "content": ""}
    completion = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}}
    chunks = chunks_of(completion, None, include_usage=False)
    assert SHAPES["finish_with_last_delta"].chunks(chunks, {}) == chunks


@pytest.mark.parametrize(
    "options", [{}, {"stream_options": {"include_usage": True}}], ids=["unasked", "asked"]
)
def test_usage_comes_unasked_or_inside_the_choice(options):
    """Usage comes once: in a chunk of its own whether asked for or not, or in the last choice."""
    own, inside, both = (
        _chunks(_stream(STOPPING, *shapes, **options))
        for shapes in (("usage_unasked",), ("usage_in_choice",), ("usage_unasked", "usage_in_choice"))
    )
    assert own[-1]["choices"] == []
    assert [chunk["usage"]["total_tokens"] > 0 for chunk in own if "usage" in chunk] == [True]
    for chunks in (inside, both):
        assert not any("usage" in chunk for chunk in chunks)
        assert chunks[-1]["choices"][0]["usage"] == own[-1]["usage"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_deltas_repeat_the_role_and_spell_out_nulls():
    """Every delta names the role, and says null of what it does not bring."""
    deltas = [choice["delta"] for choice in _choices(_stream(CALLING, "role_repeated", "null_members"))]
    assert {delta["role"] for delta in deltas} == {"assistant"}
    for delta in deltas:
        assert delta.keys() >= {"content", "reasoning_content", "tool_calls", "refusal"}
    assert sum(bool(delta["tool_calls"]) for delta in deltas) == len(_indexes(_choices(_stream(CALLING))))


def test_events_are_written_in_other_ways():
    """[DONE] and the space are left out, and comments, fields, CRLF and a byte order mark are put in."""
    plain = _stream(STOPPING)
    events = plain.decode().removesuffix("\n\n").split("\n\n")
    assert _stream(STOPPING, "done_missing") == plain.removesuffix(b"data: [DONE]\n\n")
    assert _stream(STOPPING, "no_space") == plain.replace(b"data: ", b"data:")
    assert _stream(STOPPING, "crlf") == plain.replace(b"\n", b"\r\n")
    assert _stream(STOPPING, "byte_order_mark") == b"\xef\xbb\xbf" + plain
    assert _stream(STOPPING, "comments").decode() == "".join(
        f": keep-alive\n\n:\n{event}\n\n" for event in events
    )
    assert _stream(STOPPING, "event_fields").decode() == "".join(
        f"event: message\nid: {number}\nretry: 1000\n{event}\n\n" for number, event in enumerate(events)
    )


def test_bodies_are_written_in_other_ways():
    """A JSON body can follow blank lines, or come without its length."""
    headers, plain = _exchange(STOPPING)
    assert headers["Content-Length"] == str(len(plain))
    _, after_blanks = _exchange(STOPPING, "blank_lines")
    assert after_blanks == b"\n\n\n" + plain
    unsized, body = _exchange(STOPPING, "unsized_body")
    assert (unsized["Content-Length"], unsized["Transfer-Encoding"], body) == (None, "chunked", plain)


@modes
def test_gzip_is_for_those_who_accept_it(stream):
    """A client that accepts gzip gets it, said so in the head, and any other client gets plain bytes."""
    _, plain = _exchange(CALLING, stream=stream)
    headers, packed = _exchange(CALLING, "gzip", stream=stream)
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    headers, unpacked = _exchange(CALLING, "gzip", accept="identity", stream=stream)
    assert (headers["Content-Encoding"], unpacked) == (None, plain)


def _writes(shape):
    """Give the HTTP chunks of a streamed answer, each of which is a write of the server."""
    vendor = SimulatedVendor(ROWS, profile_with({shape: 1}))
    body = json.dumps({"messages": STOPPING["messages"], "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with (
        vendor.running() as endpoint,
        socket.create_connection(("127.0.0.1", endpoint.port), 10) as connection,
    ):
        connection.sendall(head.encode() + body)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    rest = received.split(b"\r\n\r\n", 1)[1]
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return
        yield rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


def test_writes_split_characters_or_every_byte():
    """Each multi-byte character is split between two writes, or each byte is a write of its own."""
    plain = _stream(STOPPING)
    characters, singles = list(_writes("split_characters")), list(_writes("byte_by_byte"))
    assert b"".join(characters) == b"".join(singles) == plain
    assert len(characters) == 1 + sum(len(character.encode()) > 1 for character in plain.decode())
    assert all(write[-1] >= 0xC2 for write in characters[:-1])
    assert {len(write) for write in singles} == {1}


# --- what the client makes of it -----------------------------------------------------------------

BUNDLED = sorted(
    bundled_rows(48), key=lambda row: len(json.loads(row["official_tool_calls"] or "[]")), reverse=True
)[:20]
"""Of the first bundled rows those with the most calls, and some without any."""


def _judged_parts(outcome):
    if isinstance(outcome, FailedRequest):
        return outcome.failure.failure_class
    response = response_of(outcome)
    completion = response.completion
    return (
        response.finish_reason,
        response.message,
        outcome.stream_anomalies,
        completion["usage"],
        completion["model"],
    )


def _seen(rates, *, stream, rows=BUNDLED):
    """Ask for all rows; give what the client judges, and the ledger."""
    vendor = SimulatedVendor(rows, profile_with(rates), seed=5, oversized_bytes=2 << 20)
    outcomes = ask_at_once(vendor, requests_of(rows, stream=stream))
    entries = sorted(vendor.truth.answers, key=lambda answer: answer.case_index)
    return [_judged_parts(outcome) for outcome in outcomes], entries


@pytest.fixture(scope="module")
def undisturbed():
    """What the client judges of all rows, by mode."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        return {stream: _seen({}, stream=stream) for stream in (True, False)}


@pytest.mark.parametrize(
    ("shape", "stream"),
    [
        (shape.name, stream)
        for shape in SHAPES.values()
        for stream in (True, False)
        if shape.stream in (None, stream)
    ],
)
def test_a_shape_changes_nothing(undisturbed, shape, stream):
    """In each shape, every answer is the plain one to the client, and to the ledger."""
    assert _seen({shape: 1}, stream=stream) == undisturbed[stream]


@modes
@pytest.mark.parametrize("seed", [None, 0, 1, 2], ids=["all", "0", "1", "2"])
def test_any_shapes_together_change_nothing(undisturbed, seed, stream):
    """However shapes meet in one answer, it stays the plain one: all of them, or what each request draws."""
    rng = Random(seed)
    drawn = {name: rng.choice((0.3, 0.6)) for name in shape_names()}
    assert _seen(ALL if seed is None else drawn, stream=stream) == undisturbed[stream]


# --- shapes and faults ---------------------------------------------------------------------------

WRONG_ANSWERS = {
    kind.value: 0.022
    for kind, faults in FAULTS.items()
    if not any(isinstance(fault, TransportFault) for fault in faults)
}


@modes
def test_a_wrong_answer_is_wrong_in_the_same_way(stream):
    """Answers with faults, those of streams included, are the same to the client in all shapes."""
    plain, shaped = (_seen(rates, stream=stream) for rates in (WRONG_ANSWERS, WRONG_ANSWERS | ALL))
    assert shaped == plain
    assert len({answer.fault for answer in plain[1]}) > 10


TRANSPORT_FAULTS = [
    fault for faults in FAULTS.values() for fault in faults if isinstance(fault, TransportFault)
]


@modes
def test_a_failed_attempt_fails_in_the_same_way(stream):
    """Every transport fault is what it is in all shapes, too."""
    faults = [fault for fault in TRANSPORT_FAULTS if fault.stream in (None, stream)]
    work = [
        (
            SimulatedVendor(
                ROWS, profile_with({fault.name: 1} | ALL), oversized_bytes=2 << 20, drip_interval_s=0.02
            ),
            requests_of(ROWS, stream=stream),
        )
        for fault in faults
    ]
    quick = [fault.failure_class is C.TIMED_OUT for fault in faults]
    for slow in (True, False):
        chosen = [
            (fault, item) for fault, item, stalls in zip(faults, work, quick, strict=True) if stalls is slow
        ]
        results = ask_each([item for _, item in chosen], timeout_s=0.25 if slow else 20.0)
        for (fault, _), outcomes in zip(chosen, results, strict=True):
            assert [(outcome.failure.failure_class, outcome.status) for outcome in outcomes] == [
                (fault.failure_class, fault.status)
            ] * len(ROWS), fault.name


# --- bodies without end --------------------------------------------------------------------------


@modes
@pytest.mark.parametrize("shapes", [(), ("gzip",)], ids=["as it is", "gzip"])
def test_a_body_without_end_is_given_up_at_the_limit(shapes, stream):
    """Of a terabyte, packed or not, no more than the limit (64 MB unless set) is read, and held in memory."""
    limit = 8 << 20
    rates = {"response_too_large": 1} | dict.fromkeys(shapes, 1)
    vendor = SimulatedVendor(ROWS, profile_with(rates), oversized_bytes=1 << 40)
    requests = requests_of(ROWS[:1], stream=stream)
    assert TransportOptions(1.0, RetryPolicy()).max_response_bytes == 64 << 20
    tracemalloc.start()
    try:
        (outcome,) = ask_at_once(vendor, requests, limit=limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.failure.failure_class is C.RESPONSE_TOO_LARGE
    assert outcome.failure.detail == f"more than {limit} bytes"
    assert peak < 4 * limit
