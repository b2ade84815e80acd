"""`k2-verifier score`: what a log is worth, from its raw responses, offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from k2_verifier_adapter.cli.flags import gate_flags, profile_option
from k2_verifier_adapter.cli.output import (
    check_destination,
    check_full,
    deliver,
    deliver_run,
    full_option,
    output_option,
    progress,
    redact_option,
    run_format_option,
    say,
)
from k2_verifier_adapter.cli.verbosity import LOGGER

if TYPE_CHECKING:
    from k2_verifier_adapter.core.verdict import GateOptions
    from k2_verifier_adapter.offline.bundle import Bundle
    from k2_verifier_adapter.offline.official import OfficialAnswers
    from k2_verifier_adapter.offline.scoring import Log, OpenEngine


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
    """Judge RESULTS, the results.jsonl of upstream's tool or of `export`, or a bundle.

    Every response is judged again from its raw form; nothing is sent. Lines are joined with the
    official answers by data_index, all of which count. Of several lines of one data_index the newest counts.

    A bundle of `export --bundle` is verified to the last byte, and judged like the files in it, against its
    own rows unless others are given.

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
    k2-verifier score vendor.zip --rows rows/ --gate strict
    """
    from k2_verifier_adapter.core.log_facts import FailedRule
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.evalscope_plugin.parameters import gate_options
    from k2_verifier_adapter.formats.bundles import SUFFIX
    from k2_verifier_adapter.formats.rows import only_subset
    from k2_verifier_adapter.formats.upstream import find_result_files
    from k2_verifier_adapter.offline.bundle import open_bundle
    from k2_verifier_adapter.offline.official import load_official
    from k2_verifier_adapter.offline.scoring import Log

    is_bundle = any(path.suffix == SUFFIX for path in results)
    if (baseline is None) == (rows is None) and not (is_bundle and rows is None):
        raise UsageError("give the official answers, either by --baseline OFFICIAL.jsonl or by --rows ROWS")
    if is_bundle and len(results) > 1:
        raise UsageError(f"{results[0]}: a bundle is a run of its own; score one at a time")
    check_destination(form, output)
    check_full(full=full, form=form)
    destination = _Destination(form, output, redact, full)
    asked = gate_options(gate)
    rule = FailedRule.NO_CALL if failed_as_no_call else FailedRule.LEFT_OUT
    if not is_bundle:
        subset = subset or (None if rows is None else only_subset(rows))
        log = Log(find_result_files(results), subset, rule, profile)
        with _bar("official answers", [baseline or Path(str(rows))]) as read:
            official = load_official(baseline, rows, subset, read)
        _score(ctx, log, official, destination, gate=asked, engine=engine)
        return
    with open_bundle(results[0]) as bundle:
        click.echo(
            f"k2-verifier: bundle verified, SHA-256 of its manifest {bundle.manifest_sha256}", err=True
        )
        if bundle.redacted:
            without_effect = {
                "--baseline": baseline is not None,
                "--failed-as-no-call": failed_as_no_call,
                "--engine ray": engine != "local",
                "--profile": profile is not None,
                "--full": full,
                "--subset": subset is not None and rows is None,
            }
            if given := [flag for flag, is_given in without_effect.items() if is_given]:
                raise UsageError(
                    f"{', '.join(given)}: without effect, for a redacted bundle holds no answers to judge: "
                    "leave it away, and hold its digests against --rows ROWS"
                )
            _recount(ctx, bundle, destination, asked, rows=rows, subset=subset)
            return
        subset, profile = subset or bundle.facts.subset, profile or bundle.facts.profile
        official = bundle.official()
        if baseline is not None or rows is not None:
            official = load_official(baseline, rows, subset)
        log = Log([bundle.results], subset, rule, profile)
        _score(ctx, log, official, destination, gate=asked, engine=engine, bundle=bundle)


class _Destination(NamedTuple):
    """What becomes of the report."""

    form: str
    output: Path | None
    redact: bool
    full: bool


def _score(
    ctx: click.Context,
    log: Log,
    official: OfficialAnswers,
    destination: _Destination,
    *,
    gate: GateOptions,
    engine: str,
    bundle: Bundle | None = None,
) -> None:
    """Score a log, deliver the report, and end with the exit code of its gate."""
    import logging

    from k2_verifier_adapter.core.gate import exit_code, refuse_undecidable
    from k2_verifier_adapter.core.redaction import redact_summary
    from k2_verifier_adapter.offline.bundle import held_against_its_report
    from k2_verifier_adapter.offline.failed_cases import redacted_cases
    from k2_verifier_adapter.offline.scoring import score_log
    from k2_verifier_adapter.reports.formats import BY_NAME, Media, RunReport

    refuse_undecidable(
        gate,
        log.subset or "a log without --subset",
        official.standard,
        synthetic=official.info.synthetic,
        several_runs=official.several_runs,
    )
    logging.getLogger(LOGGER).debug("%d official answers in %s", len(official.cases), official.info.source)
    with _bar("scoring", log.files) as read:
        summary, failed = score_log(
            log,
            official,
            gate=gate,
            advance=read,
            open_engine=_engine(engine),
            keep_failed=BY_NAME[destination.form].media is Media.PAGE,
        )
    logging.getLogger(LOGGER).debug("%d lines in %d files scored", summary.total, len(log.files))
    if bundle is not None:
        summary = held_against_its_report(summary, bundle, official)
    decision = exit_code(summary)
    if destination.redact:
        failed = redacted_cases(failed, summary.tally.tools.by_name)
        summary = redact_summary(summary)
    places = [("all of it", "the same command with --full, or with --output report.html")]
    report = RunReport(summary, failed)
    deliver_run(report, destination.form, destination.output, decision, full=destination.full, places=places)
    ctx.exit(decision.code)


def _recount(
    ctx: click.Context,
    bundle: Bundle,
    destination: _Destination,
    asked: GateOptions,
    *,
    rows: str | None,
    subset: str | None,
) -> None:
    """Tell what can be told of a redacted bundle; no gate can be decided by it."""
    from k2_verifier_adapter.core.gate import INCONCLUSIVE, Decision, required_coverage
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.reports.formats import BY_NAME, BundleReport

    if BundleReport not in BY_NAME[destination.form].of:
        raise UsageError(f"--format {destination.form}: a redacted bundle has no checks to count")
    recount = bundle.recount(rows, subset)
    report = BundleReport(recount, bundle.uncheckable, bundle.report)
    deliver(report, destination.form, destination.output)
    completed, planned = sum(recount.counts[name] for name in ("tp", "fp", "fn", "tn")), bundle.facts.planned
    reason = None
    if asked.decides:
        reason = "gate: no verdict possible: a redacted bundle cannot be judged again"
    elif bundle.facts.stopping is None and completed < required_coverage(asked) * planned:
        reason = f"incomplete: {completed:,} of {planned:,} requests completed"
    if reason is not None:
        say(Decision(INCONCLUSIVE, reason))
        ctx.exit(INCONCLUSIVE)


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
