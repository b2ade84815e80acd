"""A document as Markdown, for a GitHub step summary or a comment: the verdict first, details folded away.

Names and details come from vendors: they are escaped so that they can be read and do nothing else. GitHub
refuses a comment of more than 65,536 characters; what is long is shortened, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports.document import Kind
from k2_verifier_adapter.reports.fitting import Size, byte_length, fit_sections, more

MAX_BYTES = 60_000
"""Bytes of a report at most: below GitHub's limit for a comment, whatever it is counted in."""

_SHORTEST = Size(letters=40, rows=5, lines=3, parts=2, listed=2, spare=False)
_SIZES = (
    Size(letters=500, rows=50, lines=20, parts=10, listed=20),
    Size(letters=200, rows=20, lines=10, parts=5, listed=8),
    Size(letters=80, rows=10, lines=5, parts=3, listed=4),
    _SHORTEST,
    Size(letters=40, rows=0, lines=0, parts=0, listed=0),
)
_MARKS = {Status.PASS: "✅", Status.FAIL: "❌", Status.INCONCLUSIVE: "⚠️", Status.NONE: "⚪"}


def render_markdown(document: doc.Document) -> str:
    """Lay a document out as Markdown, at most `MAX_BYTES` long in UTF-8."""
    heading = f"## {_text(document.heading, _SIZES[1])}\n"
    lead = doc.Section("lead", "", document.lead)
    sections = [section for section in document.sections if section.depth is not doc.Depth.PAGE]
    room = MAX_BYTES - byte_length(heading) - len(sections)
    return "\n".join([heading, *fit_sections([lead, *sections], _SIZES, _section, room)])


def _section(section: doc.Section, size: Size) -> str:
    """Write a section, an empty line between its blocks and one at its end."""
    if not section.title:
        # What must be known beside the verdict is shortened, but never left out.
        blocks = list(_blocks(section.blocks, size if size.rows else _SHORTEST))
    elif not size.rows:
        blocks = [f"### {section.title}", "Left out for its length: --format json holds it."]
    elif section.depth is doc.Depth.DETAIL:
        blocks = [_folded(section.title, _blocks(section.blocks, size))]
    else:
        blocks = [f"### {section.title}", *_blocks(section.blocks, size)]
    return "\n\n".join(blocks) + "\n"


def _folded(title: str, content: Iterable[str]) -> str:
    """Fold content away behind a title."""
    # The empty line makes GitHub read Markdown again.
    inside = "\n\n".join(content)
    return f"<details><summary>{in_html(title)}</summary>\n\n{inside}\n\n</details>"


def _blocks(blocks: Sequence[doc.Block], size: Size) -> Iterator[str]:
    for block in size.blocks(blocks):
        yield from _block(block, size)


def _block(block: doc.Block, size: Size) -> Iterator[str]:
    match block:
        case doc.Judged():
            yield _answer(block, size)
            yield from _blocks(block.blocks, size)
        case doc.Paragraph():
            text = _cell(block.text, size)
            yield f"**{block.label}:** {text}" if block.label else text
        case doc.Notes():
            yield from _notes(block, size)
        case doc.Table():
            yield from _table(block, size)
        case doc.Facts():
            rows = [_row([_cell(name, size), _cell(value, size)]) for name, value in block.pairs[: size.rows]]
            yield "\n".join(["| | |", "|---|---|", *rows])
            yield from _more(len(block.pairs) - len(rows))
        case doc.Items():
            yield from (_item(number, item, size) for number, item in enumerate(block.items[: size.parts], 1))
            yield from _more(len(block.items) - size.parts)
        case doc.Fold():
            title = f"{size.text(block.title)}: {size.text(block.note)}"
            yield _folded(title, _blocks(block.blocks, size))
        case doc.Figures():
            # A table says the same.
            pass


def _answer(judged: doc.Judged, size: Size) -> str:
    title, said = f"{_MARKS[judged.status]} {judged.title}", _text(judged.said, size)
    if judged.status is Status.NONE:
        return f"**{title}: none** ({said})"
    return f"**{title}: {judged.status.value.upper()}** {said}"


def _notes(notes: doc.Notes, size: Size) -> Iterator[str]:
    """Lay lines out as one paragraph, or as one quote where they must be seen."""
    mark = "" if notes.status is None else f"> {_MARKS[notes.status]} "
    lines = [f"{mark}{_text(line, size)}" for line in notes.lines[: size.lines]]
    # Two blanks end a line without ending the paragraph.
    yield "  \n".join(lines)
    yield from _more(len(notes.lines) - size.lines)


