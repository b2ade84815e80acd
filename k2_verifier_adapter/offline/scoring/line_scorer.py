"""Scoring a results file offline: line by line, from the raw responses, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.history import Repairs, marks_of
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.judging.judge import judge, judgement_of_log
from k2_verifier_adapter.core.log_facts import FailedRule, LogFacts
from k2_verifier_adapter.core.requests import token_limit_of
from k2_verifier_adapter.core.responses import Response, literal_finish_reason, read_completion
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.formats.counted_lines import CountedLines
from k2_verifier_adapter.formats.line_notes import LineNote, Redaction, note_of_error
from k2_verifier_adapter.formats.upstream import BadLine, Result, read_results
from k2_verifier_adapter.offline.scoring.blocks import BLOCK_BYTES, begins_case
from k2_verifier_adapter.offline.scoring.logged_cases import LoggedCase, ScoredLine
from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex
from k2_verifier_adapter.offline.scoring.scored_lines import ScoredLines

_NO_CALL = OfficialAnswer(should_call=False, finish_reason="")


OnCase = Callable[[int, int, Judgement | FailedRequest], None]


def score_results(
    lines: Iterable[bytes],
    official: OfficialIndex,
    *,
    subset: str | None = None,
    failed_rule: FailedRule = FailedRule.LEFT_OUT,
    minimums: Mapping[str, float] | None = None,
    on_case: OnCase | None = None,
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
        on_case: Called with the `data_index` and the 0-based row number of every scored line, and with
            what it was judged to be.

    Raises:
        DataError: If no line could be scored.
    """
    total = ScoredLines(LogFacts(failed_rule=failed_rule, official=official.facts))
    for scored in LineScorer(official, failed_rule, on_case).blocks(lines):
        total.merge(scored)
    return total.summary(official, subset, minimums)


class _Place(Enum):
    """What becomes of the lines of one `data_index`."""

    SCORED = "scored"
    WITHOUT_OFFICIAL = "without_official"
    OFFICIAL_FAILED = "official_failed"
    DUPLICATE = "duplicates"


