"""The comparison of runs as text: 80 columns, coloured on a terminal, plain in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from k2_verifier_adapter.core.comparison.compare import Comparison, Standing, letter
from k2_verifier_adapter.core.comparison.outcomes import State
from k2_verifier_adapter.core.comparison.paired import SIGNIFICANCE, Difference
from k2_verifier_adapter.core.comparison.pairs import Change, Pair
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.reports.comparison.json_report import OFFICIAL, UPSTREAM_COLUMNS, upstream_table
from k2_verifier_adapter.reports.layout import STATUS_STYLES, WIDTH, key_values, render, section, start_table
from k2_verifier_adapter.reports.printable import amount, percent, plural, points, printable
from k2_verifier_adapter.reports.tables import bounds
from k2_verifier_adapter.reports.verdicts import difference_bounds

_LONGEST_VALUE = 60
_PAIRS_WITH_CHANGES = 3
_FIRST_CHANGES = 8
_INDENT = 10
_FIRST_CASES = 5
_FIRST_CLASSES = 3


def render_comparison(comparison: Comparison, *, colour: bool = False, width: int = WIDTH) -> str:
    """Give the comparison as text.

    Args:
        comparison: What to report.
        colour: Whether to write terminal colours.
        width: Columns to fill at most.
    """
    parts: list[RenderableType] = [_title(comparison)]
    parts += [Text(f"WARNING: {printable(warning)}", "yellow") for warning in comparison.warnings]
    parts += [_runs(comparison), _leaderboard(comparison), _upstream(comparison)]
    parts += [_similarity(comparison), _agreement(comparison), _validity(comparison)]
    parts += [*_changes(comparison), *_setup(comparison)]
    return render(parts, colour=colour, width=width)


def _title(comparison: Comparison) -> Text:
    subsets = {standing.participant.summary.facts.subset for standing in comparison.standings} - {""}
    what = "".join(f", {printable(subset)}" for subset in sorted(subsets))
    runs = plural(len(comparison.standings), "run")
    return Text(f"K2 vendor comparison: {runs} over {plural(comparison.cases, 'case')}{what}", "bold")


def _runs(comparison: Comparison) -> RenderableType:
    lines = [(letter(place), _origin(standing)) for place, standing in enumerate(comparison.standings)]
    return section("Runs", key_values(lines))


def _origin(standing: Standing) -> str:
    participant = standing.participant
    provider = f", {participant.provider}" if participant.provider else ""
    failed = f"; {plural(standing.counts.failed, 'request')} failed" if standing.counts.failed else ""
    return f"{participant.label}{provider}: {participant.source}{failed}"


def _leaderboard(comparison: Comparison) -> RenderableType:
    table = start_table("run", "similarity", "95% interval", "accuracy", "95% interval", "verdict")
    for place in comparison.ranking:
        standing = comparison.standings[place]
        similarity, accuracy = standing.metrics["trigger_similarity"], standing.metrics["schema_accuracy"]
        table.add_row(
            letter(place),
            amount(similarity, similarity.value),
            bounds(similarity.interval),
            amount(accuracy, accuracy.value),
            bounds(accuracy.interval),
            Text(standing.verdict.status.value, STATUS_STYLES[standing.verdict.status]),
        )
    reasons = {standing.verdict.reason: None for standing in comparison.standings if standing.verdict.reason}
    notes = [
        Text("similarity: trigger_similarity; accuracy: schema_accuracy; verdict: by the strict rule", "dim"),
        *(Text(f"verdict none: {printable(reason)}", "dim") for reason in reasons),
        *_standard(comparison),
    ]
    return section("Leaderboard", Group(table, *notes))


def _standard(comparison: Comparison) -> list[Text]:
    """Say what the similarities are held against, where it is the same for all runs."""
    standards = [standing.participant.summary.facts.standard for standing in comparison.standings]
    standard = standards[0]
    if standard is None or any(other != standard for other in standards):
        return []
    said = [] if standard.threshold is None else [f"threshold {percent(standard.threshold)}"]
    if standard.self_agreement is not None:
        agreement = standard.self_agreement
        said.append(
            f"the official model against itself {percent(agreement.lowest)} at worst, "
            f"{percent(agreement.mean)} on average"
        )
    line = "; ".join(said)
    return [Text(line[:1].upper() + line[1:], "dim")] if line else []


def _upstream(comparison: Comparison) -> RenderableType:
    table = start_table("model", "provider", "similarity", "tool_calls", "successful", "accuracy")
    for column in table.columns[:2]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for row in upstream_table(comparison):
        model, provider, similarity, calls, valid, accuracy = (row[name] for name in UPSTREAM_COLUMNS)
        table.add_row(
            printable(model),
            printable(provider or "-"),
            _share(similarity, "-" if model == OFFICIAL else "undefined"),
            f"{calls:,.0f}",
            f"{valid:,.0f}",
            _share(accuracy, "undefined"),
        )
    return section("Upstream's table", table)


def _share(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else percent(value)


def _similarity(comparison: Comparison) -> RenderableType:
    table = start_table("pair", "difference", "95% interval", _p(comparison), "higher")
    for pair in comparison.pairs:
        better = "" if pair.better is None else letter(pair.better)
        word = Text(better, "bold") if better else Text("not shown", "dim")
        table.add_row(_pair(pair), *_difference(pair.similarity), _p_value(pair.similarity_p_of_all), word)
    return section(
        "Trigger similarity, pair by pair",
        Group(table, Text("difference: the first run less the second, in percentage points", "dim")),
    )


def _agreement(comparison: Comparison) -> RenderableType:
    table = start_table("pair", "cases", "first right", "second right", "alike", _p(comparison))
    for pair in comparison.pairs:
        found = pair.agreement
        table.add_row(
            _pair(pair),
            f"{pair.completed:,}",
            f"{found.wins:,}",
            f"{found.losses:,}",
            f"{found.ties:,}",
            _p_value(pair.agreement_p_of_all),
        )
    missed = sum(pair.only_first_failed + pair.only_second_failed for pair in comparison.pairs)
    note = "right: agrees with the official decision where the other does not; p: McNemar's exact test"
    parts: list[RenderableType] = [table, Text(note, "dim")]
    if missed:
        parts.append(
            Text("cases that failed in one of the two runs are in none of a pair's numbers", "yellow")
        )
    return section("Agreement with the official decision, case by case", Group(*parts))


def _validity(comparison: Comparison) -> RenderableType:
    p = _p(comparison)
    table = start_table("pair", "both call", "difference", "95% interval", "first", "second", p)
    for pair in comparison.pairs:
        found = pair.validity
        table.add_row(
            _pair(pair),
            f"{found.wins + found.losses + found.ties:,}",
            *_difference(pair.accuracy),
            f"{found.wins:,}",
            f"{found.losses:,}",
            _p_value(pair.validity_p_of_all),
        )
    note = "first, second: cases in which that run's calls are valid and the other's are not"
    return section("Validity of the calls, where both call", Group(table, Text(note, "dim")))


def _p(comparison: Comparison) -> str:
    return "p" if len(comparison.pairs) == 1 else "p (Holm)"


def _pair(pair: Pair) -> str:
    return f"{letter(pair.first)} - {letter(pair.second)}"


def _difference(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return "undefined", ""
    return points(difference.value, signed=True), difference_bounds(difference)


def _p_value(p_value: float | None) -> Text:
    if p_value is None:
        return Text("undefined", "dim")
    text = "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
    return Text(text, "bold" if p_value < SIGNIFICANCE else "")


def _changes(comparison: Comparison) -> list[RenderableType]:
    if len(comparison.pairs) > _PAIRS_WITH_CHANGES:
        note = "Compare two runs, or use --format json, to see which cases differ."
        return [Text(), Text(note, "dim")]
    return [_changes_of(pair) for pair in comparison.pairs]


def _changes_of(pair: Pair) -> RenderableType:
    first, second = letter(pair.first), letter(pair.second)
    title = f"Cases that differ between {first} and {second}"
    if not pair.changes:
        return section(title, Text("none"))
    parts: list[RenderableType] = [Text(_row("official", first, second, "cases", "data_index"), "dim")]
    for change in pair.changes[:_FIRST_CHANGES]:
        cases = ", ".join(map(str, change.cases[:_FIRST_CASES]))
        shown = cases + (", ..." if change.count > _FIRST_CASES else "")
        official = "call" if change.should_call else "no call"
        words = _words(change.first), _words(change.second)
        parts.append(Text(_row(official, *words, f"{change.count:,}", shown)))
        parts += [Padding(Text(line, "dim"), (0, 0, 0, _INDENT)) for line in _how(pair, change)]
    more = len(pair.changes) - _FIRST_CHANGES
    if more > 0:
        parts.append(Text(f"and {plural(more, 'rarer kind')} of difference: --format json lists them", "dim"))
    return section(title, Group(*parts))


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _row(official: str, first: str, second: str, count: str, cases: str) -> str:
    return f"{official:{_INDENT}}{first:14}{second:14}{count:>6}  {cases}"


def _how(pair: Pair, change: Change) -> Iterable[str]:
    for place, failures in ((pair.first, change.first_failures), (pair.second, change.second_failures)):
        if failures:
            yield f"only {letter(place)}: {_most_frequent(failures)}"


def _most_frequent(failures: Mapping[FailureClass, int]) -> str:
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0].value))
    listed = [f"{kind.value} {count:,}" for kind, count in ordered[:_FIRST_CLASSES]]
    if len(ordered) > _FIRST_CLASSES:
        listed.append(f"and {len(ordered) - _FIRST_CLASSES} more")
    return ", ".join(listed)


def _setup(comparison: Comparison) -> list[RenderableType]:
    if not comparison.setup:
        return []
    pairs = [(item.name, _values(item.values)) for item in comparison.setup]
    return [section("Made differently", key_values(pairs))]


def _values(values: Sequence[Any]) -> str:
    return "; ".join(f"{letter(place)} {_value(value)}" for place, value in enumerate(values))


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return excerpt(value if isinstance(value, str) else dumps_ascii(value), _LONGEST_VALUE)
