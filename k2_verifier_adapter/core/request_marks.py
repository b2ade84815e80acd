"""What a logged request shows of the row behind it: whether it is the same, and how it was repaired.

A log keeps what was sent. Held against the row, or against the official request, a few short marks
tell which repairs of the history were made, without keeping either request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from k2_verifier_adapter.core.history import Repairs


@dataclass(frozen=True, slots=True)
class RequestMarks:
    """Short marks of one request.

    Attributes:
        content: Checksum of the contents of all messages and the names of all tools.
        malformed: Historical tool calls whose arguments are a string that is not JSON.
        ids: Checksum of the historical tool call ids, in order; 0 if there is no call.
    """

    content: int
    malformed: int
    ids: int

    def repairs(self, sent: RequestMarks | None, *, input_role: bool = False) -> Repairs:
        """Tell which repairs were made, this being what the request was made from.

        Args:
            sent: Marks of the request as sent; None if it is not known: upstream repairs nothing.
            input_role: Whether the row has messages of the role `_input`, which all tools rename.
        """
        if sent is None:
            return Repairs(input_role=int(input_role))
        return Repairs(
            malformed_history=max(0, self.malformed - sent.malformed),
            input_role=int(input_role),
            tool_call_ids=int(self.ids != sent.ids),
        )


def marks_of(request: Mapping[str, Any]) -> RequestMarks:
    """Take the marks of a request, of any shape."""
    messages = request.get("messages")
    contents: list[str] = []
    ids: list[str] = []
    malformed = 0
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        contents.append(content if isinstance(content, str) else _text_of(content))
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                ids.append(str(call.get("id")))
                malformed += _has_malformed_arguments(call)
    tools = request.get("tools")
    contents += [_tool_name(tool) for tool in tools] if isinstance(tools, list) else []
    return RequestMarks(_checksum(contents), malformed, _checksum(ids) if ids else 0)


def _checksum(texts: list[str]) -> int:
    # 0 is kept for "none".
    return crc32("\0".join(texts).encode("utf-8", "surrogatepass")) or 1


def _text_of(content: Any) -> str:
    try:
        return json.dumps(content, sort_keys=True)
    except (RecursionError, ValueError):
        return ""


def _tool_name(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    return str(function.get("name")) if isinstance(function, dict) else ""


def _has_malformed_arguments(call: Mapping[str, Any]) -> bool:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, str):
        return False
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return True
    return False
