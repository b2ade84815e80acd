"""`k2-verifier eval`: run through EvalScope, then report and gate."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from k2_verifier_adapter.cli.flags import Finite, baseline_flags, gate_flags, parameter_flags, request_flags
from k2_verifier_adapter.cli.output import deliver_probes, deliver_run, full_option, page_of
from k2_verifier_adapter.errors import DataError, RunInterruptedError, StorageError, UsageError
from k2_verifier_adapter.version import BENCHMARK

if TYPE_CHECKING:
    from k2_verifier_adapter.evalscope_plugin.running import Estimate
    from k2_verifier_adapter.formats.runs import RunPaths

KEY_VARIABLES = ("K2_VERIFIER_API_KEY", "OPENAI_API_KEY")
"""Where the API key comes from if no flag and no config file gives it, in this order."""

_KEY_FLAGS = ("--api-k", "--api-ke", "--api-key")
"""EvalScope's parser takes abbreviations."""

INTERRUPTED = 3
"""Exit code of an interrupted run: incomplete."""

DRY_RUN = "Dry run: nothing was sent, nothing was written."

TYPED = "k2_verifier_adapter.typed"
"""Where the arguments of `k2-verifier` are kept."""

_AT_ONCE = 5
_PATIENCE_S = 10.0
"""So many interrupts end the process at once, but not before so many seconds: storing and reporting take
less, and Ctrl-C that is held down comes thirty times a second."""

_CLOCK_SLACK_S = 2.0
"""How much coarser than the clock a file system's time stamps may be, in seconds."""


