"""EvalScope's behaviour that this package relies on; each failure says what breaks here."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import evalscope
import evalscope.benchmarks
import pytest
from evalscope import TaskConfig, run_task
from evalscope.api.benchmark import AgentAdapter, BenchmarkMeta, DataAdapter
from evalscope.api.dataset import MemoryDataset, RemoteDataLoader, Sample
from evalscope.api.dataset.dataset import resolve_dataset_limit
from evalscope.api.evaluator import CacheManager, TaskState
from evalscope.api.evaluator.cache import ModelResult, ReviewResult
from evalscope.api.messages.perf_metrics import PerformanceMetrics
from evalscope.api.metric import AggScore, SampleScore, Score
from evalscope.api.model import GenerateConfig, ModelOutput
from evalscope.api.registry import BENCHMARK_REGISTRY, EVALUATOR_REGISTRY, create_evaluator, get_benchmark
from evalscope.collections import CollectionSchema, DatasetInfo, WeightedSampler
from evalscope.config import DEFAULT_TEXT_GEN_SERVICE_CONFIG
from evalscope.evaluation_versioning import ResolvedBenchmarkSpec
from evalscope.evaluator import DefaultEvaluator
from evalscope.evaluator.execution_tracker import ExecutionTracker
from evalscope.evaluator.perf_collector import PerfCollector
from evalscope.metrics.semantics.catalog import METRIC_DEFINITIONS, MetricEntry
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from evalscope.report import Report, Subset
from evalscope.utils.io_utils import OutputsStructure, dump_jsonl_data
from pydantic import ValidationError
from support.quick_page import write_page
from support.runs import bundled_rows, settings

from k2_verifier_adapter.evalscope_plugin.adapter import K2VerifierAdapter, benchmark_meta
from k2_verifier_adapter.evalscope_plugin.evaluator import K2VerifierEvaluator, PoolContext
from k2_verifier_adapter.evalscope_plugin.planning import WorkItem
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor


def _parameters(function):
    return list(inspect.signature(function).parameters)


def _source(function):
    return inspect.getsource(function)


# --- taking over ---------------------------------------------------------------------------------


def test_the_name_is_reserved_for_the_built_in():
    """Registering the name as a plugin would is refused: if it no longer were, the finder could go."""
    with pytest.raises(ValueError, match="already registered"):
        evalscope.api.registry.register_benchmark(BenchmarkMeta(name="k2_verifier", dataset_id="x"))(
            K2VerifierAdapter
        )


def test_an_entry_of_the_registry_can_be_overwritten():
    """Plain item assignment replaces an entry behind its module's import; the take-over is nothing else."""
    before = BENCHMARK_REGISTRY["gsm8k"]
    try:
        BENCHMARK_REGISTRY["gsm8k"] = benchmark_meta()
        assert isinstance(get_benchmark("gsm8k"), K2VerifierAdapter)
    finally:
        BENCHMARK_REGISTRY["gsm8k"] = before


def test_a_benchmark_gets_the_evaluator_of_its_name():
    """`create_evaluator` looks the benchmark's name up; else our requests would not be sent by our evaluator."""
    assert EVALUATOR_REGISTRY["k2_verifier"] is K2VerifierEvaluator
    assert "benchmark.name" in _source(create_evaluator), (
        "evaluators are chosen otherwise: ours is not reached"
    )
    assert issubclass(K2VerifierEvaluator, DefaultEvaluator)


def test_an_adapter_is_constructed_by_keyword():
    """`get_benchmark` passes `benchmark_meta` and `task_config` by keyword, as our `**kwargs` take them."""
    adapter = get_benchmark("k2_verifier", TaskConfig(model="m", datasets=["k2_verifier"]))
    assert isinstance(adapter, K2VerifierAdapter)
    assert isinstance(adapter, AgentAdapter), "tool calling benchmarks are agent adapters"
    assert adapter._task_config.model == "m", "the task's settings are read from `_task_config`"


# --- the evaluator's phases ----------------------------------------------------------------------


def test_the_phases_that_are_overridden_exist_with_their_signatures():
    """Our evaluator replaces two phases of `eval`; renamed or re-cut, EvalScope would run its own instead."""
    assert _parameters(DefaultEvaluator._collect_work_items) == ["self", "dataset_dict"]
    assert _parameters(DefaultEvaluator._run_pool) == ["self", "context"]
    assert _parameters(DefaultEvaluator._aggregate_scores) == [
        "self",
        "dataset_dict",
        "context",
        "results_by_subset",
    ]
    assert _parameters(DefaultEvaluator.__init__)[1:] == ["benchmark", "model", "outputs", "task_config"]


