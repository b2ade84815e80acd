"""One path from a response to what it is worth."""

from __future__ import annotations

import json

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.judged import JudgedResponse, judge_record, judge_response
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import RequestIdentity
from k2_verifier_adapter.core.responses import parse_completion, read_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler

ONE_CHARACTER = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}}}
CASE = decode_row(
    {
        "messages": [{"role": "user", "content": "?"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": ONE_CHARACTER}}],
        "should_call_tool": True,
    },
    3,
    HistoryOptions(),
)


def _record(text, *, raw=True):
    identity = RequestIdentity("", "", {"max_tokens": 5})
    return ResponseRecord(3, 1, text, (), identity, 4, 0.5, None, "", raw=raw)


def _streamed(*arguments):
    """Give the text of a call whose arguments came in these pieces."""
    assembler = ChunkAssembler()
    for piece in arguments:
        call = {"index": 0, "id": "functions.f:0", "function": {"name": "f", "arguments": piece}}
        chunk = {"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
        assembler.add(json.dumps(chunk).encode())
    return dumps_ascii(assembler.completion())


def test_halves_of_a_character_in_two_deltas_are_one():
    """What is judged is the stored text, in which the two halves of an emoji stand side by side."""
    judged = judge_record(CASE, _record(_streamed('{"a": "\ud83c', '\udf27"}')))
    assert isinstance(judged, JudgedResponse)
    assert judged.judgement.tool_calls_valid is True


def test_a_stored_text_without_a_completion_is_a_failed_request():
    """It keeps its attempts, and the status that every answer has; EvalScope's own clients tell none."""
    for raw, status in ((True, 200), (False, None)):
        judged = judge_record(CASE, _record('{"error": "overloaded"}', raw=raw))
        assert isinstance(judged, FailedRequest)
        assert (judged.case_index, judged.repeat, judged.attempts, judged.duration_s) == (3, 1, 4, 0.5)
        assert (judged.failure.failure_class, judged.status) == (FailureClass.NOT_A_COMPLETION, status)


def test_a_logged_completion_is_judged_as_the_stored_text():
    """The line of a log holds the completion decoded: the same input gives the same judgement."""
    text = _streamed('{"a": "bc"}')
    stored = judge_record(CASE, _record(text))
    logged = judge_response(
        CASE,
        read_completion(json.loads(text)),
        parameters={"max_tokens": 5},
        repeat=1,
        duration_s=0.5,
        attempts=4,
    )
    assert logged == stored


def test_depth_counts_alike_in_text_and_decoded():
    """The shortcut over the brackets of a text gives what a walk through the value gives."""
    for depth in (10, 396, 397, 398, 399, 400, 500):
        completion = {"choices": [{"message": {"content": []}}], "x": 0}
        nested: list = []
        for _ in range(depth):
            nested = [nested]
        completion["x"] = nested
        text = json.dumps(completion)
        assert parse_completion(text) == read_completion(json.loads(text)), depth
