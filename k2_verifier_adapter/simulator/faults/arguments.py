"""Faults in the text of a call's arguments: they are not JSON, or no object."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.simulator.answers import Completion
from k2_verifier_adapter.simulator.faults.base import Needs, PayloadFault, calls_of, with_calls
from k2_verifier_adapter.simulator.reference import is_valid_call, schema_errors, tool_schema

TextDamage = Callable[[str, dict[str, Any], Random], "str | None"]
"""From the arguments' text and value to the damaged text, or None where that cannot be."""


def _truncate(text: str, _: dict[str, Any], rng: Random) -> str | None:
    cuts = list(range(1, len(text)))
    rng.shuffle(cuts)
    return next((text[:cut] for cut in cuts if _ends_too_early(text[:cut])), None)


def _ends_too_early(text: str) -> bool:
    """Say whether a parser stops at the very end of the text, or inside a string left open."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
    return False


def _concatenate(text: str, _: dict[str, Any], __: Random) -> str:
    return text + text


def _add_text(text: str, _: dict[str, Any], rng: Random) -> str:
    return text + rng.choice(("\nLet me know if you need anything else.", " 以上是参数。", " // done"))


def _single_quote(_: str, value: dict[str, Any], __: Random) -> str | None:
    return _unless_json(repr(value)) if value else None


def _empty(_: str, __: dict[str, Any], ___: Random) -> str:
    return ""


def _unquote_keys(_: str, value: dict[str, Any], __: Random) -> str | None:
    members = ", ".join(f"{key}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items())
    return _unless_json(f"{{{members or ','}}}")


def _unless_json(text: str) -> str | None:
    try:
        json.loads(text)
    except ValueError:
        return text
    return None


def _damage_text(change: TextDamage) -> Callable[[Completion, Case, Random], Completion | None]:
    """Make the damage of one call's arguments; only a call with an object as arguments qualifies."""

    def damage(completion: Completion, _: Case, rng: Random) -> Completion | None:
        calls = calls_of(completion)
        for position in rng.sample(range(len(calls)), len(calls)):
            function = calls[position]["function"]
            value = object_arguments(function)
            changed = None if value is None else change(function["arguments"].strip(), value, rng)
            if changed is not None:
                function["arguments"] = changed
                return with_calls(completion, calls)
        return None

    return damage


def object_arguments(function: dict[str, Any]) -> dict[str, Any] | None:
    """Decode the arguments of a call; None if they are no JSON object."""
    try:
        value = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _wrap(completion: Completion, case: Case, rng: Random) -> Completion | None:
    """Put something else than an object where the schema asks for an object and nothing else."""
    calls, tools = calls_of(completion), case.tools()
    for position in rng.sample(range(len(calls)), len(calls)):
        function = calls[position]["function"]
        if not is_valid_call(calls[position], tools):
            continue
        value = json.loads(function["arguments"])
        wrong = rng.choice(([value], json.dumps(value, ensure_ascii=False), "x"))
        errors = schema_errors(tool_schema(tools, function["name"]), wrong)
        if errors and {error.validator for error in errors} == {"type"}:
            function["arguments"] = json.dumps(wrong, ensure_ascii=False)
            return with_calls(completion, calls)
    return None


FAULTS = (
    *(
        PayloadFault(failure_class.value, failure_class, _damage_text(change), Needs.CALL)
        for failure_class, change in (
            (C.TRUNCATED_JSON, _truncate),
            (C.CONCATENATED_JSON, _concatenate),
            (C.TRAILING_TEXT, _add_text),
            (C.SINGLE_QUOTED_JSON, _single_quote),
            (C.EMPTY_ARGUMENTS, _empty),
            (C.OTHER_INVALID_JSON, _unquote_keys),
        )
    ),
    PayloadFault(C.NOT_AN_OBJECT.value, C.NOT_AN_OBJECT, _wrap, Needs.CALL),
)
