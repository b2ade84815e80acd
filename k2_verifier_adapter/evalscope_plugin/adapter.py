"""The adapter: EvalScope's hooks on one side, the core's functions on the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalscope.api.benchmark import AgentAdapter, BenchmarkMeta
from evalscope.api.dataset import Dataset, DatasetDict, Sample
from evalscope.api.evaluator import TaskState
from evalscope.api.metric import AggScore, SampleScore, Score
from evalscope.api.model import Model, ModelOutput
from evalscope.constants import Tags
from evalscope.report import Report
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.judged import JudgedResponse, judge_record
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.metrics import (
    DEFINITIONS,
    ERROR_RATE,
    PRIMARY_METRIC,
    Metric,
    compute_metrics,
)
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import (
    METADATA_KEY,
    ResponseRecord,
    judgement_as_json,
    judgement_from_json,
)
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.errors import DataError, EndpointError
from k2_verifier_adapter.evalscope_plugin import asking, loading, settings
from k2_verifier_adapter.evalscope_plugin.client.exchange import NoAnswer
from k2_verifier_adapter.evalscope_plugin.metric_names import name_metrics
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner
from k2_verifier_adapter.evalscope_plugin.registration import BENCHMARK
from k2_verifier_adapter.evalscope_plugin.work import CASE_KEY
from k2_verifier_adapter.formats.rows import LoadedRows
from k2_verifier_adapter.version import __version__

logger = get_logger()

_DESCRIPTION = """
## Overview

Replays the official prompt set of the K2 Vendor Verifier at an endpoint that serves Kimi K2, and compares
its tool calling with the official API's: the decision to call, and the validity of every call.
Served by k2-verifier-adapter.

## Task Description

- **Task Type**: vendor deployment check (tool calling)
- **Input**: the row's own messages and tools, sent unchanged
- **Output**: the raw chat completion, streamed or not
- **Comparison**: with the official decision that the row carries

## Key Features

- Judges the raw response by the rules of upstream's `tool_calls_eval.py`
- Failed requests are retried, never cached and never counted as "did not call"
- Every rate with its 95 % interval; every failure with its class

## Evaluation Notes

