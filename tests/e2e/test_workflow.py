"""The workflow to copy: what linters say of it, and what becomes of its scripts in bash, vendors on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from packaging.requirements import Requirement
from support.forks import installed
from support.raw_server import RawServer, reply, says
from support.runs import bundled_rows, without_proxy, write_rows

from k2_verifier_adapter.simulator import SimulatedVendor, profile_named

DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "examples" / "k2-verifier.yml"
TEXT = FILE.read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)
JOB, MATRIX, HISTORY = (WORKFLOW["jobs"][name] for name in ("verify", "matrix", "history"))


def steps_of(job):
    """Give the steps of a job that have a name, by it."""
    return {step["name"]: step for step in job["steps"] if "name" in step}


STEPS, MATRIX_STEPS, HISTORY_STEPS = map(steps_of, (JOB, MATRIX, HISTORY))
PAGE = (DOCS / "ci.md").read_text(encoding="utf-8")

KEY = "sk-actions-0123456789"
REPORTS = {"k2-verifier.xml", "k2-verifier.html", "k2-verifier.json", "k2-verifier.txt"}
ROWS = [{**row, "synthetic": False} for row in bundled_rows()]


class Context(dict):
    """What an expression may name: what is not there is empty, as for GitHub."""

    def __getattr__(self, name: str) -> Any:
        """Look a name up."""
        value = self.get(name, "")
        return Context(value) if isinstance(value, dict) else value


def value_of(expression: str, **contexts: Any) -> Any:
    """Evaluate an expression of the workflow, which Python's are like."""
    for theirs, ours in (("||", " or "), ("&&", " and "), ("always()", "True")):
        expression = expression.replace(theirs, ours)
    return eval(expression.strip(" ${}"), {}, {name: Context(value) for name, value in contexts.items()})


@dataclass
class Job:
    """The job's scripts, run in one folder as the runner runs them.

    Attributes:
        folder: Where they run, with the runner's files beside.
        variables: Their environment; what a script writes to `GITHUB_ENV` is added.
        steps: The steps of the job.
        logs: What each step has printed, both streams.
        codes: The exit code of each step.
    """

    folder: Path
    variables: dict[str, str]
    steps: dict[str, Any] = field(default_factory=lambda: STEPS)
    logs: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def run(self, *names: str, **more: str) -> Job:
        """Run steps."""
        runner = {name: self.folder / name for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        (self.folder / "workspace").mkdir(parents=True, exist_ok=True)
        for name in names:
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.steps[name]["run"]],
                cwd=self.folder / "workspace",
                env={**self.variables, **{key: str(path) for key, path in runner.items()}, **more},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=False,
            )
            self.logs[name], self.codes[name] = done.stdout, done.returncode
            if runner["GITHUB_ENV"].exists():
                self.variables |= dict(
                    line.split("=", 1) for line in runner["GITHUB_ENV"].read_text().splitlines()
                )
        return self

    def verify(self, key: str = KEY) -> Job:
        """Run the steps that verify and report, with what each one gets."""
        self.run("Settings")
        self.run("Verify", K2_VERIFIER_API_KEY=key)
        return self.run("Reports", CODE=str(self.codes["Verify"]))

    @property
    def summary(self) -> str:
        """The step summary."""
        return (self.folder / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8")

    @property
    def reports(self) -> Path:
        """What is uploaded."""
        return self.folder / "workspace" / STEPS["Upload the reports"]["with"]["path"]


def commands(log: str) -> list[str]:
    """List the lines of a log that the runner obeys, `stop-commands` and its end left out."""
    found, marker = [], None
    for line in map(str.strip, log.splitlines()):
        if marker is not None:
            if line == f"::{marker}::":
                marker = None
        elif line.startswith("::stop-commands::"):
            marker = line.removeprefix("::stop-commands::")
        elif re.match(r"::[a-z-]+.*::", line) or "##[" in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Give a folder with rows that may carry a verdict, and with the commands of an installation."""
    folder = tmp_path_factory.mktemp("actions")
    write_rows(folder / "rows.jsonl", ROWS)
    with installed() as found:
        (folder / "bin").symlink_to(found)
        yield folder


@pytest.fixture(scope="module")
def vendors():
    """Serve a faithful vendor, and one whose streams lose the end of the arguments; give their URLs."""
    official, truncating = (SimulatedVendor(ROWS, profile_named(name)) for name in ("official", "truncating"))
    with official.running() as good, truncating.running() as bad:
        yield {"official": good.url, "truncating": bad.url}


def environment(place):
    """Give what a process of a job has, whatever this one has been given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "GITHUB_"))}
    inherited.pop("OPENAI_API_KEY", None)
    return without_proxy({**inherited, "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"})


