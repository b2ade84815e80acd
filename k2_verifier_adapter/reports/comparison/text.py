"""The comparison of runs as text: 80 columns, coloured on a terminal, plain in a file."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.comparison.compare import Comparison
from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.reports import verdicts
from k2_verifier_adapter.reports.comparison import tables
from k2_verifier_adapter.reports.comparison.changes import changes_of, kinds_left_out, title_of
from k2_verifier_adapter.reports.layout import STATUS_STYLES, WIDTH, key_values, laid_out, render, section
from k2_verifier_adapter.reports.tables import Grid

_LONGEST_VALUE = 60
_PAIRS_WITH_CHANGES = 3
_FIRST_CHANGES = 8
_INDENT = 10
_FIRST_CASES = 5
_FIRST_CLASSES = 3


def render_comparison(
    comparison: Comparison, found: NotWorse | None = None, *, colour: bool = False, width: int = WIDTH
) -> str:
    """Give the comparison as text.

    Args:
        comparison: What to report.
        found: Whether the first run is not worse than the second, where it was asked.
        colour: Whether to write terminal colours.
        width: Columns to fill at most.
    """
    parts: list[RenderableType] = [Text(tables.title(comparison), "bold")]
    warnings = [Text(f"WARNING: {warning}", "yellow") for warning in tables.warnings(comparison)]
    if found is not None:
        parts += [_not_worse(found), *([Text()] if warnings else [])]
    parts += warnings
    parts += [
        section("Runs", key_values(tables.runs(comparison))),
        _table(
            "Leaderboard",
            tables.leaderboard(comparison).without("model").without("provider"),
            *tables.leaderboard_notes(comparison),
        ),
        _table(tables.UPSTREAM_TITLE, tables.upstream(comparison)),
        _table(tables.SIMILARITY_TITLE, tables.similarity(comparison), *tables.similarity_notes(comparison)),
        _table(tables.AGREEMENT_TITLE, tables.agreement(comparison), *tables.agreement_notes(comparison)),
        _table(tables.VALIDITY_TITLE, tables.validity(comparison), tables.VALIDITY_NOTE),
        *_changes(comparison),
        *_setup(comparison),
    ]
    return render(parts, colour=colour, width=width)


def _not_worse(found: NotWorse) -> RenderableType:
    word, rest = verdicts.not_worse_headline(found)
    line = Text.assemble(
        f"{tables.NOT_WORSE_TITLE}: ", (word.upper(), STATUS_STYLES[found.status]), f" {rest}"
    )
    return Group(line, laid_out(verdicts.not_worse_checks(found, "A - B")))


def _table(title: str, grid: Grid, *notes: str) -> RenderableType:
    return section(title, Group(laid_out(grid), *(Text(note, "dim") for note in notes)))


def _changes(comparison: Comparison) -> list[RenderableType]:
    if len(comparison.pairs) > _PAIRS_WITH_CHANGES:
        note = "Compare two runs, or use --format json, to see which cases differ."
        return [Text(), Text(note, "dim")]
    return [_changes_of(pair) for pair in comparison.pairs]


def _changes_of(pair: Pair) -> RenderableType:
    grid = changes_of(pair, kinds=_FIRST_CHANGES, cases=_FIRST_CASES, classes=_FIRST_CLASSES)
    if grid is None:
        return section(title_of(pair), Text("none"))
    parts: list[RenderableType] = [Text(_row(*grid.columns[:5]), "dim")]
    for row in grid.rows:
        parts.append(Text(_row(*row[:5])))
        # Seven columns are too many for 80 characters.
        parts += [
            Padding(Text(f"{column}: {cell}", "dim"), (0, 0, 0, _INDENT))
            for column, cell in zip(grid.columns[5:], row[5:], strict=True)
            if cell
        ]
    more = kinds_left_out(pair, _FIRST_CHANGES)
    if more:
        parts.append(Text(f"and {plural(more, 'rarer kind')} of difference: --format json lists them", "dim"))
    return section(title_of(pair), Group(*parts))


def _row(official: str, first: str, second: str, count: str, cases: str) -> str:
    return f"{official:{_INDENT}}{first:14}{second:14}{count:>6}  {cases}"


def _setup(comparison: Comparison) -> list[RenderableType]:
    grid = tables.setup(comparison, longest=_LONGEST_VALUE)
    if grid is None:
        return []
    runs = grid.columns[1:]
    pairs = [
        (what, "; ".join(f"{run} {value}" for run, value in zip(runs, values, strict=True)))
        for what, *values in grid.rows
    ]
    return [section(tables.SETUP_TITLE, key_values(pairs))]
