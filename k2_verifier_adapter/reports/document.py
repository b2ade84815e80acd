"""A report as data: sections of tables, notes, names with values, each with its status.

A builder makes a document once (`run_document`, `comparison_document`, `dataset_document`); text, Markdown
and HTML lay it out. What a reader is to see at once, such as what has failed, is said by a `Status`, so that
no format looks for words. Nothing is escaped or shortened here: every format does that in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports.failed_cases import FailedCase


@dataclass(frozen=True, slots=True)
class Interval:
    """What a page draws beside a value: its interval, and what to hold it against."""

    value: float
    low: float
    high: float
    threshold: float | None = None
    band: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A text with a meaning: how good it is, that it matters most, what a page draws beside it."""

    text: str
    status: Status | None = None
    strong: bool = False
    drawn: Interval | float | None = None
    """An interval, or a bar from 0."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Several short things, of which a format shows the first ones and counts the rest."""

    items: tuple[str, ...]
    left: int = 0
    """How many more there are than `items`."""
    are_rows: bool = False
    """Whether they are numbers of rows, each of which may be among the failed cases."""
    note: str = ""


Cell: TypeAlias = str | Value | Listed


class Kind(Enum):
    """What a column holds; the first three name the row."""

    NAME = "name"
    """A short name of this package's."""
    IDENTIFIER = "identifier"
    """A name with underscores of this package's, which may go over several lines."""
    FOREIGN = "foreign"
    """A name that a vendor or a user has chosen."""
    NUMBER = "number"
    WORDS = "words"


NAMES = (Kind.NAME, Kind.IDENTIFIER, Kind.FOREIGN)


@dataclass(frozen=True, slots=True)
class Axis:
    """On what the values of a column are drawn, from its low end to its high one, and what the signs mean."""

    low: float
    high: float
    ends: tuple[str, str] = ("", "")
    threshold: str = ""
    band: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    kind: Kind = Kind.WORDS
    spare: bool = False
    """Whether it can go where there is little room, because something else says the same."""
    below: bool = False
    """Whether it goes below the column before it where there is little room."""
    axis: Axis | None = None
    """On what a page draws its values; None for a column of words and numbers alone."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; of a ranked one, a short format may leave the last rows out.

    Its title is for those who do not see what stands around it. The columns that name a row come first.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    ranked: bool = False
    obvious: bool = False
    """Whether its columns need no titles where there is little room."""

    def without_spare_columns(self) -> Table:
        """Give the same table without the columns that can go."""
        kept = [place for place, column in enumerate(self.columns) if not column.spare]
        rows = tuple(tuple(row[place] for place in kept) for row in self.rows)
        columns = tuple(self.columns[place] for place in kept)
        return Table(self.title, columns, rows, self.ranked, self.obvious)


def numbers(*titles: str) -> tuple[Column, ...]:
    """Make columns of numbers."""
    return tuple(Column(title, Kind.NUMBER) for title in titles)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values."""

    pairs: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or a few; with a label, what the label names."""

    text: Cell
    label: str = ""


@dataclass(frozen=True, slots=True)
class Notes:
    """Lines that explain what stands above them; with a status, lines that must be seen."""

    lines: tuple[str, ...]
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A question that was decided: the answer, what stands behind it in a few words, what led to it."""

    name: str
    title: str
    status: Status
    said: str
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One finding: what it is, what there is to say of it, and what to do."""

    title: str
    blocks: tuple[Block, ...]
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """A numbered list of findings; of a ranked one, a short format may leave the last ones out."""

    items: tuple[Item, ...]
    ranked: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """A part that a reader opens: its title, how much is inside, and whether it is open from the start."""

    title: str
    note: str
    blocks: tuple[Block, ...]
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers that a page shows large, each with name, value and meaning; a table says them too."""

    figures: tuple[tuple[str, str, tuple[str, ...]], ...]


Block: TypeAlias = Facts | Figures | Fold | Items | Judged | Notes | Paragraph | Table


class Depth(Enum):
    """How much a reader must want to know to read something."""

    MAIN = "main"
    DETAIL = "detail"
    """For whom the numbers are not enough; Markdown folds it away."""
    PAGE = "page"
    """Only for a format in which length does not matter."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: its anchor, its heading, and its name in a page's navigation, if it is there."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    depth: Depth = Depth.MAIN
    link: str = ""
    folded: str = ""
    """What a page says in the place of the section until a reader opens it; empty, it is open."""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report: what kind it is, what it is about, where and when; the verdict leads."""

    kind: str
    title: str
    lead: tuple[Block, ...]
    sections: tuple[Section, ...]
    about: str = ""
    cases: Iterable[FailedCase] | None = None
    """The failed cases, in row order, for a format that can show them; None where a report has none."""

    @property
    def heading(self) -> str:
        """Kind and title in one line."""
        return f"{self.kind}: {self.title}"
