"""Faults as data, under the names of the failure classes, and how profiles name them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator.faults import answers, arguments, parsers, transport
from k2_verifier_adapter.simulator.faults.answers import PayloadFault
from k2_verifier_adapter.simulator.faults.transport import TransportFault
from k2_verifier_adapter.simulator.wire import SHAPES

__all__ = ["FAULTS", "NOT_SIMULATED", "Fault", "PayloadFault", "Selection", "Step", "TransportFault"]

Fault = PayloadFault | TransportFault

_ALL: tuple[Fault, ...] = (*arguments.FAULTS, *answers.FAULTS, *parsers.FAULTS, *transport.FAULTS)

NOT_SIMULATED: Mapping[FailureClass, str] = MappingProxyType(
    {
        FailureClass.BROKEN_TOOL_SCHEMA: "it is a property of the row, not of the vendor",
        FailureClass.TOOL_WITHOUT_SCHEMA: "it is a property of the row, not of the vendor",
        FailureClass.SCHEMA_TIMEOUT: "it is a property of the row, not of the vendor",
        FailureClass.CONNECTION_FAILED: "a server that listens cannot refuse a connection; "
        "point the client at a port that nobody listens on, or start the vendor late",
    }
)
"""Classes without a fault, and why."""


FAULTS: Mapping[FailureClass, tuple[Fault, ...]] = MappingProxyType(
    {
        failure_class: tuple(fault for fault in _ALL if fault.failure_class is failure_class)
        for failure_class in FailureClass
        if failure_class not in NOT_SIMULATED
    }
)
"""The faults of every class that can be simulated: one, or several variants."""

_BY_NAME: Mapping[str, tuple[Fault, ...]] = MappingProxyType(
    {
        **{failure_class.value: faults for failure_class, faults in FAULTS.items()},
        **{fault.name: (fault,) for fault in _ALL},
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One of some faults, for so many attempts of a request or, if None, for all that are left."""

    faults: tuple[Fault, ...]
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Faults that a profile names together; behind the last step the attempts of a request are answered."""

    steps: tuple[Step, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The variants of all steps."""
        return tuple(fault for step in self.steps for fault in step.faults)

    def faults_at(self, attempt: int) -> tuple[Fault, ...]:
        """Give the variants of one attempt, counted from 1; none behind the last step."""
        for step in self.steps:
            if step.attempts is None or attempt <= step.attempts:
                return step.faults
            attempt -= step.attempts
        return ()

    def shuffled(self, rng: Random) -> Selection:
        """Put the variants of each step in a random order."""
        return Selection(
            tuple(
                Step(tuple(rng.sample(step.faults, len(step.faults))), step.attempts) for step in self.steps
            )
        )

    def fitting(self, *, has_calls: bool, stream: bool) -> Selection | None:
        """Leave out the variants that such a request cannot have; None if a step has none left."""

        def fits(fault: Fault) -> bool:
            return fault.calls in (None, has_calls) and fault.stream in (None, stream)

        steps = tuple(Step(tuple(filter(fits, step.faults)), step.attempts) for step in self.steps)
        return Selection(steps) if all(step.faults for step in steps) else None


def fault_names() -> tuple[str, ...]:
    """List the names that `select` takes: classes first in the design's order, then variants."""
    return tuple(_BY_NAME)


def select(name: str) -> Selection:
    """Look a fault up by its name in a profile.

    A name is a failure class (any of its variants is drawn) or one variant (`http_503`); with `@N` appended,
    a transport fault hits the first N attempts of a request only. Several of these joined by `+` hit one
    request one after the other: `http_503@1+http_429@2`.

    Raises:
        UsageError: If there is no such fault, or `@N` or `+` makes no sense for it.
    """
    parts = name.split("+")
    steps = tuple(_step(part, name) for part in parts)
    for part, step in zip(parts[:-1], steps[:-1], strict=True):
        if step.attempts is None:
            raise UsageError(
                f"fault {name!r}: {part!r} leaves no attempt to what follows; say how many it hits, "
                f"such as '{part}@1'"
            )
    return Selection(steps)


def _step(part: str, name: str) -> Step:
    base, at, count = part.partition("@")
    faults = _BY_NAME.get(base)
    if faults is None:
        raise UsageError(_unknown(base))
    if not at:
        return Step(faults)
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        raise UsageError(f"fault {name!r}: {count!r} after '@' is not a number of attempts from 1")
    if not all(isinstance(fault, TransportFault) for fault in faults):
        raise UsageError(
            f"fault {name!r}: '@' counts failed attempts, but {base!r} is answered and never retried; "
            f"use {base!r}"
        )
    return Step(faults, int(count))


def _unknown(name: str) -> str:
    for failure_class, reason in NOT_SIMULATED.items():
        if name == failure_class.value:
            return f"fault {name!r} cannot be simulated: {reason}"
    if name in SHAPES:
        return (
            f"{name!r} is a wire shape and fails no attempt: give it alone, with a rate of its own, "
            "without '@' and '+'"
        )
    return f"unknown fault {name!r}: {suggestion(name, (*_BY_NAME, *SHAPES))}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or which there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(names)}"
