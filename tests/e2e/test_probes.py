"""Suites of probes through EvalScope: what is sent, stored, gone on with and reported."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from evalscope import TaskConfig, run_task
from evalscope.report import Report
from support.published import Published
from support.quick_page import write_page
from support.raw_server import RawServer, reply
from support.runs import EVALSCOPES_WARNINGS, KEY, MODEL, raises_cleanly, settings, write_rows

from k2_verifier_adapter.cli import main as k2_verifier
from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.errors import EndpointError, UsageError
from k2_verifier_adapter.evalscope_plugin.parameters import CONFORMANCE_PARAMETERS
from k2_verifier_adapter.simulator import FaithfulVendor
from k2_verifier_adapter.simulator.completions import to_json
from k2_verifier_adapter.simulator.faithful import FaithfulEndpoint, RefusedError

pytestmark = EVALSCOPES_WARNINGS

SCHEMA = Published("conformance")
K3 = model_profiles()["k3"]
ENDPOINT = FaithfulEndpoint(K3, model=MODEL)
QUICK = ["tool_choice", "stream"]


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch):
    monkeypatch.setattr("evalscope.report.gen_html_report_file", write_page)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def conform(url: str, run: Path, suites: Any = QUICK, **changes: Any) -> Report:
    """Ask the probes; give EvalScope's report."""
    parameters = {"profile": "k3", **changes.pop("parameters", {})}
    dataset = {"kimi_conformance": {"subset_list": list(suites), "extra_params": parameters}}
    task = settings(url, run, **changes)
    asked = {"datasets": ["kimi_conformance"], "dataset_args": dataset}
    return run_task(TaskConfig(**{**task, **asked}))["kimi_conformance"]


def reported(run: Path, form: str = "json", *flags: str) -> Any:
    """Give the report of the command, and its exit code."""
    done = CliRunner().invoke(k2_verifier, ["report", str(run), "--format", form, *flags])
    assert done.exit_code in (0, 1, 3), done.output
    return (json.loads(done.stdout) if form in ("json", "kvv") else done.stdout), done.exit_code


def outcomes(report: Any) -> Counter[str]:
    """Count what became of the probes."""
    return Counter(probe["outcome"] for probe in report["probes"])


def answering(statuses: Any = lambda _body, _number: None) -> RawServer:
    """Answer as K3's official API does, without streams, but where a status is given."""

    async def handler(arrival: Any, writer: asyncio.StreamWriter) -> None:
        body = json.loads(arrival.body)
        status = statuses(body, arrival.number)
        if status is not None:
            writer.write(reply(b'{"error": {"message": "no"}}', status))
            return
        try:
            writer.write(reply(to_json(ENDPOINT.answer(body))))
        except RefusedError as error:
            writer.write(reply(json.dumps({"error": {"message": str(error)}}).encode(), 400))

    return RawServer(handler)


PLAIN = {"modes": "plain"}


# --- a faithful endpoint -----------------------------------------------------------------------------


