"""The flags of `eval` that bound what a session spends."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

_AT_LEAST_ONE = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0, min_open=True)


def pace_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the pace flags to a command, which gets those that were set as one `pace` argument."""

    @click.option(
        "--requests-per-minute",
        type=_POSITIVE,
        metavar="N",
        help="Start at most N requests a minute, evenly spaced.",
    )
    @click.option(
        "--max-requests",
        type=_AT_LEAST_ONE,
        metavar="N",
        help="Stop after N requests, retries included; exit code 3, go on with --use-cache.",
    )
    @click.option(
        "--max-total-tokens",
        type=_AT_LEAST_ONE,
        metavar="N",
        help="Stop once the vendor has counted N prompt and completion tokens.",
    )
    @click.option("--max-minutes", type=_POSITIVE, metavar="X", help="Send nothing more after X minutes.")
    @functools.wraps(command)
    def with_pace(
        *args: Any,
        requests_per_minute: float | None,
        max_requests: int | None,
        max_total_tokens: int | None,
        max_minutes: float | None,
        **kwargs: Any,
    ) -> Any:
        given = {
            "requests_per_minute": requests_per_minute,
            "max_requests": max_requests,
            "max_total_tokens": max_total_tokens,
            "max_minutes": max_minutes,
        }
        pace = {name: value for name, value in given.items() if value is not None}
        return command(*args, pace=pace, **kwargs)

    return with_pace
