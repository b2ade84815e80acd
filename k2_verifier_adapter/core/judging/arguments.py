"""The arguments of a tool call: parsed as upstream does, classified where they cannot be, and noted on.

Nothing is repaired before it is scored, and what `json.loads` accepts is accepted: a note is for a person.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass, Variant
from k2_verifier_adapter.core.json_text import excerpt, shown
from k2_verifier_adapter.core.judgement import Note, NoteKind
from k2_verifier_adapter.core.messages import function_of, name_of

MAX_NOTES = 100
"""Notes that are kept of one response."""

_LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_NUMBER_BEGUN = re.compile(r"\.|(?:\.\d+)?[eE][+-]?")


@dataclass(frozen=True, slots=True)
class InvalidArguments:
    """Why an `arguments` string is not JSON."""

    failure_class: FailureClass
    reason: str
    variant: Variant | None = None


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
    variant = Variant.SENT_AGAIN if _is_sent_again(text) else None
    return InvalidArguments(FailureClass.OTHER_INVALID_JSON, reason, variant)


_ENCODED_AGAIN = '"{\\"'
_LEAST_AGAIN = 8
"""Characters in which the two beginnings have to agree."""


def _is_sent_again(text: str) -> bool:
    """Whether arguments, cut off or whole, are followed by themselves as an encoded string.

    vLLM's kimi_k2 parser wrote that (0.10.1.1) when a stream ended inside a call.
    """
    place = text.find(_ENCODED_AGAIN, 1)
    if place < 0:
        return False
    again = text[place + 1 :].replace('\\"', '"')
    agreed = min(place, _LEAST_AGAIN)
    return text[:agreed].replace(" ", "") == again[:agreed].replace(" ", "")


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


def notes_on(calls: Sequence[Any], not_json: frozenset[int]) -> list[Note]:
    """List what is noteworthy in the arguments of these calls.

    `not_json` holds the positions of those that are not JSON.
    """
    notes: list[Note] = []
    for position, call in enumerate(calls):
        text = function_of(call).get("arguments")
        if text is None:
            continue
        if not isinstance(text, str):
            detail = (
                f"the arguments are no JSON text but a value of type {type(text).__name__}; used as it is"
            )
            notes.append(Note(NoteKind.ARGUMENTS_NOT_TEXT, detail, position, name_of(call)))
        elif position not in not_json:
            notes += _notes_on_json(text, position, name_of(call))
        elif is_repairable(text):
            detail = "not JSON, but a repair could read it; it was not repaired"
            notes.append(Note(NoteKind.REPAIRABLE_JSON, detail, position, name_of(call)))
        if len(notes) >= MAX_NOTES:
            break
    return notes[:MAX_NOTES]


class _RepeatedKeyError(Exception):
    """A key occurs twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise _RepeatedKeyError(name)
            seen.add(name)
    return value


_decoder_of_unique_keys = json.JSONDecoder(object_pairs_hook=_unique)


def _notes_on_json(text: str, position: int, tool: str | None) -> list[Note]:
    """Note what `json.loads` passes over in a text; nothing of one that is not JSON."""
    repeated: str | None = None
    try:
        _decoder_of_unique_keys.decode(text)
    except _RepeatedKeyError as error:
        repeated = error.args[0]
    except (ValueError, RecursionError):
        return []
    if repeated is None and "NaN" not in text and "Infinity" not in text:
        return []
    constants: list[str] = []
    try:
        json.loads(text, parse_constant=constants.append)
    except (ValueError, RecursionError):
        return []
    notes = []
    if repeated is not None:
        detail = f"the key {shown(repeated)} occurs twice in one object; the last value counts"
        notes.append(Note(NoteKind.DUPLICATE_KEYS, detail, position, tool))
    if constants:
        detail = f"{constants[0]} is no JSON, but json.loads accepts it"
        notes.append(Note(NoteKind.NOT_A_NUMBER, detail, position, tool))
    return notes


MAX_REPAIRED_LENGTH = 1_000_000
"""Characters up to which a repair is tried."""

_FENCE = re.compile(r"\s*```\w*")
_LENIENT_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>//[^\n]*|\#[^\n]*)
  | (?P<double>"(?:[^"\\]|\\.)*")
  | (?P<single>'(?:[^'\\]|\\.)*')
  | (?P<cut>["'](?:[^"'\\]|\\.|["'])*\\?\Z)
  | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<word>[A-Za-z_$][\w$.-]*)
  | (?P<open>[{\[])
  | (?P<close>[}\]])
  | (?P<comma>,)
  | (?P<colon>:)
    """,
    re.VERBOSE | re.DOTALL,
)
_LENIENT_WORDS = {
    "True": "true",
    "False": "false",
    "None": "null",
    "true": "true",
    "false": "false",
    "null": "null",
}
_CLOSED_BY = {"{": "}", "[": "]"}
_LONE_BACKSLASH = re.compile(r"\\(?![\"\\/bfnrtu])")
_lenient_decoder = json.JSONDecoder(strict=False)


def is_repairable(text: str) -> bool:
    """Whether text that is not JSON could be repaired to a JSON object or list.

    The repair drops a Markdown fence around the text and anything behind the first value, closes what is
    left open at the end, and takes single quotes, bare keys, Python's `True`, `False` and `None`, trailing
    commas and comments for what they mean.
    """
    if len(text) > MAX_REPAIRED_LENGTH:
        return False
    fence = _FENCE.match(text) if "```" in text else None
    # The end is cut off by hand: a pattern for both ends takes hours on a long run of spaces.
    repaired = _repair(text[fence.end() :].rstrip().removesuffix("```") if fence else text)
    if repaired is None:
        return False
    try:
        value, _ = _lenient_decoder.raw_decode(repaired)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, (dict, list))


def _repair(text: str) -> str | None:
    """Write the first object or list of a text as JSON; None if there is none."""
    begin = min((place for place in (text.find("{"), text.find("[")) if place >= 0), default=-1)
    if begin < 0:
        return None
    written: list[str] = []
    expected: list[str] = []
    position = begin
    while position < len(text):
        match = _LENIENT_TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        kind = match.lastgroup
        if kind in ("space", "comment"):
            continue
        if kind == "close":
            _drop_comma(written)
            if match[0] != expected[-1]:
                return None
            expected.pop()
        elif kind == "open":
            expected.append(_CLOSED_BY[match[0]])
        written.append(_as_json(str(kind), match[0]))
        if not expected:
            return "".join(written)
    return _closed(written, expected)


def _closed(written: list[str], expected: list[str]) -> str:
    """Close what is open at the end; a key without its value is given null."""
    _drop_comma(written)
    if written[-1] == ":":
        written.append("null")
    elif expected[-1] == "}" and _is_key(written):
        written.append(":null")
    return "".join([*written, *reversed(expected)])


def _drop_comma(written: list[str]) -> None:
    if written[-1] == ",":
        written.pop()


def _is_key(written: list[str]) -> bool:
    return written[-1][:1] == '"' and written[-2:-1] in (["{"], [","])


def _as_json(kind: str, token: str) -> str:
    """Write one token as JSON."""
    if kind == "double":
        return token
    if kind == "word":
        return _LENIENT_WORDS.get(token) or json.dumps(token)
    if kind in ("single", "cut"):
        inner: Any = token[1:-1] if kind == "single" else token[1:].removesuffix("\\")
        inner = re.sub(r"\\u[0-9a-fA-F]{0,3}\Z", "", inner) if kind == "cut" else inner
        inner = inner.replace("\\'", "'")
        inner = _LONE_BACKSLASH.sub(r"\\\\", inner)
        return '"' + re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', inner) + '"'
    return token
