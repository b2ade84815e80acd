"""`kimi_conformance`: suites of probes as a benchmark, on the requests, files and pool of `k2_verifier`.

What differs: refusals that the contract speaks of are answers, a probe that fails is asked again if the user
wants to know whether it always does, and what is aggregated are probes passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from evalscope.api.benchmark import BenchmarkMeta
from evalscope.api.benchmark.adapters.function_call_adapter import FunctionCallAdapter
from evalscope.api.dataset import Dataset, DatasetDict, Sample
from evalscope.api.evaluator import TaskState
from evalscope.api.metric import AggScore, SampleScore
from evalscope.api.model import Model
from evalscope.api.registry import register_evaluator
from evalscope.constants import Tags
from evalscope.utils.logger import get_logger

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.conformance.judging import OK, Answer, answer_of
from k2_verifier_adapter.core.conformance.probes import STATUSES, Mode, ProbeCase, cases_of, continued
from k2_verifier_adapter.core.conformance.results import Conformance, Outcome, SuiteResult, judge_suite
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.model_profiles import ModelProfile, model_profiles, profile_of_name
from k2_verifier_adapter.core.presets import Preset
from k2_verifier_adapter.core.records import ResponseRecord
from k2_verifier_adapter.core.refusals import OF_THE_REQUEST, sort_refusal
from k2_verifier_adapter.core.requests import Request, merge_parameters
from k2_verifier_adapter.core.run_facts import RowsInfo, RunFacts
from k2_verifier_adapter.core.secrets import Masker
from k2_verifier_adapter.core.verdict import Gate
from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin import loading
from k2_verifier_adapter.evalscope_plugin.adapter import keep_identity, name_metric
from k2_verifier_adapter.evalscope_plugin.client.transport import utc_now
from k2_verifier_adapter.evalscope_plugin.description import CONFORMANCE_ENGLISH, CONFORMANCE_NAME
from k2_verifier_adapter.evalscope_plugin.evaluator import K2VerifierEvaluator, PoolContext
from k2_verifier_adapter.evalscope_plugin.model_clients import Outcome as ClientOutcome
from k2_verifier_adapter.evalscope_plugin.model_clients import raw_endpoint
from k2_verifier_adapter.evalscope_plugin.parameters import CONFORMANCE_PARAMETERS, checked_values
from k2_verifier_adapter.evalscope_plugin.planning import RequestPlanner, WorkItem
from k2_verifier_adapter.evalscope_plugin.reviews import probe_review, probe_score
from k2_verifier_adapter.evalscope_plugin.run_files import SubsetFiles, write_every_format
from k2_verifier_adapter.formats.rows import LoadedRows
from k2_verifier_adapter.formats.runs import RunPaths, read_predictions
from k2_verifier_adapter.formats.suites import Suite, load_suite, suite_names, write_probes
from k2_verifier_adapter.reports.formats import ConformanceReport
from k2_verifier_adapter.reports.wording import conformance_line
from k2_verifier_adapter.version import CONFORMANCE, __version__

logger = get_logger()

_FIRST = "pass_rate"
_EVENTUALLY = "eventual_pass_rate"
_UNANSWERED = "unanswered_rate"
_TIMEOUT_S = 600.0
"""Seconds without progress after which a probe is given up, unless the user sets another: they are small."""


def conformance_meta() -> BenchmarkMeta:
    """Describe the benchmark to EvalScope."""
    for name in (_FIRST, _EVENTUALLY):
        name_metric(name, "quality.accuracy.ratio")
    name_metric(_UNANSWERED, "diagnostic.parse_status.ratio")
    return BenchmarkMeta(
        name=CONFORMANCE,
        pretty_name=CONFORMANCE_NAME,
        description=CONFORMANCE_ENGLISH,
        tags=[Tags.FUNCTION_CALLING, Tags.AGENT],
        dataset_id=CONFORMANCE,
        subset_list=list(BUNDLED_SUITES),
        eval_split="test",
        metric_list=[_FIRST, _EVENTUALLY, _UNANSWERED],
        primary_metric=_FIRST,
        extra_params={parameter.name: parameter.spec() for parameter in CONFORMANCE_PARAMETERS},
        data_adapter=ConformanceAdapter,
    )


class ConformanceAdapter(FunctionCallAdapter):
    """Suites to samples, and the results of the probes to EvalScope's report."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aggregate_empty_scores = True
        self.add_overall_metric = False
        self.parameters = checked_values(CONFORMANCE, self.extra_params)
        self.sources = suite_names(self.benchmark_meta.subset_list)
        self.benchmark_meta.subset_list = list(self.sources)
        self.rows: dict[str, LoadedRows] = {}
        self.suites: dict[str, tuple[Suite, list[ProbeCase]]] = {}
        self.results: dict[str, SuiteResult] = {}
        keep_identity(self.benchmark_meta, CONFORMANCE_PARAMETERS, self.parameters)

    def planner(self, model: str, user: Mapping[str, Any], masker: Masker) -> ProbePlanner:
        """Give what plans the requests, with the parameters that the user set."""
        return ProbePlanner(self.suites, model, user, masker)

    def check_gate(self) -> None:
        """Any gate can be decided."""

    def stopping_rule(self, suite: str) -> None:
        """Have every probe asked."""

    def preset(self, suite: str) -> Preset:
        """Give the preset of a suite, which sets no parameter."""
        del suite
        return Preset(parameters={}, timeout_s=_TIMEOUT_S)

    def profile(self) -> ModelProfile:
        """Give the profile of the model that is asked; `UsageError` if nothing tells it."""
        chosen = self.parameters["profile"]
        if chosen is not None:
            return model_profiles()[chosen]
        model = "" if self._task_config is None else str(self._task_config.model_id)
        told = profile_of_name(model)
        if told is None:
            raise UsageError(
                f"the name of model {model!r} does not tell which contract it is held to; give --profile, "
                f"extra_params.profile in a task: {', '.join(model_profiles())}"
            )
        return told

    def load(self) -> tuple[DatasetDict, None]:
        """Load the suites that have a probe for the model, or raise `DataError` or `UsageError`."""
        if self.repeats != 1:
            raise UsageError(
                f"repeats is {self.repeats}, but probes are asked again by extra_params.attempts"
            )
        profile = self.profile()
        self.parameters["profile"] = profile.name
        modes = [mode for mode in Mode if self.parameters["modes"] in ("both", mode.value)]
        datasets: dict[str, Dataset] = {}
        for name, source in self.sources.items():
            suite = load_suite(name, source, profile)
            probe_cases = cases_of(suite.probes, profile, modes)
            for reason, count in suite.left_out.items():
                logger.info(f"{name}: {count} left out: {reason}")
            if not probe_cases:
                logger.info(f"{name}: no probe is for {profile.title}, asked {self.parameters['modes']}")
                continue
            info = RowsInfo(source, suite.sha256, synthetic=False)
            rows = LoadedRows([probe.case for probe in probe_cases], info)
            self.rows[name] = chosen = loading.choose_rows(self, rows, None)
            kept = {case.index for case in chosen.cases}
            self.suites[name] = suite, [probe for probe in probe_cases if probe.case.index in kept]
            datasets[name] = loading.to_dataset(self, chosen)
            logger.info(f"{name}: {len(kept)} probes for {profile.title} from {source}")
        if not datasets:
            raise UsageError(
                f"no suite of {', '.join(self.sources)} has a probe for {profile.title}, asked "
                f"{self.parameters['modes']}; give another --suite or --profile"
            )
        return DatasetDict(datasets), None

    def _post_process_samples(self) -> None:
        """Leave the samples alone: no template and no system prompt belongs into a probe."""

    def run_inference(self, model: Model, sample: Sample, output_dir: str, **kwargs: Any) -> TaskState:
        """Refuse to be a part of a collection of EvalScope's, which knows no suites."""
        del model, sample, output_dir, kwargs
        raise UsageError(f"{CONFORMANCE} cannot be part of a collection; run it by its own name")

    def aggregate_subset(self, subset: str, sample_scores: list[SampleScore]) -> list[AggScore]:
        """Give the rates of a suite, which the evaluator judged as a whole.

        EvalScope 1.14.1 adds suites up by their numbers of probes, which is right for rates alone.
        """
        del sample_scores
        result = self.results[subset]
        share = result.share()
        facts: dict[str, Any] = {
            "status": result.status.value,
            "profile": result.facts.profile,
            "rows": result.facts.rows.as_json(),
            "left_out": dict(result.left_out),
            "adapter": __version__,
        }
        counted = [(_UNANSWERED, share.total - share.answered, share.total)]
        if share.answered:  # EvalScope's reports hold numbers only
            counted = [
                (_FIRST, share.passed, share.answered),
                (_EVENTUALLY, share.eventually, share.answered),
                *counted,
            ]
        return [
            AggScore(score=count / of, metric_name=name, num=of, metadata=facts if name == _FIRST else {})
            for name, count, of in counted
        ]


