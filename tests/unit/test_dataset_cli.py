"""`k2-verifier dataset`: exit codes, messages, and what `check` finds."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored_runs import TOOL, answering, calling, make_row, malformed_history
from support.commands import invoke
from support.files import write_archive, write_lines

ROOT = Path(__file__).parents[2]


def sample(number):
    """Make one line of samples.jsonl."""
    return {"model": "k2", "messages": [{"role": "user", "content": f"{number}?"}], "tools": [TOOL]}


def result(number, response):
    """Make one line of results.jsonl; a response None is a failed request."""
    status = "failed" if response is None else "success"
    error = {"error": "Error code: 500 - \x1b[31mred"}
    return {"data_index": number, "request": sample(number), "response": response or error, "status": status}


def checked(*arguments):
    """Check as JSON; give the exit code and the subsets by name."""
    run = invoke("dataset", "check", *arguments, "--format", "json")
    document = json.loads(run.stdout)
    assert run.stderr == ""
    assert document["usable"] == (run.exit_code == 0)
    return run.exit_code, {item["subset"]: item for item in document["subsets"]}


@pytest.fixture
def files(tmp_path):
    """A samples file of three, and two official runs over it."""
    write_lines(tmp_path / "samples.jsonl", [sample(1), sample(2), sample(3)])
    write_lines(tmp_path / "run1.jsonl", [result(1, calling()), result(2, None), result(3, answering())])
    write_lines(tmp_path / "run2.jsonl", [result(n, calling()) for n in (1, 2, 3)])
    return tmp_path


class TestBuild:
    """`k2-verifier dataset build`."""

    def build(self, files, *flags, runs=("run1",), samples=True):
        """Build the subset `mine`."""
        prompts = ["--samples", files / "samples.jsonl"] if samples else []
        baselines = [word for run in runs for word in ("--baseline", files / f"{run}.jsonl")]
        return invoke(
            "dataset", "build", *prompts, *baselines, "--subset", "mine", "--output", files / "rows", *flags
        )

    def test_summary(self, files):
        """What was built, and what was left out and why, goes to standard output; a pipe sees no bar."""
        done = self.build(files)
        assert done.exit_code == 0
        assert done.stderr == ""
        assert done.stdout.startswith("mine: 2 rows, 1 with an official call\n")
        assert "1 official requests that failed: run1.jsonl, line 2" in done.stdout
        assert str(files / "rows" / "mine_test.jsonl") in done.stdout
        assert "no verdict" in done.stdout
        assert "\x1b" not in done.stdout

    def test_without_samples(self, files):
        """Without --samples the baseline's own requests become the rows."""
        assert self.build(files, samples=False).exit_code == 0
        assert len((files / "rows" / "mine_test.jsonl").read_text().splitlines()) == 2

    def test_several_runs(self, files):
        """Further --baseline give the self-agreement and the threshold, which --threshold replaces."""
        done = self.build(files, runs=("run1", "run2"))
        assert "63.67%; self-agreement lowest 66.67%, mean 66.67%" in done.stdout
        assert "50.00%" in self.build(files, "--threshold", "0.5", runs=("run1", "run2")).stdout

    def test_archive(self, files):
        """The official archive is read as it is, and brings upstream's threshold."""
        members = {
            "samples.jsonl": files / "samples.jsonl",
            "kimi-k2-thinking_results.jsonl": files / "run1.jsonl",
        }
        archive = write_archive(files / "tool-calls.tar.gz", members)
        flags = ("--archive", archive, "--output", files / "rows")
        done = invoke("dataset", "build", *flags, "--subset", "k2_thinking")
        assert done.exit_code == 0
        assert "73.00%; self-agreement lowest 75.81%" in done.stdout
        missing = invoke("dataset", "build", *flags, "--subset", "k2_0905")
        assert missing.exit_code == 2
        assert "expected one member 'kimi-k2-0905-preview_results.jsonl', found 0" in missing.stderr
        other = invoke("dataset", "build", *flags, "--subset", "mine")
        assert other.exit_code == 2
        assert "with --archive it is k2_thinking or k2_0905" in other.stderr

    def test_no_row_remains(self, files):
        """If no row remains the reasons are still listed, and the exit code is 2."""
        write_lines(files / "run1.jsonl", [result(1, None)])
        done = self.build(files)
        assert done.exit_code == 2
        assert "2 samples without result: samples.jsonl, lines 2-3" in done.stdout
        assert done.stderr == "k2-verifier: error: no row of mine remains; nothing was written\n"
        assert not (files / "rows").exists()

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "give --baseline RESULTS.jsonl"),
            (["--samples", "s.jsonl"], "give --baseline RESULTS.jsonl"),
            (["--archive", "a.tar.gz", "--baseline", "r.jsonl"], "leave --samples and --baseline away"),
            (["--archive", "a.zip"], "expected .tar.gz"),
            (["--baseline", "a.tar.gz"], "give it with --archive"),
            (["--baseline", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        ],
    )
    def test_flags(self, tmp_path, flags, message):
        """Flags that do not go together, and missing files, end with one line and exit code 2."""
        done = invoke("dataset", "build", *flags, "--subset", "mine", "--output", tmp_path / "rows")
        assert (done.exit_code, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert message in done.stderr

    def test_bar_on_a_terminal(self, files):
        """On a terminal a bar is drawn on standard error; standard output stays plain."""
        command = [sys.executable, "-m", "k2_verifier_adapter", "dataset", "build", "--subset", "mine"]
        command += ["--baseline", str(files / "run1.jsonl"), "--output", str(files / "rows")]
        leader, follower = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=follower, env=environment, timeout=60, check=False
        )
        os.close(follower)
        drawn = os.read(leader, 65536)
        os.close(leader)
        assert done.returncode == 0
        assert b"Building mine" in drawn
        assert b"\x1b" not in done.stdout


