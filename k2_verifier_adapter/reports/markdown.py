"""The report as Markdown, for a GitHub step summary or a comment: one page, the verdict first.

Names and details come from vendors: they are escaped so that they can be read and do nothing else. GitHub
refuses a comment of more than 65,536 characters; what may grow is shortened, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports import tables, verdicts
from k2_verifier_adapter.reports.log_notes import log_as_pairs
from k2_verifier_adapter.reports.printable import plural, printable

MAX_BYTES = 60_000
"""Bytes of a report at most: below GitHub's limit for a comment, whatever it is counted in."""

_STATUS_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "⚠️", "none": "⚪"}
_MOST_PARAMETERS = 30
_LONGEST_LINE = 500

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


@dataclass(frozen=True, slots=True)
class _Room:
    """How much is shown of what may be long."""

    tools: int
    findings: int
    warnings: int
    details: bool


_ROOMS = (_Room(20, 8, 20, details=True), _Room(8, 3, 5, details=True), _Room(0, 2, 3, details=False))


def render_markdown(summary: Summary) -> str:
    """Give the report as Markdown, at most `MAX_BYTES` long in UTF-8."""
    for room in _ROOMS:
        # A vendor that fails in a thousand long words gets fewer of them shown.
        text = _render(summary, room)
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def _render(summary: Summary, room: _Room) -> str:
    blocks = [f"## {plain(tables.title(summary))}", _verdict(summary), *_baseline(summary)]
    if summary.redacted:
        blocks.append("*Redacted: what may repeat prompts, tools or answers is left out.*")
    blocks += _warnings(summary, room.warnings)
    blocks += [f"**Requests:** {tables.requests(summary)}", "### Metrics", _grid(tables.metrics(summary))]
    repaired = tables.repaired_responses(summary)
    if repaired:
        blocks.append(f"unrepaired: without {plural(repaired, 'response')} whose history was repaired")
    blocks += _findings(summary, room.findings)
    if (grid := tables.failures(summary)) is not None:
        blocks += ["### Failure classes", _grid(grid)]
    if (grid := tables.what_if(summary)) is not None:
        blocks.append(_details("What if one class were fixed", _grid(grid)))
    if not room.details:
        blocks.append("Left out for their length: tools, responses, provenance, parameters.")
        return "\n\n".join(blocks) + "\n"
    if (grid := tables.tools(summary, room.tools)) is not None:
        more = tables.tools_left_out(summary, room.tools)
        note = f"\n\n… and {plural(more, 'more tool')} with failures" if more else ""
        blocks.append(_details("Per tool", _grid(grid) + note))
    effort = [*tables.responses(summary), *tables.effort(summary)]
    blocks.append(_details("Responses, tokens and latency", _pairs(effort)))
    if summary.log is not None:
        blocks.append(_details("Results file", _pairs(log_as_pairs(summary.log))))
    blocks.append(_details("Provenance", _pairs(tables.provenance(summary))))
    blocks.append(_details("Parameters of all requests", _parameters(summary)))
    return "\n\n".join(blocks) + "\n"


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


def _verdict(summary: Summary) -> str:
    word, rest = verdicts.headline(summary)
    mark = _STATUS_MARKS[word]
    if word == "none":
        lines = [f"**{mark} Verdict: none** ({plain(excerpt(rest, _LONGEST_LINE))})"]
        unused = verdicts.thresholds_not_applied(summary)
        if unused:
            lines.append(f"Thresholds not applied: {plain(unused)}")
        return "\n\n".join(lines)
    lines = [f"**{mark} Verdict: {word.upper()}** {plain(rest)}"]
    if (grid := verdicts.checks(summary)) is not None:
        lines.append(_grid(grid))
    lines += [plain(line) for line in (verdicts.settling(summary), verdicts.against_itself(summary)) if line]
    return "\n\n".join(lines)


def _baseline(summary: Summary) -> list[str]:
    headline, grid = verdicts.baseline_headline(summary), verdicts.baseline_checks(summary)
    if headline is None or grid is None:
        return []
    word, rest = headline
    said = plain(excerpt(rest, _LONGEST_LINE))
    return [f"**{_STATUS_MARKS[word]} Against the baseline: {word.upper()}** {said}", _grid(grid)]


def _warnings(summary: Summary, most: int) -> list[str]:
    warnings = verdicts.warnings(summary)
    lines = [excerpt(line, _LONGEST_LINE) for line in warnings[:most]]
    more = len(warnings) - len(lines)
    return [f"> ⚠️ {plain(line)}" for line in lines] + ([f"> … and {more} more"] if more else [])


def _findings(summary: Summary, most: int) -> list[str]:
    findings = summary.findings
    if not findings:
        return []
    blocks = ["### Probable causes"]
    for number, finding in enumerate(findings[:most], start=1):
        evidence = plain(excerpt(printable(finding.evidence), _LONGEST_LINE))
        # A line of its own for the evidence: two blanks at the end of the one above.
        lines = [f"{number}. **{plain(finding.hypothesis)}**  ", f"   {evidence}"]
        gains = tables.gains(finding, summary)
        lines += [f"   - {plain('If fixed: ' + '; '.join(gains))}"] if gains else []
        lines += [f"   - {plain(check)}" for check in finding.checks]
        blocks.append("\n".join(lines))
    if len(findings) > most:
        blocks.append(f"… and {len(findings) - most} more")
    return blocks


def _parameters(summary: Summary) -> str:
    pairs = tables.parameters(summary)
    more = len(pairs) - _MOST_PARAMETERS
    return _pairs(pairs[:_MOST_PARAMETERS]) + (f"\n\n… and {more} more" if more > 0 else "")


def _grid(grid: tables.Grid) -> str:
    marks = ["---", *["---:"] * grid.numbers]
    marks += ["---"] * (len(grid.columns) - len(marks))
    return "\n".join([_row(grid.columns), _line(marks), *map(_row, grid.rows)])


def _row(cells: Iterable[str]) -> str:
    return _line(map(plain, cells))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _pairs(pairs: tables.Pairs) -> str:
    return "\n".join(["| | |", "|---|---|", *map(_row, pairs)])


def _details(title: str, content: str) -> str:
    # The empty line makes GitHub read Markdown again.
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"
