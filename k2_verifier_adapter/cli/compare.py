"""`k2-verifier compare`: several runs and results files over the same cases."""

from __future__ import annotations

from pathlib import Path

import click

from k2_verifier_adapter.cli.flags import inconclusive_flag, margin_option, official_reader, run_arguments
from k2_verifier_adapter.cli.output import (
    check_destination,
    comparison_format_option,
    deliver,
    output_option,
    say,
)


@click.command(short_help="Compare runs case by case: leaderboard and differences.")
@run_arguments
@comparison_format_option
@output_option
@click.option(
    "--gate",
    type=click.Choice(["none", "not-worse"]),
    default="none",
    show_default=True,
    help="not-worse: of two runs, the exit code says whether the first is not worse than the second.",
)
@margin_option
@inconclusive_flag
@click.pass_context
def compare(
    ctx: click.Context,
    runs: tuple[Path, ...],
    *,
    baseline: Path | None,
    rows: str | None,
    subset: str | None,
    form: str,
    output: Path | None,
    gate: str,
    margin: float | None,
    inconclusive: str | None,
) -> None:
    """Compare each RUN, a run directory, a bundle or a results.jsonl, with every other.

    Everything is over the cases that all of them hold, matched by data_index, and judged again from
    the raw responses; nothing is sent. A results.jsonl needs the official answers, as for score.

    \b
    k2-verifier compare outputs/vendor_a outputs/vendor_b outputs/vendor_c
    k2-verifier compare outputs/today outputs/last_week --format html \\
        --output comparison.html
    k2-verifier compare outputs/today outputs/last_week --gate not-worse \\
        --margin 0.02
    k2-verifier compare a.jsonl b.jsonl \\
        --baseline kimi-k2-thinking_results.jsonl --subset k2_thinking
    """
    from k2_verifier_adapter.core.comparison.baseline import DEFAULT_MARGIN
    from k2_verifier_adapter.core.comparison.compare import compare as compare_participants
    from k2_verifier_adapter.core.gate import by_baseline, check_two_runs, not_worse_outcome
    from k2_verifier_adapter.core.verdict import WhenInconclusive
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.formats.rows import only_subset
    from k2_verifier_adapter.offline.bundle import participants_of
    from k2_verifier_adapter.reports.formats import ComparisonReport

    gated = gate == "not-worse"
    subset = subset or (None if rows is None else only_subset(rows))
    official = official_reader(baseline, rows, subset)
    if not gated and (margin is not None or inconclusive is not None):
        raise click.UsageError(
            "--margin and --inconclusive go with --gate not-worse: they say how it decides"
        )
    check_destination(form, output)
    if gated and len(runs) > 2:
        check_two_runs(len(runs))
    participants = [found for run in runs for found in participants_of(run, official, subset)]
    if gated:
        check_two_runs(len(participants))
    if len(participants) < 2:
        raise UsageError(f"{runs[0]}: holds one run, and one is given; a comparison needs two or more")
    comparison = compare_participants(participants)
    if not gated:
        deliver(ComparisonReport(comparison), form, output)
        return
    found = not_worse_outcome(comparison, DEFAULT_MARGIN if margin is None else margin)
    decision = by_baseline(found, None if inconclusive is None else WhenInconclusive(inconclusive))
    deliver(ComparisonReport(comparison, found), form, output)
    say(decision)
    ctx.exit(decision.code)
