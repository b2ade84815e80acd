"""From stored responses to judged ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.judging.judgement import Judgement, judge
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion


def judge_record(case: Case, record: ResponseRecord) -> tuple[Response, Judgement] | FailedRequest:
    """Judge a stored response; one that is no completion is a failed request."""
    response = parse_completion(record.response)
    if isinstance(response, NotACompletion):
        failure = Failure(response.failure_class, response.reason)
        return FailedRequest(case.index, failure, repeat=record.repeat, duration_s=record.duration_s)
    anomalies, limit = record.stream_anomalies, record.token_limit
    return response, judge(case, response, anomalies, token_limit=limit)


@dataclass(frozen=True, slots=True)
class JudgedResponse:
    """One completed response and what it is worth.

    Attributes:
        case: The case that was asked.
        repeat: 0-based repetition.
        response: Choice 0 of the completion.
        judgement: What it is worth.
        duration_s: Seconds that the answer took.
        attempts: Attempts that it took.
        raw: Whether the response is the endpoint's own, not parsed by EvalScope before.
    """

    case: Case
    repeat: int
    response: Response
    judgement: Judgement
    duration_s: float
    attempts: int
    raw: bool

    @property
    def case_index(self) -> int:
        """0-based row number."""
        return self.case.index


Item = JudgedResponse | FailedRequest
"""What became of one request."""


def judge_all(cases: Mapping[int, Case], records: Iterable[ResponseRecord]) -> Iterator[Item]:
    """Judge stored responses; one that is no completion is a failed request.

    Args:
        cases: The evaluated cases by 0-based row number.
        records: The stored responses.
    """
    for record in records:
        case = cases[record.case_index]
        judged = judge_record(case, record)
        if isinstance(judged, FailedRequest):
            yield judged
        else:
            yield JudgedResponse(case, record.repeat, *judged, record.duration_s, record.attempts, record.raw)
