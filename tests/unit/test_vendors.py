"""The vendor file of a matrix, one clear error for what it may not hold, each vendor's task, and the page."""

from __future__ import annotations

import json

import pytest
from stored_runs import MODEL, SUBSET, answering, calling, make_row, write_run
from support.commands import invoke
from support.published import Published

from k2_verifier_adapter.core.comparison.matrix import matrix_of
from k2_verifier_adapter.core.observed import Prices
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.vendor_runs import settings_of_vendor, shared_settings, with_suites
from k2_verifier_adapter.formats.runs import RunPaths
from k2_verifier_adapter.formats.vendors import read_vendors
from k2_verifier_adapter.offline.participants import result_of_vendor
from k2_verifier_adapter.reports.formats import FORMATS, MatrixReport

KEY = "sk-vendors-0123456789abcdef"
ENVIRONMENT = {"A_KEY": KEY, "HOST": "https://b.example.com/v1", "EMPTY": ""}
GOOD = "- {name: a, model: kimi, api_url: https://a.example.com/v1}\n"


def read(tmp_path, text, name="vendors.yaml"):
    """Write a vendor file and read it."""
    path = tmp_path / name
    path.write_text(text)
    return read_vendors(path, ENVIRONMENT)


def test_all_fields(tmp_path):
    """Every field arrives, variables filled in; what is left out is left to the task."""
    text = """
vendors:
  - &base
    name: a
    model: moonshotai/kimi-k2
    api_url: https://a.example.com/v1
    key: A_KEY
    headers: {X-Team: verifier, X-Level: 3}
    extra_body: {provider: {only: [a]}}
    concurrency: 4
    timeout: 90
    retries: 0
    requests_per_minute: 90.5
    max_requests: 500
    max_total_tokens: 2000000
    max_minutes: 45
    price_in: 0
    price_out: 2.5
  - {name: b, model: kimi, api_url: "${HOST}", key: null}
"""
    first, second = read(tmp_path, text)
    assert (first.name, first.model, first.api_key) == ("a", "moonshotai/kimi-k2", KEY)
    assert first.headers == {"X-Team": "verifier", "X-Level": "3"}
    assert first.extra_body == {"provider": {"only": ["a"]}}
    assert (first.concurrency, first.timeout, first.retries) == (4, 90.0, 0)
    assert first.limits == {
        "requests_per_minute": 90.5,
        "max_requests": 500,
        "max_total_tokens": 2_000_000,
        "max_minutes": 45.0,
    }
    assert first.prices == Prices(0.0, 2.5)
    assert (second.api_url, second.api_key, second.limits) == (ENVIRONMENT["HOST"], None, {})


