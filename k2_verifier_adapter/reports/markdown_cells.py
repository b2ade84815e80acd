"""Building blocks of Markdown as GitHub shows it: foreign text can be read in them, and does nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.printable import printable
from k2_verifier_adapter.reports import tables

MAX_BYTES = 60_000
"""Bytes of a report at most: below GitHub's limit for a comment, whatever it is counted in."""

STATUS_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "⚠️", "none": "⚪"}
LONGEST_LINE = 500
"""Characters of a line that a vendor may have written."""

_ACTIVE = re.compile(r"[!-/:-@\[-`{-~]")
"""All ASCII punctuation: what has a meaning inside a line is among it."""

_AUTOLINK = re.compile(
    r"(?i)(?<![a-z0-9])(?:(?:https?|ftp|xmpp|mailto):|www\.|gh-|(?P<digest>[0-9a-f]{7,40})(?![0-9a-z]))"
)
"""What GitHub turns into links without any punctuation of Markdown's, at its start."""

_JOINER = "&#8288;"
"""An invisible sign that no link, mention or reference goes across."""

_BLOCK_START = re.compile(r"[-+=]|\d+[.)](?=\s|$)")
_LINKING = frozenset("@#")
"""Behind these, GitHub looks for a name or a number in the text that comes out of Markdown."""

_HARMLESS = frozenset("-.,;%()'\"/?=+")
"""Punctuation that means nothing inside a line; kept for those who read the source."""


def plain(text: str) -> str:
    """Escape a text so that Markdown, HTML and GitHub show it as it is, wherever it stands in a line."""
    shown = printable(text).strip()
    start = _BLOCK_START.match(shown)
    head, rest = (shown[: start.end()], shown[start.end() :]) if start else ("", shown)
    # A backslash would do for Markdown, but mentions and issue numbers are found in what comes out of it.
    signs = [_reference(sign) for sign in head]
    escaped = _ACTIVE.sub(_inside, _AUTOLINK.sub(_broken_up, rest))
    return "".join(signs) + escaped.replace("\0", _JOINER)


def _broken_up(match: re.Match[str]) -> str:
    # A commit's digest is linked from seven digits on.
    return "\0".join(re.findall(r".{1,6}", match[0])) if match["digest"] else f"{match[0][0]}\0{match[0][1:]}"


def _inside(match: re.Match[str]) -> str:
    sign = match[0]
    before, behind = _neighbours(match)
    if (
        sign in _HARMLESS
        or (sign == "_" and before.isalnum() and behind.isalnum())
        or (sign == ":" and behind in ("", " "))
    ):
        return sign
    return _reference(sign)


def _reference(sign: str) -> str:
    if sign.isalnum():
        return sign
    return f"&#{ord(sign)};{_JOINER if sign in _LINKING else ''}"


def _neighbours(match: re.Match[str]) -> tuple[str, str]:
    start, end = match.span()
    return match.string[max(0, start - 1) : start], match.string[end : end + 1]


def grid(grid: tables.Grid) -> str:
    """Lay out a table."""
    marks = ["---:" if grid.holds_numbers(place) else "---" for place in range(len(grid.columns))]
    return "\n".join([_row(grid.columns), _line(marks), *map(_row, grid.rows)])


def pairs(pairs: tables.Pairs) -> str:
    """Lay out names and values."""
    return "\n".join(["| | |", "|---|---|", *map(_row, pairs)])


def _row(cells: Iterable[str]) -> str:
    return _line(map(plain, cells))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def quotes(warnings: Sequence[str], most: int) -> list[str]:
    """Lay out what a reader must see, `most` lines of it; the rest is counted."""
    lines = [f"> ⚠️ {plain(excerpt(line, LONGEST_LINE))}" for line in warnings[:most]]
    more = len(warnings) - len(lines)
    return [*lines, f"> … and {more} more"] if more else lines


def details(title: str, content: str) -> str:
    """Fold content away behind a title, which is not foreign."""
    # The empty line makes GitHub read Markdown again.
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"
