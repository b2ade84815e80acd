"""Rows, answered and stored as a run, exported and scored: nothing changes on the way."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_as_json
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.formats.cases import write_cases
from k2_verifier_adapter.formats.runs import RunPaths, choose_run, read_run, write_facts
from k2_verifier_adapter.offline.results import write_results
from k2_verifier_adapter.offline.scoring.line_scorer import score_results
from k2_verifier_adapter.offline.scoring.official import official_of_rows
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.json_report import report_as_json

MODEL, SUBSET = "kimi", "k2_thinking"
TRANSPORT = [kind for kind in FailureClass if kind.group is Group.TRANSPORT]
STREAM = [kind for kind in FailureClass if kind.group is Group.STREAM]

TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["", "晴", "\ud800", "line\nend", "\u2028", '"', "{"]))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.sampled_from(["f", "g", "functions.f:0", "F"])
ARGUMENTS = st.one_of(
    st.sampled_from(['{"a": 1}', '{"a": "x"}', '{"a"', "{}{}", "", "{'a': 1}", "null"]),
    JSON,
    JSON.map(json.dumps),
)
CALLS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {
            "id": st.one_of(st.sampled_from(["functions.f:0", "call_1"]), JSON),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": NAMES, "arguments": ARGUMENTS}),
        }
    ),
)
GOOD_CALL = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CALL_LISTS = st.one_of(st.just([GOOD_CALL]), st.lists(CALLS, max_size=3))
PARAMETERS = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"type": "object", "additionalProperties": False},
        {},
        None,
        {"type": 3},
        {"$ref": "#/nowhere"},
    ]
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": NAMES, "parameters": PARAMETERS}),
        }
    ),
    max_size=3,
)
HISTORY = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "system", "_input", "tool"]), "content": JSON}
        ),
        st.fixed_dictionaries(
            {
                "role": st.just("assistant"),
                "content": TEXTS,
                "tool_calls": st.lists(
                    st.fixed_dictionaries(
                        {
                            "id": st.sampled_from(["functions.f:0", "call_1"]),
                            "function": st.fixed_dictionaries(
                                {
                                    "name": NAMES,
                                    "arguments": st.sampled_from(['{"a": 1}', '{"a": ', "", "{}"]),
                                }
                            ),
                        }
                    ),
                    min_size=1,
                    max_size=2,
                ),
            }
        ),
    ),
    min_size=1,
    max_size=3,
)
FINISH_REASONS = st.one_of(
    st.sampled_from(["stop", "tool_calls", "tool_calls", "tool_calls", "length", "", None]), JSON
)
MESSAGES = st.one_of(
    st.none(),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS, "tool_calls": CALL_LISTS}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS}),
)
COMPLETE = st.builds(
    lambda finish_reason, message, usage, fingerprint: {
        "id": "x",
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": usage,
        "system_fingerprint": fingerprint,
    },
    FINISH_REASONS,
    MESSAGES,
    st.one_of(
        st.none(), st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "total_tokens": SCALARS})
    ),
    st.sampled_from([None, "fp_1", "fp_2"]),
)
NOT_COMPLETE = st.one_of(st.fixed_dictionaries({"error": JSON}), st.just({"choices": []}), JSON)
COMPLETIONS = st.one_of(COMPLETE, COMPLETE, COMPLETE, NOT_COMPLETE)


@st.composite
def rows_of(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a row of the hosted format."""
    finish_reason = draw(st.sampled_from(["tool_calls", "tool_calls", "stop", "length", "", None]))
    calls = finish_reason == "tool_calls"
    row: dict[str, Any] = {
        "messages": draw(HISTORY),
        "should_call_tool": calls,
        "official_finish_reason": finish_reason,
        "parameters": draw(st.sampled_from([{}, {"temperature": 0.3}, {"top_p": 0.9}])),
    }
    if draw(st.booleans()) or calls:
        row["tools"] = draw(TOOLS)
    if calls and draw(st.booleans()):
        row["official_tool_calls"] = draw(CALL_LISTS)
    if draw(st.booleans()):
        # Columns may be JSON text, of any layout.
        row["messages"] = json.dumps(row["messages"], indent=draw(st.sampled_from([None, 1])))
    return row


