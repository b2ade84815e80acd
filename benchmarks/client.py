"""One measured run of `run_task`, in a process of its own.

A first run over a few rows brings in everything that EvalScope imports late, and its dataset cache;
neither is measured. Which side runs is decided by the environment (`K2_VERIFIER_ADAPTER_DISABLE`).
Run as a script by `performance.py`; the result is the last line of standard output.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

BENCHMARK = "k2_verifier"
WARM_UP_ROWS = 8


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run twice, small and in full; measure the second."""
    from evalscope.config import TaskConfig
    from evalscope.run import run_task

    def run(name: str, limit: int) -> Path:
        work_dir = options.work_dir / name
        run_task(
            TaskConfig(
                model="k2-benchmark",
                api_url=options.api_url,
                api_key="sk-4f1c9a7be02d",
                eval_type="openai_api",
                datasets=[BENCHMARK],
                dataset_args={BENCHMARK: {"local_path": str(options.rows)}},
                generation_config={"stream": options.stream, "temperature": 0.6, "max_tokens": 4096},
                eval_batch_size=options.concurrency,
                limit=limit,
                work_dir=str(work_dir),
                no_timestamp=True,
            )
        )
        return work_dir

    run("warm-up", WARM_UP_ROWS)
    gc.collect()
    imported = _peak_rss_mb()
    cpu, started = _cpu_s(), time.perf_counter()
    work_dir = run("measured", options.limit)
    wall_s, cpu_s = time.perf_counter() - started, _cpu_s() - cpu
    return {
        "wall_s": round(wall_s, 4),
        "cpu_s": round(cpu_s, 4),
        "peak_rss_mb": round(_peak_rss_mb(), 1),
        "peak_rss_before_mb": round(imported, 1),
        "files_bytes": _sizes(work_dir),
        **_outcome(work_dir),
    }


def _outcome(work_dir: Path) -> dict[str, Any]:
    """Say what the run claims to have done, so that the caller can refuse a half-done one."""
    from evalscope.api.registry import BENCHMARK_REGISTRY

    report = json.loads(next(work_dir.glob(f"reports/*/{BENCHMARK}.json")).read_bytes())
    summary = report["execution_summary"]
    calls = None
    for metric in report["metrics"]:
        if metric["identity"]["name"] == "count_finish_reason_tool_calls":
            calls = metric["categories"][0]["subsets"][0]["score"]
    return {
        "served_by": BENCHMARK_REGISTRY[BENCHMARK].data_adapter.__module__.partition(".")[0],
        "succeeded": summary["succeeded"],
        "calls": calls,
    }


def _sizes(work_dir: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for path in work_dir.rglob("*"):
        if path.is_file():
            top = path.relative_to(work_dir).parts[0]
            sizes[top] = sizes.get(top, 0) + path.stat().st_size
    return dict(sorted(sizes.items()))


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_rss_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api-url", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--work-dir", type=Path, required=True)
    print("\n" + json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
