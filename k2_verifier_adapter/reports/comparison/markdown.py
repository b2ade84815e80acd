"""The comparison of runs as Markdown, for a GitHub step summary or a comment.

Names and sources are foreign: they are escaped so that they can be read and do nothing else. What may grow
is shortened until the page fits a comment, and what is left out is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.comparison.compare import Comparison
from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.reports import markdown_cells as cells
from k2_verifier_adapter.reports import verdicts
from k2_verifier_adapter.reports.comparison import tables
from k2_verifier_adapter.reports.comparison.changes import changes_of, kinds_left_out, title_of
from k2_verifier_adapter.reports.markdown_cells import LONGEST_LINE, MAX_BYTES, STATUS_MARKS, plain
from k2_verifier_adapter.reports.tables import Grid

_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class _Room:
    """How much is shown of what may be long.

    Attributes:
        lines: Warnings, and notes on the leaderboard.
        runs: Runs, and rows of the leaderboards.
        pairs: Pairs in each of the three tables.
        changed: Pairs whose changed cases are listed; with 0, settings are left out too.
        kinds: Kinds of change of a pair.
        cases: Cases of a kind.
        setup: Settings that differ.
        words: Whether names and sources are shown in full.
    """

    lines: int
    runs: int
    pairs: int
    changed: int = 0
    kinds: int = 0
    cases: int = 0
    setup: int = 0
    words: bool = True


_ROOMS = (
    _Room(lines=20, runs=50, pairs=50, changed=10, kinds=12, cases=20, setup=30),
    _Room(lines=10, runs=20, pairs=45, changed=3, kinds=8, cases=8, setup=15),
    _Room(lines=5, runs=10, pairs=45),
    _Room(lines=2, runs=10, pairs=45, words=False),
)
_CLASSES = 4
_SHORT = 40


def render_markdown(comparison: Comparison, found: NotWorse | None = None) -> str:
    """Give the comparison as Markdown, at most `MAX_BYTES` long in UTF-8.

    Args:
        comparison: What to report.
        found: Whether the first run is not worse than the second, where it was asked.
    """
    for room in _ROOMS:
        text = "\n\n".join(_blocks(comparison, found, room)) + "\n"
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def _blocks(comparison: Comparison, found: NotWorse | None, room: _Room) -> Iterator[str]:
    yield f"## {plain(tables.title(comparison))}"
    if found is not None:
        yield from _not_worse(found)
    yield from cells.quotes(tables.warnings(comparison), room.lines)
    yield "### Runs"
    runs = [(run, _shortened(origin, room)) for run, origin in tables.runs(comparison)]
    yield cells.pairs(runs[: room.runs])
    yield from _more(len(runs) - room.runs, "more run")
    yield "### Leaderboard"
    board = tables.leaderboard(comparison)
    yield from _table(board if room.words else board.without("model").without("provider"), room.runs)
    yield from _notes(tables.leaderboard_notes(comparison), room)
    if room.words:
        yield f"### {tables.UPSTREAM_TITLE}"
        yield from _table(tables.upstream(comparison), room.runs)
    yield f"### {tables.SIMILARITY_TITLE}"
    yield from _table(tables.similarity(comparison), room.pairs)
    yield from _notes(tables.similarity_notes(comparison), room)
    yield f"### {tables.AGREEMENT_TITLE}"
    yield from _table(tables.agreement(comparison), room.pairs)
    yield from _notes(tables.agreement_notes(comparison), room)
    yield f"### {tables.VALIDITY_TITLE}"
    yield from _table(tables.validity(comparison), room.pairs)
    yield plain(tables.VALIDITY_NOTE)
    if not room.changed:
        yield "Left out for its length: which cases differ, and what was done differently."
        return
    yield "### Cases that differ"
    for pair in comparison.pairs[: room.changed]:
        yield _changes_of(pair, room, folded=len(comparison.pairs) > 1)
    yield from _more(len(comparison.pairs) - room.changed, "more pair")
    if (setup := tables.setup(comparison, longest=_LONGEST_VALUE)) is not None:
        yield f"### {tables.SETUP_TITLE}"
        yield from _table(setup, room.setup)


def _not_worse(found: NotWorse) -> Iterator[str]:
    word, rest = verdicts.not_worse_headline(found)
    said = plain(excerpt(rest, LONGEST_LINE))
    yield f"**{STATUS_MARKS[word]} {tables.NOT_WORSE_TITLE}: {word.upper()}** {said}"
    yield cells.grid(verdicts.not_worse_checks(found, "A - B"))


def _table(grid: Grid, most: int) -> Iterator[str]:
    shown, more = grid.first_rows(most)
    yield cells.grid(shown)
    yield from _more(more, "more row")


def _notes(notes: list[str], room: _Room) -> Iterator[str]:
    # One paragraph, a line for each note.
    shown = [plain(excerpt(note, LONGEST_LINE)) for note in notes[: room.lines]]
    yield "  \n".join(shown)
    yield from _more(len(notes) - len(shown), "more note")


def _more(number: int, noun: str) -> Iterator[str]:
    if number > 0:
        yield f"… and {plural(number, noun)}"


def _changes_of(pair: Pair, room: _Room, *, folded: bool) -> str:
    grid = changes_of(pair, kinds=room.kinds, cases=room.cases, classes=_CLASSES)
    if grid is None:
        return f"{title_of(pair)}: none"
    more = _more(kinds_left_out(pair, room.kinds), "rarer kind")
    content = "\n\n".join([cells.grid(grid), *more])
    return cells.details(title_of(pair), content) if folded else content


def _shortened(text: str, room: _Room) -> str:
    return text if room.words else excerpt(text, _SHORT)
