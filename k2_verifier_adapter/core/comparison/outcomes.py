"""What a run made of each case, kept so that runs can be held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.summary import Summary


class State(str, Enum):
    """What a run made of one case, in a word; the value is the name used in files."""

    VALID_CALL = "valid_call"
    INVALID_CALL = "invalid_call"
    NO_CALL = "no_call"
    MIXED = "mixed"
    FAILED = "failed"


@dataclass(slots=True)
class Outcome:
    """What a run made of one case, all repeats of it together.

    Attributes:
        case_index: 0-based row number, as the run's own report shows it.
        content: Checksum of the contents of all messages and the names of all tools, which tells
            whether two runs mean the same case; None if it is not known.
        should_call: The official decision.
        answers: The judged answers.
        failed: The failed requests.
    """

    case_index: int
    content: int | None
    should_call: bool
    answers: list[Judgement] = field(default_factory=list)
    failed: list[FailedRequest] = field(default_factory=list)

    @property
    def calling(self) -> float | None:
        """Share of the answers that call; None if there is no answer."""
        return sum(answer.calls for answer in self.answers) / len(self.answers) if self.answers else None

    @property
    def valid(self) -> float | None:
        """Share of the calling answers whose calls are all valid; None if no answer calls."""
        calling = [answer for answer in self.answers if answer.calls]
        return sum(answer.successful for answer in calling) / len(calling) if calling else None

    @property
    def state(self) -> State:
        """The outcome in a word; answers that are not all alike are mixed."""
        if not self.answers:
            return State.FAILED
        states = {
            State.VALID_CALL if answer.successful else State.INVALID_CALL if answer.calls else State.NO_CALL
            for answer in self.answers
        }
        return states.pop() if len(states) == 1 else State.MIXED

    @property
    def failure_classes(self) -> frozenset[FailureClass]:
        """Every failure class that an answer or a failed request of the case shows."""
        shown = {failure.failure_class for answer in self.answers for failure in answer.failures}
        return frozenset(shown | {request.failure.failure_class for request in self.failed})


@dataclass(frozen=True, slots=True)
class Participant:
    """One run or scored log that is compared.

    Attributes:
        label: What it is called; need not be unique.
        source: Where it was read from, as the user gave it.
        summary: Its summary.
        outcomes: What it made of each case that has an answer or a failed request, by `data_index`.
    """

    label: str
    source: str
    summary: Summary
    outcomes: Mapping[int, Outcome]

    @property
    def provider(self) -> str | None:
        """Who served it: the provider that a router names, else the endpoint; None if unknown."""
        providers = self.summary.observed.providers
        return providers.most_common(1)[0][0] if providers else self.summary.facts.endpoint_host
