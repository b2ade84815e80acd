"""The sections of the HTML report, all but the failed cases: readable without any script."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from k2_verifier_adapter.core.diagnosis.findings import Finding
from k2_verifier_adapter.core.printable import amount, plural
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.reports import tables, verdicts
from k2_verifier_adapter.reports.html.charts import bar, breakable, forest_plot
from k2_verifier_adapter.reports.html.elements import Markup, element, join
from k2_verifier_adapter.reports.json_report import failures_as_json
from k2_verifier_adapter.reports.log_notes import log_as_pairs

_TILES = (
    ("trigger_similarity", "same decision to call as the official API"),
    ("schema_accuracy", "of the responses that call are valid"),
)
_FIRST_CASES = 8
_MOST_TOOLS = 100


def verdict_section(summary: Summary) -> Markup:
    """Show the verdict, the checks behind it, and what has to be known before reading on."""
    word, rest = verdicts.headline(summary)
    shown = {"none": "No verdict", "inconclusive": "Inconclusive"}.get(word, word.capitalize())
    unused = verdicts.thresholds_not_applied(summary)
    parts: list[str | None] = [
        element("h2", shown, id="verdict-title"),
        element("p", rest[:1].upper() + rest[1:], class_="lead"),
        element("p", f"Thresholds not applied: {unused}") if unused else None,
    ]
    if (grid := verdicts.checks(summary)) is not None:
        parts.append(table(grid, "Checks", strict_status))
    parts += [
        element("p", line) for line in (verdicts.settling(summary), verdicts.against_itself(summary)) if line
    ]
    if summary.redacted:
        parts.append(element("p", "Redacted: what may repeat prompts, tools or answers is left out."))
    banner = element("section", *parts, class_=f"verdict {word}", aria_labelledby="verdict-title")
    return join(banner, _baseline(summary), _warnings(summary), _tiles(summary))


def _baseline(summary: Summary) -> Markup | None:
    headline, grid = verdicts.baseline_headline(summary), verdicts.baseline_checks(summary)
    if headline is None or grid is None:
        return None
    word, rest = headline
    shown = {"none": "no verdict"}.get(word, word)
    return element(
        "section",
        element("h2", f"Against the baseline: {shown}", id="baseline-title"),
        element("p", rest[:1].upper() + rest[1:], class_="lead"),
        table(grid, "Differences from the baseline, in percentage points", strict_status),
        class_=f"verdict {word}",
        aria_labelledby="baseline-title",
    )


def strict_status(column: str, cell: str) -> Markup | None:
    """Colour the results of a check; the word itself says it too."""
    if column not in ("upstream", "strict", "result"):
        return None
    kind = {"met": "pass", "not met": "fail", "undefined": "inconclusive"}.get(cell, cell)
    return element("span", cell, class_=f"status {kind}")


def _warnings(summary: Summary) -> Markup | None:
    lines = [element("li", element("strong", "Warning: "), line) for line in verdicts.warnings(summary)]
    if not lines:
        return None
    return element("ul", *lines, class_="warnings")


def _tiles(summary: Summary) -> Markup:
    by_name = {metric.name: metric for metric in summary.metrics}
    tiles = []
    for name, meaning in _TILES:
        metric = by_name[name]
        bounds = tables.bounds(metric.interval)
        notes = [meaning, f"{tables.INTERVAL} {bounds}"] if bounds else [meaning]
        tiles.append(_tile(name, amount(metric, metric.value), notes))
    asked = f"{summary.completed:,} of {summary.total:,}"
    notes = [f"{plural(summary.tally.failed, 'request')} failed", f"{summary.missing:,} missing"]
    return element("dl", *tiles, _tile("completed", asked, notes), class_="tiles")


def _tile(name: str, value: str, notes: list[str]) -> Markup:
    return element(
        "div", element("dt", breakable(name)), element("dd", element("b", value), *map(small, notes))
    )


def metrics_section(summary: Summary) -> Markup:
    """Show every metric, drawn and as a table."""
    repaired = tables.repaired_responses(summary)
    note = None
    if repaired:
        note = small(f"unrepaired: without {plural(repaired, 'response')} whose history was repaired")
    grid = table(tables.metrics(summary), "Metrics", names)
    return section("metrics", "Metrics", forest_plot(summary), grid, note)


def findings_section(summary: Summary, links: Callable[[int], Markup]) -> Markup | None:
    """Show the probable causes with their evidence."""
    if not summary.findings:
        return None
    items = [element("li", *_finding(finding, summary, links)) for finding in summary.findings]
    return section("causes", "Probable causes", element("ol", *items, class_="findings"))


def _finding(finding: Finding, summary: Summary, links: Callable[[int], Markup]) -> Iterator[Markup]:
    yield element("h3", finding.hypothesis)
    yield element("p", finding.evidence)
    gains = tables.gains(finding, summary)
    if gains:
        yield element("p", element("b", "If fixed: "), "; ".join(gains))
    if finding.cases:
        yield element("p", element("b", "Cases: "), rows(finding.cases, finding.count, links))
    checks = element("ul", *(element("li", check) for check in finding.checks))
    yield element("details", element("summary", "What to check"), checks)


def failures_section(summary: Summary, links: Callable[[int], Markup]) -> Markup | None:
    """Show the failure classes as bars."""
    entries = failures_as_json(summary.tally)
    if not entries:
        return None
    most = max(entry["count"] for entry in entries)
    body = []
    for entry in entries:
        statuses = ", ".join(f"{count} x {status}" for status, count in entry.get("by_status", {}).items())
        body.append(
            element(
                "tr",
                element("th", breakable(entry["class"]), small(entry["group"]), scope="row"),
                element("td", f"{entry['count']:,}", class_="num"),
                element("td", bar(entry["count"] / most), class_="bars"),
                element(
                    "td",
                    rows(entry["cases"][:_FIRST_CASES], len(entry["cases"]), links),
                    small(f"HTTP status: {statuses}") if statuses else None,
                ),
            )
        )
    head = heads(("class", ""), ("count", "num"), ("", "bars"), ("first cases (rows, from 0)", ""))
    grid = scrolling(element("table", head, element("tbody", *body)), "Failure classes")
    note = small("Responses, or failed requests, that show a class; one may show several.")
    return section("failures", "Failure classes", grid, note)


def what_if_section(summary: Summary) -> Markup | None:
    """Show the two metrics as if one class were fixed."""
    grid = tables.what_if(summary)
    if grid is None:
        return None
    now = {metric.name: amount(metric, metric.value) for metric in summary.metrics}
    said = f"Now: trigger_similarity {now['trigger_similarity']}, schema_accuracy {now['schema_accuracy']}."
    return section(
        "what-if", "What if one class were fixed", element("p", said), table(grid, "What if", names)
    )


def tools_section(summary: Summary) -> Markup | None:
    """Show the tools with failures."""
    grid = tables.tools(summary, _MOST_TOOLS)
    if grid is None:
        return None
    more = tables.tools_left_out(summary, _MOST_TOOLS)
    note = small(f"and {plural(more, 'more tool')} with failures") if more else None
    return section("tools", "Tools", table(grid, "Tools"), note)


def details_sections(summary: Summary) -> Markup:
    """Show responses, effort and provenance."""
    effort = [*tables.responses(summary), *tables.effort(summary)]
    log = None
    if summary.log is not None:
        log = section("log", "Results file", definitions(log_as_pairs(summary.log)))
    origin = [
        definitions(tables.provenance(summary)),
        element("h3", "Parameters of all requests"),
        definitions(tables.parameters(summary) or [("none", "")]),
    ]
    return join(
        section("responses", "Responses, tokens and latency", definitions(effort)),
        log,
        section("provenance", "Provenance", *origin),
    )


def section(name: str, title: str, *children: str | None) -> Markup:
    """Build a section with its heading; `name` is its anchor."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def table(grid: tables.Grid, label: str, shown: Callable[[str, str], Markup | None] | None = None) -> Markup:
    """Build a table; `shown` may give a cell another form, from its column and its text."""
    kinds = ["num" if grid.holds_numbers(place) else "" for place in range(len(grid.columns))]
    body = []
    for row in grid.rows:
        cells = []
        for place, (column, kind, text) in enumerate(zip(grid.columns, kinds, row, strict=True)):
            content = (shown(column, text) if shown else None) or text
            cells.append(
                element("th", content, scope="row")
                if place < grid.names
                else element("td", content, class_=kind or None)
            )
        body.append(element("tr", *cells))
    head = heads(*zip(grid.columns, kinds, strict=True))
    return scrolling(element("table", head, element("tbody", *body)), label)


def names(column: str, text: str) -> Markup | None:
    """Let the names of metrics and classes go over several lines."""
    return breakable(text) if column in ("metric", "if fixed") else None


def heads(*columns: tuple[str, str]) -> Markup:
    """Build the head of a table from titles and classes; a column without title is for the eyes alone."""
    cells = [
        element("th", title, scope="col", class_=kind or None)
        if title
        else element("td", class_=kind or None, aria_hidden="true")
        for title, kind in columns
    ]
    return element("thead", element("tr", *cells))


def scrolling(content: Markup, label: str) -> Markup:
    """Let what is too wide for a screen scroll by itself, with the keyboard too."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def definitions(pairs: tables.Pairs) -> Markup:
    """Build a list of names and values."""
    listed = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", *listed, class_="pairs")


def rows(cases: list[int] | tuple[int, ...], total: int, links: Callable[[int], Markup]) -> Markup:
    """List the numbers of cases, as links where they can be looked at."""
    listed: list[str] = []
    for case in cases:
        listed += [", " if listed else "", links(case)]
    return join(*listed, ", …" if total > len(cases) else None)


def small(text: str) -> Markup:
    """Build a note below something."""
    return element("small", text)
