"""The comparison of runs, as a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from k2_verifier_adapter.core.comparison.baseline import NotWorse
from k2_verifier_adapter.core.comparison.compare import (
    Comparison,
    Participant,
    Standing,
    letter,
)
from k2_verifier_adapter.core.comparison.pairs import Change, Pair, State
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.metrics import ACCURACY, CALL_SURPLUS, PRIMARY_METRIC
from k2_verifier_adapter.core.observed import NO_PRICES
from k2_verifier_adapter.core.printable import amount, percent, plural, points, printable
from k2_verifier_adapter.core.statistics.paired import SIGNIFICANCE
from k2_verifier_adapter.core.verdict import Status
from k2_verifier_adapter.reports import document as doc
from k2_verifier_adapter.reports import wording
from k2_verifier_adapter.reports.comparison_json import OFFICIAL, UPSTREAM_COLUMNS, upstream_table
from k2_verifier_adapter.reports.document import Column, Depth, Kind, Section, Table, Value
from k2_verifier_adapter.reports.run_document import against_baseline, drawn_rate, shares_axis
from k2_verifier_adapter.reports.wording import INTERVAL

KIND = "K2 vendor comparison"
NOT_SHOWN = "not shown"

_EDGE = round(SIGNIFICANCE, 4)
_LONGEST_TITLE = 200
_LONGEST_VALUES, _SHORTEST_VALUE = 300, 20
_MOST_KINDS = 50
"""All that there are: two official decisions, and five states of either run."""

_FIRST_SHARES = (0.8, 0.5, 0.0)
"""Where an axis of shares begins, the narrowest first."""

_LIMITS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Ends of an axis of differences, the narrowest first."""


def comparison_document(comparison: Comparison, found: NotWorse | None = None) -> doc.Document:
    """Make the report on several runs."""
    lead: list[doc.Block] = []
    if found is not None:
        lead.append(against_baseline("not-worse", "A against B", found, "A - B"))
    if comparison.warnings:
        lines = tuple(f"WARNING: {line}" for line in comparison.warnings)
        lead.append(doc.Notes(lines, Status.INCONCLUSIVE))
    origins = [_origin(standing) for standing in comparison.standings]
    runs = doc.Facts(tuple((letter(place), origin) for place, origin in enumerate(origins)))
    return doc.Document(
        kind=KIND,
        title=_scope(comparison),
        lead=tuple(lead),
        sections=(
            Section("runs", "Runs", (runs,)),
            _leaderboard(comparison),
            Section("upstream", "Upstream's table", (_upstream(comparison),)),
            _similarity(comparison, found),
            _agreement(comparison),
            _validity(comparison),
            _changes(comparison),
            cost_section(
                [(letter(place), item.participant) for place, item in enumerate(comparison.standings)]
            ),
            setup_section([(wording.name(item.name), _by_value(item.values)) for item in comparison.setup]),
            _provenance(comparison, origins),
        ),
    )


def _scope(comparison: Comparison) -> str:
    """Say how many runs are compared, over what."""
    subsets = {standing.participant.summary.facts.subset for standing in comparison.standings} - {""}
    what = "".join(f", {wording.name(subset)}" for subset in sorted(subsets))
    runs = plural(len(comparison.standings), "run")
    return excerpt(f"{runs} over {plural(comparison.cases, 'case')}{what}", _LONGEST_TITLE)


def _origin(standing: Standing) -> str:
    participant = standing.participant
    provider = f", {wording.name(participant.provider)}" if participant.provider else ""
    failed = f"; {plural(standing.counts.failed, 'request')} failed" if standing.counts.failed else ""
    return f"{wording.name(participant.label)}{provider}: {printable(participant.source)}{failed}"


