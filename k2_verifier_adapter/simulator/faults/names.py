"""Faults in the names and ids of tool calls."""

from __future__ import annotations

from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion, declared_tools, historical_calls
from k2_verifier_adapter.simulator.faults.base import Needs, PayloadFault, calls_of, with_calls


def _undeclared(completion: Completion, case: Case, rng: Random) -> Completion | None:
    declared = {name.casefold() for name, _ in declared_tools(case.tools())}
    name = "run_shell_command"
    while name in declared:
        name += "_v2"
    calls = calls_of(completion)
    position = rng.randrange(len(calls))
    calls[position]["function"]["name"] = name
    calls[position]["id"] = f"functions.{name}:{historical_calls(case) + position}"
    return with_calls(completion, calls)


def _misspelt(completion: Completion, case: Case, rng: Random) -> Completion | None:
    declared = {name for name, _ in declared_tools(case.tools())}
    calls = calls_of(completion)
    position = rng.randrange(len(calls))
    function = calls[position]["function"]
    name = function.get("name")
    if name not in declared:
        return None
    spellings = [f"functions.{name}", name.upper(), name.swapcase(), name.capitalize()]
    wrong = [spelling for spelling in spellings if spelling not in declared]
    function["name"] = rng.choice(wrong)
    calls[position]["id"] = f"functions.{function['name']}:{historical_calls(case) + position}"
    return with_calls(completion, calls)


def _opaque_id(completion: Completion, _: Case, rng: Random) -> Completion | None:
    calls = calls_of(completion)
    for call in calls:
        call["id"] = f"call_{rng.getrandbits(96):024x}"
    return with_calls(completion, calls)


def _same_id(completion: Completion, _: Case, __: Random) -> Completion | None:
    calls: list[dict[str, Any]] = calls_of(completion)
    return with_calls(completion, [*calls, calls_of(completion)[-1]])


FAULTS = (
    PayloadFault(C.UNDECLARED_TOOL.value, C.UNDECLARED_TOOL, _undeclared, Needs.CALL),
    PayloadFault(C.TOOL_NAME_CASE_OR_PREFIX.value, C.TOOL_NAME_CASE_OR_PREFIX, _misspelt, Needs.CALL),
    PayloadFault(C.NONSTANDARD_TOOL_CALL_ID.value, C.NONSTANDARD_TOOL_CALL_ID, _opaque_id, Needs.CALL),
    PayloadFault(C.DUPLICATE_TOOL_CALL_ID.value, C.DUPLICATE_TOOL_CALL_ID, _same_id, Needs.CALL),
)
