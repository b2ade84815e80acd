"""The documents of the project, read as GitHub reads them: headings, links, code blocks, tables, code spans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "k2_verifier_adapter"
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*([^`]*)$")
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(
    r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^\s()<>]+(?:\([^\s()]*\))?)>?(?:\s+[\"'][^)]*)?\s*\)"
)
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)", re.MULTILINE)
_HTML = re.compile(r"<(?:a|img|source)\s[^>]*?(?:href|src|srcset)=[\"']([^\"']+)[\"']", re.IGNORECASE)
_NAMED = re.compile(r"<[a-z]+\s[^>]*?(?:name|id)=[\"']([^\"']+)[\"']", re.IGNORECASE)


def documents() -> list[Path]:
    """List every document a reader may come to."""
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted(PACKAGE.rglob("*.md"))]


def name_of(path: Path) -> str:
    """Name a document as messages and tests do."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


@dataclass(frozen=True)
class Line:
    """One line outside of any code block, and where it stands."""

    number: int
    text: str


@dataclass(frozen=True)
class Block:
    """One fenced code block.

    Attributes:
        number: Line of its opening fence.
        language: What stands behind the fence, in lower case; empty if nothing does.
        text: Its content, without the indentation of its fence.
    """

    number: int
    language: str
    text: str


def parse(text: str) -> tuple[list[Line], list[Block]]:
    """Split a document into its prose and its code blocks."""
    prose: list[Line] = []
    blocks: list[Block] = []
    fence: re.Match[str] | None = None
    start, content = 0, []
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence is None and found is None:
            prose.append(Line(number, line))
        elif fence is None:
            fence, start, content = found, number, []
        elif found and found[2].startswith(fence[2]) and not found[3].strip():
            language = (fence[3].split() or [""])[0].lower()
            blocks.append(Block(start, language, "\n".join(content) + "\n"))
            fence = None
        else:
            content.append(line.removeprefix(fence[1]))
    assert fence is None, f"line {start}: a code block without end"
    return prose, blocks


def read(path: Path) -> tuple[list[Line], list[Block]]:
    """Read a document."""
    return parse(path.read_text(encoding="utf-8"))


def spans(text: str) -> list[str]:
    """List the code spans of a line."""
    return [found[2].strip() for found in _SPAN.finditer(text)]


def headings(prose: list[Line]) -> Iterator[tuple[int, int, str]]:
    """Yield line, level and text of every heading."""
    for line in prose:
        found = _HEADING.match(line.text)
        if found:
            yield line.number, len(found[1]), found[2]


def anchors(prose: list[Line]) -> set[str]:
    """Give the anchors that GitHub makes of the headings, and those that are set by hand."""
    given: set[str] = set()
    for _, _, heading in headings(prose):
        slug = _slug(heading)
        anchor, repeated = slug, 0
        while anchor in given:
            repeated += 1
            anchor = f"{slug}-{repeated}"
        given.add(anchor)
    return given | {found[1] for line in prose for found in _NAMED.finditer(line.text)}


def _slug(heading: str) -> str:
    """Lower the letters, drop what is neither letter, digit, `_`, `-` nor space, and dash the spaces."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    plain = re.sub(r"<[^>]+>", "", plain).replace("`", "")
    plain = re.sub(r"(?<!\w)([*_]{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", plain)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def paragraphs(prose: list[Line]) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every run of lines without an empty one between them."""
    start, texts = 0, []
    for line in [*prose, Line(0, "")]:
        if line.text.strip():
            start = start or line.number
            texts.append(line.text)
        elif texts:
            yield start, "\n".join(texts)
            start, texts = 0, []


def links(prose: list[Line]) -> Iterator[tuple[int, str]]:
    """Yield target of every link and image, and the line at which its paragraph begins."""
    for number, paragraph in paragraphs(prose):
        text = _SPAN.sub("``", paragraph)
        for pattern in (_LINK, _HTML, _REFERENCE):
            yield from ((number, found[1]) for found in pattern.finditer(text))


def table_under(prose: list[Line], heading: str) -> list[list[str]]:
    """Give the rows of the first table below a heading, the header left out; cells as they are written."""
    inside, rows = False, []
    for line in prose:
        found = _HEADING.match(line.text)
        if found:
            if rows:
                break
            inside = found[2].replace("`", "") == heading.replace("`", "")
        elif inside and line.text.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.text.strip()[1:-1])])
        elif rows:
            break
    assert len(rows) > 2, f"no table under {heading!r}"
    return rows[2:]
