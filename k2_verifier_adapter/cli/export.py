"""`k2-verifier export`: a run in upstream's own files."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write a run as upstream's results.jsonl.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The results file, one line a case and repeat, in row order.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .zip to hand over: rows, answers, digests, parameters and the report, with their SHA-256.",
)
@click.option(
    "--summary",
    "summary_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write upstream's summary file.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Leave messages, tools and responses out: what can be counted stays, for sharing.",
)
@click.option("--model", help="The model, where the run holds several.")
@click.option("--subset", help="The subset, where the run holds several.")
def export(
    run: Path,
    *,
    output: Path | None,
    bundle: Path | None,
    summary_file: Path | None,
    redact: bool,
    model: str | None,
    subset: str | None,
) -> None:
    """Write RUN as upstream's results.jsonl or as a bundle, every response judged again.

    A bundle is what a vendor sends to a buyer: `k2-verifier score evidence.zip` verifies and judges it.

    \b
    k2-verifier export outputs/20261122_101500 --output results.jsonl \\
        --summary summary.json
    k2-verifier export outputs/20261122_101500 --output shared.jsonl --redact
    k2-verifier export outputs/20261122_101500 --bundle evidence.zip
    """
    from k2_verifier_adapter.core.printable import plural, printable
    from k2_verifier_adapter.core.redaction import redact_summary
    from k2_verifier_adapter.errors import DataError, UsageError
    from k2_verifier_adapter.formats.bundles import SUFFIX
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.bundle import write_bundle
    from k2_verifier_adapter.offline.export import write_results, write_summary
    from k2_verifier_adapter.offline.stored import judge_run, summary_of

    outputs = [path.resolve() for path in (output, bundle, summary_file) if path is not None]
    if output is None and bundle is None:
        raise click.UsageError("nothing to write: give --output RESULTS.jsonl or --bundle FILE.zip")
    if len(set(outputs)) < len(outputs):
        raise UsageError("--output, --bundle and --summary name the same file: give each its own")
    if bundle is not None and bundle.suffix != SUFFIX:
        raise UsageError(
            f"--bundle {bundle}: expected a name that ends with {SUFFIX}, by which score knows it"
        )
    stored = read_run(choose_run(run, model, subset))
    if not stored.records and not stored.failed:
        raise DataError(f"{run}: the run holds no completed and no failed request; nothing was written")
    items = judge_run(stored)
    summary = summary_of(stored, items=items)
    if output is not None:
        lines = write_results(output, stored, items, redact=redact)
        said = f"{plural(lines, 'line')} written to {printable(str(output))}"
        click.echo(f"k2-verifier: {said}", err=True)
    if bundle is not None:
        digest = write_bundle(bundle, stored, items, redact=redact)
        said = f"bundle written to {printable(str(bundle))}, SHA-256 of its manifest {digest}"
        click.echo(f"k2-verifier: {said}", err=True)
    if summary.missing:
        missing = plural(summary.missing, "request")
        click.echo(f"k2-verifier: incomplete: {missing} never made, not in the file", err=True)
    if summary_file is not None:
        write_summary(summary_file, redact_summary(summary) if redact else summary)
        click.echo(f"k2-verifier: summary written to {printable(str(summary_file))}", err=True)
