"""What a run leaves at its end: this package's reports, and the verdict as the last word."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from evalscope.report import get_report_list
from support.runs import (
    EVALSCOPES_WARNINGS,
    MODEL,
    bundled_rows,
    evaluate,
    resume,
    write_rows,
)

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.evalscope_plugin import run_files
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor

pytestmark = EVALSCOPES_WARNINGS

FORMATS = {"txt": "text", "json": "json", "md": "markdown", "junit.xml": "junit", "html": "html"}
LIMIT = 40


def official_rows(path):
    """Write the bundled rows as if they were official ones: a verdict may be given over them."""
    return write_rows(path, [{**row, "synthetic": False} for row in bundled_rows(LIMIT)])


def written(run, ending):
    """Read one of the files that a run left."""
    return (run / "reports" / MODEL / "k2_verifier" / f"k2_thinking.{ending}").read_text(encoding="utf-8")


def assert_files_are_what_the_command_says(run):
    """Every file is byte for byte what `k2-verifier report` makes of what is stored."""
    for ending, form in FORMATS.items():
        full = ["--full"] if form == "text" else []
        told = CliRunner().invoke(main, ["report", str(run), "--format", form, *full])
        assert told.exit_code in (0, 3), told.output
        # Printed whole, a text ends with the verdict once more.
        shown = told.stdout.rpartition("\n\n")[0] + "\n" if full else told.stdout
        assert written(run, ending) == shown, ending


FAILING = replace(PROFILES["noisy"], rates={"http_400": 0.15, "not_a_completion": 0.1, "truncated_json": 0.3})
"""Some requests fail for good, and some answers are wrong."""


@pytest.mark.parametrize("profile", [PROFILES["broken"], FAILING], ids=["broken", "failing"])
def test_the_files_are_what_the_report_command_says(tmp_path, profile):
    """From answers in memory come the same reports as from answers on disk, failed requests included."""
    rows = official_rows(tmp_path / "rows.jsonl")
    with SimulatedVendor(bundled_rows(LIMIT), profile, seed=5).running() as endpoint:
        report = evaluate(endpoint.url, tmp_path / "run", rows)
    assert_files_are_what_the_command_says(tmp_path / "run")
    if profile is FAILING:
        assert report.execution_summary.errored > 2


def test_evalscopes_readers_pass_them_over(tmp_path):
    """The JSON report beside EvalScope's own is none of its reports, and is not taken for one."""
    with SimulatedVendor(bundled_rows(8), PROFILES["official"]).running() as endpoint:
        evaluate(endpoint.url, tmp_path, limit=8)
    assert json.loads(written(tmp_path, "json"))["model"] == MODEL
    for folder in (tmp_path / "reports", tmp_path / "reports" / MODEL):
        assert len(get_report_list([str(folder)])) == 1


def test_a_resumed_run_replaces_them(tmp_path):
    """The reports are those of the whole run, not of its last session."""
    run = tmp_path / "run"
    rows = official_rows(tmp_path / "rows.jsonl")
    with SimulatedVendor(bundled_rows(LIMIT), PROFILES["noisy"], seed=5).running() as endpoint:
        evaluate(endpoint.url, run, rows, dataset_args={"extra_params": {"max_requests": 25}})
        first = json.loads(written(run, "json"))
        assert (first["complete"], first["requests"]["missing"]) == (False, 15)
        resume(endpoint.url, run, rows)
    second = json.loads(written(run, "json"))
    assert (second["complete"], second["requests"]["completed"]) == (True, LIMIT)
    assert_files_are_what_the_command_says(run)


def test_a_report_that_cannot_be_made_costs_no_other(tmp_path, monkeypatch):
    """A defect in one format is logged; the run, its other reports and EvalScope's own are there."""

    def broken(report):
        raise RuntimeError("a defect")

    formats = [replace(form, render=broken) if form.name == "html" else form for form in run_files.FORMATS]
    monkeypatch.setattr(run_files, "FORMATS", formats)
    with SimulatedVendor(bundled_rows(8), PROFILES["official"]).running() as endpoint:
        report = evaluate(endpoint.url, tmp_path, limit=8)
    assert report.execution_summary.succeeded == 8
    assert not (tmp_path / "reports" / MODEL / "k2_verifier" / "k2_thinking.html").exists()
    assert json.loads(written(tmp_path, "json"))["requests"]["completed"] == 8
