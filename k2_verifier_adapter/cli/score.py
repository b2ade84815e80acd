"""`k2-verifier score`: what a log is worth, from its raw responses, offline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
from k2_verifier_adapter.cli.gate_flags import gate_flags
from k2_verifier_adapter.cli.progress import progress
from k2_verifier_adapter.cli.verbosity import LOGGER

if TYPE_CHECKING:
    from k2_verifier_adapter.core.gate import GateOptions
    from k2_verifier_adapter.core.summary import Summary
    from k2_verifier_adapter.offline.scoring.log import Log, OpenEngine
    from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex
    from k2_verifier_adapter.reports.failed_cases import FailedCase


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
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that score; the report is the same for any number.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What scores: this machine, or Ray, here or on the cluster that RAY_ADDRESS names.",
)
@report_format_option
@output_option
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
    workers: int,
    engine: str,
    form: str,
    output: Path | None,
    redact: bool,
    gate: GateOptions,
) -> None:
    """Judge RESULTS, the results.jsonl of upstream's tool or of `export`, old or new.

    Every response is judged again from its raw form; nothing is sent. Lines are joined with the
    official answers by data_index. Lines of one data_index that follow each other are repeats.

    Several files are one log, and so is what lies in a directory: .jsonl and .parquet files, by name. In
    a parquet file, request and response are columns of JSON text.

    \b
    k2-verifier score results.jsonl --baseline kimi-k2-thinking_results.jsonl \\
        --subset k2_thinking
    k2-verifier score results.jsonl --baseline tool-calls.tar.gz \\
        --subset k2_0905 --gate strict
    k2-verifier score results.jsonl --rows rows/ --subset k2_thinking \\
        --format json
    k2-verifier score results.jsonl --baseline official.jsonl --format html \\
        --output report.html
    k2-verifier score logs/ --baseline official.jsonl --workers 8
    """
    import logging

    from k2_verifier_adapter.core.log_facts import FailedRule
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.offline.result_files import find_result_files
    from k2_verifier_adapter.offline.scoring.log import Log, score_files

    if (baseline is None) == (rows is None):
        raise UsageError("give the official answers, either by --baseline OFFICIAL.jsonl or by --rows ROWS")
    check_destination(form, output)
    rule = FailedRule.NO_CALL if failed_as_no_call else FailedRule.LEFT_OUT
    log = Log(find_result_files(results), subset, rule)
    open_engine = _open_engine(engine, workers)
    with _official(log, baseline or str(rows)) as index:
        with _bar("scoring", log.files) as read:
            summary = score_files(log, index, minimums=gate.minimums, advance=read, engine=open_engine)
        logging.getLogger(LOGGER).debug("%d lines in %d files scored", summary.total, len(log.files))

        def failed_cases() -> Iterable[FailedCase]:
            return _failed_cases(log, index, summary, redact=redact)

        report = prepare(summary, form, output, gate, redact=redact, failed_cases=failed_cases)
    ctx.exit(report.deliver())


def _open_engine(engine: str, workers: int) -> OpenEngine | None:
    """Choose what scores; None for this process alone.

    Raises:
        UsageError: If the flags do not go together.
    """
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.offline.scoring.log import worker_processes

    if engine == "local":
        return worker_processes(workers) if workers > 1 else None
    if workers > 1:
        raise UsageError("--engine ray uses the processes that Ray has; leave --workers away")
    from k2_verifier_adapter.offline.scoring.ray_engine import ray_engine

    return ray_engine


@contextmanager
def _official(log: Log, official: Path | str) -> Iterator[OfficialIndex]:
    """Index the official answers; `official` is a path to official results, or the name of rows."""
    import logging

    from k2_verifier_adapter.offline.scoring.official import official_of_results, official_of_rows

    with ExitStack() as stack:
        with _bar("official answers", [Path(official)]) as read:
            if isinstance(official, Path):
                opened = official_of_results(official, log.subset, read)
            else:
                opened = official_of_rows(official, log.subset or "")
            index = stack.enter_context(opened)
        logging.getLogger(LOGGER).debug("%d official answers in %s", len(index), official)
        yield index


def _failed_cases(
    log: Log, official: OfficialIndex, summary: Summary, *, redact: bool
) -> Iterator[FailedCase]:
    """Read the lines of the failed cases once more, for the format that shows them."""
    import logging

    from k2_verifier_adapter.offline.failed_cases_of_log import failed_cases_of_log
    from k2_verifier_adapter.offline.scoring.read_again import read_failed_lines

    assert summary.log is not None, "the summary is that of a log"
    again = sum(1 for _ in summary.log.failed_lines)
    logging.getLogger(LOGGER).debug("%d lines of failed cases are read again", again)
    with _bar("failed cases", log.files) as read:
        lines = read_failed_lines(log, official, summary.log.failed_lines, read)
        yield from failed_cases_of_log(summary, lines, redact=redact)


def _bar(label: str, paths: Sequence[Path]) -> AbstractContextManager[Callable[[int], None]]:
    """Show how many bytes were read; of an archive or a parquet file, the size inside is not known."""
    is_known = all(path.suffix == ".jsonl" and path.is_file() for path in paths)
    return progress(label, sum(path.stat().st_size for path in paths) if is_known else None)
