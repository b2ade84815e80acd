"""The evaluator: EvalScope's phases, with this package's requests, pool and files."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalscope import __version__ as evalscope_version
from evalscope.api.dataset import Dataset, Sample
from evalscope.api.messages.perf_metrics import PerformanceMetrics
from evalscope.api.metric import SampleScore
from evalscope.api.registry import register_evaluator
from evalscope.constants import HEARTBEAT_INTERVAL_SEC
from evalscope.evaluator import DefaultEvaluator
from evalscope.report import Report
from evalscope.utils.logger import get_logger
from evalscope.utils.tqdm_utils import TqdmLogging

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.counts import FailedRequest
from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.core.judgement import judge
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.requests import Request
from k2_verifier_adapter.core.responses import NotACompletion, Response, parse_completion
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.errors import CacheMismatchError
from k2_verifier_adapter.evalscope_plugin import asking, settings
from k2_verifier_adapter.evalscope_plugin.exchange import Answer, NoAnswer, TransportOptions, utc_now
from k2_verifier_adapter.evalscope_plugin.failfast import FailFast
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner
from k2_verifier_adapter.evalscope_plugin.pool import run_pool
from k2_verifier_adapter.evalscope_plugin.registration import BENCHMARK
from k2_verifier_adapter.evalscope_plugin.run_files import SubsetFiles
from k2_verifier_adapter.formats.runs import RunPaths, read_facts, read_predictions
from k2_verifier_adapter.version import __version__

if TYPE_CHECKING:
    from k2_verifier_adapter.evalscope_plugin.adapter import K2VerifierAdapter

logger = get_logger()


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


@dataclass(slots=True)
class PoolContext:
    """What EvalScope's phases hand from one to the next.

    Attributes:
        work_items: All samples of all subsets.
        cached_scores_by_subset: Always empty: stored answers are judged again, from the raw response.
        review_pending_by_subset: Always empty: there is no batch scoring.
    """

    work_items: list[WorkItem]
    cached_scores_by_subset: dict[str, list[SampleScore]] = field(default_factory=dict)
    review_pending_by_subset: dict[str, list[Any]] = field(default_factory=dict)


@register_evaluator(BENCHMARK)
class K2VerifierEvaluator(DefaultEvaluator):
    """Run this benchmark.

    A failed request never stops the run, whatever `ignore_errors` says; it is kept beside the
    scores, handed to the aggregation, and sent again by the next run with `use_cache`.
    """

    benchmark: K2VerifierAdapter

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._asker: asking.Asker
        self._planner: RequestPlanner
        self._files: dict[str, SubsetFiles] = {}
        self._facts: dict[str, RunFacts] = {}

    def eval(self) -> Report:
        """Run the evaluation; whatever happens, what was answered is on disk."""
        try:
            return super().eval()
        finally:
            for files in self._files.values():
                files.close()

    def _collect_work_items(self, dataset_dict: dict[str, Dataset]) -> PoolContext:
        """Match every sample with its stored answer; refuse answers to other requests."""
        self._asker = asking.choose(self.model, self.task_config)
        user = settings.user_parameters(self.task_config, self._asker.api)
        if user.default_temperature:
            logger.info(
                "generation_config holds nothing but EvalScope's default temperature 0.0: the preset "
                'applies. To send 0.0, set extra_body: {"temperature": 0.0}.'
            )
        self._planner = RequestPlanner(self._asker.model_name, user.body)
        collected: list[tuple[RunPaths, list[WorkItem]]] = []
        for subset, dataset in dataset_dict.items():
            paths = RunPaths(Path(self.outputs.outputs_dir), self.model_name, subset)
            stored = _stored_records(paths) if self.use_cache else {}
            items = [self._work_item(subset, sample, stored) for sample in dataset]
            self._refuse_other_requests(items, paths)
            collected.append((paths, items))
        # Only now, when nothing is refused any more, is anything written.
        for paths, items in collected:
            self._open_files(paths, items)
        return PoolContext([item for _, items in collected for item in items])

    def _work_item(
        self, subset: str, sample: Sample, stored: Mapping[tuple[int, int], ResponseRecord]
    ) -> WorkItem:
        case: Case = sample.metadata["case"]
        repeat = int(sample.id) % self.benchmark.repeats
        return WorkItem(subset, sample, case, repeat, stored.get((case.index, repeat)))

    def _refuse_other_requests(self, items: list[WorkItem], paths: RunPaths) -> None:
        stored = [(item, item.stored) for item in items if item.stored is not None]
        differing = []
        for item, record in stored:
            identity = self._planner.request(item.subset, item.case).identity
            difference = identity.difference_from(record.request)
            if difference is not None:
                differing.append(f"case {item.case.index}: {difference}")
        if differing:
            raise CacheMismatchError(
                f"{paths.predictions}: {len(differing)} of {len(stored)} stored responses answer other "
                f"requests than today's ({' | '.join(differing[:3])}). Restore the settings and rows of that "
                "run, or start a new one without --use-cache."
            )

    def _open_files(self, paths: RunPaths, items: list[WorkItem]) -> None:
        subset = paths.subset
        cases = {item.case.index: item.case for item in items}
        rows = self.benchmark.rows[subset]
        earlier = read_facts(paths) if self.use_cache else None
        facts = RunFacts(
            model=self.model_name,
            subset=subset,
            parameters=self._planner.shared_parameters(subset, cases.values()),
            rows=rows.info,
            planned=len(items),
            repeats=self.benchmark.repeats,
            started_at=earlier.started_at if earlier else utc_now(),
            finished_at=None,
            complete=False,
            endpoint_host=self._asker.host,
            adapter=__version__,
            evalscope=evalscope_version,
            python=platform.python_version(),
            standard=rows.standard or preset_for(subset).standard,
        )
        logger.info(f"{subset}: sent with {dict(facts.parameters)}")
        files = SubsetFiles(paths, self.cache_manager.get_review_cache_path(subset))
        files.open(facts, [cases[index] for index in sorted(cases)], resume=bool(self.use_cache))
        self._facts[subset], self._files[subset] = facts, files

    def _run_pool(self, context: PoolContext) -> dict[str, list[tuple[None, SampleScore]]]:
        """Answer and judge everything."""
        results: dict[str, list[tuple[None, SampleScore]]] = {subset: [] for subset in self._files}
        waiting: list[WorkItem] = []
        with TqdmLogging(
            total=len(context.work_items),
            desc=f"Evaluating[{self.benchmark_name}]",
            mininterval=1,
            dynamic_ncols=True,
            logger=logger,
            log_interval=HEARTBEAT_INTERVAL_SEC,
            track_progress=True,
        ) as bar:

            def done(item: WorkItem, score: SampleScore | None) -> None:
                if score is not None:
                    results[item.subset].append((None, score))
                bar.update(1)

            for item in context.work_items:
                if item.stored is None:
                    waiting.append(item)
                else:
                    done(item, self._judge_stored(item, item.stored))
            failfast = FailFast(len(waiting))

            async def answer(item: WorkItem) -> None:
                request = self._planner.request(item.subset, item.case)
                outcome = await self._asker.ask(request, item.case)
                if isinstance(outcome, NoAnswer):
                    self._record_failure(item, outcome)
                    done(item, None)
                    if outcome.attempts:
                        failfast.failed(outcome.failure, outcome.status)
                else:
                    failfast.succeeded()
                    done(item, self._record_answer(item, request, outcome))

            try:
                if waiting:
                    concurrency = self.task_config.eval_batch_size
                    session = self._asker.session(self._transport_options(), concurrency)
                    run_pool(waiting, answer, concurrency=concurrency, context=session)
            except BaseException:
                self._finish(complete=False)
                raise
        self._finish(complete=True)
        return results

    def _transport_options(self) -> TransportOptions:
        preset = max(map(preset_for, self._files), key=lambda preset: preset.timeout_s)
        return settings.transport_options(
            self.task_config.generation_config, preset, self.benchmark.extra_params
        )

    def _record_answer(self, item: WorkItem, request: Request, answer: Answer) -> SampleScore:
        record = asking.record_of(answer, request, item.case.index, item.repeat)
        self._files[item.subset].save_prediction(int(item.sample.id), self._asker.model_name, record)
        self._count_performance(item, answer)
        return self._score(item, record, answer.response)

    def _judge_stored(self, item: WorkItem, record: ResponseRecord) -> SampleScore | None:
        response = parse_completion(record.response)
        if isinstance(response, NotACompletion):
            failure = Failure(response.failure_class, response.reason)
            self._record_failure(item, NoAnswer(failure, 200, record.attempts, record.duration_s))
            return None
        return self._score(item, record, response)

    def _score(self, item: WorkItem, record: ResponseRecord, response: Response) -> SampleScore:
        judgement = judge(item.case, response, record.stream_anomalies)
        sample = item.sample
        score = self.benchmark.sample_score(int(sample.id), sample.group_id, item.case, record, judgement)
        self._files[item.subset].keep_review(score, item.case, response)
        return score

    def _record_failure(self, item: WorkItem, outcome: NoAnswer) -> None:
        failed = FailedRequest(
            case_index=item.case.index,
            failure=outcome.failure,
            status=outcome.status,
            attempts=outcome.attempts,
            repeat=item.repeat,
            duration_s=outcome.duration_s,
        )
        self._execution_tracker.record_error(item.subset)
        self.benchmark.failed.setdefault(item.subset, []).append(failed)
        self._files[item.subset].save_failure(failed)
        logger.warning(
            f"case {item.case.index} of {item.subset} failed after {outcome.attempts} attempts: "
            f"{outcome.failure.failure_class.value}: {outcome.failure.detail}"
        )

    def _count_performance(self, item: WorkItem, answer: Answer) -> None:
        if not self.task_config.collect_perf:
            return
        usage = answer.response.completion.get("usage")
        tokens = usage if isinstance(usage, Mapping) else {}
        metrics = PerformanceMetrics(
            latency=answer.duration_s,
            ttft=answer.ttft_s,
            input_tokens=_token_count(tokens.get("prompt_tokens")),
            output_tokens=_token_count(tokens.get("completion_tokens")),
        )
        self.perf_collector.record(metrics, sample_index=item.sample.id, turn_index=0)
        self._perf_request_count += 1
        self._perf_metric_count += 1

    def _finish(self, *, complete: bool) -> None:
        for subset, files in self._files.items():
            facts = replace(self._facts[subset], finished_at=utc_now(), complete=complete)
            files.finish(facts)
            rows = facts.rows
            self.benchmark.run_metadata[subset] = {
                "parameters": dict(facts.parameters),
                "rows": {"source": rows.source, "sha256": rows.sha256, "synthetic": rows.synthetic},
                "repaired_cases": sum(case.repairs.beyond_upstream for case in files.cases),
                "adapter": facts.adapter,
            }


def _stored_records(paths: RunPaths) -> dict[tuple[int, int], ResponseRecord]:
    records, damaged = read_predictions(paths.predictions)
    if damaged:
        logger.warning(
            f"{paths.predictions}: {damaged} lines are damaged or not this adapter's; their samples are "
            "sent again"
        )
    return {(record.case_index, record.repeat): record for record in records}


def _token_count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
