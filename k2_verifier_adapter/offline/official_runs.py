"""A results file as a baseline: one official answer a case, and all that stands in the way of one."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.dataset_findings import Finding, FindingKind
from k2_verifier_adapter.core.json_text import JsonTextError, dumps_strict, shown
from k2_verifier_adapter.core.responses import FinishBucket, NotACompletion, read_completion
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.lines import Advance, Lines, json_objects, open_lines
from k2_verifier_adapter.formats.request_texts import RequestTexts, escape_surrogates, request_texts
from k2_verifier_adapter.formats.upstream import BadLine, LineNote, Result, read_results

NOT_IN_ROWS = frozenset({"model", "messages", "tools", "user", "extra_headers", "extra_query", "timeout"})
"""Members of a baseline's request that are no parameters of a row.

`user` names the caller, and the last three are arguments of the client, which a log of its arguments
may hold: headers carry keys.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file of upstream's is read from; `member` is its name inside an archive."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.name if self.member is None else self.member


@dataclass(frozen=True, slots=True)
class Samples:
    """The prompt set; `requests` holds messages and tools by `data_index`."""

    name: str
    sha256: str
    requests: Mapping[int, RequestTexts]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of a results file that names its case.

    Attributes:
        request: Messages and tools that were asked, or None if the line does not say.
        answer: The official answer, or None if the request failed.
    """

    line: int
    request: RequestTexts | None
    parameters: Mapping[str, Any]
    answer: OfficialAnswer | None = None
    failure: str = ""

    def same_answer(self, other: Attempt) -> bool:
        """Whether two answers decide alike and call alike; the calls' ids do not matter."""
        return _comparable(self) == _comparable(other)


@dataclass(slots=True)
class OfficialRun:
    """One official run over the prompt set.

    Attributes:
        answers: The attempt that counts, by `data_index`.
        requests: Messages and tools asked, by `data_index`, of failed requests too.
        seen: Every `data_index` that a line names.
        completed: Number of lines that hold a completion.
        requested_models: Lines by the model that was asked for.
        served_models: Completions by the model that they say answered.
    """

    name: str
    sha256: str = ""
    answers: dict[int, Attempt] = field(default_factory=dict)
    requests: dict[int, RequestTexts] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    completed: int = 0
    requested_models: Counter[str] = field(default_factory=Counter)
    served_models: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: FindingKind, *lines: int, detail: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, self.name, lines, detail))


def load_samples(source: Source, advance: Advance) -> Samples:
    """Read a samples file; the line number is the sample's `data_index`, as upstream counts.

    Raises:
        DataError: If it cannot be read, or holds no sample.
    """
    requests: dict[int, RequestTexts] = {}
    findings = []
    with open_lines(source.path, source.member, advance, digest=True) as lines:
        for number, value in json_objects(lines):
            if isinstance(value, ValueError):
                findings.append(Finding(FindingKind.BAD_SAMPLE, source.name, (number,), str(value)))
            else:
                requests[number] = request_texts(lines.text())
        sha256 = lines.sha256()
    if not requests:
        bad = f"; line {findings[0].lines[0]} {findings[0].detail}" if findings else ""
        raise DataError(f"{source.path}: holds no samples, expected one request body a line{bad}")
    return Samples(source.name, sha256, requests, tuple(findings))


def load_official_run(source: Source, advance: Advance) -> OfficialRun:
    """Read a results file and choose one answer a case.

    Of several lines for one case, the first completed one counts if all that completed decide and
    call alike and were asked alike; otherwise none does. A failed line beside a completed one is what
    a resumed run leaves behind.

    Raises:
        DataError: If it cannot be read, or holds no result.
    """
    run = OfficialRun(source.name)
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    with open_lines(source.path, source.member, advance, digest=True) as lines:
        for item in read_results(lines, source=str(source.path)):
            if isinstance(item, BadLine):
                run.note(FindingKind.BAD_RESULT, item.number, detail=item.reason)
            elif item.data_index is None:
                reason = "has no data_index, expected the 1-based line number of its sample"
                run.note(FindingKind.BAD_RESULT, item.number, detail=reason)
            else:
                attempts[item.data_index].append(_attempt(run, item, lines))
        run.sha256 = lines.sha256()
    if not attempts:
        bad = f"; line {run.findings[0].lines[0]} {run.findings[0].detail}" if run.findings else ""
        raise DataError(
            f"{source.path}: holds no results, expected lines with data_index, request, response{bad}"
        )
    run.seen = set(attempts)
    for data_index in sorted(attempts):
        _choose(run, data_index, attempts[data_index])
    return run


