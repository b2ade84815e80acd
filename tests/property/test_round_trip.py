"""Rows, answered and stored as a run, exported and scored: nothing changes on the way.

Answers come as the bytes of bodies and of event streams, through the client's own reading, or as the records
of an earlier version, whatever those hold.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import aiohttp
from hypothesis import event, given, settings
from hypothesis import strategies as st

from k2_verifier_adapter.core.cases import Case, decode_row
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, Group
from k2_verifier_adapter.core.gate import exit_code
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.judged import Item, judge_record
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import METADATA_KEY, ResponseRecord, failed_request_as_json
from k2_verifier_adapter.core.requests import build_request
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.evalscope_plugin.client.reading import (
    Attempt,
    Limits,
    NoCompletionError,
    read_body,
    read_stream,
)
from k2_verifier_adapter.formats.runs import RunPaths, choose_run, read_run, write_cases, write_facts
from k2_verifier_adapter.offline.export import write_results
from k2_verifier_adapter.offline.official import official_of_rows
from k2_verifier_adapter.offline.scoring import Log, score_log
from k2_verifier_adapter.offline.stored import judge_run, summary_of
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
    st.sampled_from(['{"a": 1}', '{"a": "x"}', '{"a": "🌧晴"}', '{"a"', "{}{}", "", "{'a': 1}", "null"]),
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
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}}},
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


RECORDS = st.builds(
    lambda completion, anomalies, raw: ("record", dumps_ascii(completion), tuple(anomalies), raw),
    COMPLETIONS,
    st.lists(st.sampled_from(STREAM), unique=True, max_size=2),
    st.booleans(),
)
BODIES = st.builds(
    lambda completion, ascii_only: (
        "body",
        # A lone surrogate has no bytes; its escape is the same in JSON.
        [json.dumps(completion, ensure_ascii=ascii_only).encode("utf-8", "backslashreplace")],
    ),
    st.one_of(COMPLETE, COMPLETE, NOT_COMPLETE),
    st.booleans(),
)


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text anywhere, between the halves of an emoji too, as servers do that count UTF-16 units."""
    units = text.encode("utf-16-le", "surrogatepass")
    inside = draw(st.lists(st.integers(0, len(units) // 2), max_size=3))
    cuts = sorted({0, len(units), *(2 * cut for cut in inside)})
    return [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(cuts)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """Draw an event stream: texts and calls in pieces, some without an index or an id, some cut off."""
    deltas: list[dict[str, Any]] = []
    for name in draw(st.lists(st.sampled_from(["content", "reasoning_content"]), max_size=2)):
        deltas += [{name: piece} for piece in draw(pieces_of(draw(TEXTS)))]
    for index in range(draw(st.integers(0, 2))):
        place: dict[str, Any] = {"index": index} if draw(st.integers(0, 9)) else {}
        call_id = draw(st.sampled_from(["functions.f:0", "functions.f:0", "call_1", None]))
        first = {"id": call_id, "type": "function", "function": {"name": draw(NAMES), "arguments": ""}}
        arguments = draw(st.one_of(st.just('{"a": "🌧晴"}'), TEXTS, JSON.map(json.dumps)))
        rest = [{"function": {"arguments": piece}} for piece in draw(pieces_of(arguments))]
        deltas += [{"tool_calls": [{**place, **part}]} for part in (first, *rest)]
    chunks: list[Any] = [{"model": MODEL, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    finish_reason = draw(st.sampled_from(["tool_calls", "tool_calls", "stop", "length", None]))
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    if draw(st.booleans()):
        chunks.append({"choices": [], "usage": {"prompt_tokens": 3, "total_tokens": 5}})
    if not draw(st.integers(0, 9)):
        chunks.insert(draw(st.integers(0, len(chunks))), draw(NOT_COMPLETE))
    events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    return "stream", [*events, b"data: [DONE]\n\n"]


STREAMS = streams()
FAILURES = st.builds(
    lambda kind, detail, status: ("failure", kind, detail, status),
    st.sampled_from(TRANSPORT),
    TEXTS,
    st.sampled_from([None, 400, 429, 503]),
)
# A record of an earlier version may hold what is no completion. None is a request that was never made.
ANSWERS = st.one_of(STREAMS, STREAMS, BODIES, RECORDS, FAILURES, st.none())


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


class Body:
    """The body of an HTTP response, as far as the client reads one."""

    def __init__(self, parts: list[bytes]) -> None:
        self.content = self
        self._parts = parts

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Give the parts."""
        for part in self._parts:
            yield part

    def at_eof(self) -> bool:
        """Whether nothing is left."""
        return True

    def close(self) -> None:
        """Close the connection."""


async def received(answer: tuple[Any, ...], case: Case, repeat: int) -> ResponseRecord | FailedRequest:
    """Make of an answer what a run stores of it."""
    how, *rest = answer
    if how == "failure":
        kind, detail, status = rest
        return FailedRequest(case.index, Failure(kind, detail), status, 1 + repeat, repeat)
    raw = True
    if how == "record":
        text, anomalies, raw = rest
    else:
        attempt = Attempt(Limits(60.0, 1 << 20), stream=how == "stream")
        body = cast("aiohttp.ClientResponse", Body(*rest))
        try:
            reading = await (read_body(body, attempt) if how == "body" else read_stream(body, attempt, 0.0))
        except NoCompletionError as error:
            return FailedRequest(case.index, Failure(error.failure_class, error.detail), 200, repeat=repeat)
        text, anomalies = reading.text, reading.anomalies
    return ResponseRecord(
        case_index=case.index,
        repeat=repeat,
        response=text,
        stream_anomalies=anomalies,
        request=build_request(case, MODEL, {**case.parameters, "stream": True}).identity,
        attempts=1 + repeat,
        duration_s=0.125 * (1 + repeat),
        ttft_s=None,
        finished_at="2026-11-22T10:00:01+00:00",
        raw=raw,
    )


def write_run(
    folder: Path, rows: list[dict[str, Any]], answers: list[list[Any]], options: HistoryOptions
) -> list[Item]:
    """Write the run directory that these answers leave behind; give what the run itself made of them."""
    cases = [decode_row(row, index, options) for index, row in enumerate(rows)]
    paths = RunPaths(folder, MODEL, SUBSET)
    write_cases(paths.cases, cases)

    async def receive() -> list[tuple[Case, ResponseRecord | FailedRequest]]:
        asked = [
            (case, repeat, answer)
            for case, repeats in zip(cases, answers, strict=True)
            for repeat, answer in enumerate(repeats)
        ]
        return [(case, await received(answer, case, repeat)) for case, repeat, answer in asked if answer]

    predictions, failures = [], []
    live: list[Item] = []
    for case, stored in asyncio.run(receive()):
        if isinstance(stored, FailedRequest):
            failures.append(json.dumps(failed_request_as_json(stored)))
            live.append(stored)
        else:
            output = {"metadata": {METADATA_KEY: stored.as_json()}}
            predictions.append(json.dumps({"model_output": output}))
            live.append(judge_record(case, stored))
    asked = len(predictions) + len(failures)
    facts = RunFacts(
        model=MODEL,
        subset=SUBSET,
        parameters={"model": MODEL, "stream": True},
        rows=RowsInfo("rows.jsonl", "", synthetic=False),
        planned=len(cases) * len(answers[0]),
        repeats=len(answers[0]),
        started_at="",
        finished_at=None,
        complete=asked == len(cases) * len(answers[0]),
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
    return live


def told(summary: Summary, *, all_asked: bool) -> dict[str, Any]:
    """Give what a report tells of the answers, by its numbers and failure classes."""
    report = json.loads(json.dumps(report_as_json(summary)))
    names = ("requests", "finish_reasons", "confusion", "counts", "metrics", "verdict", "failures", "usage")
    parts = {
        name: report[name] for name in (*names, "latency_s", "warnings", "findings", "similarity_bounds")
    }
    parts["decision"] = exit_code(summary)
    # Of requests that were never made each says in its way what is to be done. The requests of these runs are
    # not those of their subset.
    apart = (
        "have no line in the results",
        "The run was interrupted",
        "parameters are not the official run's",
    )
    parts["warnings"] = [text for text in parts["warnings"] if not any(part in text for part in apart)]
    parts["served"] = report["provenance"]["served"]
    parts["flips"] = (summary.tally.repeated.pairs, summary.tally.repeated.flips)
    del parts["verdict"]["barred"]
    if all_asked:
        # A run counts the repairs of all its rows, a log those of the rows that were asked.
        parts["repairs"] = report["repairs"]
    return parts


def _place(item: Item) -> tuple[int, int]:
    return item.case_index, item.repeat


def _worth(judged: Item) -> Any:
    """Give what must be the same in a log, which shortens the details of failed requests."""
    if isinstance(judged, FailedRequest):
        return judged.failure.failure_class, judged.status
    return judged.judgement


@settings(max_examples=40)
@given(runs())
def test_nothing_changes_on_the_way(
    drawn: tuple[list[dict[str, Any]], list[list[Any]], HistoryOptions],
) -> None:
    """What a run makes of its answers, `report`, `export` and `score` of the export make of them, too."""
    rows, answers, options = drawn
    if not any(any(repeats) for repeats in answers):
        event("no request was made")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = write_run(folder / "run", rows, answers, options)
        stored = read_run(choose_run(folder / "run"))
        lines = write_results(folder / "results.jsonl", stored)
        rows_file = folder / "rows.jsonl"
        rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        logged: list[Item] = []
        log, official = Log([folder / "results.jsonl"], SUBSET), official_of_rows(rows_file, SUBSET)
        scored, _ = score_log(log, official, on_case=lambda _, item: logged.append(item))
        exported = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
        again = judge_run(stored)
        reported = summary_of(stored)
    event(f"repeats: {len(answers[0])}")
    event(f"completed: {min(reported.completed, 3)}")
    live.sort(key=_place)
    assert sorted(again, key=_place) == live
    assert [_worth(item) for item in live] == [_worth(item) for item in logged]
    assert [item.case_index for item in live] == [item.case_index for item in logged]
    assert [line["tool_calls_valid"] for line in exported] == [
        None if isinstance(item, FailedRequest) else item.judgement.tool_calls_valid for item in live
    ]
    assert scored.log is not None
    assert scored.log.scored == lines == reported.total - reported.missing
    all_asked = all(any(repeats) for repeats in answers)
    assert told(scored, all_asked=all_asked) == told(reported, all_asked=all_asked)
    assert scored.log.other_request.count == 0
    assert [places.count for places in scored.log.disagreements.values()] == [0, 0, 0]
