"""Scoring a results file offline: line by line, from the raw responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import Repairs, marks_of
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judged import Item, judge_response
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.log_facts import FailedRule, LogFacts
from k2_verifier_adapter.core.responses import literal_finish_reason, read_completion
from k2_verifier_adapter.core.run_facts import StoppingRule
from k2_verifier_adapter.core.sampling import stratified_order
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import NO_GATE, GateOptions
from k2_verifier_adapter.formats.lines import Advance, json_objects
from k2_verifier_adapter.formats.upstream import (
    BadLine,
    LineNote,
    Result,
    data_index_of,
    note_of_error,
    open_results,
    read_results,
)
from k2_verifier_adapter.offline.failed_cases import FirstFailedCases, failed_case_of_line
from k2_verifier_adapter.offline.official import LoggedCase, OfficialAnswers, OfficialCase
from k2_verifier_adapter.offline.scored_lines import ScoredLines
from k2_verifier_adapter.reports.failed_cases import FailedCase

BLOCK_BYTES = 4 << 20
"""A block ends before the first line behind so many bytes that begins another case."""

OnCase = Callable[[LoggedCase, Item], None]


@dataclass(frozen=True, slots=True)
class Log:
    """What is to be scored; the lines of all files are numbered through."""

    files: Sequence[Path]
    subset: str | None = None
    failed_rule: FailedRule = FailedRule.LEFT_OUT


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one file that can be scored apart, and the number of the first.

    Lines of one case that follow each other stand in one block.
    """

    source: str
    first_line: int
    lines: Sequence[bytes]


ScoreBlocks = Callable[[Iterable[Block]], Iterator[tuple[Block, ScoredLines]]]
"""Scores blocks as if no line before them answered any of their cases, and gives the sums in their order."""

OpenEngine = Callable[["LineScorer"], AbstractContextManager[ScoreBlocks]]
"""Begins to score with a scorer somewhere else than in this process."""


def score_log(
    log: Log,
    official: OfficialAnswers,
    *,
    gate: GateOptions = NO_GATE,
    advance: Advance = lambda _: None,
    open_engine: OpenEngine | None = None,
    keep_failed: bool = False,
    on_case: OnCase | None = None,
) -> tuple[Summary, Iterable[FailedCase]]:
    """Judge every line of some files and summarize them; also give the first failed cases, by row.

    A line is judged against the tools of the rows, where rows are given; else against those of its own
    request; and against those of the official request where it does not hold its own. Without an engine, this
    process scores the blocks; only then `on_case` is told of every scored line.

    Raises:
        DataError: If a file cannot be read, a line is redacted, or no line could be scored.
    """
    scorer = LineScorer(official, log.failed_rule, keep_failed=keep_failed, on_case=on_case)
    total = scorer.nothing()
    total.log.official = official.facts
    blocks = _blocks(log, advance)
    with ExitStack() as stack:
        if open_engine is None:
            parts = (scorer.score(block, total.answered) for block in blocks)
        else:
            scored = stack.enter_context(open_engine(scorer))(blocks)
            parts = (
                # A case of it may stand further up as well, which only this process knows.
                part if part.answered.isdisjoint(total.answered) else scorer.score(block, total.answered)
                for block, part in scored
            )
        for part in parts:
            total.merge(part)
    return total.summary(official, log.subset, gate), total.failed_cases or ()


def _blocks(log: Log, advance: Advance) -> Iterator[Block]:
    first_line = 1
    for path in log.files:
        with open_results(path, log.subset, advance) as lines:
            for block in cut_into_blocks(lines, first_line, str(path)):
                yield block
                first_line = block.first_line + len(block.lines)


