"""The declared repairs of a row's message history; everything else is sent as it stands.

The role `_input` becomes `system`, which is upstream's rule. Malformed historical arguments become
`{}` and historical ids can be renamed, both by parameter. A log keeps what was sent: held against the row,
or against the official request, a few short marks tell which repairs were made, without keeping either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from zlib import crc32

from k2_verifier_adapter.core.messages import calls_of, function_of, name_of


class MalformedHistory(str, Enum):
    """What to do with a historical `arguments` string that is not JSON."""

    SANITIZE = "sanitize"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class HistoryOptions:
    """The repairs that the user asked for."""

    malformed_history: MalformedHistory = MalformedHistory.SANITIZE
    normalize_tool_call_ids: bool = False


@dataclass(frozen=True, slots=True)
class Repairs:
    """How often each repair was made in one row.

    Attributes:
        malformed_history: Historical calls whose arguments became `{}`.
        input_role: Messages whose role `_input` became `system`.
        tool_call_ids: Historical calls whose id was renamed.
    """

    malformed_history: int = 0
    input_role: int = 0
    tool_call_ids: int = 0

    @property
    def any(self) -> bool:
        """Whether the messages differ from the row's in any way."""
        return bool(self.malformed_history or self.input_role or self.tool_call_ids)

    @property
    def beyond_upstream(self) -> bool:
        """Whether upstream would have sent these messages differently."""
        return bool(self.malformed_history or self.tool_call_ids)


def repair_messages(messages: list[Any], options: HistoryOptions) -> Repairs:
    """Make the declared repairs in place and count them; what has not the expected shape is left alone."""
    input_role = _rename_input_role(messages)
    malformed = (
        _empty_malformed_arguments(messages) if options.malformed_history is MalformedHistory.SANITIZE else 0
    )
    renamed = _normalize_ids(messages) if options.normalize_tool_call_ids else 0
    return Repairs(malformed_history=malformed, input_role=input_role, tool_call_ids=renamed)


def _rename_input_role(messages: Sequence[Any]) -> int:
    count = 0
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "_input":
            message["role"] = "system"
            count += 1
    return count


def _empty_malformed_arguments(messages: Sequence[Any]) -> int:
    count = 0
    for message in messages:
        for call in calls_of(message):
            if _has_malformed_arguments(call):
                call["function"]["arguments"] = "{}"
                count += 1
    return count


def _has_malformed_arguments(call: Mapping[str, Any]) -> bool:
    arguments = function_of(call).get("arguments")
    if not isinstance(arguments, str):
        return False
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return True
    return False


def _normalize_ids(messages: Sequence[Any]) -> int:
    """Rename ids to `functions.NAME:IDX`, IDX counting all calls of the conversation from 0.

    A `tool` message refers to the closest earlier message with a call of its id, so ids that the history uses
    twice stay apart. Calls of one message whose ids are equal, empty or missing all get one of their own, and
    the tool messages behind them that name the same, or none, are matched by position.
    """
    renamed = 0
    index = 0
    current: dict[str | None, list[str]] = {}
    for message in messages:
        latest: dict[str | None, list[str]] = {None: []}
        calls = calls_of(message)
        for call in calls:
            name = name_of(call)
            index += 1
            if name is None:
                continue
            new_id = f"functions.{name}:{index - 1}"
            old_id = call.get("id")
            latest.setdefault(_id_or_none(old_id), []).append(new_id)
            if old_id != new_id:
                call["id"] = new_id
                renamed += 1
        if calls:
            current.update(latest)
        if isinstance(message, dict) and message.get("role") == "tool":
            reference = message.get("tool_call_id")
            found = current.get(_id_or_none(reference))
            if found and (reference is None or isinstance(reference, str)):
                # Of equal ids the last one takes what is left over.
                message["tool_call_id"] = found[0] if reference and len(found) == 1 else found.pop(0)
    return renamed


def _id_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


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
        for call in calls_of(message):
            ids.append(str(call.get("id")))
            malformed += _has_malformed_arguments(call)
    tools = request.get("tools")
    contents += [name_of(tool) or "" for tool in tools] if isinstance(tools, list) else []
    return RequestMarks(_checksum(contents), malformed, _checksum(ids) if ids else 0)


def _checksum(texts: list[str]) -> int:
    # 0 is kept for "none".
    return crc32("\0".join(texts).encode("utf-8", "surrogatepass")) or 1


def _text_of(content: Any) -> str:
    try:
        return json.dumps(content, sort_keys=True)
    except (RecursionError, ValueError):
        return ""
