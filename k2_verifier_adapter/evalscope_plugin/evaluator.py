"""The evaluator: EvalScope's phases, with this package's requests, pool and files."""

from __future__ import annotations

import atexit
import contextlib
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evalscope import __version__ as evalscope_version
from evalscope.api.dataset import Dataset
from evalscope.api.messages.perf_metrics import PerformanceMetrics
from evalscope.api.metric import SampleScore
from evalscope.api.registry import register_evaluator
from evalscope.constants import HEARTBEAT_INTERVAL_SEC
from evalscope.evaluator import DefaultEvaluator
from evalscope.report import Report
from evalscope.utils.logger import get_logger
from evalscope.utils.tqdm_utils import TqdmLogging

from k2_verifier_adapter.core.judged import Item, judge_record
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.looks import Looks
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.responses import reported_tokens
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.summary import summarize
from k2_verifier_adapter.errors import StorageError
from k2_verifier_adapter.evalscope_plugin import masking, planning, run_files
from k2_verifier_adapter.evalscope_plugin.adapter import K2VerifierAdapter
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget, BudgetSpentError, run_pool
from k2_verifier_adapter.evalscope_plugin.client.retries import FailFast
from k2_verifier_adapter.evalscope_plugin.client.transport import utc_now
from k2_verifier_adapter.evalscope_plugin.model_clients import ModelClient, client_for, transport_options
from k2_verifier_adapter.evalscope_plugin.parameters import gate_options
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner, WorkItem
from k2_verifier_adapter.evalscope_plugin.reviews import sample_score
from k2_verifier_adapter.evalscope_plugin.run_files import SubsetFiles, write_reports, writing_alone
from k2_verifier_adapter.formats.runs import RunPaths, read_facts, read_failures
from k2_verifier_adapter.version import BENCHMARK, __version__

logger = get_logger()