- Primary metric: `trigger_similarity`, the F1 of the decision to call
- Acceptance threshold: 0.73 for `k2_thinking`, 0.80 for `k2_0905`
- `dataset_args.k2_verifier.local_path` takes local rows, or `bundled` for the synthetic ones
"""


def benchmark_meta() -> BenchmarkMeta:
    """Describe the benchmark to EvalScope."""
    name_metrics()
    names = [definition.name for definition in DEFINITIONS]
    return BenchmarkMeta(
        name=BENCHMARK,
        pretty_name="K2 Vendor Verifier",
        description=_DESCRIPTION,
        tags=[Tags.FUNCTION_CALLING, Tags.AGENT],
        dataset_id=loading.HUB_DATASET,
        subset_list=["k2_thinking"],
        eval_split="test",
        metric_list=[*names, ERROR_RATE],
        primary_metric=PRIMARY_METRIC,
        extra_params={name: dict(spec) for name, spec in settings.EXTRA_PARAMS.items()},
        # The cache identity does not name the adapter: a version of its own keeps the built-in
        # benchmark's cached scores from being taken for this one's.
        evaluation_version="v2.0",
        data_adapter=K2VerifierAdapter,
    )


class K2VerifierAdapter(AgentAdapter):
    """Rows to samples, responses to scores, scores to metrics."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aggregate_empty_scores = True
        self.add_overall_metric = False
        self.rows: dict[str, LoadedRows] = {}
        self.failed: dict[str, list[FailedRequest]] = {}
        self.run_metadata: dict[str, Mapping[str, Any]] = {}
        self.pace = self._take_pace()

    def _take_pace(self) -> dict[str, Any]:
        """Read how fast and how far this session goes, and take it out of the benchmark's settings.

        EvalScope's cache identity covers all extra parameters; a session that goes on with another pace
        goes on with the same run.
        """
        specs = self.benchmark_meta.extra_params
        pace = {name: self.extra_params[name] for name in settings.PACE_PARAMS if name in specs}
        for name in pace:
            specs[name] = {**specs[name], "value": settings.EXTRA_PARAMS[name]["value"]}
        return pace

    def load(self) -> tuple[DatasetDict, None]:
        """Load the subsets from local files, the bundled rows or the hub.

        Raises:
            DataError: If a source cannot be read or a row cannot be used.
        """
        logger.info(f"{BENCHMARK} is served by k2-verifier-adapter {__version__}")
        loading.check_dataset_args(self._task_config.dataset_args.get(BENCHMARK, {}), self.benchmark_meta)
        options = settings.history_options(self.extra_params)
        stratified = settings.sample_seed(self.extra_params)
        datasets: dict[str, Dataset] = {}
        for subset in self.subset_list:
            rows = loading.load_rows(self, subset, options)
            chosen = loading.choose_rows(self, rows, stratified)
            self.rows[subset] = chosen
            datasets[subset] = loading.to_dataset(self, chosen, CASE_KEY)
            loading.log_rows(subset, rows, chosen)
        return DatasetDict(datasets), None

    def _post_process_samples(self) -> None:
        """Leave the samples alone: no template and no system prompt belongs into a row."""

    def record_to_sample(self, record: dict[str, Any]) -> Sample:
        """Convert one row.

        Raises:
            DataError: If the row cannot be used.
        """
        try:
            case = decode_row(record, 0, settings.history_options(self.extra_params))
        except RowError as error:
            raise DataError(f"row: {error}") from error
        return loading.to_sample(case, CASE_KEY)

    def run_inference(self, model: Model, sample: Sample, output_dir: str, **kwargs: Any) -> TaskState:
        """Ask for one sample; the evaluator asks for all of them on one event loop.

        Raises:
            EndpointError: If the request fails.
        """
        asker = asking.choose(model, self._task_config)
        user = settings.user_parameters(self._task_config, asker.api)
        subset = self.current_subset_name or self.subset_list[0]
        case: Case = sample.metadata[CASE_KEY]
        request = RequestPlanner(asker.model_name, user.body, asker.masker).request(subset, case)
        options = settings.transport_options(
            self._task_config.generation_config, preset_for(subset), self.extra_params
        )
        outcome = asking.ask_once(asker, request, case, options)
        if isinstance(outcome, NoAnswer):
            raise EndpointError(f"{outcome.failure.failure_class.value}: {outcome.failure.detail}")
        return self.task_state(model.name, sample, asking.record_of(outcome, request, case.index, 0))

    def task_state(self, model: str, sample: Sample, record: ResponseRecord) -> TaskState:
        """Wrap a stored response as EvalScope's hooks expect it."""
        output = ModelOutput(model=model, metadata={METADATA_KEY: record.as_json()})
        return TaskState(model=model, sample=sample, messages=[], output=output, completed=True)

    def calculate_metrics(self, task_state: TaskState) -> SampleScore:
        """Score one response from the raw completion that its output's metadata holds.

        Raises:
            DataError: If the output holds no record of this benchmark.
        """
        metadata = task_state.output.metadata or {}
        record = ResponseRecord.from_json(metadata.get(METADATA_KEY))
        if record is None:
            raise DataError(f"sample {task_state.sample_id}: its output holds no raw response to score")
        case: Case = task_state.metadata[CASE_KEY]
        judged = judge_record(case, record)
        if isinstance(judged, FailedRequest):
            raise DataError(f"sample {task_state.sample_id}: {judged.failure.detail}")
        return self.sample_score(task_state.sample_id, task_state.group_id, case, judged)

    def sample_score(
        self,
        sample_id: int,
        group_id: int | None,
        case: Case,
        judged: JudgedResponse,
    ) -> SampleScore:
        """Convert a judgement to EvalScope's score."""
        judgement = judged.judgement
        score = Score(
            value={
                "finish_reason_tool_calls": int(judgement.calls),
                "successful_tool_call": int(judgement.successful),
                "should_call_tool": int(judgement.should_call),
                "decision_agrees": int(judgement.calls == judgement.should_call),
            },
            prediction="",
            extracted_prediction=judgement.finish_reason or "",
            explanation=_explanation(judgement),
            metadata={METADATA_KEY: judgement_as_json(case.index, judgement)},
            main_score_name="decision_agrees",
        )
        return SampleScore(
            score=score,
            sample_id=sample_id,
            group_id=group_id,
            generation_index=judged.repeat,
            sample_metadata={"row": case.index, "data_index": case.data_index},
        )

    def aggregate_subset(self, subset: str, sample_scores: list[SampleScore]) -> list[AggScore]:
        """Aggregate a subset: its scores, and the failed requests that the evaluator handed over."""
        return self._aggregate(sample_scores, self.failed.get(subset, []), self.run_metadata.get(subset, {}))

    def aggregate_scores(self, sample_scores: list[SampleScore]) -> list[AggScore]:
        """Aggregate scores alone, with no failed request beside them."""
        return self._aggregate(sample_scores, [], {})

    def _aggregate(
        self,
        sample_scores: list[SampleScore],
        failed: list[FailedRequest],
        run_metadata: Mapping[str, Any],
    ) -> list[AggScore]:
        judged = [judgement_from_json(score.score.metadata[METADATA_KEY]) for score in sample_scores]
        items: list[tuple[int, Judgement | FailedRequest]] = [*judged]
        items += [(request.case_index, request) for request in failed]
        tally = Tally()
        # In the order of the cases: all that belongs to one case makes one cluster.
        for case_index, item in sorted(items, key=lambda item: item[0]):
            if isinstance(item, FailedRequest):
                tally.add_failed(item)
            else:
                tally.add(case_index, item)
        return [
            _agg_score(metric, tally, run_metadata if metric.name == PRIMARY_METRIC else {})
            for metric in compute_metrics(tally)
            # EvalScope's reports hold numbers only; an undefined rate is left out, not made up.
            if metric.value is not None
        ]

    def _on_generate_report_end(self, report: Report, output_dir: str, **kwargs: Any) -> None:
        """Label the report of synthetic rows."""
        if any(rows.info.synthetic for rows in self.rows.values()):
            report.dataset_pretty_name = f"{report.dataset_pretty_name} (synthetic rows)"
            report.dataset_description = f"**Synthetic rows: no verdict.**\n{report.dataset_description}"


