"""`k2-verifier score`: what a results file is worth, from its raw responses, offline."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.delivery import deliver, format_option, output_option
from k2_verifier_adapter.cli.gate_flags import gate_flags
from k2_verifier_adapter.cli.progress import progress

if TYPE_CHECKING:
    from k2_verifier_adapter.core.log_facts import FailedRule
    from k2_verifier_adapter.core.summary import Summary
    from k2_verifier_adapter.reports.gate import GateOptions


@click.command(short_help="Judge an upstream results file offline.")
@click.argument("results", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The official results to hold it against, or upstream's archive that holds them.",
)
@click.option("--rows", help="Rows that carry the official answers: a file, a directory, or 'bundled'.")
@click.option("--subset", help="The subset: whose threshold to use, and which rows of a directory.")
@click.option(
    "--failed-as-no-call",
    is_flag=True,
    help='Count failed requests, on either side, as "did not call"; without it they are left out.',
)
@format_option
@output_option
@gate_flags
@click.pass_context
def score(
    ctx: click.Context,
    results: Path,
    *,
    baseline: Path | None,
    rows: str | None,
    subset: str | None,
    failed_as_no_call: bool,
    form: str,
    output: Path | None,
    gate: GateOptions,
) -> None:
    """Judge RESULTS, a results.jsonl of upstream's tool or of `export`, old or new.

    Every response is judged again from its raw form; nothing is sent. Lines are joined with the
    official answers by data_index. Lines of one data_index that follow each other are repeats.

    \b
    k2-verifier score results.jsonl --baseline kimi-k2-thinking_results.jsonl --subset k2_thinking
    k2-verifier score results.jsonl --baseline tool-calls.tar.gz --subset k2_0905 --gate strict
    k2-verifier score results.jsonl --rows rows/ --subset k2_thinking --format json
    """
    from k2_verifier_adapter.core.log_facts import FailedRule
    from k2_verifier_adapter.errors import UsageError

    if (baseline is None) == (rows is None):
        raise UsageError("give the official answers, either by --baseline OFFICIAL.jsonl or by --rows ROWS")
    rule = FailedRule.NO_CALL if failed_as_no_call else FailedRule.LEFT_OUT
    summary = _summary(results, baseline or str(rows), subset, rule, gate)
    ctx.exit(deliver(summary, form, output, gate))


def _summary(
    results: Path, official: Path | str, subset: str | None, rule: FailedRule, gate: GateOptions
) -> Summary:
    """Score a results file; `official` is a path to official results, or the name of rows."""
    from k2_verifier_adapter.formats.counted_lines import CountedLines
    from k2_verifier_adapter.formats.official import member_of, official_of_results, official_of_rows
    from k2_verifier_adapter.formats.scoring import score_results
    from k2_verifier_adapter.formats.upstream import open_lines

    with ExitStack() as stack:
        lines = stack.enter_context(open_lines(results, member_of(results, subset)))
        with _bar("official answers", official) as read:
            if isinstance(official, Path):
                opened = official_of_results(official, subset, read)
            else:
                opened = official_of_rows(official, subset or "")
            index = stack.enter_context(opened)
        with _bar("scoring", results) as read:
            counted = CountedLines(lines, read)
            return score_results(counted, index, subset=subset, failed_rule=rule, minimums=gate.minimums)


def _bar(label: str, path: Path | str) -> AbstractContextManager[Callable[[int], None]]:
    """Show how many bytes of a file were read; of an archive, the size inside is not known."""
    is_plain = isinstance(path, Path) and path.is_file() and path.suffix == ".jsonl"
    return progress(label, Path(path).stat().st_size if is_plain else None)
