"""What a run costs: said before, bounded while it goes, and never paid twice."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from support.drawn_rows import official_rows, probabilities
from support.runs import (
    EVALSCOPES_WARNINGS,
    KEY,
    MODEL,
    bundled_rows,
    evaluate,
    judged,
    report_of,
    resume,
    stored,
    values_of,
    write_rows,
)

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(30)
NOISY = PROFILES["noisy"]


@pytest.fixture
def rows(tmp_path):
    """A file with the rows."""
    return write_rows(tmp_path / "rows.jsonl", ROWS)


def _vendor(profile=NOISY, **settings):
    return SimulatedVendor(ROWS, profile, seed=1, record_requests=True, **settings)


def _paced(**pace):
    return {"dataset_args": {"extra_params": pace}}


def _same(run, other):
    assert judged(run) == judged(other)
    assert values_of(report_of(run)) == values_of(report_of(other))


def test_a_maximum_of_requests_is_kept_and_the_rest_is_resumed(tmp_path, rows):
    """Exactly so many requests arrive, the run is incomplete, and without the maximum it goes on from there."""
    run = tmp_path / "run"
    vendor = _vendor()
    with vendor.running() as endpoint:
        first = evaluate(endpoint.url, run, rows, **_paced(max_requests=11))
        assert len(vendor.requests) == 11
        assert first.execution_summary.incomplete
        assert (first.execution_summary.succeeded, first.execution_summary.errored) == (11, 0)
        facts = stored(run).facts
        assert (facts.complete, facts.stopped) == (False, "max_requests 11 reached")
        # Another pace is no other run: EvalScope's cache identity does not hold it.
        second = resume(endpoint.url, run, rows)
        assert len(vendor.requests) == len(ROWS)
    with _vendor().running() as endpoint:
        evaluate(endpoint.url, tmp_path / "undisturbed", rows)
    assert not second.execution_summary.incomplete
    assert (stored(run).facts.complete, stored(run).facts.stopped) == (True, None)
    _same(run, tmp_path / "undisturbed")


def test_retries_count_as_requests(tmp_path, rows):
    """A vendor that fails every first attempt uses up the maximum twice as fast; nothing is called failed."""
    run = tmp_path / "run"
    vendor = _vendor(profile_with({"http_503@1": 1.0}))
    with vendor.running() as endpoint:
        evaluate(endpoint.url, run, rows, eval_batch_size=1, **_paced(max_requests=10))
    assert len(vendor.requests) == 10
    assert (len(stored(run).records), stored(run).failed) == (5, [])


def test_a_maximum_that_suffices_stops_nothing(tmp_path, rows):
    """As many requests as there are rows are enough: the run is complete."""
    vendor = _vendor()
    with vendor.running() as endpoint:
        report = evaluate(endpoint.url, tmp_path / "run", rows, **_paced(max_requests=len(ROWS)))
    assert not report.execution_summary.incomplete
    assert stored(tmp_path / "run").facts.complete


def test_a_maximum_of_tokens_counts_the_vendors_usage(tmp_path, rows):
    """One at a time, the run ends with the answer whose usage reaches the maximum."""
    run = tmp_path / "run"
    vendor = _vendor()
    with vendor.running() as endpoint:
        evaluate(endpoint.url, run, rows, eval_batch_size=1, **_paced(max_total_tokens=3000))
    used = [json.loads(record.response)["usage"]["total_tokens"] for record in stored(run).records]
    assert 1 < len(used) < len(ROWS)
    assert sum(used) >= 3000 > sum(used) - used[-1]
    assert len(vendor.requests) == len(used)
    assert stored(run).facts.stopped == "max_total_tokens 3000 reached"


def test_a_maximum_of_minutes_ends_the_pauses_too(tmp_path, rows):
    """Where every request waits for an hour to be retried, the run still ends when its minutes are over."""
    run = tmp_path / "run"
    vendor = _vendor(profile_with({"http_503": 1.0}))
    with vendor.running() as endpoint:
        evaluate(
            endpoint.url,
            run,
            rows,
            generation_config={"retries": 3, "retry_interval": 3600},
            **_paced(max_minutes=0.005),
        )
    assert len(vendor.requests) == 8
    assert (stored(run).records, stored(run).failed) == ([], [])
    assert stored(run).facts.stopped == "max_minutes 0.005 reached"


def test_429_lowers_the_pressure_until_all_are_answered(tmp_path, rows):
    """A vendor that refuses half of the first attempts with 429 loses no request, and no answer changes."""
    run, other = tmp_path / "run", tmp_path / "other"
    vendor = _vendor(profile_with({"http_429@2": 0.5}), retry_after_s=0)
    with vendor.running() as endpoint:
        evaluate(endpoint.url, run, rows, generation_config={"retries": 5, "retry_interval": 0})
        assert vendor.truth.totals().failed_attempts["rate_limited"] >= 10
    with _vendor(PROFILES["official"]).running() as endpoint:
        evaluate(endpoint.url, other, rows)
    _same(run, other)


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        ({"max_requests": -1}, "extra_params.max_requests is -1, expected a number of at least 0"),
        ({"max_requests": 1.5}, "extra_params.max_requests is 1.5, expected a whole number"),
        ({"max_minutes": "ten"}, "extra_params.max_minutes is 'ten', expected a number"),
        ({"requests_per_minute": -3}, "extra_params.requests_per_minute is -3, expected a number"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(tmp_path, rows, pace, message):
    """A wrong value ends the run with its name and value, and nothing is sent."""
    vendor = _vendor()
    with vendor.running() as endpoint, pytest.raises(UsageError, match=message):
        evaluate(endpoint.url, tmp_path / "run", rows, **_paced(**pace))
    assert vendor.requests == []


def _command(url, rows, *flags):
    dataset_args = {"k2_verifier": {"local_path": str(rows)}}
    arguments = ["eval", "--model", MODEL, "--api-url", url, "--api-key", KEY, "--no-timestamp"]
    arguments += ["--dataset-args", json.dumps(dataset_args), *flags]
    return CliRunner().invoke(main, arguments)


def test_a_dry_run_says_what_would_be_sent_and_does_nothing(tmp_path, rows, monkeypatch):
    """`--dry-run` prints requests, tokens and parameters; no request arrives, no file is written."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    vendor = _vendor()
    with vendor.running() as endpoint:
        result = _command(endpoint.url, rows, "--dry-run", "--limit", "12", "--max-requests", "7")
    assert result.exit_code == 0, result.output
    assert "k2_thinking: 12 requests to send, about " in result.stdout
    assert "prompt tokens (estimated from their length)" in result.stdout
    assert '"temperature":1.0,"max_tokens":64000' in result.stdout
    assert "max_requests: 7" in result.stdout
    assert KEY not in result.output
    assert vendor.requests == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_a_resume_counts_what_is_left(tmp_path, rows, monkeypatch):
    """With stored answers, only the others are counted, and the estimate follows the vendor's own counts."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    run = tmp_path / "run"
    with _vendor().running() as endpoint:
        evaluate(endpoint.url, run, rows, **_paced(max_requests=10))
        result = _command(endpoint.url, rows, "--dry-run", "--use-cache", str(run))
    assert result.exit_code == 0, result.output
    assert f"{len(ROWS) - 10} requests to send (10 answers are stored), about " in result.stdout
    assert "scaled by 10 stored answers" in result.stdout


def test_the_command_stops_at_a_maximum_with_exit_code_3(tmp_path, rows, monkeypatch):
    """`--max-requests` ends in a partial report that says why, how many are missing, and how to go on."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    run = tmp_path / "run"
    with _vendor().running() as endpoint:
        result = _command(endpoint.url, rows, "--max-requests", "4", "--work-dir", str(run))
    assert result.exit_code == 3, result.output
    assert "INCOMPLETE: 13.33% of the requests completed" in result.stdout
    assert "stopped (max_requests 4 reached); continue it with" in " ".join(result.stdout.split())
    assert "incomplete: the run was stopped (max_requests 4 reached), 26 requests not made" in result.stderr