def test_the_file_of_minimax_provider_verifier(tmp_path):
    """Its `provider.json`, a list with `base_url`, `api_key` and `default_headers`, is read as it is."""
    provider = {
        "name": "openrouter-minimax",
        "model": "minimax/minimax-m2",
        "base_url": "https://openrouter.ai/api/v1",
        "api_key": KEY,
        "default_headers": {"X-Title": "t"},
        "extra_body": {"provider": {"only": ["minimax"], "allow_fallbacks": False}},
    }
    (vendor,) = read(tmp_path, json.dumps([provider], indent="\t"), "provider.json")
    assert (vendor.api_url, vendor.api_key) == (provider["base_url"], KEY)
    assert (vendor.headers, vendor.extra_body) == (provider["default_headers"], provider["extra_body"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("the file", "holds nothing", "expected a list of vendors")),
        ("[]", ("line 1", "holds nothing", "expected a list of vendors")),
        ("vendors:\n", ("line 1: vendors", "holds nothing")),
        ("vendors: 3\n", ("line 1: vendors", "'int'")),
        ("vendor:\n- x\n", ("line 1: vendor", "did you mean 'vendors'?")),
        ("- x\n", ("line 1: [0]", "'x'", "expected a vendor")),
        (f"{GOOD}- name: b\n  modell: kimi\n", ("line 3: [1].modell", "did you mean 'model'?")),
        (f"{GOOD}- {{name: b, Max-Requests: 3}}\n", ("line 2: [1].Max-Requests", "'max_requests'?")),
        (f"{GOOD}- {{name: b, zzz: 3}}\n", ("line 2: [1].zzz", "known are name, model")),
        (f"{GOOD}{GOOD.replace('name: a', 'name: A')}", ("line 2", "vendor 'A'", "taken by 'a'")),
        (f"{GOOD}- {{name: b, model: kimi}}\n", ("line 2: [1].api_url", "None", "a text")),
        (f"{GOOD}- {{name: b, model: 3, api_url: u}}\n", ("line 2: [1].model", "3", "a text")),
        (GOOD.replace("name: a", "name: ../a"), ("line 1", "[0].name", "'../a'", "without slashes")),
        (GOOD.replace("name: a", "name: .a"), ("[0].name", "'.a'")),
        (GOOD.replace("name: a", "name: Matrix.html"), ("[0].name", "the page")),
        (GOOD.replace("name: a", "name: a, name: b"), ("line 1: [0].name", "stands twice")),
        (GOOD.replace("}", ", key: NO_SUCH_KEY}"), ("line 1: [0].key", "NO_SUCH_KEY", "export")),
        (GOOD.replace("}", ", key: EMPTY}"), ("line 1: [0].key", "EMPTY", "not set")),
        (GOOD.replace("}", f", key: {KEY}}}"), ("line 1: [0].key", "not shown")),
        (GOOD.replace("}", ", key: sk_live_0123456789abcdef}"), ("line 1: [0].key", "not shown")),
        (GOOD.replace("}", f", key: A_KEY, api_key: {KEY}}}"), ("[0].api_key", "the same as key")),
        (GOOD.replace("}", ", base_url: u}"), ("[0].base_url", "the same as api_url")),
        (GOOD.replace("}", ", headers: {X-Key: '${NO_SUCH}'}}"), ("[0].headers.X-Key", "NO_SUCH")),
        (GOOD.replace("}", f", headers: [{KEY}]}}"), ("[0].headers", "holds list")),
        (GOOD.replace("}", f", headers: {{X-Key: [{KEY}]}}}}"), ("[0].headers", "names with texts")),
        (GOOD.replace("}", f", api_key: [{KEY}]}}"), ("[0].api_key", "holds list", "a text")),
        (GOOD.replace("}", ", extra_body: 3}"), ("[0].extra_body", "3", "names with their values")),
        (GOOD.replace("}", ", concurrency: 0}"), ("[0].concurrency", "0", "of at least 1")),
        (GOOD.replace("}", ", concurrency: 1.5}"), ("[0].concurrency", "1.5", "a whole number")),
        (GOOD.replace("}", ", concurrency: true}"), ("[0].concurrency", "True")),
        (
            GOOD.replace("}", f", default_headers: {KEY}}}"),
            ("[0].default_headers", "holds str", "names with"),
        ),
        (GOOD.replace("}", f", max_minutes: {10**400}}}"), ("[0].max_minutes", "a number above 0")),
        (GOOD.replace("}", ", max_minutes: .inf}"), ("[0].max_minutes", "inf", "above 0")),
        (GOOD.replace("}", ", requests_per_minute: 0}"), ("[0].requests_per_minute", "above 0")),
        (GOOD.replace("}", ", price_in: -1}"), ("[0].price_in", "-1", "of at least 0")),
        (GOOD.replace("}", ", retries: '3'}"), ("[0].retries", "'3'", "of at least 0")),
        ("- {name: a\n  model: [\n", ("is not YAML", "line")),
        ("&a [*a]", ("[0]", "expected a vendor")),
    ],
)
def test_what_cannot_be_used_is_told_where_it_stands(tmp_path, text, expected):
    """One line with file, line and field says what is wrong; no key is in it, and nothing is begun."""
    work_dir = tmp_path / "runs"
    path = tmp_path / "vendors.yaml"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        result = invoke("matrix", path, "--work-dir", work_dir)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    for part in (str(path), *expected):
        assert part in result.stderr
    assert "0123456789abcdef" not in result.stderr
    assert not work_dir.exists()


