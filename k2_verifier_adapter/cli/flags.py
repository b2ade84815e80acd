"""The flags that several commands share, and those of `eval` that set the benchmark's own parameters.

The gate flags belong to `eval`, `report` and `score`; a baseline run is for the first two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS, Parameter

_SHARE = click.FloatRange(0, 1)

inconclusive_option = click.option(
    "--inconclusive",
    type=click.Choice(["fail", "ok"]),
    help="What an inconclusive verdict means for the exit code: 1 (fail) or 0 (ok); 3 without it.",
)

margin_option = click.option(
    "--margin",
    type=_SHARE,
    metavar="X",
    help="How much worse than the baseline a run may be, as a share; 0.03 unless set.",
)


def baseline_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a baseline run, above `gate_flags`, which puts them into its `gate` argument."""
    baseline = click.option(
        "--baseline",
        "baseline_run",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        metavar="RUN",
        help="A run over the same rows, an earlier one or another vendor's: the exit code also says whether "
        "this one is not worse.",
    )
    return baseline(margin_option(command))


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
    @inconclusive_option
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
        baseline_run: Path | None = None,
        margin: float | None = None,
        **kwargs: Any,
    ) -> Any:
        from k2_verifier_adapter.core.comparison.baseline import DEFAULT_MARGIN
        from k2_verifier_adapter.core.gate import GateOptions, WhenInconclusive
        from k2_verifier_adapter.core.verdict import Gate

        thresholds = {
            "trigger_similarity": min_trigger_similarity,
            "schema_accuracy": min_schema_accuracy,
        }
        options = GateOptions(
            gate=Gate(gate),
            inconclusive=None if inconclusive is None else WhenInconclusive(inconclusive),
            min_coverage=min_coverage,
            minimums={name: value for name, value in thresholds.items() if value is not None},
            baseline=None if baseline_run is None else str(baseline_run),
            margin=DEFAULT_MARGIN if margin is None else margin,
        )
        if baseline_run is None and margin is not None:
            raise click.UsageError("--margin goes with --baseline RUN: it says how much worse a run may be")
        if options.gate is Gate.NONE and (options.minimums or (options.inconclusive and not options.decides)):
            click.echo(
                "k2-verifier: without --gate upstream or --gate strict, thresholds are shown in the report "
                "but do not decide the exit code",
                err=True,
            )
        return command(*args, gate=options, **kwargs)

    return with_gate


def parameter_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command, which gets those that were set as one `parameters` argument."""
    with_flag = [parameter for parameter in PARAMETERS if parameter.flag_help is not None]

    @functools.wraps(command)
    def with_parameters(*args: Any, **kwargs: Any) -> Any:
        given = {parameter.name: kwargs.pop(parameter.name) for parameter in with_flag}
        parameters = {name: value for name, value in given.items() if value is not None}
        return command(*args, parameters=parameters, **kwargs)

    for parameter in reversed(with_flag):
        with_parameters = click.option(
            parameter.flag,
            type=_type_of(parameter),
            metavar=None if parameter.choices else parameter.metavar,
            help=parameter.flag_help,
        )(with_parameters)
    return with_parameters


def _type_of(parameter: Parameter) -> Any:
    """Give the values that a flag takes: not the one that means "none", for which it would be left out."""
    if parameter.choices:
        return click.Choice(parameter.choices)
    if parameter.minimum is None:
        return parameter.kind
    without_least = parameter.minimum == parameter.default
    if parameter.kind is int:
        return click.IntRange(min=int(parameter.minimum) + without_least)
    return click.FloatRange(min=parameter.minimum, min_open=without_least)
