"""A disk that is full, read-only or forbidden: one clear line, nothing paid for in vain, and it can be gone on with."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import threading
from dataclasses import replace

import pytest
from support.forks import Point
from support.resumed import ANSWERS, ROWS, Bench, answered, by_command, by_run_task, predictions, report
from support.runs import EVALSCOPES_WARNINGS, stored

from k2_verifier_adapter.errors import StorageError
from k2_verifier_adapter.formats.files import LineWriter, end_last_line

pytestmark = EVALSCOPES_WARNINGS

ADVICE = re.compile(
    r"k2-verifier: error: (?P<path>.+): cannot be written: (?P<why>[^;]+)"
    r"(; (?P<stored>\d+) answers? stored)?"
    r"(, (?P<lost>\d+) came and could not be stored, the requests in flight were given up)?"
    r"; (?P<remedy>.+)"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Rows, an undisturbed run over them, and where disturbed runs come from."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


def mount(folder, *options):
    """Mount a small disk in memory, where this is allowed."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=2m", *options]), "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"mounting is refused: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk):
    """Fill a disk to its last byte."""
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0


def told(child):
    """Give the parts of the one line that says what is wrong."""
    lines = child.stderr.splitlines()
    assert "Traceback" not in child.stderr, child.stderr
    assert "Logging error" not in child.stderr
    assert [line for line in lines if line.startswith("k2-verifier")] == lines[-1:]
    found = ADVICE.fullmatch(lines[-1])
    assert found, lines[-1]
    assert child.stdout == ""
    return found.groupdict()


def assert_kept(bench, run, said):
    """Hold what was said against what is there, go on, and hold the result against the undisturbed run."""
    content = predictions(run).read_bytes() if predictions(run).exists() else b""
    assert content.endswith(b"\n") or not content
    count = answered(run)
    assert int(said["stored"] or 0) == count
    if count:
        assert not stored(run).facts.complete
        assert report(run)["requests"]["completed"] == count
    assert not [path.name for path in run.rglob(".*.json*")]
    assert bench.go_on(run) == len(ROWS) - count
    bench.assert_equal(run)


def run_while_disk_fills(bench, tmp_path, start, *point):
    """Run on a disk that fills up right before something is done to a file; give exit code and child."""
    child = bench.forks.start(tmp_path, **start, point=replace(Point(*point), number=signal.SIGSTOP))
    assert child.wait() is None
    fill(tmp_path / "disk")
    child.send_signal(signal.SIGCONT)
    return child.wait(), child


@pytest.mark.parametrize("tracker", [[], ["--enable-progress-tracker"]], ids=["plain", "tracker"])
def test_a_disk_that_fills_up_in_the_middle_of_a_line(bench, tmp_path, disk, tracker):
    """No half line is left; the message says what is stored and what is lost; the rerun does the rest."""
    run = disk / "run"
    start = by_command(bench, run, *tracker)
    with bench.vendor().running(bench.port):
        code, child = run_while_disk_fills(bench, tmp_path, start, "write", ANSWERS, 12)
    assert code == 2
    said = told(child)
    assert said["path"] == str(predictions(run))
    assert said["why"] == os.strerror(errno.ENOSPC)
    assert int(said["stored"]) >= 9
    assert 1 <= int(said["lost"]) <= 8
    assert said["remedy"] == f"free space, then go on with --use-cache {run}"
    (disk / "ballast").unlink()
    (run / "progress.json").unlink(missing_ok=True)
    (run / "progress.json.tmp").unlink(missing_ok=True)
    assert_kept(bench, run, said)


