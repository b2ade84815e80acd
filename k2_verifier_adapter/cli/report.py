"""`k2-verifier report`: what a run is worth, from its stored responses."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from k2_verifier_adapter.cli.flags import baseline_flags, gate_flags, profile_option
from k2_verifier_adapter.cli.output import (
    any_format_option,
    check_destination,
    check_full,
    deliver_probes,
    deliver_run,
    full_option,
    output_option,
    page_of,
    redact_option,
)
from k2_verifier_adapter.version import BENCHMARK, BENCHMARKS, CONFORMANCE


@click.command(short_help="Report on a run: verdict, metrics, failures.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", help="The model, where the run holds several.")
@click.option("--subset", help="The subset, where the run holds several; of probes, a suite.")
@click.option(
    "--benchmark",
    type=click.Choice(BENCHMARKS),
    help="What to report on, where the run asked rows and probes; the rows without it.",
)
@profile_option
@any_format_option
@output_option
@full_option
@redact_option
@baseline_flags
@gate_flags
@click.pass_context
def report(
    ctx: click.Context,
    run: Path,
    *,
    model: str | None,
    subset: str | None,
    benchmark: str | None,
    profile: str | None,
    form: str,
    output: Path | None,
    full: bool,
    redact: bool,
    gate: Mapping[str, Any],
) -> None:
    """Report on RUN, the directory that EvalScope wrote.

    Every stored response is judged again; nothing is sent. Without gate flags, the gate that the run was
    made with decides.

    \b
    k2-verifier report outputs/20261122_101500
    k2-verifier report outputs/20261122_101500 --full
    k2-verifier report outputs/20261122_101500 --format json --output report.json
    k2-verifier report outputs/20261122_101500 --format html --output report.html
    k2-verifier report outputs/20261122_101500 --redact \\
        --output for-the-vendor.txt
    k2-verifier report outputs/20261122_101500 --gate strict \\
        --min-schema-accuracy 0.95
    k2-verifier report outputs/20261122_101500 --baseline outputs/20261115_101500
    """
    from dataclasses import replace

    from k2_verifier_adapter.core.gate import exit_code
    from k2_verifier_adapter.core.redaction import redact_summary
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.evalscope_plugin.parameters import gate_options
    from k2_verifier_adapter.formats.runs import choose_run, read_run
    from k2_verifier_adapter.offline.conformance import holds_probes
    from k2_verifier_adapter.offline.failed_cases import failed_cases_of_run, redacted_cases
    from k2_verifier_adapter.offline.participants import held_against
    from k2_verifier_adapter.offline.stored import judge_run, summary_of
    from k2_verifier_adapter.reports.formats import RunReport

    check_destination(form, output)
    check_full(full=full, form=form)
    probes_only = benchmark is None and not (run / BENCHMARK).is_dir()
    if holds_probes(run) and (benchmark == CONFORMANCE or probes_only):
        if full:
            raise click.UsageError("--full: the report on probes is always whole")
        if profile is not None:
            raise UsageError("--profile: probes were asked as one model's, and are judged as such")
        ctx.exit(_report_probes(run, model, subset, form, output, redact=redact, gate=gate))
    if benchmark is None and holds_probes(run):
        click.echo(f"k2-verifier: {run} asked probes, too: --benchmark {CONFORMANCE}", err=True)
    stored = read_run(choose_run(run, model, subset))
    page = page_of(stored.paths)
    if profile is not None:
        stored, page = replace(stored, facts=replace(stored.facts, profile=profile)), None
    items = judge_run(stored)
    asked = gate_options(gate) if gate else stored.facts.gate
    if gate and asked != stored.facts.gate:
        click.echo("k2-verifier: judged by this command's flags, not by the gate of the run", err=True)
        page = None
    summary = held_against(stored, items, summary_of(stored, items, gate=asked))
    cases = failed_cases_of_run(stored, items)
    decision = exit_code(summary)
    if redact:
        cases = redacted_cases(cases, summary.tally.tools.by_name)
        summary, page = redact_summary(summary), None
    places = [] if page is None else [("report", str(page))]
    places.append(
        ("all of it", f"k2-verifier report {shlex.quote(str(run))} --full, or --output report.html")
    )
    deliver_run(RunReport(summary, cases), form, output, decision, full=full, places=places, page=page)
    ctx.exit(decision.code)


def _report_probes(
    run: Path,
    model: str | None,
    suite: str | None,
    form: str,
    output: Path | None,
    *,
    redact: bool,
    gate: Mapping[str, Any],
) -> int:
    """Report on the probes of a run; give the exit code."""
    from k2_verifier_adapter.core.conformance import results
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.offline.conformance import read_conformance, with_gate

    for name, value in gate.items():
        if (name, value) not in {("gate", "strict"), ("gate", "none")}:
            raise UsageError(
                f"{name} is {value!r}, but of probes only --gate strict decides: all have to pass"
            )
    found = with_gate(read_conformance(run, model, suite), gate.get("gate"))
    return deliver_probes(results.redact(found) if redact else found, form, output)
