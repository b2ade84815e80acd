"""`k2-verifier compare`: several runs and results files over the same cases."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.delivery import format_option, output_option

if TYPE_CHECKING:
    from k2_verifier_adapter.core.comparison.outcomes import Participant


@click.command(short_help="Compare runs case by case: leaderboard and differences.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The official results to hold results files against, or upstream's archive that holds them.",
)
@click.option("--rows", help="Rows to hold results files against: a file, a directory, or 'bundled'.")
@click.option("--subset", help="The subset, where a run holds several; whose threshold results files have.")
@format_option
@output_option
def compare(
    runs: tuple[Path, ...],
    *,
    baseline: Path | None,
    rows: str | None,
    subset: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Compare each RUN, a run directory or a results.jsonl, with every other.

    Everything is over the cases that all of them hold, matched by data_index, and judged again from
    the raw responses; nothing is sent. A results.jsonl needs the official answers, as for score.

    \b
    k2-verifier compare outputs/vendor_a outputs/vendor_b outputs/vendor_c
    k2-verifier compare outputs/today outputs/last_week --format json
    k2-verifier compare a.jsonl b.jsonl --baseline kimi-k2-thinking_results.jsonl --subset k2_thinking
    """
    from k2_verifier_adapter.cli.output import colour_wanted, columns, write_or_print
    from k2_verifier_adapter.core.comparison.compare import compare as compare_participants
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.reports.comparison.json_report import dump_comparison
    from k2_verifier_adapter.reports.comparison.text import render_comparison

    official = baseline if rows is None else rows
    if baseline is not None and rows is not None:
        raise UsageError("give the official answers either by --baseline or by --rows, not by both")
    participants = [found for run in runs for found in _participants(run, official, subset)]
    if len(participants) < 2:
        raise UsageError(f"{runs[0]}: holds one run, and one is given; a comparison needs two or more")
    comparison = compare_participants(participants)
    if form == "json":
        write_or_print(dump_comparison(comparison), output)
    elif output is None:
        click.echo(render_comparison(comparison, colour=colour_wanted(), width=columns()), nl=False)
    else:
        write_or_print(render_comparison(comparison), output)


def _participants(run: Path, official: Path | str | None, subset: str | None) -> list[Participant]:
    """Read what one argument names; `official` is a path to official results, or the name of rows."""
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.formats.scoring.official import member_of, official_of_results, official_of_rows
    from k2_verifier_adapter.formats.upstream import open_lines
    from k2_verifier_adapter.reports.participants import participant_of_results, participants_of_run

    if not run.is_file():
        return participants_of_run(run, subset)
    if official is None:
        raise UsageError(
            f"{run}: is a results file; give the official answers to hold it against, "
            "by --baseline OFFICIAL.jsonl or by --rows ROWS"
        )
    with ExitStack() as stack:
        lines = stack.enter_context(open_lines(run, member_of(run, subset)))
        if isinstance(official, Path):
            index = stack.enter_context(official_of_results(official, subset))
        else:
            index = stack.enter_context(official_of_rows(official, subset or ""))
        return [participant_of_results(lines, index, str(run), subset)]
