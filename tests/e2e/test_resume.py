"""Going on with a run: only what is missing is sent, and no answer is taken for another request's."""

from __future__ import annotations

import json
import socket
from collections import Counter

import pytest
from evalscope import TaskConfig
from filelock import FileLock
from support.runs import (
    EVALSCOPES_WARNINGS,
    MODEL,
    bundled_rows,
    evaluate,
    judged,
    metadata_of,
    report_of,
    resume,
    stored,
    values_of,
    write_rows,
)

from k2_verifier_adapter.core.cases import decode_row
from k2_verifier_adapter.core.history import HistoryOptions
from k2_verifier_adapter.errors import CacheMismatchError, UsageError
from k2_verifier_adapter.evalscope_plugin.running import let_limit_grow
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor, profile_with
from k2_verifier_adapter.version import BENCHMARK

pytestmark = EVALSCOPES_WARNINGS

ROWS = bundled_rows(24)
NOISY = PROFILES["noisy"]


@pytest.fixture
def rows(tmp_path):
    """A file with the rows."""
    return write_rows(tmp_path / "rows.jsonl", ROWS)


class Place:
    """A port that one vendor after the other serves at, for EvalScope's cache identity holds the URL."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def served_by(self, vendor):
        """Serve until the block ends."""
        return vendor.running(self.port)


@pytest.fixture
def place():
    """Where this test's vendors serve."""
    return Place()


def _vendor(profile=NOISY, rows=ROWS, **settings):
    return SimulatedVendor(rows, profile, seed=1, record_requests=True, **settings)


def _asked(vendor):
    """The rows that were asked about, 0-based, with how often."""
    cases = [decode_row(row, number, HistoryOptions()) for number, row in enumerate(ROWS)]
    bodies = [json.loads(request.body) for request in vendor.requests]
    found = Counter()
    for body in bodies:
        for case in cases:
            if case.messages() == body["messages"] and case.tools() == body.get("tools", []):
                found[case.index] += 1
    assert sum(found.values()) == len(bodies)
    return found


def _undisturbed(tmp_path, rows, place, **changes):
    run = tmp_path / "undisturbed"
    with place.served_by(_vendor()) as endpoint:
        evaluate(endpoint.url, run, rows, **changes)
    return run


def _same(run, other):
    assert judged(run) == judged(other)
    assert values_of(report_of(run)) == values_of(report_of(other))


def _predictions(run):
    return run / "predictions" / MODEL / "k2_verifier_k2_thinking.jsonl"


@pytest.mark.parametrize("ignore_errors", [False, True])
def test_failed_requests_are_sent_again_and_nothing_else(tmp_path, rows, place, ignore_errors):
    """After failures the run is complete but for them; the rerun sends exactly those, whatever `ignore_errors`."""
    run = tmp_path / "run"
    vendor = _vendor(profile_with({"http_400": 0.25, **NOISY.rates}))
    with place.served_by(vendor) as endpoint:
        first = evaluate(endpoint.url, run, rows, ignore_errors=ignore_errors)
    failed = {answer.case_index for answer in vendor.truth.answers if not answer.completed}
    assert 2 <= len(failed) < len(ROWS)
    assert first.execution_summary.incomplete
    assert first.execution_summary.errored == len(failed)
    assert {item.case_index for item in stored(run).failed} == failed
    assert metadata_of(first, "trigger_similarity")["failed"] == len(failed)
    assert len(_predictions(run).read_bytes().splitlines()) == len(ROWS) - len(failed)

    healthy = _vendor(PROFILES["official"])
    with place.served_by(healthy) as endpoint:
        second = resume(endpoint.url, run, rows, ignore_errors=ignore_errors)
    assert _asked(healthy) == dict.fromkeys(failed, 1)
    assert not second.execution_summary.incomplete
    assert stored(run).failed == []
    assert len(stored(run).records) == len(ROWS)
    assert len(judged(run)) == len(ROWS)


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path, rows, place):
    """With faults of the first attempts only, failures and a rerun give the report of a run without them."""
    run = tmp_path / "run"
    vendor = _vendor(profile_with({"http_503@3": 0.4}))
    with place.served_by(vendor) as endpoint:
        first = evaluate(endpoint.url, run, rows, generation_config={"retries": 1})
        sent = len(vendor.requests)
        failed = first.execution_summary.errored
        assert failed >= 2
        resume(endpoint.url, run, rows, generation_config={"retries": 1})
    assert len(vendor.requests) - sent == 2 * failed
    with place.served_by(_vendor(PROFILES["official"])) as endpoint:
        evaluate(endpoint.url, tmp_path / "other", rows)
    _same(run, tmp_path / "other")


