"""`k2-verifier matrix`: many vendors side by side over the same rows, and one page on all of them."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from k2_verifier_adapter.cli.evaluate import DRY_RUN, INTERRUPTED, print_estimates
from k2_verifier_adapter.cli.flags import baseline_flags, gate_flags, parameter_flags, request_flags
from k2_verifier_adapter.cli.output import deliver, progress_of_many
from k2_verifier_adapter.cli.verbosity import is_verbose
from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.reports.formats import MatrixReport

if TYPE_CHECKING:
    from k2_verifier_adapter.core.comparison.matrix import VendorResult
    from k2_verifier_adapter.evalscope_plugin.vendor_runs import VendorRun

_LOOK_EVERY_S = 0.2


@click.command(
    short_help="Verify many vendors side by side, and compare them.",
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS] [EVALSCOPE FLAGS]",
)
@click.argument("vendor_file", metavar="VENDORS", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the runs are kept, each in a folder of its vendor's name; what is there is gone on with.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this vendor; may be repeated.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A task file, as for eval, of which all vendors share everything but model, URL and key.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME_OR_FILE",
    help="Also ask this suite of probes, as conform does; may be repeated, 'all' is every bundled one.",
)
@request_flags
@parameter_flags
@click.option(
    "--dry-run", is_flag=True, help="Only say what each run would send, and what a verdict will cost."
)
@baseline_flags
@gate_flags
@click.argument("evalscope_flags", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def matrix(
    ctx: click.Context,
    *,
    vendor_file: Path,
    work_dir: Path,
    only: tuple[str, ...],
    config_file: Path | None,
    suites: tuple[str, ...],
    evalscope_flags: tuple[str, ...],
    typed: Mapping[str, Any],
    parameters: Mapping[str, Any],
    dry_run: bool,
    gate: Mapping[str, Any],
) -> None:
    """Verify all VENDORS of a file over the same rows, at the same time, and compare them on one page.

    Each vendor has a run, a pace, a budget and failures of its own; the same command goes on with runs that
    did not come to their end. Takes what eval takes, but for --model, --api-url and --api-key. The page is
    printed, and left in the work directory as text, Markdown, HTML and JSON.

    \b
    k2-verifier matrix vendors.yaml --work-dir outputs/november \\
        --rows rows --gate strict --stop-when-decided
    """
    from k2_verifier_adapter.formats.config import load_config
    from k2_verifier_adapter.formats.vendors import OF_A_VENDOR, PAGE, read_vendors

    vendors = read_vendors(vendor_file, only=only)
    config = None if config_file is None else load_config(config_file, without=OF_A_VENDOR)

    from k2_verifier_adapter.core.comparison.matrix import matrix_of
    from k2_verifier_adapter.core.gate import worst
    from k2_verifier_adapter.evalscope_plugin.run_files import write_every_format
    from k2_verifier_adapter.evalscope_plugin.vendor_runs import VendorRun, shared_settings, with_suites

    with contextlib.redirect_stdout(sys.stderr), _quiet_log(ctx):
        shared = shared_settings(evalscope_flags, config, {**parameters, **gate}, typed)
        if suites:
            shared = with_suites(shared, BUNDLED_SUITES if "all" in suites else suites)
        runs = [VendorRun(vendor, shared, work_dir) for vendor in vendors]
    if dry_run:
        for run in runs:
            click.echo(f"{run.vendor.name}:")
            print_estimates([run.estimate])
        click.echo(DRY_RUN)
        return
    for run in runs:
        click.echo(f"k2-verifier: {run.vendor.name}: {run.estimate.cost}", err=True)
    with _interrupts_passed_on(runs) as interrupted:
        _run_all(runs, interrupted)
        found = matrix_of([_result(run) for run in runs])
        page = MatrixReport(found)
        deliver(page, "text", None)
        # The page of some is not to take the place of that of all.
        if not only:
            write_every_format(page, work_dir, PAGE)
            click.echo(f"k2-verifier: the page is {work_dir / PAGE}.html, .md, .txt and .json", err=True)
    codes = [vendor.code for vendor in found.vendors]
    ctx.exit(worst([*codes, INTERRUPTED] if interrupted else codes))


@contextlib.contextmanager
def _quiet_log(ctx: click.Context) -> Iterator[None]:
    """Keep the log to errors: each vendor's own log will say the rest."""
    import logging

    before = logging.root.manager.disable
    if not is_verbose(ctx):
        logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _interrupts_passed_on(runs: Sequence[VendorRun]) -> Iterator[list[int]]:
    """Pass each SIGINT or SIGTERM on to the runs, which store what they have; yields those that came."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread receives signals
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for run in runs:
            run.interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_all(runs: Sequence[VendorRun], interrupted: Sequence[int]) -> None:
    """Start all runs at once, and wait until each has ended."""
    for run in runs:
        if not interrupted:
            run.start()
    shown = [0] * len(runs)
    waiting = [place for place, run in enumerate(runs) if run.started]
    with progress_of_many([(run.vendor.name, run.total) for run in runs]) as advance:
        while waiting:
            for place, run in enumerate(runs):
                ended = run.ended
                advance(place, ended - shown[place])
                shown[place] = ended
            for place in list(waiting):
                if (code := runs[place].code) is not None:
                    waiting.remove(place)
                    click.echo(
                        f"k2-verifier: {runs[place].vendor.name}: ended with exit code {code}", err=True
                    )
            time.sleep(_LOOK_EVERY_S if waiting else 0)


def _result(run: VendorRun) -> VendorResult:
    """Say what became of a run, and of one that was not started because of an interrupt."""
    from k2_verifier_adapter.core.gate import UNUSABLE
    from k2_verifier_adapter.offline.participants import result_of_vendor

    code = run.code if run.started else None
    return result_of_vendor(
        run.vendor,
        run.estimate.paths,
        INTERRUPTED if code is None else code,
        run.error if code == UNUSABLE else None,
    )
