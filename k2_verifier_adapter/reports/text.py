"""The report as text: 80 columns, coloured on a terminal, plain in a file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from k2_verifier_adapter.core.intervals import Interval
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.metrics import ERROR_RATE, FLIP_RATE, Metric
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Check, Status
from k2_verifier_adapter.reports.findings import TOOL_COLUMNS, causes_as_text, tools_as_text
from k2_verifier_adapter.reports.json_report import failures_as_json
from k2_verifier_adapter.reports.log_notes import log_as_pairs
from k2_verifier_adapter.reports.printable import amount, percent, percent_beside, plural, printable

WIDTH = 80

STATUS_STYLES = {
    Status.PASS: "bold green",
    Status.FAIL: "bold red",
    Status.INCONCLUSIVE: "bold yellow",
    Status.NONE: "bold",
}
_MET = {True: ("met", "green"), False: ("not met", "red"), None: ("undefined", "yellow")}
_FIRST_CASES = 6
_LONGEST_VALUE = 200
_UNDER_HEAD = Box("\n".join(["    ", "    ", " -- ", *["    "] * 5]) + "\n", ascii=True)


def render_text(summary: Summary, *, colour: bool = False, width: int = WIDTH) -> str:
    """Give the report as text.

    Args:
        summary: What to report.
        colour: Whether to write terminal colours.
        width: Columns to fill at most.
    """
    parts: list[RenderableType] = [_title(summary), _verdict(summary)]
    if summary.redacted:
        parts.append(Text("Redacted: what may repeat prompts, tools or answers is left out", "dim"))
    parts += [Text(f"WARNING: {printable(warning)}", "yellow") for warning in summary.warnings]
    parts += [_requests(summary), _metrics(summary), _responses(summary), *_failures(summary)]
    parts += _causes(summary)
    if summary.log is not None:
        parts.append(section("Results file", key_values(log_as_pairs(summary.log))))
    parts += [_effort(summary), *_provenance(summary)]
    return render(parts, colour=colour, width=width)


def render(parts: Iterable[RenderableType], *, colour: bool = False, width: int = WIDTH) -> str:
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


def key_values(pairs: Iterable[tuple[str, str | Text]]) -> Table:
    """Lay out names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(printable(name), Text(printable(value)) if isinstance(value, str) else value)
    return grid


def section(title: str, content: RenderableType) -> RenderableType:
    """Put a title above a block, and an empty line above the title."""
    return Group(Text(), Text(title, "bold"), Padding(content, (0, 0, 0, 2)))


def _title(summary: Summary) -> Text:
    facts = summary.facts
    what = ", ".join(printable(name) for name in (facts.model, facts.subset) if name)
    return Text(f"K2 vendor verification: {what}", "bold")


def _verdict(summary: Summary) -> RenderableType:
    verdict = summary.verdict
    if verdict.status is Status.NONE:
        line = Text.assemble("Verdict: ", ("none", "bold"), f" ({printable(verdict.reason or 'no check')})")
        if not verdict.checks:
            return line
        named = ", ".join(f"{check.metric} {percent(check.threshold)}" for check in verdict.checks)
        return Group(line, Text(f"Thresholds not applied: {named}"))
    upstream = {Status.PASS: "met", Status.FAIL: "not met"}.get(verdict.upstream_status, "undefined")
    headline = Text.assemble(
        "Verdict: ",
        (verdict.status.value.upper(), STATUS_STYLES[verdict.status]),
        f" by the strict rule; upstream's rule: {upstream}",
    )
    table = start_table("check", "value", "minimum", "95% interval", "upstream", "strict")
    intervals = {metric.name: metric.interval for metric in summary.metrics}
    for check in verdict.checks:
        word, style = _MET[check.upstream_met]
        table.add_row(
            check.metric,
            _value_of_check(check),
            percent(check.threshold),
            bounds(intervals.get(check.metric)),
            Text(word, style),
            Text(check.status.value, STATUS_STYLES[check.status]),
        )
    parts: list[RenderableType] = [headline, table]
    agreement = summary.self_agreement
    if agreement is not None:
        parts.append(
            Text(
                f"The official model against itself: lowest {percent(agreement.lowest)}, "
                f"mean {percent(agreement.mean)}"
            )
        )
    return Group(*parts)


def _value_of_check(check: Check) -> str:
    return "undefined" if check.value is None else percent_beside(check.value, check.threshold)