def job(place, folder, url="http://127.0.0.1:9/v1", **more):
    """Prepare the job as it is when it is started by hand with the form as it stands."""
    variables = {
        "K2_VERIFIER_API_URL": url,
        "K2_VERIFIER_MODEL": "vendor/kimi-k2",
        "K2_VERIFIER_SUBSET": "k2_thinking",
        "K2_VERIFIER_ROWS": str(place / "rows.jsonl"),
        "LIMIT": "100",
        "BASELINE_RUN": "",
        "KEEP_RUN": "false",
        "SOURCE": "https://git.example.com/k2-verifier-adapter.git",
        "REVISION": "0" * 40,
    }
    return Job(folder, {**environment(place), **variables, **more})


def cases_of(report):
    """Give the cases of a JUnit report: by name, what became of each."""
    suites = ET.parse(report).getroot()
    return {case.get("name"): [child.tag for child in case] for case in suites.iter("testcase")}


@pytest.fixture(scope="module")
def faithful(place, vendors, tmp_path_factory):
    """Run the job against the faithful vendor."""
    return job(place, tmp_path_factory.mktemp("faithful") / "job", vendors["official"]).verify()


# --- what the file says ----------------------------------------------------------------------------


def linted(command, path):
    """Run an installed linter over a workflow; give exit code and findings."""
    program = Path(sysconfig.get_path("scripts"), command[0])
    done = subprocess.run([program, *command[1:], path], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


SCHEMA = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
SECURITY = ["zizmor", "--offline", "--no-progress"]


@pytest.mark.parametrize(
    ("command", "spoiled", "finding"),
    [
        (SCHEMA, ("runs-on: ubuntu-latest", "runs-in: ubuntu-latest"), "runs-in"),
        (
            SECURITY,
            ("actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd", "actions/checkout@v6"),
            "unpinned-uses",
        ),
        (SECURITY, ('case "$LIMIT" in', 'case "${{ inputs.limit }}" in'), "template-injection"),
        (SECURITY, ("persist-credentials: false", "fetch-depth: 1"), "artipacked"),
    ],
)
def test_linters_find_nothing(tmp_path, command, spoiled, finding):
    """The file is a workflow by GitHub's schema, its actions pinned, its scripts and token safe; a worse one is found."""
    code, said = linted(command, FILE)
    assert code == 0, said
    assert spoiled[0] in TEXT
    # A linter looks for workflows where GitHub does.
    worse = tmp_path / ".github" / "workflows" / FILE.name
    worse.parent.mkdir(parents=True)
    worse.write_text(TEXT.replace(*spoiled), encoding="utf-8")
    code, said = linted(command, worse)
    assert code != 0
    assert finding in said


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing(tmp_path):
    """Expressions, contexts, needs and, with shellcheck, scripts are as they should be; a worse file is found."""
    for text, code in ((TEXT, 0), (TEXT.replace("needs: verify", "needs: verifyy"), 1)):
        (tmp_path / FILE.name).write_text(text, encoding="utf-8")
        done = subprocess.run(["actionlint", FILE.name], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == code, done.stdout


def test_one_step_has_the_key():
    """Keys are in the environment of the step that asks the endpoints, and nowhere else."""
    for name, job in WORKFLOW["jobs"].items():
        holding = [step.get("name") for step in job["steps"] if "secrets." in json.dumps(step)]
        assert [found.lower() for found in holding] == ([] if name == "history" else [name])
        assert not re.search(r"\bsecrets\b", json.dumps({**WORKFLOW, True: {}, "jobs": {**job, "steps": []}}))


def test_the_token_may_only_read():
    """The job's token may read the repository and the artifacts."""
    assert WORKFLOW["permissions"] == {"actions": "read", "contents": "read"}
    assert not any("permissions" in job for job in WORKFLOW["jobs"].values())


def test_the_lock_is_of_this_package():
    """What is installed by hash is all that the package names, in versions that it takes, and what builds it."""
    files = [DOCS / "examples" / name for name in ("requirements.txt", "requirements-build.txt")]
    lock = "".join(file.read_text(encoding="utf-8") for file in files)
    entries = re.findall(r"^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", lock, re.MULTILINE)
    assert len(entries) == lock.count("==")
    locked = {name: version for name, version, _ in entries}
    assert "hatchling" in locked
    for wanted in map(Requirement, metadata.requires("k2-verifier-adapter") or ()):
        if wanted.marker is None or wanted.marker.evaluate({"python_version": "3.12", "extra": ""}):
            assert wanted.specifier.contains(locked[wanted.name]), wanted


def test_only_the_revision_is_installed(place, tmp_path):
    """The code is that of the commit, whatever the branch holds by now; no name is looked up on an index."""
    assert HISTORY_STEPS["Install"] == MATRIX_STEPS["Install"] == STEPS["Install"]
    source, said = tmp_path / "source", tmp_path / "said"
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "--quiet", str(source)], check=True)
    for content in ("trusted", "taken over"):
        (source / "code").write_text(content)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", content], check=True)
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    pip.chmod(0o755)
    first = subprocess.run([*git, "rev-parse", "HEAD~1"], check=True, capture_output=True, text=True).stdout
    variables = {"SOURCE": source.as_uri(), "REVISION": first.strip()}
    done = job(place, tmp_path / "job", **variables)
    done.variables["PATH"] = f"{pip.parent}{os.pathsep}{done.variables['PATH']}"
    done.run("Install")
    assert done.codes == {"Install": 0}, done.logs
    assert (done.folder / "workspace" / "k2-adapter" / "code").read_text() == "trusted"
    *needs, package = said.read_text().splitlines()
    assert len(needs) == 2
    assert all("--require-hashes" in command for command in needs)
    assert package.endswith("--no-index --no-build-isolation ./k2-adapter")
    for command in filter(
        re.compile("(pip|git) ").match, map(str.strip, STEPS["Install"]["run"].splitlines())
    ):
        ours = command.replace('"$SOURCE" "$REVISION"', '"$K2_VERIFIER_SOURCE" "$K2_VERIFIER_REVISION"')
        assert ours.replace('"$REVISION"', '"$K2_VERIFIER_REVISION"') in gitlab()["script"]