class ProbePlanner(RequestPlanner):
    """Let a probe's own parameters stand: the user's only add to them; and send answers back."""

    def __init__(
        self,
        suites: Mapping[str, tuple[Suite, list[ProbeCase]]],
        model: str,
        user: Mapping[str, Any],
        masker: Masker,
    ) -> None:
        super().__init__(model, user, masker)
        self._suites = suites
        self._continued: dict[tuple[str, int], Case] = {}
        self._continuing = {
            (name, one.case.index)
            for name, (_, probe_cases) in suites.items()
            for one in probe_cases
            if one.probe.continues
        }

    def learn(self, subset: str, records: Iterable[ResponseRecord]) -> None:
        """Make the requests that send the first answers of other probes back."""
        probe_cases = self._suites[subset][1]
        cases = {(one.probe.id, one.mode): one.case for one in probe_cases}
        first = {record.case_index: record for record in records if record.repeat == 0}
        for one in probe_cases:
            before = cases.get((one.probe.continues, one.mode))
            record = None if before is None else first.get(before.index)
            if before is None or record is None:
                continue
            answer = answer_of(record)
            if isinstance(answer, Answer) and answer.response is not None and answer.response.message:
                made = continued(one.case, before, answer.response.message)
                self._continued[subset, one.case.index] = made

    def waits(self, subset: str, case: Case) -> bool:
        """Whether a probe sends an answer back that has not come."""
        key = subset, case.index
        return key in self._continuing and key not in self._continued

    def request(self, subset: str, case: Case) -> Request:
        """Build the request of a probe."""
        return super().request(subset, self._continued.get((subset, case.index), case))

    def parameters(self, subset: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the parameters of a probe."""
        del subset
        added = {
            name: value for name, value in self._user.items() if name not in ("stream", "stream_options")
        }
        return merge_parameters({}, added, own)


class SuiteFiles(SubsetFiles):
    """The files of a suite: its probes stand beside its cases, and it is judged as a whole.

    Attributes:
        records: The answers, refusals among them, with all tries of a probe.
        judged: What they came to, once all are there.
    """

    suite: Suite
    probe_cases: list[ProbeCase]
    records: list[ResponseRecord]
    judged: SuiteResult

    def begin(self, suite: Suite, probe_cases: list[ProbeCase]) -> None:
        """Note what is asked."""
        self.suite, self.probe_cases, self.records = suite, probe_cases, []
        write_probes(self.paths.probes, suite, probe_cases)

    def keep_record(self, record: ResponseRecord) -> None:
        """Keep an answer to be judged."""
        self.records.append(record)
        self._failed_before.pop((record.case_index, record.repeat), None)

    def result(self) -> SuiteResult:
        """Judge what has been answered so far."""
        failed = (*self._failed, *self._failed_before.values())
        return judge_suite(self.probe_cases, self.records, failed, self.facts, self.suite.left_out)

    @property
    def whole(self) -> bool:
        """Whether every probe was answered or failed, in this session or an earlier one."""
        answered = {record.case_index for record in self.records}
        failed = {one.case_index for one in (*self._failed, *self._failed_before.values())}
        return len(answered | failed) >= self.facts.planned

    def finish(self, facts: RunFacts) -> None:
        """Write the reviews in sample order, and the final facts."""
        self.judged = replace(self.result(), facts=facts)
        self._reviews = [
            (probe_score(result), partial(probe_review, result))
            for result in self.judged.results
            if result.tries
        ]
        super().finish(facts)


@register_evaluator(CONFORMANCE)
class ConformanceEvaluator(K2VerifierEvaluator):
    """Ask the probes, the failing ones again if that is wanted, and judge suite by suite."""

    benchmark: ConformanceAdapter
    files = SuiteFiles
    _planner: ProbePlanner

    @property
    def _suites(self) -> Mapping[str, SuiteFiles]:
        return cast("Mapping[str, SuiteFiles]", self._files)

    def _collect_work_items(self, dataset_dict: dict[str, Dataset]) -> PoolContext:
        if raw_endpoint(self.model.api, self.task_config.generation_config) is None:
            raise UsageError(
                f"{CONFORMANCE} judges raw answers, and {type(self.model.api).__name__} is not EvalScope's "
                "OpenAI-compatible API; give --api-url URL with --eval-type openai_api"
            )
        context = super()._collect_work_items(dataset_dict)
        self._items = {(item.subset, item.case.index): item for item in context.work_items}
        return context

    def _facts(self, subset: str, items: list[WorkItem], started_at: str) -> RunFacts:
        facts = super()._facts(subset, items, started_at)
        return replace(facts, repeats=self.benchmark.parameters["attempts"])

    def _warn_of_refusals(self, facts: RunFacts, cases: Iterable[Case]) -> None:
        """Warn of none: what the API refuses is asked about."""

    def _open_files(self, paths: RunPaths, items: list[WorkItem]) -> None:
        super()._open_files(paths, items)
        files = self._suites[paths.subset]
        files.begin(*self.benchmark.suites[paths.subset])
        if not self.use_cache:
            return
        cases = {item.case.index: item.case for item in items}
        # First tries are judged as they are matched with their samples.
        for record in read_predictions(paths.predictions)[0]:
            case = cases.get(record.case_index)
            if case is None or not 0 < record.repeat < files.facts.repeats:
                continue
            if self._planner.request(paths.subset, case).identity.difference_from(record.request) is None:
                files.keep_record(record)

    def _answer(self, waiting: list[WorkItem]) -> dict[str, str]:
        waits = self._planner.waits
        later = [item for item in waiting if waits(item.subset, item.case)]
        stopped = super()._answer([item for item in waiting if not waits(item.subset, item.case)])
        for suite, files in self._suites.items():
            self._planner.learn(suite, files.records)
        ready = [item for item in later if not waits(item.subset, item.case)]
        stopped = stopped or super()._answer(ready)
        for attempt in range(1, self.benchmark.parameters["attempts"]):
            again = [] if stopped else self._failing(attempt)
            self._bar.total += len(again)
            stopped = stopped or super()._answer(again)
        return stopped

    def _failing(self, attempt: int) -> list[WorkItem]:
        """List the probes that failed at every try so far, as items of their next one."""
        found = []
        for suite, files in self._suites.items():
            for result in files.result().results:
                if result.outcome is Outcome.FAILED and len(result.tries) == attempt:
                    item = self._items[suite, result.case.case.index]
                    found.append(WorkItem(suite, item.sample, item.case, attempt, None))
        return found

    async def _ask(self, item: WorkItem, timeout_s: float) -> ClientOutcome:
        outcome = await super()._ask(item, timeout_s)
        return as_answer(outcome, self._planner.request(item.subset, item.case))

    def _judge(self, item: WorkItem, record: ResponseRecord) -> Mapping[str, Any]:
        answer = answer_of(record)
        if isinstance(answer, FailedRequest):
            self._record_failure(item.subset, answer)
            return {}
        self._suites[item.subset].keep_record(record)
        return {} if answer.response is None else answer.response.completion

    def _summarize(self) -> None:
        self.benchmark.results = {suite: files.judged for suite, files in self._suites.items()}

    def _write_reports(self) -> list[str]:
        facts = next(iter(self._suites.values())).facts
        found = Conformance(
            facts.model_profile, tuple(self.benchmark.results.values()), gate=facts.gate.gate is Gate.STRICT
        )
        folder = self._paths(facts.subset).reports
        page = write_every_format(ConformanceReport(found), folder, "report")
        return [f"{conformance_line(found)}; {page}"]


def as_answer(outcome: ClientOutcome, request: Request) -> ClientOutcome:
    """Make an answer of a refusal that is of the request, and not of the model's name or the account."""
    if not isinstance(outcome, FailedRequest):
        return outcome
    status, detail = outcome.status, outcome.failure.detail
    reason = sort_refusal(detail)
    of_request = reason is None or reason in OF_THE_REQUEST
    if not of_request or status is None or status == OK or status not in STATUSES:
        return outcome
    words = detail.removeprefix(f"HTTP {status}").removeprefix(": ")
    return ResponseRecord(
        case_index=outcome.case_index,
        repeat=outcome.repeat,
        response=json.dumps(words),
        stream_anomalies=(),
        request=request.identity,
        attempts=outcome.attempts,
        duration_s=outcome.duration_s,
        ttft_s=None,
        finished_at=utc_now(),
        status=status,
    )
