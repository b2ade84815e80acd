"""The workflow to copy: what it may do, and what becomes of the job; its scripts run in bash, vendors on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from support.actions import Job, read_workflow
from support.installed_command import installed
from support.raw_server import RawServer, reply, says
from support.runs import bundled_rows, without_proxy, write_rows

from k2_verifier_adapter.simulator import SimulatedVendor, profile_named
from k2_verifier_adapter.version import __version__

DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "examples" / "k2-verifier.yml"
TEXT = FILE.read_text(encoding="utf-8")
WORKFLOW = read_workflow(FILE)
((_, JOB),) = WORKFLOW["jobs"].items()
PAGE = (DOCS / "ci.md").read_text(encoding="utf-8")

KEY = "sk-actions-0123456789"
BRANCH = {"event_name": "workflow_dispatch", "run_id": "1", "token": "ghs_0", "repository": "me/it"}
BY_HAND = {
    name: given.get("default", "") for name, given in WORKFLOW["on"]["workflow_dispatch"]["inputs"].items()
}
REPORTS = {"k2-verifier.xml", "k2-verifier.html", "k2-verifier.json", "k2-verifier.txt"}
ROWS = [{**row, "synthetic": False} for row in bundled_rows()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Give a folder with rows that may carry a verdict, and with the commands of an installation."""
    folder = tmp_path_factory.mktemp("actions")
    write_rows(folder / "rows.jsonl", ROWS)
    with installed() as commands:
        (folder / "bin").symlink_to(commands)
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


def job(place, folder, url="http://127.0.0.1:9/v1", *, steps=None, key=KEY, github=BRANCH, inputs=BY_HAND):
    """Prepare the job, with all of its steps or those of these names."""
    chosen = [step for step in JOB["steps"] if steps is None or step.get("name") in steps]
    variables = {
        "K2_VERIFIER_API_URL": url,
        "K2_VERIFIER_MODEL": "vendor/kimi-k2",
        "K2_VERIFIER_ROWS": str(place / "rows.jsonl"),
    }
    return Job(
        {**WORKFLOW, "jobs": {"verify": {**JOB, "steps": chosen}}},
        folder,
        {"inputs": inputs, "vars": variables, "secrets": {"K2_VERIFIER_API_KEY": key}, "github": github},
        environment(place),
        skipped=lambda script: "pip install" in script,
        artifacts=place / "artifacts",
    )


def reports_of(place, run_id):
    """Give the folder of a run's uploaded reports."""
    return place / "artifacts" / run_id / "k2-verifier-reports"


def cases_of(report):
    """Give the cases of a JUnit report: by name, what became of each."""
    suites = ET.parse(report).getroot()
    return {case.get("name"): [child.tag for child in case] for case in suites.iter("testcase")}


@pytest.fixture(scope="module")
def faithful(place, vendors, tmp_path_factory):
    """Run the job against the faithful vendor, started by hand as the form stands, and keep the run."""
    folder = tmp_path_factory.mktemp("faithful") / "job"
    done = job(place, folder, vendors["official"], inputs={**BY_HAND, "keep_run": True}).run()
    return done, reports_of(place, "1")


# --- what the file says ----------------------------------------------------------------------------


def test_the_page_shows_the_file():
    """`docs/ci.md` holds the workflow as it is."""
    assert f"```yaml\n{TEXT}```\n" in PAGE


def test_actions_are_pinned():
    """Every action is pinned to a commit, with the version that it is."""
    used = re.findall(r"uses: (.*)", TEXT)
    assert len(used) == sum("uses" in step for step in JOB["steps"])
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_no_expression_stands_in_a_script():
    """What somebody typed reaches a script as a variable, never as part of its text."""
    assert [step["name"] for step in JOB["steps"] if "${{" in step.get("run", "")] == []


def test_one_step_has_the_key():
    """The key is in the environment of the step that asks the endpoint, and nowhere else."""
    holding = [step.get("name") for step in JOB["steps"] if "secrets." in json.dumps(step)]
    assert holding == ["Verify"]
    assert not re.search(r"\bsecrets\b", json.dumps({**WORKFLOW, "jobs": {**JOB, "steps": []}}))


