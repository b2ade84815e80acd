"""The evaluator: EvalScope's phases, with this package's requests, pool and files."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
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

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.judged import Item, judge_record, kept_of
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.looks import Looks
from k2_verifier_adapter.core.model_profiles import lacking_reasoning
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.responses import reported_tokens
from k2_verifier_adapter.core.run_facts import RunFacts
from k2_verifier_adapter.core.summary import summarize
from k2_verifier_adapter.errors import EndpointError, RunStoppedError, StorageError
from k2_verifier_adapter.evalscope_plugin import asked, masking, planning, run_files
from k2_verifier_adapter.evalscope_plugin.adapter import K2VerifierAdapter
from k2_verifier_adapter.evalscope_plugin.client.failfast import FailFast, Hopeless, RequestKey
from k2_verifier_adapter.evalscope_plugin.client.pacing import Budget, BudgetSpentError, run_pool
from k2_verifier_adapter.evalscope_plugin.client.transport import utc_now
from k2_verifier_adapter.evalscope_plugin.console import REPEATED, bar_stream
from k2_verifier_adapter.evalscope_plugin.model_clients import (
    ModelClient,
    Outcome,
    client_for,
    transport_options,
)
from k2_verifier_adapter.evalscope_plugin.parameters import gate_options
from k2_verifier_adapter.evalscope_plugin.planning import WorkItem
from k2_verifier_adapter.evalscope_plugin.reviews import sample_score
from k2_verifier_adapter.evalscope_plugin.run_files import SubsetFiles, write_reports, writing_alone
from k2_verifier_adapter.formats.runs import RunPaths, read_failures
from k2_verifier_adapter.version import BENCHMARK, __version__

logger = get_logger()


_GRACE_S = 60.0
"""Seconds that answers under way get once a run is given up."""

_GRACE_POLL_S = 0.05


class _GraceOverError(Exception):
    """The answers under way took longer than their grace."""


@dataclass(slots=True)
class _Session:
    """What is asked now: who watches it, what it may spend, and what is left to answer, by subset."""

    failfast: FailFast
    budget: Budget
    timeouts_s: Mapping[str, float]
    left: Counter[str]
    under_way: int = 0


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
    files: type[SubsetFiles] = SubsetFiles

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        asked.check_endpoint(self.task_config)
        # EvalScope dumps and logs the settings right behind this.
        masking.check_and_mask(self.task_config)
        self._client: ModelClient
        self._planner: planning.RequestPlanner
        self._bar: TqdmLogging
        self._datasets: dict[str, Dataset] = {}
        self._files: dict[str, SubsetFiles] = {}
        self._looks: dict[str, Looks] = {}
        self._failed_before: dict[RequestKey, FailedRequest] = {}
        self._budget: Budget | None = None
        self._stored_answers = 0
        self._proven = False
        self._given_up: str | None = None
        self._left = 0
        self._opened = contextlib.ExitStack()
        run, subsets = Path(self.outputs.outputs_dir), self._subset_paths()
        run_files.check_regular(run)
        if self.use_cache and run_files.nothing_to_resume(run, subsets):
            self.use_cache = self.task_config.use_cache = None
        with writing_alone(subsets):
            pass  # EvalScope is about to replace the settings kept there: not those of a run under way.

    def eval(self) -> Report:
        """Run the evaluation; whatever happens, what was answered is on disk."""
        with writing_alone(self._subset_paths()), self._opened:
            try:
                report = super().eval()
                _say_verdicts(self._write_reports())
                if self._given_up is not None and self._left:
                    raise RunStoppedError(self.outputs.outputs_dir, self._given_up)
            except (OSError, StorageError) as error:
                # EvalScope's own files lie on the same disk.
                run = Path(self.outputs.outputs_dir)
                refused = StorageError.of(error, run) if isinstance(error, OSError) else error
                if refused is None:
                    raise
                raise run_files.explain(refused, run, self._files.values()) from error
            return report

    def _subset_paths(self) -> list[RunPaths]:
        return [self._paths(subset) for subset in self.benchmark.subset_list]

    def _paths(self, subset: str) -> RunPaths:
        return RunPaths(Path(self.outputs.outputs_dir), self.model_name, subset, self.benchmark.name)

    def _write_reports(self) -> list[str]:
        """Write this package's own reports; give what is to be said last."""
        summaries = self.benchmark.summaries
        return [write_reports(self._files[subset], summaries[subset]) for subset in summaries]

    def _collect_work_items(self, dataset_dict: dict[str, Dataset]) -> PoolContext:
        """Match every sample with its stored answer; refuse answers to other requests."""
        self._datasets = dataset_dict
        self._client = client_for(self.model, self.task_config)
        user = planning.user_parameters(self.task_config, self._client.api)
        self._planner = self.benchmark.planner(self._client.model_name, user, self._client.masker)
        self.benchmark.check_gate()
        collected: list[tuple[RunPaths, list[WorkItem]]] = []
        resume, repeats = bool(self.use_cache), self.benchmark.repeats
        for subset, dataset in dataset_dict.items():
            paths = self._paths(subset)
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
        earlier = planning.earlier_facts(paths) if self.use_cache else None
        failed_before = read_failures(paths) if self.use_cache else []
        stored = [item for item in items if item.stored is not None]
        self._stored_answers += len(stored)
        self._proven |= bool(stored) and earlier is not None and earlier.endpoint_host == self._client.host
        self._failed_before.update({(subset, item.case_index, item.repeat): item for item in failed_before})
        facts = self._facts(subset, items, earlier.started_at if earlier else utc_now())
        logger.info(f"{subset}: sent with {dict(facts.parameters)}")
        self._warn_of_refusals(facts, cases.values())
        in_order = [cases[index] for index in sorted(cases)]
        if facts.stopping is not None:
            self._looks[subset] = Looks(facts, facts.stopping, in_order)
        waiting = {(item.case.index, item.repeat) for item in items if item.stored is None}
        kept = [item for item in failed_before if (item.case_index, item.repeat) in waiting]
        files = self.files(
            paths,
            self.cache_manager.get_review_cache_path(subset),
            facts,
            in_order,
            resume=bool(self.use_cache),
            # A run until its verdict is decided is judged by what was asked before the decision.
            failed_before=kept if facts.stopping is None else (),
        )
        self._opened.callback(files.close)
        self._files[subset] = files

    def _facts(self, subset: str, items: list[WorkItem], started_at: str) -> RunFacts:
        """Put together what is known of a subset's run before it is asked."""
        rows = self.benchmark.rows[subset]
        return RunFacts(
            model=self.model_name,
            subset=subset,
            parameters=self._planner.shared_parameters(subset, [item.case for item in items]),
            rows=rows.info,
            planned=len(items),
            repeats=self.benchmark.repeats,
            started_at=started_at,
            finished_at=None,
            complete=False,
            endpoint_host=self._client.host,
            adapter=__version__,
            evalscope=evalscope_version,
            python=platform.python_version(),
            standard=rows.standard or self.benchmark.preset(subset).standard,
            gate=gate_options(self.benchmark.parameters),
            stopping=self.benchmark.stopping_rule(subset),
            profile=self.benchmark.parameters["profile"],
        )

    def _warn_of_refusals(self, facts: RunFacts, cases: Iterable[Case]) -> None:
        """Warn of rows that the model's API refuses as they stand."""
        lacking = lacking_reasoning(cases, facts.model_profile)
        if lacking:
            logger.warning(
                f"{facts.subset}: {len(lacking)} rows have assistant messages without reasoning_content, "
                f"which the API of {facts.model_profile.title} refuses while thinking is on; the first: "
                f"{lacking[:10]}"
            )

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
            file=bar_stream(),
        ) as self._bar:
            waiting = [item for item in context.work_items if item.stored is None]
            for item in context.work_items:
                if item.stored is not None:
                    self._judge(item, item.stored)
                    self._bar.update(1)
            self._keep_decided(waiting)
            try:
                stopped = self._answer(waiting)
            except BaseException:
                # On a full disk this fails, too; what ended the run is what the user must hear of.
                with contextlib.suppress(StorageError):
                    self._finish(complete=False)
                raise
        self._finish(complete=True, stopped=stopped)
        self._summarize()
        for subset in filter(self._decided, self._files):
            # EvalScope 1.14.1 calls a run incomplete that has fewer scores than samples.
            self._datasets[subset] = self._datasets[subset][: len(self._files[subset].items)]
        return {subset: [(None, score) for score in files.scores] for subset, files in self._files.items()}

    def _summarize(self) -> None:
        """Hand the adapter what it aggregates."""
        self.benchmark.summaries = {
            subset: summarize(files.facts, files.cases, files.items) for subset, files in self._files.items()
        }

    def _keep_decided(self, waiting: list[WorkItem]) -> None:
        """Leave a verdict alone that was decided before, with requests that failed: none is sent again."""
        asked = {(item.subset, item.case.index, item.repeat) for item in waiting}
        for subset, looks in self._looks.items():
            files = self._files[subset]
            failed = [item for key, item in self._failed_before.items() if key in asked and key[0] == subset]
            again = Looks(files.facts, looks.rule, files.cases)
            for item in (*files.items, *failed):
                again.add(item)
            if again.settled:
                for item in failed:
                    self._record_failure(subset, item)

    def _answer(self, waiting: list[WorkItem]) -> dict[str, str]:
        """Send all that has no answer; give why the session ended early, by subset left unfinished."""
        if not waiting:
            return {}
        parameters, concurrency = self.benchmark.parameters, self.task_config.eval_batch_size
        config = self.task_config.generation_config
        options = {
            subset: transport_options(config, self.benchmark.preset(subset), parameters)
            for subset in self._files
        }
        if self._budget is None:
            maxima = (parameters[name] for name in ("max_requests", "max_total_tokens", "max_minutes"))
            self._budget = Budget(*maxima)
        session = _Session(
            FailFast(
                len(waiting),
                concurrency,
                answered=self._stored_answers,
                before=self._failed_before,
                raw=self._client.raw,
            ),
            self._budget,
            {subset: one.timeout_s for subset, one in options.items()},
            Counter(item.subset for item in waiting),
        )
        shared = replace(
            next(iter(options.values())),
            timeout_s=min(session.timeouts_s.values()),
            proven=self._proven,
            total=len(waiting),
        )
        opened = self._client.session(shared, concurrency, session.budget)
        with contextlib.suppress(_GraceOverError):
            run_pool(waiting, partial(self._answer_item, session), concurrency=concurrency, context=opened)
        left = {subset: count for subset, count in (+session.left).items() if not self._decided(subset)}
        why = self._given_up or f"{session.budget.spent} reached"
        for subset, count in left.items():
            logger.warning(
                f"{subset}: stopped, {why}; {count} requests are left. Go on with "
                f"--use-cache {self.outputs.outputs_dir}"
            )
        self._left = sum(left.values())
        return dict.fromkeys(left, why)

    async def _answer_item(self, session: _Session, item: WorkItem) -> None:
        if self._decided(item.subset):
            return
        session.under_way += 1
        try:
            outcome = await self._ask(item, session.timeouts_s[item.subset])
        except BudgetSpentError:
            return  # Neither answered nor failed: left to the next session.
        finally:
            session.under_way -= 1
        session.left[item.subset] -= 1
        if isinstance(outcome, FailedRequest):
            self._record_failure(item.subset, outcome)
            hopeless = session.failfast.failed(outcome, item.subset) if outcome.attempts else None
        else:
            self._keep_answer(session, item, outcome)
            hopeless = None
        self._bar.update(1)
        if all(map(self._decided, self._files)):
            session.budget.close("decided")
        elif hopeless is not None:
            await self._give_up(session, hopeless)

    async def _ask(self, item: WorkItem, timeout_s: float) -> Outcome:
        request = self._planner.request(item.subset, item.case)
        return await self._client.send(request, item.case, item.repeat, timeout_s)

    def _keep_answer(self, session: _Session, item: WorkItem, record: ResponseRecord) -> None:
        session.failfast.succeeded(record.duration_s)
        # What was paid for is on disk before it is judged.
        self._files[item.subset].save_prediction(int(item.sample.id), self._client.model_name, record)
        completion = self._judge(item, record)
        session.budget.use(planning.tokens_of(item.case, completion, record.response))
        self._count_performance(item, record, completion)

    async def _give_up(self, session: _Session, why: Hopeless) -> None:
        """Send nothing more; answers under way are paid for, and get a minute."""
        if why.to_change:
            raise EndpointError(f"stopped: {why.reason}")
        if self._given_up is not None:
            return
        logger.warning(f"nothing more is sent: {why.reason}")
        self._given_up = why.reason
        session.budget.close(why.reason)
        until = time.monotonic() + _GRACE_S
        while session.under_way:
            if time.monotonic() > until:
                raise _GraceOverError
            await asyncio.sleep(_GRACE_POLL_S)

    def _decided(self, subset: str) -> bool:
        return subset in self._looks and self._looks[subset].decided

    def _look(self, item: Item, subset: str) -> None:
        """Let the looks know what became of a request."""
        looks = self._looks.get(subset)
        if looks is not None and looks.add(item):
            # Not as the postfix, which a narrow terminal cuts off.
            self._bar.set_description(str(looks))
            if not sys.stderr.isatty():
                logger.info(f"{subset}: {looks}")  # The bar is not drawn there.

    def _judge(self, item: WorkItem, record: ResponseRecord) -> Mapping[str, Any]:
        """Judge an answer and keep what was judged; give its completion, empty if it is none."""
        judged = judge_record(item.case, record, self._files[item.subset].facts.model_profile)
        if isinstance(judged, FailedRequest):
            self._record_failure(item.subset, judged)
            return {}
        judged = kept_of(judged, record.response)
        score = sample_score(item.sample.id, item.sample.group_id, item.case, judged)
        self._files[item.subset].keep_judged(judged, score, item.case)
        self._look(judged, item.subset)
        return judged.response.completion

    def _record_failure(self, subset: str, failed: FailedRequest) -> None:
        self._execution_tracker.record_error(subset)
        self._files[subset].save_failure(failed)
        self._look(failed, subset)
        logger.warning(
            f"case {failed.case_index} of {subset} failed after {failed.attempts} attempts: {failed.failure}"
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
                complete=files.whole or (complete and subset not in stopped),
                stopped=None if files.whole else stopped.get(subset),
            )
            if subset in self._looks:
                facts = self._looks[subset].facts_of(facts)
            files.finish(facts)


def _say_verdicts(lines: Iterable[str]) -> None:
    """Log the verdicts; the stock command line says them once more as its last lines."""
    for line in lines:
        logger.info(line, extra=REPEATED)
        program = Path(sys.argv[0])
        # `evalscope`, or `python -m evalscope.cli.cli`.
        if program.stem == "evalscope" or program.parts[-3:] == ("evalscope", "cli", "cli.py"):
            # EvalScope's tables come behind the evaluation, and a verdict is what one looks for at the end.
            atexit.register(_print, line)


def _print(line: str) -> None:
    # Whoever ends the process may have closed the stream before.
    if sys.stderr is not None and not sys.stderr.closed:
        print(line, file=sys.stderr)  # noqa: T201 - EvalScope's own tables are printed, too