def _item(number: int, item: doc.Item, size: Size) -> str:
    """Lay a finding out as one element of a numbered list."""
    lines = [f"{number}. **{_text(item.title, size)}**  "]
    lines += [f"   {block}  " for block in _blocks(item.blocks, size)]
    return "\n".join([*lines, *(f"   - {_text(line, size)}" for line in item.advice)])


def _table(table: doc.Table, size: Size) -> Iterator[str]:
    shown = table if size.spare else table.without_spare_columns()
    marks = ["---:" if column.kind is Kind.NUMBER else "---" for column in shown.columns]
    rows = [_row(_cell(cell, size) for cell in row) for row in shown.rows[: size.rows]]
    yield "\n".join([_row(plain(column.title, starts=False) for column in shown.columns), _row(marks), *rows])
    yield from _more(len(shown.rows) - len(rows))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: doc.Cell, size: Size) -> str:
    text = plain(size.cell(cell), starts=False)
    return f"**{text}**" if isinstance(cell, doc.Value) and cell.strong else text


def _more(number: int) -> Iterator[str]:
    if said := more(number):
        yield f"… {said}"


def _text(text: str, size: Size) -> str:
    return plain(size.text(text))


_ACTIVE = re.compile(r"[!-/:-@\[-`{-~]")
"""All ASCII punctuation: what has a meaning inside a line is among it."""

_AUTOLINK = re.compile(
    r"(?i)(?<![a-z0-9])(?:(?:https?|ftp|xmpp|mailto):|www\.|gh-|(?P<digest>[0-9a-f]{7,40})(?![0-9a-z]))"
)
"""What GitHub turns into links without any punctuation of Markdown's, at its start."""

_JOINER = "&#8288;"
"""An invisible sign that no link, mention or reference goes across."""

_BLOCK_START = re.compile(r"([-+=>])|(\d+)([.)])(?=\s|$)")
"""What begins a list, a heading or a quote at the start of a line."""

_EMOJI = re.compile(r":(?=[\d+-]*[^\W\d]|[+-]1:|100:|1234:)[\w+-]+:")
"""A name that GitHub may take for an emoji's; the minutes of a time are none."""

_LINKING = frozenset("@#")
"""Behind these, GitHub looks for a name or a number in the text that comes out of Markdown."""

_BY_NUMBER = frozenset("@#$:")
"""A backslash would do for Markdown, but GitHub looks for these in what comes out of it."""

_HARMLESS = frozenset("-.,;%()'\"/?=+!>^{}")
"""Punctuation that means nothing inside a line; kept for those who read the source."""


def plain(text: str, *, starts: bool = True) -> str:
    """Escape a text so that Markdown, HTML and GitHub show it as it is, and its source reads well.

    Unless it never stands at the start of a line, as in a cell, it begins nothing there.
    """
    shown = printable(text).strip()
    start = _BLOCK_START.match(shown) if starts else None
    head, rest = (start[0], shown[start.end() :]) if start else ("", shown)
    return f"{head[:-1]}\\{head[-1]}{_inline(rest)}" if head else _inline(rest)


def _inline(text: str) -> str:
    return _ACTIVE.sub(_inside, _AUTOLINK.sub(_broken_up, text)).replace("\0", _JOINER)


def in_html(text: str) -> str:
    """Escape a text for a line of HTML, in which GitHub still looks for links and mentions."""
    shown = _AUTOLINK.sub(_broken_up, printable(text).strip())
    return re.sub("[<>&@#$:]", lambda sign: _reference(sign[0]), shown).replace("\0", _JOINER)


def _broken_up(match: re.Match[str]) -> str:
    # A commit's digest is linked from seven digits on.
    return "\0".join(re.findall(r".{1,6}", match[0])) if match["digest"] else f"{match[0][0]}\0{match[0][1:]}"


def _inside(match: re.Match[str]) -> str:
    sign, place = match[0], match.start()
    before, behind = match.string[max(0, place - 1) : place], match.string[place + 1 : place + 2]
    is_plain = (
        sign in _HARMLESS
        or (sign == "_" and before.isalnum() and behind.isalnum())
        or (sign == ":" and not _EMOJI.match(match.string, place))
        or (sign == "&" and behind in ("", " "))
    )
    if is_plain:
        return sign
    if sign == "&":
        return "&amp;"
    return _reference(sign) if sign in _BY_NUMBER else f"\\{sign}"


def _reference(sign: str) -> str:
    return f"&#{ord(sign)};{_JOINER if sign in _LINKING else ''}"
