"""What was found while rows were built or checked, each with its place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.presets import Standard
from k2_verifier_adapter.core.self_agreement import PairAgreement

REPAIRS = ("malformed_history", "input_role", "tool_call_ids")


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
        lines: 1-based line numbers in the file.
        detail: What exactly, where the kind does not say it all.
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
    """A row that cannot be used, and why; without a field, it is the row as a whole."""

    place: Place
    field: str | None
    reason: str

    def __str__(self) -> str:
        field = "" if self.field is None else f"field {self.field!r}: "
        return f"{self.place}: {field}{self.reason}"


@dataclass(frozen=True, slots=True)
class RunUsed:
    """An official run that rows were built from.

    Attributes:
        completed: Number of lines that hold a completion.
        requested_models: Lines by the model that was asked for.
        served_models: Completions by the model that they say answered.
    """

    name: str
    sha256: str
    completed: int
    requested_models: Counter[str]
    served_models: Counter[str]


@dataclass(frozen=True, slots=True)
class SubsetBuild:
    """What was built, or would have been if any row had remained.

    Attributes:
        calls: Number of rows with an official call.
        standard: What the rows' numbers are held against.
        runs: The official runs, the baseline first.
        pairs: How far every two of them agree.
        other_findings: Findings on the runs that only measure self-agreement.
    """

    subset: str
    rows_path: str
    baseline_path: str
    rows: int
    calls: int
    standard: Standard
    runs: Sequence[RunUsed]
    pairs: Sequence[PairAgreement]
    findings: Sequence[Finding]
    other_findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class RowNote:
    """Something in a row, a tool or a call, that does not keep the row from being used."""

    place: Place
    subject: str
    failure_class: FailureClass
    detail: str


@dataclass(slots=True)
class SubsetCheck:
    """What is in the rows of one subset.

    Attributes:
        error: Why the rows cannot be used as a whole, or None.
        hint: What the file seems to be instead, or None.
        finish_reasons: Usable rows by official finish_reason; `not given` where the row has none.
        repairs: Usable rows by repair; `tool_call_ids` is only made where it is asked for.
        parameters: For each parameter, its values as JSON text, with the number of rows.
        tools: Tools, each row's counted.
        tool_notes: Tools whose schema is missing, broken, or takes too long to check.
        call_notes: Official calls that are not valid.
        without_reasoning: Rows whose history lacks `reasoning_content`, by the demand of a model profile.
    """

    subset: str
    file: str | None = None
    error: str | None = None
    hint: str | None = None
    bad_rows: list[BadRow] = field(default_factory=list)
    rows: int = 0
    calls: int = 0
    synthetic: int = 0
    finish_reasons: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    parameters: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    tools: int = 0
    distinct_schemas: int = 0
    tool_notes: list[RowNote] = field(default_factory=list)
    with_official_calls: int = 0
    call_notes: list[RowNote] = field(default_factory=list)
    without_reasoning: dict[str, list[Place]] = field(default_factory=dict)
    standard: Standard | None = None

    @property
    def usable(self) -> bool:
        """Whether a run could use these rows."""
        return self.error is None and not self.bad_rows and self.rows > 0


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
