"""Which row a request asks about, and which repetition of it this is."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.errors import BadRowsError

Key = bytes

_ALL_REPAIRS = HistoryOptions(MalformedHistory.SANITIZE, normalize_tool_call_ids=True)
_OPTIONS = (
    HistoryOptions(MalformedHistory.SANITIZE),
    HistoryOptions(MalformedHistory.KEEP),
    HistoryOptions(MalformedHistory.KEEP, normalize_tool_call_ids=True),
    _ALL_REPAIRS,
)


def request_key(messages: Any, tools: Any) -> Key:
    """Digest messages and tools as JSON values; absent, null and empty tools are the same.

    Raises:
        RecursionError: If they are nested too deeply.
    """
    text = json.dumps([messages, tools or []], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Slot:
    """One repetition of a request that waits for its answer.

    Attributes:
        key: The request.
        number: 0-based count of this request's earlier repetitions.
        case_index: The row that is asked about.
        occurrence: 0-based repetition of that row.
        attempt: 1-based attempt.
    """

    key: Key
    number: int
    case_index: int
    occurrence: int
    attempt: int


@dataclass(slots=True)
class _Repetitions:
    next_number: int = 0
    unanswered: list[int] = field(default_factory=list)
    attempts: dict[int, int] = field(default_factory=dict)


class RowIndex:
    """Finds the row of a request, in whatever form of the declared repairs it arrives.

    Rows with the same request take turns, in row order.
    """

    def __init__(self) -> None:
        self._rows: dict[Key, list[int]] = {}
        self._repetitions: dict[Key, _Repetitions] = {}

    def add(self, case_index: int, keys: Iterable[Key]) -> None:
        """Enter one row under the keys of all its forms."""
        for key in set(keys):
            self._rows.setdefault(key, []).append(case_index)

    def take(self, key: Key) -> Slot | None:
        """Start an attempt at the earliest repetition that has no answer yet; None if unknown."""
        rows = self._rows.get(key)
        if rows is None:
            return None
        book = self._repetitions.setdefault(key, _Repetitions())
        if book.unanswered:
            number = heapq.heappop(book.unanswered)
        else:
            number = book.next_number
            book.next_number += 1
        attempt = book.attempts[number] = book.attempts.get(number, 0) + 1
        return Slot(key, number, rows[number % len(rows)], number // len(rows), attempt)

    def give_back(self, slot: Slot) -> None:
        """End an attempt without an answer; the next request of this kind takes it up again."""
        heapq.heappush(self._repetitions[slot.key].unanswered, slot.number)


def decode_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Case], RowIndex]:
    """Decode rows as they are sent by default, and index every form in which they may be sent.

    Raises:
        BadRowsError: If rows cannot be used.
    """
    cases: list[Case] = []
    problems: list[str] = []
    index = RowIndex()
    total = 0
    for position, row in enumerate(rows):
        total += 1
        try:
            forms = _forms(row, position)
        except RowError as error:
            problems.append(f"row {position + 1}, {error}")
            continue
        cases.append(forms[0])
        index.add(position, _keys(row, forms))
    if problems:
        raise BadRowsError("rows of the simulated vendor", problems, total)
    return cases, index


def _forms(row: Mapping[str, Any], position: int) -> list[Case]:
    repaired = decode_row(row, position, _ALL_REPAIRS)
    if not repaired.repairs.any:
        return [repaired]
    return [decode_row(row, position, options) for options in _OPTIONS]


def _keys(row: Mapping[str, Any], forms: list[Case]) -> list[Key]:
    tools = forms[0].tools()
    keys = [request_key(form.messages(), tools) for form in forms]
    if len(forms) > 1:
        raw = row["messages"]
        keys.append(request_key(json.loads(raw) if isinstance(raw, str) else raw, tools))
    return keys
