import contextlib
import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from stored_runs import answering, calling, failed, make_row, malformed_history, write_run
from support.commands import invoke

from k2_verifier_adapter.cli import demo as demo_module
from k2_verifier_adapter.cli.evaluate import with_api_key
from k2_verifier_adapter.cli.simulate import profile_of, vendor_rows
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.verdict import Gate, GateOptions
from k2_verifier_adapter.errors import EndpointError, RunInterruptedError, UsageError
from k2_verifier_adapter.formats.config import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
KEYS = ("K2_VERIFIER_API_KEY", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    """Run without the developer's own keys."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def command_line(*arguments, **settings):
    """Run the command in a subprocess."""
    command = [sys.executable, "-m", "k2_verifier_adapter", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False, **settings
    )


@pytest.fixture
def run(tmp_path):
    """A run of six rows, one of them failed."""
    rows = [make_row(f"question {number}", call=number % 2 == 0) for number in range(6)]
    answers = [calling(), answering(), calling(), answering(), calling(), None]
    return write_run(tmp_path / "run", rows, answers, [failed(5)])


@pytest.fixture
def faithful_run(tmp_path):
    """A run of 100 rows in which the vendor always agrees."""
    rows = [make_row(f"question {number}", call=number % 2 == 0) for number in range(100)]
    return write_run(
        tmp_path / "run", rows, [answering() if number % 2 else calling() for number in range(100)]
    )


class TestReport:
    """`k2-verifier report`."""

    def test_text(self, run):
        """The text report goes to standard output, plain where it is no terminal."""
        result = invoke("report", run)
        assert result.exit_code == 3
        assert result.stdout.startswith("K2 vendor verification: kimi-k2, k2_thinking\nVerdict: ")
        assert "INCOMPLETE: 83.33%" in result.stdout
        assert "\x1b" not in result.stdout

    def test_json_owns_standard_output(self, run):
        """With --format json, standard output is JSON and nothing else, whatever the gate says."""
        result = invoke("report", run, "--format", "json", "--gate", "strict")
        assert result.exit_code == 3
        assert json.loads(result.stdout)["requests"]["completed"] == 5
        assert "5 of 6 requests completed (83.33%), below --min-coverage 0.98" in result.stderr

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_output_file(self, run, tmp_path, form):
        """--output writes what would have been printed, and says so on standard error."""
        full = ["--full"] if form == "text" else []
        printed = invoke("report", run, "--format", form, *full).stdout
        if full:
            printed = printed.rpartition("\nINCONCLUSIVE")[0]
        target = tmp_path / "new" / "report"
        result = invoke("report", run, "--format", form, "--output", target)
        assert result.stdout == ""
        assert target.read_text() == printed
        assert str(target) in result.stderr

    @pytest.mark.parametrize(
        ("flags", "code"),
        [
            ([], 0),
            (["--gate", "none"], 0),
            (["--gate", "strict"], 3),
            (["--gate", "strict", "--min-schema-accuracy", "0.9"], 0),
            (["--gate", "upstream"], 0),
            (["--gate", "strict", "--min-trigger-similarity", "0.99"], 3),
            (["--gate", "strict", "--min-trigger-similarity", "0.99", "--inconclusive", "fail"], 1),
            (["--gate", "strict", "--min-schema-accuracy", "0.99", "--inconclusive", "ok"], 0),
            (["--gate", "upstream", "--min-trigger-similarity", "1", "--min-schema-accuracy", "1"], 0),
            (["--gate", "upstream", "--min-coverage", "1"], 0),
        ],
    )
    def test_exit_codes(self, faithful_run, flags, code):
        """The gate flags decide the exit code, and standard error says what decided."""
        result = invoke("report", faithful_run, *flags)
        assert result.exit_code == code
        assert ("gate" in result.stderr) == bool(flags)

    def test_gate_failed(self, tmp_path):
        """A vendor that never agrees fails both gates with exit code 1."""
        rows = [make_row(f"question {number}") for number in range(50)]
        run = write_run(tmp_path / "run", rows, [answering()] * 50)
        for gate in ("upstream", "strict"):
            result = invoke("report", run, "--gate", gate)
            assert result.exit_code == 1
            assert result.stderr.endswith(f"by the gate of the run\nk2-verifier: gate {gate}: failed\n")

    def test_gate_on_synthetic_rows(self, tmp_path):
        """A gate on synthetic rows is undecided, and says why."""
        rows = RowsInfo("bundled", "00", synthetic=True)
        run = write_run(tmp_path / "run", [make_row()], [calling()], rows_info=rows)
        result = invoke("report", run, "--gate", "strict")
        assert result.exit_code == 3
        assert "no verdict possible: synthetic rows: no verdict" in result.stderr

    def test_interrupted_run(self, tmp_path):
        """An interrupted run is reported as far as it got, with exit code 3 and how to go on."""
        run = write_run(tmp_path / "run", [make_row(), make_row("two")], [calling(), None], complete=False)
        result = invoke("report", run)
        assert result.exit_code == 3
        assert "interrupted, 1 request not made" in result.stderr
        assert "--use-cache" in result.stdout

    def test_threshold_without_gate(self, faithful_run):
        """A threshold without a gate is shown, and standard error says that it decides nothing."""
        result = invoke("report", faithful_run, "--min-schema-accuracy", "1")
        assert result.exit_code == 0
        assert "schema_accuracy" in result.stdout.split("Requests:")[0]
        assert "do not decide the exit code" in result.stderr

    def test_damaged_lines_are_reported(self, run):
        """Half-written predictions are counted in a warning."""
        with (run / "predictions" / "kimi-k2" / "k2_verifier_k2_thinking.jsonl").open("a") as file:
            file.write('{"index": 5, "model_out')
        assert "WARNING: 1 line of k2_verifier_k2_thinking.jsonl" in invoke("report", run).stdout

    def test_choice_of_subset(self, run):
        """Of several subsets one must be chosen, and the error lists them."""
        write_run(run, [make_row()], [calling()], subset="k2_0905")
        result = invoke("report", run)
        assert result.exit_code == 2
        assert "--subset k2_0905" in result.stderr
        chosen = invoke("report", run, "--subset", "k2_0905", "--format", "json")
        assert json.loads(chosen.stdout)["subset"] == "k2_0905"


class TestErrors:
    """Bad input ends with one line on standard error and exit code 2."""

    def assert_one_line(self, result, *expected):
        """Check an expected error."""
        assert result.exit_code == 2
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("k2-verifier: error: ")
        for text in expected:
            assert text in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["report", "none"], "none: no such directory"),
            (["export", "--output", "unused.jsonl", "none"], "none: no such directory"),
            (["report", "nothing"], "k2_verifier/MODEL/SUBSET/run.json"),
            (["report", "run", "--output", "file/x"], "cannot be written"),
            (["export", "run", "--output", "x.json", "--summary", "x.json"], "the same file"),
            (["report", "a\x1b[2J\nb"], "a\\x1b[2J b"),
            (["demo", "--profile", "brokn"], "did you mean 'broken'?"),
            (["simulate", "--profile", "brokn"], "did you mean 'broken'?"),
            (["simulate", "--fault", "truncated_jsn=0.1"], "did you mean 'truncated_json'?"),
            (["simulate", "--rows", "none.jsonl"], "none.jsonl"),
            (["eval", "--config", "none.yaml"], "none.yaml"),
        ],
    )
    def test_what_cannot_be_done_is_named(self, run, tmp_path, monkeypatch, arguments, expected):
        """The line names what was given and what was expected, and nothing in it can steer the terminal."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        (tmp_path / "nothing").mkdir()
        self.assert_one_line(invoke(*arguments), expected)

    def test_damaged_run(self, run):
        """A damaged file of a run is named."""
        facts = run / "k2_verifier" / "kimi-k2" / "k2_thinking" / "run.json"
        facts.write_text("{")
        self.assert_one_line(invoke("report", run), str(facts))

    def test_run_without_answers(self, tmp_path):
        """A run without any answer or failure is no data, and prints no report."""
        run = write_run(tmp_path / "run", [make_row()], [None])
        self.assert_one_line(invoke("report", run), "no completed and no failed request")
        target = tmp_path / "results.jsonl"
        self.assert_one_line(invoke("export", run, "--output", target), "nothing was written")
        assert not target.exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            ["report", ".", "--no-such-flag"],
            ["report", ".", "--format", "pdf"],
            ["report", ".", "--gate", "maybe"],
            ["report", ".", "--min-coverage", "1.5"],
            ["report"],
            ["export", "."],
            ["demo", "--limit", "0"],
            ["simulate", "--fault", "truncated_json"],
            ["doctor", "--model", "x"],
            ["doctor", "--api-url", "api.example.com"],
            ["doctor", "--api-url", "file:///etc/passwd"],
            ["eval"],
            ["no-such-command"],
        ],
    )
    def test_usage_errors(self, arguments):
        """A wrong flag, value or command is explained on standard error, with exit code 2."""
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Error: " in result.stderr

    def test_no_traceback_in_the_real_command(self, tmp_path):
        """The installed command ends in one line, too."""
        result = command_line("report", tmp_path)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert len(result.stderr.splitlines()) == 1


