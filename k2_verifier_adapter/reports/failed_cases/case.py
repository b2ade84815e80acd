"""A failed case as a page shows it: request, answer, official answer, marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure
from k2_verifier_adapter.reports.html.marked_text import Piece, cut, shown_lines

MOST_CASES = 3_000
"""Failed cases that are looked at; a page cannot hold more."""

_MOST_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a request: who speaks, and what is said."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer."""

    name: str
    call_id: str
    arguments: list[Piece]


@dataclass(frozen=True, slots=True)
class FailedCase:
    """One response with a failure, or one failed request.

    Attributes:
        row: 0-based row number.
        data_index: Upstream's 1-based number.
        repeat: 0-based repetition.
        failures: What went wrong.
        ended: How the answer ended: its finish_reason, or that there is none.
        official: How the official answer ended.
        turns: The last messages of the request.
        turns_before: Messages before these.
        texts: Reasoning and content of the answer, by name.
        calls: Its tool calls.
        raw: The answer as it came: choice 0, as JSON.
        official_calls: The official calls, as far as they are known.
        effort: Duration, attempts, HTTP status, in words.
    """

    row: int
    data_index: int
    repeat: int
    failures: tuple[Failure, ...]
    ended: str = ""
    official: str = ""
    turns: tuple[Turn, ...] = ()
    turns_before: int = 0
    texts: Mapping[str, list[Piece]] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    raw: str = ""
    official_calls: tuple[Call, ...] = ()
    effort: str = ""

    def as_json(self, limit: int) -> dict[str, Any]:
        """Give what a page holds of the case, no text longer than about `limit` characters."""
        value: dict[str, Any] = {
            "row": self.row,
            "data_index": self.data_index,
            "repeat": self.repeat,
            "classes": list(dict.fromkeys(failure.failure_class.value for failure in self.failures)),
            "failures": [_failure(failure, limit) for failure in self.failures[:_MOST_FAILURES]],
            "ended": _cut(self.ended, limit),
            "official": _cut(self.official, limit),
            "before": self.turns_before,
            "turns": [[_cut(turn.role, 40), _cut(turn.text, limit)] for turn in self.turns],
            "texts": {name: _marked(pieces, limit) for name, pieces in self.texts.items()},
            "calls": [_call(call, limit) for call in self.calls],
            "raw": _cut(self.raw, limit),
            "official_calls": [_call(call, limit) for call in self.official_calls],
            "effort": self.effort,
        }
        return {name: item for name, item in value.items() if item not in ("", [], {}, 0) or name == "row"}


def _failure(failure: Failure, limit: int) -> dict[str, Any]:
    value = {
        "class": failure.failure_class.value,
        "detail": shown_lines(_cut(failure.detail, limit)),
        "call": failure.call,
        "tool": None if failure.tool is None else shown_lines(_cut(failure.tool, limit)),
        "path": None if failure.path is None else shown_lines(_cut(failure.path, limit)),
        "keyword": failure.keyword,
    }
    return {name: item for name, item in value.items() if item not in (None, "")}


def _call(call: Call, limit: int) -> dict[str, Any]:
    return {
        "name": _cut(call.name, limit),
        "id": _cut(call.call_id, limit),
        "arguments": _marked(call.arguments, limit),
    }


def _marked(pieces: list[Piece], limit: int) -> list[Any]:
    """Give a marked text: what is not marked as a text, what is as a list of one text."""
    return [[text] if is_marked else text for text, is_marked in cut(pieces, limit)]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
