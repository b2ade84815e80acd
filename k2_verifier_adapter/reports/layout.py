"""Building blocks of text reports: 80 columns, coloured on a terminal, plain in a file."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports.tables import Grid

WIDTH = 80

STATUS_STYLES = {
    Status.PASS: "bold green",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "bold yellow",
    Status.NONE: "bold",
}
_CELL_STYLES = {
    **{status.value: style for status, style in STATUS_STYLES.items()},
    "met": "green",
    "not met": "red",
    "undefined": "yellow",
}
_UNDER_HEAD = Box("\n".join(["    ", "    ", " -- ", *["    "] * 5]) + "\n", ascii=True)


def render(parts: Iterable[RenderableType], *, colour: bool = False, width: int = WIDTH) -> str:
    """Lay rich's building blocks out as text, without trailing blanks."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def key_values(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """Lay out names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(printable(name), Text(printable(value)) if isinstance(value, str) else value)
    return grid


def section(title: str, content: RenderableType) -> RenderableType:
    """Put a title above a block, and an empty line above the title."""
    return Group(Text(), Text(title, "bold"), Padding(content, (0, 0, 0, 2)))


def start_table(*columns: str) -> Table:
    """Start a table whose first column is left and whose other columns are right aligned."""
    table = Table(box=_UNDER_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def laid_out(grid: Grid, *, bold_first: bool = False) -> Table:
    """Lay out a table; the words of a verdict are coloured, and columns of words are folded.

    Args:
        grid: The table.
        bold_first: Whether the first row is what matters most.
    """
    table = start_table(*grid.columns)
    for place, column in enumerate(table.columns):
        # A name alone stays on one line; of several, vendors have chosen some.
        if not grid.holds_numbers(place) and (place or grid.names > 1):
            column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for number, row in enumerate(grid.rows):
        cells = (Text(cell, _CELL_STYLES.get(cell, "")) for cell in row)
        table.add_row(*cells, style="bold" if bold_first and not number else None)
    return table
