"""Every link between the documents leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from documents import DOCS, ROOT, anchors, documents, links, name_of, parse, read

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def broken(path: Path, text: str) -> list[str]:
    """List the links of a document that lead nowhere, each with its line and why."""
    prose, _ = parse(text)
    found = []
    for number, target in links(prose):
        if _ELSEWHERE.match(target):
            continue
        place, _, anchor = unquote(target).partition("#")
        file = (path.parent / place).resolve() if place else path
        if not file.exists():
            found.append(f"line {number}: {target}: no such file")
        elif not file.is_relative_to(ROOT):
            found.append(f"line {number}: {target}: leads out of the project")
        elif anchor and (file.suffix != ".md" or anchor not in anchors(read(file)[0])):
            found.append(f"line {number}: {target}: no such heading")
    return found


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_link_leads_somewhere(path):
    """A relative link names a file of the project, and its anchor a heading of that file."""
    assert broken(path, path.read_text(encoding="utf-8")) == []


def test_the_index_names_every_document():
    """`docs/README.md` links every document beside it, each once."""
    prose, _ = read(DOCS / "README.md")
    linked = [target for _, target in links(prose) if "#" not in target and (DOCS / target).parent == DOCS]
    assert sorted(linked) == sorted(path.name for path in DOCS.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("## Which `--limit` for what", "which---limit-for-what"),
        ("### The interval of trigger_similarity", "the-interval-of-trigger_similarity"),
        ("## What if: a *new* class, **now**?", "what-if-a-new-class-now"),
        ("# [Linked](x.md) & more #", "linked--more"),
        ("## 中文 标题", "中文-标题"),
    ],
)
def test_anchors_are_githubs(heading, anchor):
    """An anchor is the heading in lower case, without punctuation and markup, its spaces dashed."""
    assert anchors(parse(heading)[0]) == {anchor}


def test_repeated_headings_are_numbered():
    """The second heading of a name gets `-1`; a heading in a code block is none."""
    text = "# One\n## Same\n```\n## Not one\n```\n## Same\n<a name='by-hand'></a>\n"
    assert anchors(parse(text)[0]) == {"one", "same", "same-1", "by-hand"}


def test_the_check_finds_what_is_broken():
    """Missing files, missing headings and links out of the project are told apart; code is no link."""
    text = (
        "[a](nowhere.md) [b](#nothing) [c](../../..) ![d](none.png 'title') [e](https://example.com/x)\n"
        "`[f](missing.md)` [g](README.md)\n\n[in two\nlines](away.md)\n\n[h]: gone.md\n<img src='lost.png'>\n"
        "```\n[i](no.md)\n```\n"
    )
    found = broken(ROOT / "README.md", text)
    assert [re.sub(r"line \d+: ", "", line) for line in found] == [
        "nowhere.md: no such file",
        "#nothing: no such heading",
        "../../..: leads out of the project",
        "none.png: no such file",
        "away.md: no such file",
        "lost.png: no such file",
        "gone.md: no such file",
    ]