def test_eval_calls_the_phases_in_order():
    """`eval` collects, runs the pool, aggregates; what it reads of our context are only the fields it has."""
    source = _source(DefaultEvaluator.eval)
    calls = [
        "self.benchmark.load_dataset()",
        "self._collect_work_items(",
        "self._run_pool(",
        "self._aggregate_scores(",
    ]
    places = [source.find(call) for call in calls]
    assert -1 not in places, f"eval no longer calls {calls[places.index(-1)]}: our phase is skipped"
    assert places == sorted(places), "the phases run in another order than our evaluator assumes"
    read = set(re.findall(r"context\.(\w+)", source + _source(DefaultEvaluator._aggregate_scores)))
    assert read <= set(PoolContext.__dataclass_fields__), (
        f"EvalScope reads {read} of the context; ours lacks some"
    )
    items = set(re.findall(r"\bitem\.(\w+)", source))
    assert items <= {*WorkItem.__dataclass_fields__, "needs_predict"}, (
        f"EvalScope reads {items} of our work items"
    )


def test_attributes_that_the_evaluator_uses_exist():
    """The base evaluator's attributes that ours touches are there after its `__init__`."""
    source = _source(DefaultEvaluator.__init__)
    for name in (
        "model_name",
        "use_cache",
        "cache_manager",
        "perf_collector",
        "_execution_tracker",
        "_perf_request_count",
        "_perf_metric_count",
        "_sample_scores_by_subset",
    ):
        assert f"self.{name}" in source, f"DefaultEvaluator.{name} is gone: our evaluator uses it"


def test_errors_are_counted_beside_the_scores():
    """`record_error` makes the execution summary incomplete; else failed requests would look like none."""
    tracker = ExecutionTracker()
    tracker.record_error("s")
    dataset = MemoryDataset([Sample(input=""), Sample(input="")])
    summary = tracker.summarize(
        {"s": dataset}, {"s": [SampleScore(score=Score(value={"a": 1}), sample_id=0)]}
    )
    assert (summary.requested, summary.succeeded, summary.errored, summary.incomplete) == (2, 1, 1, True)


def test_empty_scores_reach_the_aggregation_if_asked():
    """`aggregate_empty_scores` lets a run with only failures report its error rate instead of nothing."""
    assert "aggregate_empty_scores" in _source(DefaultEvaluator._aggregate_scores)
    assert DataAdapter.aggregate_empty_scores is False
    assert get_benchmark("k2_verifier", TaskConfig(datasets=["k2_verifier"])).aggregate_empty_scores is True
    assert "aggregate_subset(subset, sample_scores=" in _source(DefaultEvaluator._aggregate_scores)


def test_performance_is_recorded_as_evalscope_does():
    """The performance collector takes our metrics and gives the table its numbers."""
    collector = PerfCollector()
    collector.record(
        PerformanceMetrics(latency=1.0, ttft=0.5, input_tokens=3, output_tokens=2),
        sample_index=0,
        turn_index=0,
    )
    assert collector.get_perf_dict()


# --- files ---------------------------------------------------------------------------------------


def test_cache_files_lie_where_ours_are_written(tmp_path):
    """EvalScope's cache paths are ours; else `--use-cache`, its pages and our reports read different files."""
    cache = CacheManager(OutputsStructure(str(tmp_path)), "kimi", "k2_verifier")
    prediction, review = cache.get_prediction_cache_path("sub"), cache.get_review_cache_path("sub")
    assert prediction == str(tmp_path / "predictions" / "kimi" / "k2_verifier_sub.jsonl")
    assert review == str(tmp_path / "reviews" / "kimi" / "k2_verifier_sub.jsonl")


def test_predictions_without_choices_load():
    """A prediction that holds its answer in the metadata only is one of EvalScope's, and keeps the metadata."""
    line = {"index": 1, "model": "m", "messages": [], "agent_trace": None, "metadata": {}}
    result = ModelResult.model_validate(
        line | {"model_output": {"model": "m", "choices": [], "metadata": {"k": "v"}}}
    )
    assert result.model_output.metadata == {"k": "v"}
    assert {"index", "target", "messages", "agent_trace", "sample_score"} <= set(ReviewResult.model_fields)


