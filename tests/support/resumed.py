"""Runs that are cut short and gone on with, and the undisturbed one that they are held against."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.forks import ForkServer
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

from k2_verifier_adapter.offline.stored import summary_of
from k2_verifier_adapter.reports.json_report import report_as_json
from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor

ROWS = bundled_rows(24)

ANSWERS = f"predictions/{MODEL}/k2_verifier_k2_thinking.jsonl"
"""The file with the answers, in the run directory."""


class Bench:
    """A port that one vendor after the other serves at, rows, and an undisturbed run over them.

    EvalScope's cache identity holds the URL, and a vendor's faults depend on what it was asked before.

    Attributes:
        forks: Where the processes come from that run and are disturbed.
    """

    def __init__(self, folder: Path) -> None:
        """Choose the port, and run undisturbed."""
        self.folder = folder
        self.forks = ForkServer()
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

    def close(self) -> None:
        """End the processes."""
        self.forks.close()
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
    return run / ANSWERS


def answered(run: Path) -> int:
    """Count the answers on disk: the lines that came to their end."""
    path = predictions(run)
    return path.read_bytes().count(b"\n") if path.exists() else 0