def _leaderboard(comparison: Comparison) -> Section:
    """Give every run's checks over the common cases, by the ranks that it may have."""
    rows: list[tuple[doc.Cell, ...]] = []
    drawn = []
    for place in comparison.ranking:
        standing = comparison.standings[place]
        metrics = standing.metrics
        similarity, surplus, accuracy = metrics[PRIMARY_METRIC], metrics[CALL_SURPLUS], metrics[ACCURACY]
        facts = standing.participant.summary.facts
        # On synthetic rows neither says anything.
        standard = None if facts.rows.synthetic else facts.standard
        threshold = None if standard is None else standard.threshold
        agreement = None if standard is None else standard.self_agreement
        drawn.append(drawn_rate(similarity, threshold, agreement))
        rows.append(
            (
                letter(place),
                _rank(*comparison.ranks[place]),
                wording.name(standing.participant.label),
                Value(amount(similarity, similarity.value), drawn=drawn[-1]),
                wording.bounds(PRIMARY_METRIC, similarity.interval),
                amount(surplus, surplus.value),
                amount(accuracy, accuracy.value),
                Value(standing.verdict.status.value, standing.verdict.status),
                ", ".join(found.name for found in standing.verdict.raised),
            )
        )
    columns = (
        Column("run", Kind.NAME),
        Column("rank", Kind.NAME),
        Column("model", Kind.FOREIGN, spare=True),
        Column("similarity", Kind.NUMBER, axis=similarity_axis(drawn)),
        *doc.numbers(INTERVAL, "surplus", "accuracy"),
        Column("verdict"),
        Column("differs", below=True),
    )
    table = Table("Leaderboard", columns, tuple(rows))
    notes = doc.Notes(tuple(_leaderboard_notes(comparison)))
    return Section("leaderboard", "Leaderboard", (table, notes), link="Leaderboard")


def _rank(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best}-{worst}"


def similarity_axis(drawn: Sequence[doc.Interval | None]) -> doc.Axis | None:
    """Make the narrowest axis on which all is seen; None where nothing is defined."""
    known = [item for item in drawn if item is not None]
    if not known:
        return None
    thresholds = [item.threshold for item in known if item.threshold is not None]
    bands = [item.band for item in known if item.band is not None]
    least = min([*(item.low for item in known), *thresholds, *(low for low, _ in bands)])
    first = next(first for first in _FIRST_SHARES if first <= least)
    return shares_axis(first, threshold=bool(thresholds), agreement=bool(bands))


def _leaderboard_notes(comparison: Comparison) -> Iterator[str]:
    """Say what the columns of the leaderboard mean, and why there is no verdict where there is none."""
    yield f"similarity: {PRIMARY_METRIC}; surplus: {CALL_SURPLUS}; accuracy: {ACCURACY}"
    yield (
        "rank: which ones a run may have; one is ahead of another where it is shown to agree better or to "
        "have more valid calls, and differs from the official API in nothing that the other does not"
    )
    yield "verdict and differs: by the strict rule, over the common cases"
    if standard := _standard(comparison):
        yield standard
    reasons = {standing.verdict.reason: None for standing in comparison.standings if standing.verdict.reason}
    yield from (f"verdict none: {reason}" for reason in reasons)


def _standard(comparison: Comparison) -> str | None:
    """Say what the similarities are held against, where it is the same for all runs.

    None on synthetic rows, which it says nothing about.
    """
    facts = [standing.participant.summary.facts for standing in comparison.standings]
    standard = facts[0].standard
    if standard is None or any(each.standard != standard or each.rows.synthetic for each in facts):
        return None
    said = [] if standard.threshold is None else [f"threshold {percent(standard.threshold)}"]
    if standard.self_agreement is not None:
        said.append(f"the official model against itself {wording.agreement_bounds(standard.self_agreement)}")
    return wording.sentence("; ".join(said)) or None


def _upstream(comparison: Comparison) -> Table:
    """Give the leaderboard by the columns of upstream's tables, the official answers first."""
    rows: list[tuple[doc.Cell, ...]] = []
    for row in upstream_table(comparison):
        model, provider, similarity, calls, valid, accuracy = (row[column] for column in UPSTREAM_COLUMNS)
        rows.append(
            (
                wording.name(model),
                wording.name(provider or "-"),
                wording.share(similarity, "-" if model == OFFICIAL else wording.UNDEFINED),
                f"{calls:,.0f}",
                f"{valid:,.0f}",
                wording.share(accuracy),
            )
        )
    columns = (
        Column("model", Kind.FOREIGN),
        Column("provider", Kind.FOREIGN),
        *doc.numbers("similarity", "tool_calls", "successful", "accuracy"),
    )
    return Table("Upstream's table", columns, tuple(rows))


def _by_pair(
    comparison: Comparison, title: str, titles: Sequence[str], cells: Callable[[Pair], tuple[str, ...]]
) -> Table:
    """Give numbers of every pair, the p-value last."""
    rows = tuple((_pair_name(pair), *cells(pair)) for pair in comparison.pairs)
    return Table(title, (Column("pair", Kind.NAME), *doc.numbers(*titles, _p(comparison))), rows)


