"""Making a report fit into a number of bytes, whatever vendors write into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.reports import document as doc

T = TypeVar("T")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is shown of what may be long."""

    letters: int
    """Characters of one text."""
    rows: int
    """Rows of a table; at 0, nothing but the heading is left of a section."""
    lines: int
    """Lines that must be seen, or explain something."""
    parts: int
    """Findings, and parts to open."""
    listed: int
    """Things listed in one cell."""
    spare: bool = True
    """Whether columns that can go are shown."""

    def text(self, text: str) -> str:
        """Give a text on one line, shortened."""
        return excerpt(printable(text), self.letters)

    def items(self, listed: doc.Listed) -> list[str]:
        """Give the first things of a list, and the number of the others."""
        shown = [self.text(item) for item in listed.items[: self.listed]]
        left = len(listed.items) - len(shown) + listed.left
        return [*shown, f"and {left:,} more"] if left else shown

    def cell(self, cell: doc.Cell) -> str:
        """Give the words of a cell."""
        if isinstance(cell, doc.Listed):
            return ", ".join(self.items(cell)) + (f" ({cell.note})" if cell.note else "")
        return self.text(cell.text if isinstance(cell, doc.Value) else cell)

    def blocks(self, blocks: Iterable[doc.Block]) -> Iterator[doc.Block]:
        """Give the blocks of a section, with the first parts to open, and the number of the others."""
        folds = 0
        for block in blocks:
            folds += isinstance(block, doc.Fold)
            if folds <= self.parts or not isinstance(block, doc.Fold):
                yield block
        if said := more(folds - self.parts):
            yield doc.Notes((said,))


def more(number: int) -> str | None:
    """Say how many more there are, and where; None if there are none."""
    return f"and {number:,} more: see --format json" if number > 0 else None


def fit_sections(
    sections: Sequence[doc.Section],
    sizes: Sequence[Size],
    render: Callable[[doc.Section, Size], str],
    most_bytes: int,
) -> list[str]:
    """Write the sections of a report, all together within a number of bytes.

    What takes most room is shortened first, so that one long section costs the others nothing. The sizes
    begin with the most; the last one may take more than the bytes in UTF-8 that are allowed.
    """
    steps = [0] * len(sections)
    written = [render(section, sizes[0]) for section in sections]
    while sum(map(byte_length, written)) > most_bytes and min(steps) + 1 < len(sizes):
        places = [place for place, step in enumerate(steps) if step + 1 < len(sizes)]
        longest = max(places, key=lambda place: byte_length(written[place]))
        steps[longest] += 1
        written[longest] = render(sections[longest], sizes[steps[longest]])
    return written


def fit_items(
    items: Iterable[T],
    limits: Sequence[int],
    shorten: Callable[[T, int], C],
    length: Callable[[C], int],
    most_bytes: int,
) -> tuple[list[C], int, int]:
    """Shorten many items alike until all of them fit together.

    The limits are tried side by side, and one at which the items have become too many is given up: no item is
    held with the whole of its texts. The limits are in characters of one text, the longest first. Gives the
    items at the longest limit at which all of them fit, that limit, and how many items there were; at the
    shortest limit there may be fewer: the first that fit.
    """
    kept: dict[int, list[C]] = {limit: [] for limit in limits}
    taken = dict.fromkeys(limits, 0)
    found = 0
    for item in items:
        found += 1
        for limit in list(kept):
            short = shorten(item, limit)
            taken[limit] += length(short)
            if taken[limit] <= most_bytes:
                kept[limit].append(short)
            elif limit != limits[-1]:
                del kept[limit]
    limit = max(kept)
    return kept[limit], limit, found


def byte_length(text: str) -> int:
    """Count the bytes of a text as it is written."""
    return len(text.encode("utf-8", "backslashreplace"))
