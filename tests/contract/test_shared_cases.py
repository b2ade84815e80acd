"""Public reports and real parser output with the truth beside them: is the cause named?

The cases lie beside the real data and stay there; here are their names and what is right.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.diagnosis.findings import diagnose
from k2_verifier_adapter.core.diagnosis.measures import Context
from k2_verifier_adapter.core.diagnosis.rules import RULES
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.responses import Response, read_completion
from k2_verifier_adapter.core.streams.assembler import ChunkAssembler
from k2_verifier_adapter.core.tally import Tally

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")
pytestmark = pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")
CASES = Path(REALDATA or "").parent / "cases"

# The case, the finding that is right or None, and the class that must be shown or None.
REPORTED = [
    ("A02", "generation_loops", "degenerate_text"),
    ("A04", "tool_parser_spoils_calls", "markup_in_arguments"),
    ("A06", "call_in_other_notation", "call_in_content"),
    ("A11", "names_not_cut_from_ids", "tool_name_case_or_prefix"),
    ("A13", "arguments_lost", "empty_arguments"),
    ("A15", "stream_repeats_itself", "stream_cumulative"),
    ("A19", "calls_repeated", "repeated_call"),
    ("B02", "history_refused", "http_4xx"),
    ("B04", "account_exhausted", "rate_limited"),
    ("B06", "context_too_short", "http_4xx"),
    ("B09", None, None),
    ("H05", "call_in_other_notation", "call_in_content"),
    ("H06", "calls_repeated", "repeated_call"),
    ("H07", "server_fails", "http_5xx"),
    ("H18", "stream_not_served", "stream_ignored"),
    ("H22", None, None),
]


@pytest.mark.parametrize(("name", "finding", "shown"), REPORTED)
def test_a_reported_case_has_its_cause_named(name, finding, shown):
    """The only finding is the right one, and the class stands in the counts."""
    folder = CASES / "reported" / name
    answers = json.loads((folder / "script.json").read_text())["answers"]
    tally = Tally()
    for index, line in enumerate((folder / "rows.jsonl").read_text().splitlines()):
        row = json.loads(line)
        tag = re.search(r"\[(\w+)\] ", row["messages"])
        spec = answers[tag[1] if tag and tag[1] in answers else "*"]
        _take(tally, index, row, spec[0] if isinstance(spec, list) else spec)
    tally.close()
    assert [found.rule for found in diagnose(tally, Context(), RULES)] == ([finding] if finding else [])
    assert {kind.value for kind in tally.failure_counts} >= ({shown} if shown else set())


def _take(tally: Tally, index: int, row: dict[str, Any], spec: dict[str, Any]) -> None:
    status = spec.get("status", 200)
    if status != 200:
        kind = FailureClass.HTTP_5XX if status >= 500 else FailureClass.HTTP_4XX
        kind = FailureClass.RATE_LIMITED if status == 429 else kind
        failure = Failure(kind, f"HTTP {status}: {json.dumps(spec['body'])}")
        tally.add_failed(FailedRequest(index, failure, status))
        return
    case = decode_row(row, index, HistoryOptions())
    if "events" not in spec:
        response, anomalies = read_completion(spec["body"]), (FailureClass.STREAM_IGNORED,)
    else:
        assembler = ChunkAssembler()
        for event in spec["events"]:
            assembler.add(json.dumps(event).encode())
        response, anomalies = assembler.result(), tuple(assembler.anomalies)
    assert isinstance(response, Response)
    tally.add(index, judge(case, response, anomalies))


# What is right where it is not "nobody's fault": by shape, engine and whether it is streamed.
OLD_VLLM, VLLM, OLD_SGLANG, SGLANG = "vLLM 0.10.1.1", "vLLM 0.33.0", "SGLang 0.5.2", "SGLang 0.5.23"
SWALLOWED, DROPPED = "reasoning_parser_swallows_calls", "parser_drops_calls"
LEAKED = {"tool_parser_off", "tool_parser_leaks"}
AT_FAULT: dict[tuple[str, str, bool], str | set[str]] = {
    **{("call_then_think_end", engine, False): SWALLOWED for engine in (OLD_VLLM, OLD_SGLANG, SGLANG)},
    **{("call_then_think_end", engine, True): SWALLOWED for engine in (OLD_VLLM, OLD_SGLANG)},
    ("call_then_think_end", SGLANG, True): "think_tags_in_text",
    ("clean", OLD_VLLM, False): "tool_parser_spoils_calls",
    ("clean", OLD_VLLM, True): "arguments_cut_short",
    ("two_calls", OLD_VLLM, False): "tool_parser_spoils_calls",
    **{("counter_id", engine, way): DROPPED for engine in (OLD_VLLM, VLLM, OLD_SGLANG) for way in (0, 1)},
    **{
        ("cut_in_args_length", engine, way): "token_limit_too_low"
        for engine in (VLLM, OLD_SGLANG, SGLANG)
        for way in (0, 1)
    },
    ("cut_in_args_length", OLD_VLLM, False): DROPPED,
    ("cut_in_args_length", OLD_VLLM, True): "arguments_sent_again",
    **{("no_call_end", engine, False): DROPPED for engine in (OLD_VLLM, OLD_SGLANG, SGLANG)},
    ("no_call_end", SGLANG, True): "tool_parser_spoils_calls",
    ("no_call_end", OLD_VLLM, True): "tool_parser_spoils_calls",
    **{
        ("singular_section", engine, way): LEAKED
        for engine in (OLD_VLLM, VLLM, OLD_SGLANG, SGLANG)
        for way in (0, 1)
    },
    ("spaces_round_id", OLD_VLLM, True): "ids_not_as_written",
}


@cache
def _shapes() -> dict[tuple[str, str, bool], list[dict[str, Any]]]:
    groups = defaultdict(list)
    for line in (CASES / "parser_shapes.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        groups[record["model_text_shape"], record["engine"], record["streamed"]].append(record)
    return groups


def test_what_a_parser_made_of_known_text_is_blamed_on_the_right_one():
    """Of every group of parser output, the first finding is the right one, or there is none."""
    assert len(_shapes()) == 72
    for group, records in _shapes().items():
        tally = Tally()
        for index, record in enumerate(islice(cycle(records), 8)):
            calls = record["official_calls"][: max(1, record["model_text"].count("tool_call_begin|>"))]
            row = {
                "messages": [{"role": "user", "content": "x"}],
                "tools": record["tools"],
                "should_call_tool": True,
                "official_finish_reason": "tool_calls",
                "official_tool_calls": [
                    {"function": {"name": name, "arguments": arguments}} for name, arguments in calls
                ],
            }
            response = read_completion(record["response"])
            assert isinstance(response, Response)
            anomalies = map(FailureClass, record["stream_anomalies"])
            tally.add(index, judge(decode_row(row, index, HistoryOptions()), response, anomalies))
        tally.close()
        found = [finding.rule for finding in diagnose(tally, Context(), RULES)][:1]
        right = AT_FAULT.get(group)
        expected = [] if right is None else [right]
        assert found == expected or (isinstance(right, set) and set(found) <= right), (group, found)
