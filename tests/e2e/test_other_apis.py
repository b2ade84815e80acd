"""APIs that are not EvalScope's OpenAI-compatible one: the adapter runs, and says what stands between."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys

import pytest
from evalscope import TaskConfig, run_task
from evalscope.api.model import ModelOutput, ModelUsage
from evalscope.api.registry import MODEL_APIS, register_model_api
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from evalscope.report import Report
from support.runs import EVALSCOPES_WARNINGS, bundled_rows, judged, settings, stored, values_of, write_rows

from k2_verifier_adapter.errors import EndpointError, RunStoppedError
from k2_verifier_adapter.offline.stored import summary_of

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(20)


@pytest.fixture
def rows(tmp_path):
    """A file with the rows."""
    return write_rows(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def messages():
    """What EvalScope's logger says."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("evalscope")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def _run(run, rows, **changes):
    task = settings("http://127.0.0.1:9/v1", run, rows, **changes)
    if task["eval_type"] == "mock_llm":
        del task["api_url"]
    report = run_task(TaskConfig(**task))["k2_verifier"]
    assert isinstance(report, Report)
    return report


def _asked(run):
    """The rows that EvalScope can represent; the others are failed requests that say so."""
    refused = [item for item in stored(run).failed if item.attempts == 0]
    for item in refused:
        assert item.failure.detail.startswith("EvalScope cannot represent this row: ")
    asked = sorted(set(range(len(ROWS))) - {item.case_index for item in refused})
    assert len(asked) > len(ROWS) // 2
    return asked


def _is_marked(run, count):
    warnings = summary_of(stored(run)).warnings
    assert any(f"{count} responses were parsed by EvalScope" in warning for warning in warnings)


def test_the_mock_model_runs_through(tmp_path, rows, messages):
    """EvalScope's mock model is asked through EvalScope; every answer is a `stop`, and the report is marked."""
    run = tmp_path / "run"
    report = _run(run, rows, model="kimi", eval_type="mock_llm")
    values = values_of(report)
    count = len(_asked(run))
    assert values["count_finish_reason_stop"] == (count, count)
    assert values["count_finish_reason_tool_calls"] == (0, count)
    assert report.execution_summary.errored == len(ROWS) - count
    assert values["tool_call_recall"][0] == 0
    assert "schema_accuracy" not in values, "a rate with denominator 0 is left out, not made up"
    assert [text for text in messages if "MockLLM is not EvalScope's OpenAI-compatible API" in text]
    _is_marked(run, count)
    assert stored(run).facts.endpoint_host is None


def test_an_overridden_generate_is_used(tmp_path, rows, messages):
    """An API that overrides `generate` of the OpenAI-compatible one is asked through its own."""
    asked = []

    class Special(OpenAICompatibleAPI):
        def generate(self, **given):
            tools = given["tools"]
            asked.append((len(given["input"]), [tool.name for tool in tools]))
            return (
                ModelOutput.for_tool_call(self.model_name, tools[0].name, {"x": 1}) if tools else _stop(self)
            )

    def _stop(api):
        return ModelOutput.from_content(api.model_name, "no tools")

    register_model_api("special_api")(Special)
    try:
        run = tmp_path / "run"
        report = _run(run, rows, eval_type="special_api")
    finally:
        MODEL_APIS.pop("special_api")
    rows_asked = [ROWS[number] for number in _asked(run)]
    names = sorted(tuple(tool["function"]["name"] for tool in json.loads(row["tools"])) for row in rows_asked)
    assert sorted(tuple(tools) for _, tools in asked) == names
    assert values_of(report)["count_finish_reason_tool_calls"] == (sum(map(bool, names)), len(names))
    assert {judgement["finish_reason"] for judgement in judged(run).values()} <= {"tool_calls", "stop"}
    _is_marked(run, len(names))