@click.command(
    "eval",
    short_help="Verify an endpoint, then report and gate.",
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS] [EVALSCOPE FLAGS]",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="A task file, YAML or JSON; ${NAME} and ${NAME:-default} come from the environment. Flags "
    "override it. - reads it from a program: YAML on standard input.",
)
@request_flags
@parameter_flags
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say how many requests and about how many tokens would be sent, and what a verdict will "
    "probably cost.",
)
@click.option(
    "--price-in",
    type=Finite(min=0),
    metavar="X",
    help="Price of a million prompt tokens, for --dry-run.",
)
@click.option(
    "--price-out",
    type=Finite(min=0),
    metavar="X",
    help="Price of a million completion tokens, for --dry-run.",
)
@full_option
@baseline_flags
@gate_flags
@click.argument("evalscope_flags", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def evaluate(
    ctx: click.Context,
    *,
    config_file: Path | None,
    evalscope_flags: tuple[str, ...],
    typed: Mapping[str, Any],
    parameters: Mapping[str, Any],
    dry_run: bool,
    price_in: float | None,
    price_out: float | None,
    full: bool,
    gate: Mapping[str, Any],
) -> None:
    """Verify an endpoint: run the benchmark through EvalScope, then report and gate.

    Takes --model, --api-url, --limit, --work-dir, --use-cache and every other flag of `evalscope eval` (see
    `evalscope eval --help`). The key comes from --api-key, else from K2_VERIFIER_API_KEY, else from
    OPENAI_API_KEY. The log goes to standard error; EvalScope's own stays in the run's files without -v.

    \b
    k2-verifier eval --model kimi-k2-thinking \\
        --api-url https://api.example.com/v1 --concurrency 32 --gate strict
    k2-verifier eval --model moonshotai/kimi-k2-thinking \\
        --base-url https://openrouter.ai/api/v1 --provider novita --limit 200
    k2-verifier eval --model m --api-url http://127.0.0.1:8765/v1 --rows bundled
    """
    if config_file is None and not evalscope_flags and not typed:
        raise click.UsageError("nothing to run: give --config FILE, or --model and --api-url", ctx)
    config = None
    if config_file is not None:
        from k2_verifier_adapter.formats.config import load_config

        config = _config_of_a_program() if str(config_file) == "-" else load_config(config_file)
    config = with_api_key(config, evalscope_flags, os.environ)

    parameters = {**parameters, **gate}
    if dry_run or (config or {}).get("dry_run"):
        say_estimate(list(evalscope_flags), config, parameters, (price_in, price_out), typed=typed)
        return
    if (price_in, price_out) != (None, None):
        raise click.UsageError("--price-in and --price-out go with --dry-run: they say what it would cost")

    from k2_verifier_adapter.evalscope_plugin.running import run_eval

    started = time.time()
    with patient_interrupts():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                run = run_eval(list(evalscope_flags), config, parameters, typed=typed)
        except RunInterruptedError as error:
            click.echo(f"k2-verifier: {error}", err=True)
            again = resume_command(ctx, Path(error.run))
            try:
                report_all(Path(error.run), started, again, full=full, leave=True)
            except DataError:
                # Nothing to report if not even the rows were loaded.
                click.echo(f"k2-verifier: go on with: {again}", err=True)
            ctx.exit(INTERRUPTED)
        ctx.exit(report_all(run, started, resume_command(ctx, run), full=full))


_DOCUMENT_END = "..."


def _config_of_a_program() -> Any:
    """Read a task from standard input, as it stands, up to its end or to the end of a YAML document.

    Behind the latter, standard input says that the program lives: where it dies, the run is interrupted.
    """
    from k2_verifier_adapter.formats.config import values_of

    text = ""
    for line in sys.stdin:
        if line.rstrip() == _DOCUMENT_END:
            threading.Thread(target=_interrupt_at_its_end, args=(sys.stdin.fileno(),), daemon=True).start()
            break
        text += line
    config = values_of(Path("-"), text)
    if not isinstance(config, dict):
        raise UsageError("-: expected a mapping of settings on standard input, such as 'model: NAME'")
    return config


def _interrupt_at_its_end(descriptor: int) -> None:
    # Not through `sys.stdin`, whose lock a reading thread would hold when the interpreter ends.
    while os.read(descriptor, 4_096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def patient_interrupts() -> Iterator[None]:
    """End a run at the first SIGINT or SIGTERM, and let it store and report what it has whatever follows.

    Up to the end of the process further ones change nothing, but for the `_AT_ONCE`th of a process that does
    not come to its end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    received = 0
    first = 0.0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal received, first
        received += 1
        if received == 1:
            first = time.monotonic()
            raise KeyboardInterrupt
        if received >= _AT_ONCE and time.monotonic() - first >= _PATIENCE_S:
            os._exit(INTERRUPTED)

    numbers = [
        number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        # The interpreter's own end would bring the default back, which kills; an ignored signal stays so.
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if received else handler)


def say_estimate(
    evalscope_flags: Sequence[str],
    config: Mapping[str, Any] | None,
    parameters: Mapping[str, Any],
    prices: tuple[float | None, float | None] = (None, None),
    benchmark: str = BENCHMARK,
    *,
    typed: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Print what a run would send, and what a verdict will probably cost."""
    from k2_verifier_adapter.core.observed import Prices
    from k2_verifier_adapter.evalscope_plugin.running import estimate_eval

    with contextlib.redirect_stdout(sys.stderr):
        estimates = estimate_eval(
            evalscope_flags, config, parameters, Prices(*prices), benchmark, typed=typed
        )
    print_estimates(estimates)
    for name, value in parameters.items():
        click.echo(f"  {name}: {value:g}" if isinstance(value, float) else f"  {name}: {value}")
    click.echo(DRY_RUN)


def print_estimates(estimates: Iterable[Estimate]) -> None:
    """Print what would be sent, subset by subset."""
    from k2_verifier_adapter.core.json_text import dumps_ascii
    from k2_verifier_adapter.core.printable import printable

    for estimate in estimates:
        click.echo(f"{printable(estimate.subset)}: {estimate.cost}")
        where = f" at {estimate.host}" if estimate.host else ""
        click.echo(
            f"  {printable(estimate.model)}{printable(where)}, {dumps_ascii(dict(estimate.parameters))}"
        )
        if estimate.verdicts:
            click.echo("  a strict verdict will probably cost, by the vendor:")
        for line in estimate.verdicts:
            click.echo(f"    {line}")


def with_api_key(
    config: dict[str, Any] | None, flags: Sequence[str], environment: Mapping[str, str]
) -> dict[str, Any] | None:
    """Fill the API key in from the environment where neither a flag nor the config gives it."""
    given = any(flag.split("=")[0] in _KEY_FLAGS for flag in flags)
    if given or (config is not None and config.get("api_key")):
        return config
    key = next((environment[name] for name in KEY_VARIABLES if environment.get(name)), None)
    return config if key is None else {**(config or {}), "api_key": key}


def resume_command(ctx: click.Context, run: Path) -> str:
    """Give the whole command that goes on with a run, without the values that may be keys."""
    from k2_verifier_adapter.core.printable import printable
    from k2_verifier_adapter.evalscope_plugin.masking import masked_message

    words, typed = ["k2-verifier"], iter(ctx.find_root().meta.get(TYPED, ()))
    for word in typed:
        flag, _, value = word.partition("=")
        if flag in ("--use-cache", "--header", *_KEY_FLAGS):
            given = value or next(typed, "")
            if flag == "--header":
                words += [flag, shlex.quote(f"{given.partition(':')[0]}:...")]
            elif flag in _KEY_FLAGS:
                words += [flag, f'"${KEY_VARIABLES[0]}"']
        else:
            words.append(shlex.quote(masked_message(word)))
    return printable(" ".join([*words, "--use-cache", shlex.quote(str(run))]))


def report_all(run: Path, started: float, again: str, *, full: bool, leave: bool = False) -> int:
    """Report on every model and subset that a session wrote; give the worst exit code.

    `again` is the command that goes on with the run, said where something is left to ask. `leave` writes the
    files of the report, as a run does that comes to its end.
    """
    from k2_verifier_adapter.core.gate import exit_code, worst
    from k2_verifier_adapter.formats.runs import find_runs, read_run
    from k2_verifier_adapter.offline.conformance import holds_probes, read_conformance
    from k2_verifier_adapter.offline.failed_cases import failed_cases_of_run
    from k2_verifier_adapter.offline.participants import held_against
    from k2_verifier_adapter.offline.stored import judge_run, summary_of
    from k2_verifier_adapter.reports.formats import RunReport

    codes = []
    for number, paths in enumerate(_written_since(find_runs(run), started)):
        stored = read_run(paths)
        items = judge_run(stored)
        summary = held_against(stored, items, summary_of(stored, items))
        report = RunReport(summary, failed_cases_of_run(stored, items))
        if leave:
            from k2_verifier_adapter.evalscope_plugin.run_files import write_every_format

            # A full disk is no reason to say nothing.
            with contextlib.suppress(StorageError):
                write_every_format(report, paths.reports, paths.subset)
        decision, page = exit_code(summary), page_of(paths)
        places = [("run", str(run)), *([("report", str(page))] if page else ())]
        places.append(("all of it", f"k2-verifier report {shlex.quote(str(run))} --full"))
        if summary.missing or summary.tally.failed:
            places.append(("go on", again))
        if number:
            click.echo()
        deliver_run(report, "text", None, decision, full=full, places=places, page=page)
        codes.append(decision.code)
    if holds_probes(run):
        click.echo()
        codes.append(deliver_probes(read_conformance(run)))
    return worst(codes)


def _written_since(found: list[RunPaths], started: float) -> list[RunPaths]:
    """Leave out what an earlier session left in the same directory; all, if nothing is newer."""
    new = [paths for paths in found if paths.facts.stat().st_mtime >= started - _CLOCK_SLACK_S]
    return new or found
