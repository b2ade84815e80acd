"""The `k2-verifier` commands as a user strings them together, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
UNKNOWN_TO_A_LOG = (
    "provenance",
    "log",
    "parameters",
    "model",
    "subset",
    "verdict",
    "warnings",
    "self_agreement",
)
"""What a report of a run says and a results file cannot, or the other way round."""


def k2_verifier(*arguments, cwd, **variables):
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "k2_verifier_adapter", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def vendor_url(tmp_path_factory):
    """Serve the simulated vendor by its own command, as `configs/smoke.yaml` expects it."""
    command = [sys.executable, "-m", "k2_verifier_adapter", "simulate", "--profile", "noisy", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path_factory.mktemp("vendor"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process.stdout.readline().split()[-1]
        process.terminate()


@pytest.fixture(scope="module")
def smoke(vendor_url, tmp_path_factory):
    """Run the smoke config; give the finished process and the run directory."""
    folder = tmp_path_factory.mktemp("smoke")
    run = folder / "run"
    flags = ("--work-dir", run, "--no-timestamp", "--repeats", "2")
    done = k2_verifier(
        "eval",
        "--config",
        CONFIGS / "smoke.yaml",
        *flags,
        cwd=folder,
        K2_VERIFIER_API_URL=vendor_url,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done, run


def report_of(run):
    """Give the JSON report of a run."""
    done = k2_verifier("report", run, "--format", "json", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_eval_reports_on_standard_output(smoke):
    """`eval` ends with the report on standard output; EvalScope's log is on standard error."""
    done, _ = smoke
    assert done.stdout.startswith("K2 vendor verification: kimi-k2-simulated, k2_thinking\n")
    assert "synthetic rows: no verdict" in done.stdout
    assert "is served by k2-verifier-adapter" in done.stderr
    assert "evalscope - " not in done.stdout


def test_a_flag_overrides_the_config(smoke):
    """Forty rows of the config, two repeats of the flag."""
    _, run = smoke
    report = report_of(run)
    assert report["requests"] == {
        "total": 80,
        "completed": 80,
        "failed": 0,
        "missing": 0,
        "coverage": 1.0,
    }
    assert report["repeats"]["n"] == 2


def test_score_of_the_export_says_what_the_report_says(smoke):
    """Rows, vendor, run, export, score: every number is the same at both ends."""
    _, run = smoke
    folder = run.parent
    done = k2_verifier("export", run, "--output", "results.jsonl", "--summary", "summary.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    # The simulated model's name does not tell what the run's subset does, which no line of a log names.
    flags = ["--rows", "bundled", "--profile", "k2_thinking", "--format", "json"]
    done = k2_verifier("score", "results.jsonl", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    scored, reported = json.loads(done.stdout), report_of(run)
    assert not any(found["count"] for found in scored["log"]["disagreements"].values())
    for report in (scored, reported):
        for name in UNKNOWN_TO_A_LOG:
            report.pop(name, None)
        for name in ("latency_s", "complete"):
            report.pop(name, None)  # the log's milliseconds are rounded; it does not say if it is whole
    assert scored == reported
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["success_count"] == 80
    assert summary["finish_tool_calls"] == reported["counts"]["count_finish_reason_tool_calls"]


def test_doctor_takes_a_first_look(vendor_url, tmp_path):
    """`doctor` finds the endpoint and the model, sends one row and a dozen probes, and says what came back."""
    done = k2_verifier("doctor", "--api-url", vendor_url, "--model", "kimi-k2-simulated", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "lists kimi-k2-simulated" in said
    assert "finish_reason tool_calls (the official API calls)" in said
    assert "the calls are valid" in said
    assert "12 of 12 probes of the contract of Kimi K2-Thinking passed" in said


def test_a_gate_needs_official_rows(smoke, vendor_url):
    """A gate over synthetic rows is no pass: exit code 3, and the reason on standard error."""
    _, run = smoke
    done = k2_verifier("report", run, "--gate", "upstream", cwd=run.parent)
    assert done.returncode == 3
    assert "synthetic" in done.stderr


def test_a_dead_endpoint_is_one_line(tmp_path):
    """An unreachable endpoint: exit code 2, one line that says what to check, no traceback."""
    flags = ("--model", "m", "--api-url", "http://127.0.0.1:9/v1", "--work-dir", "run", "--no-timestamp")
    rows = json.dumps({"k2_verifier": {"local_path": "bundled"}})
    done = k2_verifier("eval", *flags, "--dataset-args", rows, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("k2-verifier: error: stopped: the first ")
    assert "check the API URL" in last
    assert "Traceback" not in done.stderr
