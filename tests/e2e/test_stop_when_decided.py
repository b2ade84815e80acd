"""Runs that stop when the verdict is decided: few requests for a bad vendor, and one verdict whatever happens."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest
from support.commands import invoke
from support.drawn_rows import at_random, official_rows, probabilities, vendor_rows
from support.quick_page import write_page
from support.resumed import predictions
from support.runs import EVALSCOPES_WARNINGS, KEY, MODEL, report_of, stored, write_rows

from k2_verifier_adapter.core.sampling import in_stratified_order
from k2_verifier_adapter.formats.runs import write_facts
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with

pytestmark = EVALSCOPES_WARNINGS

CASES = 2_000
CONCURRENCY = 16
CHANCES = probabilities(CASES)
BAD = at_random(0.885)
"""F1 0.53."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Draw no page, and ask no proxy."""
    monkeypatch.setattr("evalscope.report.gen_html_report_file", write_page)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def port():
    """A port that one vendor after the other serves at, for EvalScope's cache identity holds the URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows with one official run."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", official_rows(CHANCES))


def vendor(change=lambda p: p, profile=PROFILES["official"], seed=3):
    """Make a vendor whose answers are drawn."""
    return SimulatedVendor(vendor_rows(CHANCES, change, seed), profile, record_requests=True)


def run_of(vendor, port, run, rows, *flags, subset="k2_thinking"):
    """Run the command against a vendor; give its result."""
    source = json.dumps({"k2_verifier": {"local_path": str(rows), "subset_list": [subset]}})
    with vendor.running(port) as endpoint:
        return invoke(
            *("eval", "--model", MODEL, "--api-url", endpoint.url, "--api-key", KEY),
            *(
                "--dataset-args",
                source,
                "--eval-batch-size",
                CONCURRENCY,
                "--work-dir",
                run,
                "--no-timestamp",
            ),
            *("--generation-config", json.dumps({"retries": 0, "stream": False})),
            *("--stop-when-decided", "--gate", "strict", *flags),
        )


def verdict(run):
    """Give what a stored run says of its verdict, and at which look."""
    summary = summary_of(stored(run))
    return summary.verdict, summary.facts.stopping, summary.total, summary.tally.counts


@pytest.fixture(scope="module")
def failed_run(tmp_path_factory, port, rows):
    """An undisturbed run against a bad vendor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalscope.report.gen_html_report_file", write_page)
        patch.setenv("NO_PROXY", "127.0.0.1")
        run = tmp_path_factory.mktemp("bad") / "run"
        asked = vendor(BAD)
        result = run_of(asked, port, run, rows)
    return run, result, len(asked.requests)


def test_a_bad_vendor_is_failed_early(failed_run):
    """The run ends at a look far before its end; what was under way is stored, and no part of the verdict."""
    run, result, requests = failed_run
    summary = summary_of(stored(run))
    rule = summary.facts.stopping
    assert result.exit_code == 1
    assert summary.facts.complete
    assert rule.cases in rule.design.looks
    assert rule.cases < CASES / 5
    assert rule.cases <= requests <= rule.cases + CONCURRENCY
    assert summary.completed == summary.total == rule.cases
    assert summary.under_way == requests - rule.cases == len(stored(run).records) - rule.cases
    assert f"decided after {rule.cases} of 2,000 cases (12 looks, O'Brien–Fleming pass" in " ".join(
        result.stdout.split()
    )
    assert not report_of(run).execution_summary.incomplete
    assert "look 1 of 12: 0 of 3 checks decided, end ~" in result.stderr
    assert f"look {rule.look + 1} of 12: fail" in result.stderr


def test_every_format_states_the_look(failed_run):
    """The report in JSON, text and JUnit names the look, and JSON the whole design."""
    run, _, requests = failed_run
    rule = summary_of(stored(run)).facts.stopping
    said = {
        form: invoke("report", run, "--format", form).stdout for form in ("json", "text", "junit", "html")
    }
    report = json.loads(said.pop("json"))
    assert report["stopping"]["look"] == rule.look
    assert report["stopping"]["cases"] == report["requests"]["total"] == rule.cases
    assert report["requests"]["under_way"] == requests - rule.cases
    for text in said.values():
        assert f"decided after {rule.cases} of 2,000 cases" in " ".join(text.split())


def test_the_export_scores_to_the_same_verdict(failed_run, rows, tmp_path):
    """`score` judges the same look, knows a line that was left out, and takes no other looks from the lines."""
    run, _, requests = failed_run
    results = tmp_path / "results.jsonl"
    assert invoke("export", run, "--output", results).exit_code == 0
    lines = results.read_text().splitlines(keepends=True)
    assert len(lines) == requests

    def scored():
        flags = ("--rows", rows, "--subset", "k2_thinking", "--gate", "strict", "--format", "json")
        found = invoke("score", results, *flags)
        return found.exit_code, json.loads(found.stdout)

    code, report = scored()
    told = json.loads(invoke("report", run, "--format", "json").stdout)
    assert code == 1
    assert report["verdict"] == told["verdict"]
    assert report["stopping"] == told["stopping"]
    assert report["requests"] == told["requests"]
    assert not report["warnings"]
    first = in_stratified_order(stored(run).cases.values(), told["stopping"]["seed"])[0].data_index
    results.write_text("".join(line for line in lines if json.loads(line)["data_index"] != first))
    code, report = scored()
    assert report["requests"]["missing"] == 1
    assert report["requests"]["total"] == told["requests"]["total"]

    def claim(note, count):
        changed = [json.loads(line) for line in lines]
        for line in changed[:count]:
            line["k2_verifier"] = note
        results.write_text("".join(json.dumps(line) + "\n" for line in changed))
        code, report = scored()
        assert (code, report["verdict"]["status"]) == (3, "none")
        return report["verdict"]["reason"]

    assert "stopped by different rules" in claim({}, 1)
    rule = json.loads(lines[0])["k2_verifier"]["stopping"]
    assert "not those of any run" in claim({"stopping": {**rule, "fail_z": [0.1] * 12}}, len(lines))


