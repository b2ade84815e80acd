"""What `report` and `score` share: the form of the report, where it goes, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.gate_flags import say
from k2_verifier_adapter.cli.output import print_report, write_or_print

if TYPE_CHECKING:
    from k2_verifier_adapter.core.summary import Summary
    from k2_verifier_adapter.reports.gate import GateOptions

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json owns standard output; everything else goes to standard error.",
)

output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead of printing."
)


def deliver(summary: Summary, form: str, output: Path | None, gate: GateOptions) -> int:
    """Print or write a report, say what the gate decides, and give the exit code."""
    from k2_verifier_adapter.reports.gate import exit_code
    from k2_verifier_adapter.reports.json_report import dump_report
    from k2_verifier_adapter.reports.text import render_text

    decision = exit_code(summary, gate)
    if form == "json":
        write_or_print(dump_report(summary), output)
    elif output is None:
        print_report(summary)
    else:
        write_or_print(render_text(summary), output)
    say(decision)
    return decision.code
