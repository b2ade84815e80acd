"""K2's own markup in a text: tool call markers, whole or in pieces, special tokens, and leaked calls.

A model writes a tool call as

    <|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:IDX<|tool_call_argument_begin|>{...}
    <|tool_call_end|><|tool_calls_section_end|>

and a server's tool parser makes `tool_calls` of it. What a client sees of this has leaked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from itertools import islice
from typing import Any

MARKERS = (
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|tool_calls_section_end|>",
)
"""The markers of a tool call, in the order in which a model writes them."""

K2_TOKENS = (
    "<|im_end|>",
    "<|im_middle|>",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_system|>",
    "[BOS]",
    "[EOS]",
    "<think>",
    "</think>",
    "◁think▷",
    "◁/think▷",
)
"""Further tokens of K2's templates and tokenizers; SGLang's documentation has the last two."""

FOREIGN_TOKENS = (
    "<|im_start|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|begin_of_text|>",
    "<|channel|>",
    "<|message|>",
    "<|return|>",
    "<｜end▁of▁sentence｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
)
"""Tokens of other model families: Qwen, Llama, gpt-oss, DeepSeek."""

THINK_TAGS = frozenset({"<think>", "</think>", "◁think▷", "◁/think▷"})
"""Those of K2's tokens that stand around reasoning."""

MAX_CALLS = 100
"""Leaked calls that are read out of one text."""

_KIND = r"tool_calls?(?:_section|_argument)?_(?:begin|end)"
# The singular `tool_call_section_begin` has been seen too: vLLM's parser takes both. A marker may have
# lost its first characters, or its last ones.
_MARKER = re.compile(rf"(?:<\|\s{{0,3}})?{_KIND}\s{{0,3}}\|>|<\|\s{{0,3}}{_KIND}")
_ANYWHERE = tuple(
    token for token in (*K2_TOKENS, *FOREIGN_TOKENS) if token[0] != "[" and "think>" not in token
)
_TOKEN = re.compile("|".join(map(re.escape, _ANYWHERE)))
_LONGEST = max(map(len, (*MARKERS, *_ANYWHERE)))
_SHORTEST_HEAD = 4
_SHORTEST_TAIL = 3

_ARGUMENTS_BEGIN = re.compile(r"<?\|?\s{0,3}tool_call_argument_begin\s{0,3}\|>")
_OUTSIDE_IDS = re.compile(r"[\s<>|{}\"']")
_LONGEST_ID = 200
_BARE_CALL = re.compile(r"functions\.([^\s<>|{}\"':]{1,200}):\d{1,6}\s{0,20}(?=\{)")
_CALL_ID = re.compile(r"(?:functions[._]?)?(?P<name>.+?)[:_]?\d{1,6}")
_STANDARD_END = re.compile(r"(.+):\d{1,6}")

_decoder = json.JSONDecoder()


def may_hold_markup(text: str) -> bool:
    """Whether a text may hold any markup at all; nearly free where it holds none."""
    return (
        ("|" in text and ("<|" in text or "|>" in text))
        or "think>" in text
        or "functions." in text
        or "OS]" in text
        or (not text.isascii() and ("◁" in text or "｜" in text))
    )


def find_markers(text: str) -> list[str]:
    """List the different tool call markers in a text as they stand there, pieces of them included.

    A piece is a marker without its first or its last characters: in the text where the rest of it
    still tells what it was, and at the very beginning or end of the text, where a stream was split.
    """
    found: dict[str, None] = {}
    head, tail = _head(text), _tail(text)
    if head and any(marker.endswith(head) and marker != head for marker in MARKERS):
        found[head] = None
    if "tool_call" in text:
        found.update(dict.fromkeys(match[0] for match in _MARKER.finditer(text)))
    if tail and any(marker.startswith(tail) and marker != tail for marker in MARKERS):
        found[tail] = None
    return list(found)


