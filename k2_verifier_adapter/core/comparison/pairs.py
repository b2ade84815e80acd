"""What each of several runs made of each case, and every two of them held against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import combinations
from typing import NamedTuple

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.statistics.paired import (
    SIGNIFICANCE,
    Decisions,
    Difference,
    Validity,
    WinsLosses,
    agreement_of,
    f1_difference,
    holm,
    validity_difference,
    wins_and_losses,
)

MAX_LISTED_CHANGES = 1_000
"""Cases that are listed of each kind of change; its count is exact whatever their number."""


class State(str, Enum):
    """What a run made of one case, in a word; the value is the name used in files."""

    VALID_CALL = "valid_call"
    INVALID_CALL = "invalid_call"
    NO_CALL = "no_call"
    MIXED = "mixed"
    FAILED = "failed"


@dataclass(slots=True)
class CaseOutcome:
    """What a run made of one case, all repeats of it together.

    Attributes:
        case_index: 0-based row number, as the run's own report shows it.
        content: Checksum of the contents of all messages and the names of all tools, which tells
            whether two runs mean the same case; None if it is not known.
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
class Change:
    """Cases of which two runs made different things, in the same way.

    Attributes:
        cases: Their `data_index`, in order; the first `MAX_LISTED_CHANGES`.
        first_failures: Number of these cases by failure class that only the first run shows.
        second_failures: The same of the second run.
    """

    should_call: bool
    first: State
    second: State
    count: int
    cases: Sequence[int]
    first_failures: Mapping[FailureClass, int]
    second_failures: Mapping[FailureClass, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs, case by case.

    A p-value "of all pairs" is adjusted by Holm's rule for the number of pairs that are compared.

    Attributes:
        completed: Common cases to which both have an answer; all numbers below are over these.
        only_first_failed: Common cases to which only the second has an answer.
        only_second_failed: Common cases to which only the first has one.
        similarity: The difference in trigger_similarity, or None if it is undefined.
        agreement: In how many cases one agrees better with the official decision.
        accuracy: The difference in the share of valid calls, over the cases in which both call, or
            None if there is none.
        validity: In how many of these one has the greater share of valid calls.
        changes: Common cases, failed ones too, of which the two made different things, the most
            frequent kind first.
    """

    first: int
    second: int
    completed: int
    only_first_failed: int
    only_second_failed: int
    similarity: Difference | None
    similarity_p_of_all: float | None
    agreement: WinsLosses
    agreement_p_of_all: float
    accuracy: Difference | None
    validity: WinsLosses
    validity_p_of_all: float
    changes: Sequence[Change]

    @property
    def better(self) -> int | None:
        """Place of the run whose trigger_similarity is shown to be higher, all pairs taken into account."""
        if self.similarity is None or self.similarity_p_of_all is None:
            return None
        if self.similarity_p_of_all >= SIGNIFICANCE:
            return None
        return self.first if self.similarity.value > 0 else self.second

    @property
    def shown_better(self) -> set[int]:
        """Places of the runs shown to be better in similarity or validity, by half the level each."""
        level, shown = SIGNIFICANCE / 2, set()
        if self.similarity is not None and (self.similarity_p_of_all or 0.0) < level:
            shown.add(self.first if self.similarity.value > 0 else self.second)
        if self.validity_p_of_all < level:
            shown.add(self.first if self.validity.wins > self.validity.losses else self.second)
        return shown


class _Seen(NamedTuple):
    """What a run made of one case, as far as it is compared."""

    state: State
    calling: float | None
    valid: float | None


def compare_pairs(runs: Sequence[Mapping[int, CaseOutcome]], cases: Sequence[int]) -> list[Pair]:
    """Compare every two runs, given as what each made of a case by `data_index`, over cases that all hold."""
    seen = [
        [_Seen(outcome.state, outcome.calling, outcome.valid) for outcome in map(run.__getitem__, cases)]
        for run in runs
    ]
    pairs = [_pair(first, second, runs, seen, cases) for first, second in combinations(range(len(runs)), 2)]
    # An undefined difference is not tested, and does not count.
    similarity = iter(holm([pair.similarity.p_value for pair in pairs if pair.similarity is not None]))
    agreement = holm([pair.agreement.p_value for pair in pairs])
    validity = holm([pair.validity.p_value for pair in pairs])
    return [
        replace(
            pair,
            similarity_p_of_all=None if pair.similarity is None else next(similarity),
            agreement_p_of_all=agreement[number],
            validity_p_of_all=validity[number],
        )
        for number, pair in enumerate(pairs)
    ]


def _pair(
    first: int,
    second: int,
    runs: Sequence[Mapping[int, CaseOutcome]],
    seen: Sequence[Sequence[_Seen]],
    cases: Sequence[int],
) -> Pair:
    decisions: Counter[Decisions] = Counter()
    validity: Counter[Validity] = Counter()
    changed: dict[tuple[bool, State, State], list[int]] = {}
    only_first_failed = only_second_failed = 0
    for case, ours, theirs in zip(cases, seen[first], seen[second], strict=True):
        should_call = runs[first][case].should_call
        if ours != theirs:
            changed.setdefault((should_call, ours.state, theirs.state), []).append(case)
        if ours.calling is None or theirs.calling is None:
            only_first_failed += theirs.calling is not None
            only_second_failed += ours.calling is not None
            continue
        decisions[Decisions(should_call, ours.calling, theirs.calling)] += 1
        if ours.valid is not None and theirs.valid is not None:
            validity[Validity(ours.valid, theirs.valid)] += 1
    agreement = agreement_of(decisions)
    validities = wins_and_losses((*shares, count) for shares, count in validity.items())
    return Pair(
        first=first,
        second=second,
        completed=decisions.total(),
        only_first_failed=only_first_failed,
        only_second_failed=only_second_failed,
        similarity=f1_difference(decisions),
        similarity_p_of_all=None,
        agreement=agreement,
        agreement_p_of_all=agreement.p_value,
        accuracy=validity_difference(validity),
        validity=validities,
        validity_p_of_all=validities.p_value,
        changes=[
            _change(kind, found, runs[first], runs[second])
            for kind, found in sorted(changed.items(), key=lambda item: (-len(item[1]), item[1]))
        ],
    )


def _change(
    kind: tuple[bool, State, State],
    cases: Sequence[int],
    first: Mapping[int, CaseOutcome],
    second: Mapping[int, CaseOutcome],
) -> Change:
    only_first: Counter[FailureClass] = Counter()
    only_second: Counter[FailureClass] = Counter()
    for case in cases:
        ours, theirs = first[case].failure_classes, second[case].failure_classes
        only_first.update(ours - theirs)
        only_second.update(theirs - ours)
    listed = cases[:MAX_LISTED_CHANGES]
    return Change(*kind, len(cases), listed, only_first, only_second)