RESPONSES = st.builds(
    lambda completion, anomalies, raw: ("response", completion, tuple(anomalies), raw),
    COMPLETIONS,
    st.lists(st.sampled_from(STREAM), unique=True, max_size=2),
    st.booleans(),
)
FAILURES = st.builds(
    lambda kind, detail, status: ("failure", kind, detail, status),
    st.sampled_from(TRANSPORT),
    TEXTS,
    st.sampled_from([None, 400, 429, 503]),
)
# None is a request that was never made.
ANSWERS = st.one_of(RESPONSES, RESPONSES, RESPONSES, FAILURES, st.none())


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[list[Any]], HistoryOptions]:
    """Draw rows, the answers to each, one a repeat, and the repairs that were made."""
    repeats = draw(st.integers(1, 3))
    rows = draw(st.lists(rows_of(), min_size=2, max_size=5))
    # Rows may be some of the samples, and then say which.
    if draw(st.booleans()):
        numbers = draw(st.lists(st.integers(1, 10**6), min_size=len(rows), max_size=len(rows), unique=True))
        rows = [{**row, "data_index": number} for row, number in zip(rows, numbers, strict=True)]
    answers = [draw(st.lists(ANSWERS, min_size=repeats, max_size=repeats)) for _ in rows]
    options = HistoryOptions(
        draw(st.sampled_from(MalformedHistory)), normalize_tool_call_ids=draw(st.booleans())
    )
    return rows, answers, options


def write_run(
    folder: Path, rows: list[dict[str, Any]], answers: list[list[Any]], options: HistoryOptions
) -> None:
    """Write the run directory that these answers leave behind."""
    cases = [decode_row(row, index, options) for index, row in enumerate(rows)]
    paths = RunPaths(folder, MODEL, SUBSET)
    write_cases(paths.cases, cases)
    predictions, failures = [], []
    for case, repeats in zip(cases, answers, strict=True):
        for repeat, answer in enumerate(repeats):
            if answer is None:
                continue
            if answer[0] == "failure":
                _, kind, detail, status = answer
                request = FailedRequest(case.index, Failure(kind, detail), status, repeat=repeat)
                failures.append(json.dumps(failed_request_as_json(request)))
                continue
            _, completion, anomalies, raw = answer
            record = ResponseRecord(
                case_index=case.index,
                repeat=repeat,
                response=dumps_ascii(completion),
                stream_anomalies=anomalies,
                request=build_request(case, MODEL, {**case.parameters, "stream": True}).identity,
                attempts=1,
                duration_s=0.125 * (1 + repeat),
                ttft_s=None,
                finished_at="2026-11-22T10:00:01+00:00",
                raw=raw,
            )
            output = {"metadata": {METADATA_KEY: record.as_json()}}
            predictions.append(json.dumps({"model_output": output}))
    asked = len(predictions) + len(failures)
    facts = RunFacts(
        model=MODEL,
        subset=SUBSET,
        parameters={"model": MODEL, "stream": True},
        rows=RowsInfo("rows.jsonl", "", synthetic=False),
        planned=asked,
        repeats=len(answers[0]),
        started_at="",
        finished_at=None,
        complete=True,
        endpoint_host=None,
        adapter="",
        evalscope="",
        python="",
        standard=preset_for(SUBSET).standard,
    )
    write_facts(paths, facts)
    paths.predictions.parent.mkdir(parents=True, exist_ok=True)
    paths.predictions.write_text("".join(f"{line}\n" for line in predictions))
    paths.failures.write_text("".join(f"{line}\n" for line in failures))


def told(summary: Summary, *, all_asked: bool) -> dict[str, Any]:
    """Give what a report tells of the answers, by its numbers and failure classes."""
    report = json.loads(json.dumps(report_as_json(summary)))
    names = ("requests", "finish_reasons", "confusion", "counts", "metrics", "verdict", "failures", "usage")
    parts = {name: report[name] for name in (*names, "latency_s", "warnings")}
    # Warnings of official answers without a line: requests that were never made.
    parts["warnings"] = [text for text in parts["warnings"] if "have no line in the results" not in text]
    parts["served"] = report["provenance"]["served"]
    parts["flips"] = (summary.tally.repeated.pairs, summary.tally.repeated.flips)
    if all_asked:
        # A run counts the repairs of all its rows, a log those of the rows that were asked.
        parts["repairs"] = report["repairs"]
    return parts


@settings(max_examples=80)
@given(runs())
def test_nothing_changes_on_the_way(
    drawn: tuple[list[dict[str, Any]], list[list[Any]], HistoryOptions],
) -> None:
    """What `report` says of a run, `score` says of its export: metrics, counts and failure classes."""
    rows, answers, options = drawn
    if not any(any(repeats) for repeats in answers):
        event("no request was made")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_run(folder / "run", rows, answers, options)
        stored = read_run(choose_run(folder / "run"))
        lines = write_results(folder / "results.jsonl", stored)
        rows_file = folder / "rows.jsonl"
        rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with official_of_rows(rows_file, SUBSET) as official, (folder / "results.jsonl").open("rb") as file:
            scored = score_results(file, official, subset=SUBSET)
        reported = summary_of(stored)
    event(f"repeats: {len(answers[0])}")
    event(f"completed: {min(reported.completed, 3)}")
    assert scored.log is not None
    assert scored.log.scored == lines == reported.total
    all_asked = all(any(repeats) for repeats in answers)
    assert told(scored, all_asked=all_asked) == told(reported, all_asked=all_asked)
    assert scored.log.other_request.count == 0
    assert [places.count for places in scored.log.disagreements.values()] == [0, 0, 0]