def test_failures_of_another_api_are_failed_requests(tmp_path, rows):
    """What another API raises is that request's failure: counted, never judged, and the run goes on."""
    calls = []

    class Moody(OpenAICompatibleAPI):
        def generate(self, **given):
            calls.append(1)
            if len(calls) % 4 == 0:
                raise RuntimeError("out of mood")
            return ModelOutput.from_content(self.model_name, "fine")

    register_model_api("moody_api")(Moody)
    try:
        run = tmp_path / "run"
        changes = {"eval_type": "moody_api"}
        report = _run(run, rows, eval_batch_size=1, generation_config={"retries": 0}, **changes)
    finally:
        MODEL_APIS.pop("moody_api")
    asked = len(_asked(run))
    assert len(calls) == asked
    assert report.execution_summary.succeeded == asked - asked // 4
    moody = [item for item in stored(run).failed if item.attempts]
    assert [item.failure.detail for item in moody] == ["RuntimeError: out of mood"] * (asked // 4)


def test_the_parameters_of_the_report_are_those_that_were_given(tmp_path, rows):
    """Presets, the row's and the user's parameters reach another API, EvalScope's default does not."""
    given = []

    class Noting(OpenAICompatibleAPI):
        def generate(self, **arguments):
            given.append(arguments["config"])
            usage = ModelUsage(input_tokens=1, output_tokens=100, total_tokens=101)
            answer = ModelOutput.from_content(self.model_name, "fine")
            return answer.model_copy(update={"usage": usage})

    own = {"max_tokens": 100, "stop": ["END"], "model": "other", "vendor_switch": 1}
    limited = [{**row, "parameters": json.dumps(own)} for row in ROWS[:6]]
    write_rows(rows, limited)
    register_model_api("noting_api")(Noting)
    try:
        run = tmp_path / "run"
        extra_body = {"top_p": 0.5, "messages": [], "model": "another"}
        generation = {"extra_body": extra_body, "retries": 0}
        _run(run, rows, eval_type="noting_api", generation_config=generation)
    finally:
        MODEL_APIS.pop("noting_api")
    reported = dict(stored(run).facts.parameters)
    assert reported == {
        "model": "kimi",
        "temperature": 1.0,
        "top_p": 0.5,
        "max_tokens": 100,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "vendor_switch": 1,
    }
    assert given
    for config in given:
        assert (config.temperature, config.top_p, config.max_tokens) == (1.0, 0.5, 100)
        assert (config.stop_seqs, config.stream, config.extra_body) == (["END"], True, {"vendor_switch": 1})
    seen = {failure["class"] for judgement in judged(run).values() for failure in judgement["failures"]}
    assert seen == {"missed_call"}, "none is called truncated"


def test_an_api_that_nobody_gave_a_temperature(tmp_path, rows):
    """Where neither preset nor row nor user sets one, EvalScope's default temperature does not go out."""
    given = []

    class Noting(OpenAICompatibleAPI):
        def generate(self, **arguments):
            given.append(arguments["config"].temperature)
            return ModelOutput.from_content(self.model_name, "fine")

    register_model_api("noting_api")(Noting)
    try:
        changes = {"dataset_args": {"subset_list": ["own"]}, "eval_type": "noting_api", "limit": 4}
        task = settings("http://127.0.0.1:9/v1", tmp_path / "run", rows, **changes)
        run_task(TaskConfig(**{**task, "generation_config": {"temperature": 0.0}}))
    finally:
        MODEL_APIS.pop("noting_api")
    assert given
    assert set(given) == {None}


def test_unrelated_failures_of_another_api_do_not_stop_the_run_at_once(tmp_path, rows):
    """Three errors that say different things are single failures; the same one three times ends the run."""
    reasons = ["no such tool", "the message is too long", "quota of the day", "cannot stream this"]
    calls = []

    class Failing(OpenAICompatibleAPI):
        def generate(self, **_):
            calls.append(1)
            raise RuntimeError(reasons[len(calls) % len(reasons)])

    changes = {"eval_type": "failing_api", "eval_batch_size": 1}
    register_model_api("failing_api")(Failing)
    try:
        with pytest.raises(RunStoppedError, match="first 8 requests all failed and none succeeded"):
            _run(tmp_path / "run", rows, **changes)
        assert len(calls) == len([item for item in stored(tmp_path / "run").failed if item.attempts]) == 8
        reasons[:] = [f"quota of the day, request {number}" for number in range(100)]
        del calls[:]
        with pytest.raises(EndpointError, match=r"first 3 .*EvalScope's model API"):
            _run(tmp_path / "again", rows, **changes)
    finally:
        MODEL_APIS.pop("failing_api")
    assert len(calls) == 3


def test_a_call_that_hangs_does_not_keep_an_interrupted_run(tmp_path):
    """While another API's call hangs for ever, an interrupt ends the command, with exit code 3."""
    script = tmp_path / "hang.py"
    script.write_text(HANGING)
    config = tmp_path / "task.json"
    # The flag knows EvalScope's own APIs only.
    task = settings("http://127.0.0.1:9/v1", tmp_path / "run", eval_type="hanging_api", limit=4)
    config.write_text(json.dumps(task))
    process = subprocess.Popen(
        [sys.executable, str(script), "eval", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 3


HANGING = """
import sys, threading
from evalscope.api.registry import register_model_api
from evalscope.models.openai_compatible import OpenAICompatibleAPI
from k2_verifier_adapter.cli import main

@register_model_api("hanging_api")
class Hanging(OpenAICompatibleAPI):
    def generate(self, **given):
        sys.__stdout__.write("hanging\\n")
        sys.__stdout__.flush()
        threading.Event().wait()

main()
"""
