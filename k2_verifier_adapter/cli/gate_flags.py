"""The gate flags that `eval` and `report` share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from k2_verifier_adapter.reports.gate import Decision

_SHARE = click.FloatRange(0, 1)


def gate_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the gate flags to a command, which gets them as one `gate` argument (`GateOptions`)."""

    @click.option(
        "--gate",
        type=click.Choice(["none", "upstream", "strict"]),
        default="none",
        show_default=True,
        help="The rule that decides the exit code. upstream: value >= threshold. strict: the 95% "
        "interval's lower bound >= threshold.",
    )
    @click.option(
        "--inconclusive",
        type=click.Choice(["fail", "ok"]),
        help="What an inconclusive verdict means for the exit code: 1 (fail) or 0 (ok); 3 without it.",
    )
    @click.option(
        "--min-trigger-similarity",
        type=_SHARE,
        metavar="X",
        help="Threshold of trigger_similarity, instead of the subset's own.",
    )
    @click.option("--min-schema-accuracy", type=_SHARE, metavar="X", help="Threshold of schema_accuracy.")
    @click.option(
        "--min-coverage",
        type=_SHARE,
        metavar="X",
        help="Share of the requests that must have completed, else exit code 3; 0.95 with a gate, "
        "unchecked without.",
    )
    @functools.wraps(command)
    def with_gate(
        *args: Any,
        gate: str,
        inconclusive: str | None,
        min_trigger_similarity: float | None,
        min_schema_accuracy: float | None,
        min_coverage: float | None,
        **kwargs: Any,
    ) -> Any:
        from k2_verifier_adapter.core.verdict import Gate
        from k2_verifier_adapter.reports.gate import GateOptions, WhenInconclusive

        thresholds = {
            "trigger_similarity": min_trigger_similarity,
            "schema_accuracy": min_schema_accuracy,
        }
        options = GateOptions(
            gate=Gate(gate),
            inconclusive=None if inconclusive is None else WhenInconclusive(inconclusive),
            min_coverage=min_coverage,
            minimums={name: value for name, value in thresholds.items() if value is not None},
        )
        if options.gate is Gate.NONE and (options.minimums or options.inconclusive):
            click.echo(
                "k2-verifier: without --gate upstream or --gate strict, thresholds are shown in the report "
                "but do not decide the exit code",
                err=True,
            )
        return command(*args, gate=options, **kwargs)

    return with_gate


def say(decision: Decision) -> None:
    """Say on standard error what decided the exit code."""
    from k2_verifier_adapter.reports.printable import printable

    if decision.reason is not None:
        click.echo(f"k2-verifier: {printable(decision.reason)}", err=True)
