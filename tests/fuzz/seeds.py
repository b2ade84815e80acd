"""Where mutation starts: the simulator's official answers and faulty ones, rows, logs, stored runs."""

from __future__ import annotations

import json
from functools import cache
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case, decode_row
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_as_json
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts, facts_as_json
from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.formats.runs import case_as_json
from k2_verifier_adapter.simulator.completions import DONE, Completion, chunks_of, events, official_completion
from k2_verifier_adapter.simulator.faults import FAULTS, PayloadFault

MODEL = "kimi-k2"
_LARGEST_ROW = 5_000
_ROWS = 40


@cache
def rows() -> list[dict[str, Any]]:
    """Give some of the bundled rows, the small ones: half of them call."""
    lines = bundled_rows_path().read_text(encoding="utf-8").splitlines()
    small = [json.loads(line) for line in lines if len(line) < _LARGEST_ROW]
    calling = [row for row in small if row["should_call_tool"]][: _ROWS // 2]
    return calling + [row for row in small if not row["should_call_tool"]][: _ROWS // 2]


@cache
def cases() -> list[Case]:
    """Give the same rows, decoded."""
    return [decode_row(row, index, HistoryOptions()) for index, row in enumerate(rows())]


@cache
def completions() -> list[Completion]:
    """Give the official answer to every row, and one answer with each fault."""
    official = [official_completion(row, case, MODEL) for row, case in zip(rows(), cases(), strict=True)]
    return official + [damaged for _, damaged in _damaged(official, of_streams=False)]


def _damaged(official: list[Completion], *, of_streams: bool) -> list[tuple[Any, Completion]]:
    found = []
    for fault in (fault for faults in FAULTS.values() for fault in faults):
        if not isinstance(fault, PayloadFault) or (fault.rewrite is not None) != of_streams:
            continue
        for case, completion in zip(cases(), official, strict=False):
            has_calls = bool(completion["choices"][0]["message"].get("tool_calls"))
            if fault.calls not in (None, has_calls):
                continue
            spoiled = fault.damage(completion, case, Random(1))
            if spoiled is not None:
                found.append((fault, spoiled))
                break
    return found


@cache
def responses() -> list[bytes]:
    """Give bodies."""
    return [json.dumps(completion, ensure_ascii=False).encode() for completion in completions()]


@cache
def streams() -> list[bytes]:
    """Give event streams, sound ones and one with each stream fault."""
    spoken = [chunks_of(completion, 3, include_usage=True) for completion in completions()]
    spoken += [
        fault.rewrite(chunks_of(completion, 3, include_usage=False))
        for fault, completion in _damaged(completions()[:_ROWS], of_streams=True)
    ]
    return [b"".join(events(chunks)) + DONE for chunks in spoken]


@cache
def row_lines() -> list[bytes]:
    """Give rows as lines, some with lists instead of JSON text."""
    plain = [
        {
            **row,
            "messages": json.loads(row["messages"]),
            "tools": json.loads(row["tools"] or "[]"),
            "official_tool_calls": json.loads(row["official_tool_calls"] or "null"),
            "data_index": number,
        }
        for number, row in enumerate(rows()[::3], start=7)
    ]
    return [json.dumps(row, ensure_ascii=False).encode() for row in [*rows(), *plain]]


@cache
def results() -> list[bytes]:
    """Give results files of a few lines; their `data_index` is that of the first rows."""
    lines = []
    for number, completion in enumerate(completions()):
        case = cases()[number % _ROWS]
        request = {"model": MODEL, "messages": case.messages(), "tools": case.tools(), "temperature": 0.6}
        choice = completion["choices"][0]
        lines.append(
            {
                "data_index": number % 3 + 1,
                "request": request,
                "extra_body": {},
                "response": completion,
                "status": "success",
                "finish_reason": choice["finish_reason"],
                "tool_calls_valid": True if choice["finish_reason"] == "tool_calls" else None,
                "last_run_at": "2025-11-22T10:00:00",
                "duration_ms": 250,
                "hash": "0" * 32,
            }
        )
    lines[-1].update(status="failed", finish_reason=None, response={"error": "Error code: 429 - slow down"})
    lines[-2].update(status="failed", finish_reason=None, response={"error": "Request timed out."})
    lines[-3]["k2_verifier"] = {"stream_anomalies": ["stream_id_missing"], "raw": False}
    texts = [json.dumps(line, ensure_ascii=False).encode() for line in lines]
    return [b"\n".join([*texts[start : start + 2], b""]) for start in range(len(texts))]


@cache
def stored_runs() -> list[bytes]:
    """Give stored runs, each as one document that holds the lines of its files."""
    found = []
    for start in range(0, len(completions()), 6):
        chosen = cases()[start % _ROWS : start % _ROWS + 3]
        answers = completions()[start : start + len(chosen)]
        failure = Failure(FailureClass.HTTP_5XX, "HTTP 503: overloaded")
        failed = FailedRequest(chosen[-1].index, failure, 503, 3, duration_s=1.5)
        found.append(
            {
                "facts": facts_as_json(_facts(len(chosen))),
                "cases": [case_as_json(case) for case in chosen],
                "predictions": [
                    _prediction(case, answer) for case, answer in zip(chosen, answers, strict=False)
                ],
                "failures": [failed_request_as_json(failed)],
            }
        )
    return [json.dumps(run).encode() for run in found]


def _facts(planned: int) -> RunFacts:
    return RunFacts(
        model=MODEL,
        subset="k2_thinking",
        parameters={"model": MODEL, "temperature": 1.0, "stream": True},
        rows=RowsInfo("rows.jsonl", "ab" * 32, synthetic=False),
        planned=planned,
        repeats=2,
        started_at="2026-11-22T10:00:00+00:00",
        finished_at="2026-11-22T10:00:05.250000+00:00",
        complete=True,
        endpoint_host="api.example.com",
        adapter="0.1.0",
        evalscope="1.14.1",
        python="3.11.9",
        standard=preset_for("k2_thinking").standard,
    )


def _prediction(case: Case, answer: Completion) -> dict[str, Any]:
    record = ResponseRecord(
        case_index=case.index,
        repeat=0,
        response=dumps_ascii(answer),
        stream_anomalies=(FailureClass.STREAM_ID_MISSING,),
        request=build_request(case, MODEL, {"stream": True}).identity,
        attempts=1,
        duration_s=0.25,
        ttft_s=0.1,
        finished_at="2026-11-22T10:00:01+00:00",
    )
    return {
        "index": case.index,
        "model_output": {"model": MODEL, "metadata": {METADATA_KEY: record.as_json()}},
    }
