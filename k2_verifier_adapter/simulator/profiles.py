"""How a simulated vendor behaves: faults and wire shapes with their rates, as data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from random import Random
from types import MappingProxyType

from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.simulator.faults import Fault, Selection, Step, select
from k2_verifier_adapter.simulator.shapes import SHAPES, WireShape


@dataclass(frozen=True)
class Profile:
    """The behaviour of a simulated vendor.

    A request has at most one fault, or one sequence of faults, and any number of wire shapes. A rate
    is the share of the requests to which the fault or shape can apply; the rates of all faults that
    can meet in one request add up to 1 at most.

    Attributes:
        name: Name of the profile.
        description: One line for a person.
        rates: Rate by the name of a fault, as `faults.select` takes it, or of a wire shape.

    Raises:
        UsageError: If a name is unknown, or a rate is no share.
    """

    name: str
    description: str
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        """Freeze and check the rates."""
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        for name, rate in self.rates.items():
            kind = "wire shape" if name in SHAPES else "fault"
            if kind == "fault":
                select(name, SHAPES)
            if not 0 <= rate <= 1:
                raise UsageError(f"rate {rate!r} of {kind} {name!r} is not between 0 and 1")
        for has_calls, stream in product((True, False), repeat=2):
            total = sum(rate for _, rate in self.eligible(has_calls=has_calls, stream=stream))
            if total > 1 + 1e-9:
                raise UsageError(
                    f"rates of profile {self.name!r} add up to {total:g} for one request, expected at most 1"
                )

    def eligible(self, *, has_calls: bool, stream: bool) -> Iterator[tuple[Selection, float]]:
        """Yield the faults that can apply to such a request, variants that cannot left out.

        Args:
            has_calls: Whether the official answer has tool calls.
            stream: Whether the request asks for a stream.
        """
        for name, rate in self.rates.items():
            if name not in SHAPES:
                selection = select(name).fitting(has_calls=has_calls, stream=stream)
                if selection is not None:
                    yield selection, rate

    def shapes(self, *, stream: bool) -> Iterator[tuple[WireShape, float]]:
        """Yield the wire shapes that can apply to such a request, in the order in which they do.

        Args:
            stream: Whether the request asks for a stream.
        """
        for name, shape in SHAPES.items():
            if name in self.rates and shape.modes.include(stream=stream):
                yield shape, self.rates[name]


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn for one request.

    Attributes:
        steps: What happens to its attempts, the faults of each in the order to try them.
        rng: The chance to shape the damage.
    """

    steps: tuple[Step, ...]
    rng: Random

    def faults_at(self, attempt: int) -> tuple[Fault, ...]:
        """Give the faults to try for one attempt, counted from 1; none behind the last step."""
        for step in self.steps:
            if step.attempts is None or attempt <= step.attempts:
                return step.faults
            attempt -= step.attempts
        return ()


class Lottery:
    """Draws fault and wire shapes of a request from a profile, the same ones for the same seed."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self._seed = seed
        self._tickets = {
            (has_calls, stream): tuple(profile.eligible(has_calls=has_calls, stream=stream))
            for has_calls, stream in product((True, False), repeat=2)
        }
        self._shapes = {stream: tuple(profile.shapes(stream=stream)) for stream in (True, False)}

    def draw(self, case_index: int, occurrence: int, *, has_calls: bool, stream: bool) -> Draw | None:
        """Draw the fault of one request; None if none falls on it.

        Args:
            case_index: 0-based row number.
            occurrence: How many times this request was answered before; its failed attempts do
                not count, so that a retry meets the same draw.
            has_calls: Whether the official answer has tool calls.
            stream: Whether the request asks for a stream.
        """
        tickets = self._tickets[has_calls, stream]
        if not tickets:
            return None
        rng = self._rng(case_index, occurrence)
        position = rng.random()
        for selection, rate in tickets:
            position -= rate
            if position < 0:
                steps = tuple(
                    Step(tuple(rng.sample(step.faults, len(step.faults))), step.attempts)
                    for step in selection.steps
                )
                return Draw(steps, rng)
        return None

    def draw_shapes(self, case_index: int, occurrence: int, *, stream: bool) -> tuple[WireShape, ...]:
        """Draw the wire shapes of one request, each for itself; the arguments are those of `draw`."""
        return tuple(
            shape
            for shape, rate in self._shapes[stream]
            if self._rng(case_index, occurrence, shape.name).random() < rate
        )

    def _rng(self, *what: object) -> Random:
        text = ":".join(map(str, (self._seed, *what)))
        return Random(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def profile_with(faults: Mapping[str, float]) -> Profile:
    """Make a profile of chosen faults and wire shapes, for what is set alone by flag.

    Args:
        faults: Rate by the name of a fault, as `faults.select` takes it, or of a wire shape.

    Raises:
        UsageError: If a name is unknown, or a rate is no share.
    """
    listed = ", ".join(f"{name} at {rate:g}" for name, rate in faults.items())
    return Profile("custom", f"chosen faults: {listed or 'none'}", faults)
