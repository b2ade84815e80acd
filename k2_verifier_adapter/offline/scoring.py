"""Scoring a results file offline: line by line, from the raw responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.history import Repairs, marks_of
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judged import Item, judge_response
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.log_facts import FailedRule, LogFacts
from k2_verifier_adapter.core.model_profiles import ModelProfile, choose_profile
from k2_verifier_adapter.core.responses import literal_finish_reason, read_completion
from k2_verifier_adapter.core.run_facts import StoppingRule
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import NO_GATE, GateOptions
from k2_verifier_adapter.formats.lines import Advance
from k2_verifier_adapter.formats.upstream import (
    BadLine,
    LineNote,
    Result,
    note_of_error,
    open_results,
    read_results,
)
from k2_verifier_adapter.offline.failed_cases import FirstFailedCases, failed_case_of_line
from k2_verifier_adapter.offline.official import LoggedCase, OfficialAnswers, OfficialCase
from k2_verifier_adapter.offline.reruns import (
    NOTHING_DROPPED,
    Dropped,
    find_dropped,
    line_data_index,
    rereadable,
)
from k2_verifier_adapter.offline.scored_lines import ScoredLines
from k2_verifier_adapter.reports.failed_cases import FailedCase

BLOCK_BYTES = 4 << 20
"""A block ends before the first line behind so many bytes that begins another case."""

OnCase = Callable[[LoggedCase, Item], None]


@dataclass(frozen=True, slots=True)
class Log:
    """What is to be scored; the lines of all files are numbered through.

    Attributes:
        profile: The model profile to judge by; None if the model's name, or the subset, tells it.
    """

    files: Sequence[Path]
    subset: str | None = None
    failed_rule: FailedRule = FailedRule.LEFT_OUT
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one file that can be scored apart, and the number of the first.

    Lines of one case that follow each other stand in one block: together they are a cluster.
    """

    source: str
    first_line: int
    lines: Sequence[bytes]


ScoreBlocks = Callable[[Iterable[Block]], Iterable[ScoredLines]]
"""Scores blocks, and gives the sums in their order."""

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
    with rereadable(log.files) as files, ExitStack() as stack:
        dropped = find_dropped(_lines(files, log.subset), _lines(files, log.subset))
        scorer = LineScorer(
            official,
            log.failed_rule,
            dropped,
            keep_failed=keep_failed,
            on_case=on_case,
            profile_of=partial(choose_profile, subset=log.subset or "", chosen=log.profile),
        )
        total = scorer.nothing()
        # Of its own: what is unused depends on the log, and several may be held against the same answers.
        total.log.official = replace(official.facts)
        blocks = _blocks(log, files, advance)
        if open_engine is None:
            parts: Iterable[ScoredLines] = map(scorer.score, blocks)
        else:
            parts = stack.enter_context(open_engine(scorer))(blocks)
        for part in parts:
            total.merge(part)
    return total.summary(official, log.subset, gate, log.profile), total.failed_cases or ()


def _lines(files: Iterable[Path], subset: str | None) -> Iterator[Iterable[bytes]]:
    for file in files:
        with open_results(file, subset) as lines:
            yield lines


def _blocks(log: Log, files: Iterable[Path], advance: Advance) -> Iterator[Block]:
    first_line = 1
    for path, file in zip(log.files, files, strict=True):
        with open_results(file, log.subset, advance) as lines:
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
    data_index = line_data_index(line, first_line + len(before))
    if data_index is None:
        return False
    for place in reversed(range(len(before))):
        last = line_data_index(before[place], first_line + place)
        if last is not None:
            return last != data_index
    return True