FILES = {
    "EvalScope's log": ("eval_log.log", "{run}", 0, "free space, then go on with --use-cache {run}"),
    "EvalScope's settings": ("task_config.yaml", "{run}", 0, "free space, then go on with --use-cache {run}"),
    "the cases": (
        ".cases.jsonl",
        "{run}/k2_verifier/kimi/k2_thinking/cases.jsonl.gz",
        0,
        "nothing was sent; free space",
    ),
    "the facts": (
        ".run.json",
        "{run}/k2_verifier/kimi/k2_thinking/run.json",
        0,
        "nothing was sent; free space",
    ),
    "the reviews": (
        "reviews/kimi/.k2",
        "{run}/reviews/kimi/k2_verifier_k2_thinking.jsonl",
        24,
        "free space, then go on with --use-cache {run}",
    ),
    "EvalScope's report": (
        "reports/kimi/k2_verifier.json",
        "{run}",
        24,
        "free space, then go on with --use-cache {run}",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_disk_that_is_full_at_another_file(bench, tmp_path, disk, name):
    """Whichever file does not fit, ours or EvalScope's: one line names it, and no half of it is taken for whole."""
    text, path, count, remedy = FILES[name]
    run = disk / "run"
    vendor = bench.vendor()
    with vendor.running(bench.port):
        code, child = run_while_disk_fills(bench, tmp_path, by_command(bench, run), "open", text)
    assert code == 2
    assert len(vendor.requests) == count
    said = told(child)
    assert (said["path"], said["why"]) == (path.format(run=run), os.strerror(errno.ENOSPC))
    assert said["remedy"] == remedy.format(run=run)
    assert said["lost"] is None
    (disk / "ballast").unlink()
    if name == "EvalScope's report":
        # Every answer is stored and every file of ours is whole; only EvalScope's reports are missing.
        assert int(said["stored"]) == answered(run) == len(ROWS)
        assert bench.go_on(run) == 0
        bench.assert_equal(run)
    else:
        assert_kept(bench, run, said)


def test_evalscopes_page_is_not_the_result(bench, tmp_path, disk):
    """Where only EvalScope's HTML page does not fit, EvalScope logs that, and the result is reported."""
    run = disk / "run"
    with bench.vendor().running(bench.port):
        code, child = run_while_disk_fills(bench, tmp_path, by_command(bench, run), "open", "report.html")
    assert code == 0
    assert "24 completed, 0 failed, 0 missing" in child.stdout
    assert "Traceback" not in child.stderr
    (disk / "ballast").unlink()
    assert bench.go_on(run) == 0
    bench.assert_equal(run)


def test_an_interrupt_on_a_full_disk_is_an_interrupt(bench, tmp_path, disk):
    """Where the last facts of an interrupted run do not fit, it still ends with its report and exit code 3."""
    run = disk / "run"
    stalled = threading.Semaphore(0)

    def latency(row):
        if row < len(ROWS) - 8:
            return 0.0
        stalled.release()
        return 3600.0

    with bench.vendor(latency).running(bench.port):
        child = bench.forks.start(tmp_path, **by_command(bench, run))
        for _ in range(8):
            assert stalled.acquire(timeout=60)
        fill(disk)
        child.send_signal(signal.SIGINT)
        assert child.wait() == 3
    assert "Traceback" not in child.stderr
    assert "16 completed, 0 failed, 8 missing" in child.stdout
    assert "The run was interrupted" in child.stdout
    (disk / "ballast").unlink()
    assert_kept(bench, run, {"stored": 16})


def test_the_stock_call_ends_with_the_same_message(bench, tmp_path, disk):
    """Under the stock `run_task` the last line of the traceback is the message."""
    run = disk / "run"
    with bench.vendor().running(bench.port):
        code, child = run_while_disk_fills(bench, tmp_path, by_run_task(bench, run), "write", ANSWERS, 4)
    assert code == 1
    last = child.stderr.splitlines()[-1]
    assert last.startswith(
        f"k2_verifier_adapter.errors.StorageError: {predictions(run)}: cannot be written: "
    )
    assert last.endswith(f"; free space, then go on with --use-cache {run}")
    (disk / "ballast").unlink()
    assert_kept(bench, run, {"stored": answered(run)})


def test_a_file_that_may_not_grow(bench, tmp_path):
    """A limit of the size of files (`ulimit -f`) is met like a full disk; this needs no disk of its own."""
    run = tmp_path / "run"
    # Twice, for the answers to become larger than any file before them.
    start = by_command(bench, run, "--repeats", "2")
    largest = (bench.run / "k2_verifier" / "kimi" / "k2_thinking" / "cases.jsonl.gz").stat().st_size
    with bench.vendor().running(bench.port):
        code, child = bench.forks.run(tmp_path, **start, file_size=largest + 1024)
    assert code == 2
    said = told(child)
    assert (said["path"], said["why"]) == (str(predictions(run)), os.strerror(errno.EFBIG))
    count = answered(run)
    assert predictions(run).read_bytes().endswith(b"\n")
    assert int(said["stored"]) == count == report(run)["requests"]["completed"]
    assert 0 < count < 2 * len(ROWS)
    assert int(said["lost"]) >= 1
    assert bench.go_on(run, repeats=2) == 2 * len(ROWS) - count


def forbidden(folder):
    """A directory without the permission to write."""
    folder.mkdir(mode=0o555)
    return folder


def read_only(folder):
    """A disk that is mounted for reading only."""
    folder.mkdir()
    mount(folder, "ro")
    return folder


def a_file(folder):
    """No directory at all."""
    folder.touch()
    return folder


PLACES = {
    "forbidden": (forbidden, "", errno.EACCES),
    "below forbidden": (forbidden, "a/run", errno.EACCES),
    "read-only": (read_only, "run", errno.EROFS),
    "a file": (a_file, "", errno.ENOTDIR),
    "below a file": (a_file, "a/run", errno.ENOTDIR),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_work_directory_that_cannot_be_written(bench, tmp_path, name):
    """The run ends with one line and exit code 2 before anything is sent."""
    make, below, number = PLACES[name]
    place = make(tmp_path / "place")
    vendor = bench.vendor()
    try:
        with vendor.running(bench.port):
            code, child = bench.forks.run(
                tmp_path, **by_command(bench, place / below), unprivileged=make is forbidden
            )
    finally:
        if make is read_only:
            subprocess.run(["umount", "-l", str(place)], check=True)
    assert code == 2
    said = told(child)
    assert said["path"].startswith(str(place))
    assert said["why"] == os.strerror(number)
    assert said["remedy"].startswith("make it writable, or give another --work-dir")
    assert vendor.requests == []


def test_a_run_that_became_read_only(bench, tmp_path):
    """A run without the permission to write is reported on as ever; going on with it is refused, nothing sent."""
    run = tmp_path / "run"
    with bench.vendor().running(bench.port):
        bench.forks.run(tmp_path, **by_command(bench, run), point=Point("write", ANSWERS, 10))
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    try:
        for path in run.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        run.chmod(0o555)
        vendor = bench.vendor()
        with vendor.running(bench.port):
            more = by_command(bench, run, "--use-cache", str(run))
            code, child = bench.forks.run(tmp_path, **more, unprivileged=True)
        assert code == 2
        assert told(child)["why"] == os.strerror(errno.EACCES)
        assert vendor.requests == []
        code, child = bench.forks.run(tmp_path, arguments=["report", str(run)], unprivileged=True)
        assert code == 3
        assert "9 completed, 0 failed, 15 missing" in child.stdout
    finally:
        for path in folders:
            path.chmod(0o755)


def test_an_answers_file_that_cannot_be_written_costs_nothing(bench, tmp_path):
    """Where only EvalScope's directory of answers is forbidden, that is found before anything is sent."""
    run = tmp_path / "run"
    predictions(run).parent.parent.mkdir(parents=True)
    forbidden(predictions(run).parent)
    vendor = bench.vendor()
    with vendor.running(bench.port):
        code, child = bench.forks.run(tmp_path, **by_command(bench, run), unprivileged=True)
    assert code == 2
    said = told(child)
    assert (said["path"], said["why"]) == (str(predictions(run)), os.strerror(errno.EACCES))
    assert said["remedy"] == "nothing was sent; make it writable, or give another --work-dir"
    assert vendor.requests == []


class TestLines:
    """`LineWriter` and `end_last_line`."""

    def test_a_line_that_does_not_fit_leaves_nothing(self, tmp_path, monkeypatch):
        """A line is cut off again, at the latest before the next one, if the disk refuses even that."""
        path = tmp_path / "a" / "lines"
        writer = LineWriter(path)
        writer.write({"a": 1})
        write, cut = os.write, os.ftruncate

        def refuse(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def fills_up(file, data):
            monkeypatch.setattr(os, "write", refuse)
            return write(file, data[:4])

        for can_cut in (True, False):
            monkeypatch.setattr(os, "write", fills_up)
            monkeypatch.setattr(os, "ftruncate", cut if can_cut else refuse)
            with pytest.raises(StorageError, match=r"lines: cannot be written: No space left"):
                writer.write({"b": 2})
            assert path.read_bytes() == (b'{"a": 1}\n' if can_cut else b'{"a": 1}\n{"b"')
        monkeypatch.undo()
        writer.write({"c": "\ud800"})
        writer.sync()
        writer.close()
        assert path.read_bytes() == b'{"a": 1}\n{"c": "\\ud800"}\n'
        LineWriter(path, new=True).close()
        assert path.read_bytes() == b""

    @pytest.mark.parametrize("before", [b"", b'{"a": 1}\n'])
    @pytest.mark.parametrize("size", [1, 1 << 16, 1 << 18])
    def test_a_cut_off_line_is_removed_and_a_whole_one_ended(self, tmp_path, before, size):
        """What has no line break at the end is removed, however long, unless it is a whole object."""
        path = tmp_path / "lines"
        whole = b'{"b": "' + b"x" * size + b'"}'
        for content, expected in (
            (before, before),
            (before + whole[:-1], before),
            (before + whole[: size // 2 + 1], before),
            (before + whole, before + whole + b"\n"),
            (before + whole + b"\n", before + whole + b"\n"),
        ):
            path.write_bytes(content)
            end_last_line(path)
            assert path.read_bytes() == expected
        path.unlink()
        end_last_line(path)
        assert not path.exists()
