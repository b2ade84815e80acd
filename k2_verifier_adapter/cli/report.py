"""`k2-verifier report`: what a run is worth, from its stored responses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.gate_flags import gate_flags, say
from k2_verifier_adapter.cli.output import print_report, write_or_print

if TYPE_CHECKING:
    from k2_verifier_adapter.reports.gate import GateOptions


@click.command(short_help="Report on a run: verdict, metrics, failures.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", help="The model, where the run holds several.")
@click.option("--subset", help="The subset, where the run holds several.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json owns standard output; everything else goes to standard error.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead of printing."
)
@gate_flags
@click.pass_context
def report(
    ctx: click.Context,
    run: Path,
    *,
    model: str | None,
    subset: str | None,
    form: str,
    output: Path | None,
    gate: GateOptions,
) -> None:
    """Report on RUN, the directory that EvalScope wrote.

    Every stored response is judged again; nothing is sent.

    \b
    k2-verifier report outputs/20261122_101500
    k2-verifier report outputs/20261122_101500 --format json --output report.json
    k2-verifier report outputs/20261122_101500 --gate strict --min-schema-accuracy 0.95
    """
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.reports.gate import exit_code
    from k2_verifier_adapter.reports.json_report import dump_report
    from k2_verifier_adapter.reports.stored import summary_of
    from k2_verifier_adapter.reports.text import render_text

    summary = summary_of(read_run(choose_run(run, model, subset)), gate.minimums)
    decision = exit_code(summary, gate)
    if form == "json":
        write_or_print(dump_report(summary), output)
    elif output is None:
        print_report(summary)
    else:
        write_or_print(render_text(summary), output)
    say(decision)
    ctx.exit(decision.code)
