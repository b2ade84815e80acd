"""A document as one HTML file that needs nothing else: no network, no font, no script from elsewhere.

What vendors write is put into the page as text only. The failed cases stand in it as JSON, which the page's
own script shows with `textContent`; a policy in the page forbids any other script, and all loading.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Any

from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.charts import legend, picture
from k2_verifier_adapter.reports.document import Kind
from k2_verifier_adapter.reports.elements import Markup, element, join
from k2_verifier_adapter.reports.failed_cases import MOST_CASES, FailedCase
from k2_verifier_adapter.reports.fitting import Size, byte_length, fit_items, fit_sections, more
from k2_verifier_adapter.reports.wording import sentence

MAX_BYTES = 3_000_000
"""Bytes of a page at most."""

MAX_CASE_BYTES = 2_400_000
"""Bytes of all failed cases together."""

_FRAME_BYTES = 40_000
"""Room for style, script and header."""

_SHORTEST = Size(letters=60, rows=50, lines=20, parts=50, listed=10)
_SIZES = (
    Size(letters=2_000, rows=100, lines=100, parts=100, listed=1_000),
    Size(letters=500, rows=100, lines=50, parts=100, listed=200),
    Size(letters=200, rows=100, lines=20, parts=100, listed=50),
    _SHORTEST,
    Size(letters=60, rows=0, lines=0, parts=0, listed=0),
)
_CASE_LIMITS = (4_000, 2_000, 1_000, 500, 250, 120, 60, 25)
"""Characters of one text of a case, the longest first."""

_UNSAFE_IN_JSON = ("<", ">", "&", "\u2028", "\u2029")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def render_html(document: doc.Document) -> str:
    """Lay a document out as HTML, at most `MAX_BYTES` long in UTF-8."""
    shown, note = fit_cases(document.cases or ())
    layout = _Layout(frozenset(str(case["row"]) for case in shown))
    cases = data = None
    if document.cases is not None:
        cases = _section("cases", "Failed cases", *_browser(shown, note))
        data = element("script", Markup(_data(shown)), type="application/json", id="cases-data")
    lead = doc.Section("lead", "", document.lead)
    room = MAX_BYTES - _FRAME_BYTES - byte_length(data or "")
    main = fit_sections([lead, *document.sections], _SIZES, layout.section, room)
    return _frame(document, join(*map(Markup, main), cases), data)


def fit_cases(cases: Iterable[FailedCase]) -> tuple[list[dict[str, Any]], str | None]:
    """Shorten the cases until they fit a page; also give a note on what was left out, or None."""
    has_texts = False

    def shorten(case: FailedCase, limit: int) -> dict[str, Any]:
        nonlocal has_texts
        has_texts = has_texts or bool(case.ended)
        return case.as_json(limit)

    shown, limit, found = fit_items(
        cases, _CASE_LIMITS, shorten, lambda case: byte_length(_data([case])), MAX_CASE_BYTES
    )
    notes = [f"only the first {MOST_CASES:,} are here"] if found >= MOST_CASES else []
    if len(shown) < found:
        notes = [f"only the first {len(shown):,} of {plural(found, 'failed case')} are here"]
    if has_texts:
        notes.append(f"texts are cut after {limit:,} characters")
    said = "; ".join([*notes, "the run itself holds everything"])
    return shown, f"{sentence(said)}." if notes else None


def _data(cases: list[dict[str, Any]]) -> str:
    r"""Write JSON in which nothing can end the script element: `<` becomes `\u003c`, and so on."""
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"))
    for sign in _UNSAFE_IN_JSON:
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _frame(document: doc.Document, main: Markup, data: Markup | None) -> str:
    """Put the page together: one file that may load nothing and run nothing but its own script."""
    style, script = _asset("report.css"), None if data is None else _asset("report.js")
    anchors = [(section.name, section.link) for section in document.sections if section.link]
    anchors += [] if data is None else [("cases", "Failed cases")]
    links = [element("a", text, href=f"#{name}") for name, text in anchors]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", document.heading),
        element("style", Markup(style)),
    )
    header = element(
        "header",
        element("p", document.kind, class_="kicker"),
        element("h1", document.title),
        element("p", document.about) if document.about else None,
        element("nav", *links, aria_label="Sections"),
    )
    body = element(
        "body",
        element("a", "Skip to the results", class_="skip", href="#main"),
        header,
        element("main", main, id="main", tabindex="-1"),
        data,
        None if script is None else element("script", Markup(script)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _asset(name: str) -> str:
    return (resources.files("k2_verifier_adapter.reports") / "assets" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str | None) -> str:
    """Allow this style and this script, by their digests, and nothing else."""
    scripts = "" if script is None else f" script-src '{_digest(script)}';"
    return f"default-src 'none'; style-src '{_digest(style)}';{scripts} base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Lays out the parts of a page; rows of which the page holds the failed case become links."""

    rows: frozenset[str]

    def section(self, section: doc.Section, size: Size) -> str:
        """Lay a section out; the one without a title stands at the top and is never left out."""
        if not section.title:
            return join(*self.blocks(section.blocks, size if size.rows else _SHORTEST))
        if size.rows:
            content = list(self.blocks(section.blocks, size))
        else:
            content = [element("p", "Left out for its length: --format json holds it.")]
        if section.folded:
            content = [element("details", element("summary", section.folded), *content, class_="fold")]
        return _section(section.name, section.title, *content)

    def blocks(self, blocks: Sequence[doc.Block], size: Size) -> Iterator[Markup]:
        """Lay blocks out, one below the other."""
        for block in size.blocks(blocks):
            yield from self.block(block, size)

    def block(self, block: doc.Block, size: Size) -> Iterator[Markup]:
        """Lay one block out."""
        match block:
            case doc.Judged():
                yield self.answer(block, size)
            case doc.Paragraph():
                label = element("b", f"{block.label}: ") if block.label else None
                yield element("p", label, self.cell(block.text, size))
            case doc.Notes():
                yield from _notes(block, size)
            case doc.Table():
                yield from self.table(block, size)
            case doc.Facts():
                pairs = [
                    (size.text(name), self.cell(value, size)) for name, value in block.pairs[: size.rows]
                ]
                listed = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
                yield element("dl", *listed, class_="pairs")
                yield from _more(len(block.pairs) - len(pairs))
            case doc.Items():
                shown = block.items[: size.parts]
                items = (self.item(item, size, is_open=number == 0) for number, item in enumerate(shown))
                yield element("ol", *items, class_="findings")
                yield from _more(len(block.items) - size.parts)
            case doc.Fold():
                note = element("span", size.text(block.note), class_="quiet")
                title = element("summary", element("b", size.text(block.title)), " ", note)
                content = self.blocks(block.blocks, size)
                yield element("details", title, *content, open=block.is_open, class_="pair")
            case doc.Figures():
                yield element("dl", *(_figure(*figure) for figure in block.figures), class_="tiles")

    def answer(self, judged: doc.Judged, size: Size) -> Markup:
        """Lay out the answer to a question, with what led to it."""
        said = element("p", sentence(size.text(judged.said)), class_="lead")
        title = f"{judged.title}: {judged.status.value}"
        content = self.blocks(judged.blocks, size)
        return _section(judged.name, title, said, *content, kind=f"verdict {judged.status.value}")

    def item(self, item: doc.Item, size: Size, *, is_open: bool) -> Markup:
        """Lay a finding out, with its advice; all but the first of a list are to unfold."""
        title = element("summary", element("h3", size.text(item.title)))
        content = list(self.blocks(item.blocks, size))
        if item.advice:
            content.append(element("p", element("b", "What to check")))
            content.append(element("ul", *(element("li", size.text(line)) for line in item.advice)))
        return element("li", element("details", title, *content, open=is_open))

    def table(self, table: doc.Table, size: Size) -> Iterator[Markup]:
        """Lay a table out; what is too wide for a screen scrolls by itself, with the keyboard too."""
        heads = []
        for column in table.columns:
            heads.append(element("th", column.title, scope="col", class_=column.kind.value))
            if column.axis is not None:
                ends = [element("span", end) for end in column.axis.ends]
                heads.append(element("td", *ends, class_="picture", aria_hidden="true"))
        body = []
        for row in table.rows[: size.rows]:
            cells: list[Markup] = []
            for column, cell in zip(table.columns, row, strict=True):
                cells.append(self.table_cell(column, cell, size))
                if column.axis is not None:
                    drawn = cell.drawn if isinstance(cell, doc.Value) else None
                    shown = None if drawn is None else picture(drawn, column.axis)
                    cells.append(element("td", shown, class_="picture"))
            body.append(element("tr", *cells))
        content = element("table", element("thead", element("tr", *heads)), element("tbody", *body))
        yield element("div", content, class_="scroll", role="region", aria_label=table.title, tabindex="0")
        signs = [sign for column in table.columns if column.axis is not None for sign in legend(column.axis)]
        if signs:
            yield element("p", *signs, class_="legend")
        yield from _more(len(table.rows) - len(body))

    def table_cell(self, column: doc.Column, cell: doc.Cell, size: Size) -> Markup:
        """Lay a cell out; one that names its row is its heading."""
        is_identifier = column.kind is Kind.IDENTIFIER and isinstance(cell, str)
        content = _breakable(size.cell(cell)) if is_identifier else self.cell(cell, size)
        if column.kind in doc.NAMES:
            return element("th", content, scope="row", class_=column.kind.value)
        return element("td", content, class_=column.kind.value)

    def cell(self, cell: doc.Cell, size: Size) -> Markup:
        """Lay a text out, coloured by its status."""
        if isinstance(cell, doc.Listed) and cell.are_rows:
            items = [self.row(item) for item in size.items(cell)]
            commas = [join(", " if place else "", item) for place, item in enumerate(items)]
            return join(*commas, element("small", cell.note) if cell.note else None)
        text = size.cell(cell)
        if isinstance(cell, doc.Value) and cell.status is not None:
            return element("span", text, class_=f"status {cell.status.value}")
        return element("b", text) if isinstance(cell, doc.Value) and cell.strong else join(text)

    def row(self, number: str) -> Markup:
        """Lead to a row's failed case, if it is here."""
        if number in self.rows:
            return element("a", number, href=f"#case-{number}")
        return element("span", number)


