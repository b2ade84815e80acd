"""The flags that several commands share, and those of `eval` that set the benchmark's own parameters.

The gate flags belong to `eval`, `report` and `score`; a baseline run is for the first two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.evalscope_plugin.parameters import CONFORMANCE_PARAMETERS, PARAMETERS, Parameter


class Finite(click.FloatRange):
    """A number in a range, which NaN and infinity are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return found


SHARE = Finite(0, 1)

margin_option = click.option(
    "--margin",
    type=SHARE,
    metavar="X",
    help="How much worse than the baseline a run may be, as a share; 0.03 unless set.",
)

profile_option = click.option(
    "--profile",
    type=click.Choice(tuple(model_profiles())),
    help="The model that answered, where neither its name nor the run tells.",
)


def inconclusive_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flag that says what an inconclusive outcome means."""
    return _with_options(command, [parameter for parameter in PARAMETERS if parameter.name == "inconclusive"])


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
    """Add the gate flags to a command, which gets those that were set as one `gate` argument."""
    parameters = [parameter for parameter in PARAMETERS if parameter.of_gate]

    @functools.wraps(command)
    def with_gate(
        *args: Any, baseline_run: Path | None = None, margin: float | None = None, **kwargs: Any
    ) -> Any:
        given = {parameter.name: kwargs.pop(parameter.name) for parameter in parameters}
        given["baseline"] = None if baseline_run is None else str(baseline_run)
        given["margin"] = margin
        gate = {name: value for name, value in given.items() if value is not None}
        if baseline_run is None and margin is not None:
            raise click.UsageError("--margin goes with --baseline RUN: it says how much worse a run may be")
        if gate and gate.get("gate", "none") == "none" and "baseline" not in gate:
            click.echo(
                "k2-verifier: without --gate upstream or --gate strict, thresholds are shown in the report "
                "but do not decide the exit code",
                err=True,
            )
        return command(*args, gate=gate, **kwargs)

    return _with_options(with_gate, parameters)


def parameter_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command, which gets those that were set as one `parameters` argument."""
    return _with_parameters(command, PARAMETERS)


def conformance_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do the same with the flags of `kimi_conformance`."""
    return _with_parameters(command, CONFORMANCE_PARAMETERS)


def _with_parameters(command: Callable[..., Any], declared: Iterable[Parameter]) -> Callable[..., Any]:
    with_flag = [parameter for parameter in declared if parameter.flag_help and not parameter.of_gate]

    @functools.wraps(command)
    def with_parameters(*args: Any, **kwargs: Any) -> Any:
        given = {parameter.name: kwargs.pop(parameter.name) for parameter in with_flag}
        parameters = {name: value for name, value in given.items() if value is not None}
        return command(*args, parameters=parameters, **kwargs)

    return _with_options(with_parameters, with_flag)


def _with_options(command: Callable[..., Any], parameters: Sequence[Parameter]) -> Callable[..., Any]:
    for parameter in reversed(parameters):
        if parameter.kind is bool:
            option = click.option(parameter.flag, is_flag=True, default=None, help=parameter.flag_help)
        else:
            option = click.option(
                parameter.flag,
                type=_type_of(parameter),
                metavar=None if parameter.choices else parameter.metavar,
                help=parameter.flag_help,
            )
        command = option(command)
    return command


def _type_of(parameter: Parameter) -> Any:
    """Give the values that a flag takes: not the one that means "none", for which it would be left out."""
    if parameter.choices:
        return click.Choice(parameter.choices)
    if parameter.maximum is not None:
        return Finite(parameter.minimum, parameter.maximum)
    if parameter.minimum is None:
        return parameter.kind
    without_least = parameter.minimum == parameter.default
    if parameter.kind is int:
        return click.IntRange(min=int(parameter.minimum) + without_least)
    return Finite(min=parameter.minimum, min_open=without_least)
