"""Faults in what finish_reason says of the payload, and in the decision itself."""

from __future__ import annotations

from random import Random

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion, generated_call
from k2_verifier_adapter.simulator.faults.base import Needs, PayloadFault, altered, content_of
from k2_verifier_adapter.simulator.modes import Modes

TEXT_INSTEAD_OF_CALL = "I can answer that without looking anything up: it depends on the details. 好的。"
"""Content of an answer that should have been a call."""


def _no_calls(completion: Completion, _: Case, __: Random) -> Completion | None:
    return altered(completion, "tool_calls", tool_calls=[])


def _finish_stop(completion: Completion, _: Case, __: Random) -> Completion | None:
    return altered(completion, "stop")


def _finish_null(completion: Completion, _: Case, __: Random) -> Completion | None:
    return altered(completion, None)


def _finish_unknown(completion: Completion, _: Case, rng: Random) -> Completion | None:
    return altered(completion, rng.choice(("function_call", "eos", "tool_use")))


def _cut(completion: Completion, finish_reason: str, rng: Random) -> Completion:
    text = content_of(completion) or TEXT_INSTEAD_OF_CALL
    kept = text[: rng.randint(1, max(1, len(text) - 1))]
    return altered(completion, finish_reason, content=kept, tool_calls=None)


def _length(completion: Completion, _: Case, rng: Random) -> Completion | None:
    return _cut(completion, "length", rng)


def _filtered(completion: Completion, _: Case, rng: Random) -> Completion | None:
    return _cut(completion, "content_filter", rng)


def _miss(completion: Completion, _: Case, __: Random) -> Completion | None:
    content = content_of(completion) or TEXT_INSTEAD_OF_CALL
    return altered(completion, "stop", content=content, tool_calls=None)


def _call_anyway(completion: Completion, case: Case, _: Random) -> Completion | None:
    call = generated_call(case)
    return None if call is None else altered(completion, "tool_calls", content="", tool_calls=[call])


FAULTS = (
    PayloadFault(
        C.FINISH_TOOL_CALLS_WITHOUT_CALLS.value, C.FINISH_TOOL_CALLS_WITHOUT_CALLS, _no_calls, Needs.CALL
    ),
    PayloadFault(
        C.CALLS_WITHOUT_FINISH_TOOL_CALLS.value, C.CALLS_WITHOUT_FINISH_TOOL_CALLS, _finish_stop, Needs.CALL
    ),
    # A stream without a terminal finish_reason is a cut stream (declared deviation 1).
    PayloadFault(
        C.FINISH_REASON_MISSING.value, C.FINISH_REASON_MISSING, _finish_null, Needs.NO_CALL, Modes.PLAIN
    ),
    PayloadFault(C.FINISH_REASON_UNKNOWN.value, C.FINISH_REASON_UNKNOWN, _finish_unknown, Needs.NO_CALL),
    PayloadFault(C.TRUNCATED_BY_LENGTH.value, C.TRUNCATED_BY_LENGTH, _length),
    PayloadFault(C.CONTENT_FILTERED.value, C.CONTENT_FILTERED, _filtered),
    PayloadFault(C.MISSED_CALL.value, C.MISSED_CALL, _miss, Needs.CALL),
    PayloadFault(C.EXTRA_CALL.value, C.EXTRA_CALL, _call_anyway, Needs.NO_CALL),
)