class LineScorer:
    """Scores blocks of lines; whoever scores them, and wherever, what they add up to is the same."""

    def __init__(
        self,
        official: OfficialAnswers,
        failed_rule: FailedRule,
        dropped: Dropped = NOTHING_DROPPED,
        *,
        keep_failed: bool = False,
        on_case: OnCase | None = None,
        profile_of: Callable[..., ModelProfile] = choose_profile,
    ) -> None:
        """Begin; `on_case` is told of every scored line, `profile_of` knows the profile of a `model`."""
        self._official = official
        self._rule = failed_rule
        self._dropped = dropped
        self._keep_failed = keep_failed
        self._on_case = on_case
        self._looked_at: dict[StoppingRule, frozenset[int]] = {}
        self._profile_of = profile_of

    def nothing(self) -> ScoredLines:
        """Give what no line adds up to."""
        log = LogFacts(failed_rule=self._rule)
        return ScoredLines(log, failed_cases=FirstFailedCases() if self._keep_failed else None)

    def score(self, block: Block) -> ScoredLines:
        """Score the lines of a block."""
        scored = self.nothing()
        log = scored.log
        for result in read_results(block.lines, block.first_line, source=block.source):
            log.lines += 1
            if isinstance(result, BadLine):
                log.unreadable.add(result.number)
                continue
            data_index = result.data_index
            if data_index is None:
                log.without_data_index.add(result.number)
                continue
            note = LineNote.from_json(result.note)
            scored.plans.add(note.plan)
            official = self._official.cases.get(data_index)
            if official is None:
                log.without_official.add(data_index)
            elif not self._decided_on(note.plan.stopping, data_index):
                scored.under_way += 1
            elif result.number in self._dropped.superseded:
                log.superseded.add(data_index)
            elif result.number in self._dropped.apart:
                log.duplicates.add(data_index)
            elif official.answer is None and self._rule is FailedRule.LEFT_OUT:
                log.official_failed.add(data_index)
            else:
                case = self._logged_case(scored, result, official, data_index)
                self._add(scored, result, case, note)
        return scored

    def _decided_on(self, rule: StoppingRule | None, data_index: int) -> bool:
        """Whether a case is among those that a run judged at its last look."""
        if rule is None:
            return True
        if rule not in self._looked_at:
            self._looked_at[rule] = self._official.looked_at(rule)
        return data_index in self._looked_at[rule]

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

    def _add(self, scored: ScoredLines, result: Result, case: LoggedCase, note: LineNote) -> None:
        """Judge one line, and count it."""
        body = _body_of(result)
        item = self._judge(result, case, note, body)
        scored.log.scored += 1
        scored.repeats = max(scored.repeats, result.repeat + 1)
        scored.note_request(body, result.last_run_at, case.held_against.parameters)
        if case.data_index not in scored.answered:
            scored.note_repairs(case.repairs)
        scored.answered.add(case.data_index)
        if isinstance(item, FailedRequest):
            scored.tally.add_failed(item)
            if result.succeeded:
                scored.log.no_completion.add(case.data_index)
        else:
            scored.tally.add(case.index, item.judgement)
            scored.observed.add(
                item.response.completion,
                item.duration_s,
                raw=note.raw,
                masked=note.masked,
                attempts=item.attempts,
            )
            _compare(scored.log, result, item.judgement, case.data_index)
        if scored.failed_cases is not None and scored.failed_cases.wants(case.index):
            shown = failed_case_of_line(case, item, result.response)
            if shown is not None:
                scored.failed_cases.add(shown)
        if self._on_case is not None:
            self._on_case(case, item)

    def _judge(
        self, result: Result, case: LoggedCase, note: LineNote, body: Mapping[str, Any] | None
    ) -> Item:
        duration_s = None if result.duration_ms is None else result.duration_ms / 1000
        if result.succeeded:
            item = judge_response(
                case,
                read_completion(result.response),
                parameters=body,
                stream_anomalies=note.stream_anomalies,
                repeat=result.repeat,
                duration_s=duration_s,
                attempts=note.attempts,
                raw=note.raw,
                profile=self._profile_of(model=_model_of(body)),
            )
        else:
            kind, status, detail = _failure_of(result.response, note)
            failure = Failure(kind, detail)
            item = FailedRequest(case.index, failure, status, note.attempts, result.repeat, duration_s or 0.0)
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


def _model_of(body: Mapping[str, Any] | None) -> str:
    model = None if body is None else body.get("model")
    return model if isinstance(model, str) else ""


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
