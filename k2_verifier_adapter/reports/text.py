"""A document as text: 80 columns, coloured on a terminal, plain in a file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.document import Kind
from k2_verifier_adapter.reports.fitting import Size, more

WIDTH = 80
UNFOLDED = 10_000
"""Columns of a report in which paths stay in one piece; a terminal folds them by itself."""

_SIZE = Size(letters=1_000_000, rows=8, lines=1_000_000, parts=5, listed=6, spare=False)
_STYLES = {
    None: "",
    Status.PASS: "bold green",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "bold yellow",
    Status.NONE: "bold",
}
_UNDER_HEAD = Box("\n".join(["    ", "    ", " -- ", *["    "] * 5]) + "\n", ascii=True)


def render_text(document: doc.Document, *, colour: bool = False, width: int = WIDTH) -> str:
    """Lay a document out as text, at most `width` columns wide."""
    return laid_out(_parts(document), colour=colour, width=width)


def laid_out(parts: Iterable[RenderableType], *, colour: bool = False, width: int = WIDTH) -> str:
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


def _parts(document: doc.Document) -> Iterator[RenderableType]:
    yield _line(document.heading, "bold")
    before: doc.Block | None = None
    for block in document.lead:
        # A table says the same.
        if isinstance(block, doc.Figures):
            continue
        # A question that was decided has room around it; sentences stand together.
        if isinstance(before, doc.Judged):
            yield Text()
        yield from _block(block)
        before = block
    for section in document.sections:
        if section.depth is not doc.Depth.PAGE:
            yield Text()
            yield _line(section.title, "bold")
            yield Padding(Group(*_blocks(section.blocks)), (0, 0, 0, 2))


def _blocks(blocks: Sequence[doc.Block]) -> Iterator[RenderableType]:
    for number, block in enumerate(_SIZE.blocks(blocks)):
        if number and isinstance(block, doc.Fold):
            yield Text()
        yield from _block(block)


def _block(block: doc.Block) -> Iterator[RenderableType]:
    match block:
        case doc.Judged():
            yield _answer(block)
            yield from _blocks(block.blocks)
        case doc.Paragraph():
            label = f"{block.label}: " if block.label else ""
            yield Text.assemble(label, _cell(block.text))
        case doc.Notes():
            yield from (_line(line, _STYLES[block.status] or "dim") for line in block.lines)
        case doc.Table():
            yield from _table(block)
        case doc.Facts():
            grid = Table.grid(padding=(0, 2))
            grid.add_column(no_wrap=True, style="dim")
            grid.add_column(overflow="fold")
            for name, value in block.pairs:
                grid.add_row(_line(name), _cell(value))
            yield grid
        case doc.Items():
            yield from _items(block)
        case doc.Fold():
            yield _line(f"{block.title}: {block.note}")
            yield from _blocks(block.blocks)
        case doc.Figures():
            # A table says the same.
            pass


def _answer(judged: doc.Judged) -> Text:
    said, style = _SIZE.text(judged.said), _STYLES[judged.status]
    if judged.status is Status.NONE:
        return Text.assemble(f"{judged.title}: ", ("none", style), f" ({said})")
    return Text.assemble(f"{judged.title}: ", (judged.status.value.upper(), style), f" {said}")


def _items(items: doc.Items) -> Iterator[RenderableType]:
    grid = Table.grid(padding=(0, 1))
    shown = items.items[: _SIZE.parts] if items.ranked else items.items
    for number, item in enumerate(shown, 1):
        advice = Table.grid(padding=(0, 1))
        for line in item.advice:
            advice.add_row("-", _line(line))
        below = [Text()] if number < len(shown) else []
        parts = [*_blocks(item.blocks), *([advice] if item.advice else [])]
        grid.add_row(f"{number}.", Group(_line(item.title, "bold"), *parts, *below))
    yield grid
    yield from _more(len(items.items) - len(shown))


def _table(table: doc.Table) -> Iterator[RenderableType]:
    table = table.without_spare_columns()
    rows = table.rows[: _SIZE.rows] if table.ranked else table.rows
    grid = Table(
        box=_UNDER_HEAD,
        show_header=not table.obvious,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in table.columns:
        if not column.below:
            is_whole = column.kind not in (Kind.FOREIGN, Kind.WORDS)
            grid.add_column(column.title, no_wrap=is_whole, overflow="fold")
            grid.columns[-1].justify = "right" if column.kind is Kind.NUMBER else "left"
    for row in rows:
        cells: list[Text] = []
        for column, cell in zip(table.columns, row, strict=True):
            text = _cell(cell)
            if not column.below:
                cells.append(text)
            elif text:
                cells[-1] = Text.assemble(cells[-1], (f"\n{column.title}: ", "dim"), text)
        grid.add_row(*cells)
    yield grid
    yield from _more(len(table.rows) - len(rows))


def _cell(cell: doc.Cell) -> Text:
    style = ""
    if isinstance(cell, doc.Value):
        style = _STYLES[cell.status] or ("bold" if cell.strong else "")
    return Text(_SIZE.cell(cell), style)


def _more(number: int) -> Iterator[Text]:
    if said := more(number):
        yield _line(said, "dim")


def _line(text: str, style: str = "") -> Text:
    return Text(_SIZE.text(text), style)