def test_a_faithful_endpoint_passes_by_command(tmp_path):
    """Every bundled probe of K3 passes, plain and streamed, and no key stands in any file."""
    run = tmp_path / "run"
    with FaithfulVendor(K3, model="kimi-k3").running() as endpoint:
        command = ["conform", "--model", "kimi-k3", "--api-url", endpoint.url, "--api-key", KEY, "--gate"]
        recorded = tmp_path / "tokens.jsonl"
        flags = ["--work-dir", str(run), "--no-timestamp", "--record", str(recorded)]
        done = CliRunner().invoke(k2_verifier, [*command, *flags])
        assert done.exit_code == 0, done.output
        again = tmp_path / "again"
        flags = ["--work-dir", str(again), "--no-timestamp", "--suite", str(recorded)]
        held = CliRunner().invoke(k2_verifier, [*command, *flags])
    assert "Contract: PASS 7 of 7 suites" in done.stdout
    assert held.exit_code == 0, held.output
    report, code = reported(run)
    assert code == 0
    assert SCHEMA.problems(report) == []
    assert set(outcomes(report)) == {"passed"}
    assert [suite["name"] for suite in report["suites"]] == list(BUNDLED_SUITES)
    assert not [path for path in run.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    tokens, _ = reported(again)
    assert {probe["suite"] for probe in tokens["probes"]} == {"tokens"}
    assert [probe["mode"] for probe in tokens["probes"]] == ["stream"] * len(
        recorded.read_text().splitlines()
    )


def test_what_the_api_refuses_is_asked_without_a_warning(tmp_path):
    """A history that K2-Thinking's API refuses is a probe, not a row that somebody got wrong."""
    thinking = model_profiles()["k2_thinking"]
    with FaithfulVendor(thinking, model="kimi-k2-thinking").running() as endpoint:
        command = ["conform", "--model", "kimi-k2-thinking", "--api-url", endpoint.url, "--api-key", KEY]
        flags = ["--work-dir", str(tmp_path / "run"), "--no-timestamp", "--suite", "history"]
        done = CliRunner().invoke(k2_verifier, [*command, *flags])
    assert done.exit_code == 0, done.output
    assert "Contract: PASS" in done.stdout
    assert "refuses while thinking" not in done.output


# --- a broken one ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A run against an endpoint that ignores tool_choice, asked three times where it fails."""
    run = tmp_path_factory.mktemp("broken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalscope.report.gen_html_report_file", write_page)
        patch.setenv("NO_PROXY", "127.0.0.1")
        with FaithfulVendor(K3, ["ignores_tool_choice"], model=MODEL).running() as endpoint:
            report = conform(endpoint.url, run, parameters={"attempts": 3, "gate": "strict"})
    return run, report


def test_the_report_says_what_was_expected_what_came_and_what_to_change(broken):
    """The failing probes are named with expectation, answer and advice; the gate of the run decides."""
    run, _ = broken
    report, code = reported(run)
    assert code == 1
    assert SCHEMA.problems(report) == []
    assert SCHEMA.accepted_changes(report, "left_out: *", "failed: *", "parameters: *") == []
    failed = {probe["id"] for probe in report["probes"] if probe["outcome"] == "failed"}
    assert failed == {"tool_choice/forced_calls_against_the_prompt", "tool_choice/none_forbids"}
    assert {len(probe["tries"]) for probe in report["probes"] if probe["id"] in failed} == {3}
    assert [cause["name"] for cause in report["causes"]] == ["tool_choice_ignored"]
    text, _ = reported(run, "text")
    assert "tool_choice  fail    11/13       7/9       18/22" in text
    assert "expected: calls.some: no call" in text
    assert "got: 'get_weather'" in text
    page, _ = reported(run, "html")
    assert "Requests and answers" in page
    assert "It is sunny in Lisbon." in page
    table = reported(run, "markdown")[0].split("###")[0]
    assert "| stream | pass | 4/4 | 9/9 | 13/13 |" in table


def test_a_case_of_junit_is_a_probe(broken):
    """JUnit has a suite for each suite and a case for each probe and mode."""
    text, _ = reported(broken[0], "junit")
    suites = ET.fromstring(text)
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("tool_choice", "22", "4"),
        ("stream", "13", "0"),
    ]
    assert len(suites.findall(".//testcase/failure")) == 4


def test_a_redacted_report_holds_no_answer(broken):
    """What the endpoint said is in no format of a redacted report."""
    for form in ("text", "json", "markdown", "html", "junit"):
        done = CliRunner().invoke(k2_verifier, ["report", str(broken[0]), "--format", form, "--redact"])
        assert done.exit_code == 1, done.output
        assert "sunny" not in done.stdout


def test_evalscope_reads_what_is_left(broken):
    """EvalScope's report has the rates; its reviews name the expectation."""
    run, report = broken
    values = {metric.identity.name: metric.score for metric in report.metrics}
    assert values == pytest.approx(
        {"pass_rate": 31 / 35, "eventual_pass_rate": 31 / 35, "unanswered_rate": 0}, abs=1e-4
    )
    lines = (run / "reviews" / MODEL / "kimi_conformance_tool_choice.jsonl").read_text().splitlines()
    scores = [json.loads(line)["sample_score"]["score"] for line in lines]
    assert sum(score["value"]["passed"] for score in scores) == 18
    assert any("expected calls.some: no call" in score["explanation"] for score in scores)


def test_what_a_report_cannot_be_is_told(broken):
    """A gate of similarity, another profile and another benchmark's data are refused."""
    for flags, said in {
        ("--gate", "upstream"): "of probes only --gate strict decides",
        ("--profile", "k2"): "--profile: probes were asked as one model's",
        ("--benchmark", "k2_verifier"): "holds no run of this benchmark",
    }.items():
        done = CliRunner().invoke(k2_verifier, ["report", str(broken[0]), *flags])
        assert done.exit_code == 2
        assert said in done.stderr


# --- statuses, tries, sessions -----------------------------------------------------------------------


