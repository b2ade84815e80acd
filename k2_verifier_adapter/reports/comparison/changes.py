"""Which cases two runs made different things of, as headings and rows of plain text."""

from __future__ import annotations

from collections.abc import Mapping

from k2_verifier_adapter.core.comparison.compare import letter
from k2_verifier_adapter.core.comparison.pairs import Change, Pair, State
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.reports.tables import Grid


def title_of(pair: Pair) -> str:
    """Give the title above the cases that differ."""
    return f"Cases that differ between {letter(pair.first)} and {letter(pair.second)}"


def changes_of(pair: Pair, *, kinds: int, cases: int, classes: int) -> Grid | None:
    """Say which cases two runs made different things of, the most frequent kind first; None without any.

    Args:
        pair: The two runs.
        kinds: How many kinds of difference to list at most; `kinds_left_out` counts the rest.
        cases: How many cases to list of a kind at most.
        classes: How many failure classes to list of a kind at most, for each run.
    """
    first, second = letter(pair.first), letter(pair.second)
    rows = tuple(
        (
            "call" if change.should_call else "no call",
            _words(change.first),
            _words(change.second),
            f"{change.count:,}",
            _cases(change, cases),
            _most_frequent(change.first_failures, classes),
            _most_frequent(change.second_failures, classes),
        )
        for change in pair.changes[:kinds]
    )
    columns = ("official", first, second, "cases", "data_index", f"only {first}", f"only {second}")
    return Grid(columns, rows, numbers=1, names=3) if rows else None


def kinds_left_out(pair: Pair, kinds: int) -> int:
    """Count the kinds of difference for which `changes_of` has no room."""
    return max(0, len(pair.changes) - kinds)


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _cases(change: Change, most: int) -> str:
    return ", ".join(map(str, change.cases[:most])) + (", ..." if change.count > most else "")


def _most_frequent(failures: Mapping[FailureClass, int], most: int) -> str:
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0].value))
    listed = [f"{kind.value} {count:,}" for kind, count in ordered[:most]]
    if len(ordered) > most:
        listed.append(f"and {len(ordered) - most} more")
    return ", ".join(listed)
