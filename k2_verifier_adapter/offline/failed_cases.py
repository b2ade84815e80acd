"""The failed cases of a run or a log, for the page that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from types import MappingProxyType
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.redaction import ToolNames
from k2_verifier_adapter.formats.runs import StoredRun
from k2_verifier_adapter.offline.official import LoggedCase
from k2_verifier_adapter.reports.failed_cases import (
    MOST_CASES,
    FailedCase,
    ShownCase,
    answered_case,
    redacted,
    request_case,
    took,
)

MOST_CHARACTERS = 50_000_000
"""Characters of all cases of a log together; the cases beyond them keep their failures, not their texts."""

_OFFICIAL_FAILED = "no completion: the official request failed, which counts as: does not call"

Texts = Mapping[tuple[int, int], str]
"""Stored responses by row number and repetition."""


def failed_cases_of_items(
    items: Iterable[Item], cases: Mapping[int, Case], texts: Texts = MappingProxyType({})
) -> Iterator[FailedCase]:
    """Give the failed requests and the judged responses with a failure, by row.

    Cases and stored responses are given by row number; a response that is no completion is all that is known
    of its request.
    """
    in_order = sorted(items, key=lambda item: (item.case_index, item.repeat))
    shown = (
        _failed_case(cases[item.case_index], item, texts.get((item.case_index, item.repeat)))
        for item in in_order
    )
    yield from islice((case for case in shown if case is not None), MOST_CASES)


def failed_cases_of_run(run: StoredRun, items: Iterable[Item]) -> Iterator[FailedCase]:
    """Give the failed requests and the stored responses with a failure, by row."""
    texts = {(record.case_index, record.repeat): record.response for record in run.records}
    return failed_cases_of_items(items, run.cases, texts)


def failed_case_of_line(case: LoggedCase, item: Item, logged: Any) -> FailedCase | None:
    """Give the view of a line of a log, None if nothing failed."""
    view = _failed_case(case, item, logged)
    failed = case.held_against.answer is None
    return replace(view, official=_OFFICIAL_FAILED) if view is not None and failed else view


def _failed_case(case: ShownCase, item: Item, raw: Any) -> FailedCase | None:
    """Give the view of what became of a request; `raw` is what came in place of a completion."""
    if isinstance(item, FailedRequest):
        return request_case(case, item, raw=raw)
    if not item.judgement.failures:
        return None
    effort = "" if item.duration_s is None else took(item.duration_s, item.attempts)
    return answered_case(case, item.response, item.judgement, repeat=item.repeat, effort=effort)


def redacted_cases(cases: Iterable[FailedCase], tools: Iterable[str]) -> Iterator[FailedCase]:
    """Give the cases without a word of prompts, tools or answers, tools numbered as in a redacted summary."""
    names = ToolNames()
    for name in tools:
        names.of(name)
    return (redacted(case, names) for case in cases)


class FirstFailedCases:
    """The failed cases of the first rows of a log, whatever the order of its lines.

    Texts are kept up to `MOST_CHARACTERS`: of the cases from the row on at which there are more, only the
    failures stay.
    """

    def __init__(self) -> None:
        self._held: list[FailedCase] = []
        self._characters = 0
        self._last_row: int | None = None
        self._texts_end: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[FailedCase]:
        """Give the cases by row."""
        self._prune()
        return iter(self._held)

    def wants(self, row: int) -> bool:
        """Whether a case of this row would be among the first."""
        return self._last_row is None or row <= self._last_row

    def add(self, case: FailedCase) -> None:
        """Take in a case."""
        self._held.append(case)
        self._characters += _characters(case)
        if len(self._held) >= 2 * MOST_CASES or self._characters > 2 * MOST_CHARACTERS:
            self._prune()

    def merge(self, other: FirstFailedCases) -> None:
        """Take in the cases that were found further down."""
        cases = list(other)
        ends = [end for end in (self._texts_end, other._texts_end) if end is not None]
        self._texts_end = min(ends, default=None)
        for case in cases:
            if self.wants(case.row):
                self.add(case)

    def _prune(self) -> None:
        first = sorted(self._held, key=_place)[:MOST_CASES]
        if len(first) == MOST_CASES:
            self._last_row = first[-1].row
        self._held, self._characters = [], 0
        for case in first:
            size = _characters(case)
            ended = self._texts_end is not None and _place(case) >= self._texts_end
            if ended or self._characters + size > MOST_CHARACTERS:
                self._texts_end = self._texts_end if ended else _place(case)
                self._held.append(FailedCase(case.row, case.data_index, case.repeat, case.failures))
            else:
                self._held.append(case)
                self._characters += size


def _place(case: FailedCase) -> tuple[int, int]:
    return case.row, case.repeat


def _characters(case: FailedCase) -> int:
    """Count the longest texts of a case; the others are parts of them."""
    return len(case.raw) + sum(len(turn.text) for turn in case.turns)
