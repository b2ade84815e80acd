"""The report on a run or on a results file, as a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.diagnosis.findings import Finding
from k2_verifier_adapter.core.log_facts import LEFT_OUT, FailedRule, LogFacts, Places
from k2_verifier_adapter.core.metrics import (
    CALL_SURPLUS,
    ERROR_RATE,
    FLIP_RATE,
    OFFICIAL_SIMILARITY,
    PRIMARY_METRIC,
    Metric,
)
from k2_verifier_adapter.core.presets import SelfAgreement
from k2_verifier_adapter.core.printable import amount, percent, plural, points, printable
from k2_verifier_adapter.core.summary import Summary
from k2_verifier_adapter.core.verdict import Check, Status, Verdict
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.document import Column, Depth, Kind, Section, Table, Value
from k2_verifier_adapter.reports.failed_cases import FailedCase
from k2_verifier_adapter.reports.json_report import failures_as_json, statuses_in_words
from k2_verifier_adapter.reports.wording import FIRST_CASES, INTERVAL

KIND = "K2 vendor verification"

_FIRST_CASES = 8
_LEAST_P = 0.0001
_ALL = 0.9995

_FIGURES = (
    (PRIMARY_METRIC, "same decision to call as the official API"),
    ("schema_accuracy", "of the responses that call are valid"),
)


def run_document(summary: Summary, cases: Iterable[FailedCase] = ()) -> doc.Document:
    """Make the report on a run or on a results file.

    All of it is redacted already, if it is to be; the failed cases are read only by a format that shows them.
    """
    facts = summary.facts
    when = facts.finished_at or facts.started_at
    about = [facts.endpoint_host or "", f"{when[:16].replace('T', ' ')} UTC" if when else ""]
    return doc.Document(
        kind=KIND,
        title=", ".join(wording.name(text) for text in (facts.model, facts.subset) if text),
        about=" · ".join(wording.name(text) for text in about if text),
        lead=tuple(_lead(summary)),
        sections=(
            _metrics(summary),
            *_findings(summary),
            *_failures(summary),
            *_server_messages(summary),
            *_what_if(summary),
            *_tools(summary),
            *_details(summary),
        ),
        cases=cases,
    )


def _lead(summary: Summary) -> Iterator[doc.Block]:
    status, said = wording.headline(summary)
    yield doc.Judged("verdict", "Verdict", status, said, tuple(_verdict_blocks(summary, summary.verdict)))
    if summary.baseline is not None:
        yield against_baseline("baseline", "Against the baseline", summary.baseline, "run - baseline")
    if warnings := wording.warnings(summary):
        yield doc.Notes(tuple(f"WARNING: {line}" for line in warnings), Status.INCONCLUSIVE)
    yield _figures(summary)
    if summary.redacted:
        yield doc.Paragraph("Redacted: what may repeat prompts, tools or answers is left out")


def _verdict_blocks(summary: Summary, verdict: Verdict) -> Iterator[doc.Block]:
    if verdict.checks:
        yield checks_table(verdict)
    yield doc.Paragraph(wording.requests_and_cost(summary), "Requests")
    if incomplete := wording.incomplete(summary):
        yield doc.Notes((incomplete,), Status.INCONCLUSIVE)
    if verdict.raised:
        yield doc.Notes(
            differing(verdict),
            Status.INCONCLUSIVE,
        )
    elif verdict.status is not Status.NONE:
        yield doc.Paragraph("none beyond chance", "Differences from the official API")
    if design := wording.stopped_at(summary):
        yield doc.Paragraph(f"{design}; intervals of the checks are those of this look", "Looks")
    if summary.similarity_bounds is not None and verdict.status is not Status.NONE:
        low, high = map(percent, summary.similarity_bounds)
        said = f"{low} if every request without an answer had disagreed, {high} if each had agreed"
        yield doc.Paragraph(said, PRIMARY_METRIC)
    if summary.forecast is not None:
        yield doc.Paragraph(str(summary.forecast), "Forecast")
    # The official model's agreement with itself says nothing about synthetic rows.
    if summary.self_agreement is not None and not summary.facts.rows.synthetic:
        said = wording.agreement_bounds(summary.self_agreement)
        value = next(metric.value for metric in summary.metrics if metric.name == PRIMARY_METRIC)
        vendor = "" if value is None else f"; this vendor: {percent(value)}"
        yield doc.Paragraph(f"{said}{vendor}", "The official model against itself")


def checks_table(verdict: Verdict) -> Table:
    """Lay out the checks of a verdict."""
    columns = (
        Column("check", Kind.IDENTIFIER),
        Column("result"),
        *doc.numbers("value", INTERVAL),
        Column("needed"),
    )
    rows = tuple(
        _check(check, applied=check.applied and verdict.status is not Status.NONE) for check in verdict.checks
    )
    return Table("Checks", columns, rows, obvious=True)


def _check(check: Check, *, applied: bool) -> tuple[doc.Cell, ...]:
    status = check.status
    limit = f"{100 * (check.threshold if check.most is None else check.most):g}%"
    needed = f"at least {limit}" if check.most is None else f"within {limit}"
    return (
        check.metric,
        Value(status.value, status) if applied else f"({status.value})",
        wording.checked_value(check),
        wording.bounds(check.metric, check.interval),
        needed if applied else f"not applied: {limit}",
    )


def differing(verdict: Verdict) -> tuple[str, ...]:
    """Say how the vendor decides otherwise than the official API, beyond chance."""
    return tuple(f"Differs: {found.evidence} (p {_p(found.p)})" for found in verdict.raised)


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= _LEAST_P else f"below {_LEAST_P:g}"


def against_baseline(name: str, title: str, found: NotWorse, what: str) -> doc.Judged:
    """Say whether a run is not worse than a baseline; `what` says what is less what."""
    numbers = doc.numbers("difference", INTERVAL, "at least")
    columns = (Column(what, Kind.IDENTIFIER), *numbers, Column("result"))
    rows = tuple(
        (
            check.metric,
            *wording.difference_cells(check.difference),
            points(-found.margin),
            "-" if found.status is Status.NONE else Value(check.status.value, check.status),
        )
        for check in found.checks
    )
    table = Table("Differences, in percentage points", columns, rows)
    return doc.Judged(name, title, found.status, wording.behind_baseline(found), (table,))


def _figures(summary: Summary) -> doc.Figures:
    by_name = {metric.name: metric for metric in summary.metrics}
    figures = []
    for name, meaning in _FIGURES:
        metric = by_name[name]
        bounds = wording.bounds(name, metric.interval)
        notes = (meaning, f"{INTERVAL} {bounds}") if bounds else (meaning,)
        figures.append((name, amount(metric, metric.value), notes))
    return doc.Figures(tuple(figures))


def _metrics(summary: Summary) -> Section:
    repaired = summary.tally.counts.completed - summary.tally.unrepaired.completed
    # On synthetic rows neither says anything.
    synthetic = summary.facts.rows.synthetic
    thresholds = {} if synthetic else {check.metric: check.threshold for check in summary.verdict.checks}
    agreement = None if synthetic else summary.self_agreement
    rows = []
    for metric in summary.metrics:
        if metric.name == OFFICIAL_SIMILARITY:
            continue
        is_primary = metric.name == PRIMARY_METRIC
        drawn = drawn_rate(metric, thresholds.get(metric.name), agreement if is_primary else None)
        value = Value(amount(metric, metric.value), strong=is_primary, drawn=drawn)
        bounds = wording.bounds(metric.name, metric.interval)
        row: list[doc.Cell] = [metric.name, value, bounds, f"{metric.n:,}"]
        rows.append((*row, _without_repaired(metric)) if repaired else tuple(row))
    axis = shares_axis(0, threshold=bool(thresholds), agreement=agreement is not None)
    value_column = Column("value", Kind.NUMBER, axis=axis)
    others = doc.numbers(INTERVAL, "n", *(["unrepaired"] if repaired else []))
    columns = (Column("metric", Kind.IDENTIFIER), value_column, *others)
    blocks: list[doc.Block] = [Table("Metrics", columns, tuple(rows))]
    if repaired:
        note = f"unrepaired: without {plural(repaired, 'response')} whose history was repaired"
        blocks.append(doc.Notes((note,)))
    return Section("metrics", "Metrics", tuple(blocks), link="Metrics")


def _without_repaired(metric: Metric) -> str:
    # These two are over all requests, or over all pairs: repairs are no matter there.
    return "" if metric.name in (ERROR_RATE, FLIP_RATE) else amount(metric, metric.without_repaired)


def drawn_rate(
    metric: Metric, threshold: float | None, agreement: SelfAgreement | None
) -> doc.Interval | None:
    """Draw a rate with its interval, against a threshold and the official model against itself."""
    if metric.interval is None or metric.value is None or metric.name == CALL_SURPLUS:
        return None
    band = None if agreement is None else (agreement.lowest, agreement.mean)
    return doc.Interval(metric.value, metric.interval.low, metric.interval.high, threshold, band)


def shares_axis(first: float, *, threshold: bool, agreement: bool) -> doc.Axis:
    """Make an axis of shares, from a first one to 1."""
    return doc.Axis(
        low=first,
        high=1,
        ends=(f"{first:.0%}", "100%"),
        threshold="threshold" if threshold else "",
        band="the official model against itself, lowest to mean" if agreement else "",
    )


def _findings(summary: Summary) -> Iterator[Section]:
    if summary.findings:
        items = doc.Items(tuple(_finding(finding, summary) for finding in summary.findings), ranked=True)
        yield Section("causes", "Probable causes", (items,), link="Causes")


def _finding(finding: Finding, summary: Summary) -> doc.Item:
    blocks: list[doc.Block] = [doc.Paragraph(finding.evidence)]
    if finding.quotes:
        blocks.append(doc.Paragraph(doc.Listed(tuple(map(printable, finding.quotes)), 0), "In its own words"))
    if gains := list(_gains(finding, summary)):
        blocks.append(doc.Paragraph("; ".join(gains), "If fixed"))
    if finding.cases:
        left = max(0, finding.count - len(finding.cases))
        cases = doc.Listed(tuple(map(str, finding.cases)), left, are_rows=True)
        blocks.append(doc.Paragraph(cases, "Cases (rows, from 0)"))
    return doc.Item(finding.hypothesis, tuple(blocks), (*finding.checks, finding.refuted_by))


def _gains(finding: Finding, summary: Summary) -> Iterator[str]:
    """Say of each metric that a fix would change what it would be, and how much of the loss that is."""
    fixed, explains = finding.if_fixed.as_json(), finding.explains.as_json()
    for metric in summary.metrics:
        value = fixed.get(metric.name)
        if value is None or value == metric.value:
            continue
        share = explains[metric.name]
        # That a sole cause explains all of the loss says nothing.
        loss = f" (explains {percent(share)} of the loss)" if share is not None and 0 < share < _ALL else ""
        yield f"{metric.name} from {amount(metric, metric.value)} to {percent(value)}{loss}"


def _failures(summary: Summary) -> Iterator[Section]:
    entries = failures_as_json(summary.tally)
    if not entries:
        return
    columns = (
        Column("class", Kind.IDENTIFIER),
        Column("count", Kind.NUMBER, axis=doc.Axis(0, 1)),
        Column("group", spare=True),
        Column(FIRST_CASES),
    )
    most = max(entry["count"] for entry in entries)
    rows = []
    for entry in entries:
        first = tuple(map(str, entry["cases"][:_FIRST_CASES]))
        cases = doc.Listed(
            first, len(entry["cases"]) - len(first), are_rows=True, note=statuses_in_words(entry)
        )
        count = Value(f"{entry['count']:,}", drawn=entry["count"] / most)
        rows.append((entry["class"], count, entry["group"], cases))
    table = Table("Failure classes", columns, tuple(rows))
    note = "count: responses, or failed requests, that show a class; one may show several"
    folded = f"{len(rows)} {'class' if len(rows) == 1 else 'classes'}, with their first cases"
    blocks = (table, doc.Notes((note,)))
    yield Section("failures", "Failure classes", blocks, link="Failures", folded=folded)


def _server_messages(summary: Summary) -> Iterator[Section]:
    """Quote the servers of failed requests."""
    if said := wording.server_messages(summary):
        yield Section("server-words", "What servers said", (doc.Notes(tuple(said)),))


def _what_if(summary: Summary) -> Iterator[Section]:
    """Give the two metrics as if one class were fixed, the most helpful first."""
    if not summary.what_if:
        return
    names = (PRIMARY_METRIC, "schema_accuracy")
    found = sorted(summary.what_if, key=lambda item: -sum(filter(None, item.metrics.as_json().values())))
    columns = (Column("if fixed", Kind.IDENTIFIER), *doc.numbers(*names))
    rows = tuple(
        (item.failure_class.value, *map(wording.share, item.metrics.as_json().values())) for item in found
    )
    now = {metric.name: wording.share(metric.value) for metric in summary.metrics}
    said = doc.Paragraph(", ".join(f"{name} {now[name]}" for name in names), "Now")
    table = Table("What if", columns, rows, ranked=True)
    yield Section("what-if", "What if one class were fixed", (said, table), Depth.DETAIL)


def _tools(summary: Summary) -> Iterator[Section]:
    """List the tools with failures, the worst first."""
    rows: list[tuple[doc.Cell, ...]] = []
    for name, counts in summary.tally.tools.worst():
        kinds = sorted(counts.responses.items(), key=lambda item: (-item[1], item[0].value))
        shown = doc.Listed(tuple(f"{kind.value} {number:,}" for kind, number in kinds))
        rows.append((wording.name(name), f"{counts.calls:,}", f"{counts.invalid:,}", shown))
    tool, classes = Column("tool", Kind.FOREIGN), Column("responses by failure class")
    columns = (tool, *doc.numbers("calls", "invalid"), classes)
    if rows:
        table = Table("Tools that fail", columns, tuple(rows), ranked=True)
        yield Section("tools", "Tools that fail", (table,), Depth.DETAIL, "Tools")


def _details(summary: Summary) -> Iterator[Section]:
    effort = (*_responses(summary), *wording.effort(summary))
    yield Section("responses", "Responses, tokens and latency", (doc.Facts(effort),), Depth.DETAIL)
    if summary.log is not None:
        yield Section("log", "Results file", (doc.Facts(tuple(_log(summary.log))),), Depth.DETAIL)
    origin = doc.Facts(tuple(wording.provenance(summary)))
    yield Section("provenance", "Provenance", (origin,), Depth.DETAIL, "Provenance")
    parameters = doc.Facts(tuple(wording.parameters(summary)))
    yield Section("parameters", "Parameters of all requests", (parameters,), Depth.DETAIL)


def _responses(summary: Summary) -> Iterator[tuple[str, str]]:
    counts = summary.tally.counts
    vendor = f"both call {counts.tp:,} (TP), only the vendor {counts.fp:,} (FP)"
    yield "decisions", f"{vendor}, only the official {counts.fn:,} (FN), neither {counts.tn:,} (TN)"
    missing = counts.completed - counts.stop - counts.tool_calls - counts.others
    finish = [f"stop {counts.stop:,}", f"tool_calls {counts.tool_calls:,}", f"others {counts.others:,}"]
    if summary.tally.others_detail:
        finish[-1] += f" ({wording.listed(summary.tally.others_detail)})"
    if missing:
        finish.append(f"missing {missing:,}")
    yield "finish reasons", ", ".join(finish)
    old = next(metric for metric in summary.metrics if metric.name == OFFICIAL_SIMILARITY)
    yield OFFICIAL_SIMILARITY, f"{wording.share(old.value)}: upstream's number of 2025; depends on the cases"
    repairs = [f"{kind} {number:,}" for kind, number in summary.repairs.items() if number]
    yield "repaired cases", ", ".join(repairs) or "none"
    if summary.facts.repeats > 1:
        yield "repeats", _repeats(summary)


def _repeats(summary: Summary) -> str:
    repeats, repeated = summary.facts.repeats, summary.tally.repeated
    if not repeated.pairs:
        return f"{repeats}; no two of them completed for one case"
    share = percent(repeated.flips / repeated.pairs)
    return (
        f"{repeats}; of {plural(repeated.pairs, 'pair')} of responses to the same case, "
        f"{repeated.flips:,} decide differently ({share})"
    )


_BY_LINE = frozenset({"unreadable", "without_data_index"})
"""Lines that are listed by their number, for want of a data_index."""

_RULES = {
    FailedRule.LEFT_OUT: 'failed requests, on either side, are left out; not counted as "did not call"',
    FailedRule.NO_CALL: 'failed requests, on either side, count as "did not call" (--failed-as-no-call)',
}
_FIRST_PLACES = 20


def _log(log: LogFacts) -> Iterator[tuple[str, str]]:
    """Say what was found in a results file."""
    yield "lines", f"{log.lines:,}, of which {log.scored:,} scored"
    yield "rule", _RULES[log.failed_rule]
    for name, places in log.left_out.items():
        if places.count:
            noun = "line" if name in _BY_LINE else "data_index"
            yield "left out", f"{_where(places, noun)}: {LEFT_OUT[name]}"
    disagreements = {name: places for name, places in log.disagreements.items() if places.count}
    for name, places in disagreements.items():
        yield (
            "disagreement",
            f"{_where(places, 'data_index')}: the log's {name} is not what the response says",
        )
    if not disagreements:
        yield "disagreements", "none: the lines' own judgements are all confirmed"
    if log.other_request.count:
        yield "other request", _where(log.other_request, "data_index")
    official = log.official
    yield (
        "official",
        f"{plural(official.rows, 'answer')}, {official.failed:,} failed, {official.unused:,} without a line",
    )
    if official.duplicates.count:
        yield "", f"{_where(official.duplicates, 'data_index')}: data_index again; the newest counts"
    if official.unusable.count:
        yield "", f"{_where(official.unusable, 'line')}: not usable"


def _where(places: Places, noun: str) -> str:
    """Give the count and the first places."""
    first = ", ".join(map(str, places.listed[:_FIRST_PLACES]))
    more = ", ..." if places.count > _FIRST_PLACES else ""
    return f"{plural(places.count, 'line')} ({noun} {first}{more})"