def test_a_refusal_is_an_answer_and_an_overload_is_none(tmp_path):
    """400 and 422 are judged; 429 and 503 leave a probe without an answer, and the run incomplete."""
    given = {4: 422, 5: 503, 6: 400, 7: 429}
    with answering(lambda body, number: given.get(number)).in_thread() as server:
        generation = {"retries": 0}
        conform(
            server.url,
            tmp_path / "run",
            ["tool_choice"],
            parameters=PLAIN,
            eval_batch_size=1,
            generation_config=generation,
        )
    report, code = reported(tmp_path / "run")
    assert code == 3
    by_place = [(probe["outcome"], probe["status"]) for probe in report["probes"]][4:8]
    assert by_place == [("failed", 422), ("unanswered", None), ("failed", 400), ("unanswered", None)]
    assert report["probes"][4]["tries"][0][0]["got"] == 'HTTP 422: {"error": {"message": "no"}}'
    assert report["suites"][0]["status"] == "fail"


def test_what_failed_is_asked_again_and_the_rest_is_not(tmp_path):
    """A session that ended at a maximum goes on: nothing is asked twice, and the report is of all."""
    run = tmp_path / "run"
    changes = {"parameters": {**PLAIN, "max_requests": 5}, "eval_batch_size": 1}
    with answering().in_thread() as server:
        conform(server.url, run, ["tool_choice"], **changes)
        partial, code = reported(run)
        assert (outcomes(partial), code) == ({"passed": 5, "unanswered": 8}, 3)
        changes["parameters"]["max_requests"] = 0
        conform(server.url, run, ["tool_choice"], use_cache=str(run), **changes)
        seen = [arrival.body for arrival in server.arrivals]
    assert len(seen) == len(set(seen)) == 13
    whole, code = reported(run)
    assert (outcomes(whole), code) == ({"passed": 13}, 0)


def test_a_probe_that_passes_later_is_flaky(tmp_path):
    """What fails at first and passes at the second try is shown as flaky, with the share that may pass."""
    tried: Counter[bytes] = Counter()

    def first_is_refused(body: Any, _number: int) -> int | None:
        key = json.dumps(body).encode()
        tried[key] += 1
        return 400 if body.get("tool_choice") == "none" and tried[key] == 1 else None

    run = tmp_path / "run"
    with answering(first_is_refused).in_thread() as server:
        conform(server.url, run, ["tool_choice"], parameters={**PLAIN, "attempts": 3})
    report, _ = reported(run)
    flaky = [probe for probe in report["probes"] if probe["outcome"] == "flaky"]
    assert flaky
    assert all([len(unmet) for unmet in probe["tries"]] == [1, 0] for probe in flaky)
    assert report["suites"][0]["status"] == "fail"
    text, _ = reported(run, "text")
    assert "passed at try 2 (of all tries, 1.26% to 97.50% pass)" in " ".join(text.split())


def test_an_answer_is_sent_back_as_it_came(tmp_path):
    """The vendor's own message, with fields that only it writes, comes back to it, also in a later session."""
    call = {
        "id": "x:1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":  1e0}'},
        "index": 0,
    }
    message = {"role": "assistant", "content": None, "refusal": None, "\u00e9": [1.50], "tool_calls": [call]}
    completion = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}

    async def handler(_arrival: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(json.dumps(completion).encode()))

    asked = {"messages": [{"role": "user", "content": "Go."}], "max_tokens": 5}
    first = {"id": "first", "request": asked, "expect": {"status": 200}}
    behind = {"id": "back", "continues": "first", "request": {"messages": []}, "expect": {"status": 200}}
    suite, run = write_rows(tmp_path / "own.jsonl", [behind, first]), tmp_path / "run"
    with RawServer(handler).in_thread() as server:
        conform(server.url, run, [str(suite)], parameters={**PLAIN, "max_requests": 1})
        assert outcomes(reported(run)[0]) == {"passed": 1, "unanswered": 1}
        for _ in range(2):
            conform(server.url, run, [str(suite)], parameters=PLAIN, use_cache=str(run))
    assert outcomes(reported(run)[0]) == {"passed": 2}
    one, two = [arrival.json()["messages"] for arrival in server.arrivals]
    assert two == [*one, message, {"role": "tool", "tool_call_id": "x:1", "content": two[2]["content"]}]


def test_a_wrong_key_stops_the_run(tmp_path):
    """What says nothing of the contract is never taken for a refusal."""
    with (
        answering(lambda _body, _number: 401).in_thread() as server,
        raises_cleanly(EndpointError, "401", "API key"),
    ):
        conform(server.url, tmp_path / "run", ["parameters"])
    assert len(server.arrivals) <= 16