def _attempt(run: OfficialRun, result: Result, lines: Lines) -> Attempt:
    request = None if result.request is None else request_texts(lines.text(), "request")
    body = result.body
    model = body.get("model")
    if isinstance(model, str):
        run.requested_models[model] += 1
    parameters = _parameters(body)
    if not result.succeeded:
        return Attempt(result.number, request, parameters, failure=_error(result.response))
    response = read_completion(result.response)
    if isinstance(response, NotACompletion):
        return Attempt(result.number, request, parameters, failure=response.reason)
    run.completed += 1
    served = response.completion.get("model")
    if isinstance(served, str):
        run.served_models[served] += 1
    logged = result.finish_reason
    if logged is not None and logged != response.finish_reason:
        detail = f"logged {shown(logged, 40)}, response {shown(response.finish_reason, 40)}"
        run.note(FindingKind.LOG_DISAGREES, result.number, detail=detail)
    if not LineNote.from_json(result.note).raw:
        run.note(FindingKind.NOT_RAW, result.number)
    calls = response.bucket is FinishBucket.TOOL_CALLS
    try:
        text = _json_text(response.tool_calls) if calls else None
    except JsonTextError as error:
        return Attempt(result.number, request, parameters, failure=f"its tool calls are not JSON: {error}")
    answer = OfficialAnswer(calls, response.finish_reason, text)
    return Attempt(result.number, request, parameters, answer)


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Take the parameters out of a request body; an `extra_body` inside it is part of the body."""
    nested = body.get("extra_body")
    if isinstance(nested, dict):
        body = {**{name: value for name, value in body.items() if name != "extra_body"}, **nested}
    return {name: value for name, value in body.items() if name not in NOT_IN_ROWS}


def _json_text(value: Any) -> str:
    # Refuses what a row could not hold; the text itself keeps its characters.
    dumps_strict(value)
    return escape_surrogates(json.dumps(value, ensure_ascii=False))


def _error(response: Any) -> str:
    error = response.get("error") if isinstance(response, dict) else response
    text = error if isinstance(error, str) else shown(error, 300)
    return text if error else "no error is logged"


def _choose(run: OfficialRun, data_index: int, attempts: list[Attempt]) -> None:
    lines = [attempt.line for attempt in attempts]
    for attempt in attempts:
        if attempt.request is not None:
            run.requests.setdefault(data_index, attempt.request)
    completed = [attempt for attempt in attempts if attempt.answer is not None]
    if not completed:
        run.note(FindingKind.FAILED, *lines, detail=attempts[-1].failure)
        return
    chosen = completed[0]
    differing = [attempt for attempt in completed if not chosen.same_answer(attempt)]
    if differing or not _asked_alike(completed):
        detail = "the answers differ" if differing else "the requests differ"
        run.note(FindingKind.DUPLICATE, *lines, detail=f"data_index {data_index}: {detail}")
        return
    if len(completed) > 1:
        run.note(FindingKind.REPEATED_ALIKE, *lines)
    if len(completed) < len(attempts):
        run.note(FindingKind.RETRIED, *lines)
    if chosen.request is None:
        run.note(FindingKind.NOT_COMPARED, chosen.line)
    else:
        run.requests[data_index] = chosen.request
    run.answers[data_index] = chosen


def _asked_alike(attempts: Iterable[Attempt]) -> bool:
    asked = [attempt.request for attempt in attempts if attempt.request is not None]
    return all(not asked[0].differing(request) for request in asked)


def _comparable(attempt: Attempt) -> tuple[Any, ...]:
    answer = attempt.answer
    if answer is None or answer.tool_calls_json is None:
        return (answer and answer.finish_reason,)
    calls = json.loads(answer.tool_calls_json)
    functions = [call.get("function") if isinstance(call, dict) else call for call in calls]
    return (answer.finish_reason, functions)
