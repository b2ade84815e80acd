"""`k2-verifier demo`: a simulated official API, two simulated vendors, stock EvalScope, two verdicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from k2_verifier_adapter.cli.output import colour_wanted, columns, page_of
from k2_verifier_adapter.cli.simulate import PROFILE_HELP, profile_of, vendor_rows

if TYPE_CHECKING:
    from k2_verifier_adapter.simulator import Profile

SUBSET = "k2_thinking"
SIMULATED = "simulated"
"""Name of the subset, and the beginning of each model's name: it stands in all that the demo leaves."""

_OFFICIAL_RUNS = (1, 2)
"""Their seeds: the official API does not always decide alike, and neither does the faithful vendor."""
_FAITHFUL_SEED = 5
_UNDECIDED = {"missed_call": 0.01, "extra_call": 0.01}
_LOG_TAIL = 15
_TICK_S = 0.5
_RETRIES = {"retries": 2, "retry_interval": 1}
"""The simulated vendor's faults are no overload that would pass: EvalScope's pauses from 10 s up would
only make the demo slow."""

_PARAMETERS = {"gate": "strict", "min_coverage": 0.95, "profile": SUBSET}
"""Some requests to the broken vendor fail for good, and are not to keep it from its verdict."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A vendor that is judged: its name, and where its run is written."""

    model: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "demo.log"


@click.command(short_help="Simulated vendors against a simulated official API: two verdicts.")
@click.option(
    "--profile",
    "profile_name",
    default="broken",
    show_default=True,
    help=f"Of the second vendor. {PROFILE_HELP}",
)
@click.option("--limit", type=click.IntRange(min=1), help="Number of rows; all by default.")
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the runs are written.  [default: outputs/k2-verifier-demo/TIME]",
)
def demo(*, profile_name: str, limit: int | None, work_dir: Path | None) -> None:
    """Show the whole chain on this machine, to two verdicts: nothing is downloaded, no key is needed.

    Asks a simulated official API the bundled synthetic prompts and makes rows of its answers, as
    `dataset build` does; runs the stock `evalscope eval` against a faithful vendor and a broken one, both
    simulated; and judges them.

    \b
    k2-verifier demo
    k2-verifier demo --profile leaky-parser
    """
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.stored import summary_of
    from k2_verifier_adapter.reports.brief import last_line, render_brief
    from k2_verifier_adapter.simulator import SimulatedVendor, profile_with

    profile = profile_of(profile_name, ())
    run = _unused_directory(work_dir)
    _require_start_up_hook()
    _make(run)
    faithful = profile_with(_UNDECIDED)
    vendors = {"faithful": faithful, profile.name: profile}
    rows = vendor_rows("bundled", SUBSET)[:limit]
    started = time.monotonic()
    click.echo("SIMULATED: all endpoints are on this machine; no real vendor is asked or judged.\n")
    _say("asking the simulated official API twice, for the rows to judge by")
    _build_rows(run, rows, faithful)
    runs = [_Run(f"{SIMULATED}-{name}", run / name) for name in vendors]
    with ExitStack() as serving:
        urls = []
        for one, vendor in zip(runs, vendors.values(), strict=True):
            seed = _FAITHFUL_SEED if vendor is faithful else 0
            served = SimulatedVendor(rows, vendor, seed=seed, model=one.model).running()
            urls.append(serving.enter_context(served).url)
        _say(f"running the stock 'evalscope eval' against {' and '.join(one.model for one in runs)}")
        _run_all([(one, evalscope_command(url, one, run)) for one, url in zip(runs, urls, strict=True)])
    lines = []
    for one in runs:
        paths = choose_run(one.folder)
        summary, page = summary_of(read_run(paths)), page_of(paths)
        click.echo(render_brief(summary, (), colour=colour_wanted(), width=columns()))
        lines.append(last_line(summary, None if page is None else str(page)))
    click.echo(f"Done in {time.monotonic() - started:.0f} s, all of it SIMULATED. A real vendor:")
    click.echo("  k2-verifier doctor --api-url URL --model MODEL  one real row at your endpoint")
    click.echo("  k2-verifier eval --api-url URL --model MODEL    the real verification\n")
    click.echo("\n".join(lines))


def _say(what: str) -> None:
    click.echo(f"k2-verifier: {what}", err=True)