class TestCheck:
    """`k2-verifier dataset check`."""

    def test_bundled(self):
        """The bundled rows can be used, and are synthetic: no verdict."""
        done = invoke("dataset", "check", "bundled")
        assert done.exit_code == 0
        assert "240 SYNTHETIC" in done.stdout
        assert "none: synthetic rows, no verdict" in done.stdout
        code, found = checked("bundled")
        assert (code, found["bundled"]["rows"], found["bundled"]["synthetic"]) == (0, 240, 240)

    def test_what_is_in_the_rows(self, tmp_path):
        """Rows, calls, finish reasons, repairs, parameters and tools are counted."""
        calls = calling()["choices"][0]["message"]["tool_calls"]
        rows = [
            make_row(official_tool_calls=calls, parameters={"temperature": 1.0}),
            make_row(history=malformed_history(), parameters='{"temperature": 0.6, "seed": 1}'),
            make_row(history=[{"role": "_input", "content": "x"}], call=False),
            {**make_row(call=False), "official_finish_reason": None, "tools": None},
        ]
        code, found = checked(write_lines(tmp_path / "mine_test.jsonl", rows))
        assert code == 0
        item = found["mine"]
        assert (item["rows"], item["calls"], item["with_official_calls"]) == (4, 2, 1)
        assert item["finish_reasons"] == {"tool_calls": 2, "stop": 1, "not given": 1}
        assert item["repairs"] == {"malformed_history": 1, "input_role": 1, "tool_call_ids": 0}
        assert item["parameters"]["temperature"] == {"distinct": 2, "most_common": {"1.0": 1, "0.6": 1}}
        assert item["parameters"]["seed"] == {"distinct": 1, "most_common": {"1": 1}}
        assert (item["tools"], item["distinct_schemas"]) == (3, 1)
        assert (item["tool_warnings"], item["invalid_official_calls"], item["standard"]) == ([], [], None)

    def test_broken_schemas_are_warnings(self, tmp_path):
        """A tool whose schema is broken or missing is a warning with its row; the rows can be used."""

        def tool(parameters):
            return {"type": "function", "function": {"name": "odd", "parameters": parameters}}

        broken = {"type": "object", "required": {"a": 1}}
        rows = [make_row(), {**make_row(), "tools": [TOOL, tool(broken), tool({}), {"function": 3}]}]
        path = write_lines(tmp_path / "mine.jsonl", rows)
        code, found = checked(path)
        assert code == 0
        warnings = [(item["row"], item["subject"], item["class"]) for item in found["mine"]["tool_warnings"]]
        assert warnings == [
            ("line 2", "tools[1] ('odd')", "broken_tool_schema"),
            ("line 2", "tools[2] ('odd')", "tool_without_schema"),
            ("line 2", "tools[3] (None)", "broken_tool_schema"),
        ]
        assert "WARNING: 3 tools whose calls are never valid" in invoke("dataset", "check", path).stdout

    def test_invalid_official_calls(self, tmp_path):
        """Official calls that are not valid are listed with row and reason."""
        calls = calling('{"city": 3}')["choices"][0]["message"]["tool_calls"]
        rows = [make_row(official_tool_calls=calls), make_row(official_tool_calls=[])]
        _, found = checked(write_lines(tmp_path / "mine.jsonl", rows))
        invalid = [(item["row"], item["class"]) for item in found["mine"]["invalid_official_calls"]]
        assert invalid == [("line 1", "wrong_type"), ("line 2", "finish_tool_calls_without_calls")]

    def test_every_bad_row(self, tmp_path):
        """Every bad row is listed with line, field and reason, the good ones are counted, exit code 2."""
        bad = [{**make_row(), "messages": "["}, "{", "", {"messages": [{"role": "user"}]}]
        path = write_lines(tmp_path / "mine.jsonl", [make_row(), *bad, *[{**make_row(), "tools": 3}] * 3])
        code, found = checked(path)
        assert code == 2
        listed = [(item["row"], item["field"]) for item in found["mine"]["bad_rows"]]
        assert listed == [
            ("line 2", "messages"),
            ("line 3", None),
            ("line 5", "should_call_tool"),
            ("line 6", "tools"),
            ("line 7", "tools"),
            ("line 8", "tools"),
        ]
        assert (found["mine"]["rows"], found["mine"]["usable"]) == (1, False)
        text = invoke("dataset", "check", path).stdout
        assert "mine: FAIL cannot be used" in text
        assert "6 of 7 rows cannot be used:" in text
        assert "lines 6-8: field 'tools': 3 is not a list" in text

    def test_parquet(self, tmp_path):
        """A parquet file is checked like any other; a nested column makes it unusable, with the reason."""
        row = {**make_row(), "messages": json.dumps(make_row()["messages"]), "tools": json.dumps([TOOL])}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "good_test.parquet")
        pq.write_table(pa.Table.from_pylist([make_row()]), tmp_path / "nested.parquet")
        (tmp_path / "noise.parquet").write_bytes(b"no parquet")
        code, found = checked(tmp_path)
        assert code == 2
        assert {name: item["usable"] for name, item in found.items()} == {
            "good": True,
            "nested": False,
            "noise": False,
        }
        assert "nested type" in found["nested"]["error"]
        assert "cannot be read as parquet" in found["noise"]["error"]

    def test_directory(self, tmp_path):
        """Of a directory every subset is checked, hub snapshots included; --subset chooses one."""
        write_lines(tmp_path / "one_test.jsonl", [make_row()])
        write_lines(tmp_path / "two.jsonl", ["{"])
        write_lines(tmp_path / "three" / "test-00000-of-00001.jsonl", [make_row()])
        write_lines(tmp_path / "data" / "four" / "test.jsonl", [make_row()])
        write_lines(tmp_path / ".hidden.jsonl", ["{"])
        (tmp_path / "empty").mkdir()
        code, found = checked(tmp_path)
        assert (code, sorted(found)) == (2, ["four", "one", "three", "two"])
        code, found = checked(tmp_path, "--subset", "one")
        assert (code, list(found)) == (0, ["one"])

    def test_subset_that_is_not_there(self, tmp_path):
        """A subset that the directory does not hold cannot be used, and what is there is named."""
        write_lines(tmp_path / "one_test.jsonl", [make_row()])
        done = invoke("dataset", "check", tmp_path, "--subset", "two")
        assert done.exit_code == 2
        assert "no rows of subset 'two'" in done.stdout
        assert "one_test.jsonl" in done.stdout

    @pytest.mark.parametrize(
        ("lines", "hint"),
        [([sample(1)], "upstream's samples.jsonl"), ([result(1, calling())], "upstream's results.jsonl")],
    )
    def test_upstream_files(self, tmp_path, lines, hint):
        """Upstream's own files are no rows; the report says what they look like and what to do."""
        done = invoke("dataset", "check", write_lines(tmp_path / "x.jsonl", lines))
        assert done.exit_code == 2
        assert hint in done.stdout
        assert "dataset build" in done.stdout

    def test_empty_file(self, tmp_path):
        """A file without rows cannot be used."""
        done = invoke("dataset", "check", write_lines(tmp_path / "x.jsonl", []))
        assert done.exit_code == 2
        assert "holds no rows" in done.stdout

    @pytest.mark.parametrize("make", [lambda path: path / "none", lambda path: path])
    def test_nothing_there(self, tmp_path, make):
        """A path without rows ends with one line on standard error and exit code 2."""
        done = invoke("dataset", "check", make(tmp_path))
        assert (done.exit_code, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1

    def test_standard(self, files):
        """The standard is the rows' own if they were built with one, else the subset's published one."""
        flags = ("--baseline", files / "run1.jsonl", "--threshold", "0.6", "--output", files / "rows")
        invoke("dataset", "build", *flags, "--subset", "mine")
        _, found = checked(files / "rows")
        assert found["mine"]["standard"]["threshold"] == 0.6
        _, found = checked(write_lines(files / "k2_0905_test.jsonl", [make_row()]))
        assert found["k2_0905"]["standard"]["threshold"] == 0.8

    def test_hostile_text_is_harmless(self, tmp_path):
        """Control characters of a row do not reach the terminal."""
        rows = [make_row(parameters={"x\x1b[2J": "\x1b[31m"}), {**make_row(), "tools": "\x1b]0;title\x07"}]
        done = invoke("dataset", "check", write_lines(tmp_path / "x.jsonl", rows))
        assert not set(done.stdout) & {"\x1b", "\x07"}
