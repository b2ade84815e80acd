"""The flags of `eval` that set the benchmark's own parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS, Parameter


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