def _build_rows(run: Path, rows: Sequence[Mapping[str, Any]], official: Profile) -> None:
    """Ask the simulated official API, keep its answers as upstream's files, and make rows of them."""
    from k2_verifier_adapter.offline.dataset_build import build_subset
    from k2_verifier_adapter.offline.official_runs import Source
    from k2_verifier_adapter.simulator import SimulatedVendor

    _make(run / "official")
    logs = []
    for seed in _OFFICIAL_RUNS:
        logs.append(run / "official" / f"results{seed}.jsonl")
        with SimulatedVendor(rows, official, seed=seed, model=f"{SIMULATED}-official").running() as endpoint:
            logs[-1].write_text("".join(_answers(endpoint.url, rows)), encoding="utf-8")
    build_subset(SIMULATED, run / "rows", None, [Source(log) for log in logs])


def _answers(url: str, rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Ask one row after the other; give the lines of upstream's results file."""
    from urllib.request import ProxyHandler, Request, build_opener

    from k2_verifier_adapter.core.json_text import dumps_ascii

    direct = build_opener(ProxyHandler({}))
    for number, row in enumerate(rows, 1):
        asked: dict[str, Any] = {"model": f"{SIMULATED}-official", "messages": json.loads(row["messages"])}
        if row.get("tools"):
            asked["tools"] = json.loads(row["tools"])
        request = Request(  # noqa: S310 - our own server on loopback
            f"{url}/chat/completions", dumps_ascii(asked).encode(), {"Content-Type": "application/json"}
        )
        with direct.open(request) as response:
            answer = json.load(response)
        line = {"data_index": number, "request": asked, "response": answer, "status": "success"}
        yield f"{dumps_ascii(line)}\n"


def _unused_directory(work_dir: Path | None) -> Path:
    """Choose the directory; one that holds files may hold another run, and is refused."""
    from k2_verifier_adapter.errors import UsageError

    if work_dir is None:
        stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
        return Path("outputs", "k2-verifier-demo", stamp)
    if work_dir.is_dir() and any(work_dir.iterdir()):
        raise UsageError(f"--work-dir {work_dir}: is not empty; give a new directory")
    return work_dir


def _make(directory: Path) -> None:
    from k2_verifier_adapter.errors import UsageError

    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written to: {error.strerror or error}") from None


def _require_start_up_hook() -> None:
    """Refuse to show EvalScope's own benchmark as if it were this one."""
    from k2_verifier_adapter.errors import TakeoverError
    from k2_verifier_adapter.evalscope_plugin.takeover import require_active

    if require_active().start_up_file is None:
        raise TakeoverError(
            "the start-up file is not installed, so the stock evalscope command would run EvalScope's own "
            "benchmark; install this package with pip instead of using it from PYTHONPATH"
        )


def evalscope_command(url: str, run: _Run, folder: Path) -> list[str]:
    """Give the stock command; as a module, so that it is found without PATH."""
    rows = {
        "local_path": str(folder / "rows"),
        "subset_list": [SIMULATED],
        "extra_params": _PARAMETERS,
    }
    command = [sys.executable, "-m", "evalscope.cli.cli", "eval"]
    command += ["--model", run.model, "--api-url", url, "--api-key", "sk-demo-no-secret"]
    command += ["--datasets", "k2_verifier", "--dataset-args", json.dumps({"k2_verifier": rows})]
    command += ["--generation-config", json.dumps(_RETRIES)]
    return [*command, "--eval-batch-size", "16", "--work-dir", str(run.folder), "--no-timestamp"]


def direct_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out proxies and certificates: a loopback vendor needs none, and some break its clients."""
    away = ("http_proxy", "https_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir")
    return {name: value for name, value in environment.items() if name.lower() not in away}


def _run_all(commands: Sequence[tuple[_Run, list[str]]]) -> None:
    """Run some commands side by side, each with its log; `DataError` if one fails."""
    from k2_verifier_adapter.errors import DataError

    with ExitStack() as opened:
        processes = []
        for run, command in commands:
            _make(run.folder)
            processes.append(
                opened.enter_context(_started(command, opened.enter_context(run.log.open("wb"))))
            )
        try:
            codes = _wait(processes)
        except BaseException:
            for process in processes:
                process.terminate()
            raise
    for (run, _), code in zip(commands, codes, strict=True):
        if code:
            raise DataError(
                f"evalscope eval ended with exit code {code}; the end of {run.log}: {_tail(run.log)}"
            )


def _started(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command line
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=direct_environment(os.environ),
    )


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    started = time.monotonic()
    live = sys.stderr.isatty()
    codes = []
    for process in processes:
        while True:
            try:
                codes.append(process.wait(_TICK_S))
                break
            except subprocess.TimeoutExpired:
                if live:
                    click.echo(f"\r  {time.monotonic() - started:.0f} s ...", nl=False, err=True)
    if live:
        click.echo("\r", nl=False, err=True)
    return codes


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-_LOG_TAIL:] if line.strip())
