"""`k2-verifier report`: what a run is worth, from its stored responses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from k2_verifier_adapter.cli.flags import baseline_flags, gate_flags, profile_option
from k2_verifier_adapter.cli.output import (
    check_destination,
    deliver,
    output_option,
    redact_option,
    run_format_option,
    say,
)


@click.command(short_help="Report on a run: verdict, metrics, failures.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", help="The model, where the run holds several.")
@click.option("--subset", help="The subset, where the run holds several.")
@profile_option
@run_format_option
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
    profile: str | None,
    form: str,
    output: Path | None,
    redact: bool,
    gate: Mapping[str, Any],
) -> None:
    """Report on RUN, the directory that EvalScope wrote.

    Every stored response is judged again; nothing is sent. Without gate flags, the gate that the run was
    made with decides.

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
    from dataclasses import replace

    from k2_verifier_adapter.core.gate import exit_code
    from k2_verifier_adapter.core.redaction import redact_summary
    from k2_verifier_adapter.evalscope_plugin.parameters import gate_options
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.failed_cases import failed_cases_of_run, redacted_cases
    from k2_verifier_adapter.offline.participants import held_against
    from k2_verifier_adapter.offline.stored import judge_run, summary_of
    from k2_verifier_adapter.reports.formats import RunReport

    check_destination(form, output)
    stored = read_run(choose_run(run, model, subset))
    if profile is not None:
        stored = replace(stored, facts=replace(stored.facts, profile=profile))
    items = judge_run(stored)
    asked = gate_options(gate) if gate else stored.facts.gate
    if gate and asked != stored.facts.gate:
        click.echo("k2-verifier: judged by this command's flags, not by the gate of the run", err=True)
    summary = held_against(stored, items, summary_of(stored, items, gate=asked))
    cases = failed_cases_of_run(stored, items)
    decision = exit_code(summary)
    if redact:
        cases = redacted_cases(cases, summary.tally.tools.by_name)
        summary = redact_summary(summary)
    deliver(RunReport(summary, cases), form, output)
    say(decision)
    ctx.exit(decision.code)
