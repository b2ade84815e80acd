"""The adapter: what EvalScope knows of the benchmark, its rows, and its aggregated scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalscope.api.benchmark import BenchmarkMeta
from evalscope.api.benchmark.adapters.function_call_adapter import FunctionCallAdapter
from evalscope.api.dataset import Dataset, DatasetDict, Sample
from evalscope.api.evaluator import TaskState
from evalscope.api.metric import AggScore, SampleScore
from evalscope.api.model import Model
from evalscope.constants import Tags
from evalscope.metrics.semantics.catalog import METRIC_DEFINITIONS, MetricEntry
from evalscope.report import Report
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.gate import refuse_undecidable
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.core.metrics import (
    CALL_SURPLUS,
    DEFINITIONS,
    ERROR_RATE,
    FLIP_RATE,
    PRIMARY_METRIC,
    Metric,
)
from k2_verifier_adapter.core.presets import Preset, preset_for
from k2_verifier_adapter.core.run_facts import StoppingRule
from k2_verifier_adapter.core.sampling import in_stratified_order
from k2_verifier_adapter.core.secrets import Masker
from k2_verifier_adapter.core.statistics.sequential import plan
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.evalscope_plugin import loading, single_samples
from k2_verifier_adapter.evalscope_plugin.description import ENGLISH, PRETTY_NAME
from k2_verifier_adapter.evalscope_plugin.parameters import (
    PARAMETERS,
    Parameter,
    check_parameters,
    gate_options,
)
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner
from k2_verifier_adapter.formats.rows import LoadedRows
from k2_verifier_adapter.formats.runs import find_runs, read_run
from k2_verifier_adapter.reports.json_report import verdict_as_json
from k2_verifier_adapter.version import BENCHMARK, __version__

logger = get_logger()

_COUNT = "diagnostic.count.items"
_CATALOG_BASELINES = {
    **dict.fromkeys((*(definition.name for definition in DEFINITIONS), FLIP_RATE, ERROR_RATE), _COUNT),
    "trigger_similarity": "quality.f1.ratio",
    "schema_accuracy": "quality.accuracy.ratio",
    "tool_call_precision": "quality.precision.ratio",
    "tool_call_recall": "quality.recall.ratio",
    "official_similarity": "quality.similarity.ratio",
    "tool_name_agreement": "quality.similarity.ratio",
    "argument_agreement": "quality.similarity.ratio",
    # No share, and below 0 where calls are missing: a plain number.
    CALL_SURPLUS: "diagnostic.unspecified",
    FLIP_RATE: "diagnostic.parse_status.ratio",
    ERROR_RATE: "diagnostic.parse_status.ratio",
}


def benchmark_meta() -> BenchmarkMeta:
    """Describe the benchmark to EvalScope."""
    for name, baseline in _CATALOG_BASELINES.items():
        name_metric(name, baseline)
    names = [definition.name for definition in DEFINITIONS]
    return BenchmarkMeta(
        name=BENCHMARK,
        pretty_name=PRETTY_NAME,
        description=ENGLISH,
        tags=[Tags.FUNCTION_CALLING, Tags.AGENT],
        dataset_id=loading.HUB_DATASET,
        subset_list=["k2_thinking"],
        eval_split="test",
        # EvalScope's cache identity covers it; runs that were cached without `call_surplus` go on.
        metric_list=[*(name for name in names if name != CALL_SURPLUS), ERROR_RATE],
        primary_metric=PRIMARY_METRIC,
        extra_params={parameter.name: parameter.spec() for parameter in PARAMETERS},
        # The cache identity does not name the adapter: a version of its own keeps the built-in
        # benchmark's cached scores from being taken for this one's.
        evaluation_version="v2.0",
        data_adapter=K2VerifierAdapter,
    )


class K2VerifierAdapter(FunctionCallAdapter):
    """Rows to samples, and the summary of what the evaluator judged to EvalScope's report."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aggregate_empty_scores = True
        self.add_overall_metric = False
        self.parameters = check_parameters(self.extra_params)
        loading.check_subsets(self.dataset_id, self.subset_list)
        self.rows: dict[str, LoadedRows] = {}
        self.summaries: dict[str, Summary] = {}
        keep_identity(self.benchmark_meta, PARAMETERS, self.parameters)

    def check_gate(self) -> None:
        """Refuse a gate that cannot be decided, before anything is sent.

        Raises:
            UsageError: If the rows carry no verdict.
            DataError: If the baseline run cannot be read.
        """
        gate = gate_options(self.parameters)
        for subset, rows in self.rows.items():
            standard = rows.standard or preset_for(subset).standard
            several = any((case.official.runs or (0, 1))[1] > 1 for case in rows.cases)
            refuse_undecidable(
                gate,
                subset,
                standard,
                synthetic=rows.info.synthetic,
                several_runs=several,
                stopping=self.parameters["stop_when_decided"],
            )
        if gate.baseline is not None:
            for paths in find_runs(Path(gate.baseline)):
                read_run(paths)

    def planner(self, model: str, user: Mapping[str, Any], masker: Masker) -> RequestPlanner:
        """Give what plans the requests, with the parameters that the user set."""
        return RequestPlanner(model, user, masker)

    def preset(self, subset: str) -> Preset:
        """Give the preset of a subset."""
        return preset_for(subset)

    def stopping_rule(self, subset: str) -> StoppingRule | None:
        """Give the rule by which a subset is asked until it is decided; None if all rows are asked."""
        if not self.parameters["stop_when_decided"]:
            return None
        return StoppingRule(self.parameters["sample_seed"], plan(len(self.rows[subset].cases)))

    def load(self) -> tuple[DatasetDict, None]:
        """Load the subsets from local files, the bundled rows or the hub, or raise `DataError`."""
        logger.info(f"{BENCHMARK} is served by k2-verifier-adapter {__version__}")
        parameters = self.parameters
        options = HistoryOptions(
            MalformedHistory(parameters["malformed_history"]), parameters["normalize_tool_call_ids"]
        )
        stopping = parameters["stop_when_decided"]
        drawn = stopping or parameters["sample"] == "stratified"
        stratified = parameters["sample_seed"] if drawn else None
        datasets: dict[str, Dataset] = {}
        for subset in self.subset_list:
            rows = loading.load_rows(self, subset, options)
            chosen = loading.choose_rows(self, rows, stratified)
            if stopping:
                ordered = in_stratified_order(chosen.cases, parameters["sample_seed"])
                chosen = replace(chosen, cases=ordered)
            self.rows[subset] = chosen
            datasets[subset] = loading.to_dataset(self, self.rows[subset])
            loading.log_rows(subset, rows, self.rows[subset])
        return DatasetDict(datasets), None

    def _post_process_samples(self) -> None:
        """Leave the samples alone: no template and no system prompt belongs into a row."""

    def run_inference(self, model: Model, sample: Sample, output_dir: str, **kwargs: Any) -> TaskState:
        """Answer one sample for a collection of EvalScope's, which asks sample by sample."""
        del output_dir, kwargs
        return single_samples.answer(model, sample, self._task_config, self.parameters)

    def calculate_metrics(self, task_state: TaskState) -> SampleScore:
        """Judge one answer for a collection."""
        return single_samples.score(task_state)

    def aggregate_subset(self, subset: str, sample_scores: list[SampleScore]) -> list[AggScore]:
        """Give the metrics of a subset, which the evaluator computed from what it judged.

        Failed requests are among it; EvalScope's scores do not know them.
        """
        del sample_scores
        summary = self.summaries[subset]
        run: dict[str, Any] = {
            "parameters": dict(summary.facts.parameters),
            "rows": summary.facts.rows.as_json(),
            "repaired_cases": sum(case.repairs.beyond_upstream for case in self.rows[subset].cases),
            "adapter": summary.facts.adapter,
            "verdict": verdict_as_json(summary.verdict),
        }
        if summary.facts.stopping is not None:
            run["stopping"] = summary.facts.stopping.as_json()
        return [
            _agg_score(metric, summary, run if metric.name == PRIMARY_METRIC else {})
            for metric in summary.metrics
            # EvalScope's reports hold numbers only; an undefined rate is left out, not made up.
            if metric.value is not None
        ]

    def _on_generate_report_end(self, report: Report, output_dir: str, **kwargs: Any) -> None:
        """Label the report of synthetic rows."""
        if any(rows.info.synthetic for rows in self.rows.values()):
            report.dataset_pretty_name = f"{report.dataset_pretty_name} (synthetic rows)"
            report.dataset_description = f"**Synthetic rows: no verdict.**\n{report.dataset_description}"