def _similarity(comparison: Comparison, found: NotWorse | None) -> Section:
    """Give the difference in trigger_similarity of every pair, and which run's is shown to be higher."""
    title = "Trigger similarity, pair by pair"
    margin = None if found is None else found.margin
    rows = []
    for pair in comparison.pairs:
        shown, interval = wording.difference_cells(pair.similarity)
        difference = Value(shown, drawn=_drawn_difference(pair, margin))
        higher = NOT_SHOWN if pair.better is None else Value(letter(pair.better), strong=True)
        rows.append((_pair_name(pair), difference, interval, p_value(pair.similarity_p_of_all), higher))
    columns = (
        Column("pair", Kind.NAME),
        Column("difference", Kind.NUMBER, axis=_differences_axis(comparison.pairs, margin)),
        *doc.numbers(INTERVAL, _p(comparison)),
        Column("higher"),
    )
    notes = [
        "difference: the first run less the second, in percentage points",
        f"higher: the run whose similarity is shown to be higher, by p below {SIGNIFICANCE:g}",
    ]
    if len(comparison.pairs) > 1:
        notes.append("p (Holm): adjusted for the number of pairs; intervals: of each pair by itself")
    blocks = (Table(title, columns, tuple(rows)), doc.Notes(tuple(notes)))
    return Section("differences", title, blocks, link="Differences")


def _drawn_difference(pair: Pair, margin: float | None) -> doc.Interval | None:
    found = pair.similarity
    threshold = None if margin is None else -margin
    return None if found is None else doc.Interval(found.value, found.low, found.high, threshold)


def _differences_axis(pairs: Sequence[Pair], margin: float | None) -> doc.Axis | None:
    """Make the narrowest axis around 0 on which all is seen; None where no difference is defined."""
    known = [pair.similarity for pair in pairs if pair.similarity is not None]
    if not known:
        return None
    largest = max(margin or 0.0, *(max(-found.low, found.high) for found in known))
    limit = next(limit for limit in _LIMITS if largest <= limit)
    threshold = "" if margin is None else f"how much worse A may be: {points(-margin)}"
    return doc.Axis(-limit, limit, (f"{-100 * limit:g}", f"{100 * limit:+g}"), threshold)


def _agreement(comparison: Comparison) -> Section:
    """Count for every pair in which cases one run agrees with the official decision and one does not."""
    title = "Agreement with the official decision, case by case"

    def cells(pair: Pair) -> tuple[str, ...]:
        found = pair.agreement
        counts = (pair.completed, found.wins, found.losses, found.ties)
        return (*(f"{count:,}" for count in counts), p_value(pair.agreement_p_of_all))

    table = _by_pair(comparison, title, ("cases", "first right", "second right", "alike"), cells)
    notes = [
        "right: agrees with the official decision where the other does not",
        "p: McNemar's exact test",
    ]
    if any(pair.only_first_failed or pair.only_second_failed for pair in comparison.pairs):
        notes.append("cases that failed in one of the two runs are in none of a pair's numbers")
    return Section("agreement", title, (table, doc.Notes(tuple(notes))), link="Case by case")


def _validity(comparison: Comparison) -> Section:
    """Give for every pair the difference in the validity of calls, over the cases in which both call."""
    title = "Validity of the calls, where both call"

    def cells(pair: Pair) -> tuple[str, ...]:
        found = pair.validity
        both = f"{found.wins + found.losses + found.ties:,}"
        only_one = (f"{found.wins:,}", f"{found.losses:,}")
        return (both, *wording.difference_cells(pair.accuracy), *only_one, p_value(pair.validity_p_of_all))

    table = _by_pair(comparison, title, ("both call", "difference", INTERVAL, "first", "second"), cells)
    notes = doc.Notes(("first, second: cases in which only that run's calls are valid",))
    return Section("validity", title, (table, notes))


def _p(comparison: Comparison) -> str:
    return "p" if len(comparison.pairs) == 1 else "p (Holm)"


def _pair_name(pair: Pair) -> str:
    """Name a pair by what is less what."""
    return f"{letter(pair.first)} - {letter(pair.second)}"


def p_value(value: float | None) -> str:
    """Give a p-value, with as many decimals as tell on which side of 0.05 it lies."""
    if value is None:
        return wording.UNDEFINED
    if value < 0.0001:
        return "<0.0001"
    for decimals in (4, 6, 8):
        text = f"{value:.{decimals}f}"
        if float(text) != _EDGE:
            return text
    return repr(value)


def _changes(comparison: Comparison) -> Section:
    """Say which cases every two runs made different things of."""
    differing = [pair for pair in comparison.pairs if pair.changes]
    alike = tuple(_both(pair) for pair in comparison.pairs if not pair.changes)
    blocks: list[doc.Block] = [_changes_of(pair, is_open=len(comparison.pairs) == 1) for pair in differing]
    if alike:
        blocks.append(doc.Paragraph(doc.Listed(alike), "No case differs between"))
    return Section("changes", "Cases that differ", tuple(blocks), link="Cases that differ")


