"""`k2-verifier history`: one vendor over time, and since when it is another."""

from __future__ import annotations

from pathlib import Path

import click

from k2_verifier_adapter.cli.output import (
    check_destination,
    comparison_format_option,
    deliver,
    output_option,
    progress,
    say,
)


@click.command(short_help="One vendor over time: differences, and since when.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The official results to hold results files against, or upstream's archive that holds them.",
)
@click.option("--rows", help="Rows to hold results files against: a file, a directory, or 'bundled'.")
@click.option("--model", help="The model, where a run holds several.")
@click.option("--subset", help="The subset, where a run holds several; whose threshold results files have.")
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
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.offline.history import read_history
    from k2_verifier_adapter.offline.official import OfficialAnswers, load_official
    from k2_verifier_adapter.reports.formats import HistoryReport

    if baseline is not None and rows is not None:
        raise UsageError("give the official answers either by --baseline or by --rows, not by both")
    check_destination(form, output)

    def official() -> OfficialAnswers:
        return load_official(baseline, rows, subset)

    with progress("runs", len(runs)) as advance:
        given = None if baseline is None and rows is None else official
        found = history_of(read_history(runs, given, model=model, subset=subset, advance=advance))
    decision = by_history(found, HistoryGate(gate))
    deliver(HistoryReport(found), form, output)
    say(decision)
    ctx.exit(decision.code)