def test_the_smoke_run_is_the_recommended_one():
    """Flags and limit of the smoke run are those that `docs/statistics.md` has counted out."""
    # YAML 1.1, which PyYAML reads, takes the key `on` for true.
    limit = WORKFLOW[True]["workflow_dispatch"]["inputs"]["limit"]["default"]
    gate = "--gate strict --inconclusive ok --min-schema-accuracy 0.9"
    assert f"`--limit {limit} {gate}`" in (DOCS / "statistics.md").read_text(encoding="utf-8")
    assert f'gate="{gate}"' in TEXT
    assert f'gate="{gate}"' in gitlab()["script"]


@pytest.mark.parametrize(
    ("event", "inputs", "limit"),
    [
        ("workflow_dispatch", {"limit": "500"}, "500"),
        ("workflow_dispatch", {"limit": "all"}, "all"),
        ("schedule", {}, "all"),
        ("pull_request", {}, "100"),
    ],
)
def test_how_many_rows_are_asked(event, inputs, limit):
    """By hand the form decides; the schedule takes the full set; a pull request a smoke run."""
    assert value_of(JOB["env"]["LIMIT"], inputs=inputs, github={"event_name": event}) == limit


@pytest.mark.parametrize(
    ("event", "origin", "runs"),
    [("pull_request", "me/it", True), ("pull_request", "fork/it", False), ("schedule", None, True)],
)
def test_pull_requests_from_forks_are_left_out(event, origin, runs):
    """A pull request from a fork, which gets no secrets, starts no run; anything else does."""
    given = {"pull_request": {"head": {"repo": {"full_name": origin}}}} if origin else {}
    assert value_of(JOB["if"], github={"event_name": event, "repository": "me/it", "event": given}) is runs


