"""`k2-verifier demo`: bundled rows, simulated vendor, stock EvalScope, the whole chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import click

from k2_verifier_adapter.cli.output import print_report
from k2_verifier_adapter.cli.simulate import MODEL, PROFILE_HELP, profile_of, vendor_rows

SUBSET = "k2_thinking"
_LOG_TAIL = 15
_TICK_S = 0.5
_RETRIES = {"retries": 2, "retry_interval": 1}
"""The simulated vendor's faults are no overload that would pass: EvalScope's pauses from 10 s up would
only make the demo slow."""


@click.command(short_help="Bundled rows, simulated vendor, stock EvalScope: the whole chain.")
@click.option(
    "--profile",
    "profile_name",
    default="broken",
    show_default=True,
    help=PROFILE_HELP,
)
@click.option("--limit", type=click.IntRange(min=1), help="Number of rows; all by default.")
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the run is written.  [default: outputs/k2-verifier-demo/TIME]",
)
def demo(*, profile_name: str, limit: int | None, work_dir: Path | None) -> None:
    """Show the whole chain on this machine: nothing is downloaded, no key is needed.

    Starts a simulated vendor, runs the stock `evalscope eval` on the bundled synthetic rows against it,
    prints the report and says where the files are.

    \b
    k2-verifier demo
    k2-verifier demo --profile noisy --limit 50
    """
    from k2_verifier_adapter.errors import DataError
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.stored import summary_of
    from k2_verifier_adapter.simulator import SimulatedVendor

    profile = profile_of(profile_name, ())
    run = _unused_directory(work_dir)
    _require_start_up_hook()
    _make(run)
    log = run / "demo.log"
    vendor = SimulatedVendor(vendor_rows("bundled", SUBSET), profile, model=MODEL)
    with vendor.running() as endpoint:
        click.echo(f"Simulated vendor {profile.name!r} ({profile.description}) at {endpoint.url}", err=True)
        command = evalscope_command(endpoint.url, run, limit)
        click.echo(f"Running the stock 'evalscope eval' on the bundled rows; its log: {log}", err=True)
        started = time.monotonic()
        code = _run(command, log)
    if code:
        tail = _tail(log)
        raise DataError(f"evalscope eval ended with exit code {code}; the end of {log}: {tail}")
    click.echo(f"Done in {time.monotonic() - started:.0f} s.\n", err=True)
    print_report(summary_of(read_run(choose_run(run))))
    click.echo("\nFiles")
    for name, path in _files(run):
        click.echo(f"  {name:<18} {path}")
    click.echo("\nNext")
    click.echo("  k2-verifier doctor --api-url URL --model MODEL  one real row at your endpoint")
    click.echo("  k2-verifier eval --api-url URL --model MODEL    the real verification")


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


def evalscope_command(url: str, run: Path, limit: int | None) -> list[str]:
    """Give the stock command; as a module, so that it is found without PATH."""
    command = [sys.executable, "-m", "evalscope.cli.cli", "eval"]
    command += ["--model", MODEL, "--api-url", url, "--api-key", "sk-demo-no-secret"]
    command += ["--datasets", "k2_verifier"]
    command += ["--dataset-args", json.dumps({"k2_verifier": {"local_path": "bundled"}})]
    command += ["--generation-config", json.dumps(_RETRIES)]
    command += ["--eval-batch-size", "16", "--work-dir", str(run), "--no-timestamp"]
    return command if limit is None else [*command, "--limit", str(limit)]


def direct_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out proxies and certificates: a loopback vendor needs none, and some break its clients."""
    away = ("http_proxy", "https_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir")
    return {name: value for name, value in environment.items() if name.lower() not in away}


def _run(command: list[str], log: Path) -> int:
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=direct_environment(os.environ),
        ) as process,
    ):
        try:
            return _wait(process)
        except BaseException:
            process.terminate()
            raise


def _wait(process: subprocess.Popen[bytes]) -> int:
    started = time.monotonic()
    live = sys.stderr.isatty()
    while True:
        try:
            code = process.wait(_TICK_S)
        except subprocess.TimeoutExpired:
            if live:
                click.echo(f"\r  {time.monotonic() - started:.0f} s ...", nl=False, err=True)
            continue
        if live:
            click.echo("\r", nl=False, err=True)
        return code


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-_LOG_TAIL:] if line.strip())


def _files(run: Path) -> Iterator[tuple[str, Path]]:
    from k2_verifier_adapter.formats.runs import choose_run

    paths = choose_run(run)
    yield "run directory", run
    yield "report", paths.reports / f"{paths.subset}.html"
    yield "EvalScope's JSON", paths.reports.with_suffix(".json")
    yield "EvalScope's HTML", run / "reports" / "report.html"
