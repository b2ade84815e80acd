"""The failed cases of a run: of what it judged itself, or of its stored responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.judged import JudgedResponse, judge_all
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.secrets.redaction import ToolNames
from k2_verifier_adapter.formats.runs import StoredRun
from k2_verifier_adapter.reports.failed_cases.case import MOST_CASES, FailedCase
from k2_verifier_adapter.reports.failed_cases.views import answered_case, redacted, request_case, took

Item = JudgedResponse | FailedRequest


def failed_cases_of_items(items: Iterable[Item], cases: Mapping[int, Case]) -> Iterator[FailedCase]:
    """Give the failed requests and the judged responses with a failure, by row.

    Args:
        items: The judged responses and the failed requests.
        cases: The evaluated cases by 0-based row number.
    """
    shown = (_shown(item, cases) for item in sorted(items, key=_place))
    yield from islice((case for case in shown if case is not None), MOST_CASES)


def failed_cases_of_run(
    run: StoredRun, *, redact: bool = False, tools: Iterable[str] = ()
) -> Iterator[FailedCase]:
    """Judge the stored responses again and give those with a failure, and the failed requests, by row.

    Args:
        run: The run.
        redact: Whether to leave out whatever may repeat prompts, tools or answers.
        tools: Names of tools in the order in which a redacted summary numbers them.
    """
    names = ToolNames()
    for name in tools:
        names.of(name)
    for case in islice(_of_run(run), MOST_CASES):
        yield redacted(case, names) if redact else case


def _of_run(run: StoredRun) -> Iterator[FailedCase]:
    stored_items: list[ResponseRecord | FailedRequest] = list(run.records)
    stored_items += [request for request in run.failed if request.case_index in run.cases]
    for stored in sorted(stored_items, key=_place):
        raw = None
        if isinstance(stored, FailedRequest):
            item: Item = stored
        else:
            (item,) = judge_all(run.cases, [stored])
            # A response that is no completion is all that is known of the request.
            raw = stored.response if isinstance(item, FailedRequest) else None
        case = _shown(item, run.cases, raw)
        if case is not None:
            yield case


def _place(item: Item | ResponseRecord) -> tuple[int, int]:
    return item.case_index, item.repeat


def _shown(item: Item, cases: Mapping[int, Case], raw: str | None = None) -> FailedCase | None:
    case = cases[item.case_index]
    if isinstance(item, FailedRequest):
        return request_case(case, item, raw=raw)
    if not item.judgement.failures:
        return None
    effort = took(item.duration_s, item.attempts)
    return answered_case(case, item.response, item.judgement, repeat=item.repeat, effort=effort)