def test_a_vendor_that_is_none_of_the_file(tmp_path):
    """`--only` names vendors of the file."""
    path = tmp_path / "vendors.yaml"
    path.write_text(GOOD.replace("name: a", "name: vendor-a"))
    result = invoke("matrix", path, "--work-dir", tmp_path / "runs", "--only", "vendor-b")
    assert result.exit_code == 2
    assert "holds no vendor 'vendor-b'; known are vendor-a" in result.stderr


def test_what_others_need_is_not_asked_for(tmp_path):
    """On a machine that runs some vendors, the keys of the others need not be there."""
    path = tmp_path / "vendors.yaml"
    path.write_text(GOOD + GOOD.replace("name: a", "name: b").replace("}", ", key: NO_SUCH_KEY}"))
    assert [vendor.name for vendor in read_vendors(path, ENVIRONMENT, only=["a"])] == ["a"]
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        read_vendors(path, ENVIRONMENT, only=["b"])


def test_the_task_of_a_vendor(tmp_path):
    """What all share, and above it the vendor's own; another run's folder, model, URL and key never come along."""
    (vendor,) = read(
        tmp_path, GOOD.replace("}", ", headers: {B: '2'}, extra_body: {top_k: 1}, max_requests: 5}")
    )
    config = {
        "model": "other",
        "api_url": "https://other.example.com",
        "api_key": KEY,
        "work_dir": "elsewhere",
        "eval_batch_size": 32,
        "generation_config": {"extra_headers": {"A": "1"}, "extra_body": {"top_p": 0.5}, "retries": 3},
        "dataset_args": {"k2_verifier": {"local_path": "rows"}},
    }
    parameters = {"stop_when_decided": True, "gate": "strict", "max_requests": 9}
    shared = shared_settings(["--limit", "60"], config, parameters)
    run = tmp_path / "runs" / "a"
    assert settings_of_vendor(vendor, shared, run) == {
        "model": "kimi",
        "api_url": "https://a.example.com/v1",
        "api_key": "EMPTY",
        "datasets": ["k2_verifier"],
        "limit": 60,
        "eval_batch_size": 32,
        "generation_config": {
            "extra_headers": {"A": "1", "B": "2"},
            "extra_body": {"top_p": 0.5, "top_k": 1},
            "retries": 3,
        },
        "dataset_args": {
            "k2_verifier": {"local_path": "rows", "extra_params": {**parameters, "max_requests": 5}}
        },
        "work_dir": str(run),
        "no_timestamp": True,
    }
    (run / "k2_verifier").mkdir(parents=True)
    assert settings_of_vendor(vendor, shared, run)["use_cache"] == str(run)


@pytest.mark.parametrize("probes", [{"subset_list": ["stream"]}, {"extra_params": {"repeats": 2}}, {}])
def test_a_task_that_names_both_benchmarks(tmp_path, probes):
    """A vendor's own pace is that of its probes, too, whatever the task says of them and however they are asked."""
    (vendor,) = read(tmp_path, GOOD.replace("}", ", max_requests: 5}"))
    extra = {**probes.get("extra_params", {}), "max_requests": 5}
    both = {"datasets": ["k2_verifier", "kimi_conformance"], "dataset_args": {"kimi_conformance": probes}}
    for shared, expected in (
        (shared_settings([], both, {}), {**probes, "extra_params": extra}),
        (shared_settings([], {**both, "dataset_args": {}}, {}), {"extra_params": {"max_requests": 5}}),
        (
            with_suites(shared_settings([], both, {"gate": "strict"}), ["files"]),
            {"subset_list": ["files"], "extra_params": {"gate": "strict", **extra}},
        ),
    ):
        found = settings_of_vendor(vendor, shared, tmp_path / "run")["dataset_args"]
        assert found["kimi_conformance"] == expected
        assert found["k2_verifier"]["extra_params"]["max_requests"] == 5


@pytest.mark.parametrize("flag", ["--model", "--api-url", "--api-key", "--use-cache", "--model-id"])
def test_flags_that_are_each_vendors_own(flag):
    """What the vendor file or the matrix says is refused on the command line."""
    with pytest.raises(UsageError, match=f"{flag} does not go with a matrix"):
        shared_settings([flag, KEY], None, {})


# --- the page --------------------------------------------------------------------------------------

ROWS = [make_row(f"question {number}", call=number % 2 == 0) for number in range(12)]
RIGHT = [answering() if number % 2 else calling() for number in range(12)]
MATRIX, COMPARISON = Published("matrix"), Published("comparison")


