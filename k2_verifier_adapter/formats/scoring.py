"""Scoring a results file offline: line by line, from the raw responses, in flat memory."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.cases import NOT_PARAMETERS, OfficialAnswer
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judgement import Judgement, judge
from k2_verifier_adapter.core.log_facts import FailedRule, LogFacts, Places
from k2_verifier_adapter.core.request_marks import marks_of
from k2_verifier_adapter.core.responses import Response, literal_finish_reason, read_completion
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.summary import Observed, Summary, build_summary
from k2_verifier_adapter.core.tally import Tally, count_text
from k2_verifier_adapter.errors import DataError
from k2_verifier_adapter.formats.line_notes import LineNote, note_of_error
from k2_verifier_adapter.formats.official_index import OfficialIndex
from k2_verifier_adapter.formats.upstream import BadLine, Result, read_results
from k2_verifier_adapter.version import __version__

_NO_CALL = OfficialAnswer(should_call=False, finish_reason="")


def score_results(
    lines: Iterable[bytes],
    official: OfficialIndex,
    *,
    subset: str | None = None,
    failed_rule: FailedRule = FailedRule.LEFT_OUT,
    minimums: Mapping[str, float] | None = None,
) -> Summary:
    """Judge every line of a results file and summarize it.

    A line is judged against the tools of the rows, where rows are given; else against those of its
    own request; and against those of the official request where it does not hold its own.

    Args:
        lines: The lines of the file.
        official: The official answers; each is marked as used.
        subset: Name of the subset, or None if it is not known.
        failed_rule: What failed requests count as.
        minimums: The user's thresholds by metric name.

    Raises:
        DataError: If no line could be scored.
    """
    scoring = _Scoring(official, failed_rule)
    for result in read_results(iter(lines)):
        scoring.add(result)
    return scoring.summary(subset, minimums)


@dataclass(frozen=True, slots=True)
class _LoggedCase:
    """What is known of one logged request; see `core.judgement.Asked`."""

    index: OfficialIndex
    position: int
    official: OfficialAnswer
    repairs: Repairs
    own_tools: Any

    def tools(self) -> Any:
        return self.index.tools(self.position) if self.own_tools is None else self.own_tools

    def official_tool_calls(self) -> list[Any] | None:
        return self.index.calls(self.position)


class _Place(Enum):
    """What becomes of the lines of one `data_index`."""

    SCORED = "scored"
    WITHOUT_OFFICIAL = "without_official"
    OFFICIAL_FAILED = "official_failed"
    DUPLICATE = "duplicates"


class _Scoring:
    """All that is kept while the lines go by."""

    def __init__(self, official: OfficialIndex, failed_rule: FailedRule) -> None:
        self._official = official
        self._rule = failed_rule
        self._log = LogFacts(failed_rule=failed_rule, official=official.facts)
        self._tally, self._observed = Tally(), Observed()
        self._repairs = {"malformed_history": 0, "input_role": 0, "tool_call_ids": 0}
        self._models: Counter[str] = Counter()
        self._parameters: dict[str, Any] | None = None
        self._first_at: str | None = None
        self._last_at: str | None = None
        self._repeats = 0
        # The lines of one data_index that follow each other are repeats of one case.
        self._data_index: int | None = None
        self._position = 0
        self._place = _Place.SCORED
        self._repeat = 0

    def add(self, result: Result | BadLine) -> None:
        """Take in one line."""
        self._log.lines += 1
        if isinstance(result, BadLine):
            self._log.unreadable.add(result.number)
        elif result.data_index is None:
            self._log.without_data_index.add(result.number)
        else:
            self._enter(result.data_index)
            if self._place is _Place.SCORED:
                self._score(result, result.data_index)
            else:
                self._log.left_out[self._place.value].add(result.data_index)

    def _enter(self, data_index: int) -> None:
        if data_index == self._data_index:
            self._repeat += 1
            return
        self._data_index, self._repeat = data_index, 0
        position = self._official.find(data_index)
        if position is None:
            self._place = _Place.WITHOUT_OFFICIAL
            return
        self._position = position
        if not self._official.use(position):
            self._place = _Place.DUPLICATE
        elif self._official.answer(position) is None and self._rule is FailedRule.LEFT_OUT:
            self._place = _Place.OFFICIAL_FAILED
        else:
            self._place = _Place.SCORED

    def _score(self, result: Result, data_index: int) -> None:
        self._log.scored += 1
        self._repeats = max(self._repeats, self._repeat + 1)
        body = result.body if result.extra_body else result.request
        case = self._case(body, data_index)
        self._note_request(body, result.last_run_at)
        if self._repeat == 0:
            for name in self._repairs:
                self._repairs[name] += bool(getattr(case.repairs, name))
        note = LineNote.from_json(result.note)
        duration_s = None if result.duration_ms is None else result.duration_ms / 1000
        response = read_completion(result.response) if result.succeeded else None
        case_index = self._official.case_index(self._position, data_index)
        if isinstance(response, Response):
            judgement = judge(case, response, note.stream_anomalies)
            self._tally.add(case_index, judgement)
            self._observed.add(response.completion, duration_s, raw=note.raw)
            self._compare(result, judgement, data_index)
            return
        if response is None:
            note, detail = _failure_of(result.response, note)
            kind = note.failure_class
            assert kind is not None, "a failed request has a class"
        else:
            kind, detail = response.failure_class, response.reason
            self._log.no_completion.add(data_index)
        failed = FailedRequest(
            case_index,
            Failure(kind, detail),
            note.http_status,
            repeat=self._repeat,
            duration_s=duration_s or 0.0,
            as_no_call_against=case.official.should_call if self._rule is FailedRule.NO_CALL else None,
        )
        self._tally.add_failed(failed)

    def _case(self, body: Mapping[str, Any] | None, data_index: int) -> _LoggedCase:
        official, position = self._official, self._position
        asked = official.marks(position)
        sent = None if body is None else marks_of(body)
        if asked is not None and sent is not None and asked.content != sent.content:
            self._log.other_request.add(data_index)
        input_role = official.input_role(position)
        repairs = Repairs() if asked is None else asked.repairs(sent, input_role=input_role)
        own_tools = None if body is None or official.has_rows else body.get("tools") or []
        answer = official.answer(position) or _NO_CALL
        return _LoggedCase(official, position, answer, repairs, own_tools)

    def _note_request(self, body: Mapping[str, Any] | None, run_at: str | None) -> None:
        if run_at is not None:
            self._first_at = run_at if self._first_at is None else min(self._first_at, run_at)
            self._last_at = run_at if self._last_at is None else max(self._last_at, run_at)
        if body is None:
            return
        model = body.get("model")
        if isinstance(model, str) and model:
            count_text(self._models, model)
        if self._parameters is None:
            self._parameters = {
                name: value for name, value in body.items() if name == "model" or name not in NOT_PARAMETERS
            }
        else:
            differing = [
                name for name, value in self._parameters.items() if name not in body or body[name] != value
            ]
            for name in differing:
                del self._parameters[name]

    def _compare(self, result: Result, judgement: Judgement, data_index: int) -> None:
        """Hold what the line says of itself against what it was judged to be."""
        if (
            result.has_finish_reason
            and literal_finish_reason(result.finish_reason) != judgement.finish_reason
        ):
            self._log.finish_reason_differs.add(data_index)
        if not result.has_tool_calls_valid or result.tool_calls_valid is judgement.tool_calls_valid:
            return
        # Of an empty list of calls some logs say false and some null: a schema error in both.
        if not (judgement.calls and True not in (result.tool_calls_valid, judgement.tool_calls_valid)):
            self._log.tool_calls_valid_differs.add(data_index)

    def summary(self, subset: str | None, minimums: Mapping[str, float] | None) -> Summary:
        """End the file and put the summary together."""
        log, official = self._log, self._official
        if not log.scored:
            found = ", ".join(
                f"{name} {places.count}" for name, places in log.left_out.items() if places.count
            )
            raise DataError(
                f"no line of the results could be scored against {official.info.source}: "
                f"{found or 'the file is empty'}"
            )
        official.count_unused()
        several = len(self._models) > 1
        asked = ", ".join(f"{name} ({count})" for name, count in self._models.most_common(5))
        void_reason = f"the requests ask for several models: {asked}" if several else None
        model = self._models or self._observed.models or Counter({"unknown": 1})
        facts = RunFacts(
            model=model.most_common(1)[0][0],
            subset=subset or "",
            parameters=self._parameters or {},
            rows=official.info,
            planned=log.scored,
            repeats=self._repeats,
            started_at=self._first_at or "",
            finished_at=self._last_at,
            complete=True,
            endpoint_host=None,
            adapter=__version__,
            evalscope="",
            python=platform.python_version(),
            standard=official.standard,
        )
        summary = build_summary(
            facts,
            self._tally,
            self._observed,
            self._repairs,
            minimums=minimums,
            void_reason=void_reason,
            log=log,
        )
        warnings = [*summary.warnings, *_warnings(log)]
        if several:
            warnings.append(f"No verdict: {void_reason}.")
        return replace(summary, warnings=tuple(warnings))


def _failure_of(response: Any, note: LineNote) -> tuple[LineNote, str]:
    """Tell how a request failed: as noted, else as the error's text says."""
    error = response.get("error") if isinstance(response, Mapping) else response
    detail = error if isinstance(error, str) else shown(error, 300)
    if note.failure_class is None:
        note = note_of_error(detail)
    return note, excerpt(detail, 300)


def _warnings(log: LogFacts) -> list[str]:
    warnings = []
    if log.other_request.count:
        warnings.append(
            f"{_lines(log.other_request)} hold other messages or tools than the official request of the "
            "same data_index: the official file may belong to another prompt set."
        )
    if log.official.unused:
        answers = log.official.rows - log.official.failed
        warnings.append(
            f"{log.official.unused} of {answers} official answers have no line in the results; they are not "
            "in these numbers."
        )
    return warnings


def _lines(places: Places) -> str:
    return "1 line" if places.count == 1 else f"{places.count} lines"
