"""A run may be killed at any point: what was answered is kept, and the rerun brings the undisturbed result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from dataclasses import replace

import pytest
from click.testing import CliRunner
from support.forks import Point
from support.resumed import ANSWERS, ROWS, Bench, answered, by_command, by_run_task, predictions
from support.runs import EVALSCOPES_WARNINGS, judged, raises_cleanly, stored

from k2_verifier_adapter.cli import main as k2_verifier
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.client.pacing import run_pool

pytestmark = EVALSCOPES_WARNINGS

HOUR = 3600.0

STARTING = {
    "nothing of ours": Point("open", "eval_log.log"),
    "lock": Point("open", ".lock"),
    "answers": Point("open", ANSWERS),
    "cases": Point("rename", "cases.jsonl.gz"),
    "facts": Point("rename", "/run.json"),
}
ANSWERING = {
    "first line": Point("write", ANSWERS),
    "some line": Point("write", ANSWERS, 11),
    "last line": Point("write", ANSWERS, len(ROWS)),
}
ENDING = {
    "reviews": Point("rename", "reviews/kimi/k2_verifier_k2_thinking.jsonl"),
    "final facts": Point("rename", "/run.json", 2),
    "EvalScope's report": Point("open", "reports/kimi/k2_verifier.json"),
    "HTML report": Point("rename", "k2_verifier/k2_thinking.html"),
}
POINTS = STARTING | ANSWERING | ENDING
"""Files that a run writes, in order: a process ends before they are opened or renamed, or in the middle of a line."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Rows, an undisturbed run over them, and where disturbed runs come from."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


def assert_partial_report(run):
    """Ask for the report of a run that was cut short: it counts the answers on disk, or says there are none."""
    told = CliRunner().invoke(k2_verifier, ["report", str(run), "--format", "json"])
    if not list(run.rglob("run.json")):
        assert told.exit_code == 2
        assert "no such directory" in told.stderr or "holds no run of this benchmark" in told.stderr
        return
    if not answered(run):
        assert told.exit_code == 2
        assert "holds no completed and no failed request" in told.stderr
        return
    report = json.loads(told.stdout)
    count = answered(run)
    requests = {"total": len(ROWS), "completed": count, "failed": 0, "missing": len(ROWS) - count}
    assert report["requests"] == {**requests, "coverage": count / len(ROWS)}
    assert report["complete"] is stored(run).facts.complete
    assert report["complete"] <= (count == len(ROWS))
    assert told.exit_code == (0 if report["complete"] else 3)
    exported = run.parent / "results.jsonl"
    done = CliRunner().invoke(k2_verifier, ["export", str(run), "--output", str(exported)])
    assert done.exit_code == 0
    assert len(exported.read_text().splitlines()) == count


def assert_resumable(bench, run):
    """Report on what is there, go on, and hold the result against the undisturbed run."""
    assert_partial_report(run)
    count = answered(run)
    if not (run / "k2_verifier").exists():
        # It died before this package was reached: there is nothing to go on with, as with a misspelled path.
        with raises_cleanly(UsageError, "no run of k2_verifier was begun there"):
            bench.go_on(run)
        return
    assert bench.go_on(run) == len(ROWS) - count
    bench.assert_equal(run)


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_file_is_resumed(bench, tmp_path, point):
    """SIGKILL before the first request, in the middle of a line, while results are written."""
    with bench.vendor().running(bench.port):
        code, child = bench.forks.run(tmp_path, **by_run_task(bench, tmp_path / "run"), point=POINTS[point])
    assert code == -signal.SIGKILL, child.stderr
    if point in ANSWERING:
        assert not predictions(tmp_path / "run").read_bytes().endswith(b"\n")
        assert answered(tmp_path / "run") == POINTS[point].times - 1
    assert_resumable(bench, tmp_path / "run")


@pytest.mark.parametrize("kill_at", [2, 9, len(ROWS)])
def test_a_run_killed_between_answers_is_resumed(bench, tmp_path, kill_at):
    """SIGKILL when the vendor gets a request, with others in flight and answers being written."""
    arrivals = []
    children = []
    started = threading.Event()

    def latency(row):
        arrivals.append(row)
        if len(arrivals) == kill_at and started.wait(60):
            children[0].send_signal(signal.SIGKILL)
        return 0.0

    with bench.vendor(latency).running(bench.port):
        children.append(bench.forks.start(tmp_path, **by_run_task(bench, tmp_path / "run")))
        started.set()
        assert children[0].wait() == -signal.SIGKILL
    assert answered(tmp_path / "run") < kill_at
    assert_resumable(bench, tmp_path / "run")


