"""From a response to what it is worth: one path for live, resumed, stored and logged ones.

What is judged is what is stored: a live response, too, is read from the text that its prediction holds.
Two halves of an emoji in two deltas are one character there, and two lone surrogates in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from k2_verifier_adapter.core.cases import Case, CaseLike
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.gateways import other_provider
from k2_verifier_adapter.core.json_text import cut_to
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.model_profiles import ModelProfile
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import token_limit_of
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion, read_completion

_STATUS_OF_ANSWERS = 200


class NumberedCase(CaseLike, Protocol):
    """A case with its place among the rows."""

    @property
    def index(self) -> int:
        """0-based row number."""


@dataclass(frozen=True, slots=True)
class JudgedResponse:
    """One completed response and what it is worth.

    Attributes:
        case_index: 0-based row number.
        duration_s: Seconds that the answer took; None if a log does not say.
        raw: Whether the response is the endpoint's own, not parsed by EvalScope before.
        masked: Whether a secret was taken out of what is judged.
        gateways: What its headers say that it passed through.
    """

    case_index: int
    repeat: int
    response: Response
    judgement: Judgement
    duration_s: float | None
    attempts: int
    raw: bool
    masked: bool = False
    gateways: tuple[str, ...] = ()


Item = JudgedResponse | FailedRequest
"""What became of one request."""


def judge_response(
    case: NumberedCase,
    response: Response | NotACompletion,
    *,
    parameters: Mapping[str, Any] | None,
    stream_anomalies: Iterable[FailureClass] = (),
    repeat: int = 0,
    duration_s: float | None = None,
    attempts: int = 1,
    raw: bool = True,
    masked: bool = False,
    gateways: tuple[str, ...] = (),
    profile: ModelProfile | None = None,
) -> Item:
    """Judge what was answered; what is no completion, or another provider's, is a failed request.

    The arguments by name are what `JudgedResponse` and `Judgement` keep of them; `parameters` are those of
    the request, None if they are not known. What EvalScope's other APIs make of a token limit is not, so no
    answer of theirs is held against it. `profile` is the model's.
    """
    if isinstance(response, NotACompletion):
        failure = Failure(response.failure_class, response.reason)
        status = _STATUS_OF_ANSWERS if raw else None
        return FailedRequest(case.index, failure, status, attempts, repeat, duration_s or 0.0)
    if (said := other_provider(parameters, response.completion)) is not None:
        failure = Failure(FailureClass.OTHER_PROVIDER, said)
        return FailedRequest(case.index, failure, _STATUS_OF_ANSWERS, attempts, repeat, duration_s or 0.0)
    token_limit = token_limit_of(parameters) if raw else None
    judgement = judge(case, response, stream_anomalies, token_limit=token_limit, profile=profile)
    return JudgedResponse(
        case.index, repeat, response, judgement, duration_s, attempts, raw, masked, gateways
    )


def judge_record(case: NumberedCase, record: ResponseRecord, profile: ModelProfile | None = None) -> Item:
    """Judge a response from its stored text, just received or read back."""
    return judge_response(
        case,
        parse_completion(record.response),
        parameters=record.request.parameters,
        stream_anomalies=record.stream_anomalies,
        repeat=record.repeat,
        duration_s=record.duration_s,
        attempts=record.attempts,
        raw=record.raw,
        masked=record.masked,
        gateways=record.gateways,
        profile=profile,
    )


KEPT_ELEMENTS = 20_000
"""Members and items of a completion that are kept until a run ends; hostile ones have a million of them."""


def kept_of(judged: JudgedResponse, text: str) -> JudgedResponse:
    """Give what the end of a run needs of a judged response, whose text is on disk: mostly all of it."""
    if text.count(",") <= KEPT_ELEMENTS:
        return judged
    response = read_completion(cut_to(judged.response.completion, KEPT_ELEMENTS))
    return judged if isinstance(response, NotACompletion) else replace(judged, response=response)


def judge_all(
    cases: Mapping[int, Case], records: Iterable[ResponseRecord], profile: ModelProfile | None = None
) -> Iterator[Item]:
    """Judge stored responses; the cases are given by 0-based row number."""
    for record in records:
        yield judge_record(cases[record.case_index], record, profile)
