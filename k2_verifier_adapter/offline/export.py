"""Upstream's own files: `results.jsonl`, one line a case and repeat, and `summary.json`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, Case
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import dumps_ascii
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.redaction import (
    REDACTED,
    ToolNames,
    redact_failure,
    redact_finish_reason,
    redact_note,
    redact_parameters,
)
from k2_verifier_adapter.core.requests import merge_parameters, upstream_hash
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.formats.files import atomic_write
from k2_verifier_adapter.formats.runs import StoredRun
from k2_verifier_adapter.formats.upstream import NO_NOTE, NOTE_KEY, LineNote
from k2_verifier_adapter.offline.stored import judge_run

SUCCESS = "success"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ExportedResult:
    """One line of `results.jsonl`.

    Attributes:
        data_index: 1-based number of the sample, as the row says; its row number if it does not.
        repeat: Which of several requests for the sample, from 0; None where there is one.
        request: The request body as sent: `model`, `messages`, `tools`, then the parameters.
        response: The chat completion; of a failed request, an object with its `error`.
        tool_calls_valid: Whether every call is valid; None where upstream does not look.
        last_run_at: When the answer was complete, ISO 8601; of a failed request, when the run ended.
        duration_ms: Milliseconds that the answer took.
        hash: Upstream's hash of the request, of a redacted one as it was sent.
        note: What upstream's fields cannot say; most lines have none.
    """

    data_index: int
    request: Mapping[str, Any]
    response: Any
    status: str
    finish_reason: str | None
    tool_calls_valid: bool | None
    last_run_at: str | None
    duration_ms: int
    hash: str
    note: LineNote = NO_NOTE
    repeat: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the fields in upstream's order.

        `extra_body` is empty, for everything that was sent stands in `request`. A note, where there
        is one, stands behind them, and the repeat behind the number.
        """
        fields = {
            "data_index": self.data_index,
            **({} if self.repeat is None else {"repeat": self.repeat}),
            "request": dict(self.request),
            "extra_body": {},
            "response": self.response,
            "status": self.status,
            "finish_reason": self.finish_reason,
            "tool_calls_valid": self.tool_calls_valid,
            "last_run_at": self.last_run_at,
            "duration_ms": self.duration_ms,
            "hash": self.hash,
        }
        note = self.note.as_json()
        return {**fields, NOTE_KEY: note} if note else fields

    def as_line(self) -> bytes:
        """Give the line: non-ASCII kept as upstream does, unless a lone surrogate stands in it."""
        fields = self.as_json()
        try:
            return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:
            return dumps_ascii(fields).encode() + b"\n"

    def redacted(self, judged: Mapping[str, Any]) -> ExportedResult:
        """Give the line without the words of request and response.

        Of the request its parameters stay, of the response what it says of itself (model, provider,
        fingerprint, token counts), so that the run can still be counted. What was judged stands in place of
        the rest.
        """
        kept = {name: value for name, value in self.request.items() if name not in NOT_PARAMETERS}
        return replace(
            self,
            request={"model": self.request.get("model"), **redact_parameters(kept)},
            response=_redacted_response(self.response) if self.status == SUCCESS else {"error": REDACTED},
            finish_reason=redact_finish_reason(self.finish_reason),
            note=replace(self.note, redacted=judged),
        )


_OF_ITSELF = ("model", "provider", "system_fingerprint")
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _redacted_response(response: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: response[name] for name in _OF_ITSELF if isinstance(response.get(name), str)
    }
    usage = response.get("usage")
    if isinstance(usage, Mapping):
        kept["usage"] = {name: usage[name] for name in _TOKENS if isinstance(usage.get(name), (int, float))}
    return kept


def _redacted_judgement(judgement: Judgement | None, repairs: Repairs, names: ToolNames) -> dict[str, Any]:
    """Say without words what was judged, as JSON; of a failed request only what was repaired."""
    said: dict[str, Any] = {}
    if judgement is not None:
        failures = [redact_failure(failure, names).as_json() for failure in judgement.failures]
        notes = [redact_note(note, names).as_json() for note in judgement.notes]
        said = {
            "failures": [_without_detail(failure) for failure in failures],
            "notes": [_without_detail(note) for note in notes],
            "tools": [{**asdict(use), "name": names.of(use.name)} for use in judgement.tools],
        }
    said["repairs"] = {name: count for name, count in asdict(repairs).items() if count}
    return {name: value for name, value in said.items() if value}


def _without_detail(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != "detail"}