class TestExport:
    """`k2-verifier export`."""

    def test_files(self, run, tmp_path):
        """Both files are written, and standard error says how many lines."""
        results, summary = tmp_path / "results.jsonl", tmp_path / "summary.json"
        result = invoke("export", run, "--output", results, "--summary", summary)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "6 lines written" in result.stderr
        assert len(results.read_bytes().splitlines()) == 6
        assert json.loads(summary.read_text())["failure_count"] == 1

    def test_says_what_is_missing(self, tmp_path):
        """Requests that were never made are not invented, and their number is said."""
        run = write_run(tmp_path / "run", [make_row(), make_row("two")], [calling(), None])
        result = invoke("export", run, "--output", tmp_path / "results.jsonl")
        assert "1 line written" in result.stderr
        assert "1 request never made" in result.stderr


class TestConfig:
    """Task files."""

    def write(self, tmp_path, text, name="task.yaml"):
        """Write a task file."""
        path = tmp_path / name
        path.write_text(text)
        return path

    def test_expansion(self, tmp_path):
        """Variables are filled in inside strings at any depth, defaults where they are unset or empty."""
        path = self.write(
            tmp_path,
            "api_url: ${HOST}/v1\nmodel: ${MODEL:-kimi-k2}\nempty: ${EMPTY:-filled}\nkept: ${EMPTY}\n"
            "dataset_args: {k2_verifier: {subset_list: ['${A}-${B:-}']}}\nlimit: 40\nprice: $5\n",
        )
        assert load_config(path, {"HOST": "https://x", "A": "a", "EMPTY": ""}) == {
            "api_url": "https://x/v1",
            "model": "kimi-k2",
            "empty": "filled",
            "kept": "",
            "dataset_args": {"k2_verifier": {"subset_list": ["a-"]}},
            "limit": 40,
            "price": "$5",
        }

    def test_values_cannot_change_the_structure(self, tmp_path):
        """A value is text, even if it looks like YAML or like another variable."""
        path = self.write(tmp_path, "model: ${MODEL}\n")
        value = "a\nlimit: 1 # ${OTHER} [x]"
        assert load_config(path, {"MODEL": value}) == {"model": value}

    def test_json(self, tmp_path):
        """A .json file is read as JSON."""
        path = self.write(tmp_path, '{"model": "${M}", "stream": true}', "task.json")
        assert load_config(path, {"M": "x"}) == {"model": "x", "stream": True}

    def test_unset_variables(self, tmp_path):
        """Every unset variable without default is named, with its key and the file."""
        path = self.write(tmp_path, "model: ${K2_A}\ndataset_args: {k2_verifier: {local_path: '${K2_B}'}}\n")
        with pytest.raises(UsageError) as raised:
            load_config(path, {})
        for text in (str(path), "'model' needs K2_A", "'dataset_args.k2_verifier.local_path' needs K2_B"):
            assert text in str(raised.value)

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("a.yaml", "model: [1, 2\n", "is not YAML: line 2, column 1"),
            ("a.yaml", "model: !!python/object:os.system x\n", "is not YAML: line 1"),
            ("a.yaml", "- model\n", "expected a mapping of settings, such as 'model: NAME', found list"),
            ("a.yaml", "", "found NoneType"),
            ("a.yaml", "1: x\n", "expected a mapping"),
            ("a.json", "{", "is not JSON"),
        ],
    )
    def test_bad_files(self, tmp_path, name, text, expected):
        """A file that is no mapping is refused, with what was found and where."""
        with pytest.raises(UsageError) as raised:
            load_config(self.write(tmp_path, text, name), {})
        assert expected in str(raised.value)
        assert name in str(raised.value)

    def test_unreadable_files(self, tmp_path):
        """A missing file and one that is no text are refused."""
        (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
        for name, expected in (("none.yaml", "cannot be read"), ("b.yaml", "is not UTF-8")):
            with pytest.raises(UsageError, match=expected):
                load_config(tmp_path / name, {})

    @pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
    def test_shipped_configs(self, path):
        """The shipped task files load, name this benchmark and hold no key of a real endpoint."""
        names = ("K2_VERIFIER_API_URL", "K2_VERIFIER_MODEL", "K2_VERIFIER_ROWS")
        config = load_config(path, {name: f"value-of-{name}" for name in names})
        assert config["datasets"] == ["k2_verifier"]
        assert config.get("api_key", "sk-smoke-no-secret") == "sk-smoke-no-secret"
        assert set(config["dataset_args"]["k2_verifier"]["subset_list"]) <= {"k2_thinking", "k2_0905"}
        assert "value-of-K2_VERIFIER_API_URL" in config["api_url"]

    def test_there_are_three_shipped_configs(self):
        """Smoke and both subsets are there, and without the environment only smoke is complete."""
        assert [path.stem for path in CONFIGS] == ["k2_0905", "k2_thinking", "smoke"]
        for path in CONFIGS:
            with contextlib.nullcontext() if path.stem == "smoke" else pytest.raises(UsageError):
                load_config(path, {})
        assert yaml.safe_load(CONFIGS[2].read_text())["limit"] == 40


@pytest.fixture
def fake_running(monkeypatch):
    """Put a recording stand-in in place of the module that runs EvalScope."""
    module = types.ModuleType("k2_verifier_adapter.evalscope_plugin.running")
    module.calls = []
    module.outcome = None

    def run_eval(arguments, config=None, pace=None, *, typed):
        module.calls.append((list(arguments), config))
        module.pace, module.typed = pace, typed
        sys.stdout.write("EvalScope prints this\n")
        if isinstance(module.outcome, BaseException):
            raise module.outcome
        return module.outcome

    module.run_eval = run_eval
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


class TestEval:
    """`k2-verifier eval`, with a stand-in for EvalScope."""

    def test_passes_flags_through_and_reports(self, fake_running, run):
        """EvalScope gets its flags in order, and the report of the run is all that is printed."""
        fake_running.outcome = run
        flags = ["--model", "m", "--dataset-args", '{"a": {"b": "-1"}}', "--limit", "-1", "--debug", "-x"]
        result = invoke("eval", *flags[:4], "--gate", "strict", *flags[4:])
        assert fake_running.calls == [(flags, None)]
        assert result.stdout.startswith("K2 vendor verification")
        assert "EvalScope prints this" not in result.stdout
        assert "EvalScope prints this" in result.stderr
        assert result.exit_code == 3

    def test_pace_flags_are_handed_over(self, fake_running, run):
        """The maximums of a session go to the run by name, and EvalScope never sees their flags."""
        fake_running.outcome = run
        invoke("eval", "--max-requests", "9", "--model", "m", "--requests-per-minute", "0.5")
        assert fake_running.calls == [(["--model", "m"], None)]
        assert fake_running.pace == {"max_requests": 9, "requests_per_minute": 0.5}

    def test_flags_as_people_type_them(self, fake_running, run):
        """Rows, headers, body members, the pin and upstream's flags go to the run by EvalScope's names."""
        fake_running.outcome = run
        typed = ["--rows", "rows", "--subset", "k2_0905", "--base-url", "https://h/v1", "--concurrency", "32"]
        typed += [
            "--header",
            "X-A: b:c",
            "--header",
            "X-B:d",
            "--extra-body",
            '{"provider": {"sort": "price"}}',
        ]
        typed += ["--provider", "novita", "--temperature", "0", "--max-tokens", "9", "--timeout", "5.5"]
        invoke("eval", "--model", "m", *typed, "--retries", "0")
        assert fake_running.calls == [(["--model", "m"], None)]
        assert fake_running.typed == {
            "api_url": "https://h/v1",
            "eval_batch_size": 32,
            "dataset_args": {"k2_verifier": {"local_path": "rows", "subset_list": ["k2_0905"]}},
            "generation_config": {
                "extra_headers": {"X-A": "b:c", "X-B": "d"},
                "extra_body": {"provider": {"sort": "price", "only": ["novita"]}},
                "temperature": 0.0,
                "max_tokens": 9,
                "timeout": 5.5,
                "retries": 0,
            },
        }

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--header", "sk-without-colon"], "expected NAME:VALUE"),
            (["--extra-body", "{"], "is no JSON"),
            (["--extra-body", "[1]"], "is no JSON object"),
        ],
    )
    def test_typed_flags_that_cannot_be_read(self, fake_running, flags, said):
        """What cannot be read is refused, and a header's value is not shown."""
        result = invoke("eval", "--model", "m", *flags)
        assert result.exit_code == 2
        assert said in result.stderr
        assert "sk-without-colon" not in result.stderr
        assert not fake_running.calls

    @pytest.mark.parametrize("flags", [["--gate", "strict"], ["--rows", "bundled"], []])
    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ("dataset_args: text", "dataset_args is 'text', expected an object"),
            ("dataset_args: {k2_verifier: [1]}", "k2_verifier is [1], expected an object"),
            ("dataset_args: {k2_verifier: {extra_params: 7}}", "extra_params is 7, expected an object"),
        ],
    )
    def test_a_task_file_without_the_object_that_flags_add_to(self, tmp_path, setting, said, flags):
        """It is refused in one line, whichever flags would have put something into it."""
        task = tmp_path / "task.yaml"
        task.write_text(f"model: m\napi_url: http://127.0.0.1:9/v1\n{setting}\n")
        result = invoke("eval", "--config", str(task), "--dry-run", *flags)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert said in result.stderr

    def test_the_resume_hint_is_the_whole_command(self, fake_running, run):
        """A run that is not whole ends with the command that goes on with it; keys are left out of it."""
        fake_running.outcome = run
        flags = [
            "--model",
            "m",
            "--api-key",
            "sk-mine",
            "--header",
            "X-Key: sk-mine",
            "--use-cache",
            "old",
            "--limit",
            "6",
        ]
        result = invoke("eval", *flags)
        expected = f"""k2-verifier eval --model m --api-key "$K2_VERIFIER_API_KEY" --header X-Key:... --limit 6 --use-cache {run}"""
        assert f"go on       {expected}\n" in result.stdout

    def test_config_and_key(self, fake_running, run, tmp_path, monkeypatch):
        """The task file is expanded, and the key comes from the environment."""
        fake_running.outcome = run
        path = tmp_path / "task.yaml"
        path.write_text("model: ${K2_TEST_MODEL}\n")
        monkeypatch.setenv("K2_TEST_MODEL", "kimi")
        monkeypatch.setenv("OPENAI_API_KEY", "second")
        monkeypatch.setenv("K2_VERIFIER_API_KEY", "sk-first")
        result = invoke("eval", "--config", path, "--min-coverage", "0.5")
        assert result.exit_code == 3
        assert fake_running.calls == [([], {"model": "kimi", "api_key": "sk-first"})]
        assert "sk-first" not in result.stdout + result.stderr

    def test_reports_every_subset_of_the_session(self, fake_running, run):
        """Every subset is reported, and the worst exit code wins."""
        rows = [make_row(f"question {number}") for number in range(30)]
        write_run(run, rows, [answering()] * 30, subset="k2_0905", gate=GateOptions(Gate.UPSTREAM))
        fake_running.outcome = run
        result = invoke("eval", "--model", "m", "--gate", "upstream")
        assert "kimi-k2, k2_0905" in result.stdout
        assert "kimi-k2, k2_thinking" in result.stdout
        assert result.exit_code == 1

    def test_leaves_out_earlier_sessions(self, fake_running, run):
        """What an earlier session left in the same directory is not reported as this one's."""
        old = write_run(run, [make_row()], [answering()], subset="k2_0905")
        os.utime(old / "k2_verifier" / "kimi-k2" / "k2_0905" / "run.json", (1, 1))
        fake_running.outcome = run
        result = invoke("eval", "--model", "m")
        assert "k2_0905" not in result.stdout

    @pytest.mark.parametrize(
        ("outcome", "code", "message"),
        [
            (EndpointError("HTTP 401: wrong key"), 2, "k2-verifier: error: HTTP 401: wrong key\n"),
            (RunInterruptedError("outputs/x"), 3, "--use-cache outputs/x"),
            (KeyboardInterrupt(), 3, "k2-verifier: interrupted\n"),
        ],
    )
    def test_errors_of_the_run(self, fake_running, outcome, code, message):
        """What ends a run early ends the command with one line and its exit code."""
        fake_running.outcome = outcome
        result = invoke("eval", "--model", "m")
        assert result.exit_code == code
        assert message in result.stderr

    @pytest.mark.parametrize(
        ("config", "flags", "environment", "expected"),
        [
            (None, [], {}, None),
            (None, [], {"OPENAI_API_KEY": "o"}, {"api_key": "o"}),
            ({"model": "m"}, [], {"OPENAI_API_KEY": "o"}, {"model": "m", "api_key": "o"}),
            ({"api_key": "c"}, [], {"K2_VERIFIER_API_KEY": "k"}, {"api_key": "c"}),
            ({"api_key": ""}, [], {"K2_VERIFIER_API_KEY": "k"}, {"api_key": "k"}),
            (None, ["--api-key", "f"], {"K2_VERIFIER_API_KEY": "k"}, None),
            (None, ["--api-key=f"], {"K2_VERIFIER_API_KEY": "k"}, None),
            (None, [], {"K2_VERIFIER_API_KEY": "", "OPENAI_API_KEY": "o"}, {"api_key": "o"}),
        ],
    )
    def test_key_precedence(self, config, flags, environment, expected):
        """A flag comes before the task file, the task file before the environment."""
        assert with_api_key(config, flags, environment) == expected


