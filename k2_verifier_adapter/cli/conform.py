"""`k2-verifier conform`: ask an endpoint for the contract of tool calling, probe by probe."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2_verifier_adapter.cli.evaluate import (
    INTERRUPTED,
    patient_interrupts,
    say_estimate,
    with_api_key,
)
from k2_verifier_adapter.cli.flags import conformance_flags
from k2_verifier_adapter.cli.output import deliver_probes
from k2_verifier_adapter.data import BUNDLED_SUITES
from k2_verifier_adapter.errors import DataError, RunInterruptedError
from k2_verifier_adapter.version import CONFORMANCE

if TYPE_CHECKING:
    from k2_verifier_adapter.core.conformance.results import Conformance


@click.command(
    short_help="Ask an endpoint for the contract of tool calling.",
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS] [EVALSCOPE FLAGS]",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A task file, YAML or JSON; flags override it.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME_OR_FILE",
    help=f"A bundled suite ({', '.join(BUNDLED_SUITES)}), a file of probes or of Moonshot's prompt-token "
    "cases, or a directory of schemas; may be repeated. All bundled ones without it.",
)
@conformance_flags
@click.option("--gate", is_flag=True, help="Exit code 1 unless every suite passes.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the prompt tokens that this endpoint counts to a file that --suite takes: of an official "
    "API, what others are held to.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many probes would be asked, and their tokens.")
@click.argument("evalscope_flags", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def conform(
    ctx: click.Context,
    *,
    config_file: Path | None,
    suites: tuple[str, ...],
    parameters: Mapping[str, Any],
    gate: bool,
    record: Path | None,
    dry_run: bool,
    evalscope_flags: tuple[str, ...],
) -> None:
    """Ask an endpoint for the contract of tool calling, probe by probe.

    Takes every flag of `evalscope eval`, as `k2-verifier eval` does. A few hundred small requests show what
    no statistics are needed for: schemas that are not enforced, a tool_choice that is ignored, histories that
    are refused, streams that are put together wrongly. Exit code 3 if a probe got no answer.

    \b
    k2-verifier conform --model kimi-k3 --api-url https://api.example.com/v1
    k2-verifier conform --model served --profile k2_thinking --gate \\
        --api-url http://127.0.0.1:8000/v1 --suite tool_choice --suite mine.jsonl
    """
    if config_file is None and not evalscope_flags:
        raise click.UsageError("nothing to ask: give --config FILE, or --model and --api-url", ctx)
    config: dict[str, Any] = {}
    if config_file is not None:
        from k2_verifier_adapter.formats.config import load_config

        config = load_config(config_file)
    if suites:
        every = config.get("dataset_args") or {}
        own = {**(every.get(CONFORMANCE) or {}), "subset_list": list(suites)}
        config = {**config, "dataset_args": {**every, CONFORMANCE: own}}
    settings = with_api_key(config, evalscope_flags, os.environ)
    asked = {**parameters, **({"gate": "strict"} if gate else {})}
    if dry_run:
        say_estimate(list(evalscope_flags), settings, asked, benchmark=CONFORMANCE)
        return

    from k2_verifier_adapter.evalscope_plugin.running import run_eval
    from k2_verifier_adapter.offline.conformance import read_conformance

    with patient_interrupts():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                run = run_eval(list(evalscope_flags), settings, asked, CONFORMANCE)
        except RunInterruptedError as error:
            click.echo(f"k2-verifier: {error}", err=True)
            with contextlib.suppress(DataError):
                # Nothing to report if not even the probes were loaded.
                deliver_probes(read_conformance(Path(error.run)))
            ctx.exit(INTERRUPTED)
        found = read_conformance(run)
        code = deliver_probes(found)
        click.echo(f"k2-verifier: run directory {run}", err=True)
        if record is not None:
            _record(found, record)
        ctx.exit(code)


def _record(found: Conformance, path: Path) -> None:
    from k2_verifier_adapter.core.conformance.results import recorded_tokens
    from k2_verifier_adapter.core.printable import plural
    from k2_verifier_adapter.formats.files import atomic_write

    cases = list(recorded_tokens(found))
    with atomic_write(path) as file:
        file.writelines(json.dumps(case).encode() + b"\n" for case in cases)
    click.echo(f"k2-verifier: {plural(len(cases), 'prompt')} with their tokens written to {path}", err=True)
