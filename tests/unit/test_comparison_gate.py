"""`compare --gate not-worse`: of two runs, is the first not worse than the second?"""

import gzip
import json

import pytest
from click.testing import CliRunner
from stored_runs import failed, write_run
from support.compared import answers_of, rows_of, words_of_html, words_of_markdown

from k2_verifier_adapter.cli import main, output
from k2_verifier_adapter.core.run_facts import RowsInfo

CASES = 400


def invoke(*arguments):
    """Run `compare`; standard output and standard error apart."""
    runner = CliRunner()
    result = runner.invoke(main, ["compare", *map(str, arguments)], prog_name="k2-verifier")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def run(tmp_path):
    """Write a run by its name; what is wrong with it is said in numbers."""

    def write(name, *, failures=0, wrong=0, broken=0, cases=CASES, **changes):
        answers = [None] * failures + answers_of(cases, wrong=wrong, broken=broken)[failures:]
        lost = [failed(number) for number in range(failures)]
        return write_run(tmp_path / name, rows_of(cases), answers, lost, **changes)

    return write


GATE = ("--gate", "not-worse")


@pytest.mark.parametrize(
    ("runs", "flags", "code", "said"),
    [
        (({}, {}), [], 0, "passed"),
        (({"wrong": 80}, {}), [], 1, "failed, worse by more than 3.00 points"),
        (({}, {"wrong": 80}), [], 0, "passed"),
        (({"broken": 60}, {}), [], 1, "failed"),
        (({"wrong": 12}, {}), [], 3, "inconclusive; more common cases would settle it"),
        (({"wrong": 12}, {}), ["--inconclusive", "ok"], 0, "which passes (--inconclusive ok)"),
        (({"wrong": 12}, {}), ["--inconclusive", "fail"], 1, "which fails (--inconclusive fail)"),
        (({"wrong": 12}, {}), ["--margin", "0.2"], 0, "passed"),
        (({"wrong": 12}, {}), ["--margin", "0"], 1, "worse by more than 0.00 points"),
    ],
)
def test_the_exit_code_says_whether_the_first_is_not_worse(run, runs, flags, code, said):
    """0 not worse, 1 worse by more than the margin, 3 not to be said; the reason goes to standard error."""
    first, second = (run(name, **wrong) for name, wrong in zip(("first", "second"), runs, strict=True))
    result = invoke(first, second, *GATE, *flags)
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith(f"k2-verifier: not worse than {second}: ")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_log_with_lines_left_out_is_not_worse_than_nothing(run, tmp_path):
    """A log that lost the lines in which it is worse gets no verdict, on either side."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in rows_of(CASES)))
    whole = tmp_path / "whole.jsonl.gz"
    done = CliRunner().invoke(main, ["export", str(run("worse", wrong=80)), "--output", str(whole)])
    assert done.exit_code == 0
    kept = gzip.decompress(whole.read_bytes()).splitlines(keepends=True)[80:]
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(kept))
    flags = ("--rows", rows, "--subset", "k2_thinking", *GATE)
    baseline = run("baseline")
    assert invoke(whole, baseline, *flags).exit_code == 1
    for pair in ((cut, baseline), (baseline, cut)):
        result = invoke(*pair, *flags)
        assert result.exit_code == 3
        assert "no verdict possible" in result.stderr
        assert "cut.jsonl: 80 official answers without a line" in result.stderr


def test_without_the_gate_nothing_is_decided(run):
    """However much worse the first run is, a comparison alone is no failure, and says nothing of a gate."""
    runs = run("first", wrong=80), run("second")
    for flags in ([], ["--gate", "none"]):
        result = invoke(*runs, *flags)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "A against B" not in result.stdout
    assert json.loads(invoke(*runs, "--format", "json").stdout)["not_worse"] is None


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_every_format_shows_the_outcome_and_the_same_exit_code(run, tmp_path, form):
    """The outcome stands in what is printed and in what is written; the exit code is the same."""
    runs = run("first", wrong=80), run("second")
    printed = invoke(*runs, *GATE, "--format", form)
    target = tmp_path / f"comparison.{form}"
    written = invoke(*runs, *GATE, "--format", form, "--output", target)
    assert (printed.exit_code, written.exit_code, written.stdout) == (1, 1, "")
    assert target.read_text(encoding="utf-8") == printed.stdout
    assert f"written to {target}" in written.stderr
    assert "failed, worse by more than 3.00 points" in written.stderr
    if form == "json":
        found = json.loads(printed.stdout)["not_worse"]
        assert (found["status"], found["margin"], found["source"]) == ("fail", 0.03, str(runs[1]))
        assert [check["status"] for check in found["checks"]] == ["fail", "pass"]
        return
    words = {"text": str, "markdown": words_of_markdown, "html": words_of_html}[form](printed.stdout)
    assert "A against B: fail" in words.replace("FAIL", "fail")
    assert "worse by more than 3.00 points than kimi-k2" in " ".join(words.lower().split())


@pytest.mark.parametrize("count", [3, 4])
def test_the_gate_is_for_two_runs(run, count):
    """With more runs there is no first and second; the error says what to do."""
    runs = [run(f"run_{number}", cases=4) for number in range(count)]
    result = invoke(*runs, *GATE)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--gate not-worse: {count} runs are given" in result.stderr
    assert "give the run on trial and then its baseline" in result.stderr


def test_several_models_of_one_directory_count_as_runs(run):
    """It is the number of runs that counts, not that of the directories."""
    folder = run("first", cases=4)
    for kind in ("k2_verifier", "predictions"):
        (folder / kind / "kimi-k2").rename(folder / kind / "kimi-a")
    run("first", cases=4)
    assert "3 runs are given" in invoke(folder, run("second", cases=4), *GATE).stderr
    # Four cases decide nothing, but they are two runs.
    assert invoke(folder, *GATE).exit_code == 3


@pytest.mark.parametrize("flag", [["--margin", "0.1"], ["--inconclusive", "ok"]])
def test_flags_of_the_gate_need_it(run, flag):
    """A margin or an exception without the gate would do nothing, and is refused."""
    result = invoke(run("first", cases=4), run("second", cases=4), *flag)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "go with --gate not-worse" in result.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"complete": False}, "incomplete: the run was interrupted"),
        ({"complete": False, "stopped": "max_requests"}, "incomplete: the run was stopped (max_requests)"),
        (
            {"failures": 21},
            "incomplete: 379 of 400 requests for the common cases completed (94.75%), fewer than 95%",
        ),
    ],
)
def test_a_first_run_that_is_incomplete_gets_no_verdict(run, changes, reason):
    """What failed is in no difference: of such a run nothing is said, in every format and in the exit code."""
    runs = run("first", **changes), run("second")
    result = invoke(*runs, *GATE, "--format", "json")
    assert result.exit_code == 3
    assert f"no verdict possible: {reason}" in result.stderr
    found = json.loads(result.stdout)["not_worse"]
    assert (found["status"], found["reason"]) == ("none", reason)
    text = " ".join(invoke(*runs, *GATE, "--inconclusive", "ok").stdout.split())
    assert f"A against B: none ({reason}" in text


def test_a_baseline_with_failures_is_still_one(run):
    """Failures of the second run leave their cases out; so do a few of the first, up to one in twenty."""
    assert invoke(run("first"), run("second", failures=40), *GATE).exit_code == 0
    assert "no verdict" not in invoke(run("just", failures=20), run("other"), *GATE).stderr


def test_synthetic_rows_carry_no_verdict(run):
    """On synthetic rows the exit code is 3, whatever the difference, and `--inconclusive` does not help."""
    info = RowsInfo("rows.jsonl", "ab" * 32, synthetic=True)
    runs = [run(name, rows_info=info) for name in ("first", "second")]
    result = invoke(*runs, *GATE, "--inconclusive", "ok")
    assert result.exit_code == 3
    assert "no verdict possible: synthetic rows" in result.stderr


def test_results_files_have_the_gate_too(run, tmp_path):
    """Results files are held against each other as their runs are."""
    paths = []
    for name, wrong in (("first", 80), ("second", 0)):
        paths.append(tmp_path / f"{name}.jsonl")
        exported = CliRunner().invoke(
            main, ["export", str(run(name, wrong=wrong)), "--output", str(paths[-1])]
        )
        assert exported.exit_code == 0
    result = invoke(*paths, "--baseline", paths[1], "--subset", "k2_thinking", *GATE)
    assert result.exit_code == 1, result.stderr
    assert invoke(*paths[::-1], "--baseline", paths[1], *GATE).exit_code == 0


def test_a_page_is_not_for_a_terminal(run, monkeypatch):
    """HTML is not printed on a terminal; the error says how to get it."""
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    result = invoke(run("first", cases=4), run("second", cases=4), "--format", "html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "add --output" in result.stderr
