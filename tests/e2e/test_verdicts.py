"""What `eval --gate` decides is what every file of the run states, and what `report` says again."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from support.commands import invoke
from support.runs import EVALSCOPES_WARNINGS, KEY, MODEL, bundled_rows, metadata_of, report_of, write_rows

from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with

pytestmark = EVALSCOPES_WARNINGS

ROWS = [{name: value for name, value in row.items() if name != "synthetic"} for row in bundled_rows()]
"""240 rows that carry a verdict; half of the official answers call."""


def ask(profile, run, rows, *flags):
    """Run `k2-verifier eval` against a simulated vendor."""
    path = write_rows(run.parent / f"{run.name}.jsonl", rows)
    with SimulatedVendor(ROWS, profile, seed=1).running() as endpoint:
        return invoke(
            *("eval", "--model", MODEL, "--api-url", endpoint.url, "--api-key", KEY),
            *("--dataset-args", json.dumps({"k2_verifier": {"local_path": str(path)}})),
            *("--work-dir", run, "--no-timestamp", *flags),
        )


@pytest.fixture(scope="module")
def invalid(tmp_path_factory):
    """A vendor that decides as the official API does, and a quarter of whose calls are invalid."""
    run = tmp_path_factory.mktemp("invalid") / "run"
    return run, ask(profile_with({"wrong_type": 0.25}), run, ROWS, "--gate", "strict")


def test_invalid_calls_fail_the_gate_alone(invalid):
    """No further flag is needed, and the first eight lines say why, and what it cost."""
    _, done = invalid
    assert done.exit_code == 1
    first = done.stdout.splitlines()[:8]
    assert first[1] == "Verdict: FAIL by the strict rule (the gate); upstream's rule: met"
    assert [line.split()[:2] for line in first[2:5]] == [
        ["trigger_similarity", "pass"],
        ["call_surplus", "pass"],
        ["schema_accuracy", "fail"],
    ]
    assert any(line.startswith("Requests: 240 total, 240 completed") and "tokens" in line for line in first)
    assert any(line.startswith("Differs: agrees with the official answers") for line in first)


def test_all_files_state_the_gates_verdict(invalid):
    """HTML, Markdown, JUnit, text, JSON, EvalScope's report and the log say fail, as the exit code does."""
    run, done = invalid
    (folder,) = (run / "reports").glob("*/k2_verifier")
    text, markdown, page = ((folder / f"k2_thinking.{end}").read_text() for end in ("txt", "md", "html"))
    assert "Verdict: FAIL" in text
    assert "Verdict: FAIL" in markdown
    assert 'class="verdict fail"' in page
    report = json.loads((folder / "k2_thinking.json").read_text())
    assert (report["gate"]["gate"], report["gate"]["status"]) == ("strict", "fail")
    assert int(ET.fromstring((folder / "k2_thinking.junit.xml").read_text()).get("failures")) == 1
    assert metadata_of(report_of(run), "trigger_similarity")["verdict"]["status"] == "fail"
    said = [line for line in done.stderr.splitlines() if "k2_thinking: verdict " in line]
    assert all("verdict FAIL" in line and "schema_accuracy" in line for line in said)


def test_report_states_the_runs_gate_unless_told_otherwise(invalid):
    """Without flags it decides as the run did; with flags it says that they decide."""
    run, _ = invalid
    again = invoke("report", run)
    assert (again.exit_code, again.stderr) == (1, "k2-verifier: gate strict: failed\n")
    other = invoke("report", run, "--gate", "upstream")
    assert other.exit_code == 0
    assert "Verdict: PASS by upstream's rule (the gate); the strict rule: fail" in other.stdout
    assert "judged by this command's flags, not by the gate of the run" in other.stderr


def test_calling_less_is_told(tmp_path):
    """A vendor that drops an eighth of its calls does not pass, and is told so."""
    done = ask(profile_with({"missed_call": 0.125}), tmp_path / "run", ROWS, "--gate", "strict")
    assert done.exit_code in (1, 3)
    assert "Differs: calls " in done.stdout
    assert "less than the official API (p " in done.stdout


@pytest.mark.parametrize(
    ("profile", "code", "status"), [("official", 0, "pass"), ("over-triggering", 1, "fail")]
)
def test_several_official_runs_replace_the_threshold(tmp_path, profile, code, status):
    """Rows with `official_calls` are held against the official runs; the threshold is not applied."""
    rows = [{**row, "official_calls": [3 * row["should_call_tool"], 3]} for row in ROWS]
    done = ask(PROFILES[profile], tmp_path / "run", rows, "--gate", "strict")
    assert done.exit_code == code
    checks = [line.split() for line in done.stdout.splitlines()[2:6]]
    assert checks[0][:2] == ["non_inferiority", status]
    assert checks[1][0] == "trigger_similarity"
    assert checks[1][-3:] == ["not", "applied:", "73%"]
