"""What scoring a results file found out about the file itself, beside its numbers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from k2_verifier_adapter.core.printable import plural

LEFT_OUT = {
    "unreadable": "no JSON object",
    "without_data_index": "without data_index",
    "superseded": "another line of the same data_index is newer, and counts, as upstream has it",
    "duplicates": "repeats of a data_index that stand apart from its first line",
    "without_official": "no official answer",
    "official_failed": "the official request failed",
}
"""Why lines were not scored, in words."""

_BY_OFFICIAL_FILE = frozenset({"official_failed"})
"""What is left out whatever the log holds."""

MAX_PLACES = 10_000
"""Places that are listed of each finding; the count is exact whatever their number."""


class FailedRule(str, Enum):
    """What a request that failed, on either side, counts as."""

    LEFT_OUT = "left_out"
    NO_CALL = "no_call"


@dataclass(slots=True)
class Places:
    """How often something was found, and the first places: each a `data_index` or a line number."""

    count: int = 0
    listed: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, place: int) -> None:
        """Note one place."""
        self.count += 1
        if len(self.listed) < MAX_PLACES:
            # A number that no file of this world has lines for is not worth an error.
            self.listed.append(min(place, 2**64 - 1))

    def merge(self, other: Places) -> None:
        """Take in what was found further down."""
        self.count += other.count
        self.listed.extend(other.listed[: MAX_PLACES - len(self.listed)])


@dataclass(slots=True)
class OfficialFacts:
    """What was found in the official file.

    Attributes:
        rows: Official answers and failed official requests.
        unused: Official answers that no line of the results answers.
        duplicates: Lines of a `data_index` that has another one that counts, by `data_index`.
    """

    rows: int = 0
    failed: int = 0
    unused: int = 0
    unusable: Places = field(default_factory=Places)
    duplicates: Places = field(default_factory=Places)


@dataclass(slots=True)
class LogFacts:
    """What was found in the results file.

    Attributes:
        lines: Lines that are not empty.
        scored: Lines that were scored, failed requests included.
        superseded: Lines of which a newer one is for the same request, by `data_index`.
        duplicates: Repeats of a `data_index` that stand apart from its first line, by `data_index`.
        other_request: Scored lines whose request holds other messages or tools than the official
            one, by `data_index`.
        finish_reason_differs: Scored lines whose logged `finish_reason` is not the response's.
        tool_calls_valid_differs: Scored lines whose logged `tool_calls_valid` is not confirmed.
        no_completion: Lines logged as a success whose response is no completion.
    """

    failed_rule: FailedRule = FailedRule.LEFT_OUT
    lines: int = 0
    scored: int = 0
    unreadable: Places = field(default_factory=Places)
    without_data_index: Places = field(default_factory=Places)
    superseded: Places = field(default_factory=Places)
    duplicates: Places = field(default_factory=Places)
    without_official: Places = field(default_factory=Places)
    official_failed: Places = field(default_factory=Places)
    other_request: Places = field(default_factory=Places)
    finish_reason_differs: Places = field(default_factory=Places)
    tool_calls_valid_differs: Places = field(default_factory=Places)
    no_completion: Places = field(default_factory=Places)
    official: OfficialFacts = field(default_factory=OfficialFacts)

    def merge(self, other: LogFacts) -> None:
        """Take in what was found further down in the file; the official file is the same."""
        self.lines += other.lines
        self.scored += other.scored
        self.other_request.merge(other.other_request)
        for ours, theirs in ((self.left_out, other.left_out), (self.disagreements, other.disagreements)):
            for name, places in ours.items():
                places.merge(theirs[name])

    @property
    def left_out(self) -> dict[str, Places]:
        """The lines that were not scored, by the reason."""
        return {
            "unreadable": self.unreadable,
            "without_data_index": self.without_data_index,
            "superseded": self.superseded,
            "duplicates": self.duplicates,
            "without_official": self.without_official,
            "official_failed": self.official_failed,
        }

    def in_words(self) -> Iterator[str]:
        """Say what was left out, and why."""
        for name, places in self.left_out.items():
            if places.count:
                yield f"{plural(places.count, 'line')} left out: {LEFT_OUT[name]}"

    def bars(self, *, missing_is_fine: bool) -> str | None:
        """Say what keeps the log from passing for an answer to everything that was asked, or None.

        `missing_is_fine` says that the user set the share of the requests that will do.
        """
        lines = sum(places.count for name, places in self.left_out.items() if name not in _BY_OFFICIAL_FILE)
        missing = 0 if missing_is_fine else self.official.unused
        found = (
            (lines, "line", "left out"),
            (self.other_request.count, "line", "of other requests than the official"),
            (missing, "official answer", "without a line"),
        )
        return ", ".join(f"{plural(count, noun)} {what}" for count, noun, what in found if count) or None

    @property
    def disagreements(self) -> dict[str, Places]:
        """The lines whose own judgement is not confirmed, by the field."""
        return {
            "finish_reason": self.finish_reason_differs,
            "tool_calls_valid": self.tool_calls_valid_differs,
            "status": self.no_completion,
        }
