"""Notes: what is worth knowing of a call's arguments, but is no failure.

Nothing is repaired before it is scored, and what `json.loads` accepts is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.judging.lenient_json import is_repairable

MAX_NOTES = 100
"""Notes that are kept of one response."""


class NoteKind(str, Enum):
    """What a note says; the value is the name used in files."""

    DUPLICATE_KEYS = "duplicate_keys"
    NOT_A_NUMBER = "not_a_number"
    REPAIRABLE_JSON = "repairable_json"
    EMPTY_OBJECT_FITS = "empty_object_fits"
    FURTHER_VIOLATIONS = "further_violations"


@dataclass(frozen=True, slots=True)
class Note:
    """One note on one call.

    Attributes:
        kind: What it says.
        detail: One line for a person.
        call: 0-based position of the tool call in the response.
        tool: Name of the tool, or None if it has none.
    """

    kind: NoteKind
    detail: str
    call: int
    tool: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form."""
        fields = {"note": self.kind.value, "detail": self.detail, "call": self.call, "tool": self.tool}
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Note:
        """Read the JSON form back.

        Raises:
            KeyError, ValueError, TypeError: If it is not one.
        """
        return cls(NoteKind(value["note"]), value["detail"], value["call"], value.get("tool"))


class _NotedError(Exception):
    """There is something to note in a text that `json.loads` accepts."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _NotedError
    return value


def _refuse_constant(_: str) -> float:
    raise _NotedError


_clean_decoder = json.JSONDecoder(object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)


class _Watch:
    """Remembers what `json.loads` passes over."""

    def __init__(self) -> None:
        self.duplicate: str | None = None
        self.constant: str | None = None

    def read(self, text: str) -> None:
        """Parse a text; one that is not JSON leaves no trace."""
        decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)
        try:
            decoder.decode(text)
        except (ValueError, RecursionError):
            self.duplicate = self.constant = None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for name, item in pairs:
            if name in value and self.duplicate is None:
                self.duplicate = name
            value[name] = item
        return value

    def _constant(self, name: str) -> float:
        self.constant = self.constant or name
        return 0.0


def notes_on(calls: Sequence[Any], not_json: frozenset[int]) -> list[Note]:
    """List what is noteworthy in the arguments of these calls.

    Args:
        calls: The tool calls as they came.
        not_json: Positions of the calls whose arguments are not JSON.
    """
    notes: list[Note] = []
    for position, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        text = function.get("arguments") if isinstance(function, Mapping) else None
        if not isinstance(text, str):
            continue
        name = function.get("name") if isinstance(function, Mapping) else None
        tool = name if isinstance(name, str) else None
        if position in not_json:
            if is_repairable(text):
                detail = "not JSON, but a repair could read it; it was not repaired"
                notes.append(Note(NoteKind.REPAIRABLE_JSON, detail, position, tool))
        elif text:
            notes += _notes_on_json(text, position, tool)
        if len(notes) >= MAX_NOTES:
            break
    return notes[:MAX_NOTES]


def _notes_on_json(text: str, position: int, tool: str | None) -> list[Note]:
    try:
        _clean_decoder.decode(text)
    except _NotedError:
        pass
    except (ValueError, RecursionError):
        return []
    else:
        return []
    watch = _Watch()
    watch.read(text)
    notes = []
    if watch.duplicate is not None:
        detail = f"the key {shown(watch.duplicate)} occurs twice in one object; the last value counts"
        notes.append(Note(NoteKind.DUPLICATE_KEYS, detail, position, tool))
    if watch.constant is not None:
        detail = f"{watch.constant} is no JSON, but json.loads accepts it"
        notes.append(Note(NoteKind.NOT_A_NUMBER, detail, position, tool))
    return notes