def test_the_token_may_only_read():
    """The job's token may read the repository and the artifacts, and is not left to the scripts."""
    assert WORKFLOW["permissions"] == {"actions": "read", "contents": "read"}
    assert "permissions" not in JOB
    (checkout,) = [step for step in JOB["steps"] if "actions/checkout" in step.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False


def test_the_version_is_this_one():
    """What the page and the file install is this version."""
    versions = set(re.findall(r"k2-verifier-adapter==([\w.]+)", PAGE + TEXT))
    assert versions == {__version__}


def test_the_smoke_run_is_the_recommended_one():
    """Flags and limit of the smoke run are those that `docs/statistics.md` has counted out."""
    limit = BY_HAND["limit"]
    gate = "--gate strict --inconclusive ok --min-schema-accuracy 0.9"
    assert f"`--limit {limit} {gate}`" in (DOCS / "statistics.md").read_text(encoding="utf-8")
    assert f'gate="{gate}"' in TEXT
    assert f'gate="{gate}"' in gitlab()["script"]


# --- what it does ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "inputs", "expected"),
    [
        (
            "workflow_dispatch",
            BY_HAND,
            ("--limit 100 --max-requests 200 --max-minutes 60", "--inconclusive ok"),
        ),
        ("workflow_dispatch", {**BY_HAND, "limit": "500"}, ("--limit 500 --max-requests 1000",)),
        (
            "workflow_dispatch",
            {**BY_HAND, "limit": "all"},
            ("--max-requests 4000", "--min-schema-accuracy 0.95"),
        ),
        ("workflow_dispatch", {**BY_HAND, "baseline_run": "7"}, ("--baseline k2-baseline --margin 0.03",)),
        ("schedule", {}, ("--max-requests 4000", "--gate strict --min-schema-accuracy 0.95")),
        ("pull_request", {}, ("--limit 100", "--inconclusive ok")),
    ],
)
def test_settings(place, tmp_path, event, inputs, expected):
    """By hand the form decides; the schedule takes the full set; a pull request a smoke run."""
    done = job(
        place, tmp_path / "job", steps=["Settings"], github={**BRANCH, "event_name": event}, inputs=inputs
    )
    done.run()
    assert not done.failed
    chosen = f"{done.variables['FLAGS']} {done.variables['GATE']}"
    for text in expected:
        assert text in chosen
    assert ("--inconclusive ok" in chosen) == ("--limit" in chosen)
    assert len(done.variables["MARKER"]) == 36


@pytest.mark.parametrize("limit", ["0", "-1", "1e3", "10; exit 0", "a[$(exit)]", "10\nGATE="])
def test_a_limit_that_is_none_is_refused(place, tmp_path, limit):
    """Anything but a number of rows or `all` ends the job before it sends anything."""
    done = job(place, tmp_path / "job", steps=["Settings"], inputs={**BY_HAND, "limit": limit}).run()
    assert done.steps["Settings"].code == 2
    assert done.steps["Settings"].commands == ("::error::the limit must be a number of rows, or all",)
    assert "GATE" not in done.variables


@pytest.mark.parametrize(
    ("event", "origin", "runs"),
    [("pull_request", "me/it", True), ("pull_request", "fork/it", False), ("schedule", None, True)],
)
def test_pull_requests_from_forks_are_left_out(place, tmp_path, event, origin, runs):
    """A pull request from a fork, which gets no secrets, starts no run; anything else does."""
    given = {"pull_request": {"head": {"repo": {"full_name": origin}}}} if origin else {}
    github = {**BRANCH, "event_name": event, "event": given}
    assert job(place, tmp_path / "job", github=github).wanted is runs


def test_a_faithful_vendor_passes(faithful):
    """Every step succeeds; summary and reports say what the exit code says."""
    done, reports = faithful
    assert {step.outcome for step in done.steps.values()} == {"success"}
    assert done.steps["verify"].outputs == {"code": "0"}
    assert done.summary.startswith("`k2-verifier eval --limit 100 ")
    assert "--min-schema-accuracy 0.9`: exit code 0\n## K2 vendor verification" in done.summary
    assert "Verdict: PASS" in done.summary
    assert {path.name for path in reports.iterdir()} == REPORTS
    assert {tag for tags in cases_of(reports / "k2-verifier.xml").values() for tag in tags} <= {"system-out"}
    report = json.loads((reports / "k2-verifier.json").read_text(encoding="utf-8"))
    assert report["verdict"]["status"] == "pass"
    assert report["requests"]["total"] == 100
    assert "Verdict: PASS" in done.steps["Reports"].log


