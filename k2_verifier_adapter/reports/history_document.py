"""One vendor over time, as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from k2_verifier_adapter.core.comparison.history import Change, History, HistoryRun, Neighbours
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.metrics import ACCURACY, CALL_SURPLUS, PRIMARY_METRIC
from k2_verifier_adapter.core.printable import amount, percent, plural, points, printable
from k2_verifier_adapter.core.statistics.changes import ERROR
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.comparison_document import (
    p_value,
    setup_section,
    setup_value,
    similarity_axis,
)
from k2_verifier_adapter.reports.document import Column, Depth, Kind, Section, Table, Value
from k2_verifier_adapter.reports.run_document import drawn_rate
from k2_verifier_adapter.reports.wording import INTERVAL

KIND = "K2 vendor history"
_LONGEST_TITLE = 200
_LONGEST_VALUE = 120


def history_document(history: History) -> doc.Document:
    """Make the report on one vendor over time."""
    lead: list[doc.Block] = [_answer(history)]
    if history.warnings:
        lead.append(doc.Notes(tuple(f"WARNING: {line}" for line in history.warnings), Status.INCONCLUSIVE))
    sections = [_runs(history), _neighbours(history), _setups(history), _sources(history)]
    if history.changes:
        sections.insert(0, _changes(history))
    return doc.Document(kind=KIND, title=_scope(history), lead=tuple(lead), sections=tuple(sections))


def _scope(history: History) -> str:
    first = history.runs[0]
    subset = f", {wording.name(first.subset)}" if first.subset else ""
    return excerpt(f"{wording.name(first.model)}, {plural(len(history.runs), 'run')}{subset}", _LONGEST_TITLE)


def _answer(history: History) -> doc.Judged:
    """Say what has changed since when, if anything has."""
    looks = history.looks
    if not looks:
        said = "fewer than two runs can be held against each other"
        return doc.Judged("change", "Changed", Status.NONE, said)
    bound = f"by a bound that errs in {ERROR:.0%} over all looks, however many"
    if not history.changes:
        said = f"no change is shown after {plural(looks, 'look')}, {bound}"
        return doc.Judged("change", "Steady", Status.PASS, said)
    lines = tuple(printable(wording.sentence(history.in_words(change))) for change in history.changes)
    said = f"{plural(len(lines), 'change')} in {plural(looks, 'look')}, {bound}"
    return doc.Judged("change", "Steady", Status.FAIL, said, (doc.Notes(lines, Status.FAIL),))


def _changes(history: History) -> Section:
    columns = (
        Column("change", Kind.IDENTIFIER),
        Column("runs", Kind.NAME),
        Column("within", Kind.NAME, spare=True),
        Column("seen at", Kind.NUMBER),
        *doc.numbers("before", "since", "difference", INTERVAL),
        Column("p", Kind.NUMBER, spare=True),
    )
    rows = tuple(_change(change) for change in history.changes)
    notes = (
        "before, since: share of the answers that call or agree, or of the calls that are valid, by case",
        "seen at: the run after which it was seen; p: exact, one-sided, at that look",
        "runs: the likeliest place; where others are almost as likely, the first lines name them",
    )
    return Section("changes", "Changes", (Table("Changes", columns, rows), doc.Notes(notes)), link="Changes")


def _change(change: Change) -> tuple[doc.Cell, ...]:
    difference, interval = wording.difference_cells(change.difference)
    return (
        Value(change.name, Status.FAIL),
        f"{change.before + 1} - {change.since + 1}",
        f"{change.earliest[0] + 1} - {change.latest[1] + 1}",
        str(change.seen_at + 1),
        percent(change.difference.second),
        percent(change.difference.first),
        difference,
        interval,
        p_value(change.p),
    )


def _runs(history: History) -> Section:
    """Give the metrics of every run with their intervals, over its own cases."""
    since = {change.since for change in history.changes}
    drawn = [drawn_rate(run.metrics[PRIMARY_METRIC], None, None) for run in history.runs]
    columns = (
        Column("run", Kind.NAME),
        Column("started", Kind.NAME),
        Column("similarity", Kind.NUMBER, axis=similarity_axis(drawn)),
        *doc.numbers(INTERVAL, "surplus", "accuracy"),
        Column("answers", Kind.NUMBER, spare=True),
        Column("failed", Kind.NUMBER),
    )
    rows = tuple(
        (
            Value(str(place + 1), Status.FAIL if place in since else None),
            _day(run),
            Value(amount(run.metrics[PRIMARY_METRIC], run.metrics[PRIMARY_METRIC].value), drawn=drawn[place]),
            wording.bounds(PRIMARY_METRIC, run.metrics[PRIMARY_METRIC].interval),
            amount(run.metrics[CALL_SURPLUS], run.metrics[CALL_SURPLUS].value),
            amount(run.metrics[ACCURACY], run.metrics[ACCURACY].value),
            f"{run.completed:,}",
            f"{run.failed:,}",
        )
        for place, run in enumerate(history.runs)
    )
    order = "by their start" if history.by_start else "as given"
    notes = doc.Notes(
        (
            f"order: {order}; similarity: {PRIMARY_METRIC}; surplus: {CALL_SURPLUS}; accuracy: {ACCURACY}",
            "of each run over its own cases, so that runs over other rows differ by these as well",
        )
    )
    return Section("runs", "Runs", (Table("Runs", columns, rows), notes), link="Runs")


def _day(run: HistoryRun) -> str:
    return "-" if run.moment is None else f"{run.moment:%Y-%m-%d %H:%M}"


def _neighbours(history: History) -> Section:
    """Give what differs between every run and the one before, over the cases that both answer."""
    columns = (
        Column("runs", Kind.NAME),
        *doc.numbers("cases", "similarity", INTERVAL, "better", "worse", "p", "accuracy"),
    )
    rows = tuple(_neighbour(pair) for pair in history.neighbours)
    notes = [
        "similarity, accuracy: the later run less the earlier, in percentage points",
        "better, worse: cases in which only the later or only the earlier agrees with the official decision",
        "p: McNemar's exact test",
        "each by itself: of many nights of one and the same vendor, one in twenty has a p below 0.05",
    ]
    title = "Against the run before"
    return Section("neighbours", title, (Table(title, columns, rows), doc.Notes(tuple(notes))), link=title)


def _neighbour(pair: Neighbours) -> tuple[doc.Cell, ...]:
    difference, interval = wording.difference_cells(pair.similarity)
    found = pair.agreement
    cells = (
        ("-", "-", "-") if found is None else (f"{found.wins:,}", f"{found.losses:,}", p_value(found.p_value))
    )
    return (
        f"{pair.later} - {pair.later + 1}",
        "-" if pair.cases is None else f"{pair.cases:,}",
        difference,
        interval,
        *cells,
        wording.UNDEFINED if pair.accuracy is None else points(pair.accuracy.value, signed=True),
    )


def _setups(history: History) -> Section:
    """Say in what every run was made differently from the one before."""
    return setup_section(
        [
            (f"{pair.later} - {pair.later + 1}", "; ".join(_made_differently(pair)))
            for pair in history.neighbours
            if pair.setup
        ]
    )


def _made_differently(pair: Neighbours) -> Iterator[str]:
    for item in pair.setup:
        before, after = map(_shown, item.values)
        yield f"{wording.name(item.name)}: {before}, then {after}"


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value) or None
    return setup_value(value, _LONGEST_VALUE)


def _sources(history: History) -> Section:
    pairs = tuple((str(place + 1), printable(run.source)) for place, run in enumerate(history.runs))
    return Section("sources", "Read from", (doc.Facts(pairs),), Depth.DETAIL, "Read from")
