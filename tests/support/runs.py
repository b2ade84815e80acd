"""Runs of stock EvalScope against loopback servers, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from evalscope import TaskConfig, run_task
from evalscope.report import Report
from support.quick_page import write_page

from k2_verifier_adapter.data import bundled_rows_path
from k2_verifier_adapter.formats.runs import StoredRun, choose_run, read_run

MODEL = "kimi"
KEY = "sk-test-0123456789"

EVALSCOPES_WARNINGS = pytest.mark.filterwarnings(
    # EvalScope 1.14.1's report table passes `inplace` to methods of pandas 3's DataFrame.
    "ignore:The inplace keyword in DataFrame",
)


def bundled_rows(limit: int | None = None) -> list[dict[str, Any]]:
    """Give the bundled rows."""
    lines = bundled_rows_path().read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:limit]]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines, lone surrogates as escapes."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep loopback requests away from any proxy."""
    return {**environment, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def settings(url: str, run: Path, rows: Path | str = "bundled", **changes: Any) -> dict[str, Any]:
    """Give the settings of a run: quick retries, everything else EvalScope's default."""
    dataset_args = {"local_path": str(rows), **changes.pop("dataset_args", {})}
    return {
        "model": MODEL,
        "api_url": url,
        "api_key": KEY,
        "eval_type": "openai_api",
        "datasets": ["k2_verifier"],
        "dataset_args": {"k2_verifier": dataset_args},
        "generation_config": {"retries": 2, "retry_interval": 0, **changes.pop("generation_config", {})},
        "work_dir": str(run),
        "no_timestamp": True,
        "eval_batch_size": 8,
        **changes,
    }


def evaluate(
    url: str, run: Path, rows: Path | str = "bundled", *, page: bool = False, **changes: Any
) -> Report:
    """Run in this process; give EvalScope's report.

    Without `page`, EvalScope's HTML page is not drawn, see `quick_page`.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not page:
            patch.setattr("evalscope.report.gen_html_report_file", write_page)
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        results = run_task(TaskConfig(**settings(url, run, rows, **changes)))
    report = results["k2_verifier"]
    assert isinstance(report, Report)
    return report


def resume(url: str, run: Path, rows: Path | str = "bundled", **changes: Any) -> Report:
    """Go on with a run."""
    return evaluate(url, run, rows, use_cache=str(run), **changes)


def evalscope_eval(
    url: str, run: Path, rows: Path | str = "bundled", *flags: str, **changes: Any
) -> subprocess.CompletedProcess[str]:
    """Run the stock command in a subprocess."""
    chosen = settings(url, run, rows, **changes)
    command = [sys.executable, "-m", "evalscope.cli.cli", "eval"]
    for name in ("model", "api_url", "api_key", "eval_type", "eval_batch_size", "work_dir"):
        command += [f"--{name.replace('_', '-')}", str(chosen[name])]
    command += ["--datasets", *chosen["datasets"], "--no-timestamp"]
    for name in ("dataset_args", "generation_config"):
        command += [f"--{name.replace('_', '-')}", json.dumps(chosen[name])]
    return subprocess.run(
        [*command, *flags],
        env=without_proxy(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def stored(run: Path) -> StoredRun:
    """Read back what a run left."""
    return read_run(choose_run(run))


def report_of(run: Path) -> Report:
    """Read EvalScope's report with EvalScope's own class."""
    return Report.from_json(str(run / "reports" / MODEL / "k2_verifier.json"))


def values_of(report: Report) -> dict[str, tuple[float, int]]:
    """Give value and denominator of every metric, by name."""
    values = {}
    for metric in report.metrics:
        ((subset,),) = [category.subsets for category in metric.categories]
        assert (metric.score, metric.num) == (subset.score, subset.num)
        values[metric.identity.name] = (metric.score, metric.num)
    return values


def metadata_of(report: Report, metric: str) -> dict[str, Any]:
    """Give the metadata of a metric's only subset."""
    (found,) = [item for item in report.metrics if item.identity.name == metric]
    metadata = found.categories[0].subsets[0].metadata
    assert metadata is not None
    return metadata


def judged(run: Path) -> dict[tuple[int, int], Any]:
    """Give the stored judgement of every case and repeat, out of EvalScope's review file."""
    (path,) = (run / "reviews" / MODEL).glob("k2_verifier_*.jsonl")
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        score = json.loads(line)["sample_score"]
        judgement = score["score"]["metadata"]["k2_verifier"]
        found[judgement["case"], score["generation_index"]] = judgement
    return found


@contextlib.contextmanager
def raises_cleanly(kind: type[BaseException], *expected: str):
    """Expect an error of this very type whose one-line message holds all the texts."""
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message
    for text in expected:
        assert text in message, message
