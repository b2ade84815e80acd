"""`--baseline RUN`: is this run not worse than another one over the same cases?"""

import json
from html import unescape
from importlib import resources
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from click.testing import CliRunner
from stored_runs import answering, calling, make_row, write_run

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.core.run_facts import RowsInfo

CASES = 400
TRUNCATED = '{"city": '


def rows(count=CASES):
    """Make rows; the official API calls in every other one."""
    return [make_row(f"question {number}", call=number % 2 == 0) for number in range(count)]


def answers(wrong=0, broken=0, count=CASES):
    """Answer as the official API, but decide otherwise in the first cases, and break calls of the last ones."""
    decisions = [(number % 2 == 0) != (number < wrong) for number in range(count)]
    texts = [TRUNCATED if number >= count - broken else '{"city": "Oslo"}' for number in range(count)]
    return [calling(text) if call else answering() for call, text in zip(decisions, texts, strict=True)]


@pytest.fixture
def runs(tmp_path):
    """Write a run by name of what is wrong with it."""

    def write(name, *, model_rows=None, **settings):
        chosen = rows() if model_rows is None else model_rows
        return str(write_run(tmp_path / name, chosen, answers(**settings, count=len(chosen))))

    return write


def report(*arguments):
    """Run `k2-verifier report`."""
    return CliRunner().invoke(main, ["report", *arguments])


@pytest.mark.parametrize(
    ("run", "baseline", "flags", "code"),
    [
        ({}, {}, [], 0),
        ({"wrong": 80}, {}, [], 1),
        ({}, {"wrong": 80}, [], 0),
        ({"broken": 60}, {}, [], 1),
        ({"wrong": 12}, {}, [], 3),
        ({"wrong": 12}, {}, ["--inconclusive", "ok"], 0),
        ({"wrong": 12}, {}, ["--inconclusive", "fail"], 1),
        ({"wrong": 12}, {}, ["--margin", "0.2"], 0),
        ({"wrong": 80}, {"wrong": 80}, [], 0),
        ({"wrong": 180}, {"wrong": 180}, ["--gate", "strict"], 1),
        ({"wrong": 80}, {}, ["--gate", "strict", "--min-trigger-similarity", "0.5"], 1),
    ],
)
def test_the_exit_code_says_whether_the_run_is_not_worse(runs, run, baseline, flags, code):
    """0 not worse, 1 worse by more than the margin, 3 not to be said; thresholds count beside it."""
    result = report(runs("run", **run), "--baseline", runs("baseline", **baseline), *flags)
    assert result.exit_code == code, result.output
    assert "not worse than" in result.stderr


def test_all_formats_show_the_same_differences(runs):
    """Text, Markdown, HTML and JUnit hold what the JSON report holds, which its schema describes."""
    run, baseline = runs("run", wrong=30), runs("baseline", wrong=4)
    told = {
        form: report(
            run, "--baseline", baseline, "--format", form, *(["--full"] if form == "text" else [])
        ).stdout
        for form in ("text", "json", "markdown", "html", "junit")
    }
    value = json.loads(told["json"])
    schema = resources.files("k2_verifier_adapter.reports") / "schema" / "report.schema.json"
    jsonschema.validate(value, json.loads(schema.read_text(encoding="utf-8")))
    found = value["baseline"]
    assert (found["cases"], found["margin"], found["source"]) == (CASES, 0.03, baseline)
    check = found["checks"][0]
    assert check["metric"] == "trigger_similarity"
    assert check["difference"] == pytest.approx(
        value["metrics"]["trigger_similarity"]["value"] - (2 * 198 / (2 * 198 + 4)), abs=1e-9
    )
    assert check["low"] < check["difference"] < check["high"] < 0
    for form in ("text", "markdown", "html", "junit"):
        for number in ("difference", "low", "high"):
            assert f"{100 * check[number]:+.2f}" in unescape(told[form]), (form, number)
    assert f"Against the baseline: {found['status'].upper()}" in told["text"]
    suite = ET.fromstring(told["junit"])
    names = [case.get("name") for case in suite.iter("testcase")]
    assert "trigger_similarity: not worse than the baseline by more than 3.00 points" in names


def test_the_text_fits_80_columns(runs):
    """The table of differences is no wider than the report."""
    text = report(runs("run", wrong=30), "--baseline", runs("baseline", wrong=4), "--full").stdout
    table = [line for line in text.splitlines() if "baseline" not in line or "run - baseline" in line]
    assert max(map(len, table)) <= 80


def test_other_cases_are_left_out_and_said_so(runs):
    """A baseline over more cases is held against over the common ones, with a warning."""
    baseline = runs("baseline", model_rows=rows(CASES + 50))
    result = report(runs("run"), "--baseline", baseline)
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert "Baseline: The runs hold different cases (400, 450): all is over the 400" in said


def test_synthetic_rows_carry_no_verdict(tmp_path):
    """Nothing is said of runs over synthetic rows, and the exit code is 3."""
    info = RowsInfo("rows.jsonl", "ab" * 32, synthetic=True)
    made = [str(write_run(tmp_path / name, rows(), answers(), rows_info=info)) for name in ("run", "other")]
    result = report(made[0], "--baseline", made[1])
    assert result.exit_code == 3
    assert "no verdict possible: synthetic rows" in result.stderr


@pytest.mark.parametrize(
    ("baseline", "flags", "expected"),
    [
        ("missing", [], "does not exist"),
        ("empty", [], "no run"),
        (None, ["--margin", "0.1"], "--margin goes with --baseline RUN"),
    ],
)
def test_errors(runs, tmp_path, baseline, flags, expected):
    """A baseline that is none, and a margin without one, are errors of one line."""
    (tmp_path / "empty").mkdir()
    given = [] if baseline is None else ["--baseline", str(tmp_path / baseline)]
    result = report(runs("run"), *given, *flags)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stdout == ""


def test_another_subset_is_no_baseline(tmp_path):
    """The subsets that a baseline holds are named where the run's own is not among them."""
    run = write_run(tmp_path / "run", rows(20), answers(count=20))
    other = write_run(tmp_path / "other", rows(20), answers(count=20), subset="k2_0905")
    result = report(str(run), "--baseline", str(other))
    assert result.exit_code == 2
    assert "k2_0905" in result.stderr