def test_the_run_is_kept_on_demand():
    """Prompts and answers are uploaded only where somebody asked for it; the reports always."""
    for chosen in ("true", "false", ""):
        assert value_of(STEPS["Keep the run"]["if"], env={"KEEP_RUN": chosen}) is (chosen == "true")
    assert value_of(STEPS["Upload the reports"]["if"]) is True


# --- what it does ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("--limit 100 --max-requests 200 --max-minutes 60", "--inconclusive ok")),
        ({"LIMIT": "500"}, ("--limit 500 --max-requests 1000",)),
        ({"LIMIT": "all"}, ("--max-requests 4000", "--gate strict --min-schema-accuracy 0.95")),
        ({"BASELINE_RUN": "7"}, ("--baseline k2-baseline --margin 0.03",)),
    ],
)
def test_settings(place, tmp_path, given, expected):
    """A smoke run is undecided without harm, the full set is not."""
    done = job(place, tmp_path / "job", **given).run("Settings")
    assert done.codes == {"Settings": 0}
    chosen = f"{done.variables['FLAGS']} {done.variables['GATE']}"
    for text in expected:
        assert text in chosen
    assert ("--inconclusive ok" in chosen) == ("--limit" in chosen)
    assert len(done.variables["MARKER"]) == 36


@pytest.mark.parametrize("limit", ["0", "-1", "1e3", "10; exit 0", "a[$(exit)]", "10\nGATE="])
def test_a_limit_that_is_none_is_refused(place, tmp_path, limit):
    """Anything but a number of rows or `all` ends the job before it sends anything."""
    done = job(place, tmp_path / "job", LIMIT=limit).run("Settings")
    assert done.codes == {"Settings": 2}
    assert commands(done.logs["Settings"]) == ["::error::the limit must be a number of rows, or all"]
    assert "GATE" not in done.variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("K2_VERIFIER_API_URL", "http://example.com/v1"),
        ("K2_VERIFIER_API_URL", "https://example.com/v1\napi_key: x"),
        ("K2_VERIFIER_MODEL", "../../x y"),
        ("K2_VERIFIER_SUBSET", "../../x"),
        ("K2_VERIFIER_SUBSET", "/tmp/x"),
        ("K2_VERIFIER_SUBSET", 'x"]\nwork_dir: "/tmp'),
        ("BASELINE_RUN", "7; exit 0"),
        ("KEEP_RUN", "yes"),
        ("SOURCE", "--upload-pack=x"),
        ("SOURCE", "ext::sh"),
        ("REVISION", "main"),
        ("REVISION", ""),
    ],
)
def test_a_value_that_is_not_as_it_should_be_ends_the_job(place, tmp_path, name, value):
    """Each value is checked whole before anything is installed or sent, and its name is said, not the value."""
    assert JOB["steps"][0] is STEPS["Settings"]
    done = job(place, tmp_path / "job", **{name: value}).run("Settings")
    assert done.codes == {"Settings": 2}
    (said,) = commands(done.logs["Settings"])
    assert said.startswith(f"::error::{name} is not as it should be: ")
    assert "GATE" not in done.variables


def test_a_faithful_vendor_passes(faithful):
    """Every step succeeds; summary and reports say what the exit code says."""
    assert faithful.codes == {"Settings": 0, "Verify": 0, "Reports": 0}
    assert (faithful.folder / "GITHUB_OUTPUT").read_text() == "code=0\n"
    assert faithful.summary.startswith("`k2-verifier eval --limit 100 ")
    assert "--min-schema-accuracy 0.9`: exit code 0\n## K2 vendor verification" in faithful.summary
    assert "Verdict: PASS" in faithful.summary
    assert {path.name for path in faithful.reports.iterdir()} == REPORTS
    assert {tag for tags in cases_of(faithful.reports / "k2-verifier.xml").values() for tag in tags} <= {
        "system-out"
    }
    report = json.loads((faithful.reports / "k2-verifier.json").read_text(encoding="utf-8"))
    assert report["verdict"]["status"] == "pass"
    assert report["requests"]["total"] == 100
    assert "Verdict: PASS" in faithful.logs["Reports"]


