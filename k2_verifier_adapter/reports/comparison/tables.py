"""A comparison as headings, rows and sentences of plain text: what text, Markdown and HTML lay out.

Nothing is escaped here, but every foreign text is `printable`: it stands on one line and hides nothing.
"""

from __future__ import annotations

from typing import Any

from k2_verifier_adapter.core.comparison.compare import Comparison, Standing, letter
from k2_verifier_adapter.core.comparison.pairs import Pair
from k2_verifier_adapter.core.json_text import dumps_ascii, excerpt
from k2_verifier_adapter.core.printable import amount, percent, plural, points, printable
from k2_verifier_adapter.core.statistics.paired import SIGNIFICANCE, Difference
from k2_verifier_adapter.reports.comparison.json_report import OFFICIAL, UPSTREAM_COLUMNS, upstream_table
from k2_verifier_adapter.reports.tables import INTERVAL, Grid, Pairs, bounds, name
from k2_verifier_adapter.reports.verdicts import difference_bounds

KIND = "K2 vendor comparison"
SIMILARITY_TITLE = "Trigger similarity, pair by pair"
AGREEMENT_TITLE = "Agreement with the official decision, case by case"
VALIDITY_TITLE = "Validity of the calls, where both call"
VALIDITY_NOTE = "first, second: cases in which only that run's calls are valid"
NOT_WORSE_TITLE = "A against B"
SETUP_TITLE = "Made differently"
NOT_SHOWN = "not shown"
UPSTREAM_TITLE = "Upstream's table"

_EDGE = round(SIGNIFICANCE, 4)
_LONGEST_TITLE = 200
_LONGEST_SOURCE = 200


def title(comparison: Comparison) -> str:
    """Give the title."""
    return f"{KIND}: {scope(comparison)}"


def scope(comparison: Comparison) -> str:
    """Say how many runs are compared, over what."""
    subsets = {standing.participant.summary.facts.subset for standing in comparison.standings} - {""}
    what = "".join(f", {name(subset)}" for subset in sorted(subsets))
    runs = plural(len(comparison.standings), "run")
    cases = plural(comparison.cases, "case")
    return excerpt(f"{runs} over {cases}{what}", _LONGEST_TITLE)


def warnings(comparison: Comparison) -> list[str]:
    """List what a reader must see."""
    return [printable(line) for line in comparison.warnings]


def runs(comparison: Comparison) -> Pairs:
    """Say which run each letter stands for, in the order in which they were given."""
    return [(letter(place), _origin(standing)) for place, standing in enumerate(comparison.standings)]


def _origin(standing: Standing) -> str:
    participant = standing.participant
    provider = f", {name(participant.provider)}" if participant.provider else ""
    failed = f"; {plural(standing.counts.failed, 'request')} failed" if standing.counts.failed else ""
    source = excerpt(printable(participant.source), _LONGEST_SOURCE)
    return f"{name(participant.label)}{provider}: {source}{failed}"


def leaderboard(comparison: Comparison) -> Grid:
    """Give both metrics of every run over the common cases, the highest trigger_similarity first."""
    rows = []
    for place in comparison.ranking:
        standing = comparison.standings[place]
        similarity, accuracy = standing.metrics["trigger_similarity"], standing.metrics["schema_accuracy"]
        rows.append(
            (
                letter(place),
                name(standing.participant.label),
                name(standing.participant.provider or "-"),
                amount(similarity, similarity.value),
                bounds(similarity.interval),
                amount(accuracy, accuracy.value),
                bounds(accuracy.interval),
                standing.verdict.status.value,
            )
        )
    columns = ("run", "model", "provider", "similarity", INTERVAL, "accuracy", INTERVAL, "verdict")
    return Grid(columns, tuple(rows), numbers=4, names=3)


def leaderboard_notes(comparison: Comparison) -> list[str]:
    """Say what the columns of the leaderboard mean, and why there is no verdict where there is none."""
    reasons = {standing.verdict.reason: None for standing in comparison.standings if standing.verdict.reason}
    notes = [
        "similarity: trigger_similarity; accuracy: schema_accuracy",
        "verdict: by the strict rule, over the common cases",
    ]
    notes += [f"verdict none: {printable(reason)}" for reason in reasons]
    standard = _standard(comparison)
    return notes if standard is None else [*notes, standard]


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
        agreement = standard.self_agreement
        said.append(
            f"the official model against itself {percent(agreement.lowest)} at worst, "
            f"{percent(agreement.mean)} on average"
        )
    line = "; ".join(said)
    return line[:1].upper() + line[1:] or None