def test_samples_keep_what_is_in_their_metadata():
    """A sample's metadata is kept by identity, so a case rides along uncopied, and repeats number in groups."""
    case = object()
    dataset = MemoryDataset([Sample(input="", metadata={"case": case}) for _ in range(4)])
    dataset.reindex(group_size=2)
    assert [(sample.id, sample.group_id) for sample in dataset] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert dataset[0].metadata["case"] is case
    state = TaskState(
        model="m", sample=dataset[0], messages=[], output=ModelOutput(model="m"), completed=True
    )
    assert state.metadata["case"] is case


def test_limits_are_counts_or_fractions():
    """An integer limit is a count, a float a share of the rows."""
    assert (resolve_dataset_limit(5, 40), resolve_dataset_limit(0.5, 41)) == (5, 20)


def test_the_hub_loader_takes_what_ours_passes():
    """The remote loader's arguments are there; the hub cannot be reached in tests to see them at work."""
    wanted = {
        "data_id_or_path",
        "split",
        "subset",
        "sample_fields",
        "data_source",
        "version",
        "force_redownload",
        "dataset_dir",
    }
    assert wanted <= set(_parameters(RemoteDataLoader.__init__))


# --- settings ------------------------------------------------------------------------------------


def test_the_default_temperature_is_what_it_was():
    """EvalScope fills an empty configuration with exactly this; our preset applies where that is all there is."""
    assert DEFAULT_TEXT_GEN_SERVICE_CONFIG == {"temperature": 0.0}
    task = TaskConfig(
        model="m", api_url="http://127.0.0.1:9/v1", eval_type="openai_api", datasets=["k2_verifier"]
    )
    config = task.generation_config
    fields = {
        name: getattr(config, name) for name in config.model_fields_set if getattr(config, name) is not None
    }
    fields.pop("batch_size", None)
    assert fields == {"temperature": 0.0}, "the default can no longer be told from the user's own settings"


def test_unknown_generation_fields_are_kept():
    """Fields that `GenerateConfig` does not know stay in `model_extra`, and are the user's to send."""
    assert GenerateConfig(min_p=0.1).model_extra == {"min_p": 0.1}
    defaults = GenerateConfig()
    assert (defaults.retries, defaults.retry_interval, defaults.timeout, defaults.stream) == (
        5,
        10,
        None,
        None,
    )


def test_the_openai_compatible_api_shows_its_endpoint():
    """URL, key, headers and parameters of EvalScope's API can be read without sending a request."""
    api = OpenAICompatibleAPI(model_name="m", base_url="http://127.0.0.1:9/v1/", api_key="sk-1")
    assert api.base_url.rstrip("/").endswith("/v1")
    assert api.api_key == "sk-1", "the key is read from `api_key`: the SDK's default headers do not hold it"
    assert api.client.default_headers["Content-Type"] == "application/json"
    assert dict(api.client.default_query) == {}
    sent = api.completion_params(
        config=GenerateConfig(temperature=0.5, max_tokens=7, stop_seqs=["x"]), tools=True
    )
    assert {"model": "m", "temperature": 0.5, "max_tokens": 7, "stop": ["x"]}.items() <= sent.items()
    assert "messages" not in sent


def test_extra_params_are_declared_and_checked():
    """EvalScope checks our extra parameters by name and choice; a name is refused before, with the one meant."""
    task = TaskConfig(datasets=["k2_verifier"])
    for params, error in (({"nonsense": 1}, KeyError), ({"malformed_history": "drop"}, ValueError)):
        task.dataset_args = {"k2_verifier": {"extra_params": params}}
        with pytest.raises(error):
            assert get_benchmark("k2_verifier", task).extra_params


# --- reports -------------------------------------------------------------------------------------


def test_the_cache_identity_holds_the_evaluation_version():
    """Our version differs from the built-in's, and has the form that EvalScope demands."""
    assert benchmark_meta().evaluation_version == "v2.0"
    assert BenchmarkMeta(name="x", dataset_id="x").evaluation_version == "v1.0", (
        "the built-in's cached scores would be taken for ours"
    )


def test_metrics_can_be_named_at_run_time():
    """The catalog is a plain dict of entries; else the tables call our metrics by other names."""
    assert isinstance(METRIC_DEFINITIONS, dict)
    for name in benchmark_meta().metric_list:
        entry = METRIC_DEFINITIONS[name]
        assert isinstance(entry, MetricEntry)
        assert entry.metric_name == name