def assert_nothing_is_told(done):
    """Hold log, summary and uploads against the names of tools, which prompts and answers hold; all against the key."""
    tools = {tool["function"]["name"] for row in ROWS[:100] for tool in json.loads(row["tools"])}
    shared = [path.read_text(encoding="utf-8") for path in done.reports.iterdir()]
    for text in (done.summary, *done.logs.values(), *shared):
        assert not [name for name in tools if "_" in name and name in text]
        assert KEY not in text
    files = [path.read_bytes() for path in done.folder.rglob("*") if path.is_file()]
    assert not [content for content in files if KEY.encode() in content]


@pytest.fixture(scope="module")
def broken(faithful, place, vendors, tmp_path_factory):
    """Run the job against the broken vendor, with the faithful one's run as its baseline."""
    folder = tmp_path_factory.mktemp("broken") / "job"
    kept = faithful.folder / "workspace" / STEPS["Keep the run"]["with"]["path"]
    shutil.copytree(kept, folder / "workspace" / STEPS["Fetch the baseline"]["with"]["path"])
    return job(place, folder, vendors["truncating"], BASELINE_RUN="1").verify()


def test_a_broken_vendor_fails_the_job_and_leaves_its_reports(broken):
    """The gate fails by threshold and against the kept run; all reports are there, redacted."""
    done = broken
    assert done.codes == {"Settings": 0, "Verify": 1, "Reports": 0}
    assert (done.folder / "GITHUB_OUTPUT").read_text() == "code=1\n"
    assert commands(done.logs["Verify"]) == ["::error::gate failed: the summary says which check, and why"]
    assert "gate strict: failed; not worse than k2-baseline: failed" in done.logs["Verify"]
    assert "--baseline k2-baseline --margin 0.03`: exit code 1\n" in done.summary
    assert "Verdict: FAIL" in done.summary
    assert {path.name for path in done.reports.iterdir()} == REPORTS
    failed = [name for name, tags in cases_of(done.reports / "k2-verifier.xml").items() if "failure" in tags]
    assert [name.partition(":")[0] for name in failed] == ["schema_accuracy", "schema_accuracy"]
    assert_nothing_is_told(done)


def test_a_wrong_key_is_named(place, tmp_path):
    """Exit code 2, and the log says to check the key; what the vendor says commands the runner nothing."""
    words = "##[error]all is well ::error::all is well\n::set-output name=code::0"
    refusal = reply({"error": {"message": words}}, 401)
    with RawServer(says(refusal)).in_thread() as server:
        done = job(place, tmp_path / "job", server.url).verify()
    assert done.codes == {"Settings": 0, "Verify": 2, "Reports": 0}
    assert "check the API key" in done.logs["Verify"]
    assert "all is well" in done.logs["Verify"]
    assert commands(done.logs["Verify"]) == [
        "::error::exit code 2: the last line of the log above says what to correct"
    ]
    assert commands(done.logs["Reports"]) == []
    assert ": exit code 2\n" in done.summary
    assert "x 401" in done.summary
    assert cases_of(done.reports / "k2-verifier.xml")["all requests were made"] == ["error"]


def test_what_is_missing_is_named(place, tmp_path):
    """Without endpoint or key nothing is sent, and the job says what to set; there is nothing to upload."""
    done = job(place, tmp_path / "job", url="").run("Settings")
    assert done.codes == {"Settings": 2}
    assert done.logs["Settings"].startswith("::error::no endpoint: set the variables ")
    done = job(place, tmp_path / "job").verify(key="")
    assert done.codes == {"Settings": 0, "Verify": 2, "Reports": 0}
    assert commands(done.logs["Verify"]) == ["::error::no key: set the secret K2_VERIFIER_API_KEY"]
    assert "nothing was sent" in done.summary
    assert not done.reports.exists()


