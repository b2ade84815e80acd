"""The plain reading of an event stream: every line looked at, every chunk parsed whole.

Slow, short, and what the package's own reading must equal.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError


def plain_events(stream: bytes) -> list[bytes]:
    """Give the data of all events that end with a blank line; a stream as a whole, not in reads."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data = [], []
    for line in text.split(b"\n")[:-1]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            events.append(b"\n".join(data))
            data = []
    return events


def number_in(index: Any) -> Any:
    """Read an index as pydantic reads an int, which is what upstream's client does."""
    with contextlib.suppress(ValidationError):
        return TypeAdapter(int).validate_python(index)
    return index if isinstance(index, str) else json.dumps(index)


def joined(pieces: list[Any]) -> Any:
    """Give the arguments of a call: a lone object as it is, anything else as one text."""
    if len(pieces) == 1 and isinstance(pieces[0], dict):
        return pieces[0]
    return "".join(piece if isinstance(piece, str) else json.dumps(piece) for piece in pieces)


class PlainAssembler:
    """What `ChunkAssembler` does, without any short cut."""

    def __init__(self) -> None:
        self.anomalies: list[str] = []
        self.failed = False
        self.finish_reason: Any = None
        self.has_output = False
        self._head: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._lists: dict[str, list[Any]] = {}
        self._fields: dict[str, Any] = {}
        self._calls: dict[Any, dict[str, Any]] = {}
        self._usage: Any = None
        self._choice: Any = None
        self._arguments: dict[Any, list[Any]] = {}

    def add(self, data: bytes) -> None:
        """Take the data of one event; behind a failure nothing counts."""
        if self.failed or not data.strip():
            return
        try:
            chunk = json.loads(data.decode("utf-8", "replace"))
        except ValueError:
            self.failed = True
            return
        if not isinstance(chunk, dict):
            return
        if chunk.get("error"):
            self.failed = True
            return
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "provider"):
            if chunk.get(name) is not None:
                self._head.setdefault(name, chunk[name])
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            numbered_0 = [choice for choice in choices if self._number_of(choice) == 0]
            self._add_choice(numbered_0[0] if numbered_0 else choices[0])

    def _add_choice(self, choice: Any) -> None:
        number = self._number_of(choice)
        if number is not None:
            if self._choice == 0 and number != 0:
                return
            if self._choice not in (None, 0) and number == 0:
                self._texts, self._lists, self._fields, self._calls = {}, {}, {}, {}
                self._arguments = {}
                self.anomalies, self.finish_reason = [], None
            self._choice = number
        if isinstance(choice, dict):
            delta = choice.get("delta")
            for name, value in delta.items() if isinstance(delta, dict) else []:
                self._add_delta(name, value)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self._usage = choice.get("usage") or self._usage

    def _number_of(self, choice: Any) -> Any:
        index = choice.get("index") if isinstance(choice, dict) else None
        return None if index is None else number_in(index)

    def _add_delta(self, name: str, value: Any) -> None:
        if name == "tool_calls":
            if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
                if value:
                    self.has_output = True
                    self._fields[name] = value
                return
            for part in value:
                self._add_call(part)
        elif isinstance(value, str) and name != "role":
            self.has_output |= bool(value)
            self._texts[name] = self._texts.get(name, "") + value
        elif isinstance(value, list):
            self.has_output |= bool(value)
            self._lists[name] = self._lists.get(name, []) + value
        elif value is not None:
            self._fields[name] = value

    def _add_call(self, part: dict[str, Any]) -> None:
        self.has_output = True
        index = part.get("index")
        if index is None:
            self._note("stream_index_missing")
            index = 0
        key = number_in(index)
        if key not in self._calls:
            function = {"name": "", "arguments": ""}
            self._calls[key] = {"id": part.get("id"), "type": part.get("type"), "function": function}
        function, delta = self._calls[key]["function"], part.get("function")
        if isinstance(delta, dict):
            if delta.get("name"):
                if function["name"]:
                    self._note("stream_name_repeated")
                function["name"] = delta["name"]
            if delta.get("arguments"):
                self._arguments.setdefault(key, []).append(delta["arguments"])
                function["arguments"] = joined(self._arguments[key])

    def _note(self, anomaly: str) -> None:
        if anomaly not in self.anomalies:
            self.anomalies.append(anomaly)

    def completion(self) -> dict[str, Any]:
        """Give what has come so far as a completion object."""
        message = {"role": "assistant", "content": "", **self._texts, **self._lists, **self._fields}
        if self._calls and "tool_calls" not in message:
            message["tool_calls"] = list(self._calls.values())
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage}