def _section(name: str, title: str, *content: Markup, kind: str | None = None) -> Markup:
    """Put a section together; its name is its anchor."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, class_=kind, aria_labelledby=f"{name}-title")


def _notes(notes: doc.Notes, size: Size) -> Iterator[Markup]:
    lines = [size.text(line) for line in notes.lines[: size.lines]]
    if notes.status is None:
        yield from (element("small", line) for line in lines)
    else:
        items = [element("li", line) for line in lines]
        yield element("ul", *items, class_=f"warnings verdict {notes.status.value}")
    yield from _more(len(notes.lines) - len(lines))


def _more(number: int) -> Iterator[Markup]:
    if said := more(number):
        yield element("small", said)


def _breakable(text: str) -> Markup:
    """Let a name with underscores go over several lines."""
    first, *others = text.split("_")
    return join(first, *(join("_", element("wbr"), part) for part in others))


def _figure(name: str, value: str, notes: Iterable[str]) -> Markup:
    small = [element("small", note) for note in notes]
    return element("div", element("dt", name), element("dd", element("b", value), *small))


_NUMBERS = (
    "A case goes by its row, counted from 0, here as in every report and log. Its data_index is upstream's "
    "number, by which results.jsonl and exports name it; unless the rows say otherwise, it is also the row's "
    "line in their file."
)
_MOST_CHOICES = 200


def _choice(label: str, name: str, every: str, cases: list[dict[str, Any]], field: str) -> Markup:
    """Lay out the choice of one of the values that cases have in a field, the most frequent first."""
    counts = Counter(value for case in cases for value in case.get(field, ()))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CHOICES]
    options = [element("option", f"{every} ({len(cases):,})", value="")]
    options += [element("option", f"{value} ({count:,})", value=value) for value, count in ordered]
    return element("label", label, element("select", *options, id=name))


def _browser(cases: list[dict[str, Any]], note: str | None) -> Iterator[Markup]:
    """Lay out what the script fills with the failed cases."""
    if not cases:
        yield element("p", "None to show.")
        return
    controls = element(
        "div",
        _choice("Failure class ", "case-class", "all classes", cases, "classes"),
        _choice("Tool ", "case-tool", "all tools", cases, "tools"),
        element("label", "Text ", element("input", id="case-text", type="search", size="16")),
        element("label", "Row ", element("input", id="case-row", inputmode="numeric", size="6")),
        element("p", id="case-count", role="status"),
        class_="controls",
    )
    yield element("small", _NUMBERS)
    if note:
        yield element("small", note)
    yield element("noscript", element("p", "Browsing the failed cases needs JavaScript."))
    yield element(
        "div",
        controls,
        element("div", id="case-list"),
        element("button", "Show more", type="button", id="case-more", hidden=True),
        id="case-browser",
        hidden=True,
    )