class TestSimulate:
    """`k2-verifier simulate`."""

    def test_faults_stand_on_top_of_the_profile(self):
        """A fault of the command line is added to the profile, or replaces its rate there."""
        profile = profile_of("noisy", ["truncated_json=0.25", "missed_call=0.5"])
        assert profile.rates == {"missed_call": 0.5, "extra_call": 0.15, "truncated_json": 0.25}
        assert profile_of("noisy", []).name == "noisy"

    def test_rows_stand_as_in_their_file(self, tmp_path):
        """The vendor gets rows unrepaired and with every column."""
        row = make_row(history=malformed_history(), official_content="text")
        path = tmp_path / "rows.jsonl"
        path.write_text("\n" + json.dumps(row) + "\n")
        assert vendor_rows(str(path), "k2_thinking") == [row]


class TestDemo:
    """`k2-verifier demo`, as far as it goes without EvalScope; the rest is an end-to-end test."""

    def test_refuses_a_used_directory(self, tmp_path):
        """A directory that is not empty is refused before anything starts."""
        (tmp_path / "old").write_text("")
        result = invoke("demo", "--work-dir", tmp_path)
        assert result.exit_code == 2
        assert "is not empty" in result.stderr

    def test_stock_command(self):
        """The command is the stock one, over the rows of the simulated official API, gated."""
        run = demo_module._Run("simulated-x", Path("demo/x"))
        command = demo_module.evalscope_command("http://127.0.0.1:1/v1", run, Path("demo"))
        assert command[:4] == [sys.executable, "-m", "evalscope.cli.cli", "eval"]
        flags = dict(zip(command[4::2], command[5::2], strict=False))
        assert (flags["--model"], flags["--datasets"]) == ("simulated-x", "k2_verifier")
        rows = json.loads(flags["--dataset-args"])["k2_verifier"]
        assert (rows["local_path"], rows["subset_list"]) == ("demo/rows", ["simulated"])
        assert rows["extra_params"]["gate"] == "strict"
        assert "--no-timestamp" in command

    def test_refuses_without_start_up_file(self, tmp_path, monkeypatch):
        """Where stock EvalScope would run its own benchmark, nothing is shown and nothing is left behind."""
        from k2_verifier_adapter.evalscope_plugin import takeover

        found = takeover.TakeoverStatus(active=True, reason="served", start_up_file=None)
        monkeypatch.setattr(takeover, "require_active", lambda: found)
        result = invoke("demo", "--work-dir", tmp_path / "new")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "the start-up file is not installed" in result.stderr
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("print('the last words'); raise SystemExit(4)", "ended with exit code 4"),
            ("print('nothing written')", "holds no run of this benchmark"),
        ],
    )
    def test_evalscope_fails(self, tmp_path, monkeypatch, code, expected):
        """If EvalScope fails or writes nothing, the error says so, with the end of its log."""
        monkeypatch.setattr(demo_module, "_require_start_up_hook", lambda: None)
        monkeypatch.setattr(demo_module, "evalscope_command", lambda *_: [sys.executable, "-c", code])
        result = invoke("demo", "--work-dir", tmp_path / "new")
        assert result.exit_code == 2
        assert expected in result.stderr
        if "SystemExit" in code:
            assert "the last words" in result.stderr

    def test_two_verdicts_over_rows_of_the_official_api(self, tmp_path, monkeypatch):
        """Both vendors are judged, the verdicts are the last lines, and all of it says that it is simulated."""
        monkeypatch.setattr(demo_module, "_require_start_up_hook", lambda: None)

        def stand_in(_url, run, _folder):
            rows = [make_row(f"question {number}", call=number % 2 == 0) for number in range(200)]
            wrong = "broken" in run.model
            answers = [answering() if wrong or number % 2 else calling() for number in range(200)]
            write_run(run.folder, rows, answers, gate=GateOptions(Gate.STRICT))
            return [sys.executable, "-c", ""]

        monkeypatch.setattr(demo_module, "evalscope_command", stand_in)
        result = invoke("demo", "--work-dir", tmp_path / "new")
        assert result.exit_code == 0, result.stderr
        lines = result.stdout.splitlines()
        assert lines[0].startswith("SIMULATED")
        assert [line.split()[0] for line in lines[-2:]] == ["PASS", "FAIL"]
        assert "k2-verifier eval --api-url URL --model MODEL" in result.stdout
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
            "broken",
            "faithful",
            "official",
            "rows",
        ]

    def test_the_demo_needs_no_proxy(self):
        """What the environment says of proxies and certificates does not reach the run on the loopback."""
        given = {
            "ALL_PROXY": "socks5://p",
            "https_proxy": "http://p",
            "SSL_CERT_FILE": "/none",
            "PATH": "/bin",
        }
        assert demo_module.direct_environment(given) == {"PATH": "/bin"}


