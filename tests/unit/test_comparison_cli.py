import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stored_runs import answering, calling, make_row, write_run
from support.commands import invoke

from k2_verifier_adapter.offline import official
from k2_verifier_adapter.offline.official import load_official
from k2_verifier_adapter.offline.scoring import Log, score_log

REALDATA = os.environ.get("K2_VERIFIER_REALDATA")

COUNT = 12
ROWS = [make_row(f"question {number}", call=number % 2 == 0) for number in range(COUNT)]
RIGHT = [answering() if number % 2 else calling() for number in range(COUNT)]
WRONG = [answering(), *RIGHT[1:]]


@pytest.fixture
def runs(tmp_path):
    """Two runs, of which the second misses one call."""
    return [
        write_run(tmp_path / name, ROWS, answers) for name, answers in (("right", RIGHT), ("wrong", WRONG))
    ]


@pytest.fixture
def results(runs, tmp_path):
    """The same two runs as results files."""
    paths = []
    for run in runs:
        paths.append(tmp_path / f"{run.name}.jsonl")
        assert invoke("export", run, "--output", paths[-1]).exit_code == 0
    return paths


def pairs_of(result):
    """Give the pairs of a JSON comparison."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["pairs"]


def assert_one_line(result, *expected):
    """Check an expected error: one line on standard error, exit code 2."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    for text in expected:
        assert text in result.stderr


def test_text(runs):
    """The text goes to standard output, plain where it is no terminal, and standard error stays empty."""
    result = invoke("compare", *runs)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("K2 vendor comparison: 2 runs over 12 cases, k2_thinking\n")
    assert "\x1b" not in result.stdout
    assert str(runs[1]) in "".join(result.stdout.split())


def test_json_and_output(runs, tmp_path):
    """JSON owns standard output; the same bytes go to a file that is asked for."""
    printed = invoke("compare", *runs, "--format", "json")
    target = tmp_path / "comparison.json"
    written = invoke("compare", *runs, "--format", "json", "--output", target)
    assert (written.exit_code, written.stdout) == (0, "")
    assert target.read_text() == printed.stdout
    assert str(target) in written.stderr
    (pair,) = json.loads(printed.stdout)["pairs"]
    assert pair["agreement"]["first_better"] == 1
    text = tmp_path / "comparison.txt"
    invoke("compare", *runs, "--output", text)
    assert text.read_text() == invoke("compare", *runs).stdout


@pytest.mark.parametrize("by", ["--baseline", "--rows"])
def test_results_files_as_the_runs_themselves(runs, results, tmp_path, by):
    """Exported results files compare as the runs do, held against official results or against rows."""
    official = results[0]
    if by == "--rows":
        official = tmp_path / "rows.jsonl"
        official.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    from_logs = pairs_of(invoke("compare", *results, by, official, "--format", "json"))
    assert from_logs == pairs_of(invoke("compare", *runs, "--format", "json"))


def test_a_run_against_a_results_file(runs, results):
    """A run and a results file are matched case by case, too."""
    mixed = pairs_of(invoke("compare", runs[0], results[1], "--baseline", results[0], "--format", "json"))
    assert mixed == pairs_of(invoke("compare", *runs, "--format", "json"))


def test_a_results_file_of_other_prompts(runs, tmp_path):
    """A results file over other prompts of the same numbers is not compared with a run."""
    other = write_run(tmp_path / "other", [make_row(f"other {number}") for number in range(COUNT)], RIGHT)
    path = tmp_path / "other.jsonl"
    invoke("export", other, "--output", path)
    result = invoke("compare", runs[0], path, "--baseline", path)
    assert_one_line(result, "no case in common", "hold different requests")


def test_a_results_file_without_official_answers(results):
    """What a results file is to be held against must be said, and the error says how."""
    assert_one_line(invoke("compare", *results), "is a results file", "--baseline", "--rows")


def test_one_run_is_no_comparison(runs):
    """A comparison needs two."""
    assert_one_line(invoke("compare", runs[0]), "a comparison needs two")


def test_the_official_answers_are_read_once(results, monkeypatch):
    """However many results files are compared, the baseline is read once, and each file has its own facts."""
    found = []

    def load(*arguments):
        found.append(load_official(*arguments))
        return found[-1]

    monkeypatch.setattr(official, "load_official", load)
    results[1].write_text("".join(results[1].read_text().splitlines(keepends=True)[1:]))
    result = invoke("compare", *results, "--baseline", results[0], "--format", "json")
    assert json.loads(result.stdout)["cases"] == COUNT - 1
    (answers,) = found
    unused = [score_log(Log([path], None), answers)[0].log.official for path in reversed(results)]
    assert [facts.unused for facts in unused] == [1, 0]


def test_baseline_and_rows_exclude_each_other(runs, results):
    """The official answers come from one place."""
    result = invoke("compare", *results, "--baseline", results[0], "--rows", "bundled")
    assert_one_line(result, "either by --baseline or by --rows")


def test_a_directory_without_run(runs, tmp_path):
    """A directory that holds no run is named, with what was expected."""
    assert_one_line(
        invoke("compare", runs[0], tmp_path / "none"), str(tmp_path / "none"), "no such directory"
    )


def test_several_models_of_one_directory(runs):
    """Every model of a run directory takes part."""
    folder = runs[0]
    for kind in ("k2_verifier", "predictions"):
        (folder / kind / "kimi-k2").rename(folder / kind / "kimi-a")
    write_run(folder, ROWS, WRONG)
    (pair,) = pairs_of(invoke("compare", folder, "--format", "json"))
    assert (pair["agreement"]["first_better"], pair["agreement"]["second_better"]) == (1, 0)


@pytest.mark.skipif(not REALDATA, reason="K2_VERIFIER_REALDATA is not set")
def test_real_logs():
    """A real vendor's log against the official one: its 39 FN and 22 FP are the cases that it loses."""
    logs = [Path(REALDATA, f"deepseek_{name}_results.jsonl") for name in ("novita", "official")]
    (pair,) = pairs_of(invoke("compare", *logs, "--baseline", logs[1], "--format", "json"))
    assert pair["cases"]["completed_by_both"] == 511
    assert (pair["agreement"]["first_better"], pair["agreement"]["second_better"]) == (0, 39 + 22)
    assert pair["trigger_similarity"]["first"] == pytest.approx(0.9311, abs=5e-5)
    # The four official calls that are not valid.
    assert (pair["validity"]["first_better"], pair["validity"]["second_better"]) == (4, 0)
    assert [change["count"] for change in pair["changes"]] == [39, 22, 4]


def test_nothing_heavy_is_imported(runs):
    """Neither `compare` nor `report` loads EvalScope, numpy or scipy."""
    code = (
        "import sys\n"
        "from k2_verifier_adapter.cli import main\n"
        "for command in sys.argv[1:]:\n"
        "    main([*command.split('|')], standalone_mode=False)\n"
        "heavy = {'evalscope', 'numpy', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    first, second = map(str, runs)
    done = subprocess.run(
        [sys.executable, "-c", code, f"compare|{first}|{second}", f"report|{first}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
