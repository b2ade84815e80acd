"""Rows and cases: one record of the dataset, decoded, checked and typed.

A case keeps `messages` and `tools` as the JSON text that is sent, so the request carries the row's
own bytes wherever no repair was made: number spellings, escapes and key order included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from k2_verifier_adapter.core.history import HistoryOptions, Repairs, repair_messages
from k2_verifier_adapter.core.json_text import (
    MAX_PARAMETER_DEPTH,
    JsonTextError,
    dumps_ascii,
    dumps_strict,
    escape_to_ascii,
    is_too_deep,
    loads_strict,
    shown,
)
from k2_verifier_adapter.core.messages import tools_in

NOT_PARAMETERS = frozenset({"model", "messages", "tools"})
"""Keys of a row's `parameters` that never become request parameters."""


class RowError(ValueError):
    """One field of one row (`messages[3].role`) cannot be used, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"field {field!r}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class OfficialAnswer:
    """What the official API answered to the same request; None where the row does not say.

    Of several official runs, `runs` holds how many called, and how many answered.
    """

    should_call: bool
    finish_reason: str | None = None
    tool_calls_json: str | None = None
    runs: tuple[int, int] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One row, decoded.

    Attributes:
        index: 0-based position of the row in its source.
        data_index: Upstream's 1-based number of the sample; one more than `index` unless the row
            says otherwise, as rows do that were built from a subset of the samples.
        parameters: Request parameters that belong to the row's baseline.
    """

    index: int
    data_index: int
    messages_json: bytes
    tools_json: bytes | None
    official: OfficialAnswer
    parameters: Mapping[str, Any]
    repairs: Repairs
    synthetic: bool = False

    @property
    def size(self) -> int:
        """Bytes of the texts that are kept."""
        return len(self.messages_json) + len(self.tools_json or b"")

    def messages(self) -> list[Any]:
        """Decode the messages that are sent."""
        decoded: list[Any] = json.loads(self.messages_json)
        return decoded

    def tools(self) -> Any:
        """Decode the tools that are sent; an empty list if the row has none."""
        return [] if self.tools_json is None else json.loads(self.tools_json)

    def declared_tools(self) -> Any:
        """Decode the tools that a call may be of: those that are sent, and those that messages declare."""
        tools = self.tools()
        if b'"tools"' not in self.messages_json or not isinstance(tools, list):
            return tools
        return [*tools, *tools_in(self.messages())]

    def mentions(self, text: str) -> bool:
        """Whether a text may stand in the messages; a cheap look before they are decoded."""
        return json.dumps(text)[1:-1].encode() in self.messages_json or not text.isascii()

    def official_tool_calls(self) -> list[Any] | None:
        """Decode the official tool calls, or None if the row does not carry them."""
        text = self.official.tool_calls_json
        if text is None:
            return None
        calls = json.loads(text)
        return calls if isinstance(calls, list) else None


class CaseLike(Protocol):
    """What has to be known of a request to judge its response; `Case` is one."""

    @property
    def official(self) -> OfficialAnswer:
        """The official answer."""

    @property
    def repairs(self) -> Repairs:
        """Repairs that were made in the messages."""

    def declared_tools(self) -> Any:
        """Give the decoded tools that a call may be of; an empty list if there are none."""

    def official_tool_calls(self) -> list[Any] | None:
        """Give the decoded official tool calls, or None if they are not known."""

    def messages(self) -> list[Any] | None:
        """Give the decoded messages, or None if they are not known."""

    def mentions(self, text: str) -> bool:
        """Whether a text may stand in the messages."""


def decode_row(row: Mapping[str, Any], index: int, options: HistoryOptions) -> Case:
    """Decode and check one row.

    `messages` and `tools` are JSON text or lists; the other columns are `should_call_tool`,
    `official_finish_reason` and, where there are any, `official_tool_calls` (or `tool_calls`),
    `official_calls`, `parameters`, `data_index` and `synthetic`.

    Raises:
        RowError: If a field is missing or has a shape that cannot be sent or compared.
    """
    messages_text, messages = _json_list(row, "messages")
    if not messages:
        raise RowError("messages", f"{messages!r} is empty, expected at least one message")
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            raise RowError(f"messages[{position}]", f"{_shown(message)} is not an object")
        if not isinstance(message.get("role"), str):
            raise RowError(f"messages[{position}].role", f"{_shown(message.get('role'))} is not a string")
    repairs = repair_messages(messages, options)
    if repairs.any:
        messages_text = _rewritten("messages", messages)

    tools_text: str | None = None
    if row.get("tools") is not None:
        tools_text, tools = _json_list(row, "tools")
        for position, tool in enumerate(tools):
            if not isinstance(tool, dict):
                raise RowError(f"tools[{position}]", f"{_shown(tool)} is not an object")

    return Case(
        index=index,
        data_index=_data_index(row, index),
        messages_json=_utf8(messages_text),
        tools_json=None if tools_text is None else _utf8(tools_text),
        official=_official_answer(row),
        parameters=_parameters(row),
        repairs=repairs,
        synthetic=bool(row.get("synthetic", False)),
    )