def gitlab():
    """Read GitLab's job from the page."""
    (block,) = re.findall(r"```yaml\n(k2-verifier:\n.*?)```", PAGE, re.DOTALL)
    found = yaml.safe_load(block)["k2-verifier"]
    return {**found, "script": "\n".join(found["script"])}


def test_the_script_for_any_other_ci(place, vendors, tmp_path):
    """GitLab's script ends with the gate's exit code and leaves the files that its job collects."""
    found = gitlab()
    script = "\n".join(line for line in found["script"].splitlines() if not line.startswith(("pip ", "git ")))
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=tmp_path,
        env={
            **environment(place),
            "K2_VERIFIER_API_URL": vendors["truncating"],
            "K2_VERIFIER_MODEL": "kimi-k2",
            "K2_VERIFIER_API_KEY": KEY,
            "K2_VERIFIER_ROWS": str(place / "rows.jsonl"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-1000:]
    assert found["allow_failure"] == {"exit_codes": [3]}
    assert found["artifacts"]["when"] == "always"
    collected = tmp_path / found["artifacts"]["reports"]["junit"]
    assert [name for name, tags in cases_of(collected).items() if "failure" in tags]
    assert {path.name for path in (tmp_path / found["artifacts"]["paths"][0]).iterdir()} == REPORTS


# --- the matrix ------------------------------------------------------------------------------------

MATRIX_KEYS = {"VENDOR_A_KEY": "sk-vendor-a-0123456789", "VENDOR_B_KEY": "sk-vendor-b-0123456789"}


def matrix_job(place, folder, vendors=None, **more):
    """Prepare the matrix's job, with a file of these vendors in the repository."""
    done = job(place, folder, **{"VENDORS": "vendors.yaml", **more})
    done.steps = MATRIX_STEPS
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    listed = [
        {"name": name, "model": "kimi-k2", "api_url": url, "key": key}
        for (name, url), key in zip((vendors or {}).items(), MATRIX_KEYS, strict=False)
    ]
    (workspace / "vendors.yaml").write_text(yaml.safe_dump({"vendors": listed}), encoding="utf-8")
    return done


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VENDORS", "../vendors yaml"),
        ("VENDORS", "--only"),
        ("VENDORS", "/etc/passwd"),
        ("LIMIT", "10; exit 0"),
        ("LIMIT", "0"),
        ("K2_VERIFIER_SUBSET", "../x"),
        ("KEEP_RUN", "yes"),
        ("SOURCE", "ext::sh"),
        ("REVISION", "main"),
    ],
)
def test_the_matrix_checks_its_values(place, tmp_path, name, value):
    """Each value is checked whole before anything is installed or sent."""
    assert MATRIX["steps"][0] is MATRIX_STEPS["Settings"]
    done = matrix_job(place, tmp_path / "job", **{name: value}).run("Settings")
    assert done.codes == {"Settings": 2}
    assert commands(done.logs["Settings"])[0].startswith(f"::error::{name} is not as it should be: ")
    assert "FLAGS" not in done.variables


@pytest.mark.parametrize(
    ("event", "vendors", "runs"),
    [("schedule", "v.yaml", True), ("workflow_dispatch", "", False), ("pull_request", "v.yaml", False)],
)
def test_when_the_matrix_runs(event, vendors, runs):
    """It runs where a vendor file is named, behind the single run, and for no pull request."""
    assert MATRIX["needs"] == "verify"
    condition = MATRIX["if"].replace("!cancelled()", "True")
    given = {"github": {"event_name": event}, "vars": {"K2_VERIFIER_VENDORS": vendors}}
    assert value_of(condition, **given) is runs


