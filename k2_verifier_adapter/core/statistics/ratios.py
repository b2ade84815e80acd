"""The proportions behind the rates: numerator and denominator from counts.

F1 is no proportion, but a monotone image of one: of s = TP / (TP + FP + FN), see `intervals`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from k2_verifier_adapter.core.counts import Counts


@dataclass(frozen=True, slots=True)
class Ratio:
    """A proportion over responses.

    Attributes:
        x: Numerator; at most the denominator.
        n: Denominator.
    """

    x: Callable[[Counts], float]
    n: Callable[[Counts], int]


RATIOS = {
    "trigger_similarity": Ratio(lambda c: c.tp, lambda c: c.tp + c.fp + c.fn),
    "schema_accuracy": Ratio(lambda c: c.successful, lambda c: c.tool_calls),
    "tool_call_precision": Ratio(lambda c: c.tp, lambda c: c.tp + c.fp),
    "tool_call_recall": Ratio(lambda c: c.tp, lambda c: c.tp + c.fn),
    "tool_name_agreement": Ratio(lambda c: c.name_matches, lambda c: c.name_pairs),
    "argument_agreement": Ratio(lambda c: c.argument_sum, lambda c: c.argument_pairs),
    "inference_error_rate": Ratio(lambda c: c.failed, lambda c: c.completed + c.failed),
}
"""By the name of the metric."""