def _data_index(row: Mapping[str, Any], index: int) -> int:
    value = row.get("data_index")
    if value is None:
        return index + 1
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RowError("data_index", f"{_shown(value)} is not a whole number of at least 1")
    return value


def _json_list(row: Mapping[str, Any], field: str) -> tuple[str, list[Any]]:
    value = row.get(field)
    if value is None:
        raise RowError(field, "is missing, expected a list or its JSON text")
    try:
        # Writing and reading again gives the repairs a copy of their own.
        text = value if isinstance(value, str) else dumps_strict(value)
        decoded = loads_strict(text)
    except JsonTextError as error:
        raise RowError(field, f"{_shown(value)} is not JSON: {error}") from None
    if not isinstance(decoded, list):
        raise RowError(field, f"{_shown(decoded)} is not a list")
    return text, decoded


def _rewritten(field: str, value: Any) -> str:
    """Write a column anew, which only a number beyond Python's floats, `1e999`, can prevent."""
    try:
        return dumps_strict(value)
    except JsonTextError as error:
        raise RowError(field, f"{_shown(value)} cannot be written again as JSON: {error}") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A surrogate that stands raw in the text has no UTF-8 form; its JSON escape is equal.
        return escape_to_ascii(text).encode()


def _official_answer(row: Mapping[str, Any]) -> OfficialAnswer:
    finish_reason = row.get("official_finish_reason")
    if finish_reason is not None and not isinstance(finish_reason, str):
        raise RowError("official_finish_reason", f"{_shown(finish_reason)} is not a string")
    decision = row.get("should_call_tool")
    if decision is None:
        if finish_reason is None:
            raise RowError(
                "should_call_tool", "is missing, and so is 'official_finish_reason': no official decision"
            )
        decision = finish_reason == "tool_calls"
    if decision not in (True, False):
        raise RowError("should_call_tool", f"{_shown(decision)} is not a boolean")
    return OfficialAnswer(
        bool(decision), finish_reason, _official_tool_calls(row), _official_runs(row, decision=bool(decision))
    )


def _official_runs(row: Mapping[str, Any], *, decision: bool) -> tuple[int, int] | None:
    value = row.get("official_calls")
    if value is None:
        return None
    numbers = [item for item in value if type(item) is int] if isinstance(value, list) else []
    if len(numbers) != 2 or len(value) != 2 or not decision <= numbers[0] <= numbers[1] - (not decision):
        counted = "is not [k, m], k of m official runs with a call, the row's own decision among them"
        raise RowError("official_calls", f"{_shown(value)} {counted}")
    return numbers[0], numbers[1]


def _official_tool_calls(row: Mapping[str, Any]) -> str | None:
    # The hosted column's name is not certain; both spellings are read.
    field = "official_tool_calls" if row.get("official_tool_calls") is not None else "tool_calls"
    value = row.get(field)
    if value is None or value == "":
        return None
    try:
        decoded = loads_strict(value if isinstance(value, str) else dumps_strict(value))
    except JsonTextError as error:
        raise RowError(field, f"{_shown(value)} is not JSON: {error}") from None
    if decoded is None:
        return None
    if not isinstance(decoded, list):
        raise RowError(field, f"{_shown(decoded)} is not a list")
    return dumps_ascii(decoded)


def _parameters(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row.get("parameters")
    if not value:
        return {}
    try:
        value = loads_strict(value if isinstance(value, str) else dumps_strict(value))
    except JsonTextError as error:
        raise RowError("parameters", f"{_shown(value)} is not JSON: {error}") from None
    if not value:
        return {}
    if not isinstance(value, dict):
        raise RowError("parameters", f"{_shown(value)} is not an object")
    _rewritten("parameters", value)
    if is_too_deep(value, MAX_PARAMETER_DEPTH):
        raise RowError("parameters", f"{_shown(value)} is nested deeper than {MAX_PARAMETER_DEPTH} levels")
    return {name: item for name, item in value.items() if name not in NOT_PARAMETERS}


def _shown(value: Any) -> str:
    return shown(value, 60)