def _both(pair: Pair) -> str:
    return f"{letter(pair.first)} and {letter(pair.second)}"


def _changes_of(pair: Pair, *, is_open: bool) -> doc.Fold:
    first, second = letter(pair.first), letter(pair.second)
    title = _both(pair)
    columns = (
        Column("official", Kind.NAME),
        Column(first, Kind.NAME),
        Column(second, Kind.NAME),
        Column("cases", Kind.NUMBER),
        Column("data_index"),
        Column(f"only {first}", below=True),
        Column(f"only {second}", below=True),
    )
    rows = tuple(
        (
            "call" if change.should_call else "no call",
            _words(change.first),
            _words(change.second),
            f"{change.count:,}",
            _cases(change),
            _by_class(change.first_failures),
            _by_class(change.second_failures),
        )
        for change in pair.changes[:_MOST_KINDS]
    )
    total = sum(change.count for change in pair.changes)
    table = Table(f"Cases that differ between {title}", columns, rows, ranked=True)
    return doc.Fold(title, plural(total, "case"), (table,), is_open)


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _cases(change: Change) -> doc.Listed:
    return doc.Listed(tuple(map(str, change.cases)), change.count - len(change.cases))


def _by_class(failures: Mapping[FailureClass, int]) -> doc.Listed:
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0].value))
    return doc.Listed(tuple(f"{kind.value} {count:,}" for kind, count in ordered))


def cost_section(participants: Sequence[tuple[str, Participant]]) -> Section:
    """Say how long the answers took, and what all requests have cost; the participants by what names them."""
    priced = any(participant.prices != NO_PRICES for _, participant in participants)
    rows = []
    for named, participant in participants:
        spent, latency = participant.spent, participant.summary.observed.latency()
        seconds = (latency[kind] for kind in ("p50", "p95", "max"))
        counts = (spent.requests, spent.prompt_tokens, spent.completion_tokens)
        price = spent.price(participant.prices)
        rows.append(
            (
                named,
                *("" if value is None else f"{value:,.2f}" for value in seconds),
                *(f"{count:,}" for count in counts),
                *(("" if price is None else f"{price:,.2f}",) if priced else ()),
            )
        )
    titles = ("p50 s", "p95 s", "max s", "requests", "prompt", "completion")
    columns = (Column("run", Kind.FOREIGN), *doc.numbers(*titles, *(("price",) if priced else ())))
    notes = [
        "requests: all that were sent, retries included",
        "prompt, completion: tokens, as the vendor counts",
    ]
    silent = [f"{named} {item.spent.silent:,}" for named, item in participants if item.spent.silent]
    if silent:
        notes.append(f"answers that report no tokens: {', '.join(silent)}")
    title = "Latency and cost"
    return Section("cost", title, (Table(title, columns, tuple(rows)), doc.Notes(tuple(notes))), link="Cost")


def setup_section(pairs: Sequence[tuple[str, str]]) -> Section:
    """Say in what runs were made differently."""
    content: doc.Block = doc.Facts(tuple(pairs)) if pairs else doc.Paragraph("Nothing that is known.")
    return Section("setup", "Made differently", (content,), link="Made differently")


def setup_value(value: Any, longest: int) -> str:
    """Give a value of what a run was made with."""
    text = "-" if value is None else value if isinstance(value, str) else dumps_ascii(value)
    return excerpt(printable(text), longest)


def _by_value(values: Sequence[Any]) -> str:
    """Say which runs have which value."""
    longest = max(_SHORTEST_VALUE, _LONGEST_VALUES // len(values))
    runs: dict[str, list[str]] = {}
    for place, value in enumerate(values):
        runs.setdefault(setup_value(value, longest), []).append(letter(place))
    return "; ".join(f"{', '.join(letters)}: {text}" for text, letters in runs.items())


def _provenance(comparison: Comparison, origins: Sequence[str]) -> Section:
    """Say where each run comes from."""
    folds = []
    for place, (standing, origin) in enumerate(zip(comparison.standings, origins, strict=True)):
        summary = standing.participant.summary
        pairs = (
            ("requests", wording.requests(summary)),
            ("cases left out", f"{standing.left_out:,}"),
            *wording.provenance(summary),
        )
        parameters = doc.Facts(tuple(wording.parameters(summary)))
        blocks = (doc.Facts(pairs), doc.Notes(("Parameters of all requests",)), parameters)
        folds.append(doc.Fold(letter(place), origin, blocks))
    return Section("provenance", "Provenance", tuple(folds), Depth.PAGE, "Provenance")
