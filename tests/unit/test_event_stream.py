"""Event streams: framing, assembly, and what ends a stream."""

import json
from typing import Any

import pytest

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.responses import NotACompletion, Response
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.streams.decoder import EventDecoder


def events(*chunks: bytes) -> list[bytes]:
    """Decode chunks, the end of the stream included."""
    decoder = EventDecoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)] + list(decoder.close())


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"data: 1\n\ndata: 2\n\n"], [b"1", b"2"]),
        ([b"data: 1\r\n\r\ndata: 2\r\n\r\n"], [b"1", b"2"]),
        ([b"data: 1\r\rdata: 2\r\r"], [b"1", b"2"]),
        ([b"data: 1\r", b"\n\r", b"\ndata: 2\r", b"\n\r", b"\n"], [b"1", b"2"]),
        ([b"data: 1\r", b"", b"\n\r\ndata: 2\n\n"], [b"1", b"2"]),
        ([b"data: 1\r", b"data: 2\r\r"], [b"1\n2"]),
        ([b"data: 1\r", b"\ndata: 2\r\n\r\n"], [b"1\n2"]),
        ([b": keep-alive\n\ndata: 1\n: comment\n\n"], [b"1"]),
        ([b"event: ping\nid: 7\nretry: 10\n\ndata: 1\n\n"], [b"1"]),
        ([b"data: [1,\ndata: 2]\n\n"], [b"[1,\n2]"]),
        ([b"\xef\xbb\xbfdata: 1\n\n"], [b"1"]),
        ([b"\xef", b"\xbb\xbfda", b"ta: 1\n\n"], [b"1"]),
        ([b"data:1\n\n"], [b"1"]),
        ([b"data:  1\n\n"], [b" 1"]),
        ([b"\n\n\ndata: 1\n\n\n\n"], [b"1"]),
        ([b"data: 1\n\ndata: 2"], [b"1", b"2"]),
        ([b"data: 1\n\ndata: [DONE]"], [b"1", b"[DONE]"]),
        ([b'data: 1\n\ndata: {"cut": '], [b"1"]),
        ([b"<html>\n\nno data: here\n"], []),
        ([b""], []),
    ],
)
def test_framing(chunks: list[bytes], expected: list[bytes]) -> None:
    """Line ends, comments, other fields and reads of any size give the data of each event."""
    assert events(*chunks) == expected


def test_an_event_is_yielded_as_soon_as_its_blank_line_came() -> None:
    """Nothing waits for the next read, not even where the line ended with a lone CR."""
    decoder = EventDecoder()
    assert list(decoder.feed(b"data: 1\n")) == []
    assert list(decoder.feed(b"\n")) == [b"1"]
    assert list(decoder.feed(b"data: 2\r\r")) == [b"2"]


