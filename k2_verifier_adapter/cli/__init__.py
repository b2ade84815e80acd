"""The `k2-verifier` command: parse, call, print, exit code.

Only click is imported here and in the modules of the commands; everything else is imported inside
the command that needs it, so that `--help`, `report` and `export` start fast.
"""

from __future__ import annotations

import sys
from typing import IO, Any

import click

from k2_verifier_adapter.cli import (
    compare,
    dataset,
    demo,
    doctor,
    evaluate,
    export,
    report,
    score,
    simulate,
)
from k2_verifier_adapter.errors import K2VerifierError
from k2_verifier_adapter.version import __version__

__all__ = ["main"]


class _Failure(click.ClickException):
    """An expected error: one line on standard error."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, made safe for a terminal."""
        from k2_verifier_adapter.reports.printable import printable

        click.echo(f"k2-verifier: error: {printable(self.format_message())}", file=file, err=file is None)


class _Commands(click.Group):
    """The commands; expected errors end without traceback, an interruption as incomplete."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal or pipe that cannot show a character gets its escape instead of an error.
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except K2VerifierError as error:
            raise _Failure(str(error)) from None
        except KeyboardInterrupt:
            click.echo("k2-verifier: interrupted", err=True)
            ctx.exit(evaluate.INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="k2-verifier")
def main() -> None:
    """Verify how a vendor's Kimi K2 endpoint calls tools, against the official API.

    \b
    k2-verifier demo                        see the whole chain on synthetic rows
    k2-verifier doctor --api-url URL        check what is installed and reachable
    k2-verifier eval --config configs/k2_thinking.yaml --gate strict
    k2-verifier report outputs/20261122_101500

    Exit codes: 0 done and, if a gate was asked, passed; 1 gate failed; 2 usage error or no data;
    3 inconclusive or incomplete.
    """


main.add_command(evaluate.evaluate)
main.add_command(demo.demo)
main.add_command(simulate.simulate)
main.add_command(report.report)
main.add_command(compare.compare)
main.add_command(score.score)
main.add_command(export.export)
main.add_command(dataset.dataset)
main.add_command(doctor.doctor)