def results_of(
    run: StoredRun, items: Iterable[Item] | None = None, *, redact: bool = False
) -> Iterator[ExportedResult]:
    """Yield one result a case and repeat, in row order; requests never made are left out.

    `items` is what `judge_run` gave for the run, where it was judged before; a redacted result holds no word
    of request and response.
    """
    names = ToolNames()
    records = {(record.case_index, record.repeat): record for record in run.records}
    plan = run.facts.plan
    items = judge_run(run) if items is None else items
    for item in sorted(items, key=lambda item: (item.case_index, item.repeat)):
        case, record = run.cases[item.case_index], records.get((item.case_index, item.repeat))
        judgement = None if isinstance(item, FailedRequest) else item.judgement
        result = _result_of(case, item, record, run.facts)
        result = replace(result, note=replace(result.note, attempts=max(1, item.attempts), plan=plan))
        if plan.repeats > 1:
            result = replace(result, repeat=item.repeat)
        yield result.redacted(_redacted_judgement(judgement, case.repairs, names)) if redact else result


def _result_of(case: Case, item: Item, record: ResponseRecord | None, facts: RunFacts) -> ExportedResult:
    """Give the line of what became of a request; `record` is what is stored of its response."""
    if record is None:
        run_at, parameters = facts.finished_at, _parameters_of_failed(case, facts)
    else:
        run_at, parameters = record.finished_at or None, record.request.parameters
    request = _request(case, parameters)
    if isinstance(item, FailedRequest):
        return _failed_result(case, request, item, run_at)
    return ExportedResult(
        data_index=case.data_index,
        request=request,
        response=item.response.completion,
        status=SUCCESS,
        finish_reason=item.response.finish_reason,
        tool_calls_valid=item.judgement.tool_calls_valid,
        last_run_at=run_at,
        duration_ms=round((item.duration_s or 0.0) * 1000),
        hash=upstream_hash(request),
        note=LineNote(
            stream_anomalies=() if record is None else record.stream_anomalies,
            raw=item.raw,
            masked=item.masked,
        ),
    )


def _parameters_of_failed(case: Case, facts: RunFacts) -> Mapping[str, Any]:
    """Put the parameters of a failed request together again, which are not stored with it.

    What the user sets is among those that all requests share; below it stand the row's own, and below
    them the preset's.
    """
    preset = preset_for(facts.subset).parameters
    return {"model": facts.model, **merge_parameters(preset, case.parameters, facts.parameters)}


def _failed_result(
    case: Case, request: Mapping[str, Any], failed: FailedRequest, run_at: str | None
) -> ExportedResult:
    return ExportedResult(
        data_index=case.data_index,
        request=request,
        response={"error": failed.failure.detail},
        status=FAILED,
        finish_reason=None,
        tool_calls_valid=None,
        last_run_at=run_at,
        duration_ms=round(failed.duration_s * 1000),
        hash=upstream_hash(request),
        note=LineNote(failure_class=failed.failure.failure_class, http_status=failed.status),
    )


def _request(case: Case, parameters: Mapping[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {"model": parameters.get("model"), "messages": case.messages()}
    if case.tools_json is not None:
        request["tools"] = case.tools()
    for name, value in parameters.items():
        request.setdefault(name, value)
    return request


def write_results(
    path: Path, run: StoredRun, items: Iterable[Item] | None = None, *, redact: bool = False
) -> int:
    """Write what `results_of` yields, whole or not at all, gzipped if so named; give the number of lines."""
    lines = 0
    zipped = path.name.endswith(".gz")
    with (
        atomic_write(path) as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) if zipped else nullcontext(raw) as file,
    ):
        for result in results_of(run, items, redact=redact):
            file.write(result.as_line())
            lines += 1
    return lines


def upstream_summary(summary: Summary) -> dict[str, Any]:
    """Give the fields of upstream's `summary.json`; a duration that is not known is None."""
    counts, facts, usage = summary.tally.counts, summary.facts, summary.observed.usage
    return {
        "model": facts.parameters.get("model", facts.model),
        "success_count": counts.completed,
        "failure_count": summary.tally.failed,
        "finish_stop": counts.stop,
        "finish_tool_calls": counts.tool_calls,
        "finish_others": counts.others,
        "finish_others_detail": dict(sorted(summary.tally.others_detail.items())),
        "schema_validation_error_count": counts.schema_errors,
        "successful_tool_call_count": counts.successful,
        "usage": {name: usage[name] for name in _TOKENS},
        "eval_started_at": facts.started_at,
        "eval_finished_at": facts.finished_at,
        "eval_duration_ms": _milliseconds_between(facts.started_at, facts.finished_at),
    }


def write_summary(path: Path, summary: Summary) -> None:
    """Write upstream's `summary.json`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps(upstream_summary(summary), indent=4, ensure_ascii=True).encode() + b"\n")


def _milliseconds_between(start: str, end: str | None) -> int | None:
    if end is None:
        return None
    try:
        # Before Python 3.11, `fromisoformat` does not know `Z`.
        began, ended = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end))
        return round((ended - began).total_seconds() * 1000)
    except (TypeError, ValueError):
        return None
