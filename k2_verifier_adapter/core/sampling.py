"""Which rows a limit leaves: the draw that keeps the share of official calls, and the note of any choice."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.json_text import whole


class SampleMethod(Enum):
    """How the rows were chosen that a limit leaves."""

    FIRST = "first"
    SHUFFLED = "shuffled"
    STRATIFIED = "stratified"


@dataclass(frozen=True, slots=True)
class RowsSample:
    """The part of a source's rows that a run asks about.

    Attributes:
        seed: Seed of the choice; None for the first rows, and where EvalScope shuffles without one.
        rows: Rows that were chosen.
        of: Rows of the source.
    """

    method: SampleMethod
    seed: int | None
    rows: int
    of: int

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.method is SampleMethod.FIRST:
            return f"the first {self.rows:,} of {self.of:,}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.rows:,} of {self.of:,}, {self.method.value}{seed}"

    def drawn_of(self, decisions: Mapping[int, bool]) -> frozenset[int]:
        """Draw the rows once more; the official decisions are given by row number, in the order of the rows.

        All are drawn where the seed is not known.
        """
        if self.method is SampleMethod.STRATIFIED and self.seed is not None:
            return draw_stratified(decisions, self.rows, self.seed)
        order = list(decisions)
        if self.method is SampleMethod.SHUFFLED and self.seed is not None:
            random.Random(self.seed).shuffle(order)
        elif self.method is not SampleMethod.FIRST:
            return frozenset(order)
        return frozenset(order[: self.rows])

    def as_json(self) -> dict[str, Any]:
        """Give the form that files hold."""
        return {"method": self.method.value, "seed": self.seed, "rows": self.rows, "of": self.of}

    @classmethod
    def from_json(cls, value: Any) -> RowsSample | None:
        """Read the stored form back, or None; a KeyError, TypeError or ValueError says that it is neither."""
        if value is None:
            return None
        seed, rows, of = value["seed"], whole(value["rows"]), whole(value["of"])
        if not 0 < rows <= of:
            raise ValueError(f"{rows} of {of} rows are no part of them")
        return cls(SampleMethod(value["method"]), None if seed is None else whole(seed), rows, of)


def draw_stratified(decisions: Mapping[int, bool], size: int, seed: int) -> frozenset[int]:
    """Draw rows without replacement, as many official calls among them, in proportion, as in all rows.

    In each stratum the rows come first whose SHA-256 of seed and number is the smallest. So the draw is the
    same wherever it is made, does not depend on the order of the rows, and a larger one of the same seed
    holds a smaller one. The official decisions are given by row number; with fewer rows than `size`, all are
    drawn.
    """
    return frozenset(stratified_order(decisions, seed)[:size])


def stratified_order(decisions: Mapping[int, bool], seed: int) -> list[int]:
    """Put all rows into an order whose first rows, however many, are the stratified draw of that size."""
    calling = _shuffled((number for number, calls in decisions.items() if calls), seed)
    others = _shuffled((number for number, calls in decisions.items() if not calls), seed)
    order: list[int] = []
    calls = 0
    for size in range(1, len(decisions) + 1):
        now = _share_of_calls(size, len(calling), len(decisions))
        order.append(calling[calls] if now > calls else others[size - 1 - calls])
        calls = now
    return order


def in_stratified_order(cases: Iterable[Case], seed: int) -> list[Case]:
    """Put cases into the stratified order."""
    by_number = {case.data_index: case for case in cases}
    decisions = {number: case.official.should_call for number, case in by_number.items()}
    return [by_number[number] for number in stratified_order(decisions, seed)]


def _share_of_calls(size: int, calling: int, total: int) -> int:
    """Give the whole number nearest to the share, halves up; two rows or more hold one of each kind."""
    # With one row more it grows by one or not at all, so neither stratum ever shrinks.
    share = (2 * size * calling + total) // (2 * total)
    if size >= 2 and 0 < calling < total:
        return min(max(share, 1), size - 1)
    return share


def _shuffled(numbers: Iterable[int], seed: int) -> list[int]:
    return sorted(numbers, key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest())
