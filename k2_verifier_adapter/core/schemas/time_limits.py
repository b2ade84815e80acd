"""Time limits on validation: one for each, and a budget that several may share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Any


class SchemaTimeoutError(Exception):
    """A validation ran into its time limit; nothing is known of the call."""


_OUT_OF_TIME = "validation ran out of time"

_expires_at: ContextVar[float] = ContextVar("_expires_at")
_root_schema: ContextVar[Any] = ContextVar("_root_schema")
_budget_ends_at: ContextVar[float] = ContextVar("_budget_ends_at", default=inf)


@contextmanager
def time_budget(seconds: float) -> Iterator[None]:
    """Bound all validations inside together: what is left when the time is up runs into its limit."""
    token = _budget_ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _budget_ends_at.reset(token)


def check_budget() -> None:
    """Go on if there is time left for a further validation.

    Raises:
        SchemaTimeoutError: If the budget is used up.
    """
    if time.monotonic() > _budget_ends_at.get():
        raise SchemaTimeoutError(_OUT_OF_TIME)


@contextmanager
def deadline(seconds: float, schema: Any) -> Iterator[None]:
    """Bound the validation inside, which is of this schema."""
    expires_at = min(time.monotonic() + seconds, _budget_ends_at.get())
    expiry, root = _expires_at.set(expires_at), _root_schema.set(schema)
    try:
        yield
    finally:
        _root_schema.reset(root)
        _expires_at.reset(expiry)


def remaining() -> float:
    """Give the seconds that are left.

    Raises:
        SchemaTimeoutError: If none are.
    """
    left = _expires_at.get() - time.monotonic()
    if left <= 0:
        raise SchemaTimeoutError(_OUT_OF_TIME)
    return left


def root_schema() -> Any:
    """Give the schema as a whole, of which a keyword sees only its part."""
    return _root_schema.get()
