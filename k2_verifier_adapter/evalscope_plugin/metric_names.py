"""Make EvalScope's tables and pages call the metrics by their own names.

EvalScope 1.14.1 shows a catalog's display name ("Similarity", "Accuracy") instead of a metric's own;
its catalog can be added to at run time.
"""

from __future__ import annotations

from evalscope.metrics.semantics.catalog import METRIC_DEFINITIONS, MetricEntry

from k2_verifier_adapter.core.metrics import DEFINITIONS, ERROR_RATE, FLIP_RATE

_COUNT = "diagnostic.count.items"
_BASELINES = {
    "trigger_similarity": "quality.f1.ratio",
    "schema_accuracy": "quality.accuracy.ratio",
    "tool_call_precision": "quality.precision.ratio",
    "tool_call_recall": "quality.recall.ratio",
    "official_similarity": "quality.similarity.ratio",
    "tool_name_agreement": "quality.similarity.ratio",
    "argument_agreement": "quality.similarity.ratio",
    FLIP_RATE: "diagnostic.parse_status.ratio",
    ERROR_RATE: "diagnostic.parse_status.ratio",
}


def name_metrics() -> None:
    """Declare every metric of this benchmark in EvalScope's catalog, under its own name."""
    for name in (*(definition.name for definition in DEFINITIONS), FLIP_RATE, ERROR_RATE):
        baseline = _BASELINES.get(name, _COUNT)
        diagnostic = baseline.startswith("diagnostic.")
        METRIC_DEFINITIONS[name] = MetricEntry(
            baseline=baseline,
            metric_name=name,
            # Without it, a diagnostic is shown under its identity, `name:identity`; for the others
            # EvalScope refuses it.
            display_name=name if diagnostic else None,
        )