def keep_identity(meta: BenchmarkMeta, declared: Iterable[Parameter], values: Mapping[str, Any]) -> None:
    """Leave what is of one session alone out of EvalScope's cache identity: it covers all extra parameters.

    A session that goes on with another pace goes on with the same run.
    """
    for parameter in declared:
        if parameter.is_new and (parameter.of_session or values[parameter.name] == parameter.default):
            meta.extra_params.pop(parameter.name, None)
        elif parameter.of_session:
            meta.extra_params[parameter.name] = parameter.spec()


def name_metric(name: str, baseline: str = _COUNT) -> None:
    """Declare a metric in EvalScope's catalog, under its own name.

    EvalScope 1.14.1 shows a catalog's display name ("Similarity", "Accuracy") instead of a metric's own;
    its catalog can be added to at run time.
    """
    diagnostic = baseline.startswith("diagnostic.")
    METRIC_DEFINITIONS[name] = MetricEntry(
        baseline=baseline,
        metric_name=name,
        # Without it, a diagnostic is shown under its identity, `name:identity`; for the others
        # EvalScope refuses it.
        display_name=name if diagnostic else None,
    )


def _agg_score(metric: Metric, summary: Summary, run: dict[str, Any]) -> AggScore:
    counts = summary.tally.counts
    metadata: dict[str, Any] = {
        "confusion": {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn},
        "completed": counts.completed,
        "failed": summary.tally.failed,
        "without_repaired": metric.without_repaired,
    }
    if metric.interval is not None:
        metadata["interval"] = {
            "low": metric.interval.low,
            "high": metric.interval.high,
            "confidence": 0.95,
            "method": metric.interval.method,
        }
    assert metric.value is not None
    return AggScore(score=metric.value, metric_name=metric.name, num=metric.n, metadata={**metadata, **run})