def test_both_benchmarks_in_one_run(tmp_path):
    """Rows and probes are asked in one run, reported on each by its own name."""
    run = tmp_path / "run"
    with FaithfulVendor(K3, model=MODEL).running() as endpoint:
        dataset = {
            "k2_verifier": {"local_path": "bundled"},
            "kimi_conformance": {"subset_list": ["stream"], "extra_params": {"profile": "k3"}},
        }
        task = settings(endpoint.url, run, limit=15)
        run_task(TaskConfig(**{**task, "datasets": list(dataset), "dataset_args": dataset}))
    done = CliRunner().invoke(k2_verifier, ["report", str(run)])
    assert "K2 vendor verification" in done.stdout
    assert "--benchmark kimi_conformance" in done.stderr
    assert reported(run, "json", "--benchmark", "kimi_conformance")[0]["status"] == "pass"


# --- suites of users ---------------------------------------------------------------------------------


def test_a_users_schemas_go_as_moonshots_suite_sends_them(tmp_path):
    """A directory of schemas is asked as KVV asks it, and its report is written in KVV's form."""
    folder = tmp_path / "cases" / "TestMine"
    folder.mkdir(parents=True)
    schemas = [{"type": "string"}, {"type": "integer", "default": 3}, {"type": "string", "minLength": 1001}]
    (folder / "valid.jsonl").write_text("".join(json.dumps(schema) + "\n" for schema in schemas))
    run = tmp_path / "run"
    with answering().in_thread() as server:
        conform(server.url, run, [str(tmp_path / "cases")], parameters=PLAIN)
    sent = sorted((json.loads(arrival.body) for arrival in server.arrivals), key=str)
    assert [body["tools"][0]["function"]["parameters"]["properties"]["value"] for body in sent] == [
        {"type": "integer"},
        {"type": "string"},
    ]
    assert {(body["tool_choice"], body["max_tokens"], body["stream"]) for body in sent} == {
        ("required", 2048, False)
    }
    report, code = reported(run, "kvv")
    assert code == 0
    assert report["summary"] == {
        "total": 2,
        "by_status": {"passed": 2},
        "by_selection_reason": {"integer_parameter_schema": 1, "string_parameter_schema": 1},
        "by_mode": {"non-stream": {"passed": 2}},
    }
    assert [(case["suite"], case["line"]) for case in report["selected_cases"]] == [
        ("TestMine", 1),
        ("TestMine", 2),
    ]


BAD = {
    "an unknown word": ({"expect": {"statsu": 200}}, "expect.statsu"),
    "no expectation": ({"expect": {}}, "'expect'"),
    "no text": ({"continues": 3}, "'continues'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_suite_that_cannot_be_used_sends_nothing(tmp_path, bad):
    """The line and the field are named, and nothing is sent or written."""
    change, said = BAD[bad]
    probe = {"id": "a", "request": {"messages": []}, "expect": {"status": 200}, **change}
    suite = write_rows(tmp_path / "mine.jsonl", [{**probe, "id": "b", "expect": {"status": 200}}, probe])
    command = ["conform", "--model", "kimi-k3", "--api-url", "http://127.0.0.1:9/v1", "--suite", str(suite)]
    done = CliRunner().invoke(k2_verifier, [*command, "--work-dir", str(tmp_path / "run"), "--no-timestamp"])
    assert done.exit_code == 2
    assert f"{suite} line 2: field" in done.stderr
    assert said in done.stderr
    assert not list((tmp_path / "run").rglob("*.jsonl"))


def test_what_is_not_known_is_asked_for(tmp_path):
    """A model whose name tells no profile, an unknown suite, and repeats are refused by name."""
    run = tmp_path / "run"
    with raises_cleanly(UsageError, "the name of model", "--profile", "k2_7_code"):
        conform("http://127.0.0.1:9/v1", run, parameters={"profile": None}, model="served")
    with raises_cleanly(UsageError, "suite 'tool_choise'", "did you mean 'tool_choice'"):
        conform("http://127.0.0.1:9/v1", run, ["tool_choise"])
    with raises_cleanly(UsageError, "repeats is 2", "attempts"):
        conform("http://127.0.0.1:9/v1", run, repeats=2)


def test_a_probe_keeps_its_own_parameters(tmp_path):
    """What the user sets is added to every probe, and takes nothing of its own away."""
    with answering().in_thread() as server:
        generation = {"max_tokens": 77, "extra_body": {"provider": {"only": ["x"]}}}
        conform(
            server.url, tmp_path / "run", ["prompt_tokens"], parameters=PLAIN, generation_config=generation
        )
    bodies = [json.loads(arrival.body) for arrival in server.arrivals]
    assert {(body["max_tokens"], body["provider"]["only"][0]) for body in bodies} == {(16, "x")}


def test_the_parameters_are_documented():
    """Every parameter stands in docs/conformance.md's table."""
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
    for parameter in CONFORMANCE_PARAMETERS:
        assert f"| `{parameter.name}` |" in page