def start_table(*columns: str) -> Table:
    """Start a table whose first column is left and whose other columns are right aligned."""
    table = Table(box=_UNDER_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def bounds(interval: Interval | None) -> str:
    """Give an interval in at most 15 characters, so that the tables fit 80 columns."""
    if interval is None:
        return ""
    return f"{percent(interval.low).removesuffix('%')} - {percent(interval.high)}"


def _requests(summary: Summary) -> RenderableType:
    line = Text(
        f"Requests: {summary.total:,} total, {summary.completed:,} completed, "
        f"{summary.tally.failed:,} failed, {summary.missing:,} missing"
    )
    if summary.coverage is None or summary.coverage == 1:
        return Group(Text(), line)
    incomplete = Text(f"INCOMPLETE: {percent(summary.coverage)} of the requests completed", "bold yellow")
    return Group(Text(), line, incomplete)


def _metrics(summary: Summary) -> RenderableType:
    repaired = summary.tally.counts.completed != summary.tally.unrepaired.completed
    columns = ["metric", "value", "95% interval", "n"]
    table = start_table(*columns, *(["unrepaired"] if repaired else []))
    for metric in summary.metrics:
        style = "bold" if metric is summary.metrics[0] else None
        if metric.value is None:
            row = [metric.name, "", f"undefined (n = {metric.n})", ""]
        else:
            row = [metric.name, amount(metric, metric.value), bounds(metric.interval), f"{metric.n:,}"]
        if repaired:
            row.append(_without_repaired(metric))
        table.add_row(*row, style=style)
    parts: list[RenderableType] = [table]
    if repaired:
        number = summary.tally.counts.completed - summary.tally.unrepaired.completed
        parts.append(
            Text(f"unrepaired: without {plural(number, 'response')} whose history was repaired", "dim")
        )
    return section("Metrics", Group(*parts))


def _without_repaired(metric: Metric) -> str:
    # These two are over all requests, or over all pairs: repairs are no matter there.
    return "" if metric.name in (ERROR_RATE, FLIP_RATE) else amount(metric, metric.without_repaired)


def _responses(summary: Summary) -> RenderableType:
    counts = summary.tally.counts
    missing = counts.completed - counts.stop - counts.tool_calls - counts.others
    finish = [f"stop {counts.stop:,}", f"tool_calls {counts.tool_calls:,}", f"others {counts.others:,}"]
    if summary.tally.others_detail:
        finish[-1] += f" ({_listed(summary.tally.others_detail)})"
    if missing:
        finish.append(f"missing {missing:,}")
    repairs = [f"{name} {number:,}" for name, number in summary.repairs.items() if number]
    decisions = (
        f"both call {counts.tp:,} (TP), only the vendor {counts.fp:,} (FP), "
        f"only the official {counts.fn:,} (FN), neither {counts.tn:,} (TN)"
    )
    pairs = [
        ("decisions", decisions),
        ("finish reasons", ", ".join(finish)),
        ("repaired cases", ", ".join(repairs) or "none"),
    ]
    if summary.facts.repeats > 1:
        pairs.append(("repeats", _repeats(summary)))
    return section("Responses", key_values(pairs))


def _repeats(summary: Summary) -> str:
    repeats, repeated = summary.facts.repeats, summary.tally.repeated
    if not repeated.pairs:
        return f"{repeats}; no two of them completed for one case"
    share = percent(repeated.flips / repeated.pairs)
    return (
        f"{repeats}; of {plural(repeated.pairs, 'pair')} of responses to the same case, "
        f"{repeated.flips:,} decide differently ({share})"
    )


def _listed(counter: Mapping[str, int], most: int = 8) -> str:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    listed = [f"{excerpt(name, 60)} {number:,}" for name, number in ordered[:most]]
    if len(ordered) > most:
        listed.append(f"and {len(ordered) - most:,} more")
    return ", ".join(listed)


def _failures(summary: Summary) -> list[RenderableType]:
    entries = failures_as_json(summary.tally)
    if not entries:
        return []
    table = start_table("class", "count", "first cases (rows, from 0)")
    table.columns[2].justify, table.columns[2].no_wrap = "left", False
    for entry in entries:
        cases = entry["cases"]
        shown = ", ".join(map(str, cases[:_FIRST_CASES])) + (", ..." if len(cases) > _FIRST_CASES else "")
        statuses = ", ".join(f"{count} x {status}" for status, count in entry.get("by_status", {}).items())
        if statuses:
            shown += f" (HTTP status: {statuses})"
        table.add_row(entry["class"], f"{entry['count']:,}", shown)
    return [section("Failure classes", table)]


def _causes(summary: Summary) -> list[RenderableType]:
    blocks = (
        ("Probable causes", causes_as_text(summary)),
        ("Tools that fail", tools_as_text(summary, start_table(*TOOL_COLUMNS))),
    )
    return [section(title, block) for title, block in blocks if block is not None]


def _effort(summary: Summary) -> RenderableType:
    usage, latency = summary.observed.usage, summary.observed.latency()
    tokens = ", ".join(
        f"{name.removesuffix('_tokens')} {usage[name]:,}"
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    seconds = [f"{name} {value:.2f} s" for name, value in latency.items() if value is not None]
    pairs = [
        ("tokens", tokens if usage else "not reported"),
        ("latency", ", ".join(seconds) or "unknown"),
    ]
    return section("Usage", key_values(pairs))


def _provenance(summary: Summary) -> list[RenderableType]:
    facts, observed = summary.facts, summary.observed
    rows = f"{facts.rows.source} (sha256 {facts.rows.sha256[:12]})"
    unknown = "none (no URL)" if summary.log is None else "-"
    pairs = [
        ("endpoint", facts.endpoint_host or unknown),
        ("served models", _listed(observed.models) or "not reported"),
        ("providers", _listed(observed.providers)),
        ("fingerprints", _listed(observed.system_fingerprints)),
        ("rows", f"SYNTHETIC, {rows}" if facts.rows.synthetic else rows),
        ("started", facts.started_at or "-"),
        ("finished", facts.finished_at or ("not finished" if summary.log is None else "-")),
        (
            "versions",
            f"k2-verifier-adapter {facts.adapter}, EvalScope {facts.evalscope or '-'}, Python {facts.python}",
        ),
    ]
    parameters = [
        (name, excerpt(dumps_ascii(value), _LONGEST_VALUE)) for name, value in facts.parameters.items()
    ]
    return [
        section("Provenance", key_values((name, value) for name, value in pairs if value)),
        section("Parameters of all requests", key_values(parameters or [("none", "")])),
    ]
