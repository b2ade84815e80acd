"""The failed cases of a run: of what it judged itself, or of its stored responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.redaction import ToolNames
from k2_verifier_adapter.formats.runs import StoredRun
from k2_verifier_adapter.offline.stored import judge_run
from k2_verifier_adapter.reports.failed_cases.case import MOST_CASES, FailedCase
from k2_verifier_adapter.reports.failed_cases.views import answered_case, redacted, request_case, took

Texts = Mapping[tuple[int, int], str]
"""Stored responses by row number and repetition."""


def failed_cases_of_items(
    items: Iterable[Item], cases: Mapping[int, Case], texts: Texts = MappingProxyType({})
) -> Iterator[FailedCase]:
    """Give the failed requests and the judged responses with a failure, by row.

    Args:
        items: The judged responses and the failed requests.
        cases: The evaluated cases by 0-based row number.
        texts: Stored responses; one that is no completion is all that is known of its request.
    """
    in_order = sorted(items, key=lambda item: (item.case_index, item.repeat))
    shown = (_shown(item, cases[item.case_index], texts) for item in in_order)
    yield from islice((case for case in shown if case is not None), MOST_CASES)


def failed_cases_of_run(
    run: StoredRun, items: Iterable[Item] | None = None, *, redact: bool = False, tools: Iterable[str] = ()
) -> Iterator[FailedCase]:
    """Give the failed requests and the stored responses with a failure, by row.

    Args:
        run: The run.
        items: What `judge_run` gave for it, where it was judged before.
        redact: Whether to leave out whatever may repeat prompts, tools or answers.
        tools: Names of tools in the order in which a redacted summary numbers them.
    """
    names = ToolNames()
    for name in tools:
        names.of(name)
    texts = {(record.case_index, record.repeat): record.response for record in run.records}
    for case in failed_cases_of_items(judge_run(run) if items is None else items, run.cases, texts):
        yield redacted(case, names) if redact else case


def _shown(item: Item, case: Case, texts: Texts) -> FailedCase | None:
    if isinstance(item, FailedRequest):
        return request_case(case, item, raw=texts.get((item.case_index, item.repeat)))
    if not item.judgement.failures:
        return None
    effort = "" if item.duration_s is None else took(item.duration_s, item.attempts)
    return answered_case(case, item.response, item.judgement, repeat=item.repeat, effort=effort)
