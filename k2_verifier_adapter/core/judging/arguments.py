"""The arguments of a tool call: parsed as upstream does, and classified where they cannot be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import excerpt

_LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_NUMBER_BEGUN = re.compile(r"\.|(?:\.\d+)?[eE][+-]?")


@dataclass(frozen=True, slots=True)
class InvalidArguments:
    """Why an `arguments` string is not JSON."""

    failure_class: FailureClass
    reason: str


def parse_arguments(arguments: Any) -> Any | InvalidArguments:
    """Parse `arguments` as upstream does: a string through `json.loads`, anything else as it is.

    `NaN` and duplicate keys are accepted, for `json.loads` accepts them.
    """
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except json.JSONDecodeError as error:
        return _classify(arguments, error)
    except RecursionError:
        return InvalidArguments(FailureClass.OTHER_INVALID_JSON, "nested too deeply to parse")
    except ValueError as error:
        return InvalidArguments(FailureClass.OTHER_INVALID_JSON, str(error))


def _classify(text: str, error: json.JSONDecodeError) -> InvalidArguments:
    shown = repr(excerpt(text))
    stripped = text.strip()
    if not stripped:
        return InvalidArguments(FailureClass.EMPTY_ARGUMENTS, f"{shown} is empty, expected JSON")
    reason = f"{shown} is not JSON: {error.msg} at character {error.pos}"
    if error.msg == "Extra data":
        # A complete value is followed by another one (whole or cut off), or by text.
        another = text[error.pos :].lstrip()[:1] in ("{", "[")
        extra = FailureClass.CONCATENATED_JSON if another else FailureClass.TRAILING_TEXT
        return InvalidArguments(extra, reason)
    if _is_truncated(text, error):
        return InvalidArguments(FailureClass.TRUNCATED_JSON, reason)
    if text[error.pos : error.pos + 1] == "'":
        return InvalidArguments(FailureClass.SINGLE_QUOTED_JSON, reason)
    return InvalidArguments(FailureClass.OTHER_INVALID_JSON, reason)


def _is_truncated(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is the beginning of JSON and only its end is missing."""
    rest = text[error.pos :].rstrip()
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return False
    if error.msg.startswith("Unterminated string"):
        return True
    if not rest:
        return True
    if error.msg.startswith("Invalid \\uXXXX escape"):
        return len(rest) < 6 and all(character in "0123456789abcdefABCDEF" for character in rest[1:])
    if error.msg.startswith("Expecting value"):
        return rest == "-" or any(literal.startswith(rest) for literal in _LITERALS)
    return _NUMBER_BEGUN.fullmatch(rest) is not None
