"""Runs that are cut short and gone on with, and the undisturbed one that they are held against."""

from __future__ import annotations

import gc
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.runs import (
    KEY,
    MODEL,
    bundled_rows,
    evaluate,
    judged,
    report_of,
    resume,
    settings,
    stored,
    values_of,
    write_rows,
)
from support.zygote import Zygote

from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.json_report import report_as_json
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor

ROWS = bundled_rows(24)

Start = Callable[..., dict[str, Any]]
"""How a run is started: `by_run_task` or `by_command`."""


class Bench:
    """A port that one vendor after the other serves at, rows, and an undisturbed run over them.

    EvalScope's cache identity holds the URL, and a vendor's faults depend on what it was asked before.

    Attributes:
        zygote: Where the processes come from that run and are disturbed.
    """

    def __init__(self, folder: Path) -> None:
        """Choose the port, and run undisturbed."""
        self.folder = folder
        self.zygote = Zygote()
        self._steps: dict[Start, Steps] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.rows = write_rows(self.folder / "rows.jsonl", ROWS)
        self.run = self.folder / "undisturbed"
        with self.vendor().running(self.port):
            evaluate(self.url, self.run, self.rows)
        # EvalScope collects garbage after every run; what is loaded by now is none.
        gc.freeze()

    @property
    def url(self) -> str:
        """Where the vendors serve."""
        return f"http://127.0.0.1:{self.port}/v1"

    def vendor(self, latency: Callable[[int], float] | None = None) -> SimulatedVendor:
        """Make a vendor that gives every row the answer that it got in the undisturbed run."""
        return SimulatedVendor(ROWS, PROFILES["noisy"], seed=1, latency=latency, record_requests=True)

    def flags(self, run: Path, *more: str) -> list[str]:
        """Give the command line of `k2-verifier` for a run like the undisturbed one."""
        flags = ["eval", "--model", MODEL, "--api-url", self.url, "--api-key", KEY]
        flags += ["--dataset-args", json.dumps({"k2_verifier": {"local_path": str(self.rows)}})]
        flags += ["--generation-config", json.dumps({"retries": 2, "retry_interval": 0})]
        return [*flags, "--eval-batch-size", "8", "--work-dir", str(run), "--no-timestamp", *more]

    def go_on(self, run: Path, **changes: Any) -> int:
        """Finish a run that was cut short; give the number of requests that it took."""
        vendor = self.vendor()
        with vendor.running(self.port):
            report = resume(self.url, run, self.rows, **changes)
        assert report.execution_summary.succeeded == len(ROWS) * changes.get("repeats", 1)
        return len(vendor.requests)

    def steps(self, start: Start) -> Steps:
        """Say what an undisturbed run in a process of its own does to files."""
        if start not in self._steps:
            folder = self.folder / start.__name__
            folder.mkdir()
            with self.vendor().running(self.port):
                code, child = self.zygote.run(folder, **start(self, folder / "run"), trace=folder / "trace")
            assert code == 0, child.stderr
            self.assert_equal(folder / "run")
            self._steps[start] = Steps((folder / "trace").read_text().splitlines())
            assert len(self._steps[start].halves) == len(ROWS)
        return self._steps[start]

    def close(self) -> None:
        """End the processes."""
        self.zygote.close()
        gc.unfreeze()

    def assert_equal(self, run: Path) -> None:
        """Hold a run against the undisturbed one: every case, every number, nothing left behind."""
        assert judged(run) == judged(self.run)
        assert values_of(report_of(run)) == values_of(report_of(self.run))
        assert report(run) == report(self.run)
        assert files(run) == files(self.run)


def by_run_task(bench: Bench, run: Path, **changes: Any) -> dict[str, Any]:
    """Start the stock `run_task`."""
    return {"settings": settings(bench.url, run, bench.rows, **changes)}


def by_command(bench: Bench, run: Path, *more: str) -> dict[str, Any]:
    """Start `k2-verifier eval`."""
    return {"arguments": bench.flags(run, *more)}


class Steps:
    """Everything that a run does to files, in order, counted from 1; what comes after EvalScope's is left out.

    Attributes:
        lines: What each step does.
        start: The steps before the first answer.
        halves: The middle of each line with an answer.
        end: The steps after the last answer.
    """

    def __init__(self, lines: list[str]) -> None:
        """Tell the steps apart."""
        self.lines = lines
        self.halves = [number for number, line in enumerate(lines, start=1) if line.startswith("write")]
        self.start = range(1, self.halves[0])
        self.end = range(self.halves[-1] + 1, self.find("report.html") + 1)

    def choose(self, stage: str, seed: int) -> int:
        """Choose a step of a stage at random."""
        return random.Random(seed).choice(getattr(self, stage))

    def find(self, text: str) -> int:
        """Give the first step that names a file so."""
        return next(number for number, line in enumerate(self.lines, start=1) if text in line)


def files(run: Path) -> list[str]:
    """Name all files of a run, but for what EvalScope leaves behind where it is killed."""
    found = (path.relative_to(run) for path in run.rglob("*") if path.is_file())
    return sorted(os.fspath(path) for path in found if not path.parent.name.startswith(".task-config-"))


def report(run: Path) -> dict[str, Any]:
    """Give the JSON report without its times."""
    found = report_as_json(summary_of(stored(run)))
    del found["latency_s"], found["provenance"]["started_at"], found["provenance"]["finished_at"]
    return found


def predictions(run: Path) -> Path:
    """Name the file with the answers."""
    return run / "predictions" / MODEL / "k2_verifier_k2_thinking.jsonl"


def answered(run: Path) -> int:
    """Count the answers on disk: the lines that came to their end."""
    path = predictions(run)
    return path.read_bytes().count(b"\n") if path.exists() else 0