LOADED = """
import sys
from click.testing import CliRunner
from k2_verifier_adapter.cli import main
result = CliRunner().invoke(main, sys.argv[1:])
assert result.exit_code in (0, 3), result.output
print(sorted({name.partition(".")[0] for name in sys.modules} & {"evalscope", "aiohttp", "torch", "datasets"}))
"""


class TestStart:
    """How fast the command starts."""

    @pytest.mark.parametrize("command", ["help", "report", "export"])
    def test_does_not_import_evalscope(self, run, tmp_path, command):
        """Help, reports and exports import neither EvalScope nor anything as slow."""
        arguments = {
            "help": ["--help"],
            "report": ["report", str(run)],
            "export": ["export", str(run), "--output", str(tmp_path / "results.jsonl")],
        }[command]
        result = subprocess.run(
            [sys.executable, "-c", LOADED, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            timeout=60,
        )
        assert result.stdout.splitlines()[-1] == "[]"

    def test_help_imports_only_click(self):
        """The modules of the commands import nothing heavy before a command runs."""
        code = "import sys, k2_verifier_adapter.cli; print(sorted({'rich', 'yaml', 'jsonschema'} & set(sys.modules)))"
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            timeout=60,
        )
        assert result.stdout == "[]\n"

    @pytest.mark.parametrize("command", ["eval", "demo", "simulate", "report", "export", "doctor"])
    def test_help(self, command):
        """Every command explains itself with an example."""
        result = invoke(command, "--help")
        assert result.exit_code == 0
        assert f"k2-verifier {command}" in result.stdout.partition("\n")[2]

    def test_output_that_cannot_be_encoded(self, tmp_path):
        """On a terminal without Unicode, a character is shown as its escape, not as an error."""
        run = write_run(tmp_path / "run", [make_row()], [calling(model="模型")])
        result = command_line("report", run, "--full", env={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})
        assert result.returncode == 0
        assert "\\u6a21\\u578b" in result.stdout