def upstream(comparison: Comparison) -> Grid:
    """Give the leaderboard by the columns of upstream's tables, the official answers first."""
    rows = []
    for row in upstream_table(comparison):
        model, provider, similarity, calls, valid, accuracy = (row[column] for column in UPSTREAM_COLUMNS)
        rows.append(
            (
                name(model),
                name(provider or "-"),
                _share(similarity, "-" if model == OFFICIAL else "undefined"),
                f"{calls:,.0f}",
                f"{valid:,.0f}",
                _share(accuracy, "undefined"),
            )
        )
    columns = ("model", "provider", "similarity", "tool_calls", "successful", "accuracy")
    return Grid(columns, tuple(rows), numbers=4, names=2)


def _share(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else percent(value)


def similarity(comparison: Comparison) -> Grid:
    """Give the difference in trigger_similarity of every pair, and which run's is shown to be higher."""
    rows = tuple(
        (
            pair_name(pair),
            *difference_cells(pair.similarity),
            p_value(pair.similarity_p_of_all),
            NOT_SHOWN if pair.better is None else letter(pair.better),
        )
        for pair in comparison.pairs
    )
    return Grid(("pair", "difference", INTERVAL, _p(comparison), "higher"), rows, numbers=3)


def similarity_notes(comparison: Comparison) -> list[str]:
    """Say what the columns mean."""
    notes = [
        "difference: the first run less the second, in percentage points",
        f"higher: the run whose similarity is shown to be higher, by p below {SIGNIFICANCE:g}",
    ]
    if len(comparison.pairs) > 1:
        notes.append("p (Holm): adjusted for the number of pairs; intervals: of each pair by itself")
    return notes


def agreement(comparison: Comparison) -> Grid:
    """Count for every pair in which cases one run agrees with the official decision and one does not."""
    rows = tuple(
        (
            pair_name(pair),
            f"{pair.completed:,}",
            f"{pair.agreement.wins:,}",
            f"{pair.agreement.losses:,}",
            f"{pair.agreement.ties:,}",
            p_value(pair.agreement_p_of_all),
        )
        for pair in comparison.pairs
    )
    columns = ("pair", "cases", "first right", "second right", "alike", _p(comparison))
    return Grid(columns, rows, numbers=5)


def agreement_notes(comparison: Comparison) -> list[str]:
    """Say what the columns mean, and which cases are left out."""
    notes = [
        "right: agrees with the official decision where the other does not",
        "p: McNemar's exact test",
    ]
    if any(pair.only_first_failed or pair.only_second_failed for pair in comparison.pairs):
        notes.append("cases that failed in one of the two runs are in none of a pair's numbers")
    return notes


def validity(comparison: Comparison) -> Grid:
    """Give for every pair the difference in the validity of calls, over the cases in which both call."""
    rows = tuple(
        (
            pair_name(pair),
            f"{pair.validity.wins + pair.validity.losses + pair.validity.ties:,}",
            *difference_cells(pair.accuracy),
            f"{pair.validity.wins:,}",
            f"{pair.validity.losses:,}",
            p_value(pair.validity_p_of_all),
        )
        for pair in comparison.pairs
    )
    columns = ("pair", "both call", "difference", INTERVAL, "first", "second", _p(comparison))
    return Grid(columns, rows, numbers=6)


def _p(comparison: Comparison) -> str:
    return "p" if len(comparison.pairs) == 1 else "p (Holm)"


def pair_name(pair: Pair) -> str:
    """Name a pair by what is less what."""
    return f"{letter(pair.first)} - {letter(pair.second)}"


def difference_cells(difference: Difference | None) -> tuple[str, str]:
    """Give a difference and its interval, in percentage points."""
    if difference is None:
        return "undefined", ""
    return points(difference.value, signed=True), difference_bounds(difference)


def p_value(value: float | None) -> str:
    """Give a p-value, with as many decimals as tell on which side of 0.05 it lies."""
    if value is None:
        return "undefined"
    if value < 0.0001:
        return "<0.0001"
    for decimals in (4, 6, 8):
        text = f"{value:.{decimals}f}"
        if float(text) != _EDGE:
            return text
    return repr(value)


def setup(comparison: Comparison, *, longest: int) -> Grid | None:
    """Say in what the runs were made differently; None if in nothing.

    Args:
        comparison: The runs.
        longest: Characters of a value to show.
    """
    columns = ("what", *(letter(place) for place in range(len(comparison.standings))))
    rows = tuple(
        (name(item.name), *(_value(value, longest) for value in item.values)) for item in comparison.setup
    )
    return Grid(columns, rows, numbers=0) if rows else None


def _value(value: Any, longest: int) -> str:
    if value is None:
        return "-"
    return excerpt(printable(value if isinstance(value, str) else dumps_ascii(value)), longest)
