"""Which tools were called, and how that failed: counted by tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import excerpt
from k2_verifier_adapter.core.judgement import LONGEST_NAME, ToolUse

MAX_TOOLS = 10_000
"""Different tool names that are counted apart; the rest is counted together."""

OTHER_TOOLS = "(other tools)"

_NOT_OF_A_TOOL = frozenset({FailureClass.NONSTANDARD_TOOL_CALL_ID, FailureClass.DUPLICATE_TOOL_CALL_ID})
"""Classes that say nothing of the tool that was called."""

_NOR_THE_CAUSE = _NOT_OF_A_TOOL | {FailureClass.MISSED_CALL}


@dataclass(slots=True)
class ToolCounts:
    """What was seen of one tool.

    Attributes:
        calls: Calls under finish_reason `tool_calls`.
        invalid: Those that are not valid.
        responses: Responses by the failure class that they show of this tool: of its calls, of a call
            that leaked, or of one that is missing or too much. Ids are left out, and so is a call that
            is missed for another cause.
    """

    calls: int = 0
    invalid: int = 0
    responses: Counter[FailureClass] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """Responses times failure classes."""
        return self.responses.total()


@dataclass(slots=True)
class ToolTally:
    """The counts of all tools; merging two gives the counts of both.

    Attributes:
        by_name: Counts by tool name; from `MAX_TOOLS` names on, new ones under `OTHER_TOOLS`.
    """

    by_name: dict[str, ToolCounts] = field(default_factory=dict)

    def add(
        self, uses: Iterable[ToolUse], failures: Iterable[Failure], primary: FailureClass | None = None
    ) -> None:
        """Count one response, with its failures and the class that is their cause."""
        for use in uses:
            counts = self._counts(use.name)
            counts.calls += use.calls
            counts.invalid += use.invalid
        # What hid a call is told of its tool; that the call is missed as well, is not.
        left_out = _NOT_OF_A_TOOL if primary is FailureClass.MISSED_CALL else _NOR_THE_CAUSE
        seen = dict.fromkeys(
            (excerpt(failure.tool, LONGEST_NAME), failure.failure_class)
            for failure in failures
            if failure.tool and failure.failure_class not in left_out
        )
        for name, kind in seen:
            self._counts(name).responses[kind] += 1

    def merge(self, other: ToolTally) -> None:
        """Take in the counts of other responses."""
        for name, theirs in other.by_name.items():
            ours = self._counts(name)
            ours.calls += theirs.calls
            ours.invalid += theirs.invalid
            ours.responses += theirs.responses

    def _counts(self, name: str) -> ToolCounts:
        counts = self.by_name.get(name)
        if counts is None:
            if len(self.by_name) >= MAX_TOOLS:
                name = OTHER_TOOLS
            counts = self.by_name.setdefault(name, ToolCounts())
        return counts

    def worst(self) -> list[tuple[str, ToolCounts]]:
        """List the tools with failures, those with the most invalid calls and failures first."""
        failing = [(name, counts) for name, counts in self.by_name.items() if counts.responses]
        return sorted(failing, key=lambda item: (-item[1].invalid, -item[1].failures, item[0]))

    def showing(self, kinds: Iterable[FailureClass]) -> int:
        """Count the tools that show any of these classes."""
        listed = tuple(kinds)
        return sum(any(counts.responses[kind] for kind in listed) for counts in self.by_name.values())
