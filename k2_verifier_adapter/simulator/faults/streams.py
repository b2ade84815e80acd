"""Faults in how a stream carries a sound completion."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion, historical_calls
from k2_verifier_adapter.simulator.faults.base import Chunk, PayloadFault, StreamFault, calls_of, with_calls
from k2_verifier_adapter.simulator.modes import Modes


def _call_deltas(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [
        delta
        for chunk in chunks
        for choice in chunk["choices"]
        for delta in choice["delta"].get("tool_calls", [])
    ]


def _at_least_two(completion: Completion, case: Case, _: Random) -> Completion | None:
    """Call twice where the official answer calls once; one call loses nothing with its index.

    Calls of several tools are left out: merged, they would be wrong in their name and id, too.
    """
    calls = calls_of(completion)
    if len({call["function"].get("name") for call in calls}) > 1:
        return None
    if len(calls) == 1:
        second = copy.deepcopy(calls[0])
        second["id"] = f"functions.{second['function'].get('name')}:{historical_calls(case) + 1}"
        calls.append(second)
    return with_calls(completion, calls)


def _drop_indexes(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    for delta in _call_deltas(changed):
        del delta["index"]
    return changed


def _merged(completion: Completion) -> Completion:
    """Upstream takes every missing index for 0: first id, last name, all arguments in a row."""
    calls = calls_of(completion)
    merged = copy.deepcopy(calls[0])
    merged["function"]["name"] = calls[-1]["function"].get("name")
    merged["function"]["arguments"] = "".join(call["function"]["arguments"] for call in calls)
    return with_calls(completion, [merged])


def _unchanged(completion: Completion, _: Case, __: Random) -> Completion | None:
    return completion


def _as_sent(completion: Completion) -> Completion:
    return completion


def _drop_ids(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    for delta in _call_deltas(changed):
        delta.pop("id", None)
    return changed


def _without_ids(completion: Completion) -> Completion:
    return with_calls(completion, [{**call, "id": None} for call in calls_of(completion)])


def _has_arguments(completion: Completion, _: Case, __: Random) -> Completion | None:
    return completion if all(call["function"]["arguments"] for call in calls_of(completion)) else None


def _repeat_names(chunks: list[Chunk]) -> list[Chunk]:
    changed = copy.deepcopy(chunks)
    names: dict[int, Any] = {}
    for delta in _call_deltas(changed):
        name = names.setdefault(delta["index"], delta["function"].get("name"))
        delta["function"]["name"] = name
    return changed


FAULTS = (
    StreamFault(C.STREAM_INDEX_MISSING.value, C.STREAM_INDEX_MISSING, _at_least_two, _drop_indexes, _merged),
    StreamFault(C.STREAM_ID_MISSING.value, C.STREAM_ID_MISSING, _unchanged, _drop_ids, _without_ids),
    StreamFault(
        C.STREAM_NAME_REPEATED.value, C.STREAM_NAME_REPEATED, _has_arguments, _repeat_names, _as_sent
    ),
    PayloadFault(C.STREAM_IGNORED.value, C.STREAM_IGNORED, _unchanged, modes=Modes.STREAM, as_body=True),
)