def cut_into_blocks(lines: Iterable[bytes], first_line: int = 1, source: str = "") -> Iterator[Block]:
    """Cut the lines of a file into blocks; few of them are decoded for it."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        if size >= BLOCK_BYTES and _begins_case(line, held, first_line):
            yield Block(source, first_line, held)
            first_line += len(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    if held:
        yield Block(source, first_line, held)


def _begins_case(line: bytes, before: Sequence[bytes], first_line: int) -> bool:
    """Whether a line begins another case than that of the lines before it."""
    data_index = _data_index(line, first_line + len(before))
    if data_index is None:
        return False
    for place in reversed(range(len(before))):
        last = _data_index(before[place], first_line + place)
        if last is not None:
            return last != data_index
    return True


def _data_index(line: bytes, number: int) -> int | None:
    for _, value in json_objects((line,), number):
        return data_index_of(value) if isinstance(value, dict) else None
    return None


class _Place(Enum):
    """What becomes of the lines of one `data_index`."""

    SCORED = "scored"
    WITHOUT_OFFICIAL = "without_official"
    OFFICIAL_FAILED = "official_failed"
    DUPLICATE = "duplicates"


class LineScorer:
    """Scores blocks of lines; whoever scores them, and wherever, what they add up to is the same."""

    def __init__(
        self,
        official: OfficialAnswers,
        failed_rule: FailedRule,
        *,
        keep_failed: bool = False,
        on_case: OnCase | None = None,
    ) -> None:
        """Begin; `on_case` is told of every scored line."""
        self._official = official
        self._rule = failed_rule
        self._keep_failed = keep_failed
        self._on_case = on_case
        self._judged: dict[StoppingRule, frozenset[int]] = {}

    def nothing(self) -> ScoredLines:
        """Give what no line adds up to."""
        log = LogFacts(failed_rule=self._rule)
        return ScoredLines(log, failed_cases=FirstFailedCases() if self._keep_failed else None)

    def score(self, block: Block, answered: AbstractSet[int] = frozenset()) -> ScoredLines:
        """Score the lines of a block.

        `answered` holds the `data_index` of every official answer that a line further up is for.
        """
        scored = self.nothing()
        current: int | None = None
        place, repeat = _Place.SCORED, 0
        for result in read_results(block.lines, block.first_line, source=block.source):
            scored.log.lines += 1
            if isinstance(result, BadLine):
                scored.log.unreadable.add(result.number)
                continue
            data_index = result.data_index
            if data_index is None:
                scored.log.without_data_index.add(result.number)
                continue
            note = LineNote.from_json(result.note)
            scored.rules.add(note.stopping)
            official = self._official.cases.get(data_index)
            if note.stopping is not None and official and data_index not in self._judged_by(note.stopping):
                scored.under_way += 1
                continue
            # The lines of one data_index that follow each other are repeats of one case.
            if data_index == current:
                repeat += 1
            else:
                current, repeat = data_index, 0
                is_answered = data_index in answered or data_index in scored.answered
                place = self._place_of(data_index, is_answered=is_answered)
            if official is not None:
                scored.answered.add(data_index)
            if official is None or place is not _Place.SCORED:
                scored.log.left_out[place.value].add(data_index)
            else:
                case = self._logged_case(scored, result, official, data_index)
                self._add(scored, result, case, note, repeat)
        return scored

    def _judged_by(self, rule: StoppingRule) -> frozenset[int]:
        """Give the `data_index` of the cases that a rule's last look judged.

        They follow from the rows; what a log says of its own order is not asked.
        """
        if rule not in self._judged:
            known = {
                data_index: case.answer.should_call
                for data_index, case in self._official.cases.items()
                if case.answer is not None
            }
            drawn = stratified_order(known, rule.seed)[: rule.design.maximum]
            order = stratified_order({data_index: known[data_index] for data_index in drawn}, rule.seed)
            self._judged[rule] = frozenset(order[: rule.cases])
        return self._judged[rule]

    def _place_of(self, data_index: int, *, is_answered: bool) -> _Place:
        official = self._official.cases.get(data_index)
        if official is None:
            return _Place.WITHOUT_OFFICIAL
        if is_answered:
            return _Place.DUPLICATE
        if official.answer is None and self._rule is FailedRule.LEFT_OUT:
            return _Place.OFFICIAL_FAILED
        return _Place.SCORED

    def _logged_case(
        self, scored: ScoredLines, result: Result, official: OfficialCase, data_index: int
    ) -> LoggedCase:
        """Tell what is known of a logged request, and note in what it differs from the official one."""
        body = _body_of(result)
        asked, sent = official.marks, None if body is None else marks_of(body)
        if asked is not None and sent is not None and asked.content != sent.content:
            scored.log.other_request.add(data_index)
        return LoggedCase(
            index=official.index,
            data_index=data_index,
            held_against=official,
            repairs=Repairs() if asked is None else asked.repairs(sent, input_role=official.input_role),
            own_tools=None if body is None or self._official.has_rows else body.get("tools") or [],
            own_messages=None if body is None else body.get("messages"),
        )

    def _add(
        self, scored: ScoredLines, result: Result, case: LoggedCase, note: LineNote, repeat: int
    ) -> None:
        """Judge one line, and count it."""
        body = _body_of(result)
        item = self._judge(result, case, note, body, repeat)
        scored.log.scored += 1
        scored.repeats = max(scored.repeats, repeat + 1)
        scored.note_request(body, result.last_run_at, case.held_against.parameters)
        if repeat == 0:
            scored.note_repairs(case.repairs)
        if isinstance(item, FailedRequest):
            scored.tally.add_failed(item)
            if item.as_no_call_against is None:
                scored.unanswered[case.official.should_call] += 1
            if result.succeeded:
                scored.log.no_completion.add(case.data_index)
        else:
            scored.tally.add(case.index, item.judgement)
            scored.observed.add(item.response.completion, item.duration_s, raw=note.raw)
            _compare(scored.log, result, item.judgement, case.data_index)
        if scored.failed_cases is not None and scored.failed_cases.wants(case.index):
            shown = failed_case_of_line(case, item, result.response)
            if shown is not None:
                scored.failed_cases.add(shown)
        if self._on_case is not None:
            self._on_case(case, item)

    def _judge(
        self, result: Result, case: LoggedCase, note: LineNote, body: Mapping[str, Any] | None, repeat: int
    ) -> Item:
        duration_s = None if result.duration_ms is None else result.duration_ms / 1000
        if result.succeeded:
            item = judge_response(
                case,
                read_completion(result.response),
                parameters=body,
                stream_anomalies=note.stream_anomalies,
                repeat=repeat,
                duration_s=duration_s,
                raw=note.raw,
            )
        else:
            kind, status, detail = _failure_of(result.response, note)
            failure = Failure(kind, detail)
            item = FailedRequest(case.index, failure, status, repeat=repeat, duration_s=duration_s or 0.0)
        if isinstance(item, FailedRequest) and self._rule is FailedRule.NO_CALL:
            return replace(
                item,
                as_no_call_against=case.official.should_call,
                official_runs=case.official.runs,
            )
        return item


def _body_of(result: Result) -> Mapping[str, Any] | None:
    """Give the request as the server saw it; None if the line does not hold it."""
    return result.body if result.extra_body else result.request


def _compare(log: LogFacts, result: Result, judgement: Judgement, data_index: int) -> None:
    """Hold what the line says of itself against what it was judged to be."""
    if result.has_finish_reason and literal_finish_reason(result.finish_reason) != judgement.finish_reason:
        log.finish_reason_differs.add(data_index)
    if not result.has_tool_calls_valid or result.tool_calls_valid is judgement.tool_calls_valid:
        return
    # Of an empty list of calls some logs say false and some null: a schema error in both.
    if not (judgement.calls and True not in (result.tool_calls_valid, judgement.tool_calls_valid)):
        log.tool_calls_valid_differs.add(data_index)


def _failure_of(response: Any, note: LineNote) -> tuple[FailureClass, int | None, str]:
    """Tell how a request failed, by class, status and detail: as noted, else as the error's text says."""
    error = response.get("error") if isinstance(response, Mapping) else response
    detail = error if isinstance(error, str) else shown(error, 300)
    found = note if note.failure_class is not None else note_of_error(detail)
    return found.failure_class or FailureClass.NOT_A_COMPLETION, found.http_status, excerpt(detail, 300)
