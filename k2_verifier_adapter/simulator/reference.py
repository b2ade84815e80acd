"""Upstream's validity rule, written down plainly, so that the truth does not rest on the judging code.

It validates without caches, acceptors or time limits: right for the rows of a simulated vendor,
which are trusted, and slow (1 to 5 ms a call), so the ledger asks for it only when it is read.
"""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY


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