def _dry_run(rows, *flags):
    source = json.dumps({"k2_verifier": {"local_path": str(rows)}})
    common = ["eval", "--model", MODEL, "--api-url", "http://127.0.0.1:9/v1", "--dataset-args", source]
    return CliRunner().invoke(main, [*common, *map(str, flags)])


def test_a_dry_run_says_what_a_verdict_will_probably_cost(tmp_path):
    """Requests, tokens and price of a faithful and of a bad vendor, asked to the end and stopped when decided."""
    rows = write_rows(tmp_path / "rows.jsonl", official_rows(probabilities(2000)))
    said = _dry_run(rows, "--dry-run", "--price-in", 0.6, "--price-out", 2.5).stdout
    found = re.findall(
        r"^ +(.*), (.*): ([\d,]+) requests, about ([\d,]+) prompt tokens, price (.*); pass (\d+)%",
        said,
        re.MULTILINE,
    )
    kinds = [(vendor, design) for vendor, design, *_ in found]
    assert kinds == [
        (vendor, design)
        for vendor in ("faithful, F1 0.76", "F1 0.60")
        for design in ("all rows", "--stop-when-decided")
    ]
    numbers = [int(cells[2].replace(",", "")) for cells in found]
    assert numbers[0] == numbers[2] == 2000
    assert 1500 < numbers[1] < 2000
    assert numbers[3] < 300
    assert all(70 < int(cells[5]) < 85 for cells in found[:2])
    assert [cells[5] for cells in found[2:]] == ["0", "0"]
    assert found[0][4] == "0.17 + 5.00 for every 1,000 completion tokens of an answer"


def test_stored_answers_tell_how_long_answers_are(tmp_path):
    """With a run to go on with, the completion tokens of its answers are part of the price."""
    rows = write_rows(tmp_path / "rows.jsonl", official_rows(probabilities(60)))
    run = tmp_path / "run"
    with SimulatedVendor(official_rows(probabilities(60)), PROFILES["official"]).running() as endpoint:
        evaluate(endpoint.url, run, rows, limit=30)
        more = ("--api-url", endpoint.url, "--api-key", KEY, "--work-dir", run, "--use-cache", run)
        said = _dry_run(rows, *more, "--rerun-review", "--dry-run", "--price-out", 1_000_000).stdout
    used = [json.loads(record.response)["usage"]["completion_tokens"] for record in stored(run).records]
    (price,) = re.findall(
        r"faithful, F1 0.76, all rows: 60 requests, .* completion tokens, price ([\d,.]+);", said
    )
    assert float(price.replace(",", "")) == pytest.approx(60 * sum(used) / len(used), abs=0.01)


def test_no_verdict_has_no_cost(rows):
    """Of synthetic rows only the requests are told; prices belong to a dry run."""
    said = _dry_run(rows, "--dry-run").stdout
    assert "30 requests to send" in said
    assert "verdict" not in said
    refused = _dry_run(rows, "--price-in", 1)
    assert refused.exit_code == 2
    assert "go with --dry-run" in refused.stderr
