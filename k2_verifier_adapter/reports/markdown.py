"""The report as Markdown, for a GitHub step summary or a comment: one page, the verdict first.

Names and details come from vendors: they are escaped so that they can be read and do nothing else. GitHub
refuses a comment of more than 65,536 characters; what may grow is shortened, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.printable import plural, printable
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports import markdown_cells as cells
from k2_verifier_adapter.reports import tables, verdicts
from k2_verifier_adapter.reports.log_notes import log_as_pairs
from k2_verifier_adapter.reports.markdown_cells import LONGEST_LINE, MAX_BYTES, STATUS_MARKS, plain

_MOST_PARAMETERS = 30


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
    blocks += cells.quotes(verdicts.warnings(summary), room.warnings)
    blocks += [
        f"**Requests:** {tables.requests(summary)}",
        "### Metrics",
        cells.grid(tables.metrics(summary)),
    ]
    repaired = tables.repaired_responses(summary)
    if repaired:
        blocks.append(f"unrepaired: without {plural(repaired, 'response')} whose history was repaired")
    blocks += _findings(summary, room.findings)
    if (grid := tables.failures(summary)) is not None:
        blocks += ["### Failure classes", cells.grid(grid)]
    if (grid := tables.what_if(summary)) is not None:
        blocks.append(cells.details("What if one class were fixed", cells.grid(grid)))
    if not room.details:
        blocks.append("Left out for their length: tools, responses, provenance, parameters.")
        return "\n\n".join(blocks) + "\n"
    if (grid := tables.tools(summary, room.tools)) is not None:
        more = tables.tools_left_out(summary, room.tools)
        note = f"\n\n… and {plural(more, 'more tool')} with failures" if more else ""
        blocks.append(cells.details("Per tool", cells.grid(grid) + note))
    effort = [*tables.responses(summary), *tables.effort(summary)]
    blocks.append(cells.details("Responses, tokens and latency", cells.pairs(effort)))
    if summary.log is not None:
        blocks.append(cells.details("Results file", cells.pairs(log_as_pairs(summary.log))))
    blocks.append(cells.details("Provenance", cells.pairs(tables.provenance(summary))))
    blocks.append(cells.details("Parameters of all requests", _parameters(summary)))
    return "\n\n".join(blocks) + "\n"


def _verdict(summary: Summary) -> str:
    word, rest = verdicts.headline(summary)
    mark = STATUS_MARKS[word]
    if word == "none":
        lines = [f"**{mark} Verdict: none** ({plain(excerpt(rest, LONGEST_LINE))})"]
        unused = verdicts.thresholds_not_applied(summary)
        if unused:
            lines.append(f"Thresholds not applied: {plain(unused)}")
        return "\n\n".join(lines)
    lines = [f"**{mark} Verdict: {word.upper()}** {plain(rest)}"]
    if (grid := verdicts.checks(summary)) is not None:
        lines.append(cells.grid(grid))
    lines += [plain(line) for line in (verdicts.settling(summary), verdicts.against_itself(summary)) if line]
    return "\n\n".join(lines)


def _baseline(summary: Summary) -> list[str]:
    headline, grid = verdicts.baseline_headline(summary), verdicts.baseline_checks(summary)
    if headline is None or grid is None:
        return []
    word, rest = headline
    said = plain(excerpt(rest, LONGEST_LINE))
    return [f"**{STATUS_MARKS[word]} Against the baseline: {word.upper()}** {said}", cells.grid(grid)]


def _findings(summary: Summary, most: int) -> list[str]:
    findings = summary.findings
    if not findings:
        return []
    blocks = ["### Probable causes"]
    for number, finding in enumerate(findings[:most], start=1):
        evidence = plain(excerpt(printable(finding.evidence), LONGEST_LINE))
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
    return cells.pairs(pairs[:_MOST_PARAMETERS]) + (f"\n\n… and {more} more" if more > 0 else "")
