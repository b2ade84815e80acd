"""Small run directories, written through the package's own formats."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_as_json
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts
from k2_verifier_adapter.formats.runs import RunPaths, write_cases, write_facts

MODEL, SUBSET = "kimi-k2", "k2_thinking"
PARAMETERS = {"model": MODEL, "temperature": 1.0, "max_tokens": 64000, "stream": True}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

FACTS = RunFacts(
    model=MODEL,
    subset=SUBSET,
    parameters=PARAMETERS,
    rows=RowsInfo("rows.jsonl", "ab" * 32, synthetic=False),
    planned=0,
    repeats=1,
    started_at="2026-11-22T10:00:00+00:00",
    finished_at="2026-11-22T10:00:05.250000+00:00",
    complete=True,
    endpoint_host="api.example.com",
    adapter="0.1.0",
    evalscope="1.14.1",
    python="3.11.9",
)


def make_row(text="What is the weather?", *, call=True, history=None, **extra):
    """Make a row of the hosted format; `history` is put in front of the user's message."""
    return {
        "messages": [*(history or []), {"role": "user", "content": text}],
        "tools": [TOOL],
        "should_call_tool": call,
        "official_finish_reason": "tool_calls" if call else "stop",
        **extra,
    }


def malformed_history():
    """Make a history with a call whose arguments are no JSON."""
    function = {"name": "weather", "arguments": '{"city": '}
    call = {"id": "functions.weather:0", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.weather:0", "content": "none"},
    ]


def calling(arguments='{"city": "Oslo"}', *, finish_reason="tool_calls", **extra):
    """Make a completion that calls the tool."""
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "functions.weather:0", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return completion(message, finish_reason, **extra)


def answering(text="Sunny.", *, finish_reason="stop", **extra):
    """Make a completion that answers in words."""
    return completion({"role": "assistant", "content": text}, finish_reason, **extra)


def completion(message, finish_reason, **extra):
    """Make a completion."""
    return {
        "id": "chatcmpl-1",
        "model": "kimi-k2",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        **extra,
    }


def failed(case_index, kind=FailureClass.HTTP_5XX, status=503, detail="HTTP 503: overloaded", **extra):
    """Make a failed request."""
    return FailedRequest(case_index, Failure(kind, detail), status, 3, duration_s=1.5, **extra)


def make_cases(rows: Iterable[dict]):
    """Decode rows as a run does."""
    return [decode_row(row, index, HistoryOptions()) for index, row in enumerate(rows)]


def make_record(case, answer, *, repeat=0, duration_s=0.25):
    """Make the stored response to a case; a text is stored as it is."""
    return ResponseRecord(
        case_index=case.index,
        repeat=repeat,
        response=answer if isinstance(answer, str) else dumps_ascii(answer),
        stream_anomalies=(),
        request=build_request(case, MODEL, {**case.parameters, **PARAMETERS}).identity,
        attempts=1,
        duration_s=duration_s,
        ttft_s=0.1,
        finished_at="2026-11-22T10:00:01+00:00",
    )


def make_facts(planned, **changes):
    """Make the facts of a run of so many requests."""
    standard = preset_for(changes.get("subset", SUBSET)).standard
    return replace(FACTS, **{"planned": planned, "standard": standard, **changes})


def write_run(
    run: Path, rows, answers, failures=(), *, subset=SUBSET, rows_info=FACTS.rows, **changes
) -> Path:
    """Write a run directory; `answers` are completions by row, None where there is none."""
    cases = make_cases(rows)
    paths = RunPaths(run, MODEL, subset)
    write_cases(paths.cases, cases)
    changes.setdefault("planned", len(cases))
    write_facts(paths, make_facts(subset=subset, rows=rows_info, **changes))
    records = [
        make_record(case, answer) for case, answer in zip(cases, answers, strict=True) if answer is not None
    ]
    paths.predictions.parent.mkdir(parents=True, exist_ok=True)
    paths.predictions.write_text("".join(prediction_line(record) for record in records))
    paths.failures.write_text(
        "".join(json.dumps(failed_request_as_json(request)) + "\n" for request in failures)
    )
    return run


def prediction_line(record: ResponseRecord) -> str:
    """Make the line of EvalScope's predictions that holds a response."""
    output = {"model": MODEL, "choices": [], "metadata": {METADATA_KEY: record.as_json()}}
    return json.dumps({"index": record.case_index, "model_output": output}) + "\n"


def results_line(data_index, response, **changes):
    """Give a results line as upstream writes it; a text in place of a response is an error."""
    is_error = isinstance(response, str)
    choice = {} if is_error else (response["choices"] or [{}])[0]
    messages = [{"role": "user", "content": f"question {data_index}"}]
    fields = {
        "data_index": data_index,
        "request": {**PARAMETERS, "messages": messages, "tools": [TOOL]},
        "extra_body": {},
        "response": {"error": response} if is_error else response,
        "status": "failed" if is_error else "success",
        "finish_reason": choice.get("finish_reason"),
        "tool_calls_valid": None,
        "last_run_at": "2026-11-22T10:00:00",
        "duration_ms": 1500,
    }
    return {**fields, **changes}