def _explanation(judgement: Judgement) -> str:
    official = "calls" if judgement.should_call else "does not call"
    vendor = "calls" if judgement.calls else "does not call"
    lines = [f"The official API {official}, the vendor {vendor} (finish_reason {judgement.finish_reason})."]
    lines += [f"{failure.failure_class.value}: {failure.detail}" for failure in judgement.failures]
    if judgement.primary is not None:
        lines.append(f"Primary class: {judgement.primary.value}.")
    lines += [f"Note: {note.kind.value}: {note.detail}" for note in judgement.notes]
    return "\n".join(lines).encode("utf-8", "replace").decode()


def _agg_score(metric: Metric, tally: Tally, run_metadata: Mapping[str, Any]) -> AggScore:
    counts = tally.counts
    metadata: dict[str, Any] = {
        "confusion": {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn},
        "completed": counts.completed,
        "failed": tally.failed,
        "without_repaired": metric.without_repaired,
    }
    if metric.interval is not None:
        metadata["interval"] = {
            "low": metric.interval.low,
            "high": metric.interval.high,
            "confidence": 0.95,
            "method": metric.interval.method,
        }
    metadata.update(run_metadata)
    assert metric.value is not None
    return AggScore(
        score=metric.value,
        metric_name=metric.name,
        num=metric.n,
        metadata=metadata,
    )
