"""Messages and tools in the text they were written in, so that rows are copied instead of respelled."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory, repair_messages
from k2_verifier_adapter.core.json_text import JsonTextError, dumps_strict


@dataclass(frozen=True, slots=True)
class RequestTexts:
    """Messages and tools of a request as they were written, and what makes two of them the same.

    Attributes:
        messages_key: Digest of the messages as JSON value, key order included and `_input` renamed.
        tools_key: Digest of the tools as JSON value, key order included; missing and null are alike.
    """

    messages: str | None
    tools: str | None
    messages_key: bytes
    tools_key: bytes

    def differing(self, other: RequestTexts) -> list[str]:
        """Name the fields in which another request differs as JSON value."""
        fields = [
            ("messages", self.messages_key == other.messages_key),
            ("tools", self.tools_key == other.tools_key),
        ]
        return [name for name, equal in fields if not equal]


def request_texts(line: str, member: str | None = None) -> RequestTexts:
    """Cut messages and tools out of a line that holds a JSON object.

    `member` names the member of it that is the request; None for the line itself.
    """
    start = 0 if member is None else _members(line, 0)[member].start
    members = _members(line, start)
    messages, tools = members.get("messages"), members.get("tools")
    if messages is not None and isinstance(messages.value, list):
        repair_messages(messages.value, HistoryOptions(MalformedHistory.KEEP))
    return RequestTexts(
        messages=_text(line, messages),
        tools=_text(line, tools),
        messages_key=_key(line, messages),
        tools_key=_key(line, tools),
    )


@dataclass(frozen=True, slots=True)
class _Member:
    value: Any
    start: int
    end: int


_decoder = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _members(text: str, start: int) -> dict[str, _Member]:
    """Find where the members of the object at `start` stand; of a repeated name, the last counts."""

    def behind_space(position: int) -> int:
        match = _SPACE.match(text, position)
        return match.end() if match else position

    found: dict[str, _Member] = {}
    position = behind_space(behind_space(start) + 1)
    while text[position] != "}":
        if text[position] == ",":
            position = behind_space(position + 1)
        name, position = _decoder.raw_decode(text, position)
        position = behind_space(behind_space(position) + 1)
        value, end = _decoder.raw_decode(text, position)
        found[name] = _Member(value, position, end)
        position = behind_space(end)
    return found


def _text(line: str, member: _Member | None) -> str | None:
    if member is None or member.value is None:
        return None
    return escape_surrogates(line[member.start : member.end])


def escape_surrogates(text: str) -> str:
    """Escape lone surrogates in a JSON text, for they have no UTF-8 form; all else stays."""
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _key(line: str, member: _Member | None) -> bytes:
    if member is None or member.value is None:
        return b""
    try:
        canonical = dumps_strict(member.value)
    except JsonTextError:
        # No row can be made of it; it is equal to what is written alike.
        canonical = line[member.start : member.end]
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).digest()
