"""What a session has to do: which samples have a stored answer, which are to be asked, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalscope.api.dataset import Dataset, Sample
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import estimate_prompt_tokens
from k2_verifier_adapter.core.responses import NotACompletion, parse_completion, reported_tokens
from k2_verifier_adapter.errors import CacheMismatchError
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner
from k2_verifier_adapter.formats.runs import RunPaths, read_predictions

logger = get_logger()

CASE_KEY = "case"
"""Key of the case in a sample's metadata."""

_ENOUGH = 200
"""Stored answers that are read to scale the estimate of the prompt tokens."""


@dataclass(slots=True)
class WorkItem:
    """One sample to answer, or one stored answer to judge again.

    Attributes:
        subset: The subset.
        sample: The sample.
        case: Its case.
        repeat: 0-based repetition.
        stored: The stored answer, or None.
    """

    subset: str
    sample: Sample
    case: Case
    repeat: int
    stored: ResponseRecord | None

    @property
    def needs_predict(self) -> bool:
        """Whether a request is due; EvalScope's own name, which `eval` reads."""
        return self.stored is None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the requests of a subset will come to, if none has to be repeated.

    Attributes:
        requests: Requests to send.
        stored: Answers that are stored already.
        prompt_tokens: Estimated prompt tokens of the requests to send.
        measured: Stored answers whose reported prompt tokens corrected the estimate.
    """

    requests: int
    stored: int
    prompt_tokens: int
    measured: int

    def __str__(self) -> str:
        """Say it in one line."""
        known = f" ({self.stored:,} answers are stored)" if self.stored else ""
        by = f"scaled by {self.measured:,} stored answers" if self.measured else "estimated from their length"
        tokens = f"about {_rounded(self.prompt_tokens):,} prompt tokens ({by})"
        return f"{self.requests:,} requests to send{known}, {tokens}, retries not counted"


def collect(
    planner: RequestPlanner, paths: RunPaths, dataset: Dataset, repeats: int, *, resume: bool
) -> list[WorkItem]:
    """Match every sample of a subset with its stored answer.

    Args:
        planner: Knows the request of each case.
        paths: Where answers are stored.
        dataset: The samples.
        repeats: Samples for each row.
        resume: Whether stored answers belong to this run.

    Raises:
        CacheMismatchError: If stored answers are to other requests.
    """
    stored = _stored_records(paths) if resume else {}
    items = []
    for sample in dataset:
        case: Case = sample.metadata[CASE_KEY]
        repeat = int(sample.id) % repeats
        items.append(WorkItem(paths.subset, sample, case, repeat, stored.get((case.index, repeat))))
    _refuse_other_requests(planner, items, paths)
    return items


def cost_of(items: Sequence[WorkItem]) -> Cost:
    """Estimate what the unanswered items cost, by the measure of stored answers where they tell theirs."""
    to_send = [item for item in items if item.stored is None]
    answered = [item for item in items if item.stored is not None]
    measured = [
        (item, tokens) for item in answered[:_ENOUGH] if (tokens := _reported_prompt_tokens(item.stored))
    ]
    estimated = sum(_estimate(item.case) for item, _ in measured)
    scale = sum(tokens for _, tokens in measured) / estimated if estimated else 1.0
    expected = scale * sum(_estimate(item.case) for item in to_send)
    return Cost(len(to_send), len(answered), round(expected), len(measured))


def tokens_of(case: Case, completion: Mapping[str, Any], text: str) -> int:
    """Give the tokens that an answer used; where the vendor does not say, what it must be about."""
    parts = (reported_tokens(completion, name) for name in ("prompt_tokens", "completion_tokens"))
    reported = reported_tokens(completion, "total_tokens") or sum(parts)
    return reported or round(_estimate(case) + estimate_prompt_tokens(text.encode()))


def _estimate(case: Case) -> float:
    return estimate_prompt_tokens(case.messages_json, case.tools_json)


def _reported_prompt_tokens(record: ResponseRecord | None) -> int:
    if record is None:
        return 0
    response = parse_completion(record.response)
    return (
        0 if isinstance(response, NotACompletion) else reported_tokens(response.completion, "prompt_tokens")
    )


def _rounded(number: int) -> int:
    """Round to two significant digits: more would claim a precision that the estimate lacks."""
    return round(number, 2 - len(str(number))) if number > 99 else number


def _refuse_other_requests(planner: RequestPlanner, items: Sequence[WorkItem], paths: RunPaths) -> None:
    stored = [(item, item.stored) for item in items if item.stored is not None]
    differing = []
    for item, record in stored:
        identity = planner.request(item.subset, item.case).identity
        difference = identity.difference_from(record.request)
        if difference is not None:
            differing.append(f"case {item.case.index}: {difference}")
    if differing:
        raise CacheMismatchError(
            f"{paths.predictions}: {len(differing)} of {len(stored)} stored responses answer other "
            f"requests than today's ({' | '.join(differing[:3])}). Restore the settings and rows of that "
            "run, or start a new one without --use-cache."
        )


def _stored_records(paths: RunPaths) -> Mapping[tuple[int, int], ResponseRecord]:
    records, damaged = read_predictions(paths.predictions)
    if damaged:
        logger.warning(
            f"{paths.predictions}: {damaged} lines are damaged or not this adapter's; their samples are "
            "sent again"
        )
    return {(record.case_index, record.repeat): record for record in records}