@pytest.fixture
def installed(monkeypatch):
    """Stand in for the state of the installation, which would import EvalScope."""
    from k2_verifier_adapter.evalscope_plugin import takeover

    def state(*, active=True, start_up_file="/site/hook.pth"):
        found = takeover.TakeoverStatus(active=active, reason="the reason", start_up_file=start_up_file)
        monkeypatch.setattr(takeover, "status", lambda: found)

    state()
    return state


@pytest.fixture
def fake_look(monkeypatch):
    """Record with what a first look is taken, and answer as told."""
    module = types.ModuleType("k2_verifier_adapter.evalscope_plugin.first_look")
    module.asked = []
    module.looks = [types.SimpleNamespace(ok=True, name="row", said="answered, the calls are valid")]

    def first_look(settings):
        module.asked.append(settings)
        if isinstance(module.looks, Exception):
            raise module.looks
        return module.looks

    module.first_look = first_look
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@contextlib.contextmanager
def simulated_vendor(**settings):
    """Run a simulated vendor with one row."""
    from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor

    with SimulatedVendor([make_row()], PROFILES["official"], model="kimi", **settings).running() as endpoint:
        yield endpoint.url


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    """Ask loopback servers directly, whatever the developer's proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestDoctor:
    """`k2-verifier doctor`."""

    def states(self, result):
        """Give the state of every check, by its first words."""
        return [words.split(None, 1) for words in result.stdout.splitlines() if not words.startswith(" ")]

    def test_installed(self, installed):
        """Without an endpoint, what is installed is checked, and all is well."""
        result = invoke("doctor")
        assert result.exit_code == 0
        assert {state for state, _ in self.states(result)} == {"ok"}
        for text in ("Python", "k2-verifier-adapter", "EvalScope", "/site/hook.pth", "bundled: 240 rows"):
            assert text in result.stdout

    def test_not_active(self, installed):
        """An adapter that is not active is a failure with its reason."""
        installed(active=False)
        result = invoke("doctor")
        assert result.exit_code == 2
        assert ["failed", "benchmark name       the reason"] in self.states(result)

    def test_no_start_up_file(self, installed):
        """Without the start-up file doctor warns, for Python users need none."""
        installed(start_up_file=None)
        result = invoke("doctor")
        assert result.exit_code == 0
        assert "warning  start-up file        not installed" in result.stdout

    def test_rows_that_cannot_be_used(self, installed, tmp_path):
        """Bad rows are a failed check that names them."""
        path = tmp_path / "rows.jsonl"
        path.write_text('{"tools": []}\n')
        result = invoke("doctor", "--rows", path)
        assert result.exit_code == 2
        assert "line 1: field 'messages': is missing" in " ".join(result.stdout.split())

    def test_endpoint_and_model(self, installed, fake_look, monkeypatch):
        """With a model, a first look is taken with the settings of a run and the key of the environment."""
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        with simulated_vendor(api_key="sk-secret") as url:
            result = invoke("doctor", "--api-url", url, "--model", "kimi")
        assert result.exit_code == 0
        assert f"{url}/models: lists kimi" in result.stdout
        assert "the calls are valid" in result.stdout
        (settings,) = fake_look.asked
        assert [settings[name] for name in ("api_url", "api_key", "model")] == [url, "sk-secret", "kimi"]
        assert settings["dataset_args"] == {"k2_verifier": {"local_path": "bundled"}}
        assert "sk-secret" not in result.stdout + result.stderr

    def test_without_model_nothing_is_sent(self, installed, fake_look):
        """Without a model the endpoint is asked for its models only."""
        with simulated_vendor() as url:
            result = invoke("doctor", "--api-url", url)
        assert "1 model (kimi)" in result.stdout
        assert fake_look.asked == []

    @pytest.mark.parametrize(
        ("flags", "code", "said"),
        [
            (["--model", "kimi", "--api-key", "wrong"], 2, "HTTP 401; is the key right? (--api-key or"),
            (["--model", "other"], 0, "does not list 'other', but kimi"),
            (["--model", "kimi", "--api-url", "{url}/other"], 0, "HTTP 404; no list of models"),
        ],
    )
    def test_what_the_endpoint_refuses(self, installed, fake_look, flags, code, said):
        """A refused key fails before a row is sent; lists of models may be incomplete, or missing."""
        with simulated_vendor(api_key="right") as url:
            flags = [flag.format(url=url) for flag in flags]
            result = invoke("doctor", "--api-key", "right", "--api-url", url, *flags)
        assert result.exit_code == code
        assert said in " ".join(result.stdout.split())
        assert len(fake_look.asked) == (code == 0)

    def test_what_a_run_would_be_asked_with(self, installed, fake_look, tmp_path):
        """The flags of `eval` and a task file reach the first look as they reach a run."""
        config = tmp_path / "task.json"
        config.write_text(json.dumps({"model": "kimi", "generation_config": {"top_p": 0.95}}))
        with simulated_vendor() as url:
            flags = ["--header", "X-Team: a", "--extra-body", '{"seed": 1}', "--no-stream", "--api-url", url]
            result = invoke("doctor", "--config", config, *flags)
        assert result.exit_code == 0, result.output
        (settings,) = fake_look.asked
        sent = settings["generation_config"]
        assert sent.pop("top_p") == 0.95
        assert sent == {"stream": False, "extra_headers": {"X-Team": "a"}, "extra_body": {"seed": 1}}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda url: url.replace("http", "https"), "does it speak plain http? use http://"),
            (lambda url: url.removesuffix("/v1"), "HTTP 404; no list of models; does the URL lack /v1?"),
        ],
    )
    def test_an_address_that_is_nearly_right(self, installed, fake_look, change, said):
        """A wrong scheme and a missing version are named."""
        with simulated_vendor() as url:
            result = invoke("doctor", "--api-url", change(url))
        assert said in " ".join(result.stdout.split())

    def test_a_proxy_is_named(self, installed, fake_look, monkeypatch):
        """What is asked through a proxy says so."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        result = invoke("doctor", "--api-url", "http://vendor.example/v1")
        assert "asked through the proxy 127.0.0.1:9" in " ".join(result.stdout.split())

    def test_unreachable(self, installed, fake_look):
        """An endpoint that nobody listens on fails, and no row is sent."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
            result = invoke("doctor", "--api-url", url, "--model", "kimi")
        assert result.exit_code == 2
        assert "cannot be reached" in " ".join(result.stdout.split())
        assert fake_look.asked == []

    @pytest.mark.parametrize(
        "outcome",
        [
            [types.SimpleNamespace(ok=False, name="row", said="wrong_type: 3 is no \x1bstring")],
            UsageError("wrong_type"),
        ],
    )
    def test_row_that_fails(self, installed, fake_look, outcome):
        """A row that comes back wrong fails, with what came."""
        fake_look.looks = outcome
        with simulated_vendor() as url:
            result = invoke("doctor", "--api-url", url, "--model", "kimi")
        assert result.exit_code == 2
        assert "failed row wrong_type" in " ".join(result.stdout.split())
        assert "\x1b" not in result.stdout