def test_a_decided_run_stays_decided(failed_run, port, rows):
    """Gone on with, it sends nothing and says the same."""
    run, _, _ = failed_run
    before = verdict(run)
    again = vendor(BAD)
    result = run_of(again, port, run, rows, "--use-cache", run)
    assert result.exit_code == 1
    assert again.requests == []
    assert verdict(run) == before


def test_the_looks_of_a_run_stay_what_they_are(failed_run, port, rows):
    """With another maximum, even where EvalScope is told not to compare, a run that was looked at is refused."""
    run, _, _ = failed_run
    again = vendor(BAD)
    result = run_of(again, port, run, rows, "--use-cache", run, "--rerun-review", "--limit", 100)
    assert result.exit_code == 2
    assert "at most 2,000 cases" in result.stderr
    assert again.requests == []


def test_cut_short_and_resumed_it_comes_to_the_same_look(failed_run, port, rows, tmp_path):
    """A session that ends between two looks, or is killed, has no verdict; the next comes to the undisturbed one's."""
    undisturbed, _, requests = failed_run
    run = tmp_path / "run"
    assert run_of(vendor(BAD), port, run, rows, "--max-requests", 81).exit_code == 3
    summary = summary_of(stored(run))
    assert not summary.facts.complete
    assert summary.total == CASES
    assert summary.verdict.status.value == "inconclusive"
    # A killed process leaves half a line, and the facts of its start.
    with predictions(run).open("a") as file:
        file.write('{"index": 8')
    paths, facts = stored(run).paths, summary.facts
    write_facts(paths, replace(facts, stopped=None, stopping=replace(facts.stopping, look=None)))
    rest = vendor(BAD)
    assert run_of(rest, port, run, rows, "--use-cache", run).exit_code == 1
    assert len(rest.requests) < requests
    assert verdict(run) == verdict(undisturbed)


def test_a_faithful_vendor_passes_before_the_end(port, tmp_path):
    """With five official runs, similarity, surplus and accuracy are settled before all rows are asked."""
    rows = write_rows(tmp_path / "rows.jsonl", official_rows(CHANCES, runs=5))
    run = tmp_path / "run"
    result = run_of(vendor(), port, run, rows)
    summary = summary_of(stored(run))
    assert result.exit_code == 0
    assert summary.facts.stopping.cases < CASES
    assert all(check.status.value == "pass" for check in summary.verdict.checks if check.applied)


def test_failed_requests_are_finished_and_bounded(port, rows, tmp_path):
    """Some failures leave the verdict decided, and are not sent again; too many leave it open to the last look."""
    run = tmp_path / "run"
    some = vendor(BAD, profile_with({"http_400": 0.025}))
    assert run_of(some, port, run, rows).exit_code == 1
    summary = summary_of(stored(run))
    assert summary.tally.failed == 2
    assert summary.coverage >= 0.98
    assert summary.similarity_bounds is not None
    before = verdict(run)
    healed = vendor(BAD)
    run_of(healed, port, run, rows, "--use-cache", run)
    assert healed.requests == []
    assert verdict(run) == before
    many = tmp_path / "many"
    run_of(vendor(BAD, profile_with({"http_400": 0.2})), port, many, rows, "--limit", 100)
    summary = summary_of(stored(many))
    assert summary.facts.complete
    assert summary.facts.stopping.cases == summary.total == 100
    assert summary.verdict.status.value == "inconclusive"


@pytest.mark.parametrize(
    ("subset", "flags", "said"),
    [
        ("k2_thinking", ("--gate", "upstream"), "gate is 'upstream'"),
        ("k2_thinking", ("--baseline", "."), "a baseline is held against all rows"),
        ("other", (), "has no threshold"),
    ],
)
def test_what_cannot_be_decided_is_refused(port, rows, tmp_path, *, subset, flags, said):
    """Without a strict verdict that the looks could decide, nothing is sent."""
    asked = vendor()
    result = run_of(asked, port, tmp_path / "run", rows, *flags, subset=subset)
    assert result.exit_code == 2
    assert said in result.stderr
    assert asked.requests == []


def test_synthetic_rows_are_refused(port, tmp_path):
    """No answer to them could decide anything."""
    asked = vendor()
    result = run_of(asked, port, tmp_path / "run", "bundled")
    assert result.exit_code == 2
    assert "stop_when_decided is set, but k2_thinking has synthetic rows" in result.stderr
    assert asked.requests == []
