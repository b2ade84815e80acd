"""`k2-verifier history`: one vendor over time, and since when it is another."""

from __future__ import annotations

from pathlib import Path

import click

from k2_verifier_adapter.cli.flags import official_reader, run_arguments
from k2_verifier_adapter.cli.output import (
    check_destination,
    comparison_format_option,
    deliver,
    output_option,
    progress,
    say,
)


@click.command(short_help="One vendor over time: differences, and since when.")
@run_arguments
@click.option("--model", help="The model, where a run holds several.")
@comparison_format_option
@output_option
@click.option(
    "--gate",
    type=click.Choice(["none", "no-change", "no-new-change"]),
    default="none",
    show_default=True,
    help="no-change: fail where anything has changed; no-new-change: only where the last run has shown it.",
)
@click.pass_context
def history(
    ctx: click.Context,
    runs: tuple[Path, ...],
    *,
    baseline: Path | None,
    rows: str | None,
    model: str | None,
    subset: str | None,
    form: str,
    output: Path | None,
    gate: str,
) -> None:
    """Follow one vendor through RUNs over the same rows, by their start.

    A RUN is a run directory, a bundle, a report.json or a results.jsonl; the last needs the official answers,
    as for score. Changes are looked for after every run, by a bound over all looks; nothing is sent.

    \b
    k2-verifier history outputs/nightly-*
    k2-verifier history outputs/nightly-* --gate no-new-change \\
        --format markdown
    k2-verifier history outputs/nightly-* --format html --output history.html
    k2-verifier history reports/*.json
    """
    from k2_verifier_adapter.core.comparison.history import history_of
    from k2_verifier_adapter.core.gate import HistoryGate, by_history
    from k2_verifier_adapter.offline.history import read_history
    from k2_verifier_adapter.reports.formats import HistoryReport

    official = official_reader(baseline, rows, subset)
    check_destination(form, output)

    with progress("runs", len(runs)) as advance:
        found = history_of(read_history(runs, official, model=model, subset=subset, advance=advance))
    decision = by_history(found, HistoryGate(gate))
    deliver(HistoryReport(found), form, output)
    say(decision)
    ctx.exit(decision.code)
