"""Whether text that is not JSON could be repaired to JSON: a note for a person, never used to score.

What the repair does, and nothing else: it drops a Markdown fence around the text and anything behind the
first value, closes what is left open at the end, and takes single quotes, bare keys, Python's `True`,
`False` and `None`, trailing commas and comments for what they mean.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LENGTH = 1_000_000
"""Characters up to which a repair is tried."""

_FENCE = re.compile(r"\s*```\w*")
_TOKEN = re.compile(
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
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_CLOSED_BY = {"{": "}", "[": "]"}
_LONE_BACKSLASH = re.compile(r"\\(?![\"\\/bfnrtu])")
_decoder = json.JSONDecoder(strict=False)


def is_repairable(text: str) -> bool:
    """Whether the repair makes a JSON object or list of a text."""
    if len(text) > MAX_LENGTH:
        return False
    fence = _FENCE.match(text) if "```" in text else None
    # The end is cut off by hand: a pattern for both ends takes hours on a long run of spaces.
    repaired = _repair(text[fence.end() :].rstrip().removesuffix("```") if fence else text)
    if repaired is None:
        return False
    try:
        value, _ = _decoder.raw_decode(repaired)
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
        match = _TOKEN.match(text, position)
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
        return _WORDS.get(token) or json.dumps(token)
    if kind in ("single", "cut"):
        inner: Any = token[1:-1] if kind == "single" else token[1:].removesuffix("\\")
        inner = re.sub(r"\\u[0-9a-fA-F]{0,3}\Z", "", inner) if kind == "cut" else inner
        inner = inner.replace("\\'", "'")
        inner = _LONE_BACKSLASH.sub(r"\\\\", inner)
        return '"' + re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', inner) + '"'
    return token
