"""The mergeable tally of judgements: all that a summary is computed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice

from k2_verifier_adapter.core.counts import Counts, ToolTally, count_text, merge_texts
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, LeakedCall
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement, NoteKind
from k2_verifier_adapter.core.judging.markup import FOREIGN_TOKENS
from k2_verifier_adapter.core.responses import FinishBucket
from k2_verifier_adapter.core.statistics.decisions import CaseDecisions
from k2_verifier_adapter.core.statistics.ratios import RepeatedCases

MAX_LISTED_CASES = 10_000
"""Cases that are listed of each failure class; its count is exact whatever their number."""

MAX_EVIDENCE = 10
"""Cases that are kept of each primary class, to be looked at."""


class Trait(Enum):
    """What findings rest on beside the failure classes, counted by response."""

    VALID_CALL_IN_CONTENT = auto()
    VALID_CALL_IN_REASONING = auto()
    UNDECLARED_BUT_IN_HISTORY = auto()
    EMPTY_OBJECT_FITS = auto()
    REPAIRABLE_JSON = auto()
    FOREIGN_MARKUP = auto()
    CALLS_UNDER_NULL = auto()


AS_WRITTEN = frozenset(
    {FailureClass.TRAILING_TEXT, FailureClass.SINGLE_QUOTED_JSON, FailureClass.OTHER_INVALID_JSON}
)
"""What arguments that are not JSON show where the model wrote them so."""

_VALID_CALL_IN = {
    FailureClass.MARKUP_IN_CONTENT: Trait.VALID_CALL_IN_CONTENT,
    FailureClass.MARKUP_IN_REASONING: Trait.VALID_CALL_IN_REASONING,
}


@dataclass(slots=True)
class Tally:
    """All that a summary is computed from.

    Attributes:
        unrepaired: Counts over those whose request upstream would have sent alike.
        repeated: What the cases that were asked more than once add up to.
        decisions: The cases by what vendor and official API decided in them. Failed requests are no
            answer, unless they count as "did not call".
        others_detail: Completed responses by literal finish_reason, of the bucket "others".
        failure_counts: Responses, or failed requests, that show a failure class.
        failure_cases: The 0-based row numbers of those, without repetition, in order; the first
            `MAX_LISTED_CASES`.
        primary_counts: Responses, or failed requests, by the class that is the cause of the others.
        primary_cases: The 0-based row numbers of the first of those, at most `MAX_EVIDENCE`.
        changes: What the counts would change by, if a class were fixed.
        traits: Responses by what findings rest on beside the classes.
    """

    counts: Counts = field(default_factory=Counts)
    unrepaired: Counts = field(default_factory=Counts)
    repeated: RepeatedCases = field(default_factory=RepeatedCases)
    decisions: Counter[CaseDecisions] = field(default_factory=Counter)
    others_detail: Counter[str] = field(default_factory=Counter)
    failure_counts: Counter[FailureClass] = field(default_factory=Counter)
    failure_cases: dict[FailureClass, dict[int, None]] = field(default_factory=dict)
    failed_statuses: Counter[int] = field(default_factory=Counter)
    primary_counts: Counter[FailureClass] = field(default_factory=Counter)
    primary_cases: dict[FailureClass, dict[int, None]] = field(default_factory=dict)
    changes: dict[FailureClass, Counts] = field(default_factory=dict)
    traits: Counter[Trait] = field(default_factory=Counter)
    tools: ToolTally = field(default_factory=ToolTally)

    _open_case: int | None = None
    _open: list[Judgement | FailedRequest] = field(default_factory=list)

    def add(self, case_index: int, judgement: Judgement) -> None:
        """Count the judgement of one completed response.

        All that belongs to one case has to come in a row: it makes one cluster.
        """
        self._enter(case_index, judgement)
        self.counts.add(judgement)
        if not judgement.repaired:
            self.unrepaired.add(judgement)
        if judgement.bucket is FinishBucket.OTHERS and judgement.finish_reason is not None:
            count_text(self.others_detail, judgement.finish_reason)
        if judgement.failures:
            self._note(case_index, judgement.failures, judgement.primary)
            for fix in judgement.fixes:
                self.changes.setdefault(fix.failure_class, Counts()).add_change(judgement, fix)
        if judgement.failures or judgement.notes:
            self.traits.update(traits_of(judgement))
        if judgement.failures or judgement.tools:
            self.tools.add(judgement.tools, judgement.failures, judgement.primary)

    def add_failed(self, request: FailedRequest) -> None:
        """Count one failed request; see `add` for the order."""
        self._enter(request.case_index, request)
        self.counts.add_failed(request)
        if request.as_no_call_against is not None:
            self.unrepaired.add_failed(request)
        if request.status is not None:
            self.failed_statuses[request.status] += 1
        kind = request.failure.failure_class
        self._note(request.case_index, (request.failure,), kind)
        if request.as_no_call_against:
            self.changes.setdefault(kind, Counts()).add_completion()

    @property
    def failed(self) -> int:
        """Number of failed requests."""
        return self.counts.failed

    def close(self) -> None:
        """End the cluster of the last case; what is computed from the tally needs it ended."""
        self._note_decisions()
        if len(self._open) > 1:
            cluster = Counts()
            for item in self._open:
                if isinstance(item, FailedRequest):
                    cluster.add_failed(item)
                else:
                    cluster.add(item)
            self.repeated.add(cluster)
        self._open.clear()
        self._open_case = None

    def _note_decisions(self) -> None:
        official, calls, answers = (0, 0), 0, 0
        for item in self._open:
            if isinstance(item, FailedRequest):
                should_call, called = item.as_no_call_against, False
            else:
                should_call, called = item.should_call, item.calls
            if should_call is not None:
                official = item.official_runs or (int(should_call), 1)
                calls, answers = calls + called, answers + 1
        if answers:
            self.decisions[CaseDecisions(*official, calls, answers)] += 1

    def _enter(self, case_index: int, item: Judgement | FailedRequest) -> None:
        if case_index != self._open_case:
            self.close()
            self._open_case = case_index
        self._open.append(item)

    def _note(self, case_index: int, failures: Iterable[Failure], primary: FailureClass | None) -> None:
        for kind in {failure.failure_class: None for failure in failures}:
            self.failure_counts[kind] += 1
            _keep(self.failure_cases, kind, (case_index,), MAX_LISTED_CASES)
        if primary is not None:
            self.primary_counts[primary] += 1
            _keep(self.primary_cases, primary, (case_index,), MAX_EVIDENCE)

    def merge(self, other: Tally) -> None:
        """Take in another tally over other cases; the order changes nothing but that of the cases."""
        self.close()
        other.close()
        self.counts += other.counts
        self.unrepaired += other.unrepaired
        self.repeated.merge([other.repeated])
        self.decisions += other.decisions
        merge_texts(self.others_detail, other.others_detail)
        self.failure_counts += other.failure_counts
        self.failed_statuses += other.failed_statuses
        self.primary_counts += other.primary_counts
        self.traits += other.traits
        self.tools.merge(other.tools)
        for kind, change in other.changes.items():
            self.changes[kind] = self.changes.get(kind, Counts()) + change
        for kind, cases in other.failure_cases.items():
            _keep(self.failure_cases, kind, cases, MAX_LISTED_CASES)
        for kind, cases in other.primary_cases.items():
            _keep(self.primary_cases, kind, cases, MAX_EVIDENCE)


def _keep(
    kept: dict[FailureClass, dict[int, None]], kind: FailureClass, cases: Iterable[int], most: int
) -> None:
    """Keep the first cases of a class, each once."""
    ours = kept.setdefault(kind, {})
    free = most - len(ours)
    if free > 0:
        ours.update(islice(((case, None) for case in cases if case not in ours), free))


def traits_of(judgement: Judgement) -> set[Trait]:
    """Give the traits of one response."""
    traits = set()
    written = False
    for failure in judgement.failures:
        kind = failure.failure_class
        written = written or kind in AS_WRITTEN
        if kind in _VALID_CALL_IN and failure.leaked_call is LeakedCall.COMPLETE:
            traits.add(_VALID_CALL_IN[kind])
        elif kind is FailureClass.UNDECLARED_TOOL and failure.in_history:
            traits.add(Trait.UNDECLARED_BUT_IN_HISTORY)
        elif kind is FailureClass.SPECIAL_TOKEN_LEAK and failure.marker in FOREIGN_TOKENS:
            traits.add(Trait.FOREIGN_MARKUP)
        elif kind is FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS and judgement.finish_reason is None:
            traits.add(Trait.CALLS_UNDER_NULL)
    for note in judgement.notes:
        if note.kind is NoteKind.EMPTY_OBJECT_FITS:
            traits.add(Trait.EMPTY_OBJECT_FITS)
        elif note.kind is NoteKind.REPAIRABLE_JSON and written:
            # Of arguments that were cut or glued together, a repair would only guess.
            traits.add(Trait.REPAIRABLE_JSON)
    return traits
