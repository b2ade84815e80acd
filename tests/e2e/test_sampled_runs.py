"""A limit with `sample: stratified`: which rows are asked, stored and gone on with."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from support.runs import (
    EVALSCOPES_WARNINGS,
    KEY,
    MODEL,
    bundled_rows,
    evaluate,
    judged,
    metadata_of,
    report_of,
    resume,
    stored,
    values_of,
    write_rows,
)

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.core.sampling import draw_stratified
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(24)
CALLS = sum(row["should_call_tool"] for row in ROWS)


@pytest.fixture
def rows(tmp_path):
    """A file with the rows."""
    return write_rows(tmp_path / "rows.jsonl", ROWS)


def _vendor(profile=PROFILES["noisy"]):
    return SimulatedVendor(ROWS, profile, seed=1, record_requests=True)


def _sampled(limit, **params):
    return {"limit": limit, "dataset_args": {"extra_params": {"sample": "stratified", **params}}}


def _drawn(limit, seed=42):
    """Give the 0-based rows of a draw."""
    decisions = {index + 1: row["should_call_tool"] for index, row in enumerate(ROWS)}
    return {number - 1 for number in draw_stratified(decisions, limit, seed)}


def _asked(vendor):
    """Give the 0-based rows of the requests, each as often as it was asked."""
    cases = [decode_row(row, index, HistoryOptions()) for index, row in enumerate(ROWS)]
    index = {json.dumps([case.messages(), case.tools()]): case.index for case in cases}
    assert len(index) == len(ROWS)
    bodies = [json.loads(request.body) for request in vendor.requests]
    return sorted(index[json.dumps([body["messages"], body.get("tools", [])])] for body in bodies)


@pytest.mark.parametrize("limit", [9, 0.4])
def test_the_drawn_rows_are_asked_and_noted(tmp_path, rows, limit):
    """A number or a share of the rows: as many calls as in all of them, each repeat; run and reports say so."""
    run = tmp_path / "run"
    vendor = _vendor()
    with vendor.running() as endpoint:
        report = evaluate(endpoint.url, run, rows, repeats=2, **_sampled(limit, sample_seed=3))
    drawn = _drawn(9, 3)
    assert drawn != set(range(9))
    assert sum(ROWS[index]["should_call_tool"] for index in drawn) == round(9 * CALLS / len(ROWS))
    assert _asked(vendor) == sorted([*drawn, *drawn])
    assert {case for case, _ in judged(run)} == drawn
    note = {"method": "stratified", "seed": 3, "rows": 9, "of": 24}
    facts = json.loads(next(run.rglob("run.json")).read_text())
    assert facts["rows"]["sample"] == note
    assert metadata_of(report, "trigger_similarity")["rows"]["sample"] == note


def test_a_resumed_run_draws_the_same_rows(tmp_path, rows):
    """What failed is sent again, nothing else, and the result is that of a run without failures."""
    run = tmp_path / "run"
    vendor = _vendor(profile_with({"http_503@1": 0.5}))
    with vendor.running() as endpoint:
        quick = {"retries": 0, "retry_interval": 0}
        first = evaluate(endpoint.url, run, rows, generation_config=quick, **_sampled(12))
        failed = {item.case_index for item in stored(run).failed}
        sent = len(vendor.requests)
        assert first.execution_summary.errored == len(failed) >= 2
        second = resume(endpoint.url, run, rows, generation_config=quick, **_sampled(12))
    assert len(vendor.requests) - sent == len(failed)
    assert second.execution_summary.succeeded == 12
    with _vendor(PROFILES["official"]).running() as endpoint:
        evaluate(endpoint.url, tmp_path / "other", rows, **_sampled(12))
    assert judged(run) == judged(tmp_path / "other")
    assert values_of(report_of(run)) == values_of(report_of(tmp_path / "other"))


def test_a_higher_limit_asks_only_for_what_is_new(tmp_path, rows):
    """With `rerun_review` a stratified run of 8 rows grows to 14, then to all, and no answer is paid for twice."""
    run = tmp_path / "run"
    vendor = _vendor()
    with vendor.running() as endpoint:
        evaluate(endpoint.url, run, rows, **_sampled(8))
        for limit in (14, None):
            resume(endpoint.url, run, rows, rerun_review=True, **_sampled(limit))
            asked = _drawn(limit or len(ROWS))
            assert _asked(vendor) == sorted(asked)
            assert {case for case, _ in judged(run)} == asked
    assert stored(run).facts.rows.sample is None
    with _vendor().running() as endpoint:
        evaluate(endpoint.url, tmp_path / "other", rows)
    assert judged(run) == judged(tmp_path / "other")


@pytest.mark.parametrize("changed", [{"sample_seed": 7}, {"sample": "first"}])
def test_another_choice_of_rows_is_another_run(tmp_path, rows, changed):
    """EvalScope refuses another sample or seed; waived, only rows without an answer are asked, and counted."""
    run = tmp_path / "run"
    vendor = _vendor()
    with vendor.running() as endpoint:
        evaluate(endpoint.url, run, rows, **_sampled(8))
        with pytest.raises(ValueError, match="Cannot reuse cache for k2_verifier"):
            resume(endpoint.url, run, rows, **_sampled(8, **changed))
        assert _asked(vendor) == sorted(_drawn(8))
        report = resume(endpoint.url, run, rows, rerun_review=True, **_sampled(8, **changed))
    now = _drawn(8, 7) if "sample_seed" in changed else set(range(8))
    assert now - _drawn(8)
    assert _asked(vendor) == sorted(_drawn(8) | now)
    assert {case for case, _ in judged(run)} == now
    assert set(stored(run).cases) == now
    assert report.execution_summary.requested == report.execution_summary.succeeded == 8
    for (case, _), judgement in judged(run).items():
        assert judgement["should_call"] == ROWS[case]["should_call_tool"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"sample": "random"}, ValueError, "Value random not in choices"),
        ({"sample_seed": "x"}, UsageError, "extra_params.sample_seed is 'x'"),
        ({"sample": "first", "sample_seed": 7}, UsageError, "draws nothing"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(tmp_path, rows, params, error, message):
    """A wrong value ends the run with its name and value, and nothing is sent."""
    vendor = _vendor()
    with vendor.running() as endpoint, pytest.raises(error, match=message):
        evaluate(endpoint.url, tmp_path / "run", rows, **_sampled(8, **params))
    assert vendor.requests == []


def test_the_command_draws(tmp_path, rows):
    """`k2-verifier eval --sample stratified` asks the drawn rows, and its report says which."""
    vendor = _vendor()
    with vendor.running() as endpoint:
        dataset_args = {"k2_verifier": {"local_path": str(rows)}}
        arguments = ["eval", "--model", MODEL, "--api-url", endpoint.url, "--api-key", KEY]
        arguments += ["--dataset-args", json.dumps(dataset_args), "--work-dir", str(tmp_path / "run")]
        arguments += ["--no-timestamp", "--limit", "6", "--sample", "stratified", "--sample-seed", "5"]
        planned = CliRunner().invoke(main, [*arguments, "--dry-run"])
        assert vendor.requests == []
        result = CliRunner().invoke(main, [*arguments, "--full"])
    assert (planned.exit_code, result.exit_code) == (0, 0)
    assert "6 requests to send" in planned.stdout
    assert "  sample: stratified\n  sample_seed: 5\n" in planned.stdout
    assert _asked(vendor) == sorted(_drawn(6, 5))
    assert "rows asked 6 of 24, stratified, seed 5" in " ".join(result.stdout.split())
