"""Every failure class and its fault, and how profiles name them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator.faults import (
    arguments,
    finish,
    names,
    streams,
    texts,
    transport,
    violations,
)
from k2_verifier_adapter.simulator.faults.base import Fault, TransportFault

_ALL: tuple[Fault, ...] = (
    *arguments.FAULTS,
    *violations.FAULTS,
    *names.FAULTS,
    *finish.FAULTS,
    *texts.FAULTS,
    *streams.FAULTS,
    *transport.FAULTS,
)

NOT_SIMULATED: Mapping[FailureClass, str] = MappingProxyType(
    {
        FailureClass.BROKEN_TOOL_SCHEMA: "it is a property of the row, not of the vendor",
        FailureClass.TOOL_WITHOUT_SCHEMA: "it is a property of the row, not of the vendor",
        FailureClass.SCHEMA_TIMEOUT: "it is a property of the row, not of the vendor",
        FailureClass.CONNECTION_FAILED: "a server that listens cannot refuse a connection; "
        "point the client at a port that nobody listens on",
    }
)
"""Classes without a fault, and why."""


def _by_class(faults: Iterable[Fault]) -> dict[FailureClass, tuple[Fault, ...]]:
    grouped: dict[FailureClass, list[Fault]] = {}
    for fault in faults:
        grouped.setdefault(fault.failure_class, []).append(fault)
    return {
        failure_class: tuple(grouped[failure_class])
        for failure_class in FailureClass
        if failure_class in grouped
    }


FAULTS: Mapping[FailureClass, tuple[Fault, ...]] = MappingProxyType(_by_class(_ALL))
"""The faults of every class that can be simulated: one, or several variants."""

_BY_NAME: Mapping[str, tuple[Fault, ...]] = MappingProxyType(
    {
        **{failure_class.value: faults for failure_class, faults in FAULTS.items()},
        **{fault.name: (fault,) for fault in _ALL},
    }
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Faults that a profile names together.

    Attributes:
        name: The name in the profile.
        faults: The variants to draw from.
        attempts: How many attempts of one request are hit, or None for every attempt.
    """

    name: str
    faults: tuple[Fault, ...]
    attempts: int | None = None


def fault_names() -> tuple[str, ...]:
    """List the names that `select` takes: classes first in the design's order, then variants."""
    return tuple(_BY_NAME)


def select(name: str) -> Selection:
    """Look a fault up by its name in a profile.

    Args:
        name: A failure class (any of its variants is drawn) or one variant (`http_503`); with
            `@N` appended, a transport fault hits the first N attempts of a request only.

    Raises:
        UsageError: If there is no such fault, or `@N` makes no sense for it.
    """
    base, at, count = name.partition("@")
    faults = _BY_NAME.get(base)
    if faults is None:
        raise UsageError(_unknown(base))
    if not at:
        return Selection(name, faults)
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        raise UsageError(f"fault {name!r}: {count!r} after '@' is not a number of attempts from 1")
    if not all(isinstance(fault, TransportFault) for fault in faults):
        raise UsageError(
            f"fault {name!r}: '@' counts failed attempts, but {base!r} is answered and never retried; "
            f"use {base!r}"
        )
    return Selection(name, faults, int(count))


def _unknown(name: str) -> str:
    for failure_class, reason in NOT_SIMULATED.items():
        if name == failure_class.value:
            return f"fault {name!r} cannot be simulated: {reason}"
    return f"unknown fault {name!r}: {suggestion(name, _BY_NAME)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or which there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(names)}"
