"""Stock EvalScope against a vendor with many transport faults and all wire shapes: nothing lost, nothing changed."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from support.asking import PINNED
from support.runs import (
    EVALSCOPES_WARNINGS,
    bundled_rows,
    evaluate,
    judged,
    report_of,
    resume,
    stored,
    values_of,
    write_rows,
)

from k2_verifier_adapter.core.failure_classes import FailureClass, Group
from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with, shape_names
from k2_verifier_adapter.simulator.faults import FAULTS, TransportFault

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(48)
SHAPES = dict.fromkeys(shape_names(), 0.7)
PASSING = (
    *(
        f"http_{status}@{hits}"
        for status, hits in ((408, 1), (409, 2), (500, 1), (502, 2), (503, 1), (529, 2))
    ),
    "http_429@3",
    "http_429_retry_after_seconds@2",
    "http_429_retry_after_date@2",
    "connection_reset@2",
    "stream_cut_at_end@2",
    "stream_cut_by_reset@2",
    "stream_error_event@2",
    # As long as nothing was answered, these are retried once.
    "not_a_completion@1",
    "not_a_completion_redirect@1",
    "http_503@1+http_429@1+connection_reset@1",
    "stream_error_event@1+http_429@2+http_529@1",
)
"""Faults that two retries survive."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file with the rows."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)


def _run(run, rows, profile, *, seed=6, **generation):
    """Run against a vendor with this profile; give the vendor."""
    vendor = SimulatedVendor(
        ROWS, profile, seed=seed, retry_after_s=0, oversized_bytes=8 << 20, drip_interval_s=0.02
    )
    generation = {"retries": 2, "retry_interval": 0, "timeout": 30.0, "stream": True, **generation}
    generation["extra_body"] = PINNED
    with vendor.running() as endpoint:
        evaluate(
            endpoint.url,
            run,
            rows,
            generation_config=generation,
            dataset_args={"extra_params": {"max_response_mb": 4}},
            eval_batch_size=24,
        )
    return vendor


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, rows):
    """A streamed run against a vendor without faults and shapes."""
    run = tmp_path_factory.mktemp("undisturbed")
    _run(run, rows, PROFILES["official"])
    return run


def _attempts(vendor):
    """The ledger's attempts at each row, in order."""
    attempts = defaultdict(list)
    for answer in vendor.truth.answers:
        attempts[answer.case_index].append(answer)
    return attempts


def test_what_passes_takes_nothing_away(tmp_path, rows, undisturbed):
    """With faults of all kinds on first attempts, and every shape, a run is the one without any of them."""
    rates = {name: 0.97 / len(PASSING) for name in PASSING}
    # One stall, for it is waited for; under a timeout that a sound answer meets on a slow machine, too.
    profile = profile_with(rates | {"timed_out@1": 0.03} | SHAPES)
    vendor = _run(tmp_path, rows, profile, seed=28, timeout=3.0)
    performed = {answer.fault for attempts in _attempts(vendor).values() for answer in attempts}
    assert len(performed) >= 19
    totals = vendor.truth.totals()
    assert totals.failed_attempts["timed_out"] >= 1
    assert (totals.completed, totals.failed) == (len(ROWS), 0)
    assert sum(totals.failed_attempts.values()) > len(ROWS)
    assert stored(tmp_path).failed == []
    assert len(judged(tmp_path)) == len(ROWS)
    assert judged(tmp_path) == judged(undisturbed)
    assert values_of(report_of(tmp_path)) == values_of(report_of(undisturbed))


def test_shapes_change_nothing_of_a_run_without_streams(tmp_path, rows, undisturbed):
    """Without streams, too, a vendor that uses every shape is judged like one that uses none."""
    vendor = _run(tmp_path, rows, profile_with(SHAPES), stream=False)
    assert vendor.truth.totals().completed == len(ROWS)
    assert judged(tmp_path) == judged(undisturbed)


LASTING = [
    fault.name
    for kind, faults in FAULTS.items()
    for fault in faults
    if isinstance(fault, TransportFault)
    and fault.stream in (None, True)
    # A timeout that is short enough to be waited for is one that a slow machine's sound answers meet, too.
    and fault.failure_class is not FailureClass.TIMED_OUT
]


def test_what_lasts_fails_its_own_requests_only(tmp_path, rows, undisturbed):
    """With every transport fault but stalls on some rows for ever, exactly these fail, each under its class."""
    rates = {name: 0.6 / len(LASTING) for name in LASTING if "retry_after" not in name}
    passing = {f"{name}@1": 0.02 for name in ("http_503", "connection_reset", "stream_cut")}
    vendor = _run(tmp_path, rows, profile_with(rates | passing | SHAPES), retries=1, timeout=60.0, seed=3)
    attempts = _attempts(vendor)
    expected = {
        case: attempts[case][-1].failure_class
        for case in range(len(ROWS))
        if not any(answer.completed for answer in attempts[case])
    }
    assert 16 < len(expected) < len(ROWS) - 8
    assert len(set(expected.values())) >= 7
    assert {kind.group for kind in expected.values()} == {Group.TRANSPORT}
    run = stored(tmp_path)
    assert {item.case_index: item.failure.failure_class for item in run.failed} == expected
    assert {item.case_index: item.attempts for item in run.failed} == {
        case: len(attempts[case]) for case in expected
    }
    assert report_of(tmp_path).execution_summary.errored == len(expected)
    untouched = {key: value for key, value in judged(undisturbed).items() if key[0] not in expected}
    assert judged(tmp_path) == untouched


def test_what_another_provider_answered_is_asked_for_again(tmp_path, rows, undisturbed):
    """Where a router does not keep to the pin, the rows fail; a rerun asks again, also for what was stored of such."""
    vendor = SimulatedVendor(ROWS, profile_with({"other_provider@1": 0.3}), seed=1)
    options = {"generation_config": {"stream": True, "extra_body": PINNED}}
    with vendor.running() as endpoint:
        evaluate(endpoint.url, tmp_path, rows, **options)
        failed = stored(tmp_path).failed
        assert len(failed) > 8
        assert {item.failure.failure_class for item in failed} == {FailureClass.OTHER_PROVIDER}
        asked = len(vendor.truth.answers)
        assert asked == len(ROWS)
        # As a version stored it that did not look at the pin.
        (path,) = (tmp_path / "predictions").rglob("*.jsonl")
        first, *others = path.read_text().splitlines(keepends=True)
        line = json.loads(first)
        record = line["model_output"]["metadata"]["k2_verifier"]
        record["response"] = json.dumps({**json.loads(record["response"]), "provider": "Other"})
        path.write_text("".join([json.dumps(line) + "\n", *others]))
        assert summary_of(stored(tmp_path)).tally.failed == len(failed) + 1
        resume(endpoint.url, tmp_path, rows, **options)
    assert len(vendor.truth.answers) == asked + len(failed) + 1
    assert judged(tmp_path) == judged(undisturbed)
