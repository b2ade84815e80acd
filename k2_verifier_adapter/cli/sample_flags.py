"""The flags of `eval` that choose which rows a limit leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def sample_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the sample flags to a command, which gets those that were set as one `sample` argument."""

    @click.option(
        "--sample",
        type=click.Choice(["first", "stratified"]),
        help="Which rows --limit leaves: the first, or a draw with the share of official calls of all rows.",
    )
    @click.option(
        "--sample-seed",
        type=int,
        metavar="N",
        help="Draw other rows. With the same seed a larger --limit keeps the rows of a smaller one.",
    )
    @functools.wraps(command)
    def with_sample(*args: Any, sample: str | None, sample_seed: int | None, **kwargs: Any) -> Any:
        given = {"sample": sample, "sample_seed": sample_seed}
        chosen = {name: value for name, value in given.items() if value is not None}
        return command(*args, sample=chosen, **kwargs)

    return with_sample
