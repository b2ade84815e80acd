"""A place in which the snippets of the documents work: a vendor on loopback, runs, logs and rows to point at."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from documents import ROOT
from evalscope.cli.cli import run_cmd
from support.runs import bundled_rows, evaluate, write_rows

from k2_verifier_adapter.cli import main
from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.evalscope_plugin import loading
from k2_verifier_adapter.formats.upstream import RESULTS_MEMBERS, SAMPLES_MEMBER
from k2_verifier_adapter.simulator import SimulatedVendor, profile_named

VENDORS = ("https://api.example.com/v1", "https://api.moonshot.ai/v1", "http://127.0.0.1:8765/v1")
"""The endpoints that documents name; the simulated vendor answers for all of them."""

LOGS = (
    *RESULTS_MEMBERS.values(),
    *("official.jsonl", "official_results.jsonl", "official2.jsonl", "logs/results.jsonl"),
)
"""Files that hold what `results.jsonl` holds."""

_EVERY = 20


def few_rows() -> list[dict]:
    """Give every twentieth of the bundled rows, without the mark that would keep them from a verdict."""
    return [{**row, "synthetic": False} for row in bundled_rows()[::_EVERY]]


def call_k2_verifier(arguments: Sequence[str]) -> tuple[int, bytes]:
    """Run `k2-verifier` in this process; give exit code and standard output."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(output):
        try:
            main(list(arguments), prog_name="k2-verifier")
        except SystemExit as ended:
            code = ended.code
    output.flush()
    return int(code or 0), output.buffer.getvalue()


def call_evalscope(arguments: Sequence[str]) -> tuple[int, bytes]:
    """Run `evalscope` in this process; give exit code and standard output."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        # Under its own name, what it says last would wait for the end of this process.
        patch.setattr(sys, "argv", ["docs", *arguments])
        run_cmd()
    return 0, output.getvalue().encode()


@contextlib.contextmanager
def hub_out_of_reach() -> Iterator[None]:
    """Let the hub hold the few rows, and nothing else be downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_load_from_hub", lambda _adapter, _subset: few_rows())
        yield


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[str]:
    """Fill a folder with what the snippets name, and serve the vendor; give its URL."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    rows = write_rows(folder / "k2_thinking_test.jsonl", few_rows())
    noisy = SimulatedVendor(bundled_rows(), profile_named("noisy"), seed=1)
    official = SimulatedVendor(
        bundled_rows(), profile_named("official"), by_rules=model_profiles()["k2_thinking"]
    )
    with noisy.running() as endpoint:
        evaluate(endpoint.url, folder / "outputs" / "OTHER_RUN", rows)
    with official.running() as endpoint:
        evaluate(endpoint.url, folder / "outputs" / "RUN", rows)
        shutil.copytree(folder / "outputs" / "RUN", folder / "RUN")
        _write_logs(folder)
        yield endpoint.url


def _write_logs(folder: Path) -> None:
    results = folder / "results.jsonl"
    for run, log in (("RUN", results), ("OTHER_RUN", folder / "official3.jsonl")):
        code, _ = call_k2_verifier(["export", str(folder / "outputs" / run), "--output", str(log)])
        assert code == 0
    for name in LOGS:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(results, folder / name)
    requests = [json.loads(line)["request"] for line in results.read_text(encoding="utf-8").splitlines()]
    write_rows(folder / SAMPLES_MEMBER, requests)
    with tarfile.open(folder / "tool-calls.tar.gz", "w:gz") as archive:
        for name in (SAMPLES_MEMBER, *RESULTS_MEMBERS.values()):
            archive.add(folder / name, name)
