"""Several vendors, run side by side over the same rows: how each ended, and all of them compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2_verifier_adapter.core.comparison.compare import Comparison, Participant, compare, letter
from k2_verifier_adapter.core.conformance.results import Conformance
from k2_verifier_adapter.errors import DataError


@dataclass(frozen=True, slots=True)
class VendorResult:
    """What became of one vendor's run.

    Attributes:
        name: What the vendor file calls it.
        source: Its run directory.
        code: Exit code of its run, by its gate.
        reason: Why, in a line; None where there is nothing to say.
        participant: Its run; None if nothing is stored that could be reported on.
        conformance: Its probes; None if none were asked, or nothing is stored of them.
    """

    name: str
    source: str
    code: int
    reason: str | None
    participant: Participant | None
    conformance: Conformance | None = None

    @property
    def answered(self) -> bool:
        """Whether any request of it completed."""
        return self.participant is not None and self.participant.summary.completed > 0

    @property
    def complete(self) -> bool:
        """Whether its run came to its end."""
        return self.participant is not None and self.participant.summary.facts.complete


@dataclass(frozen=True, slots=True)
class Matrix:
    """All vendors, in the order of the vendor file.

    Attributes:
        compared: Places of those that are compared, in the order of the comparison.
        comparison: What came of it; None where fewer than two could be compared.
        not_compared: Why there is no comparison, or None.
    """

    vendors: Sequence[VendorResult]
    compared: Sequence[int] = ()
    comparison: Comparison | None = None
    not_compared: str | None = None

    def letter_of(self, place: int) -> str | None:
        """Give the letter by which the comparison names a vendor; None if it is not compared."""
        return letter(list(self.compared).index(place)) if place in self.compared else None


def matrix_of(vendors: Sequence[VendorResult]) -> Matrix:
    """Compare the vendors that can be: those that came to their end or, where none did, all that answered.

    A vendor that died early has answered few cases. All is compared over common cases, so that it would leave
    the others no more than those few.
    """
    answered = [place for place, vendor in enumerate(vendors) if vendor.answered]
    compared = [place for place in answered if vendors[place].complete] or answered
    if len(compared) < 2:
        return Matrix(vendors, not_compared=f"{len(compared)} of {len(vendors)} vendors can be compared")
    participants = [
        participant for place in compared if (participant := vendors[place].participant) is not None
    ]
    try:
        return Matrix(vendors, compared, compare(participants))
    except DataError as error:
        return Matrix(vendors, not_compared=str(error))
