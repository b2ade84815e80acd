"""Where the failed cases of a results file stand, so that a page can read just these lines again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_FAILED_LINES = 3_000
"""Lines that are remembered; those of the first rows, whatever the order of the file."""

_NUMBERS = 3


@dataclass(slots=True)
class FailedLines:
    """The lines of the first failed cases, each as row number, line number and repetition."""

    _flat: array[int] = field(default_factory=lambda: array("q"))

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Give 0-based row number, 1-based line number and 0-based repetition, by row."""
        return iter(self._first())

    def add(self, row: int, line: int, repeat: int) -> None:
        """Remember a line."""
        self._flat.extend((row, line, repeat))
        self._prune()

    def merge(self, other: FailedLines) -> None:
        """Take in the lines that were found further down."""
        self._flat.extend(other._flat)
        self._prune()

    def _prune(self) -> None:
        # Rarely, so that a line costs next to nothing.
        if len(self._flat) >= 2 * MAX_FAILED_LINES * _NUMBERS:
            self._flat = array("q", (number for line in self._first() for number in line))

    def _first(self) -> list[tuple[int, int, int]]:
        numbers = iter(self._flat)
        return sorted(zip(numbers, numbers, numbers, strict=True))[:MAX_FAILED_LINES]