def assemble(*chunks: Any) -> ChunkAssembler:
    """Assemble chunks: JSON values, or the bytes of an event."""
    assembler = ChunkAssembler()
    for chunk in chunks:
        assembler.add(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    return assembler


def delta(finish: Any = None, index: Any = 0, **fields: Any) -> dict[str, Any]:
    """Give a chunk with one choice."""
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def part(index: Any, call_id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    """Give a chunk with one tool call delta; an index of `...` is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call: dict[str, Any] = {"function": function}
    if index is not ...:
        call["index"] = index
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    return delta(tool_calls=[call])


def finished(assembler: ChunkAssembler) -> Response:
    """Give the response of an assembler whose stream ended well."""
    response = assembler.result()
    assert isinstance(response, Response), response
    return response


def calls(assembler: ChunkAssembler) -> list[tuple[Any, Any, Any]]:
    """Give id, name and arguments of the assembled calls."""
    return [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in finished(assembler).tool_calls
    ]


END = delta("tool_calls")


def test_texts_are_concatenated_and_heads_kept() -> None:
    """Content and every kind of reasoning arrive whole, with id, model and fingerprint."""
    response = finished(
        assemble(
            delta(role="assistant", content="") | {"system_fingerprint": "fp", "created": 5},
            delta(reasoning_content="a", reasoning="x", reasoning_details=[{"t": 1}]),
            delta(reasoning_content="b", reasoning="y", reasoning_details=[{"t": 2}]),
            delta(content="c"),
            delta("stop", content="d"),
        )
    )
    assert response.finish_reason == "stop"
    assert response.message == {
        "role": "assistant",
        "content": "cd",
        "reasoning_content": "ab",
        "reasoning": "xy",
        "reasoning_details": [{"t": 1}, {"t": 2}],
    }
    head = {name: response.completion[name] for name in ("id", "model", "created", "system_fingerprint")}
    assert head == {"id": "c", "model": "m", "created": 5, "system_fingerprint": "fp"}


NO_INDEX, NO_ID = FailureClass.STREAM_INDEX_MISSING, FailureClass.STREAM_ID_MISSING
NAME_AGAIN = FailureClass.STREAM_NAME_REPEATED
DELTAS = {
    "interleaved indexes keep their order of appearance": (
        [
            part(0, "functions.f:0", "f", '{"a"'),
            part(1, "functions.g:1", "g", "{"),
            part(0, arguments=": 1}"),
            part(1, arguments="}"),
        ],
        [("functions.f:0", "f", '{"a": 1}'), ("functions.g:1", "g", "{}")],
        set(),
    ),
    "a null index continues call 0": (
        [part(0, "i", "f", "{"), part(None, arguments="}")],
        [("i", "f", "{}")],
        {NO_INDEX},
    ),
    "two calls without index become one, as upstream has it": (
        [part(..., "i0", "f", '{"a": 1}'), part(..., "i1", "g", '{"b": 2}')],
        [("i0", "g", '{"a": 1}{"b": 2}')],
        {NO_INDEX, NAME_AGAIN},
    ),
    "a later id does not replace the first": (
        [part(0, "first", "f", "{"), part(0, "second", arguments="}")],
        [("first", "f", "{}")],
        set(),
    ),
    "an id that comes too late is missing": (
        [part(0, None, "f", "{"), part(0, "late", arguments="}")],
        [(None, "f", "{}")],
        {NO_ID},
    ),
    "a later name overwrites": (
        [part(0, "i", "f", "{"), part(0, None, "g", "}")],
        [("i", "g", "{}")],
        {NAME_AGAIN},
    ),
    "an empty later name does not": (
        [part(0, "i", "f", "{"), part(0, None, "", "}")],
        [("i", "f", "{}")],
        set(),
    ),
}


@pytest.mark.parametrize(("parts", "expected", "anomalies"), DELTAS.values(), ids=DELTAS)
def test_deltas_become_calls(parts: list[Any], expected: list[Any], anomalies: set[FailureClass]) -> None:
    """Arguments are put together by index, the first id and the last name count, and what is odd is noted."""
    assembler = assemble(*parts, END)
    assert calls(assembler) == expected
    assert set(assembler.anomalies) == anomalies


def test_arguments_that_come_parsed_are_kept_or_text_again() -> None:
    """An object in the place of the arguments text is stored as it came; beside text it is its JSON."""
    assert calls(assemble(part(0, "i", "f", {"a": 1}), END)) == [("i", "f", {"a": 1})]
    assert calls(assemble(part(0, "i", "f", ""), part(0, arguments={"a": 1}), END)) == [("i", "f", {"a": 1})]
    assert calls(assemble(part(0, "i", "f", "[["), part(0, arguments=[1]), END)) == [("i", "f", "[[[1]")]
    assert calls(assemble(part(0, "i", "f", {"a": 1}), part(0, arguments="}"), END))[0][2] == '{"a": 1}}'


@pytest.mark.parametrize("nothing", [{}, [], False, 0, 0.0, None, ""])
def test_empty_arguments_of_any_type_add_nothing(nothing: Any) -> None:
    """Upstream adds what is truthy; so what is left is an empty text, or what comes later."""
    begun = delta(tool_calls=[{"index": 0, "id": "i", "function": {"name": "f", "arguments": nothing}}])
    assert calls(assemble(begun, END)) == [("i", "f", "")]
    rest = delta(tool_calls=[{"index": 0, "function": {"arguments": nothing}}])
    assert calls(assemble(part(0, "i", "f", "{"), rest, part(0, arguments="}"), END)) == [("i", "f", "{}")]


@pytest.mark.parametrize("zero", ["0", 0.0, "0.0", " 0", "+0", "00", False, None])
def test_a_whole_number_in_any_spelling_is_that_index(zero: Any) -> None:
    """Upstream's client reads indexes as pydantic reads integers."""
    for begun, rest in ((zero, 0), (0, zero), (zero, zero)):
        assembler = assemble(part(begun, "i", "f", "{"), part(rest, arguments="}"), END)
        assert calls(assembler) == [("i", "f", "{}")]


@pytest.mark.parametrize("other", ["1", 1.0, "x", "", 0.5, "1e0", [0], {}, float("nan")])
def test_any_other_index_is_another_call(other: Any) -> None:
    """Every other value keeps its deltas to itself."""
    begun, rest = part(other, "j", "g", "["), part(other, arguments="]")
    assembler = assemble(part(0, "i", "f", "{"), begun, part(0, arguments="}"), rest, END)
    assert calls(assembler) == [("i", "f", "{}"), ("j", "g", "[]")]


@pytest.mark.parametrize("number", [1, "0", "1", 0.0, -1, 7, True, None, "x", []])
def test_the_only_choice_counts_whatever_its_number(number: Any) -> None:
    """Upstream reads the first choice of each chunk and does not look at its number."""
    chunks = [part(0, "i", "f", "{"), part(0, arguments="}"), delta("tool_calls")]
    for chunk in chunks:
        chunk["choices"][0]["index"] = number
    assert calls(assemble(*chunks)) == [("i", "f", "{}")]
    for chunk in chunks[1:]:
        del chunk["choices"][0]["index"]
    assert calls(assemble(*chunks)) == [("i", "f", "{}")]


def test_of_several_choices_the_one_numbered_0_counts() -> None:
    """Declared deviation 5, in whatever order they come, and in one chunk or in several."""
    ours = [part(0, "i", "f", "{"), part(0, arguments="}"), END]
    others = [part(0, "j", "g", "["), part(None, arguments="]", name="h"), delta("stop", content="no")]
    for chunk in others:
        chunk["choices"][0]["index"] = 1
    both = [
        {"choices": [theirs["choices"][0], mine["choices"][0]]}
        for mine, theirs in zip(ours, others, strict=True)
    ]
    swapped = [{"choices": chunk["choices"][::-1]} for chunk in both]
    one_by_one = [chunk for pair in zip(others, ours, strict=True) for chunk in pair]
    for chunks in ([*ours, *others], [*others, *ours], one_by_one, both, swapped):
        assembler = assemble(*chunks)
        assert calls(assembler) == [("i", "f", "{}")]
        assert finished(assembler).finish_reason == "tool_calls"
        assert not assembler.anomalies


@pytest.mark.parametrize("wrong", ["x", {"a": 1}, 5, ["x"], [None], [[]]])
def test_call_deltas_of_the_wrong_type_stand_in_the_place_of_the_calls(wrong: Any) -> None:
    """Upstream finds an invalid call in a text or an object; sound deltas beside it change nothing."""
    chunks = [delta(tool_calls=wrong), part(0, "functions.f:0", "f", "{}"), END]
    for order in (chunks, [chunks[1], chunks[0], END]):
        message = finished(assemble(*order)).message
        assert message is not None
        assert message["tool_calls"] == wrong


@pytest.mark.parametrize("where", ["top", "choice", "empty choices"])
def test_usage_is_found_wherever_it_stands(where: str) -> None:
    """Usage comes in the chunk, inside the last choice, or after the finish with empty choices."""
    usage = {"total_tokens": 3}
    last = delta("stop")
    if where == "top":
        last["usage"] = usage
    elif where == "choice":
        last["choices"][0]["usage"] = usage
    chunks = [delta(content="x"), last]
    if where == "empty choices":
        chunks.append({"choices": [], "usage": usage})
    response = finished(assemble(*chunks))
    assert response.completion["usage"] == usage
    assert response.finish_reason == "stop"


def test_an_error_event_fails_the_request() -> None:
    """Deviation 1: what came before an error event is not judged, a finish_reason included."""
    for before in (delta("stop", content="x"), delta(content="x")):
        assembler = assemble(before, {"error": {"message": "overloaded"}})
        assert assembler.failed
        result = assembler.result()
        assert isinstance(result, NotACompletion)
        assert result.failure_class is FailureClass.STREAM_ERROR_EVENT
        assert "overloaded" in result.reason


@pytest.mark.parametrize(
    "data", [b"{", b"{}{}", b"\xff\xfe", b"[" * 100_000, b"1" * 1_000_000, b"\xef\xbb\xbf{}", b"[done]"]
)
def test_an_event_that_is_no_json_fails_the_request(data: bytes) -> None:
    """A bad event is not a completion, and the message stays short."""
    assembler = assemble(delta("stop"), data)
    assert assembler.failed
    result = assembler.result()
    assert isinstance(result, NotACompletion)
    assert result.failure_class is FailureClass.NOT_A_COMPLETION
    assert len(result.reason) < 500


@pytest.mark.parametrize("data", [b"null", b'"ping"', b"[]", b"[1]", b"3", b"false", b"{}", b"", b" "])
def test_an_event_that_holds_no_object_is_passed_over(data: bytes) -> None:
    """As upstream does; what it holds, servers send to keep the connection open."""
    for chunks in ([data, delta("stop", content="x")], [delta(content="x"), data, delta("stop")]):
        response = finished(assemble(*chunks))
        assert response.message is not None
        assert (response.message["content"], response.finish_reason) == ("x", "stop")


def test_no_event_at_all_is_no_completion() -> None:
    """A streamed 200 that is no event stream is a failed request (upstream records `stop`)."""
    result = assemble().result()
    assert isinstance(result, NotACompletion)
    assert result.failure_class is FailureClass.NOT_A_COMPLETION


@pytest.mark.parametrize("chunks", [[delta(content="x")], [part(0, "i", "f", "{")], [{"choices": []}]])
def test_a_stream_without_finish_reason_is_cut(chunks: list[Any]) -> None:
    """A stream without a terminal finish_reason is a failed request (upstream records `stop`)."""
    assembler = assemble(*chunks)
    assert not assembler.finished
    result = assembler.result()
    assert isinstance(result, NotACompletion)
    assert result.failure_class is FailureClass.STREAM_CUT


def test_an_event_cut_in_the_middle_is_a_cut_stream() -> None:
    """A last event that lost its end is dropped: the stream is cut, the event not bad."""
    text = b"data: " + json.dumps(delta(content="x")).encode() + b"\n\ndata: " + json.dumps(END).encode()[:-9]
    assembler = ChunkAssembler()
    for data in events(text):
        assembler.add(data)
    result = assembler.result()
    assert isinstance(result, NotACompletion)
    assert result.failure_class is FailureClass.STREAM_CUT


@pytest.mark.parametrize("deep", [300, 600, 950, 990, 5_000, 100_000])
def test_deep_deltas_are_bounded(deep: int) -> None:
    """Nesting of any depth in any place ends as a completion or as none, never in a RecursionError."""
    nested = "[" * deep + "]" * deep
    for text in (
        f'{{"choices": [{{"delta": {{"x": {nested}}}, "finish_reason": "stop"}}]}}',
        f'{{"choices": [{{"delta": {{"tool_calls": [{{"index": {nested}}}]}}, "finish_reason": "stop"}}]}}',
        f'{{"choices": [{{"delta": {{"tool_calls": [{{"function": {{"arguments": {nested}}}}}]}}}}]}}',
        f'{{"error": {nested}}}',
        f'{{"choices": [{{"finish_reason": {nested}}}]}}',
        nested,
    ):
        result = assemble(text.encode()).result()
        if isinstance(result, Response):
            json.dumps(result.completion)