def test_rerun_review_sends_nothing(tmp_path, rows, place):
    """With every answer stored, judging again needs no endpoint and gives the same report."""
    run = _undisturbed(tmp_path, rows, place)
    before, values = judged(run), values_of(report_of(run))
    predictions = _predictions(run).read_bytes()
    for changes in ({"rerun_review": True}, {"rerun_review": True}, {}):
        report = resume(place.url, run, rows, **changes)
        assert (judged(run), values_of(report)) == (before, values)
    assert _predictions(run).read_bytes() == predictions


CHANGES = {
    "temperature": ({"generation_config": {"temperature": 0.1}}, "temperature: 1.0 then, 0.1 now"),
    "extra_body": ({"generation_config": {"extra_body": {"top_p": 0.5}}}, "top_p: 'unset' then, 0.5 now"),
    "stream": ({"generation_config": {"stream": False}}, "stream: True then, False now"),
    "model": ({"model": "kimi-other", "model_id": MODEL}, "model: 'kimi' then, 'kimi-other' now"),
    "history": (
        {"dataset_args": {"extra_params": {"normalize_tool_call_ids": True}}},
        "the row's messages or tools",
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, its rows' file and where it was asked."""
    folder = tmp_path_factory.mktemp("finished")
    rows = write_rows(folder / "rows.jsonl", ROWS)
    place = Place()
    return _undisturbed(folder, rows, place), rows, place


@pytest.mark.parametrize("change", CHANGES)
def test_answers_to_other_requests_are_refused(finished, change):
    """Changed parameters, model or repairs behind stored answers end the run, naming the difference."""
    run, rows, place = finished
    changes, difference = CHANGES[change]
    before = _predictions(run).read_bytes()
    vendor = _vendor()
    with place.served_by(vendor) as endpoint, pytest.raises(CacheMismatchError) as caught:
        resume(endpoint.url, run, rows, rerun_review=True, **changes)
    assert difference in str(caught.value)
    assert "start a new one without --use-cache" in str(caught.value)
    assert vendor.requests == []
    assert _predictions(run).read_bytes() == before


@pytest.mark.parametrize("rerun_review", [False, True])
def test_a_changed_row_is_refused(tmp_path, rows, place, rerun_review):
    """Rows whose content changed in the same file are refused, the row named, on every path."""
    run = _undisturbed(tmp_path, rows, place)
    changed = [dict(row) for row in ROWS]
    messages = json.loads(changed[4]["messages"])
    messages[-1]["content"] = "something else"
    changed[4]["messages"] = json.dumps(messages)
    write_rows(rows, changed)
    vendor = _vendor()
    with place.served_by(vendor) as endpoint, pytest.raises(CacheMismatchError) as caught:
        resume(endpoint.url, run, rows, rerun_review=rerun_review)
    assert (
        "1 of 24 stored responses answer other requests than today's (case 4: the row's messages or tools)"
        in str(caught.value)
    )
    assert vendor.requests == []


@pytest.mark.parametrize("changes", [{"generation_config": {"temperature": 0.1}}, {"limit": 3}])
def test_evalscope_refuses_other_settings_by_itself(finished, changes):
    """Without `rerun_review`, changed settings are EvalScope's own to refuse: a ValueError, nothing sent."""
    run, rows, place = finished
    vendor = _vendor()
    with (
        place.served_by(vendor) as endpoint,
        pytest.raises(ValueError, match="Cannot reuse cache for k2_verifier"),
    ):
        resume(endpoint.url, run, rows, **changes)
    assert vendor.requests == []


def test_a_half_written_line_is_sent_again(tmp_path, rows, place):
    """A prediction that was cut off in the middle of its line is missing, and only it is sent again."""
    run = _undisturbed(tmp_path, rows, place)
    undisturbed = judged(run)
    path = _predictions(run)
    lines = path.read_bytes().splitlines(keepends=True)
    lost = json.loads(lines[-1])["model_output"]["metadata"]["k2_verifier"]["case"]
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    vendor = _vendor()
    with place.served_by(vendor) as endpoint:
        report = resume(endpoint.url, run, rows)
    assert _asked(vendor) == {lost: 1}
    assert not report.execution_summary.incomplete
    assert judged(run) == undisturbed
    assert len(stored(run).records) == len(ROWS)


def test_a_smoke_run_is_extended(tmp_path, rows, place):
    """`--limit 5`, then `--use-cache RUN --rerun-review` without limit: only the other rows are sent."""
    run = tmp_path / "run"
    vendor = _vendor()
    with place.served_by(vendor) as endpoint:
        smoke = evaluate(endpoint.url, run, rows, limit=5)
        assert smoke.execution_summary.requested == 5
        sent = len(vendor.requests)
        full = resume(endpoint.url, run, rows, rerun_review=True)
    assert (sent, len(vendor.requests)) == (5, len(ROWS))
    assert _asked(vendor) == dict.fromkeys(range(len(ROWS)), 1)
    assert full.execution_summary.succeeded == len(ROWS)
    _same(run, _undisturbed(tmp_path, rows, place))


def test_a_larger_limit_adds_rows_to_a_run(tmp_path):
    """`eval --use-cache RUN` takes a larger limit, or none, but neither a smaller one nor another draw."""
    begun = {"limit": 5, "dataset_args": {BENCHMARK: {"local_path": "rows.jsonl"}}, "seed": 42, "repeats": 1}
    place = tmp_path / "configs" / "task_config.yaml"
    place.parent.mkdir()
    place.write_text(json.dumps({**begun, "model_id": MODEL}))

    def waived(**changes):
        task = TaskConfig(
            **{"model": MODEL, "datasets": [BENCHMARK], "use_cache": str(tmp_path), **begun, **changes}
        )
        let_limit_grow(task)
        return task.rerun_review

    assert [waived(limit=limit) for limit in (5, 6, None)] == [False, True, True]
    drawn = {BENCHMARK: {"local_path": "rows.jsonl", "extra_params": {"sample": "stratified"}}}
    gated = {BENCHMARK: {"local_path": "rows.jsonl", "extra_params": {"gate": "strict", "max_requests": 9}}}
    assert not waived(limit=6, dataset_args=drawn)
    assert waived(limit=6, dataset_args=gated)
    for smaller in (4, 0.5):
        with pytest.raises(UsageError, match="was begun with 5"):
            waived(limit=smaller)
        assert waived(limit=smaller, rerun_review=True)


def test_a_smaller_rerun_counts_what_it_was_asked_for(tmp_path, rows, place):
    """A rerun with a limit judges those rows only, and keeps the other answers for later."""
    run = _undisturbed(tmp_path, rows, place)
    vendor = _vendor()
    with place.served_by(vendor) as endpoint:
        report = resume(endpoint.url, run, rows, limit=6, rerun_review=True)
        assert report.execution_summary.requested == 6
        assert sorted(case for case, _ in judged(run)) == list(range(6))
        assert resume(endpoint.url, run, rows, rerun_review=True).execution_summary.succeeded == len(ROWS)
    assert vendor.requests == []


def test_a_new_run_in_a_used_directory_reuses_nothing(tmp_path, rows, place):
    """Without `use_cache` everything is sent, and the earlier answers are kept beside, not mixed in."""
    run = _undisturbed(tmp_path, rows, place)
    vendor = _vendor()
    with place.served_by(vendor) as endpoint:
        evaluate(endpoint.url, run, rows)
    assert len(vendor.requests) == len(ROWS)
    assert len(_predictions(run).read_bytes().splitlines()) == len(ROWS)
    (kept,) = _predictions(run).parent.glob("*.earlier")
    assert len(kept.read_bytes().splitlines()) == len(ROWS)


def test_two_runs_cannot_write_to_one_directory(tmp_path, rows, place):
    """While one run writes, a second one in the same directory ends with an error, and sends nothing."""
    run = _undisturbed(tmp_path, rows, place)
    before = _predictions(run).read_bytes()
    (facts,) = run.rglob("run.json")
    vendor = _vendor()
    with place.served_by(vendor) as endpoint, FileLock(facts.parent / ".lock"):
        for start in (evaluate, resume):
            with pytest.raises(UsageError, match="another run is writing here"):
                start(endpoint.url, run, rows)
    assert vendor.requests == []
    assert _predictions(run).read_bytes() == before
    with place.served_by(vendor) as endpoint:
        assert resume(endpoint.url, run, rows).execution_summary.succeeded == len(ROWS)


def test_repeats_are_told_apart(tmp_path, rows, place):
    """With three repeats every row is sent three times, each answer stored under its own repeat, also resumed."""
    run = tmp_path / "run"
    vendor = _vendor(profile_with({"http_400": 0.2, **NOISY.rates}))
    with place.served_by(vendor) as endpoint:
        first = evaluate(endpoint.url, run, rows, limit=8, repeats=3)
    failed = {(item.case_index, item.repeat) for item in stored(run).failed}
    assert first.execution_summary.requested == 24
    assert first.execution_summary.errored == len(failed) >= 1
    healthy = _vendor(PROFILES["official"])
    with place.served_by(healthy) as endpoint:
        second = resume(endpoint.url, run, rows, limit=8, repeats=3)
    assert _asked(healthy) == Counter(case for case, _ in failed)
    assert second.execution_summary.succeeded == 24
    assert set(judged(run)) == {(case, repeat) for case in range(8) for repeat in range(3)}


def test_shuffle_and_limit_choose_the_same_rows_again(tmp_path, rows, place):
    """A shuffled half of the rows, resumed: the same rows, each answer still with its own row."""
    run = tmp_path / "run"
    choice = {"limit": 0.5, "dataset_args": {"shuffle": True}, "seed": 7}
    vendor = _vendor(profile_with({"http_400": 0.3}))
    with place.served_by(vendor) as endpoint:
        first = evaluate(endpoint.url, run, rows, **choice)
    assert first.execution_summary.requested == len(ROWS) // 2
    chosen = set(_asked(vendor))
    assert chosen != set(range(len(chosen)))
    failed = {item.case_index for item in stored(run).failed}
    assert failed
    healthy = _vendor(PROFILES["official"])
    with place.served_by(healthy) as endpoint:
        second = resume(endpoint.url, run, rows, **choice)
    assert set(_asked(healthy)) == failed
    assert second.execution_summary.succeeded == len(ROWS) // 2
    for (case, _), judgement in judged(run).items():
        assert case in chosen
        assert judgement["should_call"] == ROWS[case]["should_call_tool"]


def test_another_order_of_the_rows_is_no_other_run(tmp_path, rows, place):
    """Answers are found by row, so a resumed run may shuffle where the first did not."""
    run = _undisturbed(tmp_path, rows, place)
    before = judged(run)
    vendor = _vendor()
    with place.served_by(vendor) as endpoint:
        resume(endpoint.url, run, rows, rerun_review=True, dataset_args={"shuffle": True})
    assert vendor.requests == []
    assert judged(run) == before