def assert_nothing_is_told(done, reports):
    """Hold log, summary and uploads against the names of tools, which prompts and answers hold; all against the key."""
    tools = {tool["function"]["name"] for row in ROWS[:100] for tool in json.loads(row["tools"])}
    shared = [path.read_text(encoding="utf-8") for path in reports.iterdir()]
    for text in (done.summary, *(step.log for step in done.steps.values()), *shared):
        assert not [name for name in tools if "_" in name and name in text]
        assert KEY not in text
    files = [path.read_bytes() for path in done.folder.rglob("*") if path.is_file()]
    assert not [content for content in files if KEY.encode() in content]


def test_a_broken_vendor_fails_the_job_and_leaves_its_reports(faithful, place, vendors, tmp_path):
    """The gate fails by threshold and against the kept run; all reports are there, redacted; the run is not kept."""
    done = job(
        place,
        tmp_path / "job",
        vendors["truncating"],
        github={**BRANCH, "run_id": "2"},
        inputs={**BY_HAND, "baseline_run": "1"},
    ).run()
    assert [name for name, step in done.steps.items() if step.outcome == "failure"] == ["verify", "Verify"]
    verify = done.steps["verify"]
    assert (verify.code, verify.outputs) == (1, {"code": "1"})
    assert verify.commands == ("::error::gate failed: the summary says which check, and why",)
    assert "gate strict: failed; not worse than k2-baseline: failed" in verify.log
    assert "--baseline k2-baseline --margin 0.03`: exit code 1\n" in done.summary
    assert "Verdict: FAIL" in done.summary
    reports = reports_of(place, "2")
    assert {path.name for path in reports.iterdir()} == REPORTS
    failed = [name for name, tags in cases_of(reports / "k2-verifier.xml").items() if "failure" in tags]
    assert [name.partition(":")[0] for name in failed] == ["schema_accuracy", "schema_accuracy"]
    assert not (place / "artifacts" / "2" / "k2-verifier-run").exists()
    assert_nothing_is_told(done, reports)


def test_a_wrong_key_is_named(place, tmp_path):
    """Exit code 2, and the log says to check the key; what the vendor says commands the runner nothing."""
    words = "##[error]all is well ::error::all is well\n::set-output name=code::0"
    refusal = reply({"error": {"message": words}}, 401)
    with RawServer(says(refusal)).in_thread() as server:
        done = job(place, tmp_path / "job", server.url, github={**BRANCH, "run_id": "3"}).run()
    verify = done.steps["verify"]
    assert (verify.code, verify.outputs) == (2, {"code": "2"})
    assert "check the API key" in verify.log
    assert "all is well" in verify.log
    assert verify.commands == ("::error::exit code 2: the last line of the log above says what to correct",)
    assert done.steps["Reports"].outcome == "success"
    assert done.steps["Reports"].commands == ()
    assert ": exit code 2\n" in done.summary
    assert "x 401" in done.summary
    incomplete = cases_of(reports_of(place, "3") / "k2-verifier.xml")["all requests were made"]
    assert incomplete == ["error"]


@pytest.mark.parametrize(
    ("changes", "step", "said"),
    [
        ({"key": ""}, "Verify", "::error::no key: set the secret K2_VERIFIER_API_KEY"),
        ({"url": ""}, "Settings", "::error::no endpoint: set the variables "),
    ],
)
def test_what_is_missing_is_named(place, tmp_path, changes, step, said):
    """Without key or endpoint nothing is sent, and the job says what to set; there is nothing to upload."""
    done = job(place, tmp_path / "job", github={**BRANCH, "run_id": "4"}, **changes).run()
    assert done.steps[step].code == 2
    (command,) = done.steps[step].commands
    assert command.startswith(said)
    assert done.steps["Reports"].outcome == "success"
    assert "nothing was sent" in done.summary
    assert not (place / "artifacts" / "4").exists()


def gitlab():
    """Read GitLab's job from the page."""
    (block,) = re.findall(r"```yaml\n(k2-verifier:\n.*?)```", PAGE, re.DOTALL)
    found = yaml.safe_load(block)["k2-verifier"]
    return {**found, "script": "\n".join(found["script"])}


def test_the_script_for_any_other_ci(place, vendors, tmp_path):
    """GitLab's script ends with the gate's exit code and leaves the files that its job collects."""
    found = gitlab()
    script = "\n".join(line for line in found["script"].splitlines() if not line.startswith("pip install"))
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