def test_scores_carry_metadata_and_denominator():
    """`AggScore` keeps our metadata and denominator; reports hold numbers only, rounded to four decimals."""
    score = AggScore(score=0.123456, metric_name="m", num=7, metadata={"interval": {"low": 0.1}})
    assert (score.num, score.metadata) == (7, {"interval": {"low": 0.1}})
    assert Subset(score=0.123456).score == 0.1235
    with pytest.raises(ValidationError):
        AggScore(score=None, metric_name="m")


def test_the_report_has_the_fields_that_are_read_and_set():
    """Execution summary, primary metric and the texts that label synthetic rows are fields of the report."""
    assert {
        "execution_summary",
        "primary_metric_identity",
        "dataset_pretty_name",
        "dataset_description",
    } <= set(Report.model_fields)
    assert _parameters(AgentAdapter._on_generate_report_end)[:3] == ["self", "report", "output_dir"]


def test_runs_of_earlier_versions_can_be_gone_on_with():
    """What came later is part of EvalScope's cache identity only where it is set and says what is asked."""
    pace = {"requests_per_minute": 0, "max_requests": 0, "max_total_tokens": 0, "max_minutes": 0}
    asked = {
        "malformed_history": "sanitize",
        "normalize_tool_call_ids": False,
        "sample": "first",
        "sample_seed": 42,
        "max_response_mb": 64,
    }
    for given, covered in (
        ({}, pace),
        ({"gate": "strict", "min_coverage": 0.9, "stop_when_decided": False}, asked | pace),
        ({"stop_when_decided": True}, {"stop_when_decided": True} | asked | pace),
    ):
        task = TaskConfig(datasets=["k2_verifier"], dataset_args={"k2_verifier": {"extra_params": given}})
        spec = ResolvedBenchmarkSpec.from_meta(get_benchmark("k2_verifier", task).benchmark_meta, task)
        assert spec.extra_params == covered
        assert "call_surplus" not in spec.metric_list


# --- pages and collections -----------------------------------------------------------------------


def test_evalscopes_pages_describe_this_benchmark():
    """Report, service and `benchmark-info` read shipped texts first; of this name they read ours."""
    from evalscope.report import renderer
    from evalscope.utils import doc_utils

    # The service's package wants flask.
    catalogue = runpy.run_path(str(Path(evalscope.__file__).parent / "service" / "utils" / "benchmarks.py"))
    build_benchmark_entry = catalogue["build_benchmark_entry"]
    for language, words in (("en", "Judges the raw response"), ("zh", "评判原始响应")):
        shown = renderer._load_meta_readme("k2_verifier", lang=language)
        page = build_benchmark_entry("k2_verifier")["description"][language]["full"]
        for text in (shown, page, doc_utils.load_benchmark_data()["k2_verifier"]["readme"][language]):
            assert words in text
            assert "sanitizes" not in text
        assert "documentation of k2-verifier-adapter" not in shown, "the last section is left out"
    other = build_benchmark_entry("gsm8k")
    assert other["pretty_name"].startswith("GSM8K")


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")
def test_a_collection_asks_and_judges_its_rows(tmp_path, monkeypatch):
    """Rows that a collection holds are written, read back, sent as they are and judged as in a run."""
    schema = CollectionSchema(
        name="mix", datasets=[DatasetInfo(name="k2_verifier", args={"local_path": "bundled"})]
    )
    entries = WeightedSampler(schema).sample(6)
    dump_jsonl_data(entries, str(tmp_path / "mix" / "test.jsonl"))
    rows = bundled_rows()
    own = {"data_collection": {"local_path": str(tmp_path / "mix")}}
    changes = {"datasets": ["data_collection"], "dataset_args": own}
    monkeypatch.setattr("evalscope.report.gen_html_report_file", write_page)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    vendor = SimulatedVendor(rows, PROFILES["official"], record_requests=True)
    with vendor.running() as endpoint:
        task = {**settings(endpoint.url, tmp_path / "run", "bundled"), **changes}
        report = run_task(TaskConfig(**task))["data_collection"]
    assert (report.metrics[0].identity.name, report.metrics[0].score) == ("decision_agrees", 1.0)
    assert len(vendor.requests) == len(vendor.truth.answers) == 6