def results(tmp_path, **runs):
    """Write runs and say how each vendor ended: by name its answers, exit code, error and facts."""
    text = "".join(GOOD.replace("name: a", f"name: {name}").replace("}", ", price_out: 2}") for name in runs)
    found = []
    for vendor, (answers, code, error, facts) in zip(read(tmp_path, text), runs.values(), strict=True):
        folder = tmp_path / vendor.name
        if answers is not None:
            write_run(folder, ROWS, answers, **facts)
        found.append(result_of_vendor(vendor, RunPaths(folder, MODEL, SUBSET), code, error))
    return matrix_of(found)


def page_of(matrix):
    """Give the JSON of a page, held against the schemas, and the words of its other forms."""
    report = MatrixReport(matrix)
    found = json.loads(report.as_json())
    assert MATRIX.problems(found) == []
    assert found["comparison"] is None or COMPARISON.problems(found["comparison"]) == []
    words = [" ".join(form.render(report).split()) for form in FORMATS if form.fits(report)]
    assert len(words) == 4
    return found, words


def test_a_vendor_that_did_not_come_to_its_end_takes_no_cases_from_the_others(tmp_path):
    """Runs that ended are compared over all of their cases; what became of the others is told."""
    few = [*RIGHT[:2], *[None] * 10]
    wrong = [answering(), *RIGHT[1:]]
    matrix = results(
        tmp_path,
        one=(RIGHT, 0, None, {}),
        killed=(few, -9, None, {"complete": False}),
        two=(wrong, 1, None, {}),
        refused=(None, 2, "stopped: check the key", {}),
    )
    found, words = page_of(matrix)
    assert [vendor["run"] for vendor in found["vendors"]] == ["A", None, "B", None]
    assert [vendor["exit_code"] for vendor in found["vendors"]] == [0, 3, 1, 2]
    assert found["comparison"]["cases"] == 12
    killed, refused = found["vendors"][1], found["vendors"][3]
    assert killed["requests"] == {"total": 12, "completed": 2, "failed": 0, "missing": 10}
    assert killed["reason"] == "incomplete: the run was interrupted, 10 requests not made"
    assert (refused["reason"], "requests" in refused) == ("stopped: check the key", False)
    assert killed["spent"] == {
        "requests": 2,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "answers_without_tokens": 0,
        "price": 2e-05,
    }
    for said in words:
        assert all(name in said for name in ("one", "killed", "two", "refused", "check the key"))


def test_where_none_came_to_its_end_all_that_answered_are_compared(tmp_path):
    """An interrupted matrix is compared over what its vendors have in common so far."""
    few = {"complete": False}
    matrix = results(
        tmp_path,
        one=([*RIGHT[:6], *[None] * 6], 3, None, few),
        two=([*RIGHT[:9], *[None] * 3], 137, None, few),
    )
    found, _ = page_of(matrix)
    assert [vendor["run"] for vendor in found["vendors"]] == ["A", "B"]
    # What is no exit code of this package's must not pass for one.
    assert [vendor["exit_code"] for vendor in found["vendors"]] == [3, 3]
    assert found["comparison"]["cases"] == 6


def test_one_vendor_is_compared_with_none(tmp_path):
    """The page of one vendor says how it ended and what it cost, and why nothing is compared."""
    found, words = page_of(results(tmp_path, one=(RIGHT, 0, None, {})))
    assert (found["comparison"], found["vendors"][0]["run"]) == (None, None)
    for said in words[:1] + words[2:]:
        assert "Nothing is compared: 1 of 1 vendors can be" in said
        assert "Leaderboard" not in said
        assert "Latency and cost" in said


def test_vendors_without_a_common_case_are_not_compared(tmp_path):
    """Two interrupted vendors that answered different rows: the page says that they have none in common."""
    few = {"complete": False}
    matrix = results(
        tmp_path, one=([*RIGHT[:6], *[None] * 6], 3, None, few), two=([*[None] * 6, *RIGHT[6:]], 3, None, few)
    )
    found, _ = page_of(matrix)
    assert found["comparison"] is None
    assert "no case in common" in found["not_compared"]
