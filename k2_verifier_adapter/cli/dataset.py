"""`k2-verifier dataset`: rows from upstream's files and own official runs, and a check of any rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.flags import SHARE
from k2_verifier_adapter.cli.output import colour_wanted, format_option, progress

if TYPE_CHECKING:
    from k2_verifier_adapter.offline.official_runs import Source

_FILE = click.Path(path_type=Path, dir_okay=False)
UNUSABLE = 2
"""Exit code where rows cannot be used."""


@click.group(short_help="Build rows from official results, or check rows.")
def dataset() -> None:
    """Build rows from official results, or check rows.

    \b
    k2-verifier dataset build --archive tool-calls.tar.gz --subset k2_0905 \\
        --output rows
    k2-verifier dataset check rows --subset k2_0905
    """


@dataset.command(short_help="Build the rows of a subset from official results.")
@click.option(
    "--samples",
    type=_FILE,
    help="Upstream's samples.jsonl; if left out, the requests are the baseline's own.",
)
@click.option(
    "--baseline",
    "baselines",
    type=_FILE,
    multiple=True,
    help="Official results.jsonl. The first gives the answers; others, of further official runs, give the "
    "self-agreement and with it the threshold.",
)
@click.option("--archive", type=_FILE, help="Upstream's tool-calls.tar.gz, instead of the two.")
@click.option("--subset", required=True, help="Name of the subset, such as k2_thinking or k2_0905.")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for SUBSET_test.jsonl and SUBSET.baseline.json.",
)
@click.option(
    "--threshold",
    type=SHARE,
    metavar="X",
    help="Threshold of trigger_similarity, instead of the mean self-agreement less 0.03.",
)
@click.pass_context
def build(
    ctx: click.Context,
    *,
    samples: Path | None,
    baselines: tuple[Path, ...],
    archive: Path | None,
    subset: str,
    output: Path,
    threshold: float | None,
) -> None:
    """Build the rows of a subset from an official run, and say what was left out.

    Samples and results are joined by data_index. What cannot be joined for sure is left out and listed.

    \b
    k2-verifier dataset build --archive tool-calls.tar.gz --subset k2_0905 \\
        --output rows
    k2-verifier dataset build --samples samples.jsonl --baseline results.jsonl \\
        --subset k2_5 --output rows
    k2-verifier dataset build --baseline run1.jsonl --baseline run2.jsonl \\
        --subset mine --output rows
    """
    from k2_verifier_adapter.offline.dataset_build import build_subset
    from k2_verifier_adapter.reports.dataset_document import build_document
    from k2_verifier_adapter.reports.text import UNFOLDED, render_text

    prompts, runs = _sources(samples, baselines, archive, subset)
    plain = [source.path for source in (prompts, *runs) if source is not None]
    # Of what is compressed, the size inside is not known.
    is_known = all(path.name.endswith(".jsonl") and path.is_file() for path in plain)
    total = sum(path.stat().st_size for path in plain) if is_known else None
    with progress(f"Building {subset}", total) as advance:
        built = build_subset(subset, output, prompts, runs, threshold=threshold, advance=advance)
    click.echo(render_text(build_document(built), colour=colour_wanted(), width=UNFOLDED), nl=False)
    if not built.rows:
        click.echo(f"k2-verifier: error: no row of {subset} remains; nothing was written", err=True)
        ctx.exit(UNUSABLE)


def _sources(
    samples: Path | None, baselines: tuple[Path, ...], archive: Path | None, subset: str
) -> tuple[Source | None, list[Source]]:
    """Name the files to read."""
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.formats.lines import ARCHIVE_SUFFIXES
    from k2_verifier_adapter.formats.upstream import RESULTS_MEMBERS, SAMPLES_MEMBER
    from k2_verifier_adapter.offline.official_runs import Source

    if archive is not None:
        if samples is not None or baselines:
            raise UsageError("--archive holds samples and results; leave --samples and --baseline away")
        if not archive.name.endswith(ARCHIVE_SUFFIXES):
            raise UsageError(f"--archive is {str(archive)!r}, expected {', '.join(ARCHIVE_SUFFIXES)}")
        if subset not in RESULTS_MEMBERS:
            known = " or ".join(RESULTS_MEMBERS)
            raise UsageError(f"--subset is {subset!r}; with --archive it is {known}")
        return Source(archive, SAMPLES_MEMBER), [Source(archive, RESULTS_MEMBERS[subset])]
    if not baselines:
        raise UsageError("give --baseline RESULTS.jsonl (and --samples), or --archive tool-calls.tar.gz")
    for flag, path in (("--samples", samples), *(("--baseline", path) for path in baselines)):
        if path is not None and path.name.endswith(ARCHIVE_SUFFIXES):
            raise UsageError(f"{flag} is an archive: {path}; give it with --archive, or unpack it")
    return None if samples is None else Source(samples), [Source(path) for path in baselines]


@dataset.command(short_help="Say whether rows can be used, and what is in them.")
@click.argument("path")
@click.option("--subset", help="Check one subset of a directory instead of all.")
@format_option("text", "json")
@click.pass_context
def check(ctx: click.Context, path: str, *, subset: str | None, form: str) -> None:
    """Say of PATH, which local_path would take, whether it can be used, and list every bad row.

    PATH is a .jsonl or .parquet file, a directory of subsets, or 'bundled'. Exit code 0 if all of it can be
    used, else 2; tools whose schema is broken are warnings.

    \b
    k2-verifier dataset check rows
    k2-verifier dataset check rows/k2_0905_test.jsonl --format json
    """
    from k2_verifier_adapter.formats.rows import find_subsets
    from k2_verifier_adapter.offline.dataset_check import check_subset
    from k2_verifier_adapter.reports.dataset_document import check_document, dump_checks
    from k2_verifier_adapter.reports.text import UNFOLDED, render_text

    with progress(f"Checking {path}") as on_row:
        subsets = find_subsets(path) if subset is None else [subset]
        checks = [check_subset(path, name, on_row) for name in subsets]
    if form == "json":
        found = dump_checks(path, checks)
    else:
        found = render_text(check_document(path, checks), colour=colour_wanted(), width=UNFOLDED)
    click.echo(found, nl=False)
    ctx.exit(0 if all(item.usable for item in checks) else UNUSABLE)
