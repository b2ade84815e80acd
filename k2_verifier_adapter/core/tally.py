"""The mergeable tally of judgements: all that a summary is computed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice

from k2_verifier_adapter.core.counts import Counts, ToolTally, count_text, merge_texts
from k2_verifier_adapter.core.failure_classes import Failure, FailureClass, LeakedCall, Variant
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement, NoteKind
from k2_verifier_adapter.core.refusals import RefusalReason
from k2_verifier_adapter.core.responses import FinishBucket
from k2_verifier_adapter.core.server_words import Refusals
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
    REPAIRABLE_JSON = auto()
    CALLS_UNDER_NULL = auto()


AS_WRITTEN = frozenset(
    {FailureClass.TRAILING_TEXT, FailureClass.SINGLE_QUOTED_JSON, FailureClass.OTHER_INVALID_JSON}
)
"""What arguments that are not JSON show where the model wrote them so."""

_VALID_CALL_IN = {
    FailureClass.MARKUP_IN_CONTENT: Trait.VALID_CALL_IN_CONTENT,
    FailureClass.MARKUP_IN_REASONING: Trait.VALID_CALL_IN_REASONING,
}


Symptom = tuple[FailureClass, "Variant | RefusalReason | None"]
"""A failure class, and which of its kinds: a failed request's is what its server says."""


@dataclass(slots=True)
class SymptomTally:
    """The responses, or failed requests, with one symptom.

    Attributes:
        shown: Those that show it.
        primary: Those whose primary class it is.
        shown_cases: The 0-based row numbers of the first that show it, at most `MAX_EVIDENCE`.
        primary_cases: Likewise where it is primary.
        statuses: Failed requests by status.
        change: What the counts would change by, if it were fixed.
    """

    shown: int = 0
    primary: int = 0
    shown_cases: dict[int, None] = field(default_factory=dict)
    primary_cases: dict[int, None] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    change: Counts = field(default_factory=Counts)

    def merge(self, other: SymptomTally) -> None:
        """Take in those of other cases."""
        self.shown += other.shown
        self.primary += other.primary
        _keep(self.shown_cases, other.shown_cases, MAX_EVIDENCE)
        _keep(self.primary_cases, other.primary_cases, MAX_EVIDENCE)
        self.statuses += other.statuses
        self.change += other.change


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
        symptoms: Responses, or failed requests, by failure class and variant.
        refusals: What the servers of failed requests say.
        sound: Responses without failure.
        sound_unseen: Those of them with more tokens than are visible.
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
    symptoms: dict[Symptom, SymptomTally] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    sound: int = 0
    sound_unseen: int = 0
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
            variants = self._note(case_index, judgement.failures, judgement.primary)
            for fix in judgement.fixes:
                self._symptom(fix.failure_class, variants[fix.failure_class]).change.add_change(
                    judgement, fix
                )
        else:
            self.sound += 1
            self.sound_unseen += judgement.unseen_tokens
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
        self._count(kind, request.case_index)
        reason = self.refusals.add(request)
        symptom = self._symptom(kind, reason)
        symptom.shown += 1
        symptom.primary += 1
        _keep(symptom.shown_cases, (request.case_index,), MAX_EVIDENCE)
        _keep(symptom.primary_cases, (request.case_index,), MAX_EVIDENCE)
        if request.status is not None:
            symptom.statuses[request.status] += 1
        if request.as_no_call_against:
            symptom.change.add_completion()

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

    def _note(
        self, case_index: int, failures: Iterable[Failure], primary: FailureClass | None
    ) -> dict[FailureClass, Variant | None]:
        """Count what a response shows; give the variant of each class, the first failure's."""
        variants: dict[FailureClass, Variant | None] = {}
        for failure in failures:
            variants.setdefault(failure.failure_class, failure.variant)
        for kind, variant in variants.items():
            self._count(kind, case_index)
            symptom = self._symptom(kind, variant)
            symptom.shown += 1
            _keep(symptom.shown_cases, (case_index,), MAX_EVIDENCE)
            if kind is primary:
                symptom.primary += 1
                _keep(symptom.primary_cases, (case_index,), MAX_EVIDENCE)
        return variants

    def _count(self, kind: FailureClass, case_index: int) -> None:
        self.failure_counts[kind] += 1
        _keep(self.failure_cases.setdefault(kind, {}), (case_index,), MAX_LISTED_CASES)

    def _symptom(self, kind: FailureClass, variant: Variant | RefusalReason | None) -> SymptomTally:
        return self.symptoms.setdefault((kind, variant), SymptomTally())

    @property
    def primary_counts(self) -> Counter[FailureClass]:
        """Responses, or failed requests, by the class that is the cause of the others."""
        counts: Counter[FailureClass] = Counter()
        for (kind, _), symptom in self.symptoms.items():
            if symptom.primary:
                counts[kind] += symptom.primary
        return counts

    @property
    def changes(self) -> dict[FailureClass, Counts]:
        """What the counts would change by, if a class were fixed."""
        changes: dict[FailureClass, Counts] = {}
        for (kind, _), symptom in self.symptoms.items():
            if symptom.change != Counts():
                changes[kind] = changes.get(kind, Counts()) + symptom.change
        return changes

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
        self.traits += other.traits
        self.tools.merge(other.tools)
        self.refusals.merge(other.refusals)
        self.sound += other.sound
        self.sound_unseen += other.sound_unseen
        for kind, cases in other.failure_cases.items():
            _keep(self.failure_cases.setdefault(kind, {}), cases, MAX_LISTED_CASES)
        for (kind, variant), symptom in other.symptoms.items():
            self._symptom(kind, variant).merge(symptom)


def _keep(kept: dict[int, None], cases: Iterable[int], most: int) -> None:
    """Keep the first cases, each once."""
    free = most - len(kept)
    if free > 0:
        kept.update(islice(((case, None) for case in cases if case not in kept), free))


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
        elif kind is FailureClass.CALLS_WITHOUT_FINISH_TOOL_CALLS and judgement.finish_reason is None:
            traits.add(Trait.CALLS_UNDER_NULL)
    for note in judgement.notes:
        if note.kind is NoteKind.REPAIRABLE_JSON and written:
            # Of arguments that were cut or glued together, a repair would only guess.
            traits.add(Trait.REPAIRABLE_JSON)
    return traits
