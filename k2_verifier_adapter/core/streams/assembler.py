"""Event streams: from completion chunks to one completion.

The assembly follows upstream's: deltas of choice 0 are collected by `index` (null counts as 0), id and
type come from the first delta, a later name overwrites, arguments are concatenated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import shown
from k2_verifier_adapter.core.responses import NotACompletion, Response, read_completion
from k2_verifier_adapter.core.streams.envelopes import Envelope, find_envelope

_TRIES = 4
"""Envelopes in a row that may be learnt in vain: a stream whose chunks share none is only parsed."""


def _call_key(index: Any) -> Any:
    """Give the key under which the deltas of a call are collected."""
    if index is None:
        return 0
    return index if isinstance(index, (int, str)) else json.dumps(index)


@dataclass(slots=True)
class _Call:
    """A tool call under construction."""

    id: Any
    type: Any
    name: Any = ""
    arguments: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": self.type, "function": function}


class ChunkAssembler:
    """Assemble the chunks of one streamed completion.

    Attributes:
        anomalies: The stream failure classes seen, in order of appearance, without repetition.
        error: The error of an error event, once one has come.
        has_output: Whether any delta with content, reasoning or a call has come.
    """

    def __init__(self) -> None:
        self.anomalies: dict[FailureClass, None] = {}
        self.error: Any = None
        self.has_output = False
        self.events = 0
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._fields: dict[str, Any] = {}
        self._calls: dict[Any, _Call] = {}
        self._finish_reason: Any = None
        self._usage: Any = None
        self._bad_event: str | None = None
        self._envelope: Envelope | None = None
        self._pieces: list[str] = []
        self._learnt_at = 0
        self._tries = _TRIES

    @property
    def failed(self) -> bool:
        """Whether what has come so far already makes the request a failed one."""
        return self.error is not None or self._bad_event is not None

    @property
    def finished(self) -> bool:
        """Whether a terminal finish_reason has come."""
        return bool(self._finish_reason)

    def add(self, data: bytes) -> None:
        """Take the data of one event; `[DONE]` is the caller's."""
        self.events += 1
        text = data.decode("utf-8", "replace")
        if self._envelope is not None:
            piece = self._envelope.piece(text)
            if piece is not None:
                # Parsed whole, it would do nothing else: all that is around the piece came before.
                self._pieces.append(piece)
                return
        try:
            self._add_event(data, text)
        except RecursionError:
            self._bad_event = f"an event is nested too deeply: {shown(data)}"

    def _add_event(self, data: bytes, text: str) -> None:
        if self.failed:
            # The first failure counts, in however many reads the events come.
            return
        self._forget_envelope()
        try:
            chunk = json.loads(text)
        except ValueError as error:
            self._bad_event = f"an event is not JSON ({error}): {shown(data)}"
            return
        if not isinstance(chunk, dict):
            self._bad_event = f"an event is not an object: {shown(chunk)}"
            return
        if chunk.get("error"):
            self.error = chunk["error"]
            return
        self._add_chunk(chunk)
        if self._tries:
            self._learn_envelope(text, chunk)

    def _add_chunk(self, chunk: dict[str, Any]) -> None:
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "provider"):
            value = chunk.get(name)
            if value is not None and name not in self._head:
                self._head[name] = value
        if chunk.get("usage"):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict) and (choice.get("index") or 0) == 0:
                    self._add_choice(choice)

    def _learn_envelope(self, text: str, chunk: dict[str, Any]) -> None:
        """Learn what the next chunk will look like if nothing but one string is new in it."""
        found = find_envelope(text, chunk)
        if found is None:
            return
        self._tries -= 1
        self._envelope, path = found
        self._learnt_at = self.events
        if path[-1] == "arguments" and len(path) > 4:
            part = chunk["choices"][0]["delta"]["tool_calls"][0]
            self._pieces = self._calls[_call_key(part.get("index"))].arguments
        else:
            self._pieces = self._texts[str(path[-1])]

    def _forget_envelope(self) -> None:
        if self._envelope is not None and self.events > self._learnt_at + 1:
            # It was of use.
            self._tries = _TRIES
        self._envelope = None

    def _add_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            for name, value in delta.items():
                self._add_delta(name, value)
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
        if choice.get("usage"):
            # Moonshot reports the usage inside the last choice.
            self._usage = choice["usage"]

    def _add_delta(self, name: str, value: Any) -> None:
        if name == "tool_calls":
            for part in value if isinstance(value, list) else ():
                self._add_call(part)
        elif isinstance(value, str) and name != "role":
            self.has_output = self.has_output or bool(value)
            self._texts.setdefault(name, []).append(value)
        elif isinstance(value, list):
            self.has_output = self.has_output or bool(value)
            self._lists.setdefault(name, []).extend(value)
        elif value is not None:
            self._fields[name] = value

    def _add_call(self, part: Any) -> None:
        if not isinstance(part, dict):
            return
        self.has_output = True
        index = part.get("index")
        if index is None:
            self.anomalies[FailureClass.STREAM_INDEX_MISSING] = None
        key = _call_key(index)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(part.get("id"), part.get("type"))
        function = part.get("function")
        if not isinstance(function, dict):
            return
        name = function.get("name")
        if name:
            if call.name:
                self.anomalies[FailureClass.STREAM_NAME_REPEATED] = None
            call.name = name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            # A parsed object cannot be concatenated; its text can.
            call.arguments.append(json.dumps(arguments))

    def completion(self) -> dict[str, Any]:
        """Give what has come so far as a completion object."""
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        message.update((name, "".join(parts)) for name, parts in self._texts.items())
        message.update(self._lists)
        message.update(self._fields)
        if self._calls:
            message["tool_calls"] = [call.as_json() for call in self._calls.values()]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage,
        }

    def result(self) -> Response | NotACompletion:
        """Judge the end of the stream: a completion, or the reason why there is none.

        Declared deviation 1: a stream without a terminal finish_reason, with an error event, or
        with a body that is no event stream, is a failed request.
        """
        if self.error is not None:
            return NotACompletion(FailureClass.STREAM_ERROR_EVENT, f"error event: {shown(self.error, 300)}")
        if self._bad_event is not None:
            return NotACompletion(FailureClass.NOT_A_COMPLETION, self._bad_event)
        if not self.events:
            return NotACompletion(
                FailureClass.NOT_A_COMPLETION, "a stream was asked for and the body is no event stream"
            )
        if not self.finished:
            return NotACompletion(
                FailureClass.STREAM_CUT,
                f"the stream ended after {self.events} events without a finish_reason",
            )
        for call in self._calls.values():
            if call.id is None:
                self.anomalies[FailureClass.STREAM_ID_MISSING] = None
        return read_completion(self.completion())
