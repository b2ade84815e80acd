"""Many streams at once: does every answer arrive, and is every one judged as it was sent?

    python benchmarks/load.py                       2,000 cases over 256 streams
    python benchmarks/load.py --profile broken      the same with faults of every kind mixed in

A simulated vendor in a process of its own streams its answers after 0.5 to 2 s; the adapter asks through
EvalScope's `run_task`. The vendor keeps a ledger of what it answered. The run holds the load if what the
report says is what the ledger says: every request completed or failed as the vendor made it, every
decision and every validity the same, none lost and none invented.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workload import generate_rows

SEED = 20_25_11
MODEL = "kimi-k2-simulated"
PIECES = 20
SHORTEST_S, LONGEST_S = 0.5, 2.0


class Gauge:
    """Chooses how long an answer takes, and counts how many are waited for at the same time."""

    def __init__(self) -> None:
        self._rng = random.Random(SEED)
        self._now = 0
        self.most = 0

    def __call__(self, _: int) -> float:
        """Give the seconds until an answer starts."""
        seconds = self._rng.uniform(SHORTEST_S, LONGEST_S)
        self._now += 1
        self.most = max(self.most, self._now)
        asyncio.get_running_loop().call_later(seconds, self._ended)
        return seconds

    def _ended(self) -> None:
        self._now -= 1


def serve(rows: Path, profile: str) -> None:
    """Serve until standard input ends; then print the ledger's totals."""
    from k2_verifier_adapter.simulator import PROFILES, SimulatedVendor

    gauge = Gauge()
    with rows.open(encoding="utf-8") as file:
        vendor = SimulatedVendor(
            map(json.loads, file),
            PROFILES[profile],
            seed=SEED,
            model=MODEL,
            latency=gauge,
            stream_chunks=PIECES,
            write_events_singly=True,
        )
    with vendor.running() as endpoint:
        print(endpoint.url, flush=True)
        sys.stdin.read()
    print(json.dumps({"most_at_once": gauge.most, **asdict(vendor.truth.totals())}))


@contextmanager
def _vendor(rows: Path, profile: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, __file__, "--serve", str(rows), "--profile", profile]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process


def hold(rows: int, concurrency: int, profile: str) -> dict[str, Any]:
    """Run, and compare the report with the ledger."""
    from evalscope.config import TaskConfig
    from evalscope.run import run_task

    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.stored import summary_of

    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="k2-load-") as name:
        folder = Path(name)
        path = folder / "rows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in generate_rows(rows, SEED):
                file.write(json.dumps(row) + "\n")
        with _vendor(path, profile) as (url, process):
            started = time.perf_counter()
            run_task(
                TaskConfig(
                    model=MODEL,
                    api_url=url,
                    api_key="load",
                    eval_type="openai_api",
                    datasets=["k2_verifier"],
                    dataset_args={"k2_verifier": {"local_path": str(path)}},
                    generation_config={"retries": 3, "retry_interval": 1},
                    eval_batch_size=concurrency,
                    work_dir=str(folder / "run"),
                    no_timestamp=True,
                )
            )
            wall_s = time.perf_counter() - started
            truth = json.loads(process.communicate()[0])
        summary = summary_of(read_run(choose_run(folder / "run")))
    counts = summary.tally.counts
    reported = {
        "completed": counts.completed,
        "failed": summary.tally.failed,
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
        "tn": counts.tn,
        "count_successful_tool_call": counts.successful,
    }
    return {
        "rows": rows,
        "concurrency": concurrency,
        "profile": profile,
        "wall_s": round(wall_s, 1),
        "most_at_once": truth["most_at_once"],
        "reported": reported,
        "sent": {name: truth[name] for name in reported},
        "held": reported == {name: truth[name] for name in reported},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--profile", default="official")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.profile)
        return 0
    result = hold(options.rows, options.concurrency, options.profile)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    lost = options.rows - result["reported"]["completed"] - result["reported"]["failed"]
    print(
        f"{options.rows:,} cases, {result['most_at_once']} streams at once at most, {result['wall_s']} s: "
        f"{result['reported']['completed']:,} completed, {result['reported']['failed']} failed, {lost} lost; "
        f"the report {'equals' if result['held'] else 'DIFFERS FROM'} the vendor's ledger"
    )
    return 0 if result["held"] else 1


if __name__ == "__main__":
    sys.exit(main())
