"""The failed cases of a scored log, from those of its lines that are read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from heapq import merge
from itertools import islice

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.redaction import ToolNames
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.offline.scoring.logged_cases import ScoredLine
from k2_verifier_adapter.reports.failed_cases.case import MOST_CASES, FailedCase
from k2_verifier_adapter.reports.failed_cases.views import (
    answered_case,
    ended,
    official,
    redacted,
    request_case,
    took,
)

_LITERAL = ("tool_calls", "stop", "length", "content_filter")
"""An official finish_reason that the index keeps as it was."""


def failed_cases_of_log(
    summary: Summary, lines: Iterable[ScoredLine], *, redact: bool = False
) -> Iterator[FailedCase]:
    """Give the failed cases of a log, by row: those that could be read again, with their texts.

    Of the others it gives what the summary knows: their rows and failure classes.

    Args:
        summary: What the log was found to be.
        lines: Its failed lines, read again, by row.
        redact: Whether to leave out whatever may repeat prompts, tools or answers.
    """
    names = ToolNames()
    for name in summary.tally.tools.by_name if redact else ():
        names.of(name)
    read = (redacted(case, names) if redact else case for case in map(_case, lines))
    # Of one row, what was read comes first.
    cases = merge(read, failed_cases_of_summary(summary), key=lambda case: case.row)
    return islice(_each_once(cases), MOST_CASES)


def failed_cases_of_summary(summary: Summary) -> Iterator[FailedCase]:
    """Give what a summary alone knows of the failed cases: their rows and failure classes."""
    found: dict[int, list[Failure]] = {}
    for kind in FailureClass:
        for row in summary.tally.failure_cases.get(kind, ()):
            found.setdefault(row, []).append(Failure(kind, ""))
    for row in sorted(found)[:MOST_CASES]:
        yield FailedCase(row, row + 1, 0, tuple(found[row]))


def _each_once(cases: Iterable[FailedCase]) -> Iterator[FailedCase]:
    """Leave out the cases that the summary knows of where they were read."""
    last = None
    for case in cases:
        if case.ended or case.row != last:
            yield case
        last = case.row


def _case(line: ScoredLine) -> FailedCase:
    case, judged = line.case, line.judged
    effort = "" if line.duration_s is None else took(line.duration_s)
    if isinstance(judged, FailedRequest):
        view = request_case(case, judged, raw=line.logged)
        view = replace(view, official_calls=()) if line.redacted else view
    elif line.response is not None:
        view = answered_case(case, line.response, judged, repeat=line.repeat, effort=effort)
    else:
        view = FailedCase(
            *(case.index, case.data_index, line.repeat),
            judged.failures,
            ended=ended(judged.finish_reason),
            effort=effort,
        )
    return replace(view, official=_official(line))


def _official(line: ScoredLine) -> str:
    if line.case.official_failed:
        return "no completion: the official request failed, which counts as: does not call"
    answer = line.case.official
    return official(answer if answer.finish_reason in _LITERAL else replace(answer, finish_reason=None))
