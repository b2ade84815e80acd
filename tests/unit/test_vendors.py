"""The vendor file of a matrix: what it may hold, and one clear error for what it may not; the task of each vendor."""

from __future__ import annotations

import json

import pytest
from support.commands import invoke

from k2_verifier_adapter.core.observed import Prices
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.vendor_runs import settings_of_vendor, shared_settings
from k2_verifier_adapter.formats.vendors import read_vendors

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


@pytest.mark.parametrize("flag", ["--model", "--api-url", "--api-key", "--use-cache", "--model-id"])
def test_flags_that_are_each_vendors_own(flag):
    """What the vendor file or the matrix says is refused on the command line."""
    with pytest.raises(UsageError, match=f"{flag} does not go with a matrix"):
        shared_settings([flag, KEY], None, {})
