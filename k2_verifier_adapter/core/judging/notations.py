"""Tool calls that stand in a text in another notation than K2's: K3's elements, tags of other models, JSON.

A server whose tool parser does not know what the model writes leaves it in the content. Read are K3's
elements (MoonshotAI/Kimi-K3, `encoding_k3.py`), the tags of Hermes and Qwen, those of Qwen3-Coder and of
Anthropic's prompt format, and the JSON of a call by itself, as Llama and Mistral models write it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

MAX_CALLS = 100
"""Calls that are read out of one text, and places of a text that are tried as JSON."""

K3_TOKENS = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")
"""K3's control tokens; servers write blanks inside of them, too (NVIDIA/TensorRT-LLM issue 16972)."""


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as it stands in a text.

    Attributes:
        arguments: The arguments; of a notation without types, all are texts.
        begin: Where it begins in the text.
        end: Where it ends.
        tagged: Whether tags or control tokens stand around it, so that it is hardly an example in prose.
    """

    notation: str
    name: str
    arguments: Any
    begin: int
    end: int
    tagged: bool = True

    def as_call(self) -> dict[str, Any]:
        """Give the call in the form of the API."""
        return {"function": {"name": self.name, "arguments": self.arguments}}

    def as_typed_call(self) -> dict[str, Any]:
        """Give the call with those of its arguments parsed that are JSON."""
        arguments = self.arguments
        if isinstance(arguments, dict):
            arguments = {key: _parsed(value) for key, value in arguments.items()}
        return {"function": {"name": self.name, "arguments": arguments}}


def may_hold_call(text: str) -> bool:
    """Whether a text may hold a call in any of these notations; nearly free where it holds none."""
    return (
        ("<" in text and ("open" in text or "<tool_call" in text or "<function" in text or "<invoke" in text))
        or "[TOOL_CALLS]" in text
        or ('"' in text and '":' in text and "{" in text)
    )


def written_calls(text: str, declared: Collection[str]) -> list[WrittenCall]:
    """List the calls of declared tools in a text, in the first of the notations that has any."""
    for read in (k3_calls, _tagged_calls, _json_calls):
        found = [call for call in islice(read(text), MAX_CALLS) if call.name in declared]
        if found:
            return found
    return []


# --- K3 -------------------------------------------------------------------------------------------

_K3_TOKEN = re.compile(r"<\|\s{0,3}(open|close|sep|end_of_msg)\s{0,3}\|>")
_K3_ATTRIBUTE = re.compile(r'\b(\w{1,20})="([^"]{0,500})"')
_MOST_TOKENS = 20_000


def k3_tokens(text: str) -> list[str]:
    """List the different control tokens of K3 in a text, as they stand there."""
    return list(dict.fromkeys(match[0] for match in islice(_K3_TOKEN.finditer(text), _MOST_TOKENS)))


def k3_calls(text: str) -> Iterator[WrittenCall]:
    """Read K3's `call` elements, whether or not they are closed."""
    tokens = list(islice(_K3_TOKEN.finditer(text), _MOST_TOKENS))
    call: WrittenCall | None = None
    for (opening, separator), following in zip(
        pairwise(tokens), [*(token.start() for token in tokens[2:]), len(text)], strict=False
    ):
        if opening[1] != "open" or separator[1] != "sep":
            continue
        header = text[opening.end() : separator.start()].strip()
        tag = header.partition(" ")[0]
        attributes = {key: html.unescape(value) for key, value in _K3_ATTRIBUTE.findall(header[:2000])}
        if tag == "call" and attributes.get("tool"):
            if call is not None:
                yield call
            call = WrittenCall("K3's elements", attributes["tool"], {}, opening.start(), separator.end())
        elif tag in ("argument", "json") and call is not None:
            body = text[separator.end() : following]
            body = body.strip() if separator[0] != "<|sep|>" else body
            value = body if attributes.get("type") == "string" else _parsed(body)
            arguments = {**call.arguments, attributes.get("key", ""): value} if tag == "argument" else value
            call = WrittenCall(call.notation, call.name, arguments, call.begin, following)
    if call is not None:
        yield call


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text


