"""A report as headings, rows and sentences of plain text: what Markdown and HTML lay out.

Nothing is escaped here, but every foreign text is `printable`: it stands on one line and hides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k2_verifier_adapter.core.diagnosis.findings import Finding
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.metrics import ERROR_RATE, FLIP_RATE, Metric
from k2_verifier_adapter.core.printable import amount, percent, plural, printable
from k2_verifier_adapter.core.statistics.intervals import Interval
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports.json_report import failures_as_json

INTERVAL = "95% interval"

_FIRST_CASES = 6
_FIRST_TOOLS = 20
_FIRST_CLASSES = 4
_MOST_NAMES = 8
_LONGEST_VALUE = 200
_LONGEST_NAME = 80
_LONGEST_LINE = 1_000
_ALL = 0.9995

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        columns: The headings; the first columns name the row.
        rows: The cells, as many in each row as there are columns.
        numbers: How many of the columns behind the names hold numbers; those after them hold words.
        names: How many columns name the row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int
    names: int = 1

    def holds_numbers(self, place: int) -> bool:
        """Whether the column at a place, counted from 0, holds numbers."""
        return self.names <= place < self.names + self.numbers

    def without(self, column: str) -> Grid:
        """Give the same table without one of its columns of words."""
        place = self.columns.index(column)
        rows = (self.columns, *self.rows)
        columns, *kept = ((*row[:place], *row[place + 1 :]) for row in rows)
        return Grid(columns, tuple(kept), self.numbers, self.names - (place < self.names))

    def first_rows(self, most: int) -> tuple[Grid, int]:
        """Give the table of the first rows, and the number of the others."""
        rows = self.rows[:most]
        return Grid(self.columns, rows, self.numbers, self.names), len(self.rows) - len(rows)


def title(summary: Summary) -> str:
    """Give the title: what was verified."""
    named = (summary.facts.model, summary.facts.subset)
    return "K2 vendor verification: " + ", ".join(name(text) for text in named if text)


def requests(summary: Summary) -> str:
    """Count the requests, and say so where not all of them completed."""
    return "; ".join(filter(None, (request_counts(summary), incomplete(summary))))


def request_counts(summary: Summary) -> str:
    """Count the requests."""
    return (
        f"{summary.total:,} total, {summary.completed:,} completed, "
        f"{summary.tally.failed:,} failed, {summary.missing:,} missing"
    )


def incomplete(summary: Summary) -> str | None:
    """Say how many of the requests completed, where it is not all of them."""
    if summary.coverage is None or summary.coverage == 1:
        return None
    return f"INCOMPLETE: {percent(summary.coverage)} of the requests completed"


def metrics(summary: Summary) -> Grid:
    """Give every metric with its interval."""
    repaired = repaired_responses(summary)
    rows = []
    for metric in summary.metrics:
        row = [metric.name, amount(metric, metric.value), bounds(metric.interval), f"{metric.n:,}"]
        rows.append((*row, _without_repaired(metric)) if repaired else tuple(row))
    columns = ("metric", "value", INTERVAL, "n", *(["unrepaired"] if repaired else []))
    return Grid(columns, tuple(rows), len(columns) - 1)


def repaired_responses(summary: Summary) -> int:
    """Count the responses whose history was repaired beyond what upstream repairs."""
    return summary.tally.counts.completed - summary.tally.unrepaired.completed


def responses(summary: Summary) -> Pairs:
    """Give decisions, finish reasons and repairs."""
    counts = summary.tally.counts
    missing = counts.completed - counts.stop - counts.tool_calls - counts.others
    finish = [f"stop {counts.stop:,}", f"tool_calls {counts.tool_calls:,}", f"others {counts.others:,}"]
    if summary.tally.others_detail:
        finish[-1] += f" ({listed(summary.tally.others_detail)})"
    if missing:
        finish.append(f"missing {missing:,}")
    repairs = [f"{kind} {number:,}" for kind, number in summary.repairs.items() if number]
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
    return pairs


def _repeats(summary: Summary) -> str:
    repeats, repeated = summary.facts.repeats, summary.tally.repeated
    if not repeated.pairs:
        return f"{repeats}; no two of them completed for one case"
    share = percent(repeated.flips / repeated.pairs)
    return (
        f"{repeats}; of {plural(repeated.pairs, 'pair')} of responses to the same case, "
        f"{repeated.flips:,} decide differently ({share})"
    )


def failures(summary: Summary) -> Grid | None:
    """Give the failure classes, the most frequent first; None without any."""
    rows = []
    for entry in failures_as_json(summary.tally):
        cases = entry["cases"]
        shown = ", ".join(map(str, cases[:_FIRST_CASES])) + (", ..." if len(cases) > _FIRST_CASES else "")
        statuses = ", ".join(f"{count} x {status}" for status, count in entry.get("by_status", {}).items())
        if statuses:
            shown += f" (HTTP status: {statuses})"
        rows.append((entry["class"], f"{entry['count']:,}", entry["group"], shown))
    columns = ("class", "count", "group", "first cases (rows, from 0)")
    return Grid(columns, tuple(rows), 1) if rows else None


def what_if(summary: Summary) -> Grid | None:
    """Give the two metrics as if one class were fixed, the most helpful first; None without any."""

    def gain(row: tuple[float | None, float | None]) -> float:
        return sum(value or 0.0 for value in row)

    found = [
        (item.failure_class.value, (item.metrics.trigger_similarity, item.metrics.schema_accuracy))
        for item in summary.what_if
    ]
    found.sort(key=lambda item: -gain(item[1]))
    rows = tuple((kind, *(_share(value) for value in values)) for kind, values in found)
    return Grid(("if fixed", "trigger_similarity", "schema_accuracy"), rows, 2) if rows else None


def gains(finding: Finding, summary: Summary) -> list[str]:
    """Say of each metric that a fix would change what it would be, and how much of the loss that is."""
    fixed, explains = finding.if_fixed.as_json(), finding.explains.as_json()
    said = []
    for metric in summary.metrics:
        value = fixed.get(metric.name)
        if value is None or value == metric.value:
            continue
        share = explains[metric.name]
        # That a sole cause explains all of the loss says nothing.
        loss = f" (explains {percent(share)} of the loss)" if share is not None and 0 < share < _ALL else ""
        said.append(f"{metric.name} {amount(metric, metric.value)} → {percent(value)}{loss}")
    return said


def tools(summary: Summary, most: int = _FIRST_TOOLS) -> Grid | None:
    """Give the tools with failures, the worst first; None without any."""
    worst = summary.tally.tools.worst()
    rows = []
    for tool, counts in worst[:most]:
        kinds = sorted(counts.responses.items(), key=lambda item: (-item[1], item[0].value))
        said = [f"{kind.value} {number:,}" for kind, number in kinds[:_FIRST_CLASSES]]
        if len(kinds) > _FIRST_CLASSES:
            said.append(f"and {len(kinds) - _FIRST_CLASSES} more")
        rows.append((name(tool), f"{counts.calls:,}", f"{counts.invalid:,}", ", ".join(said)))
    columns = ("tool", "calls", "invalid", "responses by failure class")
    return Grid(columns, tuple(rows), 2) if rows else None


def tools_left_out(summary: Summary, most: int = _FIRST_TOOLS) -> int:
    """Count the tools with failures for which `tools` has no room."""
    return max(0, len(summary.tally.tools.worst()) - most)


def effort(summary: Summary) -> Pairs:
    """Give tokens and latency."""
    usage, latency = summary.observed.usage, summary.observed.latency()
    tokens = ", ".join(
        f"{kind.removesuffix('_tokens')} {usage[kind]:,}"
        for kind in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    seconds = [f"{kind} {value:.2f} s" for kind, value in latency.items() if value is not None]
    return [("tokens", tokens if usage else "not reported"), ("latency", ", ".join(seconds) or "unknown")]


def provenance(summary: Summary) -> Pairs:
    """Give what was asked, when, and with which versions."""
    facts, observed = summary.facts, summary.observed
    rows = f"{facts.rows.source} (sha256 {facts.rows.sha256[:12]})"
    standard = facts.standard
    pairs = [
        ("model", facts.model),
        ("subset", facts.subset),
        ("endpoint", facts.endpoint_host or ("none (no URL)" if summary.log is None else "-")),
        ("served models", listed(observed.models) or "not reported"),
        ("providers", listed(observed.providers)),
        ("fingerprints", listed(observed.system_fingerprints)),
        ("rows", f"SYNTHETIC, {rows}" if facts.rows.synthetic else rows),
        ("rows asked", "" if facts.rows.sample is None else str(facts.rows.sample)),
        ("threshold from", "" if standard is None else standard.source),
        ("started", facts.started_at or "-"),
        ("finished", facts.finished_at or ("not finished" if summary.log is None else "-")),
        (
            "versions",
            f"k2-verifier-adapter {facts.adapter}, EvalScope {facts.evalscope or '-'}, Python {facts.python}",
        ),
    ]
    return [(what, excerpt(printable(value), _LONGEST_LINE)) for what, value in pairs if value]


def parameters(summary: Summary) -> Pairs:
    """Give the parameters of all requests."""
    return [
        (name(key), excerpt(printable(dumps_ascii(value)), _LONGEST_VALUE))
        for key, value in summary.facts.parameters.items()
    ]


def bounds(interval: Interval | None) -> str:
    """Give an interval, or nothing."""
    return "" if interval is None else f"{percent(interval.low)} - {percent(interval.high)}"


def listed(counter: Mapping[str, int]) -> str:
    """List foreign names with their counts, the most frequent first."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{name(text)} {number:,}" for text, number in ordered[:_MOST_NAMES]]
    if len(ordered) > _MOST_NAMES:
        said.append(f"and {len(ordered) - _MOST_NAMES:,} more")
    return ", ".join(said)


def name(text: str) -> str:
    """Give a foreign name, shortened."""
    return excerpt(printable(text), _LONGEST_NAME)


def _without_repaired(metric: Metric) -> str:
    # These two are over all requests, or over all pairs: repairs are no matter there.
    return "" if metric.name in (ERROR_RATE, FLIP_RATE) else amount(metric, metric.without_repaired)


def _share(value: float | None) -> str:
    return "undefined" if value is None else percent(value)
