"""`k2-verifier score`: what a log is worth, from its raw responses, offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2_verifier_adapter.cli.flags import gate_flags, profile_option
from k2_verifier_adapter.cli.output import (
    check_destination,
    check_full,
    deliver_run,
    full_option,
    output_option,
    progress,
    redact_option,
    run_format_option,
)
from k2_verifier_adapter.cli.verbosity import LOGGER

if TYPE_CHECKING:
    from k2_verifier_adapter.offline.scoring import OpenEngine


@click.command(short_help="Judge upstream results files offline.")
@click.argument("results", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
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
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What scores: this process, or Ray, here or on the cluster that RAY_ADDRESS names.",
)
@profile_option
@run_format_option
@output_option
@full_option
@redact_option
@gate_flags
@click.pass_context
def score(
    ctx: click.Context,
    results: tuple[Path, ...],
    *,
    baseline: Path | None,
    rows: str | None,
    subset: str | None,
    failed_as_no_call: bool,
    engine: str,
    profile: str | None,
    form: str,
    output: Path | None,
    full: bool,
    redact: bool,
    gate: Mapping[str, Any],
) -> None:
    """Judge RESULTS, the results.jsonl of upstream's tool or of `export`, old or new.

    Every response is judged again from its raw form; nothing is sent. Lines are joined with the
    official answers by data_index, all of which count. Of several lines of one data_index the newest counts.

    Several files are one log, and so is what lies in a directory: .jsonl, .jsonl.gz and .parquet files,
    by name. In a parquet file, request and response are columns of JSON text.

    \b
    k2-verifier score results.jsonl --baseline kimi-k2-thinking_results.jsonl \\
        --subset k2_thinking
    k2-verifier score results.jsonl --baseline tool-calls.tar.gz \\
        --subset k2_0905 --gate strict
    k2-verifier score results.jsonl --rows rows/ --subset k2_thinking \\
        --format json
    k2-verifier score results.jsonl --baseline official.jsonl --format html \\
        --output report.html
    k2-verifier score logs/ --baseline official.jsonl --engine ray
    """
    import logging

    from k2_verifier_adapter.core.gate import exit_code, refuse_undecidable
    from k2_verifier_adapter.core.log_facts import FailedRule
    from k2_verifier_adapter.core.redaction import redact_summary
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.evalscope_plugin.parameters import gate_options
    from k2_verifier_adapter.formats.upstream import find_result_files
    from k2_verifier_adapter.offline.failed_cases import redacted_cases
    from k2_verifier_adapter.offline.official import load_official
    from k2_verifier_adapter.offline.scoring import Log, score_log
    from k2_verifier_adapter.reports.formats import BY_NAME, Media, RunReport

    if (baseline is None) == (rows is None):
        raise UsageError("give the official answers, either by --baseline OFFICIAL.jsonl or by --rows ROWS")
    check_destination(form, output)
    check_full(full=full, form=form)
    asked = gate_options(gate)
    rule = FailedRule.NO_CALL if failed_as_no_call else FailedRule.LEFT_OUT
    log = Log(find_result_files(results), subset, rule, profile)
    with _bar("official answers", [baseline or Path(str(rows))]) as read:
        official = load_official(baseline, rows, subset, read)
    refuse_undecidable(
        asked,
        subset or "a log without --subset",
        official.standard,
        synthetic=official.info.synthetic,
        several_runs=official.several_runs,
    )
    logging.getLogger(LOGGER).debug("%d official answers in %s", len(official.cases), official.info.source)
    with _bar("scoring", log.files) as read:
        summary, failed = score_log(
            log,
            official,
            gate=asked,
            advance=read,
            open_engine=_engine(engine),
            keep_failed=BY_NAME[form].media is Media.PAGE,
        )
    logging.getLogger(LOGGER).debug("%d lines in %d files scored", summary.total, len(log.files))

    decision = exit_code(summary)
    if redact:
        failed = redacted_cases(failed, summary.tally.tools.by_name)
        summary = redact_summary(summary)
    places = [("all of it", "the same command with --full, or with --format html --output report.html")]
    deliver_run(RunReport(summary, failed), form, output, decision, full=full, places=places)
    ctx.exit(decision.code)


def _engine(name: str) -> OpenEngine | None:
    """Choose what scores; None for this process."""
    if name == "local":
        return None
    from k2_verifier_adapter.offline.ray_engine import ray_engine

    return ray_engine


def _bar(label: str, paths: Sequence[Path]) -> AbstractContextManager[Callable[[int], None]]:
    """Show how many bytes were read; of what is compressed, the size inside is not known."""
    is_known = all(path.suffix == ".jsonl" and path.is_file() for path in paths)
    return progress(label, sum(path.stat().st_size for path in paths) if is_known else None)