def test_the_matrix_leaves_its_page(place, vendors, tmp_path):
    """Two vendors, one of them broken: the worst exit code, a summary, a page to upload, and no key anywhere."""
    done = matrix_job(place, tmp_path / "job", vendors, LIMIT="60")
    done.run("Settings").run("Matrix", **MATRIX_KEYS)
    assert done.codes == {"Settings": 0, "Matrix": 1}, done.logs
    assert commands(done.logs["Matrix"]) == [
        "::error::gate failed: the summary says for which vendor, and why"
    ]
    assert done.summary.startswith("`k2-verifier matrix --limit 60 ")
    assert "truncating: gate strict: failed" in " ".join(done.summary.split())
    pages = done.folder / "workspace" / MATRIX_STEPS["Upload the page"]["with"]["path"]
    assert {path.name for path in pages.iterdir()} == {
        f"matrix.{form}" for form in ("txt", "md", "html", "json")
    }
    left = b"".join(path.read_bytes() for path in done.folder.rglob("*") if path.is_file())
    for key in MATRIX_KEYS.values():
        assert key.encode() not in left
        assert key not in done.logs["Matrix"]


def test_a_vendor_file_that_cannot_be_used_is_told(place, tmp_path):
    """A vendor file without vendors ends the job with what to correct in its log, and nothing is uploaded."""
    done = matrix_job(place, tmp_path / "job").run("Settings").run("Matrix")
    assert done.codes == {"Settings": 0, "Matrix": 2}
    assert "vendors.yaml: line 1: vendors holds nothing" in done.logs["Matrix"]
    assert not (done.folder / "workspace" / "k2-pages").exists()


# --- the history -----------------------------------------------------------------------------------

GH = """#!/bin/sh
# `gh run list`, `gh run download NIGHT --name NAME --dir DIR`
if [ "$2" = list ]; then ls "$NIGHTS"; exit; fi
test -e "$NIGHTS/$3/$5" && mkdir -p "$7" && cp "$NIGHTS/$3/$5" "$7/k2-verifier.json"
"""


def history_job(place, folder, nights):
    """Prepare the history's job, with the reports of nights as GitHub keeps them; None is a night without one."""
    (folder / "bin").mkdir(parents=True)
    gh = folder / "bin" / "gh"
    gh.write_text(GH, encoding="utf-8")
    gh.chmod(0o755)
    for number, report in enumerate(nights, 101):
        kept = folder / "nights" / str(number)
        kept.mkdir(parents=True)
        if report is not None:
            (kept / "k2-verifier-reports").write_text(json.dumps(report), encoding="utf-8")
    done = job(place, folder, NIGHTS=str(folder / "nights"))
    done.variables["PATH"] = f"{gh.parent}{os.pathsep}{done.variables['PATH']}"
    done.steps = HISTORY_STEPS
    return done.run("Settings", "Fetch the reports", "History")


def night(report, day):
    """Give a report as of another night."""
    return {
        **report,
        "provenance": {**report["provenance"], "started_at": f"2026-11-{day:02}T02:17:00+00:00"},
    }


def test_the_history_is_told_in_the_night_of_a_change(place, faithful, broken, tmp_path):
    """Nights alike are green, one of a broken vendor behind them is red; a night without a report is left out."""
    good, bad = (
        json.loads((done.reports / "k2-verifier.json").read_text(encoding="utf-8"))
        for done in (faithful, broken)
    )
    alike = [night(good, day) for day in range(1, 9)]
    quiet = history_job(place, tmp_path / "quiet", [*alike, None])
    assert quiet.codes == {"Settings": 0, "Fetch the reports": 0, "History": 0}, quiet.logs
    red = history_job(place, tmp_path / "red", [*alike, night(bad, 9)])
    assert red.codes["History"] == 1, red.logs
    assert commands(red.logs["History"]) == [
        "::error::something has changed: the summary says what, and since when"
    ]
    assert "2026-11-09" in red.summary
    alone = history_job(place, tmp_path / "alone", [good])
    assert (alone.codes["History"], "no history" in alone.summary) == (0, True)


def test_the_history_is_of_nights():
    """It runs behind the scheduled run, and for no other event."""
    condition = HISTORY["if"].replace("!cancelled()", "True")
    assert HISTORY["needs"] == "verify"
    for event in ("schedule", "workflow_dispatch", "pull_request"):
        assert value_of(condition, github={"event_name": event}) is (event == "schedule")
