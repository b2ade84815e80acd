"""A fault in what an answer says: data that names a failure class and does the damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.simulator.completions import Chunk, Completion

Damage = Callable[[Completion, Case, Random], "Completion | None"]
"""Gives the damaged completion, or None where the fault cannot apply; the argument is not changed."""


@dataclass(frozen=True, slots=True)
class PayloadFault:
    """A completion that arrives whole, and is wrong.

    Attributes:
        calls: Whether it applies to official answers with tool calls or without; None for both. `damage`
            decides the rest.
        stream: Whether it applies to requests with `stream` or without; None for both.
        as_body: Whether it comes as one JSON body although a stream was asked for.
        rewrite: What is done to the chunks of the damaged completion, for a fault of streams.
        seen: The completion that upstream's reassembly makes of the rewritten chunks; None for the one sent.
    """

    failure_class: FailureClass
    damage: Damage
    calls: bool | None = None
    stream: bool | None = None
    variant: str | None = None
    as_body: bool = False
    rewrite: Callable[[list[Chunk]], list[Chunk]] | None = None
    seen: Callable[[Completion], Completion] | None = None

    @property
    def name(self) -> str:
        """Name in profiles."""
        return self.variant or self.failure_class.value
