"""What-if: the two metrics, recomputed as if a failure class were fixed.

Every response keeps its official answer. A response changes only if the class is what makes its decision
differ or its calls invalid (`core.judging.causes` chooses one class for each), and then as `core.causes.Fix`
says. The sums of these changes are kept with the counts, so nothing is judged again. A failed request
changes nothing, unless it counts as "did not call".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from k2_verifier_adapter.core.counts import Counts
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.metrics import DEFINITIONS
from k2_verifier_adapter.core.tally import Tally

_VALUES = {definition.name: definition.value for definition in DEFINITIONS}


@dataclass(frozen=True, slots=True)
class TwoMetrics:
    """A value for each of the two metrics; None where it is undefined.

    Attributes:
        trigger_similarity: For the F1 of the decision to call.
        schema_accuracy: For the share of responses that call whose calls are all valid.
    """

    trigger_similarity: float | None
    schema_accuracy: float | None

    def as_json(self) -> dict[str, float | None]:
        """Give the JSON form."""
        return {
            "trigger_similarity": self.trigger_similarity,
            "schema_accuracy": self.schema_accuracy,
        }


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What fixing one class would do.

    Attributes:
        failure_class: The class.
        metrics: The two metrics without it.
    """

    failure_class: FailureClass
    metrics: TwoMetrics


def metrics_of(counts: Counts) -> TwoMetrics:
    """Compute the two metrics from counts."""
    return TwoMetrics(_VALUES["trigger_similarity"](counts), _VALUES["schema_accuracy"](counts))


def metrics_if_fixed(tally: Tally, kinds: Iterable[FailureClass]) -> TwoMetrics:
    """Compute the two metrics as if all these classes were fixed.

    At most one of an extra call and of what makes calls invalid should be among them: a response may
    have both, and each would change it alone.
    """
    counts = tally.counts
    for kind in kinds:
        counts += tally.changes.get(kind, _NO_CHANGE)
    return metrics_of(counts)


_NO_CHANGE = Counts()


def what_ifs(tally: Tally) -> tuple[WhatIf, ...]:
    """Compute the what-if of every class whose fix changes anything, in the order of the classes."""
    return tuple(
        WhatIf(kind, metrics_if_fixed(tally, (kind,)))
        for kind in FailureClass
        if tally.changes.get(kind, _NO_CHANGE) != _NO_CHANGE
    )


def explained(now: TwoMetrics, fixed: TwoMetrics) -> TwoMetrics:
    """Compute the share of the loss that a fix explains: its gain over what is missing to 100 %.

    None where a value is undefined or nothing is missing. Negative where the fix would cost: a leaked
    call where the official API does not call.
    """
    return TwoMetrics(
        _share(now.trigger_similarity, fixed.trigger_similarity),
        _share(now.schema_accuracy, fixed.schema_accuracy),
    )


def _share(now: float | None, fixed: float | None) -> float | None:
    if now is None or fixed is None or now >= 1:
        return None
    return (fixed - now) / (1 - now)
