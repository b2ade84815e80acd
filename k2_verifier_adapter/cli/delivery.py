"""What `report` and `score` share: the form of the report, redaction, where it goes, the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2_verifier_adapter.cli.gate_flags import say
from k2_verifier_adapter.cli.output import printed_report, write_or_print

if TYPE_CHECKING:
    from k2_verifier_adapter.core.gate import Decision, GateOptions
    from k2_verifier_adapter.core.summary import Summary
    from k2_verifier_adapter.reports.failed_cases import FailedCase

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json owns standard output; everything else goes to standard error.",
)

report_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown", "html", "junit"]),
    default="text",
    show_default=True,
    help="The report owns standard output; everything else goes to standard error.",
)

output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file instead of printing."
)


redact_option = click.option(
    "--redact",
    is_flag=True,
    help="Leave out whatever may repeat prompts, tools or answers: for sharing.",
)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def check_destination(form: str, output: Path | None) -> None:
    """Refuse to fill a terminal with HTML, before the work is done.

    Raises:
        UsageError: If the page would be printed on a terminal.
    """
    from k2_verifier_adapter.errors import UsageError

    if form == "html" and output is None and is_terminal():
        raise UsageError("--format html: a page is not for a terminal; add --output report.html")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A report that waits to be printed or written, and what the gate decides.

    Attributes:
        content: The report; documents are bytes in UTF-8, whatever the terminal speaks.
        output: The file to write, or None to print.
        decision: What the gate decides.
    """

    content: str | bytes
    output: Path | None
    decision: Decision

    def deliver(self) -> int:
        """Print or write the report, say what the gate decides, and give the exit code."""
        write_or_print(self.content, self.output)
        say(self.decision)
        return self.decision.code


def prepare(
    summary: Summary,
    form: str,
    output: Path | None,
    gate: GateOptions,
    *,
    redact: bool,
    failed_cases: Callable[[], Iterable[FailedCase]],
) -> Prepared:
    """Make a report, and decide.

    Args:
        summary: What to report.
        form: One of the formats.
        output: The file to write, or None to print.
        gate: What the user asked for.
        redact: Whether to leave out whatever may repeat prompts, tools or answers.
        failed_cases: Gives the failed cases, for the formats that show them; called only for these.
    """
    from k2_verifier_adapter.core.gate import exit_code
    from k2_verifier_adapter.core.redaction import redact_summary

    if redact:
        summary = redact_summary(summary)
    is_printed_text = form == "text" and output is None
    content = printed_report(summary) if is_printed_text else _rendered(summary, form, gate, failed_cases)
    return Prepared(content, output, exit_code(summary, gate))


def _rendered(
    summary: Summary, form: str, gate: GateOptions, failed_cases: Callable[[], Iterable[FailedCase]]
) -> str | bytes:
    if form == "json":
        from k2_verifier_adapter.reports.json_report import dump_report

        return dump_report(summary)
    if form == "markdown":
        from k2_verifier_adapter.reports.markdown import render_markdown

        return render_markdown(summary).encode("utf-8", "backslashreplace")
    if form == "junit":
        from k2_verifier_adapter.reports.junit import render_junit

        return render_junit(summary, gate).encode("utf-8", "backslashreplace")
    if form == "html":
        from k2_verifier_adapter.reports.html.page import render_html

        return render_html(summary, failed_cases()).encode("utf-8", "backslashreplace")
    from k2_verifier_adapter.reports.text import render_text

    return render_text(summary)