class LineScorer:
    """Score lines in their order, block by block.

    Every sum over blocks is one that merges, so whoever scores the blocks, and wherever, the result is
    the same: `line_blocks` says where a block ends.
    """

    def __init__(
        self, official: OfficialIndex, failed_rule: FailedRule, on_case: OnCase | None = None
    ) -> None:
        """Begin.

        Args:
            official: The official answers; each is marked as used.
            failed_rule: What failed requests count as.
            on_case: Told of every scored line; see `score_results`.
        """
        self._official = official
        self._rule = failed_rule
        self._on_case = on_case
        self._scored = self._nothing()
        # The lines of one data_index that follow each other are repeats of one case.
        self._data_index: int | None = None
        self._position = 0
        self._place = _Place.SCORED
        self._repeat = 0

    def _nothing(self) -> ScoredLines:
        return ScoredLines(LogFacts(failed_rule=self._rule))

    def blocks(self, lines: Iterable[bytes], first_line: int = 1) -> Iterator[ScoredLines]:
        """Score the lines of one file, and give what each block of them adds up to.

        Args:
            lines: The lines.
            first_line: The number of the first one.
        """
        self._data_index = None
        counted = CountedLines(lines)
        start = 0
        for result in read_results(iter(counted), first_line):
            if counted.line_start - start >= BLOCK_BYTES and begins_case(result, self._data_index):
                yield self._scored
                self._scored, start = self._nothing(), counted.line_start
            self._add(result)
        yield self._scored
        self._scored = self._nothing()

    def block(self, lines: Iterable[bytes], first_line: int) -> ScoredLines:
        """Score the lines of one block, whatever their number."""
        self._data_index, self._scored = None, self._nothing()
        for result in read_results(iter(lines), first_line):
            self._add(result)
        return self._scored

    def again(self, result: Result, repeat: int) -> ScoredLine | None:
        """Judge one line once more, whatever stood before it; None if it has no official answer.

        Args:
            result: The line.
            repeat: Which of the lines of its case that follow each other it is, from 0.
        """
        position = None if result.data_index is None else self._official.find(result.data_index)
        if position is None or result.data_index is None:
            return None
        self._scored = self._nothing()
        self._position, self._repeat = position, repeat
        return self._score(result, result.data_index)

    def _add(self, result: Result | BadLine) -> None:
        log = self._scored.log
        log.lines += 1
        if isinstance(result, BadLine):
            log.unreadable.add(result.number)
        elif result.data_index is None:
            log.without_data_index.add(result.number)
        else:
            self._enter(result.data_index)
            if self._place is _Place.SCORED:
                self._score(result, result.data_index)
            else:
                log.left_out[self._place.value].add(result.data_index)

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
        self._scored.positions.append(position)
        if not self._official.use(position):
            self._place = _Place.DUPLICATE
        elif self._official.answer(position) is None and self._rule is FailedRule.LEFT_OUT:
            self._place = _Place.OFFICIAL_FAILED
        else:
            self._place = _Place.SCORED

    def _score(self, result: Result, data_index: int) -> ScoredLine:
        scored = self._scored
        scored.log.scored += 1
        scored.repeats = max(scored.repeats, self._repeat + 1)
        body = result.body if result.extra_body else result.request
        note = LineNote.from_json(result.note)
        case = self._case(body, data_index, note.redaction)
        scored.note_request(body, result.last_run_at)
        if self._repeat == 0:
            scored.note_repairs(case.repairs)
        duration_s = None if result.duration_ms is None else result.duration_ms / 1000
        case_index = case.index
        if note.redaction is not None and result.succeeded:
            judgement = judgement_of_log(
                case,
                finish_reason=literal_finish_reason(result.finish_reason),
                tool_calls_valid=result.tool_calls_valid,
                failures=note.redaction.failures,
            )
            judgement = replace(judgement, notes=note.redaction.notes, tools=note.redaction.tools)
            self._count(result.number, data_index, case_index, judgement)
            completion = result.response if isinstance(result.response, Mapping) else {}
            scored.observed.add(completion, duration_s, raw=note.raw)
            scored.log.redacted += 1
            return ScoredLine(case, self._repeat, judgement, duration_s=duration_s, redacted=True)
        response = read_completion(result.response) if result.succeeded else None
        if isinstance(response, Response):
            limit = token_limit_of(body)
            judgement = judge(case, response, note.stream_anomalies, token_limit=limit)
            self._count(result.number, data_index, case_index, judgement)
            scored.observed.add(response.completion, duration_s, raw=note.raw)
            self._compare(result, judgement, data_index)
            return ScoredLine(case, self._repeat, judgement, result.response, response, duration_s)
        if response is None:
            note, detail = _failure_of(result.response, note)
            kind = note.failure_class
            assert kind is not None, "a failed request has a class"
        else:
            kind, detail = response.failure_class, response.reason
            scored.log.no_completion.add(data_index)
        failed = FailedRequest(
            case_index,
            Failure(kind, detail),
            note.http_status,
            repeat=self._repeat,
            duration_s=duration_s or 0.0,
            as_no_call_against=case.official.should_call if self._rule is FailedRule.NO_CALL else None,
        )
        self._count(result.number, data_index, case_index, failed)
        redacted = note.redaction is not None
        logged = None if redacted else result.response
        return ScoredLine(case, self._repeat, failed, logged, duration_s=duration_s, redacted=redacted)

    def _count(
        self, number: int, data_index: int, case_index: int, judged: Judgement | FailedRequest
    ) -> None:
        if isinstance(judged, FailedRequest):
            self._scored.tally.add_failed(judged)
        else:
            self._scored.tally.add(case_index, judged)
        if isinstance(judged, FailedRequest) or judged.failures:
            self._scored.log.failed_lines.add(case_index, number, self._repeat)
        if self._on_case is not None:
            self._on_case(data_index, case_index, judged)

    def _case(
        self, body: Mapping[str, Any] | None, data_index: int, redaction: Redaction | None
    ) -> LoggedCase:
        official, position = self._official, self._position
        answer = official.answer(position) or _NO_CALL
        place = (official.case_index(position, data_index), data_index, official, position)
        if redaction is not None:
            return LoggedCase(*place, answer, redaction.repairs, None)
        asked = official.marks(position)
        sent = None if body is None else marks_of(body)
        if asked is not None and sent is not None and asked.content != sent.content:
            self._scored.log.other_request.add(data_index)
        input_role = official.input_role(position)
        repairs = Repairs() if asked is None else asked.repairs(sent, input_role=input_role)
        own_tools = None if body is None or official.has_rows else body.get("tools") or []
        own_messages = None if body is None else body.get("messages")
        return LoggedCase(*place, answer, repairs, own_tools, own_messages)

    def _compare(self, result: Result, judgement: Judgement, data_index: int) -> None:
        """Hold what the line says of itself against what it was judged to be."""
        log = self._scored.log
        if (
            result.has_finish_reason
            and literal_finish_reason(result.finish_reason) != judgement.finish_reason
        ):
            log.finish_reason_differs.add(data_index)
        if not result.has_tool_calls_valid or result.tool_calls_valid is judgement.tool_calls_valid:
            return
        # Of an empty list of calls some logs say false and some null: a schema error in both.
        if not (judgement.calls and True not in (result.tool_calls_valid, judgement.tool_calls_valid)):
            log.tool_calls_valid_differs.add(data_index)


def _failure_of(response: Any, note: LineNote) -> tuple[LineNote, str]:
    """Tell how a request failed: as noted, else as the error's text says."""
    error = response.get("error") if isinstance(response, Mapping) else response
    detail = error if isinstance(error, str) else shown(error, 300)
    if note.failure_class is None:
        note = note_of_error(detail)
    return note, excerpt(detail, 300)
