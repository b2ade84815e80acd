"""From a request to its answer: the row that it asks about, what falls on it, and what is said then."""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case, RowError, decode_row
from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
from k2_verifier_adapter.errors import BadRowsError
from k2_verifier_adapter.simulator.completions import (
    Completion,
    as_demanded,
    calls_of,
    declared_tools,
    finish_of,
    official_completion,
    with_usage,
)
from k2_verifier_adapter.simulator.faults import Fault, Selection, TransportFault
from k2_verifier_adapter.simulator.profiles import Profile
from k2_verifier_adapter.simulator.truth import Answer, Validity, tool_calls_valid
from k2_verifier_adapter.simulator.wire import WireShape

Key = bytes

MOST_CHOICES = 5
"""As Moonshot's API."""

_ALL_REPAIRS = HistoryOptions(MalformedHistory.SANITIZE, normalize_tool_call_ids=True)
_OPTIONS = (
    HistoryOptions(MalformedHistory.SANITIZE),
    HistoryOptions(MalformedHistory.KEEP),
    HistoryOptions(MalformedHistory.KEEP, normalize_tool_call_ids=True),
    _ALL_REPAIRS,
)


def request_key(messages: Any, tools: Any) -> Key:
    """Digest messages and tools as JSON values; absent, null and empty tools are the same."""
    text = json.dumps([messages, tools or []], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def surviving_key(messages: Any, tools: Any) -> Key:
    """Digest what gateways let through: LiteLLM drops null members and renames the role `developer`."""
    return b"survives " + request_key(*map(_surviving, (messages, tools)))


def _surviving(value: Any) -> Any:
    if isinstance(value, list):
        return [_surviving(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _surviving(item) for name, item in value.items() if item not in (None, "", [])}
    if kept.get("role") in ("developer", "_input"):
        kept["role"] = "system"
    return kept


@dataclass(frozen=True, slots=True)
class Demands:
    """What a request asks for besides an answer to its messages.

    Attributes:
        choices: How many choices.
        max_tokens: Tokens after which an answer ends, or None.
        tool_choice: `none`, `required`, the name of a tool that is to be called, or None for a free choice.
    """

    choices: int = 1
    max_tokens: int | None = None
    tool_choice: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Demands:
        """Read them out of a request; a `ValueError` says what an API refuses."""
        choices = body.get("n")
        if choices is not None and (type(choices) is not int or not 1 <= choices <= MOST_CHOICES):
            raise ValueError(f"invalid n: {choices!r}, expected 1 to {MOST_CHOICES}")
        given = body.get("max_completion_tokens")
        limit = body.get("max_tokens") if given is None else given
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"invalid max_tokens: {limit!r}, expected a whole number of at least 1")
        choice = body.get("tool_choice")
        if isinstance(choice, Mapping):
            function = choice.get("function")
            choice = function.get("name") if isinstance(function, Mapping) else choice
            if choice not in [name for name, _ in declared_tools(body.get("tools"))]:
                raise ValueError(f"invalid tool_choice: {choice!r} is no tool of the request")
        elif choice not in (None, "auto", "none", "required"):
            raise ValueError(f"invalid tool_choice: {choice!r}")
        elif choice == "required" and not body.get("tools"):
            raise ValueError("invalid tool_choice: 'required' without tools")
        return cls(choices or 1, limit, None if choice == "auto" else choice)


NO_DEMANDS = Demands()


@dataclass(frozen=True, slots=True)
class Slot:
    """One repetition of a request that waits for its answer.

    Attributes:
        number: 0-based count of this request's earlier repetitions.
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
    """Of one request: its rows, the attempts at each repetition, and the repetitions without answer."""

    rows: list[int] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)


class RowIndex:
    """Finds the row of a request, in whatever form of the declared repairs it arrives.

    Rows with the same request take turns, in row order.
    """

    def __init__(self) -> None:
        self._repetitions: dict[Key, _Repetitions] = {}

    def add(self, case_index: int, keys: Iterable[Key]) -> None:
        """Enter one row under the keys of all its forms."""
        for key in set(keys):
            self._repetitions.setdefault(key, _Repetitions()).rows.append(case_index)

    def take(self, key: Key) -> Slot | None:
        """Start an attempt at the earliest repetition that has no answer yet; None if unknown."""
        book = self._repetitions.get(key)
        if book is None:
            return None
        if book.unanswered:
            number = heapq.heappop(book.unanswered)
        else:
            number = len(book.attempts)
            book.attempts.append(0)
        book.attempts[number] += 1
        occurrence, row = divmod(number, len(book.rows))
        return Slot(key, number, book.rows[row], occurrence, book.attempts[number])

    def give_back(self, slot: Slot) -> None:
        """End an attempt without an answer; the next request of this kind takes it up again."""
        heapq.heappush(self._repetitions[slot.key].unanswered, slot.number)


def decode_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Case], RowIndex]:
    """Decode rows as they are sent by default, and index every form in which they may be sent."""
    listed = list(rows)
    cases: list[Case] = []
    problems: list[str] = []
    index = RowIndex()
    for position, row in enumerate(listed):
        try:
            forms = _forms(row, position)
        except RowError as error:
            problems.append(f"row {position + 1}, {error}")
            continue
        cases.append(forms[0])
        tools = forms[0].tools()
        messages = [form.messages() for form in forms]
        if len(forms) > 1:
            raw = row["messages"]
            messages.append(json.loads(raw) if isinstance(raw, str) else raw)
        index.add(position, [key(form, tools) for form in messages for key in (request_key, surviving_key)])
    if problems:
        raise BadRowsError("rows of the simulated vendor", problems, len(listed))
    return cases, index


def _forms(row: Mapping[str, Any], position: int) -> list[Case]:
    repaired = decode_row(row, position, _ALL_REPAIRS)
    if not repaired.repairs.any:
        return [repaired]
    return [decode_row(row, position, options) for options in _OPTIONS]


class Lottery:
    """Draws fault and wire shapes of a request from a profile, the same ones for the same seed."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self._seed = seed
        self._tickets = {
            (has_calls, stream): tuple(profile.eligible(has_calls=has_calls, stream=stream))
            for has_calls, stream in product((True, False), repeat=2)
        }
        self._shapes = {stream: tuple(profile.shapes(stream=stream)) for stream in (True, False)}

    def draw(
        self, case_index: int, occurrence: int, *, has_calls: bool, stream: bool
    ) -> tuple[Selection, Random] | None:
        """Draw the faults of one request, in the order to try them, and the chance to shape the damage.

        `occurrence` does not count failed attempts, so that a retry meets the same draw. None if no fault
        falls on the request.
        """
        tickets = self._tickets[has_calls, stream]
        if not tickets:
            return None
        rng = self._rng(case_index, occurrence)
        position = rng.random()
        for selection, rate in tickets:
            position -= rate
            if position < 0:
                return selection.shuffled(rng), rng
        return None

    def draw_shapes(self, case_index: int, occurrence: int, *, stream: bool) -> tuple[WireShape, ...]:
        """Draw the wire shapes of one request, each for itself; the arguments are those of `draw`."""
        return tuple(
            shape
            for shape, rate in self._shapes[stream]
            if self._rng(case_index, occurrence, shape.name).random() < rate
        )

    def _rng(self, *what: object) -> Random:
        text = ":".join(map(str, (self._seed, *what)))
        return Random(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer.

    Attributes:
        completion: The completion to send; under a transport fault, the one that does not arrive.
        seen: The completion that upstream's reassembly makes of what is sent.
    """

    completion: Completion
    fault: Fault | None
    seen: Completion
    shapes: tuple[WireShape, ...] = ()

    @property
    def completes(self) -> bool:
        """Whether a completion is sent to its end."""
        return not isinstance(self.fault, TransportFault)


class Planner:
    """Plans the answer to every request, the same one for the same rows, profile and seed."""

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        cases: list[Case],
        profile: Profile,
        *,
        seed: int,
        model: str,
    ) -> None:
        self._cases = cases
        self._lottery = Lottery(profile, seed)
        self.official = [official_completion(row, case, model) for row, case in zip(rows, cases, strict=True)]
        self._official_validity = functools.cache(
            lambda case_index: _validity(self.official[case_index], cases[case_index])
        )

    def plan(self, slot: Slot, *, stream: bool, demands: Demands = NO_DEMANDS) -> Plan:
        """Plan the answer to one attempt."""
        case = self._cases[slot.case_index]
        official = as_demanded(self.official[slot.case_index], case, demands.tool_choice, demands.max_tokens)
        has_calls = bool(official["choices"][0]["message"].get("tool_calls"))
        draw = self._lottery.draw(slot.case_index, slot.occurrence, has_calls=has_calls, stream=stream)
        shapes = self._lottery.draw_shapes(slot.case_index, slot.occurrence, stream=stream)
        if draw is not None:
            selection, rng = draw
            for fault in selection.faults_at(slot.attempt):
                if isinstance(fault, TransportFault):
                    return Plan(official, fault, official, shapes)
                damaged = fault.damage(official, case, rng)
                if damaged is not None:
                    sent = with_usage(damaged)
                    return Plan(sent, fault, sent if fault.seen is None else fault.seen(sent), shapes)
        return Plan(official, None, official, shapes)

    def entry(self, slot: Slot, plan: Plan) -> tuple[Answer, Validity]:
        """Write the ledger's entry of a planned answer: all but its validity, and what computes that."""
        case = self._cases[slot.case_index]
        answer = Answer(
            case_index=slot.case_index,
            occurrence=slot.occurrence,
            attempt=slot.attempt,
            status=plan.fault.status if isinstance(plan.fault, TransportFault) else 200,
            failure_class=plan.fault.failure_class if plan.fault else None,
            fault=plan.fault.name if plan.fault else None,
            completed=plan.completes,
            finish_reason=finish_of(plan.completion) if plan.completes else None,
            official_call=case.official.should_call,
            tool_calls_valid=None,
        )
        if plan.fault is None and plan.completion is self.official[slot.case_index]:
            return answer, functools.partial(self._official_validity, slot.case_index)
        if not plan.completes:
            return answer, lambda: None
        return answer, functools.cache(lambda: _validity(plan.seen, case))


def _validity(completion: Completion, case: Case) -> bool | None:
    return tool_calls_valid(finish_of(completion), calls_of(completion), case.declared_tools())