# --- tags -----------------------------------------------------------------------------------------

_TAG_BEFORE_JSON = re.compile(r"<(?:tool_call|function_call|function_calls|tool_calls)>\s{0,50}(?=[\[{])")
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s{0,50}(?=[\[{])")
_NAMED_TAG = re.compile(r"<(?:function=([^\s<>\"']{1,200})|invoke name=\"([^\"<>]{1,200})\")>\s{0,50}")
_PARAMETER = re.compile(r"<parameter(?:=([^\s<>\"']{1,200})|\s+name=\"([^\"<>]{1,200})\"[^<>]{0,100})>")
_NAMED_END = re.compile(r"</(?:function|invoke)>")


def _tagged_calls(text: str) -> Iterator[WrittenCall]:
    for pattern in (_TAG_BEFORE_JSON, _MISTRAL):
        for match in pattern.finditer(text):
            yield from _calls_at(text, match.end(), match[0].strip(), begin=match.start())
    for match in _NAMED_TAG.finditer(text):
        name, opening = match[1] or match[2], match[0].strip()
        if text[match.end() : match.end() + 1] == "{":
            value, end = _decoded(text, match.end())
            if value is not None:
                yield WrittenCall(opening, name, value, match.start(), end)
            continue
        closing = _NAMED_END.search(text, match.end())
        end = closing.start() if closing else len(text)
        yield WrittenCall(opening, name, _parameters(text[match.end() : end]), match.start(), end)


def _parameters(text: str) -> dict[str, str]:
    found = list(islice(_PARAMETER.finditer(text), MAX_CALLS))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {
        match[1] or match[2]: text[match.end() : end].strip().removesuffix("</parameter>").strip()
        for match, end in zip(found, ends, strict=True)
    }


# --- JSON -----------------------------------------------------------------------------------------

_NAME_KEYS = ("name", "tool", "tool_name", "function", "recipient_name", "action")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "action_input")
_OBJECT_OF_CALL = re.compile(
    r'\{\s{0,50}"(?:name|tool|tool_name|function|recipient_name|action|type|id|tool_calls|arguments|'
    r'parameters)"\s{0,20}:'
)
_ID = re.compile(r"(?:functions\.)?(.{1,200}?)(?::\d{1,6})?")
_decoder = json.JSONDecoder(strict=False)


def _json_calls(text: str) -> Iterator[WrittenCall]:
    read_to = 0
    for match in islice(_OBJECT_OF_CALL.finditer(text), MAX_CALLS):
        if match.start() < read_to:
            continue
        for call in _calls_at(text, match.start(), "JSON", begin=match.start(), tagged=False):
            read_to = call.end
            yield call


def _calls_at(
    text: str, place: int, notation: str, *, begin: int, tagged: bool = True
) -> Iterator[WrittenCall]:
    value, end = _decoded(text, place)
    for name, arguments in _calls_in(value):
        yield WrittenCall(notation, name, arguments, begin, end, tagged)


def _decoded(text: str, place: int) -> tuple[Any, int]:
    try:
        return _decoder.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None, place


def _calls_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and arguments of the calls that a JSON value is."""
    if isinstance(value, list):
        for item in value[:MAX_CALLS]:
            if isinstance(item, dict):
                yield from _calls_in(item)
    elif isinstance(value, dict):
        if isinstance(value.get("tool_calls"), list):
            yield from _calls_in(value["tool_calls"])
            return
        if isinstance(value.get("function"), dict):
            value = value["function"]
        name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
        arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
        match = _ID.fullmatch(name) if name else None
        if match and isinstance(arguments, (dict, str)):
            yield match[1], arguments