def find_tokens(text: str) -> list[str]:
    """List the different special tokens in a text, K2's and those of other families.

    `<think>` counts at the beginning of the text only and `</think>` only where no `<think>` comes
    before it, or one begins the text: a pair in the middle is taken for something written about.
    `[BOS]` counts at the beginning, `[EOS]` at the end.
    """
    found = dict.fromkeys(match[0] for match in _TOKEN.finditer(text))
    stripped = text.strip()
    opened = stripped.startswith("<think>")
    if opened:
        found["<think>"] = None
    end = text.find("</think>")
    if end >= 0 and (opened or "<think>" not in text[:end]):
        found["</think>"] = None
    if stripped.startswith("[BOS]"):
        found["[BOS]"] = None
    if stripped.endswith("[EOS]"):
        found["[EOS]"] = None
    head, tail = _head(text), _tail(text)
    if head and any(token.endswith(head) and token != head for token in _ANYWHERE):
        found[head] = None
    if tail and any(token.startswith(tail) and token != tail for token in _ANYWHERE):
        found[tail] = None
    return list(found)


def _head(text: str) -> str | None:
    """Give what may be the end of a marker at the beginning of a text."""
    end = text.find("|>", 0, 2 * _LONGEST)
    head = text[: end + 2].lstrip() if end >= 0 else ""
    return head if _SHORTEST_HEAD <= len(head) < _LONGEST else None


def _tail(text: str) -> str | None:
    """Give what may be the beginning of a marker at the end of a text."""
    begin = text.rfind("<|", -2 * _LONGEST if len(text) > 2 * _LONGEST else 0)
    tail = text[begin:].rstrip() if begin >= 0 else ""
    return tail if _SHORTEST_TAIL <= len(tail) < _LONGEST else None


def may_be_bare_call(text: str) -> bool:
    """Whether a text holds `functions.NAME:IDX{` for any NAME."""
    return "functions." in text and bool(_bare_calls(text))


def find_bare_calls(text: str, declared: Collection[str]) -> list[str]:
    """List the calls `functions.NAME:IDX{` without any marker, NAME being a declared tool.

    K2's markers are special tokens: a server that skips those when it writes the text, and does not
    parse it, leaves this.
    """
    calls = (match[0].rstrip() for match in _bare_calls(text) if match[1] in declared)
    return list(dict.fromkeys(calls))


def _bare_calls(text: str) -> list[re.Match[str]]:
    matches: list[re.Match[str]] = []
    begin = text.find("functions.")
    while begin >= 0 and len(matches) < MAX_CALLS:
        match = _BARE_CALL.match(text, begin)
        if match is not None:
            matches.append(match)
        begin = text.find("functions.", begin + 1)
    return matches


def read_calls(text: str, declared: Collection[str]) -> list[dict[str, Any]]:
    """Read the tool calls out of leaked markup, in the form of the API, where their tool can be told.

    A call's arguments end where the next marker begins, as vLLM's parser has it, or with the text. The names
    of the request's tools tell what a damaged id is about.
    """
    calls = []
    for match in islice(_ARGUMENTS_BEGIN.finditer(text), MAX_CALLS):
        before = text[max(0, match.start() - _LONGEST_ID) : match.start()].rstrip()
        name = name_in_id(_OUTSIDE_IDS.split(before)[-1], declared)
        if name is None:
            continue
        following = _MARKER.search(text, match.end())
        end = len(text) if following is None else following.start()
        arguments = text[match.end() : end].strip()
        if following is None:
            arguments = arguments.removesuffix(_tail(text) or "").rstrip()
        calls.append({"function": {"name": name, "arguments": arguments}})
    return calls or _read_bare_calls(text, declared)


def _read_bare_calls(text: str, declared: Collection[str]) -> list[dict[str, Any]]:
    calls = []
    for match in _bare_calls(text):
        if match[1] not in declared:
            continue
        try:
            _, end = _decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            end = len(text)
        calls.append({"function": {"name": match[1], "arguments": text[match.end() : end]}})
    return calls


def name_in_id(call_id: str, declared: Collection[str]) -> str | None:
    """Tell the tool's name from the id that a model writes; None if the id does not hold one.

    K2's form is `functions.NAME:IDX`; seen as well are `NAME:IDX`, `functions_NAME_IDX` and
    `functionsNAMEIDX`, which only a declared name can tell apart.
    """
    match = _CALL_ID.fullmatch(call_id)
    standard = _STANDARD_END.fullmatch(call_id.removeprefix("functions."))
    name = None if standard is None else standard[1]
    # vLLM's parser takes what follows the last dot.
    last = None if name is None else name.rpartition(".")[2]
    for candidate in (name, match["name"] if match else None, call_id, last):
        if candidate is not None and candidate in declared:
            return candidate
    return name