@pytest.mark.parametrize("point", ["nothing of ours", "lock", "facts", "some line", "reviews", "HTML report"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_any_file_is_resumed(bench, tmp_path, number, point):
    """SIGINT or SIGTERM at any file of `k2-verifier eval`: exit code 3, no traceback, resumable."""
    run = tmp_path / "run"
    with bench.vendor().running(bench.port):
        code, child = bench.forks.run(
            tmp_path, **by_command(bench, run), point=replace(POINTS[point], number=number)
        )
    assert code == 3, child.stderr
    assert_told_as_interrupted(child, run)
    assert_resumable(bench, run)


def assert_told_as_interrupted(child, run):
    """Look at what an interrupted command printed."""
    if not (run / "k2_verifier").exists():
        assert child.stderr.splitlines()[-1] == "k2-verifier: interrupted"
        return
    assert f"interrupted; what was answered is kept: go on with --use-cache {run}" in child.stderr
    assert "Traceback" not in child.stderr
    if not list(run.rglob("run.json")):
        assert child.stdout == ""
        return
    count = answered(run)
    missing = len(ROWS) - count
    assert f"Requests: {len(ROWS)} total, {count} completed, 0 failed, {missing} missing" in child.stdout
    assert list(run.glob("reports/*/k2_verifier/*.html"))
    complete = stored(run).facts.complete
    assert ("The run was interrupted" in child.stdout) is not complete
    assert ("INCOMPLETE" in child.stdout) is (missing > 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_does_not_wait_for_stalled_answers(bench, tmp_path, number):
    """With eight requests stalled at the vendor, for an hour, the command ends before them, with exit code 3, however often it is told to."""
    run = tmp_path / "run"
    stalled = threading.Semaphore(0)

    def latency(row):
        if row < len(ROWS) - 8:
            return 0.0
        stalled.release()
        return HOUR

    with bench.vendor(latency).running(bench.port):
        child = bench.forks.start(tmp_path, **by_command(bench, run))
        for _ in range(8):
            assert stalled.acquire(timeout=60)
        for _ in range(3):
            child.send_signal(number)
        assert child.wait() == 3
    assert answered(run) == len(ROWS) - 8
    assert_told_as_interrupted(child, run)
    assert_resumable(bench, run)


def test_a_rerun_may_be_killed_too(bench, tmp_path):
    """Killed in the middle of a line, killed again there in the rerun: each rerun sends what is left."""
    run = tmp_path / "run"
    half = Point("write", ANSWERS, 10)
    with bench.vendor().running(bench.port):
        bench.forks.run(tmp_path, **by_run_task(bench, run), point=half)
    assert answered(run) == 9
    second = by_run_task(bench, run, use_cache=str(run))
    with bench.vendor().running(bench.port):
        code, _ = bench.forks.run(tmp_path, **second, point=half)
    assert code == -signal.SIGKILL
    assert answered(run) == 18
    assert_resumable(bench, run)


REPLACING = {
    "earlier facts": Point("rename", "/run.json"),
    "earlier answers": Point("rename", ".earlier"),
    "cases": POINTS["cases"],
    "facts": Point("rename", "/run.json", 2),
    "first line": POINTS["first line"],
}


@pytest.mark.parametrize("point", REPLACING)
def test_a_new_run_killed_in_a_used_directory_mixes_nothing(bench, tmp_path, point):
    """A new run that dies about its first answer: what is reported is the earlier run, or either as incomplete."""
    run = tmp_path / "run"
    with bench.vendor().running(bench.port):
        assert bench.forks.run(tmp_path, **by_run_task(bench, run, limit=5))[0] == 0
    with bench.vendor().running(bench.port):
        code, _ = bench.forks.run(tmp_path, **by_run_task(bench, run), point=REPLACING[point])
    assert code == -signal.SIGKILL
    facts, count = stored(run).facts, answered(run)
    assert facts.complete is (point == "earlier facts")
    if facts.complete:
        assert (facts.planned, count) == (5, 5)
    elif facts.planned == 5:
        assert count in (0, 5)
    else:
        assert facts.planned == len(ROWS) > count
    assert bench.go_on(run) == len(ROWS) - count
    assert judged(run) == judged(bench.run)


def test_a_killed_extension_is_resumed(bench, tmp_path):
    """A `--limit` run that is extended by `--rerun-review` and killed meanwhile goes on by the same command."""
    run = tmp_path / "run"
    longer = by_run_task(bench, run, use_cache=str(run), rerun_review=True)
    with bench.vendor().running(bench.port):
        assert bench.forks.run(tmp_path, **by_run_task(bench, run, limit=5))[0] == 0
    with bench.vendor().running(bench.port):
        code, _ = bench.forks.run(tmp_path, **longer, point=Point("write", ANSWERS, 10))
    assert code == -signal.SIGKILL
    assert answered(run) == 14
    assert_partial_report(run)
    count = answered(run)
    assert bench.go_on(run, rerun_review=True) == len(ROWS) - count
    bench.assert_equal(run)


def test_the_second_of_two_runs_ends_with_an_error(bench, tmp_path):
    """While one process runs, another in its directory sends nothing, changes nothing and says why."""
    run = tmp_path / "run"
    inside, go_on = threading.Event(), threading.Event()

    def latency(row):
        if answered(run) >= 5:
            inside.set()
            assert go_on.wait(60)
        return 0.0

    vendor = bench.vendor(latency)
    with vendor.running(bench.port):
        first = bench.forks.start(tmp_path, **by_run_task(bench, run))
        try:
            assert inside.wait(60)
            before = (run / "configs" / "task_config.yaml").read_bytes()
            for more in ([], ["--use-cache", str(run)]):
                other = by_command(bench, run, "--limit", "3", *more)
                code, second = bench.forks.run(tmp_path, **other, name="second")
                assert code == 2
                assert second.stderr.splitlines()[-1] == (
                    f"k2-verifier: error: {run}: another run is writing here; "
                    "wait for it, or give another --work-dir"
                )
                assert (run / "configs" / "task_config.yaml").read_bytes() == before
        finally:
            go_on.set()
        assert first.wait() == 0
    assert len(vendor.requests) == len(ROWS)
    bench.assert_equal(run)


def test_an_interrupt_while_the_pool_starts_stops_it(monkeypatch):
    """An interrupt that comes while the pool's thread is being started ends the work, too."""
    started = threading.Event()
    worked = []

    def start(thread, start=threading.Thread.start):
        start(thread)
        started.wait(60)
        raise KeyboardInterrupt

    async def work(item):
        started.set()
        await asyncio.sleep(HOUR)
        worked.append(item)

    monkeypatch.setattr(threading.Thread, "start", start)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_pool([1, 2], work, concurrency=2, context=contextlib.nullcontext())
    assert worked == []
    for thread in threading.enumerate():
        if thread.name == "k2-verifier-pool":
            thread.join(60)
    assert threading.active_count() <= before
