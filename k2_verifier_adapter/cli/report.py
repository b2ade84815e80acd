"""`k2-verifier report`: what a run is worth, from its stored responses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.delivery import (
    check_destination,
    output_option,
    prepare,
    redact_option,
    report_format_option,
)
from k2_verifier_adapter.cli.gate_flags import baseline_flags, gate_flags

if TYPE_CHECKING:
    from k2_verifier_adapter.core.gate import GateOptions
    from k2_verifier_adapter.reports.failed_cases import FailedCase


@click.command(short_help="Report on a run: verdict, metrics, failures.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", help="The model, where the run holds several.")
@click.option("--subset", help="The subset, where the run holds several.")
@report_format_option
@output_option
@redact_option
@baseline_flags
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
    redact: bool,
    gate: GateOptions,
) -> None:
    """Report on RUN, the directory that EvalScope wrote.

    Every stored response is judged again; nothing is sent.

    \b
    k2-verifier report outputs/20261122_101500
    k2-verifier report outputs/20261122_101500 --format json --output report.json
    k2-verifier report outputs/20261122_101500 --format html --output report.html
    k2-verifier report outputs/20261122_101500 --redact \\
        --output for-the-vendor.txt
    k2-verifier report outputs/20261122_101500 --gate strict \\
        --min-schema-accuracy 0.95
    k2-verifier report outputs/20261122_101500 --baseline outputs/20261115_101500
    """
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.stored import judge_run, summary_of

    check_destination(form, output)
    stored = read_run(choose_run(run, model, subset))
    items = judge_run(stored)
    summary = summary_of(stored, gate.minimums, items)
    if gate.baseline is not None:
        from k2_verifier_adapter.offline.participants import held_against

        summary = held_against(stored, items, summary, Path(gate.baseline), gate.margin)

    def failed_cases() -> Iterable[FailedCase]:
        from k2_verifier_adapter.offline.failed_cases import failed_cases_of_run, redacted_cases

        cases = failed_cases_of_run(stored, items)
        return redacted_cases(cases, summary.tally.tools.by_name) if redact else cases

    ctx.exit(prepare(summary, form, output, gate, redact=redact, failed_cases=failed_cases).deliver())
