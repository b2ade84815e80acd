"""What was found wrong or odd while rows were built, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class FindingKind(Enum):
    """What was found; the value is its name in files and its words for a person.

    The first group leaves a row out, the second is worth knowing of a row that was written.
    """

    BAD_SAMPLE = ("bad_sample", "samples that cannot be read")
    BAD_RESULT = ("bad_result", "results that cannot be read")
    NO_RESULT = ("no_result", "samples without result")
    NO_SAMPLE = ("no_sample", "results without sample")
    FAILED = ("failed", "official requests that failed")
    DUPLICATE = ("duplicate", "cases with several results that differ")
    REQUEST_DIFFERS = ("request_differs", "results whose request differs from the sample's")
    UNUSABLE = ("unusable", "requests that cannot be sent")

    REPEATED_ALIKE = ("repeated_alike", "cases with several results, all alike; the first is used")
    RETRIED = ("retried", "cases with failed results beside a completed one, which is used")
    NOT_COMPARED = ("not_compared", "results without request: not compared, and no parameters known")
    LOG_DISAGREES = ("log_disagrees", "results whose own finish_reason is not that of their response")
    NOT_RAW = ("not_raw", "responses that EvalScope parsed before they were stored")
    NUMBERS_MISSING = ("numbers_missing", "numbers up to the last data_index without result")

    def __init__(self, key: str, words: str) -> None:
        self.key = key
        self.words = words

    @property
    def leaves_out(self) -> bool:
        """Whether a row, or its part in the self-agreement, was left out for it."""
        return self not in _ONLY_NOTED


_ONLY_NOTED = frozenset(
    {
        FindingKind.REPEATED_ALIKE,
        FindingKind.RETRIED,
        FindingKind.NOT_COMPARED,
        FindingKind.LOG_DISAGREES,
        FindingKind.NOT_RAW,
        FindingKind.NUMBERS_MISSING,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        kind: What.
        file: Name of the file that it was found in.
        lines: 1-based line numbers in it.
        detail: What exactly, where the kind does not say it all.
        count: How many are meant.
    """

    kind: FindingKind
    file: str
    lines: tuple[int, ...]
    detail: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands.

    Attributes:
        unit: What is counted: `line` of a text file, `row` of anything else.
        number: 1-based.
    """

    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        place: Where it stands.
        field: The field at fault, or None where it is the row as a whole.
        reason: What is wrong.
    """

    place: Place
    field: str | None
    reason: str

    def __str__(self) -> str:
        field = "" if self.field is None else f"field {self.field!r}: "
        return f"{self.place}: {field}{self.reason}"


def count_by_kind(findings: Iterable[Finding]) -> dict[FindingKind, int]:
    """Count findings by kind, in the order of the kinds."""
    counts = dict.fromkeys(FindingKind, 0)
    for finding in findings:
        counts[finding.kind] += finding.count
    return {kind: count for kind, count in counts.items() if count}


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges: `3, 7-9`."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
