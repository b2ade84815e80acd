"""What a simulated vendor answered, what a correct report must say of it, and by which rule calls are valid.

The rule is upstream's, written down plainly once more, so that the truth does not rest on the judging code.
It validates without caches, acceptors or time limits: right for the rows of a simulated vendor,
which are trusted, and slow (1 to 5 ms a call), so the ledger asks for it only when it is read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY

from k2_verifier_adapter.core.failure_classes import FailureClass

Validity = Callable[[], "bool | None"]
"""Computes upstream's `tool_calls_valid` for an answer, which is slow."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One attempt at a request that a row was found for.

    Attributes:
        occurrence: 0-based repetition of the row.
        attempt: 1-based attempt at this repetition.
        failure_class: What was done wrong on purpose, or None.
        completed: Whether a completion was sent to its end.
        official_call: The official decision.
        tool_calls_valid: Upstream's `tool_calls_valid` for what was sent.
    """

    case_index: int
    occurrence: int
    attempt: int
    status: int | None
    failure_class: FailureClass | None
    fault: str | None
    completed: bool
    finish_reason: str | None
    official_call: bool
    tool_calls_valid: bool | None

    @property
    def calls(self) -> bool:
        """Whether the answer counts as a call."""
        return self.finish_reason == "tool_calls"


@dataclass(frozen=True, slots=True)
class Totals:
    """What a report over the answered requests must say.

    Attributes:
        failed: Requests of which no attempt got one.
        failed_attempts: Attempts that ended in no completion, by failure class; `abandoned` where
            the client left.
        finish_reasons: Completions by literal finish_reason; `null` where it is missing.
        count_successful_tool_call: Completions with finish_reason `tool_calls` and valid calls.
        schema_validation_error_count: Completions with finish_reason `tool_calls` and without.
        faults: Completions by the failure class that was put into them.
    """

    completed: int
    failed: int
    failed_attempts: Mapping[str, int]
    tp: int
    fp: int
    fn: int
    tn: int
    finish_reasons: Mapping[str, int]
    count_successful_tool_call: int
    schema_validation_error_count: int
    faults: Mapping[str, int]


def totals_of(answers: Iterable[Answer]) -> Totals:
    """Count answers; a run is a slice of the ledger's answers."""
    listed = list(answers)
    done = [answer for answer in listed if answer.completed]
    undone = [answer for answer in listed if not answer.completed]
    decisions = Counter((answer.official_call, answer.calls) for answer in done)
    answered = {(answer.case_index, answer.occurrence) for answer in done}
    valid = sum(answer.calls and answer.tool_calls_valid is True for answer in done)
    return Totals(
        completed=len(done),
        failed=len({(answer.case_index, answer.occurrence) for answer in undone} - answered),
        failed_attempts=dict(Counter(answer.failure_class or "abandoned" for answer in undone)),
        tp=decisions[True, True],
        fp=decisions[False, True],
        fn=decisions[True, False],
        tn=decisions[False, False],
        finish_reasons=dict(Counter(answer.finish_reason or "null" for answer in done)),
        count_successful_tool_call=valid,
        schema_validation_error_count=sum(answer.calls for answer in done) - valid,
        faults=dict(Counter(answer.failure_class for answer in done if answer.failure_class)),
    )


@dataclass(slots=True)
class Truth:
    """Everything a simulated vendor answered, in the order of arrival.

    Attributes:
        refused: Requests that no row was found for, or that were refused, by HTTP status.
    """

    refused: Counter[int] = field(default_factory=Counter)
    _entries: list[tuple[Answer, Validity]] = field(default_factory=list)

    def add(self, answer: Answer, validity: Validity) -> int:
        """Enter an answer, whose `tool_calls_valid` is computed when the ledger is read; give its number."""
        self._entries.append((answer, validity))
        return len(self._entries) - 1

    def withdraw(self, number: int) -> None:
        """Note that the client left before the answer was complete."""
        answer, _ = self._entries[number]
        undone = replace(answer, completed=False, finish_reason=None, fault=None, failure_class=None)
        self._entries[number] = (undone, lambda: None)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers so far, validity included."""
        return tuple(
            replace(answer, tool_calls_valid=validity()) for answer, validity in tuple(self._entries)
        )

    def totals(self, since: int = 0) -> Totals:
        """Count the answers from number `since` on."""
        return totals_of(self.answers[since:])

    def as_json(self) -> dict[str, Any]:
        """Give the JSON form: totals, refusals by status, every answer."""
        answers = self.answers
        return {
            "totals": asdict(totals_of(answers)),
            "refused": {str(status): count for status, count in self.refused.items()},
            "answers": [asdict(answer) for answer in answers],
        }


def tool_schema(tools: Any, name: Any) -> Any:
    """Give the `parameters` of the first tool of that name; None if there is none."""
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and function.get("name") == name:
            return function.get("parameters")
    return None


def schema_errors(schema: Any, instance: Any) -> list[ValidationError] | None:
    """List the violations of a schema, or None if the schema cannot be used."""
    try:
        validator = validator_for(schema, default=Draft202012Validator)
        validator.check_schema(schema)
        # With a registry of its own, the library fetches nothing.
        return list(validator(schema, registry=REGISTRY).iter_errors(instance))
    except Exception:  # noqa: BLE001 - upstream: any exception makes the call invalid
        return None


def is_valid_call(call: Any, tools: Any) -> bool:
    """Say whether upstream counts one tool call as valid."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return False
    schema = tool_schema(tools, function.get("name"))
    if not schema:
        return False
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return schema_errors(schema, arguments) == []


def tool_calls_valid(finish_reason: str | None, calls: Any, tools: Any) -> bool | None:
    """Give upstream's `tool_calls_valid`: None unless finish_reason is `tool_calls` and calls came."""
    if finish_reason != "tool_calls" or not calls:
        return None
    return all(is_valid_call(call, tools) for call in calls)