@dataclass(slots=True)
class PoolContext:
    """What EvalScope's phases hand from one to the next: all samples of all subsets.

    No score is cached, for stored answers are judged again, and there is no batch scoring to wait for.
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
    use_cache: str | None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # EvalScope dumps and logs the settings right behind this.
        masking.check_and_mask(self.task_config)
        self._client: ModelClient
        self._planner: RequestPlanner
        self._bar: TqdmLogging
        self._datasets: dict[str, Dataset] = {}
        self._files: dict[str, SubsetFiles] = {}
        self._looks: dict[str, Looks] = {}
        self._failed_before: dict[str, list[FailedRequest]] = {}
        self._opened = contextlib.ExitStack()
        run, subsets = Path(self.outputs.outputs_dir), self._subset_paths()
        if self.use_cache and run_files.nothing_to_resume(run, subsets):
            self.use_cache = self.task_config.use_cache = None
        with writing_alone(subsets):
            pass  # EvalScope is about to replace the settings kept there: not those of a run under way.

    def eval(self) -> Report:
        """Run the evaluation; whatever happens, what was answered is on disk."""
        with writing_alone(self._subset_paths()), self._opened:
            try:
                report = super().eval()
                summaries = self.benchmark.summaries
                _say_verdicts([write_reports(self._files[subset], summaries[subset]) for subset in summaries])
            except (OSError, StorageError) as error:
                # EvalScope's own files lie on the same disk.
                run = Path(self.outputs.outputs_dir)
                refused = StorageError.of(error, run) if isinstance(error, OSError) else error
                if refused is None:
                    raise
                raise run_files.explain(refused, run, self._files.values()) from error
            return report

    def _subset_paths(self) -> list[RunPaths]:
        run = Path(self.outputs.outputs_dir)
        return [RunPaths(run, self.model_name, subset) for subset in self.benchmark.subset_list]

    def _collect_work_items(self, dataset_dict: dict[str, Dataset]) -> PoolContext:
        """Match every sample with its stored answer; refuse answers to other requests."""
        self._datasets = dataset_dict
        self._client = client_for(self.model, self.task_config)
        user = planning.user_parameters(self.task_config, self._client.api)
        self._planner = RequestPlanner(self._client.model_name, user, self._client.masker)
        self.benchmark.check_gate()
        collected: list[tuple[RunPaths, list[WorkItem]]] = []
        resume, repeats = bool(self.use_cache), self.benchmark.repeats
        for subset, dataset in dataset_dict.items():
            paths = RunPaths(Path(self.outputs.outputs_dir), self.model_name, subset)
            rule = self.benchmark.stopping_rule(subset)
            items = planning.collect(self._planner, paths, dataset, repeats, resume=resume, rule=rule)
            collected.append((paths, items))
        # Only now, when nothing is refused any more, is anything written.
        for paths, items in collected:
            self._open_files(paths, items)
            logger.info(f"{paths.subset}: {planning.expected_cost(items)}")
        return PoolContext([item for _, items in collected for item in items])

    def _open_files(self, paths: RunPaths, items: list[WorkItem]) -> None:
        subset = paths.subset
        cases = {item.case.index: item.case for item in items}
        rows = self.benchmark.rows[subset]
        earlier = read_facts(paths) if self.use_cache else None
        rule = self.benchmark.stopping_rule(subset)
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
            endpoint_host=self._client.host,
            adapter=__version__,
            evalscope=evalscope_version,
            python=platform.python_version(),
            standard=rows.standard or preset_for(subset).standard,
            gate=gate_options(self.benchmark.parameters),
            stopping=rule,
            profile=self.benchmark.parameters["profile"],
        )
        logger.info(f"{subset}: sent with {dict(facts.parameters)}")
        reviews = self.cache_manager.get_review_cache_path(subset)
        in_order = [cases[index] for index in sorted(cases)]
        if rule is not None:
            self._looks[subset] = Looks(facts, rule, in_order)
            self._failed_before[subset] = read_failures(paths) if self.use_cache else []
        files = SubsetFiles(paths, reviews, facts, in_order, resume=bool(self.use_cache))
        self._opened.callback(files.close)
        self._files[subset] = files

    def _run_pool(self, context: PoolContext) -> dict[str, list[tuple[None, SampleScore]]]:
        """Have everything answered, and judge it."""
        with TqdmLogging(
            total=len(context.work_items),
            desc=f"Evaluating[{self.benchmark_name}]",
            mininterval=1,
            dynamic_ncols=True,
            logger=logger,
            log_interval=HEARTBEAT_INTERVAL_SEC,
            track_progress=True,
        ) as self._bar:
            waiting = [item for item in context.work_items if item.stored is None]
            for item in context.work_items:
                if item.stored is not None:
                    self._judge(item, item.stored)
                    self._bar.update(1)
            self._keep_decided(waiting)
            try:
                stopped = self._answer(waiting) if waiting else {}
            except BaseException:
                # On a full disk this fails, too; what ended the run is what the user must hear of.
                with contextlib.suppress(StorageError):
                    self._finish(complete=False)
                raise
        self._finish(complete=True, stopped=stopped)
        self.benchmark.summaries = {
            subset: summarize(files.facts, files.cases, files.items) for subset, files in self._files.items()
        }
        for subset in filter(self._decided, self._files):
            # EvalScope 1.14.1 calls a run incomplete that has fewer scores than samples.
            self._datasets[subset] = self._datasets[subset][: len(self._files[subset].items)]
        return {subset: [(None, score) for score in files.scores] for subset, files in self._files.items()}

    def _keep_decided(self, waiting: list[WorkItem]) -> None:
        """Leave a verdict alone that was decided before, with requests that failed: none is sent again."""
        asked = {(item.subset, item.case.index, item.repeat) for item in waiting}
        for subset, before in self._failed_before.items():
            files, looks = self._files[subset], self._looks[subset]
            failed = [item for item in before if (subset, item.case_index, item.repeat) in asked]
            again = Looks(files.facts, looks.rule, files.cases)
            for item in (*files.items, *failed):
                again.add(item)
            if again.settled:
                for item in failed:
                    self._record_failure(subset, item)

    def _answer(self, waiting: list[WorkItem]) -> dict[str, str]:
        """Send all that has no answer; give the maximum that was reached, by subset left unfinished."""
        failfast = FailFast(len(waiting), raw=self._client.raw)
        parameters = self.benchmark.parameters
        budget = Budget(parameters["max_requests"], parameters["max_total_tokens"], parameters["max_minutes"])
        left = Counter[str]()

        def stop_if_decided() -> None:
            if all(map(self._decided, self._files)):
                budget.close("decided")

        async def answer(item: WorkItem) -> None:
            if self._decided(item.subset):
                return
            request = self._planner.request(item.subset, item.case)
            try:
                outcome = await self._client.send(request, item.case, item.repeat)
            except BudgetSpentError:
                # Neither answered nor failed: left to the next session.
                left[item.subset] += 1
                return
            if isinstance(outcome, FailedRequest):
                self._record_failure(item.subset, outcome)
                self._bar.update(1)
                stop_if_decided()
                if outcome.attempts:
                    failfast.failed(outcome.failure, outcome.status)
                return
            failfast.succeeded()
            # What was paid for is on disk before it is judged.
            self._files[item.subset].save_prediction(int(item.sample.id), self._client.model_name, outcome)
            completion = self._judge(item, outcome)
            budget.use(planning.tokens_of(item.case, completion, outcome.response))
            self._count_performance(item, outcome, completion)
            self._bar.update(1)
            stop_if_decided()

        preset = max(map(preset_for, self._files), key=lambda preset: preset.timeout_s)
        options = transport_options(self.task_config.generation_config, preset, parameters)
        concurrency = self.task_config.eval_batch_size
        session = self._client.session(options, concurrency, budget)
        run_pool(waiting, answer, concurrency=concurrency, context=session)
        unfinished = {subset: count for subset, count in left.items() if not self._decided(subset)}
        for subset, count in unfinished.items():
            logger.warning(
                f"{subset}: stopped, {budget.spent} reached; {count} requests are left. Go on with "
                f"--use-cache {self.outputs.outputs_dir}"
            )
        return dict.fromkeys(unfinished, f"{budget.spent} reached")

    def _decided(self, subset: str) -> bool:
        return subset in self._looks and self._looks[subset].decided

    def _look(self, item: Item, subset: str) -> None:
        """Let the looks know what became of a request."""
        looks = self._looks.get(subset)
        if looks is not None and looks.add(item):
            # Not as the postfix, which a narrow terminal cuts off.
            self._bar.set_description(str(looks))

    def _judge(self, item: WorkItem, record: ResponseRecord) -> Mapping[str, Any]:
        """Judge an answer and keep what was judged; give its completion, empty if it is none."""
        judged = judge_record(item.case, record, self._files[item.subset].facts.model_profile)
        if isinstance(judged, FailedRequest):
            self._record_failure(item.subset, judged)
            return {}
        self._files[item.subset].keep_review(sample_score(item.sample, item.case, judged), item.case, judged)
        self._look(judged, item.subset)
        return judged.response.completion

    def _record_failure(self, subset: str, failed: FailedRequest) -> None:
        self._execution_tracker.record_error(subset)
        self._files[subset].save_failure(failed)
        self._look(failed, subset)
        logger.warning(
            f"case {failed.case_index} of {subset} failed after {failed.attempts} attempts: "
            f"{failed.failure.failure_class.value}: {failed.failure.detail}"
        )

    def _count_performance(
        self, item: WorkItem, record: ResponseRecord, completion: Mapping[str, Any]
    ) -> None:
        if not self.task_config.collect_perf:
            return
        metrics = PerformanceMetrics(
            latency=record.duration_s,
            ttft=record.ttft_s,
            input_tokens=reported_tokens(completion, "prompt_tokens"),
            output_tokens=reported_tokens(completion, "completion_tokens"),
        )
        self.perf_collector.record(metrics, sample_index=item.sample.id, turn_index=0)
        self._perf_request_count += 1
        self._perf_metric_count += 1

    def _finish(self, *, complete: bool, stopped: Mapping[str, str] = MappingProxyType({})) -> None:
        for subset, files in self._files.items():
            facts = replace(
                files.facts,
                finished_at=utc_now(),
                complete=complete and subset not in stopped,
                stopped=stopped.get(subset),
            )
            if subset in self._looks:
                facts = self._looks[subset].facts_of(facts)
            files.finish(facts)


def _say_verdicts(lines: Iterable[str]) -> None:
    """Log the verdicts; the stock command line says them once more as its last lines."""
    for line in lines:
        logger.info(line)
        program = Path(sys.argv[0])
        # `evalscope`, or `python -m evalscope.cli.cli`.
        if program.stem == "evalscope" or program.parts[-3:] == ("evalscope", "cli", "cli.py"):
            # EvalScope's tables come behind the evaluation, and a verdict is what one looks for at the end.
            atexit.register(_print, line)


def _print(line: str) -> None:
    # Whoever ends the process may have closed the stream before.
    if sys.stderr is not None and not sys.stderr.closed:
        print(line, file=sys.stderr)  # noqa: T201 - EvalScope's own tables are printed, too
