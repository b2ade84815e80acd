"""The `k2-verifier` command: parse, call, print, exit code.

Only click is imported here and in the modules of the commands; everything else is imported inside
the command that needs it, so that `--help`, `report` and `export` start fast.
"""

from __future__ import annotations

import click

from k2_verifier_adapter.cli import (
    compare,
    conform,
    dataset,
    demo,
    doctor,
    evaluate,
    export,
    history,
    matrix,
    report,
    score,
    simulate,
)
from k2_verifier_adapter.cli.commands import Commands
from k2_verifier_adapter.cli.verbosity import verbose_option
from k2_verifier_adapter.version import __version__

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="k2-verifier")
def main() -> None:
    """Verify how a vendor's Kimi K2 endpoint calls tools, against the official API.

    \b
    k2-verifier demo                             two verdicts on simulated vendors
    k2-verifier doctor --api-url URL             what is installed and reachable
    k2-verifier eval --model MODEL --api-url URL --gate strict
    k2-verifier report outputs/20261122_101500   a run's report once more

    Exit codes: 0 done and, if a gate was asked, passed; 1 gate failed; 2 usage error or no data;
    3 inconclusive or incomplete.
    """


main.params.append(verbose_option())
main.add_command(evaluate.evaluate)
main.add_command(demo.demo)
main.add_command(simulate.simulate)
main.add_command(conform.conform)
main.add_command(report.report)
main.add_command(compare.compare)
main.add_command(matrix.matrix)
main.add_command(history.history)
main.add_command(score.score)
main.add_command(export.export)
main.add_command(dataset.dataset)
main.add_command(doctor.doctor)
